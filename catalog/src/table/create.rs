//! The first state of a topic's table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::datatypes::Int32Type;
use iceberg::spec::{PartitionField, PartitionSpec, TableMetadata, Transform, UnboundPartitionSpec};
use iceberg::transform::create_transform_function;
use schemas::envelope::{self, field_id};
use schemas::{ErrorKind, Seq, TopicDef};
use serde_json::{Value, json};

use super::encode::{DICTIONARY_BYTES, PAGE_ROWS, ROW_GROUP_BYTES, ZSTD_LEVEL};
use super::forget::{SNAPSHOT_AGE, SNAPSHOT_AGE_MS, SNAPSHOTS_KEPT, SNAPSHOTS_KEPT_MIN};
use super::rowhash::RowHash;
use super::schema::iceberg_schema;
use super::{iceberg_error, properties};
use crate::error::{CatalogError, Result};

/// Partition spec of flushes: none, so that a flush is one file however many prefixes and keys it touches.
pub(crate) const LEVEL0_SPEC_ID: i32 = 0;
/// Partition spec of compacted files, the table's default.
pub(crate) const LEVEL1_SPEC_ID: i32 = 1;
/// Sort order of every file: prefix, key, seq.
pub(crate) const SORT_ORDER_ID: i32 = 1;
/// Name of the partition field that holds the bucket of `_key`; no payload field can have it.
pub(crate) const BUCKET_FIELD: &str = "_key_bucket";
/// Buckets that a table begins with; they double as it grows.
const FIRST_BUCKETS: u32 = 1;
/// Metadata files that stay behind the current one, for readers that hold an older pointer.
const METADATA_VERSIONS_KEPT: usize = 100;

/// Further tries of a commit by other engines: what they replace files by, a flush overtakes every few seconds.
const OTHERS_RETRIES: u32 = 20;
/// Longest wait between two of these.
const OTHERS_RETRY_WAIT_MS: u64 = 2_000;

/// An empty table of the topic at `location` (a full URI). The table's uuid is the topic's id: the table is the topic, as long as both live.
///
/// Written out as the document that it is: Iceberg's builder would give the fields other ids.
pub(crate) fn first_metadata(def: &TopicDef, location: &str, now_ms: i64) -> Result<TableMetadata> {
    let schema = iceberg_schema(&def.payload, 0)?;
    let sort_order = [field_id::PREFIX, field_id::KEY, field_id::SEQ]
        .map(|id| json!({"transform": "identity", "source-id": id, "direction": "asc", "null-order": "nulls-first"}));
    let document = json!({
        "format-version": 2,
        "table-uuid": def.id.to_string(),
        "location": location,
        "last-sequence-number": 0,
        "last-updated-ms": now_ms,
        "last-column-id": def.payload.last_field_id.max(schema.highest_field_id()),
        "current-schema-id": 0,
        "schemas": [schema],
        "default-spec-id": LEVEL1_SPEC_ID,
        "partition-specs": [{"spec-id": LEVEL0_SPEC_ID, "fields": []}, level1_spec(FIRST_BUCKETS)],
        "last-partition-id": 1001,
        "default-sort-order-id": SORT_ORDER_ID,
        "sort-orders": [{"order-id": SORT_ORDER_ID, "fields": sort_order}],
        "properties": first_properties(def),
    });
    serde_json::from_value(document).map_err(|error| {
        CatalogError::new(ErrorKind::Internal, format!("the first metadata of topic {}'s table", def.name))
            .caused_by(error)
    })
}

fn level1_spec(buckets: u32) -> Value {
    json!({"spec-id": LEVEL1_SPEC_ID, "fields": [
        {"name": envelope::PREFIX, "transform": "identity", "source-id": field_id::PREFIX, "field-id": 1000},
        {"name": BUCKET_FIELD, "transform": format!("bucket[{buckets}]"), "source-id": field_id::KEY, "field-id": 1001},
    ]})
}

