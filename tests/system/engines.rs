//! Other engines open a topic's table from its metadata file alone, and find in it what Firn's own SQL finds.

use std::process::Command;
use std::sync::Arc;

use catalog::Env;
use catalog::env::Source;
use flight::server::Server;
use serde_json::{Value, json};
use tests::client::{Client, append_with, to_topic};
use tests::data::{FLIGHTS, KAFKA, Stream};
use tests::process::firn;
use tests::s3::{Kind, S3};
use tests::serve::{config, local, serve, start};
use tests::tools::repository;
use tests::{judge, rows};

/// Loads a stream in several flushes, all of it into the table.
async fn load(client: &Client, stream: &Stream, events: usize) {
    client.create(&stream.spec()).await.unwrap();
    for begin in (0..events).step_by(40_000) {
        let batches = stream.batches(begin..events.min(begin + 40_000), 1_000);
        client.append(append_with(stream.topic, "reject-row"), batches).await.unwrap();
        client.flush(stream.topic).await.unwrap();
    }
}

/// Where the topic's current metadata file lies.
async fn metadata(client: &Client, topic: &str) -> String {
    let description = client.describe(topic).await.unwrap();
    let uri = description["table"]["metadata_uri"].as_str();
    uri.unwrap_or_else(|| panic!("describe-topic names no metadata file: {description}")).to_owned()
}

/// Firn's own answers to what a judge was asked.
async fn own_facts(client: &Client, topic: &str, key: &str, judged: &Value) -> Value {
    let sums = judged["sums"].as_object().unwrap();
    let totals: Vec<_> = sums.keys().map(|name| format!("sum(cast({name} as bigint)) as \"sum {name}\"")).collect();
    let totals = totals.join(", ");
    let query = format!("select count(*) as n, max(_seq) as last, count(distinct _key) as keys, {totals} from {topic}");
    let facts = client.sql(&query).await.unwrap();
    let fact = |name: &str| rows::integers(&facts, name)[0];
    let own_sums: serde_json::Map<_, _> =
        sums.keys().map(|name| (name.clone(), Value::from(fact(&format!("sum {name}"))))).collect();

    let prefixes = format!("select _prefix, count(*) as n from {topic} group by _prefix");
    let prefixes = client.sql(&prefixes).await.unwrap();
    let prefixes: serde_json::Map<_, _> = rows::texts(&prefixes, "_prefix")
        .into_iter()
        .zip(rows::integers(&prefixes, "n").into_iter().map(Value::from))
        .collect();

    let seqs = client.sql(&format!("select _seq from {topic} where _key = '{key}' order by _seq")).await.unwrap();
    json!({
        "count": fact("n"), "max_seq": fact("last"), "distinct_keys": fact("keys"), "sums": own_sums,
        "prefixes": prefixes, "key_seqs": rows::integers(&seqs, "_seq"),
    })
}

