//! A subscriber gets history and then what is live: every matching event, in order, once.

use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::data::KAFKA;
use tests::rows;
use tests::serve::{local, serve};

/// The events that `kafka/core/>` with `change <> 'added'` means.
fn wanted(line: &str) -> bool {
    line.contains("\"module\":\"core\"") && !line.contains("\"change\":\"added\"")
}

/// Reads a subscription until it has given `events` events.
async fn first(client: &Client, subscribe: Value, events: usize) -> Vec<RecordBatch> {
    let mut stream = client.stream(&json!({"subscribe": subscribe})).await.unwrap();
    let mut got = Vec::new();
    while rows::count(&got) < events {
        got.push(stream.next().await.expect("a subscription does not end").unwrap());
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_comes_in_mid_load_gets_every_matching_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..40_000, 500)).await.unwrap();
    client.flush("kafka").await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(40_000..50_000, 500)).await.unwrap();

    // The rest is on its way, and is flushed at times, while the subscriber reads.
    let producer = client.clone();
    let load = tokio::spawn(async move {
        for begin in (50_000..KAFKA.lines.len()).step_by(10_000) {
            let end = KAFKA.lines.len().min(begin + 10_000);
            producer.append(to_topic("kafka"), KAFKA.batches(begin..end, 250)).await.unwrap();
            producer.flush("kafka").await.unwrap();
        }
    });
    let expected: Vec<_> = KAFKA.lines.iter().filter(|line| wanted(line)).cloned().collect();
    let subscribe = json!({"pattern": "kafka/core/>", "from": "beginning", "where": "change <> 'added'"});
    let got = first(&client, subscribe, expected.len()).await;
    load.await.unwrap();

    assert_eq!(rows::lines(&got, &KAFKA.schema), expected);
    let seqs = rows::integers(&got, "_seq");
    assert!(seqs.is_sorted_by(|a, b| a < b), "each once, in order");
    assert!(rows::texts(&got, "_path").iter().all(|path| path.starts_with("kafka/core/")));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_begins_where_it_was_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..2_000, 500)).await.unwrap();
    client.flush("kafka").await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(2_000..3_000, 500)).await.unwrap();

    for from in [1_500, 2_000, 2_001, 2_700] {
        let subscribe = json!({"pattern": "kafka/>", "from": {"seq": from}, "columns": ["_seq"]});
        let got = first(&client, subscribe, 3_001 - from).await;
        assert!(rows::integers(&got, "_seq").into_iter().eq(i64::try_from(from).unwrap()..=3_000), "from {from}");
    }

    let second_half = client.sql("select _time from kafka where _seq = 2001").await.unwrap();
    let time = rows::texts(&second_half, "_time").remove(0);
    let at_time = json!({"pattern": "kafka/>", "from": {"time": time}, "columns": ["_seq", "_time"]});
    let got = first(&client, at_time, 1_000).await;
    assert!(rows::integers(&got, "_seq").contains(&2_001));
    assert!(rows::texts(&got, "_time").iter().all(|found| *found >= time));

    // `now` is silent about what was. The stream is open once the server has answered the call with its schema.
    let subscribe = json!({"subscribe": {"pattern": "kafka/>", "from": "now", "columns": ["_seq"]}});
    let mut live = client.stream(&subscribe).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(3_000..3_010, 10)).await.unwrap();
    let got = live.next().await.unwrap().unwrap();
    assert_eq!(rows::integers(&[got], "_seq")[0], 3_001);
    server.shutdown().await;
}
