use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use futures::StreamExt;
use schemas::TopicDef;

use super::*;
use crate::settings::Settings;
use crate::testing::{Row, World, seqs};

fn subscribe(pattern: &str, from: From) -> Subscribe {
    Subscribe { pattern: pattern.into(), from, after: BTreeMap::new(), columns: None, filter: None }
}

fn rows(count: i64) -> Vec<Row> {
    let region = |n: i64| ["eu", "us", "apac"][(n % 3) as usize];
    (0..count)
        .map(|n| Row::new(&format!("k-{}", n % 50), region(n), if n % 2 == 0 { "new" } else { "returned" }, n))
        .collect()
}

async fn orders() -> (World, Arc<TopicDef>) {
    let world = World::new(Settings::default()).await;
    let def = world.topic("orders").await;
    (world, def)
}

/// The next `count` rows, or the error that comes first.
async fn next(stream: &mut BatchStream, count: usize) -> Result<Vec<RecordBatch>> {
    let mut found = Vec::new();
    while found.iter().map(RecordBatch::num_rows).sum::<usize>() < count {
        let wait = tokio::time::timeout(Duration::from_secs(60), stream.batches.next());
        found.push(wait.await.expect("events come").expect("a subscription does not end by itself")?);
    }
    Ok(found)
}

