//! Rows of a seq range, in memory, handed out in seq order.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use datafusion::execution::memory_pool::MemoryReservation;
use schemas::ErrorKind;

use crate::error::{QueryError, Result};

/// Most rows of a batch that is handed out.
pub(crate) const OUTPUT_ROWS_MAX: usize = 16 << 10;
/// Arrow bytes that a batch handed out should have at most, by the average row.
pub(crate) const OUTPUT_BYTES: usize = 4 << 20;
/// A seq range with more room than this between its rows is sorted instead of scattered, slots a row.
const SLOTS_PER_ROW_MAX: usize = 8;

/// Kept batches (`_seq` first) in any order, and the order of their rows by seq.
#[derive(Debug)]
pub(crate) struct Piece {
    batches: Vec<RecordBatch>,
    /// Batch number in the upper half, row in the lower; ascending by seq.
    order: Vec<u64>,
    output_rows: usize,
    _memory: MemoryReservation,
}

impl Piece {
    /// `memory` was reserved by an estimate, and is set to what the batches really take.
    ///
    /// Errors: `Corrupt` if a seq stands there twice.
    pub(crate) fn new(batches: Vec<RecordBatch>, memory: MemoryReservation) -> Result<Self> {
        let batches: Vec<_> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();
        let order = order(&batches)?;
        let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        memory.resize(bytes + order.len() * size_of::<u64>());
        Ok(Self { output_rows: output_rows(bytes, order.len()), batches, order, _memory: memory })
    }

    /// The places of the batches to hand out, one after the other.
    pub(crate) fn places(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, step) = (self.order.len(), self.output_rows);
        (0..rows).step_by(step).map(move |start| start..rows.min(start + step))
    }

    /// The rows at these places of the seq order: kept columns.
    pub(crate) fn gather(&self, places: Range<usize>) -> Result<RecordBatch> {
        let rows: Vec<_> =
            self.order[places].iter().map(|at| ((at >> 32) as usize, (at & 0xffff_ffff) as usize)).collect();
        let Some(first) = self.batches.first() else {
            return Err(QueryError::new(ErrorKind::Internal, "rows of a piece that has none"));
        };
        let gather = |column: usize| -> Result<ArrayRef, ArrowError> {
            let parts: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            // Headers that nobody sent: a nested column costs more than all others, even if there is nothing in it.
            match parts.iter().all(|part| part.null_count() == part.len()) {
                true => Ok(new_null_array(first.column(column).data_type(), rows.len())),
                false => interleave(&parts, &rows),
            }
        };
        let columns = (0..first.num_columns()).map(gather).collect::<Result<Vec<_>, _>>();
        let batch = columns.and_then(|columns| RecordBatch::try_new(first.schema(), columns));
        batch.map_err(|error| QueryError::new(ErrorKind::Internal, error.to_string()))
    }
}

/// How many rows a batch should have, if `rows` take `bytes`.
pub(crate) fn output_rows(bytes: usize, rows: usize) -> usize {
    (OUTPUT_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, OUTPUT_ROWS_MAX)
}

/// The error of a range that finds no room.
pub(crate) fn out_of_memory(bytes: usize) -> QueryError {
    let message =
        format!("replay: expected room for {bytes} bytes of memory, found none; retry, or raise memory_bytes");
    QueryError::new(ErrorKind::Overloaded, message)
}

fn order(batches: &[RecordBatch]) -> Result<Vec<u64>> {
    let seqs: Vec<&[i64]> = batches.iter().map(|b| b.column(0).as_primitive::<Int64Type>().values().as_ref()).collect();
    let rows: usize = seqs.iter().map(|seqs| seqs.len()).sum();
    let all = || seqs.iter().flat_map(|seqs| seqs.iter().copied());
    let (Some(first), Some(last)) = (all().min(), all().max()) else { return Ok(Vec::new()) };
    let span = usize::try_from(last.abs_diff(first)).unwrap_or(usize::MAX).saturating_add(1);
    let places = seqs.iter().enumerate().flat_map(|(batch, seqs)| {
        seqs.iter().enumerate().map(move |(row, seq)| (*seq, (batch as u64) << 32 | row as u64))
    });
    let twice = |seq: i64| QueryError::new(ErrorKind::Corrupt, format!("seq {seq} stands in the table twice"));
    if span.div_ceil(SLOTS_PER_ROW_MAX) > rows {
        let mut sorted: Vec<_> = places.collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(twice(pair[0].0));
        }
        return Ok(sorted.into_iter().map(|(_, place)| place).collect());
    }
    // Seqs are dense, or nearly: each row's place is known without comparing any.
    const EMPTY: u64 = u64::MAX;
    let mut slots = vec![EMPTY; span];
    for (seq, place) in places {
        let slot = &mut slots[(seq - first) as usize];
        if *slot != EMPTY {
            return Err(twice(seq));
        }
        *slot = place;
    }
    slots.retain(|place| *place != EMPTY);
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn batches(parts: &[Vec<i64>]) -> Vec<RecordBatch> {
        let schema = Arc::new(Schema::new(vec![Field::new("_seq", DataType::Int64, false)]));
        let batch = |part: &Vec<i64>| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(part.clone()))]).unwrap()
        };
        parts.iter().map(batch).collect()
    }

    proptest! {
        #[test]
        fn rows_come_out_in_seq_order_however_they_lie(
            seqs in prop::collection::hash_set(prop_oneof![1i64..200, 1i64..1_000_000], 0..300),
            cut in 1usize..40,
        ) {
            let scattered: Vec<i64> = seqs.iter().copied().collect();
            let parts: Vec<Vec<i64>> = scattered.chunks(cut).map(<[i64]>::to_vec).collect();
            let order = order(&batches(&parts)).unwrap();
            let found: Vec<i64> = order.iter().map(|at| parts[(at >> 32) as usize][(at & 0xffff_ffff) as usize]).collect();
            let mut expected = scattered;
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_seq_that_stands_twice_is_named() {
        for parts in [vec![vec![7, 8], vec![8]], vec![vec![7, 1_000_000], vec![7]]] {
            assert_eq!(order(&batches(&parts)).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
