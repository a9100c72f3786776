//! What other engines leave behind: replaced files, missing bounds, delete files.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFileBuilder, DataFileFormat, Literal, MAIN_BRANCH, ManifestFile, ManifestListWriter,
    ManifestWriterBuilder, Operation, Snapshot, Struct, Summary, UNASSIGNED_SEQUENCE_NUMBER,
};

use super::super::create::LEVEL1_SPEC_ID;
use super::*;

/// What another engine might do: a commit of one more file under the default spec, about which it tells as little as it may, and a summary without
/// a word of Firn's. With `deletes`, the file holds position deletes.
async fn commit(tables: &Tables, def: &TopicDef, base: &TableState, operation: Operation, deletes: bool) {
    let (metadata, io) = (base.metadata(), &tables.shared.file_io);
    let folder = format!("{}/metadata", metadata.location());
    let content = if deletes { DataContentType::PositionDeletes } else { DataContentType::Data };
    let file = DataFileBuilder::default()
        .content(content)
        .file_path(format!("{}/data/theirs.parquet", metadata.location()))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::from_iter([Some(Literal::string("orders/eu")), Some(Literal::int(0))]))
        .partition_spec_id(LEVEL1_SPEC_ID)
        .record_count(0)
        .file_size_in_bytes(10)
        .build()
        .unwrap();
    let (id, sequence) = (4711, metadata.last_sequence_number() + 1);
    let spec = metadata.partition_spec_by_id(LEVEL1_SPEC_ID).unwrap().as_ref().clone();
    let output = io.new_output(format!("{folder}/theirs-m.avro")).unwrap();
    let builder = ManifestWriterBuilder::new(output, Some(id), Arc::clone(metadata.current_schema()), spec);
    let mut writer = if deletes { builder.build_v2_deletes() } else { builder.build_v2_data() };
    writer.add_file(file, UNASSIGNED_SEQUENCE_NUMBER).unwrap();
    let mut manifests: Vec<ManifestFile> = base.manifests().await.unwrap();
    manifests.push(writer.write_manifest_file().await.unwrap());

    let list = format!("{folder}/snap-theirs.avro");
    let output = io.new_output(&list).unwrap().writer().await.unwrap();
    let mut writer = ManifestListWriter::v2(output, id, base.snapshot_id(), sequence);
    writer.add_manifests(manifests.into_iter()).unwrap();
    writer.close().await.unwrap();
    let rows = metadata.current_snapshot().unwrap().summary().additional_properties["total-records"].clone();
    let additional_properties = HashMap::from([("total-records".to_owned(), rows)]);
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(base.snapshot_id())
        .with_sequence_number(sequence)
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(list)
        .with_summary(Summary { operation, additional_properties })
        .with_schema_id(metadata.current_schema_id())
        .build();
    let builder = metadata.as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
    publish(tables, def, base, builder.set_branch_snapshot(snapshot, MAIN_BRANCH).unwrap()).await;
}

/// Makes what `builder` builds the table's current metadata.
async fn publish(tables: &Tables, def: &TopicDef, base: &TableState, builder: iceberg::spec::TableMetadataBuilder) {
    let metadata = builder.build().unwrap().metadata;
    let uri = format!("{}/metadata/theirs-{}.metadata.json", metadata.location(), tables.shared.env.uuid());
    tables.shared.create(&uri, serde_json::to_vec(&metadata).unwrap().into()).await.unwrap();
    let pointer = Pointer::next(Some(&base.pinned().pointer), def.id, Some(uri), "theirs".into());
    let path = Pointer::path(&tenant(), &def.name);
    let swap = tables.shared.store.swap_register(&path, Some(&base.pinned().tag), pointer.encode()).await.unwrap();
    assert!(matches!(swap, Swap::Won(_)));
}

