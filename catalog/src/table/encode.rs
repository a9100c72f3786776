//! A flush's rows as one sorted Parquet file, laid out for look-ups by key.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::Schema as ArrowSchema;
use bytes::Bytes;
use iceberg::spec::Schema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{BloomFilterPosition, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use schemas::envelope::{self, column};
use schemas::{ErrorKind, limits};

use super::parquet_schema::parquet_schema;
use super::rowhash::RowHash;
use super::schema::{file_schema, to_file};
use super::sort::Order;
use crate::error::{CatalogError, Result};

/// Rows of a data page: what a look-up of one key decodes.
pub(crate) const PAGE_ROWS: usize = 1_000;
/// Rows of a row group.
pub(crate) const ROW_GROUP_ROWS: usize = 256 << 10;
/// Encoded bytes of a row group.
pub(crate) const ROW_GROUP_BYTES: usize = 128 << 20;
/// Bytes of a dictionary page, which every look-up in its column reads.
pub(crate) const DICTIONARY_BYTES: usize = 64 << 10;
/// Bytes of a string's bound in the footer and the manifest; the page index has up to [`limits::KEY_BYTES_MAX`], so keys are never cut there.
pub(crate) const BOUND_BYTES: usize = 128;
/// How often a bloom filter may say yes to an absent key.
pub(crate) const FALSE_POSITIVES: f64 = 0.01;
/// Level of zstd: sorted rows compress well at the cheapest.
pub(crate) const ZSTD_LEVEL: i32 = 1;
/// Arrow bytes that are gathered in sorted order at a time.
const GATHER_BYTES: usize = 8 << 20;
/// Rows that are gathered in sorted order at a time, at most.
const GATHER_ROWS_MAX: usize = 16 << 10;

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
/// Holds the rows' order (8 bytes a row), one gathered piece, and the file so far, besides the batches themselves.
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
    let mut writer =
        ArrowWriter::try_new_with_options(&mut file, Arc::clone(&schema), options).map_err(parquet_error)?;
    let sources: Vec<&RecordBatch> = batches.iter().collect();
    for piece in order.rows.chunks(gather_rows(batches, order.rows.len())) {
        let places: Vec<_> = piece.iter().map(|(batch, row)| (*batch as usize, *row as usize)).collect();
        let gathered = interleave_record_batch(&sources, &places).map_err(super::arrow_error)?;
        writer.write(&to_file(&gathered, &schema)?).map_err(parquet_error)?;
    }
    let footer = writer.close().map_err(parquet_error)?;
    Ok(Encoded { bytes: Bytes::from(file), footer, row_hash })
}

/// So many rows that a gathered piece has about [`GATHER_BYTES`].
fn gather_rows(batches: &[RecordBatch], rows: usize) -> usize {
    let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    (GATHER_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, GATHER_ROWS_MAX)
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
        .set_write_batch_size(PAGE_ROWS)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
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
