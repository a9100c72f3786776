//! By what a batch that is sent twice is recognised: a hash of what it says, not of how it lies in memory.
//!
//! A retry was perhaps cut from another buffer, or compressed otherwise: offsets, padding, and what stands under a null must not count. Names, types
//! and the order of columns do: the same producer sends the same.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, filter, is_not_null};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use schemas::ErrorKind;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{IngestError, Result};

/// XXH3-128 of the names, types and values of all columns, and of `policy`: what else decides the answer.
///
/// Errors: `Invalid` for a column of a type that no field can be made of.
pub(crate) fn hash(batch: &RecordBatch, policy: u8) -> Result<u128> {
    let mut state = Xxh3::new();
    state.update(&[policy]);
    state.update(&(batch.num_rows() as u64).to_le_bytes());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        add_bytes(&mut state, field.name().as_bytes());
        add_bytes(&mut state, field.data_type().to_string().as_bytes());
        add(&mut state, column).map_err(|error| {
            IngestError::new(ErrorKind::Invalid, format!("column {}: cannot be compared: {error}", field.name()))
        })?;
    }
    Ok(state.digest128())
}

fn add_bytes(state: &mut Xxh3, bytes: &[u8]) {
    state.update(&(bytes.len() as u64).to_le_bytes());
    state.update(bytes);
}

fn add(state: &mut Xxh3, column: &ArrayRef) -> Result<(), ArrowError> {
    match column.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            state.update(&[0]);
            add_dense(state, column)
        }
        Some(_) => {
            let valid = is_not_null(column)?;
            state.update(&[1]);
            add_bits(state, &valid);
            add_dense(state, &filter(column, &valid)?)
        }
    }
}

fn add_bits(state: &mut Xxh3, bits: &BooleanArray) {
    bits.values().bit_chunks().iter_padded().for_each(|chunk| state.update(&chunk.to_le_bytes()));
}

/// A column without nulls of its own.
fn add_dense(state: &mut Xxh3, column: &ArrayRef) -> Result<(), ArrowError> {
    match column.data_type() {
        DataType::Null => Ok(()),
        DataType::Boolean => {
            add_bits(state, column.as_boolean());
            Ok(())
        }
        DataType::Utf8 => add_texts(state, column.as_string::<i32>().offsets(), column.as_string::<i32>().value_data()),
        DataType::LargeUtf8 => {
            add_texts(state, column.as_string::<i64>().offsets(), column.as_string::<i64>().value_data())
        }
        DataType::Binary => {
            add_texts(state, column.as_binary::<i32>().offsets(), column.as_binary::<i32>().value_data())
        }
        DataType::LargeBinary => {
            add_texts(state, column.as_binary::<i64>().offsets(), column.as_binary::<i64>().value_data())
        }
        DataType::Struct(_) => column.as_struct().columns().iter().try_for_each(|member| add(state, member)),
        DataType::List(_) => add_list(state, column.as_list::<i32>().offsets(), column.as_list::<i32>().values()),
        DataType::LargeList(_) => add_list(state, column.as_list::<i64>().offsets(), column.as_list::<i64>().values()),
        DataType::Map(_, _) => {
            let entries: ArrayRef = Arc::new(column.as_map().entries().clone());
            add_list(state, column.as_map().offsets(), &entries)
        }
        DataType::FixedSizeList(_, _) => {
            let list = column.as_fixed_size_list();
            let width = list.value_length() as usize;
            add(state, &list.values().slice(list.offset() * width, list.len() * width))
        }
        DataType::Dictionary(_, values) => add(state, &cast(column, values)?),
        DataType::RunEndEncoded(_, values) => add(state, &cast(column, values.data_type())?),
        DataType::Utf8View => add(state, &cast(column, &DataType::LargeUtf8)?),
        DataType::BinaryView => add(state, &cast(column, &DataType::LargeBinary)?),
        other => add_fixed(state, column, fixed_width(other)?),
    }
}

fn fixed_width(of: &DataType) -> Result<usize, ArrowError> {
    match of {
        DataType::FixedSizeBinary(width) => Ok(*width as usize),
        other => other
            .primitive_width()
            .ok_or_else(|| ArrowError::NotYetImplemented(format!("a value of type {other} has no plain form"))),
    }
}

fn add_fixed(state: &mut Xxh3, column: &ArrayRef, width: usize) -> Result<(), ArrowError> {
    let data = column.to_data();
    let start = data.offset() * width;
    state.update(&data.buffers()[0].as_slice()[start..start + data.len() * width]);
    Ok(())
}

