//! One data file: there, whole, with the content that its name claims, what the manifest says of it, and rows that are right.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{DataFile, PrimitiveLiteral, Schema};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::Type;
use schemas::envelope::field_id;
use schemas::{ErrorKind, Seq};

use super::super::create::SORT_ORDER_ID;
use super::super::files::Partition;
use super::super::metrics::{Place, data_file};
use super::super::naming::{Hasher, claimed_id, content_id, own_range};
use super::rows::{Bounds, Rows, Rules};
use crate::audit::{Audited, Stop, agree, laws};
use crate::error::CatalogError;
use crate::storage::Store;

/// Files up to this size are read once, into memory; larger ones twice: for their hash, and row group by row group.
const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// Decoded bytes of the rows that are looked at together, about.
const BATCH_BYTES: i64 = 8 << 20;
/// Rows that are looked at together, at most.
const BATCH_ROWS_MAX: i64 = 8_192;

/// A live file, as a manifest has it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) entry: DataFile,
    pub(super) path: Path,
    /// The manifest that it stands in.
    pub(super) manifest: String,
    /// First and last seq, by the manifest's bounds.
    pub(super) seqs: (Seq, Seq),
    /// The partition that the manifest says it is in.
    pub(super) partition: Partition,
}

impl Planned {
    /// Its path in the store must be known already.
    pub(super) fn new(entry: DataFile, path: Path, manifest: String, newest: Seq, partition: Partition) -> Self {
        let bound = |datum: Option<&iceberg::spec::Datum>| match datum.map(iceberg::spec::Datum::literal) {
            Some(PrimitiveLiteral::Long(seq)) => Some(Seq(*seq)),
            _ => None,
        };
        let first = bound(entry.lower_bounds().get(&field_id::SEQ)).unwrap_or(Seq::FIRST);
        let last = bound(entry.upper_bounds().get(&field_id::SEQ)).unwrap_or(newest);
        Self { entry, path, manifest, seqs: (first, last), partition }
    }
}

/// Looks at all of it.
pub(super) async fn audit(store: Store, rules: Arc<Rules>, file: Planned, end: Seq) -> Audited<Rows> {
    let reader = open(&store, &file).await?;
    let object = file.path.to_string();
    let damaged = |place: String, error: &dyn std::fmt::Display| {
        Stop::fault_at(laws::INTACT, &object, place, "a Parquet file that can be read", error)
    };
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
    let builder = builder.map_err(|error| damaged("footer".to_owned(), &error))?;
    let footer = Arc::clone(builder.metadata());
    let rows = footer.file_metadata().num_rows();
    agree(laws::INTACT, &object, "rows by the footer", file.entry.record_count() as i64, rows)?;
    let own = own_range(rules.def.id, &object);
    if own.is_some() {
        check_entry(&rules, &file, &footer)?;
    }
    let seqs = match own {
        Some(range) => range,
        None => file.seqs.0..Seq((file.seqs.1.0 + 1).min(end.0)),
    };
    let is_sorted = file.entry.sort_order_id() == Some(SORT_ORDER_ID);
    let mut columns = HashSet::new();
    note_ids(footer.file_metadata().schema_descr().root_schema(), &mut columns);
    let is_early = rules.is_early(&seqs, &columns);
    let bounds = Bounds { object: object.clone(), seqs, is_sorted, partition: file.partition.clone(), is_early };

    let mut batches =
        builder.with_batch_size(batch_rows(&footer)).build().map_err(|error| damaged(String::new(), &error))?;
    let mut found = Rows::default();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| damaged(format!("from row {} on", found.count), &error))?;
        found.add(&rules, &bounds, &batch)?;
    }
    agree(laws::INTACT, &object, "rows", file.entry.record_count(), found.count)?;
    Ok(found)
}

/// The field ids of a file's columns, nested ones included.
fn note_ids(column: &Type, ids: &mut HashSet<i32>) {
    let info = column.get_basic_info();
    if info.has_id() {
        ids.insert(info.id());
    }
    if column.is_group() {
        column.get_fields().iter().for_each(|inner| note_ids(inner, ids));
    }
}

