//! Stock database drivers connect, find the tables with their columns, and run a query with a parameter.

use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::data::KAFKA;
use tests::serve::{local, serve};
use tests::{judge, rows};

const EVENTS: usize = 30_000;
const KEY: &str = "build.gradle";

/// Some of the history: half in the table, half in the tail.
async fn load(client: &Client) {
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..EVENTS / 2, 1_000)).await.unwrap();
    client.flush("kafka").await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(EVENTS / 2..EVENTS, 1_000)).await.unwrap();
}

/// Seqs of the key's events, counted off in the input.
fn expected_seqs() -> Vec<usize> {
    let needle = format!("{{\"file\":\"{KEY}\"");
    let lines = KAFKA.lines[..EVENTS].iter().enumerate();
    lines.filter(|(_, line)| line.starts_with(&needle)).map(|(number, _)| number + 1).collect()
}

/// The envelope and the payload, in order.
fn expected_columns() -> Vec<String> {
    let envelope = ["_seq", "_time", "_key", "_path", "_prefix", "_kind", "_headers"].map(str::to_owned);
    envelope.into_iter().chain(KAFKA.schema.fields().iter().map(|field| field.name().clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adbc_lists_tables_with_columns_and_binds_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    load(&client).await;

    let uri = format!("grpc://{}", server.flight_addr());
    let verdict = judge::python("adbc", &[&uri, "kafka", KEY]).await.unwrap();
    assert_eq!(verdict["tables"]["firn.default.kafka"], json!(expected_columns()));
    assert_eq!((&verdict["count"], &verdict["max_seq"]), (&json!(EVENTS), &json!(EVENTS)));
    assert_eq!(verdict["key_seqs"], json!(expected_seqs()));
    assert_eq!(verdict["key_seqs_by_full_name"], json!(expected_seqs()));
    assert_eq!(verdict["schema"].as_object().unwrap().keys().cloned().collect::<Vec<_>>(), expected_columns());
    assert_eq!(verdict["schema"]["_seq"], "int64");
    let error = verdict["error"].as_str().expect("an unknown column is an error");
    assert!(error.contains("no_such_column"), "{error}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jdbc_lists_tables_with_columns_and_binds_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    load(&client).await;

    let verdict = judge::java("Jdbc", &[&server.flight_addr().to_string(), "kafka", KEY]).await.unwrap();
    assert_eq!(verdict["tables"], json!(["firn.default.kafka"]));
    assert_eq!(verdict["columns"], json!(expected_columns()));
    assert_eq!(verdict["count"], json!([EVENTS]));
    assert_eq!(verdict["key_seqs"], json!(expected_seqs()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_statement_says_what_it_takes_and_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    load(&client).await;

    let mut sql = client.flight_sql();
    let query = "select _seq from kafka where _key = $1 order by _seq".to_owned();
    let mut statement = sql.prepare(query, None).await.unwrap();
    assert_eq!(statement.parameter_schema().unwrap().fields().len(), 1);
    assert_eq!(statement.dataset_schema().unwrap().field(0).name(), "_seq");
    for (key, expected) in [(KEY, expected_seqs()), ("no/such/file", Vec::new())] {
        statement.set_parameters(one_text(key)).unwrap();
        let info = statement.execute().await.unwrap();
        let seqs = rows::integers(&client.fetch(info).await.unwrap(), "_seq");
        assert_eq!(json!(seqs), Value::from_iter(expected));
    }
    statement.close().await.unwrap();
    server.shutdown().await;
}

/// A batch of one row and one column of text.
fn one_text(value: &str) -> arrow::record_batch::RecordBatch {
    let column: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::StringArray::from(vec![value]));
    arrow::record_batch::RecordBatch::try_from_iter([("$1", column)]).unwrap()
}
