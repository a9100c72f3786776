//! Other engines open a topic's table from its metadata file alone, and find in it what Firn's own SQL finds.

use serde_json::{Value, json};
use tests::client::{Client, append_with, to_topic};
use tests::data::{FLIGHTS, KAFKA, Stream};
use tests::s3::{Kind, S3};
use tests::serve::{local, serve};
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