/// The bytes, checked against size and name.
async fn open(store: &Store, file: &Planned) -> Audited<Box<dyn AsyncFileReader>> {
    let Planned { entry, path, .. } = file;
    let read = |error: object_store::Error| match error {
        object_store::Error::NotFound { .. } => {
            Stop::fault(laws::INTACT, path, format!("a data file of {} bytes", entry.file_size_in_bytes()), "none")
        }
        error => Stop::Unseen(CatalogError::new(ErrorKind::Unavailable, path.to_string()).caused_by(error)),
    };
    let size = store.objects().head(path).await.map_err(read)?.size;
    agree(laws::INTACT, path, "bytes", entry.file_size_in_bytes(), size)?;
    let claimed = claimed_id(path.as_ref());
    if size <= WHOLE_BYTES_MAX {
        let content = store.objects().get(path).await.map_err(read)?.bytes().await.map_err(read)?;
        check_name(path, claimed, || content_id(&content))?;
        return Ok(Box::new(Cursor::new(content)));
    }
    if claimed.is_some() {
        let mut hasher = Hasher::new();
        let pieces = store.objects().get(path).await.map_err(read)?.into_stream();
        pieces
            .try_for_each(|piece: Bytes| {
                hasher.add(&piece);
                std::future::ready(Ok(()))
            })
            .await
            .map_err(read)?;
        check_name(path, claimed, || hasher.id())?;
    }
    let objects: Arc<dyn ObjectStore> = Arc::clone(store.objects());
    Ok(Box::new(ParquetObjectReader::new(objects, path.clone()).with_file_size(size)))
}

/// A file whose name claims a content must have it.
pub(super) fn check_name(
    object: impl std::fmt::Display,
    claimed: Option<uuid::Uuid>,
    found: impl FnOnce() -> uuid::Uuid,
) -> Audited<()> {
    match claimed {
        Some(claimed) => agree(laws::INTACT, object, "content hash", claimed, found()),
        None => Ok(()),
    }
}

/// What the manifest says of one of Firn's files is what its footer says, in the terms of one of the schemas that the table has had: types may have been
/// widened since, columns dropped.
fn check_entry(rules: &Rules, file: &Planned, footer: &ParquetMetaData) -> Audited<()> {
    let mut differs = None;
    for schema in &rules.schemas {
        match first_difference(file, footer, schema) {
            None => return Ok(()),
            Some(part) => differs = Some(part),
        }
    }
    let place = format!("entry of {}, {}", file.path, differs.unwrap_or("schema"));
    Err(Stop::fault_at(laws::INTACT, &file.manifest, place, "what the file's footer says", "something else"))
}

fn first_difference(file: &Planned, footer: &ParquetMetaData, schema: &Schema) -> Option<&'static str> {
    let entry = &file.entry;
    let (uri, size) = (entry.file_path().to_owned(), entry.file_size_in_bytes());
    // The types of a narrower schema do not hold what the file has.
    let place = Place { spec_id: 0, values: entry.partition().clone() };
    let Ok(said) = data_file(uri, size, footer, schema, place) else {
        return Some("statistics");
    };
    let parts = [
        ("sort order", said.sort_order_id() == entry.sort_order_id()),
        ("column sizes", said.column_sizes() == entry.column_sizes()),
        ("value counts", same(schema, said.value_counts(), entry.value_counts())),
        ("null counts", same(schema, said.null_value_counts(), entry.null_value_counts())),
        ("lower bounds", same(schema, said.lower_bounds(), entry.lower_bounds())),
        ("upper bounds", same(schema, said.upper_bounds(), entry.upper_bounds())),
        ("split offsets", said.split_offsets() == entry.split_offsets()),
    ];
    parts.into_iter().find(|(_, same)| !same).map(|(part, _)| part)
}

/// True if both say the same of the columns that the schema has.
fn same<T: PartialEq>(schema: &Schema, said: &HashMap<i32, T>, found: &HashMap<i32, T>) -> bool {
    let of = |map: &HashMap<i32, T>| map.keys().filter(|id| schema.field_by_id(**id).is_some()).count();
    of(said) == of(found) && said.iter().all(|(id, value)| found.get(id) == Some(value))
}

/// How many rows to look at together, so that wide rows take no more memory than narrow ones.
fn batch_rows(footer: &ParquetMetaData) -> usize {
    let widest = footer.row_groups().iter().map(|group| group.total_byte_size() / group.num_rows().max(1)).max();
    (BATCH_BYTES / widest.unwrap_or(1).max(1)).clamp(1, BATCH_ROWS_MAX) as usize
}
