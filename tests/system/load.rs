//! Both real streams load whole: what can be taken is taken, what cannot is refused row by row with its reason.

use arrow_flight::FlightDescriptor;
use serde_json::Value;
use tests::client::{Client, Receipt, append_with, to_topic};
use tests::data::{FLIGHTS, KAFKA, Stream};
use tests::rows;
use tests::serve::{local, serve};

/// Rows of one batch: not a divisor of either stream's length, so that the last batch is a short one.
const BATCH_ROWS: usize = 1_009;

async fn load(client: &Client, stream: &Stream, to: FlightDescriptor) -> Vec<Receipt> {
    client.create(&stream.spec()).await.unwrap();
    let receipts = client.append(to, stream.all(BATCH_ROWS)).await.unwrap();
    assert_eq!(receipts.len(), stream.lines.len().div_ceil(BATCH_ROWS), "one answer a batch");
    receipts
}

/// Seqs are dense from 1: every receipt begins where the one before it ended.
fn assert_dense(receipts: &[Receipt]) {
    let mut next = 1;
    for receipt in receipts.iter().filter(|receipt| receipt.accepted > 0) {
        assert_eq!(receipt.first_seq, Some(next));
        next += i64::try_from(receipt.accepted).unwrap();
        assert_eq!(receipt.last_seq, Some(next - 1));
    }
}

async fn assert_count_is_last_seq(client: &Client, topic: &str, expected: i64) {
    let facts =
        client.sql(&format!("select count(*) as n, min(_seq) as first, max(_seq) as last from {topic}")).await.unwrap();
    let fact = |name| rows::integers(&facts, name)[0];
    assert_eq!((fact("n"), fact("first"), fact("last")), (expected, 1, expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_kafka_history_is_accepted_and_counted_before_and_after_its_flush() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();

    let receipts = load(&client, &KAFKA, to_topic("kafka")).await;
    assert_dense(&receipts);
    assert_eq!(receipts.iter().map(|receipt| receipt.accepted).sum::<u64>(), 101_229);
    assert!(receipts.iter().all(|receipt| receipt.refused.is_empty()));

    for flushed in [false, true] {
        if flushed {
            client.flush("kafka").await.unwrap();
        }
        assert_count_is_last_seq(&client, "kafka", 101_229).await;
        let distinct = client.number("select count(distinct _key) from kafka").await.unwrap();
        assert_eq!(distinct, 10_101, "flushed: {flushed}");
        let no_extension =
            client.number("select count(*) from kafka where kind = '' and _path like 'kafka/%/-'").await.unwrap();
        assert_eq!(no_extension, 481, "an empty level is `-`; flushed: {flushed}");
        let prefixes = client.number("select count(distinct _prefix) from kafka").await.unwrap();
        assert_eq!(prefixes, 43, "one a module; flushed: {flushed}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flights_without_an_aircraft_are_refused_one_by_one_and_kept_as_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();

    let receipts = load(&client, &FLIGHTS, append_with("flights", "dead-letter")).await;
    assert_dense(&receipts);
    assert_eq!(receipts.iter().map(|receipt| receipt.accepted).sum::<u64>(), 334_264);

    let mut refused = Vec::new();
    for (batch, receipt) in receipts.iter().enumerate() {
        for refusal in &receipt.refused {
            assert!(refusal.reason.contains("tail_number"), "{}", refusal.reason);
            refused.push(batch * BATCH_ROWS + usize::try_from(refusal.row).unwrap());
        }
    }
    let expected: Vec<_> = nameless().map(|(line, _)| line).collect();
    assert_eq!(refused.len(), 2_512);
    assert_eq!(refused, expected, "exactly the lines without a tail number");

    assert_count_is_last_seq(&client, "flights", 334_264).await;
    assert_count_is_last_seq(&client, "flights_dead", 2_512).await;
    assert_dead_letters_are_the_refused_lines(&client).await;
    client.flush("flights").await.unwrap();
    assert_count_is_last_seq(&client, "flights", 334_264).await;
    server.shutdown().await;
}

/// Lines of the flights that no aircraft is known of, with their numbers.
fn nameless() -> impl Iterator<Item = (usize, Value)> {
    let lines = FLIGHTS.lines.iter().enumerate();
    lines
        .map(|(number, line)| (number, serde_json::from_str::<Value>(line).unwrap()))
        .filter(|(_, event)| event["tail_number"].is_null())
}

async fn assert_dead_letters_are_the_refused_lines(client: &Client) {
    let letters = client.get(&serde_json::json!({"replay": {"topic": "flights_dead"}})).await.unwrap();
    assert!(rows::texts(&letters, "topic").iter().all(|topic| topic == "flights"));
    assert!(rows::texts(&letters, "reason").iter().all(|reason| reason.contains("tail_number")));
    let places: Vec<_> = nameless().map(|(line, _)| i64::try_from(line % BATCH_ROWS).unwrap()).collect();
    assert_eq!(rows::integers(&letters, "row"), places);
    for (payload, (_, event)) in rows::texts(&letters, "payload").iter().zip(nameless()) {
        let payload: Value = serde_json::from_str(payload).unwrap();
        for field in ["carrier", "flight", "origin", "dest", "distance_mi"] {
            assert_eq!(payload[field], event[field], "{payload}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_row_refuses_its_whole_batch_unless_the_producer_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    client.create(&FLIGHTS.spec()).await.unwrap();
    let (bad, _) = nameless().next().unwrap();
    let batch = FLIGHTS.batches(bad - 2..bad + 2, 4);

    let whole = client.append(to_topic("flights"), batch.clone()).await.unwrap();
    assert_eq!((whole[0].accepted, whole[0].first_seq), (0, None));
    assert_eq!(whole[0].refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [2]);
    assert_eq!(client.number("select count(*) from flights").await.unwrap(), 0);

    let rest = client.append(append_with("flights", "reject-row"), batch).await.unwrap();
    assert_eq!((rest[0].accepted, rest[0].first_seq, rest[0].last_seq), (3, Some(1), Some(3)));
    assert_eq!(rest[0].refused, whole[0].refused, "the same row for the same reason");
    assert!(client.describe("flights_dead").await.is_err(), "nobody asked for dead letters");
    server.shutdown().await;
}
