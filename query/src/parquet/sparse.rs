//! Some byte ranges of a file, held in memory and read as if they were the file.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{ChunkReader, Length};
use bytes::{Buf, Bytes};
use object_store::ObjectStore;
use object_store::path::Path;

use super::metadata::store_error;
use crate::error::Result;

/// Ranges that lie nearer to each other than this are read as one, bytes: a request costs more than what lies between.
const GAP_BYTES_MAX: u64 = 4 << 10;

/// The pieces of a file that were fetched, ascending and disjoint.
#[derive(Clone, Debug)]
pub(crate) struct Sparse {
    size: u64,
    pieces: Vec<(u64, Bytes)>,
}

impl Sparse {
    /// Fetches `ranges` (any order, may overlap) of a file of `size` bytes, neighbours together.
    pub(crate) async fn fetch(
        objects: &Arc<dyn ObjectStore>,
        path: &Path,
        size: u64,
        ranges: Vec<Range<u64>>,
    ) -> Result<Self> {
        let ranges = coalesce(ranges);
        if ranges.is_empty() {
            return Ok(Self { size, pieces: Vec::new() });
        }
        let read = objects.get_ranges(path, &ranges).await.map_err(|error| store_error(path, &error))?;
        let pieces = ranges.into_iter().map(|range| range.start).zip(read).collect();
        Ok(Self { size, pieces })
    }

    /// Bytes held.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// What is held from `start` on, up to the end of its piece.
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let after = self.pieces.partition_point(|(at, _)| *at <= start);
        let piece = after.checked_sub(1).map(|index| &self.pieces[index]);
        match piece {
            Some((at, bytes)) if start - at <= bytes.len() as u64 => Ok(bytes.slice((start - at) as usize..)),
            _ => Err(ParquetError::General(format!("byte {start} was not fetched: the file's page index is wrong"))),
        }
    }
}

impl Length for Sparse {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Sparse {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let held = self.from(start)?;
        if held.len() < length {
            let message =
                format!("bytes {start} to {} were not fetched: the file's page index is wrong", start + length as u64);
            return Err(ParquetError::General(message));
        }
        Ok(held.slice(..length))
    }
}

/// Sorts ranges, drops empty ones, and joins those that overlap or nearly touch.
fn coalesce(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP_BYTES_MAX => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_range_that_was_asked_for_can_be_read(asked in prop::collection::vec((0u64..60_000, 0u64..500), 0..40)) {
            let file: Vec<u8> = (0..70_000u32).map(|at| (at % 251) as u8).collect();
            let ranges: Vec<_> = asked.iter().map(|(start, length)| *start..start + length).collect();
            let joined = coalesce(ranges.clone());
            prop_assert!(joined.windows(2).all(|pair| pair[0].end + GAP_BYTES_MAX < pair[1].start));
            let slice = |range: &Range<u64>| file[range.start as usize..range.end as usize].to_vec();
            let pieces = joined.iter().map(|range| (range.start, Bytes::from(slice(range)))).collect();
            let sparse = Sparse { size: file.len() as u64, pieces };
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                let read = sparse.get_bytes(range.start, (range.end - range.start) as usize).unwrap();
                prop_assert_eq!(read.to_vec(), slice(range));
            }
        }
    }
}
