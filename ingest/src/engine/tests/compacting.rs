//! A server keeps its tables fast by itself, and an operator can look and hurry it.

use catalog::table::Retention;
use catalog::view::Matching;

use super::*;

async fn report(engine: &Engine) -> catalog::table::TableReport {
    engine.topic_files(&tenant(), &name("orders")).await.unwrap()
}

async fn flushed(engine: &Engine, flushes: i32) {
    for round in 0..flushes {
        append(engine, 100 * round + 1..100 * round + 101).await.unwrap();
        engine.flush(&tenant(), Some(&name("orders"))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_flushed_often_is_compacted_by_itself() {
    let site = Site::new();
    let engine = site.open(Settings { maintenance_interval_ms: 5, ..unflushed() }).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    flushed(&engine, 12).await;
    while report(&engine).await.ranges.len() > 6 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ranges = report(&engine).await.ranges;
    assert_eq!(ranges.iter().map(|range| range.rows).sum::<u64>(), 1_200);
    assert_eq!(ranges.last().map(|range| range.last), Some(Seq(1_200)));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_compacted_where_that_is_switched_off_and_an_operator_can_still_ask_for_it() {
    let site = Site::new();
    let compaction = catalog::table::Compaction { enabled: false, ..Default::default() };
    let engine = site.open(Settings { maintenance_interval_ms: 1, compaction, ..unflushed() }).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    flushed(&engine, 6).await;
    let before = report(&engine).await;
    assert_eq!((before.ranges.len(), before.next.len()), (6, 1), "{before:?}");
    let done = engine.compact_topic(&tenant(), &name("orders"), false).await.unwrap();
    assert_eq!((done.files_in, done.files_out, done.rows), (6, 1, 600));
    flushed(&engine, 1).await;
    assert_eq!(engine.compact_topic(&tenant(), &name("orders"), false).await.unwrap().jobs, 0, "nothing is due");
    assert_eq!(engine.compact_topic(&tenant(), &name("orders"), true).await.unwrap().jobs, 1);
    assert_eq!(report(&engine).await.ranges.len(), 1);
}

/// The first seq that the topic's table has been left with.
async fn retained(engine: &Engine) -> Seq {
    let def = engine.topic(&tenant(), &name("orders")).unwrap();
    engine.host.parts.tables.load(&def).await.unwrap().retained()
}

async fn append_if(engine: &Engine, key: &str, expected: i64) -> Result<Receipt> {
    let condition = Condition { of: Matching::Key(key.to_owned()), expected_last_seq: Seq(expected) };
    let terms = Terms { conditions: vec![condition], ..Terms::default() };
    appender(engine, OnError::RejectBatch).await.submit(order_rows(9_001..9_002), terms).await?.await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kept_goes_by_itself_and_conditions_find_it_no_more_also_after_a_restart() {
    let site = Site::new();
    let compaction = catalog::table::Compaction { enabled: false, ..Default::default() };
    let settings = Settings { maintenance_interval_ms: 5, compaction, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    flushed(&engine, 10).await;
    assert!(append_if(&engine, "o-7", 0).await.is_err(), "event 7 is there");
    let retention = Retention { events: Some(500), ..Retention::default() };
    engine.retain_topic(&tenant(), &name("orders"), retention).await.unwrap();
    while retained(&engine).await < Seq(301) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let first = retained(&engine).await;
    assert!(first <= Seq(501), "500 are kept at least, and it began with {first}");
    let receipt = append_if(&engine, "o-7", 0).await.unwrap();
    assert_eq!(receipt.first_seq, Some(Seq(1_001)), "seqs go on");
    drop(engine);

    let engine = site.open(settings).await.unwrap();
    append_if(&engine, "o-8", 0).await.unwrap();
    assert!(append_if(&engine, "o-900", 0).await.is_err(), "event 900 is kept");
    assert!(retained(&engine).await >= first);
    engine.shutdown(Duration::from_secs(5)).await;
}
