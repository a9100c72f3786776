//! A flush's rows as one sorted Parquet file, laid out for look-ups by key.

use std::io::Write;
use std::sync::Arc;
use std::vec;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef};
use bytes::Bytes;
use iceberg::spec::Schema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{BloomFilterPosition, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use schemas::envelope::{self, column};
use schemas::{ErrorKind, limits};

use super::parquet_schema::parquet_schema;
use super::rowhash::RowHash;
use super::schema::file_schema;
use super::sort::Order;
use crate::error::{CatalogError, Result};

/// Rows of a data page at most: what a look-up of one key decodes.
pub(crate) const PAGE_ROWS: usize = 1_000;
/// Bytes of a data page, about: a look-up should not pay for a thousand long texts to read one.
pub(crate) const PAGE_BYTES: usize = 16 << 10;
/// Rows after which the size of a page is looked at.
const PAGE_STEP_ROWS: usize = 125;
/// Rows of a row group.
pub(crate) const ROW_GROUP_ROWS: usize = 256 << 10;
/// Arrow bytes of a row group, about.
pub(crate) const ROW_GROUP_BYTES: usize = 128 << 20;
/// Bytes of a dictionary page, which every look-up in its column reads.
pub(crate) const DICTIONARY_BYTES: usize = 8 << 10;
/// Bytes of a string's bound in the footer and the manifest; the page index has up to [`limits::KEY_BYTES_MAX`], so keys are never cut there.
pub(crate) const BOUND_BYTES: usize = 128;
/// How often a bloom filter may say yes to an absent key.
pub(crate) const FALSE_POSITIVES: f64 = 0.01;
/// Level of zstd: sorted rows compress well at the cheapest.
pub(crate) const ZSTD_LEVEL: i32 = 1;
/// Rows of a column that are put in order and encoded at a time, at most.
const PIECE_ROWS_MAX: usize = 16 << 10;
/// Arrow bytes of such a piece, about.
const PIECE_BYTES: usize = 4 << 20;

/// A Parquet file in memory.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The file.
    pub(crate) bytes: Bytes,
    /// Its footer.
    pub(crate) footer: ParquetMetaData,
    /// Hash of its rows.
    pub(crate) row_hash: RowHash,
}

/// Sorts and encodes rows in seq order with the event schema. Takes CPU for its whole length: not for an async thread.
///
/// Goes column by column: each is joined, put in order piece by piece, and encoded before the next is looked at. So it holds one column
/// besides the batches themselves, the rows' order (4 bytes a row), and the file so far.
pub(crate) fn encode(batches: &[RecordBatch], event: &ArrowSchema, table: &Schema) -> Result<Encoded> {
    let order = Order::of(batches);
    let mut row_hash = RowHash::default();
    for batch in batches {
        row_hash = row_hash + RowHash::of(batch)?;
    }

    let schema = file_schema(event);
    let layout = parquet_schema(&schema, table).map_err(parquet_error)?;
    let options = ArrowWriterOptions::new()
        .with_properties(properties(&layout, order.distinct.min(ROW_GROUP_ROWS)))
        .with_parquet_schema(layout);
    let mut file = Vec::new();
    let writer = ArrowWriter::try_new_with_options(&mut file, Arc::clone(&schema), options).map_err(parquet_error)?;
    let (mut writer, factory) = writer.into_serialized_writer().map_err(parquet_error)?;

    let mut groups = RowGroup::split(&order.rows, row_group_rows(batches, order.rows.len()), &factory)?;
    for (index, field) in schema.fields().iter().enumerate() {
        let column = joined(batches, index, field)?;
        groups.iter_mut().try_for_each(|group| group.encode(field, &column))?;
    }
    groups.into_iter().try_for_each(|group| group.append_to(&mut writer)).map_err(parquet_error)?;
    let footer = writer.close().map_err(parquet_error)?;
    Ok(Encoded { bytes: Bytes::from(file), footer, row_hash })
}

/// A row group on its way: where its rows come from, the writers of its columns that are yet to come, and those that are done.
struct RowGroup {
    rows: UInt32Array,
    writers: vec::IntoIter<ArrowColumnWriter>,
    chunks: Vec<ArrowColumnChunk>,
}

