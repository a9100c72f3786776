//! A topic that cannot be read says why on every way to it; and what a dropped topic leaves behind, on both kinds of store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use catalog::storage::StoreConfig;
use catalog::{Env, Store};
use flight::server::Server;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::s3::{Kind, S3};
use tests::serve::{config, local, serve, start};

fn topic(name: &str) -> Value {
    let fields = json!([{"name": "k", "type": "string"}]);
    json!({"name": name, "schema": {"type": "record", "name": "r", "fields": fields}, "key": ["k"]})
}

async fn append(client: &Client, topic: &str, keys: &[&str]) -> Result<()> {
    let keys: ArrayRef = Arc::new(keys.iter().map(Some).collect::<StringArray>());
    client.append(to_topic(topic), vec![RecordBatch::try_from_iter([("k", keys)])?]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_read_is_described_with_the_reason_and_its_neighbour_answers() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, client) = serve(local(folder.path())).await?;
    for name in ["ails", "works"] {
        client.create(&topic(name)).await?;
        append(&client, name, &["a", "b"]).await?;
        client.flush(name).await?;
    }
    server.shutdown().await;
    for revision in std::fs::read_dir(folder.path().join("tenants/default/tables/ails.json"))? {
        std::fs::write(revision?.path(), "rot")?;
    }

    let (_server, client) = serve(local(folder.path())).await?;
    let described = client.describe("ails").await?;
    let reason = described["status"]["unreadable"].as_str().context("it says why")?;
    ensure!(reason.contains("topic ails cannot be read"), "{reason}");
    assert_eq!((&described["table"], &described["next_seq"]["0"]), (&Value::Null, &json!(3)));
    let error = client.sql("select count(*) from ails").await.expect_err("nothing may be answered");
    ensure!(error.to_string().contains("topic ails cannot be read"), "{error}");
    let error = client.replay("ails", "a").await.expect_err("nothing may be answered");
    ensure!(error.to_string().contains("topic ails cannot be read"), "{error}");
    let listed = client.action("list-topics", &Value::Null).await?;
    assert_eq!(listed.as_array().context("two topics")?.len(), 2);
    append(&client, "works", &["c"]).await?;
    assert_eq!(client.number("select count(*) as c from works").await?, 3);
    Ok(())
}

/// Nothing is left of a topic's table a while after it was dropped, and the one that has its name then is whole.
async fn a_dropped_topic_leaves_nothing_behind(store: StoreConfig) -> Result<()> {
    let mut settings = config(store.clone());
    (settings.ingest.dropped_grace_ms, settings.query.deadline_ms) = (3_000, 3_000);
    let (server, client) = start(settings).await?;
    client.create(&topic("t")).await?;
    append(&client, "t", &["a"]).await?;
    client.flush("t").await?;
    let old = location(&client).await?;
    let files = files_of(&store, &old).await?;
    ensure!(files.len() >= 4, "data, manifest, manifest list, metadata: {files:?}");
    client.action("drop-topic", &json!({"topic": "t"})).await?;
    client.create(&topic("t")).await?;
    append(&client, "t", &["a", "b"]).await?;
    client.flush("t").await?;
    for _ in 0..1_200 {
        if files_of(&store, &old).await?.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(files_of(&store, &old).await?, Vec::<String>::new());
    ensure!(files_of(&store, &location(&client).await?).await?.len() >= 4);
    assert_eq!(client.number("select count(*) as c from t").await?, 2);
    server.shutdown().await;
    Ok(())
}

/// Where the files of the topic's table lie, as a URI.
async fn location(client: &Client) -> Result<String> {
    let described = client.describe("t").await?;
    let metadata = described["table"]["metadata_uri"].as_str().context("a table")?;
    Ok(metadata.rsplit_once("/metadata/").context("metadata lies in its folder")?.0.to_owned())
}

async fn files_of(store: &StoreConfig, location: &str) -> Result<Vec<String>> {
    let store = Store::open(store, Env::system()).await?;
    let folder = store.path(location)?;
    Ok(store.objects().list(Some(&folder)).map_ok(|object| object.location.to_string()).try_collect().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_topic_leaves_nothing_behind_in_a_folder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    a_dropped_topic_leaves_nothing_behind(local(folder.path())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_topic_leaves_nothing_behind_in_a_bucket() -> Result<()> {
    let s3 = S3::start(Kind::VersityGw).await?;
    a_dropped_topic_leaves_nothing_behind(s3.store("dropped")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_dropped_topic_may_not_go_before_a_query_has_to_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut settings = config(local(folder.path()));
    settings.ingest.dropped_grace_ms = settings.query.deadline_ms - 1;
    let refusal = Server::start(settings, Env::system()).await.expect_err("a query may still read them");
    ensure!(refusal.to_string().contains("ingest.dropped_grace_ms: expected at least query.deadline_ms"), "{refusal}");
    Ok(())
}