#[tokio::test]
async fn files_of_other_engines_are_taken_as_they_are_and_flushes_go_on_above_them() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let base = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu"), ("b", "eu")])]).await.unwrap();
    commit(&tables, &def, &base, Operation::Replace, false).await;

    let state = flush(&tables, &def, 3, &[events(&def, 3, &[("c", "eu")])]).await.unwrap();
    assert_eq!(state.watermark(), Watermark(Seq(4)));
    let set = state.files().await.unwrap();
    let theirs = set.files().iter().find(|file| file.path.as_ref().contains("theirs")).unwrap();
    assert_eq!(theirs.partition, Partition::Level1 { prefix: "orders/eu".to_owned(), bucket: 0, buckets: 1 });
    assert_eq!(theirs.seqs, (Seq(1), Seq(3)), "it may hold whatever the table holds");
    assert!(theirs.keys.0.is_empty() && theirs.keys.1.as_str() > "\u{10FFFF}");
    let (lower, _) = set.bounds(field_id::SEQ).unwrap();
    assert_eq!((lower.len(), lower.null_count()), (3, 1));
}

#[tokio::test]
async fn delete_files_of_other_engines_are_refused_by_name() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let base = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();
    commit(&tables, &def, &base, Operation::Delete, true).await;
    let error = tables.load(&def).await.unwrap().files().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("theirs-m.avro"), "{error}");
}

#[tokio::test]
async fn a_table_that_was_rolled_back_stops_its_topic() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let first = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();
    let second = flush(&tables, &def, 2, &[events(&def, 2, &[("a", "eu")])]).await.unwrap();
    let reference = iceberg::spec::SnapshotReference {
        snapshot_id: first.snapshot_id().unwrap(),
        retention: iceberg::spec::SnapshotRetention::branch(None, None, None),
    };
    let builder = second.metadata().as_ref().clone().into_builder(Some(second.metadata_uri().to_owned()));
    publish(&tables, &def, &second, builder.set_ref(MAIN_BRANCH, reference).unwrap()).await;
    let error = flush(&tables, &def, 3, &[events(&def, 3, &[("a", "eu")])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("rolled back"), "{error}");
}

/// Restored from a backup, perhaps: it says all that the topic's own would, and lacks what came since.
#[tokio::test]
async fn a_copy_of_a_table_under_another_uuid_is_not_the_topics() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let base = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();
    let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
    publish(&tables, &def, &base, builder.assign_uuid(tables.shared.env.uuid())).await;
    let error = flush(&tables, &def, 2, &[events(&def, 2, &[("a", "eu")])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("uuid"), "{error}");
}

/// Flushed at the watermark that the property says, the last event would be there twice.
#[tokio::test]
async fn a_watermark_that_goes_backwards_stops_the_topic() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let first = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();
    let second = flush(&tables, &def, 2, &[events(&def, 2, &[("a", "eu")])]).await.unwrap();
    let name = super::super::properties::WATERMARK;
    let earlier = HashMap::from([(name.to_owned(), first.metadata().properties()[name].clone())]);
    let builder = second.metadata().as_ref().clone().into_builder(Some(second.metadata_uri().to_owned()));
    publish(&tables, &def, &second, builder.set_properties(earlier).unwrap()).await;
    for from in [2, 3] {
        let error = flush(&tables, &def, from, &[events(&def, from, &[("a", "eu")])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}

#[tokio::test]
async fn expiry_of_every_flush_is_no_rollback_as_long_as_the_rows_are_there() {
    let folder = tempdir().unwrap();
    let (def, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &def).await.unwrap();
    let flushed = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu"), ("b", "eu")])]).await.unwrap();
    commit(&tables, &def, &flushed, Operation::Replace, false).await;
    let replaced = tables.load(&def).await.unwrap();
    let expired = |state: &TableState| {
        let builder = state.metadata().as_ref().clone().into_builder(Some(state.metadata_uri().to_owned()));
        builder.remove_snapshots(&[flushed.snapshot_id().unwrap()])
    };
    publish(&tables, &def, &replaced, expired(&replaced)).await;
    let state = tables.load(&def).await.unwrap();
    assert_eq!(state.watermark(), Watermark(Seq(3)));

    let fewer = HashMap::from([(super::super::properties::REMOVED_ROWS.to_owned(), "1".to_owned())]);
    publish(&tables, &def, &state, expired(&state).set_properties(fewer).unwrap()).await;
    let error = tables.load(&def).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "rows are missing or too many: {error}");
}