impl RowGroup {
    fn split(order: &UInt32Array, rows: usize, factory: &ArrowRowGroupWriterFactory) -> Result<Vec<Self>> {
        let group = |(number, start)| {
            let writers = factory.create_column_writers(number).map_err(parquet_error)?.into_iter();
            let rows = order.slice(start, rows.min(order.len() - start));
            Ok(Self { rows, chunks: Vec::with_capacity(writers.len()), writers })
        };
        (0..order.len()).step_by(rows).enumerate().map(group).collect()
    }

    /// Encodes this group's rows of one column, `column` being all of it in seq order.
    fn encode(&mut self, field: &Field, column: &ArrayRef) -> Result<()> {
        let piece_rows = rows_in(PIECE_BYTES, column.get_array_memory_size(), column.len()).min(PIECE_ROWS_MAX);
        let mut writers: Vec<ArrowColumnWriter> = Vec::new();
        for start in (0..self.rows.len()).step_by(piece_rows) {
            let rows = self.rows.slice(start, piece_rows.min(self.rows.len() - start));
            let piece = take(column, &rows, None).map_err(super::arrow_error)?;
            let leaves = compute_leaves(field, &piece).map_err(parquet_error)?;
            if start == 0 {
                writers.extend(self.writers.by_ref().take(leaves.len()));
            }
            for (writer, leaf) in writers.iter_mut().zip(&leaves) {
                writer.write(leaf).map_err(parquet_error)?;
            }
        }
        for writer in writers {
            self.chunks.push(writer.close().map_err(parquet_error)?);
        }
        Ok(())
    }

    fn append_to<W: Write + Send>(self, file: &mut SerializedFileWriter<W>) -> parquet::errors::Result<()> {
        let mut group = file.next_row_group()?;
        self.chunks.into_iter().try_for_each(|chunk| chunk.append_to_row_group(&mut group))?;
        group.close().map(drop)
    }
}

/// One column of all batches, in the type that it has in files.
fn joined(batches: &[RecordBatch], index: usize, field: &Field) -> Result<ArrayRef> {
    let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(index).as_ref()).collect();
    let column = concat(&parts).map_err(super::arrow_error)?;
    match column.data_type() == field.data_type() {
        true => Ok(column),
        false => cast(&column, field.data_type()).map_err(super::arrow_error),
    }
}

fn row_group_rows(batches: &[RecordBatch], rows: usize) -> usize {
    rows_in(ROW_GROUP_BYTES, batches.iter().map(batch_bytes).sum(), rows).clamp(PAGE_ROWS, ROW_GROUP_ROWS)
}

/// Arrow bytes of a batch's rows.
fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum()
}

/// How many rows have about `budget` bytes, when `rows` have `bytes`; at least one.
fn rows_in(budget: usize, bytes: usize, rows: usize) -> usize {
    (budget / (bytes / rows.max(1)).max(1)).max(1)
}

/// A file of rows that come batch by batch, already in order. Holds the Arrow rows of its first row group, then what is encoded.
pub(crate) struct Encoder {
    event: ArrowSchemaRef,
    layout: SchemaDescriptor,
    /// Rows of the first row group: how the others are made is told by them.
    first: Vec<RecordBatch>,
    first_bytes: usize,
    /// Arrow bytes of a row group, about.
    group_bytes: usize,
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows: usize,
    row_hash: RowHash,
}

