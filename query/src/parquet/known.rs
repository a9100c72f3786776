//! Columns whose values are known without reading them: all null, or all the same, by what the footer says of a whole row group.
//!
//! Headers that nobody sent, the kind of events that are all events: every file has some, and a look-up pays for each column that it must open.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::basic::Repetition;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use ::parquet::file::page_index::column_index::ColumnIndexMetaData;
use ::parquet::file::statistics::Statistics;
use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;

use super::file::OpenFile;

/// For each row group and top-level column, the one value (or null) that all its rows have; `None` if they differ or it is not known.
pub(super) fn fixed_values(metadata: &ParquetMetaData, schema: &Schema) -> Vec<Vec<Option<ArrayRef>>> {
    let layout = metadata.file_metadata().schema_descr();
    let leaves_of =
        |root: usize| (0..layout.num_columns()).filter(move |leaf| layout.get_column_root_idx(*leaf) == root);
    let of_group = |chunks: &[ColumnChunkMetaData], rows: i64| {
        let of_root = |(root, field): (usize, &Arc<arrow::datatypes::Field>)| {
            let optional =
                layout.root_schema().get_fields()[root].get_basic_info().repetition() == Repetition::OPTIONAL;
            let mut leaves = leaves_of(root).map(|leaf| &chunks[leaf]).peekable();
            let first = *leaves.peek()?;
            if optional && leaves.all(|chunk| undefined(chunk, rows)) {
                return Some(new_null_array(field.data_type(), 1));
            }
            only_value(first, field.data_type())
        };
        schema.fields().iter().enumerate().map(of_root).collect()
    };
    metadata.row_groups().iter().map(|group| of_group(group.columns(), group.num_rows())).collect()
}

/// True if the footer says that all rows of a leaf under an optional column are null from that column on (definition level 0).
fn undefined(chunk: &ColumnChunkMetaData, rows: i64) -> bool {
    chunk.definition_level_histogram().and_then(|levels| levels.get(0)) == Some(rows)
}

/// The value of a column that is not nested, has no nulls, and whose bounds are one.
fn only_value(chunk: &ColumnChunkMetaData, kind: &DataType) -> Option<ArrayRef> {
    let statistics = chunk.statistics()?;
    let exact = statistics.min_is_exact() && statistics.max_is_exact() && statistics.null_count_opt() == Some(0);
    if !exact || statistics.min_bytes_opt()? != statistics.max_bytes_opt()? || chunk.column_descr().max_rep_level() > 0
    {
        return None;
    }
    match (statistics, kind) {
        (Statistics::Int32(value), DataType::Int32) => Some(Arc::new(Int32Array::from(vec![*value.min_opt()?]))),
        (Statistics::Int64(value), DataType::Int64) => Some(Arc::new(Int64Array::from(vec![*value.min_opt()?]))),
        (Statistics::ByteArray(value), DataType::Utf8) => {
            Some(Arc::new(StringArray::from(vec![value.min_opt()?.as_utf8().ok()?])))
        }
        _ => None,
    }
}

/// A text column over `rows`, if each of the ranges lies in a page without nulls whose bounds are one value.
///
/// Bounds that were cut short differ (the upper is rounded up), so bounds that are equal are the value.
pub(crate) fn text_by_pages(file: &OpenFile, leaf: usize, rows: &[Range<usize>]) -> Option<ArrayRef> {
    let parquet = file.metadata.parquet();
    let (bounds, offsets) = (parquet.column_index()?, parquet.offset_index()?);
    let mut values: Vec<&str> = Vec::new();
    for range in rows {
        let (number, place) = file.row_groups().find(|(_, place)| place.contains(&range.start))?;
        let ColumnIndexMetaData::BYTE_ARRAY(bounds) = &bounds[number][leaf] else { return None };
        let pages = offsets[number][leaf].page_locations();
        let page = pages.partition_point(|page| page.first_row_index as usize <= range.start - place.start) - 1;
        let end = pages.get(page + 1).map_or(place.end, |next| place.start + next.first_row_index as usize);
        let value = bounds.min_value(page).filter(|lower| bounds.max_value(page) == Some(lower))?;
        if range.end > end || bounds.null_count(page) != Some(0) {
            return None;
        }
        let value = std::str::from_utf8(value).ok()?;
        values.extend(std::iter::repeat_n(value, range.len()));
    }
    Some(Arc::new(StringArray::from(values)))
}

/// One column out of values that hold for so many rows each.
pub(super) fn spread(parts: &[(&ArrayRef, usize)]) -> Result<ArrayRef, ArrowError> {
    let repeat = |(value, rows): &(&ArrayRef, usize)| take(value, &UInt32Array::from(vec![0; *rows]), None);
    match parts {
        [one] => repeat(one),
        several => {
            let parts = several.iter().map(repeat).collect::<Result<Vec<_>, _>>()?;
            concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())
        }
    }
}
