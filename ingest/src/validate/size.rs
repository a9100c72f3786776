//! How large events are, measured before anything is unpacked: a dictionary or a view of a few bytes can stand for gigabytes.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{ByteViewType, DataType, UInt64Type};
use arrow::record_batch::RecordBatch;
use schemas::{SchemaError, limits};

/// What a slot of a column without bytes of its own counts as; it will get some once it has the topic's type.
const NULL_BYTES: u64 = 8;

/// Refuses a batch that is over a limit as a whole.
///
/// Errors: [`SchemaError::Batch`].
pub(super) fn check_batch(batch: &RecordBatch) -> Result<(), SchemaError> {
    if batch.num_rows() > limits::BATCH_ROWS_MAX {
        let (max, found) = (limits::BATCH_ROWS_MAX, batch.num_rows());
        return Err(SchemaError::Batch(format!("expected at most {max} rows, found {found}: send several batches")));
    }
    check_bytes(bytes(batch.columns(), 0..batch.num_rows())?)
}

/// Refuses so many bytes in one batch. Errors: [`SchemaError::Batch`].
pub(super) fn check_bytes(found: u64) -> Result<(), SchemaError> {
    let max = limits::BATCH_BYTES_MAX;
    if found <= max as u64 {
        return Ok(());
    }
    Err(SchemaError::Batch(format!(
        "expected at most {max} bytes with every column in the topic's type, found {found}: send several batches"
    )))
}

/// Rows over the limit of one event, with their bytes.
pub(super) fn oversized(batch: &RecordBatch) -> Result<Vec<(usize, u64)>, SchemaError> {
    let max = limits::EVENT_BYTES_MAX as u64;
    // Mostly one look a column tells that no row can be too large.
    let mut bound = 0u64;
    for column in batch.columns() {
        bound = bound.saturating_add(longest(column)?);
    }
    let mut found = Vec::new();
    if bound > max {
        for row in 0..batch.num_rows() {
            let bytes = bytes(batch.columns(), row..row + 1)?;
            if bytes > max {
                found.push((row, bytes));
            }
        }
    }
    Ok(found)
}

/// Bytes of some rows of some columns: values and offsets, as if nothing were shared between slots.
pub(super) fn bytes(columns: &[ArrayRef], rows: Range<usize>) -> Result<u64, SchemaError> {
    columns.iter().try_fold(0u64, |sum, column| Ok(sum.saturating_add(span(column, rows.clone())?)))
}

/// At least as much as any single row of the column has.
fn longest(array: &ArrayRef) -> Result<u64, SchemaError> {
    let longest = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().offsets().lengths().max(),
        DataType::Binary => array.as_binary::<i32>().offsets().lengths().max(),
        _ => return span(array, 0..if array.data_type().is_primitive() { array.len().min(1) } else { array.len() }),
    };
    Ok(longest.unwrap_or(0) as u64 + 4)
}

/// Bytes of some slots of an array. Errors: [`SchemaError::Batch`] for a type that no topic has.
fn span(array: &ArrayRef, slots: Range<usize>) -> Result<u64, SchemaError> {
    let count = slots.len() as u64;
    Ok(match array.data_type() {
        DataType::Null => count * NULL_BYTES,
        DataType::Boolean => count / 8,
        DataType::FixedSizeBinary(width) => count * *width as u64,
        DataType::Utf8 => offsets(array.as_string::<i32>().offsets(), slots),
        DataType::LargeUtf8 => offsets(array.as_string::<i64>().offsets(), slots),
        DataType::Binary => offsets(array.as_binary::<i32>().offsets(), slots),
        DataType::LargeBinary => offsets(array.as_binary::<i64>().offsets(), slots),
        DataType::Utf8View => views(array.as_string_view(), slots),
        DataType::BinaryView => views(array.as_binary_view(), slots),
        DataType::Struct(_) => bytes(array.as_struct().columns(), slots)?,
        DataType::List(_) => lists(array.as_list::<i32>().values(), array.as_list::<i32>().offsets(), slots)?,
        DataType::LargeList(_) => lists(array.as_list::<i64>().values(), array.as_list::<i64>().offsets(), slots)?,
        DataType::Map(_, _) => {
            let map = array.as_map();
            let elements = range(map.offsets(), slots);
            (count * 4).saturating_add(bytes(map.entries().columns(), elements)?)
        }
        DataType::FixedSizeList(_, size) => {
            let size = *size as usize;
            let elements = span(array.as_fixed_size_list().values(), slots.start * size..slots.end * size)?;
            (count * 4).saturating_add(elements)
        }
        DataType::Dictionary(_, _) => dictionary(array, slots)?,
        other => match other.primitive_width() {
            Some(width) => count * width as u64,
            None => return Err(SchemaError::Batch(format!("Arrow type {other} is none that a topic can have"))),
        },
    })
}

