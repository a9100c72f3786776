//! Reading rows of one data file: only the pages that hold them are fetched and decoded.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy};
use ::parquet::basic::Type;
use arrow::array::RecordBatch;
use catalog::table::DataFile;
use schemas::ErrorKind;

use super::metadata::{FileMetadata, MetadataCache, parquet_error};
use super::projection::{Projection, Wanted};
use super::sparse::Sparse;
use crate::error::{QueryError, Result};
use crate::reader::{Counters, ReadStats};

/// A data file with its metadata.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    pub(crate) data: Arc<DataFile>,
    pub(crate) metadata: Arc<FileMetadata>,
    cache: MetadataCache,
}

/// The pages that hold some rows, in memory, not yet decoded.
#[derive(Debug)]
pub(crate) struct Fetched {
    file: OpenFile,
    rows: Vec<Range<usize>>,
    projection: Projection,
    sparse: Sparse,
}

impl OpenFile {
    pub(crate) async fn open(cache: &MetadataCache, data: &Arc<DataFile>) -> Result<Self> {
        let metadata = cache.get(&data.path, data.size).await?;
        Ok(Self { data: Arc::clone(data), metadata, cache: cache.clone() })
    }

    /// Rows of the file, as its footer says.
    pub(crate) fn rows(&self) -> usize {
        self.metadata.parquet().row_groups().iter().map(|group| group.num_rows() as usize).sum()
    }

    /// All its rows, as one range.
    pub(crate) fn whole(&self) -> Vec<Range<usize>> {
        std::iter::once(0..self.rows()).collect()
    }

    /// Row groups with their place in the file, in rows.
    pub(crate) fn row_groups(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let mut end = 0;
        self.metadata.parquet().row_groups().iter().enumerate().map(move |(number, group)| {
            let start = end;
            end += group.num_rows() as usize;
            (number, start..end)
        })
    }

    /// Arrow bytes of the wanted columns of all rows, by what the footer says of their encoded and unencoded sizes.
    pub(crate) fn decoded_bytes(&self, wanted: &Wanted) -> u64 {
        let mask = Projection::new(&self.metadata, wanted).mask;
        let chunks = self.metadata.parquet().row_groups().iter().flat_map(|group| group.columns().iter().enumerate());
        let sizes = chunks.filter(|(leaf, _)| mask.leaf_included(*leaf)).map(|(_, chunk)| {
            let values = chunk.num_values().max(0) as u64;
            match chunk.column_type() {
                Type::BOOLEAN => values / 8,
                Type::INT32 | Type::FLOAT => values * 4,
                Type::INT64 | Type::DOUBLE => values * 8,
                Type::INT96 => values * 12,
                Type::FIXED_LEN_BYTE_ARRAY => values * chunk.column_descr().type_length().max(0) as u64,
                Type::BYTE_ARRAY => {
                    let bytes = chunk.unencoded_byte_array_data_bytes().unwrap_or(chunk.uncompressed_size() * 2);
                    values * 4 + bytes.max(0) as u64
                }
            }
        });
        sizes.sum()
    }

    /// Fetches what the wanted columns of `rows` need. `rows`: ascending, disjoint, not empty, within the file.
    pub(crate) async fn fetch(&self, wanted: &Wanted, rows: Vec<Range<usize>>, stats: &Counters) -> Result<Fetched> {
        let projection = Projection::new(&self.metadata, wanted);
        let (ranges, pages) = self.byte_ranges(&projection.mask, &rows);
        let sparse = Sparse::fetch(self.cache.objects(), &self.data.path, self.data.size, ranges).await?;
        let read = rows.iter().map(|range| range.len() as u64).sum();
        stats.add(ReadStats { pages, bytes: sparse.held_bytes(), rows: read, ..ReadStats::default() });
        Ok(Fetched { file: self.clone(), rows, projection, sparse })
    }

    /// Byte ranges of the pages (and their dictionaries) that hold `rows`, and how many data pages they are as far as is known.
    fn byte_ranges(&self, mask: &ProjectionMask, rows: &[Range<usize>]) -> (Vec<Range<u64>>, u64) {
        let parquet = self.metadata.parquet();
        let mut ranges = Vec::new();
        let mut pages = 0;
        for (number, place) in self.row_groups() {
            let inside = within(rows, &place);
            if inside.is_empty() {
                continue;
            }
            for (leaf, chunk) in parquet.row_group(number).columns().iter().enumerate() {
                if !mask.leaf_included(leaf) {
                    continue;
                }
                let (start, length) = chunk.byte_range();
                let locations = parquet.offset_index().map(|index| index[number][leaf].page_locations().as_slice());
                let Some(locations @ [first, ..]) = locations else {
                    ranges.push(start..start + length);
                    continue;
                };
                if first.offset as u64 > start {
                    ranges.push(start..first.offset as u64);
                }
                let mut next = 0;
                for range in &inside {
                    let from = locations.partition_point(|page| page.first_row_index as usize <= range.start) - 1;
                    let to = locations.partition_point(|page| (page.first_row_index as usize) < range.end);
                    for page in &locations[from.max(next)..to.max(next)] {
                        let at = page.offset as u64;
                        ranges.push(at..at + page.compressed_page_size as u64);
                        pages += 1;
                    }
                    next = next.max(to);
                }
            }
        }
        (ranges, pages)
    }
}

impl Fetched {
    /// Decodes the rows, in file order, in batches of at most `batch_rows`. Costs CPU, does no I/O.
    pub(crate) fn decode(self, batch_rows: usize) -> Result<Vec<RecordBatch>> {
        let Self { file, rows, projection, sparse } = self;
        let path = &file.data.path;
        let mut groups = Vec::new();
        let mut selected = Vec::with_capacity(rows.len());
        let mut total = 0;
        for (number, place) in file.row_groups() {
            let inside = within(&rows, &place);
            if !inside.is_empty() {
                groups.push(number);
                selected.extend(inside.into_iter().map(|range| range.start + total..range.end + total));
                total += place.len();
            }
        }
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(sparse, file.metadata.arrow().clone())
            .with_row_groups(groups)
            .with_projection(projection.mask.clone())
            .with_batch_size(batch_rows);
        if selected.iter().map(ExactSizeIterator::len).sum::<usize>() < total {
            builder = builder
                .with_row_selection(RowSelection::from_consecutive_ranges(selected.into_iter(), total))
                .with_row_selection_policy(RowSelectionPolicy::Selectors);
        }
        let reader = builder.build().map_err(|error| parquet_error(path, error))?;
        let corrupt = |error| QueryError::new(ErrorKind::Corrupt, format!("data file {path}: {error}"));
        reader.map(|batch| batch.and_then(|batch| projection.apply(&batch)).map_err(corrupt)).collect()
    }
}

/// The parts of `rows` inside `place`, relative to its start.
fn within(rows: &[Range<usize>], place: &Range<usize>) -> Vec<Range<usize>> {
    let from = rows.partition_point(|range| range.end <= place.start);
    let inside = rows[from..].iter().take_while(|range| range.start < place.end);
    inside.map(|range| range.start.max(place.start) - place.start..range.end.min(place.end) - place.start).collect()
}
