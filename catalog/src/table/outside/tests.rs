use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, FormatVersion, Literal, ManifestListWriter,
    ManifestWriterBuilder, SnapshotRetention, Struct, UNASSIGNED_SEQUENCE_NUMBER,
};
use schemas::{Seq, Watermark};
use serde_json::{Value, json};
use tempfile::tempdir;

use super::super::create::LEVEL1_SPEC_ID;
use super::super::testing::{events, flush, open, orders, tenant};
use super::*;

/// What an engine sends that has put all rows into one file of `records`.
async fn rewrite(base: &TableState, id: i64, operation: Operation, records: u64) -> Vec<TableUpdate> {
    let (metadata, io) = (base.metadata(), &base.shared().file_io);
    let folder = format!("{}/metadata", metadata.location());
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{}/data/theirs-{id}.parquet", metadata.location()))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::string("orders/eu")), Some(Literal::int(0))]))
        .partition_spec_id(LEVEL1_SPEC_ID)
        .record_count(records)
        .file_size_in_bytes(10)
        .build()
        .unwrap();
    let spec = metadata.partition_spec_by_id(LEVEL1_SPEC_ID).unwrap().as_ref().clone();
    let output = io.new_output(format!("{folder}/theirs-{id}-m.avro")).unwrap();
    let builder = ManifestWriterBuilder::new(output, Some(id), Arc::clone(metadata.current_schema()), spec);
    let mut writer = builder.build_v2_data();
    writer.add_file(file, UNASSIGNED_SEQUENCE_NUMBER).unwrap();
    let manifest = writer.write_manifest_file().await.unwrap();
    let list = format!("{folder}/snap-theirs-{id}.avro");
    let output = io.new_output(&list).unwrap().writer().await.unwrap();
    let sequence = metadata.last_sequence_number() + 1;
    let mut writer = ManifestListWriter::v2(output, id, base.snapshot_id(), sequence);
    writer.add_manifests(std::iter::once(manifest)).unwrap();
    writer.close().await.unwrap();
    let lies = [("firn.watermark", "{\"0\":1}"), ("firn.commit", "x"), ("total-records", "7"), ("engine", "theirs")];
    let additional_properties = lies.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(base.snapshot_id())
        .with_sequence_number(sequence)
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(list)
        .with_summary(Summary { operation, additional_properties })
        .with_schema_id(metadata.current_schema_id())
        .build();
    vec![TableUpdate::AddSnapshot { snapshot }, set_ref("main", id)]
}

fn set_ref(name: &str, snapshot_id: i64) -> TableUpdate {
    let reference = SnapshotReference { snapshot_id, retention: SnapshotRetention::branch(None, None, None) };
    TableUpdate::SetSnapshotRef { ref_name: name.to_owned(), reference }
}

