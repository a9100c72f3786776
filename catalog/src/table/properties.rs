//! Names of the table properties and summary entries that carry Firn's part of a table's state.
//!
//! A property holds for the table as it is now; the summary of a flush's snapshot repeats what that flush left. They must agree (P4.1).

use iceberg::spec::TableMetadata;
use schemas::{Seq, ShardSeqs, Watermark};

use crate::error::{CatalogError, Result};
use schemas::ErrorKind;

/// Property: id of the topic that the table is of.
pub(crate) const TOPIC: &str = "firn.topic";
/// Property: id of the topic's tenant.
pub(crate) const TENANT: &str = "firn.tenant";
/// Property: version of the topic's schema that is the table's current one.
pub(crate) const SCHEMA_VERSION: &str = "firn.schema-version";
/// Property and summary: `shard → first seq not in the table`, as JSON.
pub(crate) const WATERMARK: &str = "firn.watermark";
/// Property: Iceberg sequence number of the snapshot that set the watermark.
pub(crate) const WATERMARK_SEQUENCE: &str = "firn.watermark.sequence-number";
/// Property: sweep generation (P7); stands in the names of data files.
pub(crate) const SWEEP: &str = "firn.sweep";
/// Property: how much of the topic is kept, as JSON. Absent: everything.
pub(crate) const RETENTION: &str = "firn.retention";
/// Property and summary: `shard → first seq that retention has left`, as JSON. Absent: the first.
pub(crate) const RETAINED: &str = "firn.retained";
/// Property and summary: rows that retention has removed so far. Absent is 0.
pub(crate) const REMOVED_ROWS: &str = "firn.removed-rows";
/// Property and summary: hash of these rows, 32 hex digits. Absent is 0.
pub(crate) const REMOVED_ROW_HASH: &str = "firn.removed-row-hash";
/// Property and summary: hash of all rows ever flushed, 32 hex digits.
pub(crate) const TOTAL_ROW_HASH: &str = "firn.total-row-hash";
/// Property and summary: `shard → first seq` of the rows that the total row hash is of, as JSON. Absent: of all.
///
/// A column that is dropped takes its part of every row's hash with it, so the flush that carries the drop begins the sum anew.
pub(crate) const ROW_HASH_BASE: &str = "firn.row-hash-base";
/// Property and summary: the lane that flushed last, for people.
pub(crate) const LANE: &str = "firn.lane";
/// Property and summary: the epoch that flushed last, for people.
pub(crate) const EPOCH: &str = "firn.epoch";
/// Summary: identity of one call of flush; the same over all its attempts.
pub(crate) const COMMIT: &str = "firn.commit";
/// Summary: `shard → first seq` of the flush, as JSON.
pub(crate) const FROM: &str = "firn.from";
/// Summary: `shard → seq after the last` of the flush, as JSON.
pub(crate) const TO: &str = "firn.to";
/// Summary: rows of the flush.
pub(crate) const ROWS: &str = "firn.rows";
/// Summary: hash of the flush's rows, 32 hex digits.
pub(crate) const ROW_HASH: &str = "firn.row-hash";

/// What every summary repeats of the properties, as far as they are there, so that the nearest ancestor always tells (P4.1).
pub(crate) const CARRIED: [&str; 8] =
    [WATERMARK, TOTAL_ROW_HASH, ROW_HASH_BASE, RETAINED, REMOVED_ROWS, REMOVED_ROW_HASH, LANE, EPOCH];

/// The seq of a property that is a map of seqs; the first if it is not there. Errors: `Corrupt` naming `place` if it is none.
pub(crate) fn seq_or_first(metadata: &TableMetadata, name: &str, place: &str) -> Result<Seq> {
    let Some(text) = metadata.properties().get(name) else { return Ok(Seq::FIRST) };
    let seqs: Option<ShardSeqs> = serde_json::from_str(text).ok();
    seqs.and_then(|seqs| seqs.as_single()).filter(|seq| *seq >= Seq::FIRST).ok_or_else(|| {
        let message = format!("{place}: {name} should read like {{\"0\":17}}, found {text:?}");
        CatalogError::new(ErrorKind::Corrupt, message)
    })
}

/// A seq as all formats write it: `{"0":17}`.
pub(crate) fn seqs_text(seq: Seq) -> String {
    serde_json::to_string(&ShardSeqs::single(seq)).expect("a map of numbers is JSON")
}

/// Parses a watermark. Errors: `Corrupt` naming `place` if it is not the map of a topic in one lane.
pub(crate) fn parse_watermark(text: &str, place: &str) -> Result<Watermark> {
    let seqs: Option<ShardSeqs> = serde_json::from_str(text).ok();
    let seq = seqs.and_then(|seqs| seqs.as_single()).filter(|seq| *seq >= Seq::FIRST);
    seq.map(Watermark).ok_or_else(|| {
        let message = format!("{place}: {WATERMARK} should read like {{\"0\":17}}, found {text:?}");
        CatalogError::new(ErrorKind::Corrupt, message)
    })
}
