//! What a manifest says of a data file: sizes, counts and bounds by field id, taken from the file's own footer.

use std::collections::HashMap;

use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, PrimitiveType, Schema, Struct, Type,
};
use parquet::basic::Type as Physical;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use schemas::ErrorKind;

use super::create::{LEVEL0_SPEC_ID, SORT_ORDER_ID};
use super::iceberg_error;
use crate::error::{CatalogError, Result};

#[derive(Default)]
struct Metrics {
    sizes: HashMap<i32, u64>,
    values: HashMap<i32, u64>,
    nulls: HashMap<i32, u64>,
    lower: HashMap<i32, Datum>,
    upper: HashMap<i32, Datum>,
}

/// Where a data file stands: a partition spec, and the file's values under it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) spec_id: i32,
    pub(crate) values: Struct,
}

impl Place {
    /// That of a flush's file.
    pub(crate) fn level0() -> Self {
        Self { spec_id: LEVEL0_SPEC_ID, values: Struct::empty() }
    }
}

/// The manifest's entry for a file of Firn's: sorted as all of them are.
///
/// Fields inside lists and maps have a size only: their counts and bounds would be of elements, not of rows.
pub(crate) fn data_file(
    uri: String,
    bytes: u64,
    footer: &ParquetMetaData,
    schema: &Schema,
    place: Place,
) -> Result<DataFile> {
    let mut metrics = Metrics::default();
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        metrics.add(chunk, schema)?;
    }
    let splits = footer.row_groups().iter().filter_map(|group| group.file_offset()).collect();
    let built = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(uri)
        .file_format(DataFileFormat::Parquet)
        .partition(place.values)
        .partition_spec_id(place.spec_id)
        .record_count(footer.file_metadata().num_rows() as u64)
        .file_size_in_bytes(bytes)
        .column_sizes(metrics.sizes)
        .value_counts(metrics.values)
        .null_value_counts(metrics.nulls)
        .lower_bounds(metrics.lower)
        .upper_bounds(metrics.upper)
        .split_offsets(Some(splits))
        .sort_order_id(SORT_ORDER_ID)
        .build();
    built.map_err(|error| CatalogError::new(ErrorKind::Internal, "the entry of a data file").caused_by(error))
}

impl Metrics {
    fn add(&mut self, chunk: &ColumnChunkMetaData, schema: &Schema) -> Result<()> {
        let column = chunk.column_descr();
        let info = column.self_type().get_basic_info();
        if !info.has_id() {
            return Ok(());
        }
        let id = info.id();
        *self.sizes.entry(id).or_default() += chunk.compressed_size() as u64;
        let Some(Type::Primitive(kind)) = schema.field_by_id(id).map(|field| field.field_type.as_ref()) else {
            return Ok(());
        };
        let Some(statistics) = chunk.statistics().filter(|_| column.max_rep_level() == 0) else { return Ok(()) };
        *self.values.entry(id).or_default() += chunk.num_values() as u64;
        if let Some(nulls) = statistics.null_count_opt() {
            *self.nulls.entry(id).or_default() += nulls;
        }
        if let Some(bytes) = statistics.min_bytes_opt() {
            let bound = datum(bytes, kind, column.physical_type())?;
            merge(&mut self.lower, id, bound, |new, old| new < old);
        }
        if let Some(bytes) = statistics.max_bytes_opt() {
            let bound = datum(bytes, kind, column.physical_type())?;
            merge(&mut self.upper, id, bound, |new, old| new > old);
        }
        Ok(())
    }
}

fn merge(bounds: &mut HashMap<i32, Datum>, id: i32, new: Datum, wins: impl Fn(&Datum, &Datum) -> bool) {
    match bounds.get(&id) {
        Some(old) if !wins(&new, old) => {}
        _ => {
            bounds.insert(id, new);
        }
    }
}

/// Parquet's bytes of a bound are Iceberg's, but for decimals that Parquet keeps as little-endian integers.
fn datum(bytes: &[u8], kind: &PrimitiveType, physical: Physical) -> Result<Datum> {
    let is_integer = matches!(physical, Physical::INT32 | Physical::INT64);
    let read = match kind {
        PrimitiveType::Decimal { .. } if is_integer => {
            let big_endian: Vec<u8> = bytes.iter().rev().copied().collect();
            Datum::try_from_bytes(&big_endian, kind.clone())
        }
        _ => Datum::try_from_bytes(bytes, kind.clone()),
    };
    read.map_err(|error| iceberg_error("a column bound from a Parquet footer", error))
}