fn main_is(state: &TableState) -> Vec<TableRequirement> {
    vec![TableRequirement::RefSnapshotIdMatch { r#ref: "main".to_owned(), snapshot_id: state.snapshot_id() }]
}

fn update(document: Value) -> TableUpdate {
    serde_json::from_value(document).unwrap()
}

/// A table of two flushes, three rows.
async fn table(folder: &std::path::Path) -> (Tables, TopicDef, Arc<TableState>) {
    let (def, tables) = (orders(), open(folder).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu"), ("b", "eu")])]).await.unwrap();
    let base = flush(&tables, &def, 3, &[events(&def, 3, &[("c", "eu")])]).await.unwrap();
    (tables, def, base)
}

fn not_allowed(declined: Declined) -> (String, &'static str) {
    match declined {
        Declined::NotAllowed { what, instead } => (what, instead),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn a_compaction_by_others_keeps_the_watermark_and_flushes_go_on_above_it() {
    let folder = tempdir().unwrap();
    let (tables, def, base) = table(folder.path()).await;
    let updates = rewrite(&base, 77, Operation::Replace, 3).await;
    let state = tables.commit_outside(&tenant(), &def, &main_is(&base), &updates).await.unwrap();
    assert_eq!((state.snapshot_id(), state.watermark()), (Some(77), Watermark(Seq(4))));
    assert_eq!(state.files().await.unwrap().files().len(), 1);
    let summary = &state.metadata().current_snapshot().unwrap().summary().additional_properties;
    assert_eq!(summary["firn.watermark"], "{\"0\":4}", "what is written there by others counts for nothing");
    assert_eq!((summary["total-records"].as_str(), summary["engine"].as_str()), ("3", "theirs"));
    assert!(!summary.contains_key("firn.commit"), "it is no flush");

    let next = flush(&tables, &def, 4, &[events(&def, 4, &[("d", "eu")])]).await.unwrap();
    assert_eq!((next.watermark(), next.files().await.unwrap().files().len()), (Watermark(Seq(5)), 2));
    // Every flush may expire: what the replace says of the watermark is enough.
    let ids: Vec<_> = next.metadata().snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
    let old = ids.into_iter().filter(|id| Some(*id) != next.snapshot_id()).collect();
    let expire = [TableUpdate::RemoveSnapshots { snapshot_ids: old }];
    let expired = tables.commit_outside(&tenant(), &def, &[], &expire).await.unwrap();
    assert_eq!((expired.watermark(), expired.metadata().snapshots().len()), (Watermark(Seq(5)), 1));
}

#[tokio::test]
async fn what_calls_itself_a_replace_and_is_none_is_refused_by_its_manifests() {
    let folder = tempdir().unwrap();
    let (tables, def, base) = table(folder.path()).await;
    for (id, records) in [(1, 2), (2, 4)] {
        let updates = rewrite(&base, id, Operation::Replace, records).await;
        let declined = tables.commit_outside(&tenant(), &def, &[], &updates).await.unwrap_err();
        let (what, _) = not_allowed(declined);
        assert!(what.contains(&format!("it removes 3 records and adds {records}")), "{what}");
    }
    assert_eq!(tables.load(&def).await.unwrap().metadata_uri(), base.metadata_uri(), "nothing has happened");
}

#[tokio::test]
async fn a_flush_between_makes_the_replace_fail_as_engines_expect_and_lose_nothing() {
    let folder = tempdir().unwrap();
    let (tables, def, base) = table(folder.path()).await;
    let updates = rewrite(&base, 77, Operation::Replace, 3).await;
    let flushed = flush(&tables, &def, 4, &[events(&def, 4, &[("d", "eu")])]).await.unwrap();
    for requirements in [main_is(&base), Vec::new()] {
        match tables.commit_outside(&tenant(), &def, &requirements, &updates).await.unwrap_err() {
            Declined::Library(error) => assert_eq!(error.kind(), iceberg::ErrorKind::CatalogCommitConflicts),
            other => panic!("expected a conflict, found {other:?}"),
        }
    }
    assert_eq!(tables.load(&def).await.unwrap().metadata_uri(), flushed.metadata_uri());
}

#[tokio::test]
async fn tags_branches_statistics_and_properties_of_others_are_theirs() {
    let folder = tempdir().unwrap();
    let (tables, def, base) = table(folder.path()).await;
    let id = base.snapshot_id().unwrap();
    let updates = [
        set_ref("audit", id),
        update(json!({"action": "set-snapshot-ref", "ref-name": "v1", "type": "tag", "snapshot-id": id})),
        update(json!({"action": "set-properties", "updates": {"owner": "me"}})),
    ];
    let state = tables.commit_outside(&tenant(), &def, &main_is(&base), &updates).await.unwrap();
    assert_eq!(state.metadata().properties()["owner"], "me");
    assert!(["audit", "v1"].iter().all(|name| state.metadata().snapshot_for_ref(name).is_some()));
    let again = tables.commit_outside(&tenant(), &def, &[], &updates).await.unwrap();
    assert_eq!(again.metadata_uri(), state.metadata_uri(), "what changes nothing commits nothing");
    let updates = [
        update(json!({"action": "remove-snapshot-ref", "ref-name": "v1"})),
        update(json!({"action": "remove-properties", "removals": ["owner"]})),
    ];
    let state = tables.commit_outside(&tenant(), &def, &[], &updates).await.unwrap();
    assert!(state.metadata().snapshot_for_ref("v1").is_none() && !state.metadata().properties().contains_key("owner"));
}

#[tokio::test]
async fn everything_else_is_refused_and_says_what_does_the_job() {
    let folder = tempdir().unwrap();
    let (tables, def, base) = table(folder.path()).await;
    let first = base.metadata().snapshots().find(|snapshot| snapshot.parent_snapshot_id().is_none()).unwrap();
    let (first, current) = (first.snapshot_id(), base.snapshot_id().unwrap());
    let field = json!({"id": 1, "name": "x", "type": "int", "required": false});
    let cases = [
        (rewrite(&base, 1, Operation::Append, 3).await, "firn produce"),
        (rewrite(&base, 2, Operation::Overwrite, 3).await, "firn produce"),
        (rewrite(&base, 3, Operation::Delete, 3).await, "firn produce"),
        (rewrite(&base, 4, Operation::Replace, 3).await[..1].to_vec(), "main"),
        (vec![set_ref("main", first)], "tag"),
        (vec![TableUpdate::RemoveSnapshots { snapshot_ids: vec![current] }], "expire older"),
        (vec![update(json!({"action": "remove-snapshot-ref", "ref-name": "main"}))], "firn topic drop"),
        (vec![update(json!({"action": "set-properties", "updates": {"firn.watermark": "{\"0\":1}"}}))], "firn."),
        (vec![update(json!({"action": "remove-properties", "removals": ["firn.topic"]}))], "firn."),
        (
            vec![update(json!({"action": "add-schema", "schema": {"type": "struct", "fields": [field]}}))],
            "firn topic alter",
        ),
        (vec![update(json!({"action": "add-spec", "spec": {"fields": []}}))], "firn topic create"),
        (vec![update(json!({"action": "set-default-spec", "spec-id": 0}))], "firn topic create"),
        (vec![update(json!({"action": "set-default-sort-order", "sort-order-id": 0}))], "firn topic create"),
        (vec![update(json!({"action": "set-location", "location": "s3://x/y"}))], "firn topic create"),
        (vec![TableUpdate::UpgradeFormatVersion { format_version: FormatVersion::V3 }], "firn topic create"),
        (vec![update(json!({"action": "assign-uuid", "uuid": uuid::Uuid::nil()}))], "firn topic create"),
        (vec![update(json!({"action": "set-properties", "updates": {"x": "y".repeat(300 << 10)}}))], "256 KiB"),
    ];
    for (updates, hint) in cases {
        let shown = format!("{updates:.200?}");
        let declined = tables.commit_outside(&tenant(), &def, &[], &updates).await.unwrap_err();
        let (what, instead) = not_allowed(declined);
        assert!(instead.contains(hint), "{shown}: {what}; {instead}");
    }
    assert_eq!(tables.load(&def).await.unwrap().metadata_uri(), base.metadata_uri(), "nothing has happened");
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_to_be_there() {
    let folder = tempdir().unwrap();
    let (tables, def, base) = table(folder.path()).await;
    let updates = rewrite(&base, 77, Operation::Replace, 3).await;
    assert!(!has_all(&base, &updates, true));
    tables.commit_outside(&tenant(), &def, &main_is(&base), &updates).await.unwrap();
    let above = flush(&tables, &def, 4, &[events(&def, 4, &[("d", "eu")])]).await.unwrap();
    let found = tables.commit_outside(&tenant(), &def, &main_is(&base), &updates).await.unwrap();
    assert_eq!(found.metadata_uri(), above.metadata_uri(), "although another commit has followed");
    let property = [update(json!({"action": "set-properties", "updates": {"owner": "me"}}))];
    assert!(!has_all(&above, &property, true));
    let state = tables.commit_outside(&tenant(), &def, &[], &property).await.unwrap();
    assert!(has_all(&state, &property, true));
}
