//! The live data files of a snapshot, and what the manifests know of them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use iceberg::spec::{
    DataContentType, DataFileFormat, Datum, Literal, ManifestContentType, ManifestEntryRef, PartitionSpec,
    PrimitiveLiteral, Schema, Struct, Type,
};
use object_store::path::Path;
use parking_lot::Mutex;
use schemas::envelope::field_id;
use schemas::{ErrorKind, Seq};

use super::bounds::bounds_array;
use super::create::{SORT_ORDER_ID, level1_fields};
use super::state::TableState;
use crate::error::{CatalogError, Result};

/// Lower and upper bounds of one column, one value a file.
type Bounds = Option<(ArrayRef, ArrayRef)>;

/// The live data files of one snapshot.
#[derive(Debug)]
pub struct FileSet {
    files: Vec<Arc<DataFile>>,
    entries: Vec<ManifestEntryRef>,
    schema: Arc<Schema>,
    bounds: Mutex<HashMap<i32, Bounds>>,
}

/// One live data file.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Its path in the store.
    pub path: Path,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// First and last seq in it, inclusive; from the manifest's bounds.
    pub seqs: (Seq, Seq),
    /// First and last `_key` in it, inclusive and perhaps truncated (a lower bound cut short, an upper one rounded up).
    pub keys: (String, String),
    /// First and last `_prefix` in it, likewise.
    pub prefixes: (String, String),
    /// True if its rows are known to lie in order of (`_prefix`, `_key`, `_seq`): what other engines rewrite may not.
    pub sorted: bool,
    /// Its partition.
    pub partition: Partition,
}

/// Where a file stands in the LSM tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Level 0: all prefixes and keys of a seq range.
    Level0,
    /// Level 1: one prefix and one bucket of `_key` out of `buckets` (Iceberg's bucket transform).
    Level1 {
        /// The prefix.
        prefix: String,
        /// The bucket.
        bucket: u32,
        /// How many there are.
        buckets: u32,
    },
}

impl FileSet {
    pub(super) async fn load(state: &TableState) -> Result<Self> {
        let refused = |what: String| {
            let message = format!("table {}: {what}; Firn's tables take appends from Firn alone", state.name());
            CatalogError::new(ErrorKind::Conflict, message)
        };
        let mut found = Vec::new();
        for manifest in &state.manifests().await? {
            if !manifest.has_added_files() && !manifest.has_existing_files() {
                continue;
            }
            if manifest.content == ManifestContentType::Deletes {
                return Err(refused(format!(
                    "manifest {} lists delete files of another engine",
                    manifest.manifest_path
                )));
            }
            for entry in state.shared().entries(manifest).await?.iter().filter(|entry| entry.is_alive()) {
                let file = entry.data_file();
                if file.content_type() != DataContentType::Data || file.file_format() != DataFileFormat::Parquet {
                    return Err(refused(format!("{} is no Parquet data file", file.file_path())));
                }
                let spec = state.metadata().partition_spec_by_id(manifest.partition_spec_id);
                found.push((describe(state, file, spec.map(AsRef::as_ref))?, ManifestEntryRef::clone(entry)));
            }
        }
        found.sort_by(|(a, _), (b, _)| (a.seqs.0, a.path.as_ref()).cmp(&(b.seqs.0, b.path.as_ref())));
        let (files, entries) = found.into_iter().map(|(file, entry)| (Arc::new(file), entry)).unzip();
        let schema = Arc::clone(state.metadata().current_schema());
        Ok(Self { files, entries, schema, bounds: Mutex::default() })
    }

    /// The files, in order of their first seq.
    pub fn files(&self) -> &[Arc<DataFile>] {
        &self.files
    }

    /// Lower and upper bounds of a column, one value a file in the order of [`Self::files`], null where unknown, in the column's Arrow type.
    /// `None` if the column has no bounds at all (nested).
    pub fn bounds(&self, field_id: i32) -> Option<(ArrayRef, ArrayRef)> {
        let mut known = self.bounds.lock();
        known.entry(field_id).or_insert_with(|| self.collect_bounds(field_id)).clone()
    }

    fn collect_bounds(&self, field_id: i32) -> Bounds {
        let Type::Primitive(kind) = self.schema.field_by_id(field_id)?.field_type.as_ref() else { return None };
        let lower = self.entries.iter().map(|entry| entry.data_file().lower_bounds().get(&field_id));
        let upper = self.entries.iter().map(|entry| entry.data_file().upper_bounds().get(&field_id));
        Some((bounds_array(field_id, kind, lower)?, bounds_array(field_id, kind, upper)?))
    }

    /// Null counts of a column, one value a file, null where unknown.
    pub fn null_counts(&self, field_id: i32) -> Option<ArrayRef> {
        let counts = self.entries.iter().map(|entry| entry.data_file().null_value_counts().get(&field_id).copied());
        Some(Arc::new(UInt64Array::from_iter(counts)))
    }
}

/// Longer than any key or prefix, and made of the highest character: an upper bound where the manifest has none.
fn highest_text() -> String {
    "\u{10FFFF}".repeat(schemas::limits::KEY_BYTES_MAX / 4 + 1)
}

fn describe(state: &TableState, file: &iceberg::spec::DataFile, spec: Option<&PartitionSpec>) -> Result<DataFile> {
    let (lower, upper) = (file.lower_bounds(), file.upper_bounds());
    let seq = |bounds: &HashMap<i32, Datum>| match bounds.get(&field_id::SEQ).map(Datum::literal) {
        Some(PrimitiveLiteral::Long(seq)) => Some(Seq(*seq)),
        _ => None,
    };
    let texts = |id: i32| {
        let first = text(lower.get(&id)).unwrap_or_default();
        let last = text(upper.get(&id)).unwrap_or_else(highest_text);
        (first, last)
    };
    let newest = Seq(state.watermark().0.0 - 1);
    Ok(DataFile {
        path: state.shared().store.path(file.file_path())?,
        size: file.file_size_in_bytes(),
        rows: file.record_count(),
        seqs: (seq(lower).unwrap_or(Seq::FIRST), seq(upper).unwrap_or(newest)),
        keys: texts(field_id::KEY),
        prefixes: texts(field_id::PREFIX),
        sorted: file.sort_order_id() == Some(SORT_ORDER_ID),
        partition: partition(file.partition(), spec),
    })
}

fn text(bound: Option<&Datum>) -> Option<String> {
    match bound.map(Datum::literal) {
        Some(PrimitiveLiteral::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Files under specs that Firn does not know are taken as level 0: nothing is concluded from where they lie.
pub(super) fn partition(values: &Struct, spec: Option<&PartitionSpec>) -> Partition {
    let known = spec.and_then(level1_fields).and_then(|(prefix, bucket, buckets)| {
        let value = |index: usize| values.fields().get(index)?.as_ref().and_then(Literal::as_primitive_literal);
        match (value(prefix)?, value(bucket)?) {
            (PrimitiveLiteral::String(prefix), PrimitiveLiteral::Int(bucket)) => {
                Some(Partition::Level1 { prefix, bucket: bucket as u32, buckets })
            }
            _ => None,
        }
    });
    known.unwrap_or(Partition::Level0)
}
