//! Replay gives a key's events back as they were sent, wherever they lie by now.

use catalog::storage::StoreConfig;
use serde_json::json;
use tests::client::{Client, to_topic};
use tests::data::KAFKA;
use tests::rows;
use tests::s3::{Kind, S3};
use tests::serve::{config, local, serve, start};

const HALF: usize = 50_000;

/// Loads the Kafka history so that its first half is in the table and its second in the tail.
async fn load_half_and_half(client: &Client) {
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..HALF, 1_000)).await.unwrap();
    client.flush("kafka").await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(HALF..KAFKA.lines.len(), 1_000)).await.unwrap();
}

/// The key's events are byte for byte the input's lines, each at the seq of its line.
async fn assert_replays_as_sent(client: &Client, key: &str, events: usize) {
    let replayed = client.replay("kafka", key).await.unwrap();
    let expected: Vec<_> = KAFKA.of_key(key).cloned().collect();
    assert_eq!(expected.len(), events);
    assert_eq!(rows::lines(&replayed, &KAFKA.schema), expected);
    let seqs = rows::integers(&replayed, "_seq");
    for (seq, line) in seqs.iter().zip(&expected) {
        assert_eq!(&KAFKA.lines[usize::try_from(*seq).unwrap() - 1], line);
    }
    assert!(seqs.is_sorted());
    assert!(rows::texts(&replayed, "_key").iter().all(|found| found == key));
}

/// The same after another process has taken the store over from the log, and after everything has been flushed.
async fn replays_as_sent_wherever_events_lie(store: StoreConfig) {
    let (first, client) = serve(store.clone()).await.unwrap();
    load_half_and_half(&client).await;
    assert_replays_as_sent(&client, "build.gradle", 693).await;

    let mut taking_over = config(store);
    taking_over.ingest.take_over = true;
    let (second, client) = start(taking_over).await.unwrap();
    assert_replays_as_sent(&client, "build.gradle", 693).await;
    drop(first);

    client.flush("kafka").await.unwrap();
    assert_replays_as_sent(&client, "build.gradle", 693).await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_replays_byte_for_byte_from_table_and_tail_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    replays_as_sent_wherever_events_lie(local(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_replays_byte_for_byte_on_s3() {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    replays_as_sent_wherever_events_lie(s3.store("replay")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_topic_replays_in_the_order_in_which_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    load_half_and_half(&client).await;

    let all = client.get(&json!({"replay": {"topic": "kafka"}})).await.unwrap();
    assert_eq!(rows::lines(&all, &KAFKA.schema), KAFKA.lines);
    assert!(rows::integers(&all, "_seq").into_iter().eq(1..=101_229));

    let window = json!({"replay": {"topic": "kafka", "from": HALF - 3, "to": HALF + 5, "columns": ["_seq", "file"]}});
    let window = client.get(&window).await.unwrap();
    assert_eq!(
        window[0].schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(),
        ["_seq", "file"]
    );
    let around = i64::try_from(HALF).unwrap();
    assert!(rows::integers(&window, "_seq").into_iter().eq(around - 3..around + 5), "across the watermark");

    let some = json!({"replay": {"topic": "kafka", "key": "build.gradle", "where": "change = 'added' or commit = 'ffffffffffff'"}});
    let added = KAFKA.of_key("build.gradle").filter(|line| line.contains("\"change\":\"added\""));
    assert_eq!(rows::lines(&client.get(&some).await.unwrap(), &KAFKA.schema), added.cloned().collect::<Vec<_>>());

    let nobody = client.replay("kafka", "no/such/file").await.unwrap();
    assert_eq!(rows::count(&nobody), 0, "a key that never was has no events");
    server.shutdown().await;
}
