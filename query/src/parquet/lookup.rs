//! Where a key stands: from the manifest's bounds down to exact rows, decoding `_key` of a few pages.
//!
//! Files are sorted by (`_prefix`, `_key`, `_seq`): a key stands in at most one run of rows a prefix. Bounds, buckets and bloom filters only say
//! where it is not; the rows that are returned were compared with the key.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use ::parquet::basic::BoundaryOrder;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::page_index::column_index::{ByteArrayColumnIndex, ColumnIndexMetaData};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Schema};
use catalog::table::{DataFile, Partition};
use schemas::Seq;
use schemas::envelope::{self, field_id};

use super::file::{OpenFile, SLICE_ROWS_MAX, slices};
use super::projection::Wanted;
use crate::error::Result;
use crate::reader::Counters;

/// `_key` alone.
static KEY_ONLY: LazyLock<Wanted> = LazyLock::new(|| {
    let key = envelope::field(field_id::KEY, envelope::KEY, DataType::Utf8, false);
    Wanted::new(Arc::new(Schema::new(vec![key])))
});

/// False only if the manifest says that the file holds no row of `key` in `seqs`.
pub(crate) fn manifest_may_hold(file: &DataFile, key: &str, seqs: &Range<Seq>) -> bool {
    let (lower, upper) = &file.keys;
    let in_bucket = match &file.partition {
        Partition::Level0 => true,
        Partition::Level1 { bucket, buckets, .. } => bucket_of(key, *buckets) == *bucket,
    };
    file.seqs.0 < seqs.end && file.seqs.1 >= seqs.start && lower.as_str() <= key && key <= upper.as_str() && in_bucket
}

/// Rows of the row groups and pages that may hold `key`: ascending, disjoint; empty if bounds or bloom filters exclude it.
pub(crate) fn candidates(file: &OpenFile, key: &str) -> Vec<Range<usize>> {
    let groups = file.row_groups().filter(|(number, _)| file.metadata.may_hold(*number, key));
    file.metadata.leaf(field_id::KEY, envelope::KEY).map_or_else(Vec::new, |leaf| rows_around(file, groups, leaf, key))
}

/// Rows of the row groups and pages that may hold one of these prefixes: ascending, disjoint.
pub(crate) fn rows_of_prefixes(file: &OpenFile, prefixes: &[String]) -> Vec<Range<usize>> {
    let Some(leaf) = file.metadata.leaf(field_id::PREFIX, envelope::PREFIX) else {
        return file.whole();
    };
    union(prefixes.iter().flat_map(|prefix| rows_around(file, file.row_groups(), leaf, prefix)).collect())
}

/// Ranges in any order, which may overlap, as ascending, disjoint ones.
pub(crate) fn union(mut rows: Vec<Range<usize>>) -> Vec<Range<usize>> {
    rows.sort_unstable_by_key(|range| range.start);
    rows.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    rows
}

/// Rows of `groups` whose bounds of a text column, by row group and page, enclose `value`.
fn rows_around(
    file: &OpenFile,
    groups: impl Iterator<Item = (usize, Range<usize>)>,
    leaf: usize,
    value: &str,
) -> Vec<Range<usize>> {
    let parquet = file.metadata.parquet();
    let mut rows: Vec<Range<usize>> = Vec::new();
    for (number, place) in groups {
        if !statistics_may_hold(parquet.row_group(number).column(leaf), value) {
            continue;
        }
        let pages = parquet.column_index().map(|index| &index[number][leaf]).zip(parquet.offset_index());
        let Some((index @ ColumnIndexMetaData::BYTE_ARRAY(bounds), offsets)) = pages else {
            rows.push(place);
            continue;
        };
        let locations = offsets[number][leaf].page_locations();
        for page in pages_of(index, bounds, value) {
            let start = place.start + locations[page].first_row_index as usize;
            let end = locations.get(page + 1).map_or(place.end, |next| place.start + next.first_row_index as usize);
            match rows.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => rows.push(start..end),
            }
        }
    }
    rows
}

/// The rows of `key` among `candidates`: ascending, disjoint, exact.
pub(crate) async fn locate(
    file: &OpenFile,
    key: &str,
    candidates: Vec<Range<usize>>,
    stats: &Counters,
) -> Result<Vec<Range<usize>>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for slice in slices(candidates, SLICE_ROWS_MAX) {
        let batch = file.fetch(&KEY_ONLY, slice.clone(), &[], stats).await?.decode()?;
        let keys = batch.column(0).as_string::<i32>();
        for (row, place) in slice.into_iter().flatten().enumerate() {
            if keys.value(row) == key {
                match found.last_mut() {
                    Some(last) if last.end == place => last.end += 1,
                    _ => found.push(place..place + 1),
                }
            }
        }
    }
    Ok(found)
}

/// Iceberg's bucket transform of a string (table specification, appendix B: 32-bit Murmur3, x86 variant, seed 0, of its UTF-8 bytes).
pub(crate) fn bucket_of(key: &str, buckets: u32) -> u32 {
    (murmur3(key.as_bytes()) & 0x7fff_ffff) % buckets.max(1)
}

fn murmur3(bytes: &[u8]) -> u32 {
    let scramble = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut hash = 0u32;
    for block in blocks {
        hash = (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let last = rest.iter().rev().fold(0u32, |block, byte| block << 8 | u32::from(*byte));
    hash ^= scramble(last) ^ bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

fn statistics_may_hold(chunk: &ColumnChunkMetaData, value: &str) -> bool {
    let Some(statistics) = chunk.statistics() else { return true };
    statistics.min_bytes_opt().is_none_or(|lower| lower <= value.as_bytes())
        && statistics.max_bytes_opt().is_none_or(|upper| value.as_bytes() <= upper)
}

/// Numbers of the pages whose bounds enclose `value`. A column that ascends throughout (`_prefix`; `_key` under one prefix) is searched.
fn pages_of(index: &ColumnIndexMetaData, bounds: &ByteArrayColumnIndex, value: &str) -> Vec<usize> {
    let count = bounds.num_pages() as usize;
    let (value, whole) = (value.as_bytes(), 0..count);
    let below = |page: usize| bounds.max_value(page).is_some_and(|upper| upper < value);
    let reaches = |page: usize| bounds.min_value(page).is_none_or(|lower| lower <= value);
    let has_nulls = index.null_counts().is_none_or(|counts| counts.iter().any(|count| *count > 0));
    if index.get_boundary_order() == Some(BoundaryOrder::ASCENDING) && !has_nulls {
        let (mut from, mut to) = (0, count);
        while from < to {
            let middle = from.midpoint(to);
            if below(middle) { from = middle + 1 } else { to = middle }
        }
        return (from..count).take_while(|page| reaches(*page)).collect();
    }
    whole.filter(|page| !bounds.is_null_page(*page) && !below(*page) && reaches(*page)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_iceberg_specification() {
        assert_eq!(murmur3(b"iceberg"), 1_210_000_089);
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(&34u64.to_le_bytes()), 2_017_239_379);
        assert_eq!(bucket_of("iceberg", 16), 1_210_000_089 % 16);
    }
}
