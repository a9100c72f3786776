//! How many bytes a batch keeps from being freed.
//!
//! Arrow arrays share allocations: a key column may be a payload column, all columns of a decoded message are slices of one buffer, a slice
//! keeps what it was cut from. Adding up arrays would count some bytes many times and miss others, so allocations are counted, each once.

use std::collections::HashSet;

use arrow::array::{Array, ArrayData, ArrayRef};
use arrow::buffer::Buffer;

/// What an array costs beside its buffers, bytes: roughly its structs and their allocations. It is most of what a batch of one row costs.
const ARRAY_BYTES: usize = 192;

/// The distinct allocations behind some arrays.
#[derive(Debug, Default)]
pub(crate) struct Held {
    seen: HashSet<usize>,
    arrays: usize,
    buffer_bytes: usize,
}

impl Held {
    /// Bytes of the distinct allocations behind `columns`, each counted whole, even if only a slice of it is used.
    pub(crate) fn of<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>) -> usize {
        let held = Self::behind(columns);
        held.buffer_bytes + held.arrays * ARRAY_BYTES
    }

    /// Likewise without what the arrays themselves cost.
    pub(crate) fn buffers_of<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>) -> usize {
        Self::behind(columns).buffer_bytes
    }

    fn behind<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>) -> Self {
        let mut held = Self::default();
        for column in columns {
            held.add(&column.to_data());
        }
        held
    }

    fn add(&mut self, data: &ArrayData) {
        self.arrays += 1;
        for buffer in data.buffers() {
            self.add_buffer(buffer);
        }
        if let Some(nulls) = data.nulls() {
            self.add_buffer(nulls.buffer());
        }
        for child in data.child_data() {
            self.add(child);
        }
    }

    fn add_buffer(&mut self, buffer: &Buffer) {
        if self.seen.insert(buffer.data_ptr().as_ptr() as usize) {
            self.buffer_bytes += buffer.capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_shared_column_counts_once() {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..1000).map(|i| format!("key {i}"))));
        let alone = Held::of([&column]);
        assert!(alone >= column.to_data().get_slice_memory_size().expect("a plain column"));
        assert_eq!(Held::of([&column, &column]), alone + ARRAY_BYTES);
    }

    #[test]
    fn a_slice_counts_all_that_it_keeps_alive() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        assert_eq!(Held::of([&column.slice(10, 1)]), Held::of([&column]));
    }
}
