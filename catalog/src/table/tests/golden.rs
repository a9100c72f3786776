//! What Firn writes into tables by name. Other engines keep it without understanding it, so it may never change.

use std::collections::BTreeMap;

use iceberg::spec::TableMetadata;

use super::*;

fn metadata(state: &TableState) -> TableMetadata {
    let path = state.metadata_uri().strip_prefix("file://").unwrap();
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Firn's entries, those apart whose values are drawn.
fn ours<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> BTreeMap<&'a str, &'a str> {
    let ours = entries.into_iter().filter(|(name, _)| name.starts_with("firn."));
    ours.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// By these a table is recognised and its watermark believed: under other names every topic would stop, or flush what is there already.
#[tokio::test]
async fn the_properties_and_summaries_stay_what_they_are() {
    let folder = tempdir().unwrap();
    let tables = open(folder.path()).await;
    let def = orders();
    tables.ensure(&tenant(), &def).await.unwrap();
    let state = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu"), ("b", "us")])]).await.unwrap();
    let metadata = metadata(&state);
    let (topic, owner) = (def.id.to_string(), def.tenant.to_string());
    let hash = "00000000000000000000000000000000";
    let mut properties = ours(metadata.properties());
    let total = properties.insert("firn.total-row-hash", hash).unwrap();
    assert_eq!(
        properties,
        BTreeMap::from([
            ("firn.epoch", "1"),
            ("firn.lane", "0"),
            ("firn.schema-version", "1"),
            ("firn.sweep", "0"),
            ("firn.tenant", owner.as_str()),
            ("firn.topic", topic.as_str()),
            ("firn.total-row-hash", hash),
            ("firn.watermark", r#"{"0":3}"#),
            ("firn.watermark.sequence-number", "1"),
        ])
    );
    let snapshot = metadata.current_snapshot().unwrap();
    let mut summary = ours(&snapshot.summary().additional_properties);
    assert_eq!(summary.insert("firn.row-hash", hash), Some(total), "the first flush's rows are all rows");
    assert_eq!(summary.insert("firn.total-row-hash", hash), Some(total));
    assert_eq!(summary.insert("firn.commit", "").map(str::len), Some(36));
    assert_eq!(
        summary,
        BTreeMap::from([
            ("firn.commit", ""),
            ("firn.epoch", "1"),
            ("firn.from", r#"{"0":1}"#),
            ("firn.lane", "0"),
            ("firn.row-hash", hash),
            ("firn.rows", "2"),
            ("firn.to", r#"{"0":3}"#),
            ("firn.total-row-hash", hash),
            ("firn.watermark", r#"{"0":3}"#),
        ])
    );
    let files = state.files().await.unwrap();
    let name = files.files()[0].path.filename().unwrap();
    let begins = format!("{topic}-1-3-g0-");
    assert!(
        name.starts_with(&begins) && name.len() == begins.len() + 32 + 1 + 32 + 8,
        "{begins}nonce-content.parquet, found {name}"
    );
}
