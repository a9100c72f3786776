//! The Iceberg REST catalog as clients use it that Firn did not write: tables of their own, and topics that they read, maintain, and cannot break.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::storage::StoreConfig;
use flight::server::Server;
use serde_json::{Value, json};
use tests::client::{Client, append_with};
use tests::data::KAFKA;
use tests::judge;
use tests::process::firn;
use tests::s3::{Kind, S3};
use tests::serve::{config, local, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn uri(server: &Server) -> String {
    format!("http://{}/iceberg", server.http_addr())
}

async fn append(client: &Client, events: std::ops::Range<usize>) {
    client.append(append_with("kafka", "reject-row"), KAFKA.batches(events, 1_000)).await.unwrap();
}

async fn with_events(store: StoreConfig, events: usize) -> (Server, Client) {
    let (server, client) = start(config(store)).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    for begin in (0..events).step_by(5_000) {
        append(&client, begin..events.min(begin + 5_000)).await;
        client.flush("kafka").await.unwrap();
    }
    (server, client)
}

/// Every refusal names what does the job.
fn assert_refused(refused: &Value, hints: &[(&str, &str)]) {
    for (what, hint) in hints {
        let said = refused[*what].as_str().unwrap_or_else(|| panic!("{what} was not tried: {refused}"));
        assert!(said.contains(hint), "{what}: expected {hint:?} in {said:?}");
    }
}

fn assert_own_tables(own: &Value) {
    assert_eq!(own["ids"], json!([4, 5, 6]));
    assert_eq!(own["tagged"], json!([2, 4, 5, 6]));
    assert_eq!(own["columns"], json!(["id", "area", "note"]));
    assert_eq!(own["properties"], json!(["judge", "yes"]));
    assert_eq!(own["namespace"], json!({"note": "x"}));
    assert_eq!(own["below"], json!([["lake", "deep"]]));
    assert_eq!((&own["staged"], &own["partitioned_by"]), (&json!("in one commit"), &json!(["area"])));
    assert_eq!(own["registered"], own["ids"]);
    assert_eq!(own["tables"], json!(["lake.again", "lake.staged"]));
    assert_eq!(own["namespaces"], json!([["default"]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_keeps_tables_of_its_own_and_cannot_break_a_topic() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = with_events(local(folder.path()), 10_000).await;
    let verdict = judge::python("rest_iceberg", &[&uri(&server), "kafka", "all"]).await.unwrap();
    assert_own_tables(&verdict["own"]);
    assert!(verdict["own"]["location"].as_str().unwrap().starts_with("file:///"), "{verdict}");

    let topic = &verdict["topic"];
    assert_eq!((&topic["count"], &topic["max_seq"]), (&json!(10_000), &json!(10_000)));
    assert_eq!((&topic["owner"], &topic["tags"]), (&json!("judge"), &json!(["seen"])));
    assert_eq!((&topic["tables"], &topic["exists"]), (&json!(["default.kafka"]), &json!([true, false])));
    let hints = [
        ("append", "firn produce"),
        ("overwrite", "firn produce"),
        ("delete", "firn produce"),
        ("schema", "firn topic"),
        ("property", "firn."),
        ("rename", "firn topic create"),
        ("drop", "firn topic drop"),
    ];
    assert_refused(&topic["refused"], &hints);

    append(&client, 10_000..12_000).await;
    client.flush("kafka").await.unwrap();
    assert_eq!(client.number("select count(*) from kafka").await.unwrap(), 12_000, "flushes go on");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyiceberg_is_told_where_s3_is_and_brings_its_own_keys() {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    let (server, _) = with_events(s3.store("lake"), 5_000).await;
    let own_keys = s3.pyiceberg().into_iter().filter(|setting| !setting.starts_with("s3.endpoint="));
    let (uri, own_keys) = (uri(&server), own_keys.collect::<Vec<_>>());
    let mut asked = vec![uri.as_str(), "kafka", "read"];
    asked.extend(own_keys.iter().map(String::as_str));
    let verdict = judge::python("rest_iceberg", &asked).await.unwrap();
    assert_eq!((&verdict["count"], &verdict["max_seq"]), (&json!(5_000), &json!(5_000)));
    assert!(verdict["location"].as_str().unwrap().starts_with("s3://firn/lake/"), "{verdict}");

    let (_, told) = get(&server, "/iceberg/v1/config", None).await;
    let defaults = &told["defaults"];
    assert!(defaults["s3.endpoint"].is_string() && defaults["s3.path-style-access"] == "true", "{told}");
    assert!(defaults.get("s3.secret-access-key").is_none(), "the server's keys are its own: {told}");
    server.shutdown().await;

    let mut settings = config(s3.store("lake"));
    settings.iceberg.hand_out_keys = true;
    let (server, _) = start(settings).await.unwrap();
    let (_, told) = get(&server, "/iceberg/v1/config", None).await;
    assert!(told["defaults"]["s3.secret-access-key"].is_string(), "unless the operator says so: {told}");
    server.shutdown().await;
}

/// Appends and flushes until it is told to stop; returns how many events there are then.
async fn produce(client: Client, mut events: usize, stop: Arc<AtomicBool>) -> usize {
    while !stop.load(Ordering::Relaxed) && events + 200 <= KAFKA.lines.len() {
        append(&client, events..events + 200).await;
        events += 200;
        client.flush("kafka").await.unwrap();
        // As often as a topic flushes by itself.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spark_keeps_tables_of_its_own_and_maintains_a_topic_while_it_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = with_events(local(folder.path()), 20_000).await;
    let stop = Arc::new(AtomicBool::new(false));
    let producer = tokio::spawn(produce(client.clone(), 20_000, Arc::clone(&stop)));
    let verdict = judge::python("rest_spark", &[&uri(&server), "kafka", "3"]).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let events = producer.await.unwrap();

    let own = &verdict["own"];
    assert_eq!(own["rows"], json!([[1, "7.00"], [3, "1.25"], [9, "None"]]));
    assert_eq!((&own["tagged"], &own["view"]), (&json!([1, 2, 3]), &json!([1, 3])));
    assert_eq!((&own["replaced"], &own["tables"]), (&json!([3, 9]), &json!(["sold"])));
    assert_eq!(own["namespaces"], json!(["default"]));

    for counts in verdict["maintained"]["counts"].as_array().unwrap() {
        assert_eq!((&counts[0], &counts[0]), (&counts[1], &counts[2]), "count(*) = max(_seq) = distinct: {verdict}");
    }
    let rewritten = verdict["maintained"]["done"].to_string();
    assert!(rewritten.contains("rewritten_data_files_count") && events > 20_000, "{rewritten}");
    let hints = [
        ("insert", "firn produce"),
        ("delete", "firn produce"),
        ("alter", "firn topic"),
        ("drop", "firn topic drop"),
        ("rename", "firn topic create"),
    ];
    assert_refused(&verdict["refused"], &hints);

    client.flush("kafka").await.unwrap();
    let facts =
        "select case when count(*) = max(_seq) and count(distinct _seq) = count(*) then count(*) end from kafka";
    assert_eq!(client.number(facts).await.unwrap(), events as i64);
    server.shutdown().await;
    let verified =
        Command::new(firn().unwrap()).args(["verify", "kafka", "--data"]).arg(folder.path()).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_reads_topics_keeps_tables_of_its_own_and_drops_no_topic() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = with_events(local(folder.path()), 10_000).await;
    let verdict = judge::python("rest_duckdb", &[&uri(&server), "kafka", "build.gradle"]).await.unwrap();
    assert_eq!((&verdict["count"], &verdict["max_seq"]), (&json!(10_000), &json!(10_000)));
    let own = client.sql("select _seq from kafka where _key = 'build.gradle' order by _seq").await.unwrap();
    assert_eq!(verdict["key_seqs"], json!(tests::rows::integers(&own, "_seq")));
    assert_eq!(verdict["own"], json!([[1, "a"], [2, "b"], [3, "a"], [4, "b"]]));
    assert_refused(&verdict["refused"], &[("drop", "firn topic drop")]);
    server.shutdown().await;
}

/// Sends one request: `head` is its first line and what headers it has. Returns the status and the document.
async fn send(server: &Server, head: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.http_addr()).await.unwrap();
    let length = body.len();
    let request = format!("{head}\r\nHost: firn\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

async fn get(server: &Server, path: &str, token: Option<&str>) -> (u16, Value) {
    let token = token.map(|token| format!("\r\nAuthorization: Bearer {token}")).unwrap_or_default();
    send(server, &format!("GET {path} HTTP/1.1{token}"), "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_for_where_one_is_configured_and_errors_are_documents() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = config(local(folder.path()));
    settings.iceberg = serde_json::from_value(json!({"token": "s3cret"})).unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"), "secrets are not printed");
    let (server, _) = start(settings).await.unwrap();

    for token in [None, Some("wrong"), Some("s3cret ."), Some("s3cre")] {
        let (status, error) = get(&server, "/iceberg/v1/namespaces", token).await;
        assert_eq!((status, &error["error"]["type"]), (401, &json!("NotAuthorizedException")), "{token:?}");
    }
    let form = "Content-Type: application/x-www-form-urlencoded";
    let exchange = |body: &'static str| {
        let server = &server;
        async move { send(server, &format!("POST /iceberg/v1/oauth/tokens HTTP/1.1\r\n{form}"), body).await }
    };
    let (status, denied) = exchange("grant_type=client_credentials&client_id=me&client_secret=wrong").await;
    assert_eq!((status, &denied["error"]), (401, &json!("invalid_client")));
    let (status, granted) = exchange("grant_type=client_credentials&client_id=me&client_secret=s3cret").await;
    assert_eq!((status, &granted["token_type"]), (200, &json!("bearer")));
    let (status, _) = get(&server, "/iceberg/v1/namespaces", granted["access_token"].as_str()).await;
    assert_eq!(status, 200);

    let (status, error) = get(&server, "/iceberg/v1/namespaces/none/tables/t", Some("s3cret")).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!(404)));
    assert_eq!(error["error"]["type"], "NoSuchTableException");
    let (status, error) = get(&server, "/iceberg/v1/nothing", Some("s3cret")).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!(404)));
    let authorised = "Authorization: Bearer s3cret";
    let post = format!("POST /iceberg/v1/namespaces HTTP/1.1\r\n{authorised}");
    for wrong in ["", "{", "[]", "{\"namespace\":[]}", "{\"namespace\":[\"\"]}"] {
        let (status, error) = send(&server, &post, wrong).await;
        assert_eq!((status, &error["error"]["type"]), (400, &json!("BadRequestException")), "{wrong}");
    }
    // One byte too many, so that nothing of it is left unread when the answer comes.
    let large = " ".repeat(schemas::limits::CATALOG_BODY_BYTES_MAX + 1);
    let (status, error) = send(&server, &post, &large).await;
    assert_eq!((status, &error["error"]["code"]), (413, &json!(413)));
    server.shutdown().await;
}

/// Iceberg's own kit, every test of it: see `make test-rck`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "downloads 220 MB once, and takes minutes: make test-rck"]
async fn the_compatibility_kit_of_the_specification_passes() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = with_events(local(folder.path()), 1_000).await;
    let topic = client.describe("kafka").await.unwrap()["table"]["metadata_uri"].as_str().unwrap().to_owned();
    let tenant = topic.strip_prefix("file://").and_then(|path| Path::new(path).ancestors().nth(3)).unwrap();
    let places = tenant.join("tables/places");
    std::fs::create_dir_all(&places).unwrap();
    let said = judge::compatibility_kit(&uri(&server), &places).await.unwrap();
    println!("{said}");
    assert!(said.contains("[         0 tests failed          ]"), "{said}");
    server.shutdown().await;
}