fn add_texts<O: OffsetSizeTrait>(state: &mut Xxh3, offsets: &OffsetBuffer<O>, bytes: &[u8]) -> Result<(), ArrowError> {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    offsets.lengths().for_each(|length| state.update(&(length as u64).to_le_bytes()));
    state.update(&bytes[first..last]);
    Ok(())
}

fn add_list<O: OffsetSizeTrait>(
    state: &mut Xxh3,
    offsets: &OffsetBuffer<O>,
    elements: &ArrayRef,
) -> Result<(), ArrowError> {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    offsets.lengths().for_each(|length| state.update(&(length as u64).to_le_bytes()));
    add(state, &elements.slice(first, last - first))
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, ListArray, StringArray, StructArray};
    use arrow::compute::concat;
    use arrow::datatypes::{Field, Int32Type};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::batch;

    fn of(column: ArrayRef) -> u128 {
        hash(&batch(vec![("column", column)]), 0).unwrap()
    }

    /// The same values, cut out of the middle of something larger.
    fn elsewhere(column: &ArrayRef) -> ArrayRef {
        concat(&[column, column, column]).unwrap().slice(column.len(), column.len())
    }

    fn columns(numbers: &[Option<i32>]) -> Vec<ArrayRef> {
        let texts = || numbers.iter().map(|number| number.map(|number| "x".repeat(number as usize % 5)));
        let ints = Int32Array::from(numbers.to_vec());
        let bools: BooleanArray = numbers.iter().map(|number| number.map(|number| number % 2 == 0)).collect();
        let lists = numbers.iter().map(|number| number.map(|number| vec![Some(number), None, Some(7)]));
        let nulls = ints.nulls().cloned();
        let member = Arc::new(Field::new("n", DataType::Int32, true));
        vec![
            Arc::new(texts().collect::<StringArray>()),
            Arc::new(bools),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            cast(&(Arc::new(texts().collect::<StringArray>()) as ArrayRef), &DataType::Utf8View).unwrap(),
            Arc::new(StructArray::new(vec![member].into(), vec![Arc::new(ints.clone())], nulls)),
            Arc::new(ints),
        ]
    }

    proptest! {
        #[test]
        fn how_values_lie_in_memory_does_not_count(numbers in prop::collection::vec(prop::option::of(0..100i32), 1..40)) {
            for column in columns(&numbers) {
                prop_assert_eq!(of(elsewhere(&column)), of(Arc::clone(&column)), "{}", column.data_type());
            }
        }

        #[test]
        fn another_value_in_one_row_is_another_content(
            numbers in prop::collection::vec(prop::option::of(0..100i32), 1..40),
            at in any::<prop::sample::Index>(),
        ) {
            let mut others = numbers.clone();
            let at = at.index(numbers.len());
            others[at] = numbers[at].map_or(Some(1), |number| Some(number + 1));
            for (column, other) in columns(&numbers).into_iter().zip(columns(&others)) {
                prop_assert_ne!(of(Arc::clone(&column)), of(other), "{}", column.data_type());
            }
        }
    }

    #[test]
    fn what_stands_under_a_null_does_not_count() {
        let nulls = Some(vec![true, false].into());
        let one = Int32Array::new(vec![1, 2].into(), nulls.clone());
        let other = Int32Array::new(vec![1, 3].into(), nulls);
        assert_eq!(of(Arc::new(one)), of(Arc::new(other)));
    }

    #[test]
    fn a_dictionary_is_what_it_stands_for() {
        let one = DictionaryArray::<Int32Type>::new(vec![0, 1, 0].into(), Arc::new(StringArray::from(vec!["a", "b"])));
        let other =
            DictionaryArray::<Int32Type>::new(vec![1, 0, 1].into(), Arc::new(StringArray::from(vec!["b", "a"])));
        assert_eq!(of(Arc::new(one)), of(Arc::new(other)));
    }

    #[test]
    fn where_one_text_ends_and_the_next_begins_counts_and_so_does_the_policy() {
        let texts = |texts: Vec<&str>| Arc::new(StringArray::from(texts)) as ArrayRef;
        assert_ne!(of(texts(vec!["ab", "c"])), of(texts(vec!["a", "bc"])));
        let rows = batch(vec![("column", texts(vec!["a"]))]);
        assert_ne!(hash(&rows, 0).unwrap(), hash(&rows, 1).unwrap());
    }
}