async fn next_seqs(stream: &mut BatchStream, count: usize) -> Vec<i64> {
    next(stream, count).await.unwrap().iter().flat_map(seqs).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_seen_once_and_in_order_while_flushes_move_the_seam() {
    const BATCHES: i64 = 300;
    const ROWS: i64 = 20;
    let (world, def) = orders().await;
    world.append(&def, &rows(ROWS));
    let mut early = world.engine.subscribe(&world.tenant, subscribe("orders/>", From::Beginning)).await.unwrap();
    let mut filtered = subscribe("orders/eu/>", From::Beginning);
    filtered.filter = Some("amount >= 10".into());
    let mut filtered = world.engine.subscribe(&world.tenant, filtered).await.unwrap();
    let world = Arc::new(world);
    let writer = tokio::spawn({
        let (world, def) = (Arc::clone(&world), Arc::clone(&def));
        async move {
            for batch in 1..BATCHES {
                world.append(&def, &rows(ROWS));
                match batch % 16 {
                    0 => world.flush(&def, (batch / 16 % 4 * 8) as usize).await,
                    _ => tokio::task::yield_now().await,
                }
            }
        }
    });
    let expected: Vec<i64> = (1..=BATCHES * ROWS).collect();
    assert_eq!(next_seqs(&mut early, expected.len()).await, expected);
    let wanted = |seq: &i64| (seq - 1) % ROWS >= 10 && (seq - 1) % ROWS % 3 == 0;
    let expected: Vec<i64> = expected.into_iter().filter(wanted).collect();
    assert_eq!(next_seqs(&mut filtered, expected.len()).await, expected);
    writer.await.unwrap();

    // Another that begins in the middle, over a table and a tail that stand still now.
    let mut late = world.engine.subscribe(&world.tenant, subscribe("orders/*/new", From::Seq(1_234))).await.unwrap();
    let expected: Vec<i64> = (1_234..=BATCHES * ROWS).filter(|seq| (seq - 1) % ROWS % 2 == 0).collect();
    assert_eq!(next_seqs(&mut late, expected.len()).await, expected);
}

#[tokio::test]
async fn a_slow_subscriber_finds_in_the_table_what_has_left_the_tail() {
    let (world, def) = orders().await;
    let mut stream = world.engine.subscribe(&world.tenant, subscribe("orders/>", From::Now)).await.unwrap();
    for _ in 0..20 {
        world.append(&def, &rows(1_000));
    }
    assert_eq!(next_seqs(&mut stream, 1).await[0], 1);
    world.flush(&def, 20).await;
    world.append(&def, &rows(7));
    let mut seen = vec![];
    while seen.last() != Some(&20_007) {
        seen.extend(next_seqs(&mut stream, 1).await);
    }
    assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[tokio::test]
async fn now_begins_after_the_call_and_a_time_with_its_first_event() {
    let (world, def) = orders().await;
    for _ in 0..3 {
        world.append(&def, &rows(100));
    }
    world.flush(&def, 2).await;
    let mut now = world.engine.subscribe(&world.tenant, subscribe("orders/>", From::Now)).await.unwrap();
    world.append(&def, &rows(5));
    assert_eq!(next_seqs(&mut now, 5).await, [301, 302, 303, 304, 305]);
    // `_time` is seq / 3 milliseconds: in the first file, in the second, in the tail, and before all.
    for (time, first) in [("00:00:00.020", 60), ("00:00:00.0500001", 153), ("00:00:00.090", 270), ("00:00:00", 1)] {
        let from = From::Time(format!("1970-01-01T{time}Z"));
        let mut stream = world.engine.subscribe(&world.tenant, subscribe("orders/>", from)).await.unwrap();
        assert_eq!(next_seqs(&mut stream, 1).await[0], first, "{time}");
    }
    let from = From::Time("2100-01-01T00:00:00Z".into());
    let mut future = world.engine.subscribe(&world.tenant, subscribe("orders/>", from)).await.unwrap();
    world.append(&def, &rows(1));
    assert_eq!(next_seqs(&mut future, 1).await, [306]);
}

#[tokio::test]
async fn a_wildcard_follows_topics_that_are_made_later_and_gives_the_envelope() {
    let (world, orders) = orders().await;
    let mut stream = world.engine.subscribe(&world.tenant, subscribe("*/eu/>", From::Now)).await.unwrap();
    assert_eq!(stream.schema.fields().len(), 7);
    world.append(&orders, &rows(1));
    next(&mut stream, 1).await.unwrap();
    let returns = world.topic("returns").await;
    world.append(&returns, &rows(4));
    let found = next(&mut stream, 2).await.unwrap();
    let paths: Vec<_> = found.iter().flat_map(|batch| batch.column(3).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(paths, ["returns/eu/new", "returns/eu/returned"]);
    // One of the two going does not end it.
    world.tail.remove(returns.id);
    world.topics.retract(&world.tenant, &returns.id);
    world.append(&orders, &rows(1));
    assert_eq!(next_seqs(&mut stream, 1).await, [2]);
}

#[tokio::test]
async fn a_subscription_ends_when_its_only_topic_is_dropped() {
    let (world, def) = orders().await;
    let mut stream = world.engine.subscribe(&world.tenant, subscribe("orders/>", From::Beginning)).await.unwrap();
    world.append(&def, &rows(3));
    next(&mut stream, 3).await.unwrap();
    world.tail.remove(def.id);
    world.topics.retract(&world.tenant, &def.id);
    assert_eq!(next(&mut stream, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(stream.batches.next().await.is_none());
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let (world, _) = orders().await;
    let mut columns = subscribe("*/eu/>", From::Now);
    columns.columns = Some(vec!["colour".into()]);
    let mut filter = subscribe("orders/>", From::Now);
    filter.filter = Some("colour = 'red'".into());
    for (asked, kind) in [
        (subscribe("nothing/>", From::Now), ErrorKind::NotFound),
        (subscribe("orders//x", From::Now), ErrorKind::Invalid),
        (subscribe("orders/>", From::Seq(0)), ErrorKind::Invalid),
        (subscribe("orders/>", From::Time("soon".into())), ErrorKind::Invalid),
        (columns, ErrorKind::Invalid),
        (filter, ErrorKind::NotFound),
    ] {
        let error = world.engine.subscribe(&world.tenant, asked.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{asked:?}: {error}");
    }
}

/// As a client does whose server has gone: it knows how far each topic came.
#[tokio::test]
async fn a_subscription_goes_on_in_every_topic_where_another_broke_off() {
    let (world, orders) = orders().await;
    let returns = world.topic("returns").await;
    world.append(&orders, &rows(30));
    world.append(&returns, &rows(30));
    let mut again = subscribe("*/eu/>", From::Beginning);
    again.after = [("orders", 13), ("returns", 0)]
        .into_iter()
        .map(|(topic, seq)| (topic.to_owned().try_into().unwrap(), schemas::ShardSeqs::single(schemas::Seq(seq))))
        .collect();
    let mut stream = world.engine.subscribe(&world.tenant, again).await.unwrap();
    // One in three is of that region; one that was made since begins at its first event.
    let exchanges = world.topic("exchanges").await;
    world.append(&exchanges, &rows(30));
    let found = next(&mut stream, 5 + 10 + 10).await.unwrap();
    let mut seqs_of = BTreeMap::<String, Vec<i64>>::new();
    for batch in &found {
        let topics = batch.column(3).as_string::<i32>().iter().flatten().map(|path| path.split('/').next().unwrap());
        topics.zip(seqs(batch)).for_each(|(topic, seq)| seqs_of.entry(topic.to_owned()).or_default().push(seq));
    }
    let every_third = |from: i64| (from..=30).step_by(3).collect::<Vec<_>>();
    assert_eq!(seqs_of.remove("orders"), Some(every_third(16)));
    assert_eq!(seqs_of.remove("returns"), Some(every_third(1)));
    assert_eq!(seqs_of.remove("exchanges"), Some(every_third(1)));
}

#[tokio::test]
async fn dropping_the_stream_ends_the_work_behind_it() {
    let (world, def) = orders().await;
    let stream = world.engine.subscribe(&world.tenant, subscribe("orders/>", From::Beginning)).await.unwrap();
    let mut decided = None;
    while decided.is_none() {
        tokio::task::yield_now().await;
        decided = Some(world.tail.watchers(def.id)).filter(|watchers| *watchers > 0);
    }
    drop(stream);
    while world.tail.watchers(def.id) > 0 {
        tokio::task::yield_now().await;
    }
}