impl Encoder {
    /// `event`: the schema that batches have. `beside`: how many files are written side by side; their row groups share the memory of one.
    pub(crate) fn new(event: &ArrowSchema, table: &Schema, beside: usize) -> Result<Self> {
        let event = file_schema(event);
        let layout = parquet_schema(&event, table).map_err(parquet_error)?;
        let (group_bytes, first, row_hash) = (ROW_GROUP_BYTES / beside.max(1), Vec::new(), RowHash::default());
        Ok(Self { event, layout, first, first_bytes: 0, group_bytes, writer: None, rows: 0, row_hash })
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds rows that come after those before. Takes CPU for its whole length.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.row_hash = self.row_hash + RowHash::of(batch)?;
        if let Some(writer) = &mut self.writer {
            return writer.write(&cast_all(batch, &self.event)?).map_err(parquet_error);
        }
        self.first_bytes += batch_bytes(batch);
        self.first.push(cast_all(batch, &self.event)?);
        if self.rows >= ROW_GROUP_ROWS || self.first_bytes >= self.group_bytes / 2 {
            self.begin()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let (batches, bytes) = (std::mem::take(&mut self.first), std::mem::take(&mut self.first_bytes));
        let group_rows = rows_in(self.group_bytes, bytes, self.rows).clamp(PAGE_ROWS, ROW_GROUP_ROWS);
        let keys = distinct_keys(&batches).saturating_mul(group_rows) / self.rows.clamp(1, group_rows);
        let layout = self.layout.clone();
        let properties = properties(&layout, keys.min(group_rows)).into_builder();
        let options = ArrowWriterOptions::new()
            .with_properties(properties.set_max_row_group_row_count(Some(group_rows)).build())
            .with_parquet_schema(layout);
        let schema = Arc::clone(&self.event);
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options).map_err(parquet_error)?;
        batches.iter().try_for_each(|batch| writer.write(batch)).map_err(parquet_error)?;
        self.writer = Some(writer);
        Ok(())
    }

    /// The file. Takes CPU for its whole length.
    pub(crate) fn finish(mut self) -> Result<Encoded> {
        if self.writer.is_none() {
            self.begin()?;
        }
        let unbegun = || CatalogError::new(ErrorKind::Internal, "a data file was finished before it was begun");
        let mut writer = self.writer.ok_or_else(unbegun)?;
        let footer = writer.finish().map_err(parquet_error)?;
        let bytes = std::mem::take(writer.inner_mut());
        Ok(Encoded { bytes: Bytes::from(bytes), footer, row_hash: self.row_hash })
    }
}

/// The columns of a batch in the types that they have in files.
fn cast_all(batch: &RecordBatch, file: &ArrowSchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(file.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(Arc::clone(column)) } else { cast(column, field.data_type()) }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(super::arrow_error)?;
    RecordBatch::try_new(Arc::clone(file), columns).map_err(super::arrow_error)
}

/// How many distinct keys there are in sorted batches; one under two prefixes counts twice.
fn distinct_keys(batches: &[RecordBatch]) -> usize {
    let mut last = None;
    let mut count = 0;
    for batch in batches {
        let text = |index: usize| batch.column(index).as_string::<i32>();
        for pair in text(column::PREFIX).iter().zip(text(column::KEY)) {
            count += usize::from(last != Some(pair));
            last = Some(pair);
        }
    }
    count
}

fn properties(layout: &SchemaDescriptor, keys: usize) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("it is one of zstd's levels");
    let key = ColumnPath::from(envelope::KEY);
    let sorted_by = [column::PREFIX, column::KEY, column::SEQ].map(|index| SortingColumn {
        column_idx: index as i32,
        descending: false,
        nulls_first: true,
    });
    debug_assert!(sorted_by.iter().all(|by| layout.column(by.column_idx as usize).path().parts().len() == 1));
    WriterProperties::builder()
        .set_created_by(concat!("firn ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(PAGE_STEP_ROWS)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_column_index_truncate_length(Some(limits::KEY_BYTES_MAX))
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_sorting_columns(Some(sorted_by.to_vec()))
        .set_bloom_filter_position(BloomFilterPosition::End)
        // Sorted keys and positions that never repeat gain nothing from a dictionary, and a look-up would read it first.
        .set_column_dictionary_enabled(key.clone(), false)
        .set_column_dictionary_enabled(ColumnPath::from(envelope::SEQ), false)
        .set_column_dictionary_enabled(ColumnPath::from(envelope::TIME), false)
        .set_column_bloom_filter_enabled(key.clone(), true)
        .set_column_bloom_filter_fpp(key.clone(), FALSE_POSITIVES)
        .set_column_bloom_filter_ndv(key, keys.max(1) as u64)
        .build()
}

fn parquet_error(error: parquet::errors::ParquetError) -> CatalogError {
    CatalogError::new(ErrorKind::Internal, "rows could not be written as Parquet").caused_by(error)
}