fn first_properties(def: &TopicDef) -> HashMap<&'static str, String> {
    HashMap::from([
        (properties::TOPIC, def.id.to_string()),
        (properties::TENANT, def.tenant.to_string()),
        (properties::SCHEMA_VERSION, def.version.to_string()),
        (properties::WATERMARK, properties::seqs_text(Seq::FIRST)),
        (properties::WATERMARK_SEQUENCE, "0".to_owned()),
        (properties::TOTAL_ROW_HASH, RowHash::default().to_string()),
        (properties::SWEEP, "0".to_owned()),
        ("write.format.default", "parquet".to_owned()),
        ("write.parquet.compression-codec", "zstd".to_owned()),
        ("write.parquet.compression-level", ZSTD_LEVEL.to_string()),
        ("write.parquet.page-row-limit", PAGE_ROWS.to_string()),
        ("write.parquet.row-group-size-bytes", ROW_GROUP_BYTES.to_string()),
        ("write.parquet.dict-size-bytes", DICTIONARY_BYTES.to_string()),
        ("write.parquet.bloom-filter-enabled.column._key", "true".to_owned()),
        ("write.metadata.metrics.default", "truncate(16)".to_owned()),
        ("write.metadata.metrics.column._seq", "full".to_owned()),
        ("write.metadata.metrics.column._key", "full".to_owned()),
        ("write.metadata.metrics.column._prefix", "full".to_owned()),
        ("write.metadata.delete-after-commit.enabled", "true".to_owned()),
        ("write.metadata.previous-versions-max", METADATA_VERSIONS_KEPT.to_string()),
        ("write.distribution-mode", "hash".to_owned()),
        ("commit.retry.num-retries", OTHERS_RETRIES.to_string()),
        ("commit.retry.max-wait-ms", OTHERS_RETRY_WAIT_MS.to_string()),
        (SNAPSHOT_AGE, SNAPSHOT_AGE_MS.to_string()),
        (SNAPSHOTS_KEPT, SNAPSHOTS_KEPT_MIN.to_string()),
    ])
}

/// The level-1 spec with so many buckets, to be added to a table that has none such yet. Iceberg gives a field of another transform another id, and with it
/// another name.
pub(crate) fn wider_spec(buckets: u32) -> Result<UnboundPartitionSpec> {
    let fields = [
        (field_id::PREFIX, envelope::PREFIX.to_owned(), Transform::Identity),
        (field_id::KEY, format!("{BUCKET_FIELD}_{buckets}"), Transform::Bucket(buckets)),
    ];
    let built = fields.into_iter().try_fold(UnboundPartitionSpec::builder(), |builder, (id, name, transform)| {
        builder.add_partition_field(id, name, transform)
    });
    built.map(|builder| builder.build()).map_err(|error| iceberg_error("a level-1 partition spec", error))
}

/// The spec that new level-1 files of a table are written under: its default one, if that is of level 1. Id, and number of buckets.
pub(crate) fn default_level1(metadata: &TableMetadata) -> Option<(i32, u32)> {
    let spec = metadata.default_partition_spec();
    let (prefix, bucket, buckets) = level1_fields(spec)?;
    (prefix == 0 && bucket == 1 && spec.fields().len() == 2).then(|| (spec.spec_id(), buckets))
}

/// The bucket of each `_key`, by Iceberg's transform.
pub(crate) fn buckets_of(keys: &ArrayRef, buckets: u32) -> Result<Int32Array> {
    let failed = |error| iceberg_error("the buckets of keys", error);
    let transform = create_transform_function(&Transform::Bucket(buckets)).map_err(failed)?;
    Ok(transform.transform(Arc::clone(keys)).map_err(failed)?.as_primitive::<Int32Type>().clone())
}

/// The fields of a level-1 spec, `identity(_prefix), bucket[N](_key)`: positions of prefix and bucket in the partition tuple, and N.
pub(crate) fn level1_fields(spec: &PartitionSpec) -> Option<(usize, usize, u32)> {
    let position = |wanted: &dyn Fn(&PartitionField) -> bool| spec.fields().iter().position(wanted);
    let prefix = position(&|field| field.source_id == field_id::PREFIX && field.transform == Transform::Identity)?;
    let bucket =
        position(&|field| field.source_id == field_id::KEY && matches!(field.transform, Transform::Bucket(_)))?;
    match spec.fields()[bucket].transform {
        Transform::Bucket(buckets) => Some((prefix, bucket, buckets)),
        _ => None,
    }
}