fn range<O: OffsetSizeTrait>(offsets: &[O], slots: Range<usize>) -> Range<usize> {
    offsets[slots.start].as_usize()..offsets[slots.end].as_usize()
}

fn offsets<O: OffsetSizeTrait>(offsets: &[O], slots: Range<usize>) -> u64 {
    let count = slots.len() as u64;
    range(offsets, slots).len() as u64 + 4 * count
}

fn lists<O: OffsetSizeTrait>(values: &ArrayRef, offsets: &[O], slots: Range<usize>) -> Result<u64, SchemaError> {
    let count = slots.len() as u64;
    Ok((count * 4).saturating_add(span(values, range(offsets, slots))?))
}

fn views<T: ByteViewType>(array: &arrow::array::GenericByteViewArray<T>, slots: Range<usize>) -> u64 {
    // The lower half of a view is its length.
    array.views()[slots].iter().map(|view| u64::from(*view as u32) + 4).sum()
}

fn dictionary(array: &ArrayRef, slots: Range<usize>) -> Result<u64, SchemaError> {
    let dictionary = array.as_any_dictionary();
    let values = dictionary.values();
    let sizes = (0..values.len()).map(|value| span(values, value..value + 1)).collect::<Result<Vec<_>, _>>()?;
    let keys = cast(&dictionary.keys().slice(slots.start, slots.len()), &DataType::UInt64)
        .map_err(|error| SchemaError::Batch(format!("dictionary keys: {error}")))?;
    let keys = keys.as_primitive::<UInt64Type>().iter();
    // A null slot's key means nothing.
    let size = |key: Option<u64>| key.and_then(|key| sizes.get(key as usize)).copied().unwrap_or(4);
    Ok(keys.map(size).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, DictionaryArray, Int32Array, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        let field = Field::new("a", column.data_type().clone(), true);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    #[test]
    fn a_small_dictionary_that_stands_for_gigabytes_is_refused_unread() {
        let value = "x".repeat(1 << 20);
        let values: ArrayRef = Arc::new(StringArray::from(vec![value]));
        let keys = Int32Array::from_value(0, 10_000);
        let column = DictionaryArray::<Int32Type>::try_new(keys, values).unwrap();
        let error = check_batch(&batch(Arc::new(column))).unwrap_err().to_string();
        assert!(error.contains("at most 67108864 bytes"), "{error}");
    }

    #[test]
    fn views_that_share_their_bytes_count_each_time() {
        let value = "y".repeat(1 << 20);
        let mut column = StringViewArray::from(vec![value.as_str()]);
        let (views, buffers, _) = column.clone().into_parts();
        let many = vec![views[0]; 100];
        column = StringViewArray::try_new(many.into(), buffers, None).unwrap();
        assert!(check_batch(&batch(Arc::new(column))).is_err());
    }

    #[test]
    fn a_row_over_the_limit_is_named() {
        let large = vec![b'z'; limits::EVENT_BYTES_MAX + 1];
        let column = BinaryArray::from(vec![&b"small"[..], &large, &b"small"[..]]);
        let found = oversized(&batch(Arc::new(column))).unwrap();
        assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
    }
}