/// Every fact of `own` is the judge's too.
fn assert_agrees(judge: &str, judged: &Value, own: &Value) {
    for (name, value) in own.as_object().unwrap() {
        assert_eq!(&judged[name], value, "{judge} on {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_and_spark_agree_with_sql_on_both_streams() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    load(&client, &KAFKA, KAFKA.lines.len()).await;
    load(&client, &FLIGHTS, 100_000).await;
    let topics = [("kafka", "build.gradle"), ("flights", "N14228")];

    let mut asked = Vec::new();
    for (topic, key) in topics {
        asked.extend([metadata(&client, topic).await, key.to_owned()]);
    }
    let asked: Vec<_> = asked.iter().map(String::as_str).collect();
    let spark = judge::python("spark", &asked).await.unwrap();

    for (place, (topic, key)) in topics.into_iter().enumerate() {
        let iceberg = judge::python("iceberg", &asked[2 * place..2 * place + 2]).await.unwrap();
        let own = own_facts(&client, topic, key, &iceberg).await;
        assert_eq!(own["count"], own["max_seq"]);
        assert_agrees("PyIceberg", &iceberg, &own);
        assert_agrees("Spark", &spark[place], &own);
        assert_eq!(iceberg["format_version"], 2);
        assert!(iceberg["properties"]["firn.watermark"].is_string(), "{iceberg}");
    }
    server.shutdown().await;
}

/// So little that the streams fill files of level 1, and buckets.
fn compacting(folder: &std::path::Path) -> flight::server::ServerConfig {
    let mut config = config(local(folder));
    config.ingest.compaction.enabled = false;
    config.ingest.compaction.file_bytes = 256 << 10;
    config.ingest.compaction.level1_bytes_min = 32 << 10;
    config.ingest.compaction.bucket_bytes = 256 << 10;
    config
}

/// Levels and partition specs that a topic's files are of.
async fn places(client: &Client, topic: &str) -> std::collections::BTreeSet<String> {
    let report = client.action("topic-files", &json!({ "topic": topic })).await.unwrap();
    let files = report["ranges"].as_array().unwrap().iter().flat_map(|range| range["files"].as_array().unwrap());
    let place = |file: &Value| match file["bucket"].as_str() {
        Some(bucket) => format!("level 1 of {} buckets", bucket.split('/').next_back().unwrap()),
        None => "level 0".to_owned(),
    };
    files.map(place).collect()
}

/// This machine, an hour from now.
#[derive(Debug)]
struct Later(Env);

impl Source for Later {
    fn now_micros(&self) -> i64 {
        self.0.now_micros() + 3_600_000_000
    }

    fn random(&self) -> [u8; 16] {
        self.0.nonce()
    }
}

/// Loads flights in many flushes, compacts them now and then and then as a whole, and flushes some more.
async fn load_and_compact(client: &Client) {
    client.create(&FLIGHTS.spec()).await.unwrap();
    let append = async |events: std::ops::Range<usize>| {
        client.append(append_with("flights", "reject-row"), FLIGHTS.batches(events, 1_000)).await.unwrap();
        client.flush("flights").await.unwrap();
    };
    let mut found = std::collections::BTreeSet::new();
    for begin in (0..100_000).step_by(5_000) {
        append(begin..begin + 5_000).await;
        if begin % 40_000 == 35_000 {
            let done = client.action("compact-topic", &json!({ "topic": "flights" })).await.unwrap();
            assert!(done["rows"].as_u64() > Some(0), "{done}");
            found.extend(places(client, "flights").await);
        }
    }
    assert!(found.iter().any(|place| place.starts_with("level 1")), "{found:?}");
    let before = own_facts(client, "flights", "N14228", &json!({"sums": {}})).await;
    let done = client.action("compact-topic", &json!({ "topic": "flights", "whole": true })).await.unwrap();
    assert!(done["files_out"].as_u64() > Some(1), "{done}");
    assert_eq!(own_facts(client, "flights", "N14228", &json!({"sums": {}})).await, before);
    for begin in (100_000..104_000).step_by(32) {
        append(begin..begin + 32).await;
    }
    found.extend(places(client, "flights").await);
    assert!(found.len() >= 3, "level 0 and level 1 under two specs: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_and_spark_agree_with_sql_on_a_topic_that_was_compacted_under_several_specs_and_expired() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = start(compacting(folder.path())).await.unwrap();
    load_and_compact(&client).await;
    server.shutdown().await;

    let server =
        Server::start(compacting(folder.path()), Env::from_source(Arc::new(Later(Env::system())))).await.unwrap();
    let client = Client::connect(server.flight_addr()).await.unwrap();
    let snapshots = async || {
        client.action("topic-files", &json!({ "topic": "flights" })).await.unwrap()["snapshots"].as_u64().unwrap()
    };
    while snapshots().await > 130 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let replayed = client.get(&json!({ "replay": { "topic": "flights", "columns": ["_seq"] } })).await.unwrap();
    let seqs = rows::integers(&replayed, "_seq");
    assert!(seqs.iter().copied().eq(1..=seqs.len() as i64), "the whole topic in its order");

    let metadata = metadata(&client, "flights").await;
    let asked = [metadata.as_str(), "N14228"];
    let iceberg = judge::python("iceberg", &asked).await.unwrap();
    let own = own_facts(&client, "flights", "N14228", &iceberg).await;
    assert_eq!((&own["count"], &own["max_seq"]), (&json!(seqs.len()), &json!(seqs.len())));
    assert_agrees("PyIceberg", &iceberg, &own);
    let spark = judge::python("spark", &asked).await.unwrap();
    assert_agrees("Spark", &spark[0], &own_facts(&client, "flights", "N14228", &spark[0]).await);
    server.shutdown().await;
    let verify =
        Command::new(firn().unwrap()).args(["verify", "flights", "--data"]).arg(folder.path()).output().unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_reads_a_table_that_lies_on_s3() {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    let (server, client) = serve(s3.store("lake")).await.unwrap();
    load(&client, &KAFKA, 20_000).await;

    let properties = s3.pyiceberg();
    let metadata = metadata(&client, "kafka").await;
    assert!(metadata.starts_with("s3://firn/lake/"), "{metadata}");
    let mut asked = vec![metadata.as_str(), "build.gradle"];
    asked.extend(properties.iter().map(String::as_str));
    let iceberg = judge::python("iceberg", &asked).await.unwrap();
    assert_agrees("PyIceberg", &iceberg, &own_facts(&client, "kafka", "build.gradle", &iceberg).await);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_supported_type_survives_from_avro_to_another_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(&folder.path().join("store"))).await.unwrap();
    let schema = repository().join("tests/data/types.avsc");
    let events = folder.path().join("events.avro");
    let [schema_text, events_text] = [&schema, &events].map(|path| path.to_str().unwrap());
    judge::python("every_type", &["write", schema_text, events_text, "400"]).await.unwrap();

    let avro: Value = serde_json::from_slice(&std::fs::read(&schema).unwrap()).unwrap();
    client.create(&json!({"name": "everything", "schema": avro, "key": ["id"]})).await.unwrap();
    let file = std::io::BufReader::new(std::fs::File::open(&events).unwrap());
    let batches = arrow_avro::reader::ReaderBuilder::new().with_batch_size(64).build(file).unwrap();
    let batches: Vec<_> = batches.collect::<Result<_, _>>().unwrap();
    let receipts = client.append(to_topic("everything"), batches).await.unwrap();
    assert_eq!(receipts.iter().map(|receipt| receipt.accepted).sum::<u64>(), 400, "{receipts:?}");

    client.flush("everything").await.unwrap();
    let verdict =
        judge::python("every_type", &["compare", events_text, &metadata(&client, "everything").await]).await.unwrap();
    assert_eq!(verdict, json!({"sent": 400, "found": 400, "differing": {}}));
    server.shutdown().await;
}
