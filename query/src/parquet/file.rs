//! Reading rows of one data file: only the pages that hold them are fetched and decoded.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy};
use ::parquet::basic::Type;
use ::parquet::file::reader::ChunkReader;
use arrow::array::RecordBatch;
use catalog::table::DataFile;
use schemas::ErrorKind;

use super::metadata::{FileMetadata, MetadataCache, parquet_error};
use super::pages::OpenedPages;
use super::projection::{Given, Projection, Wanted};
use super::sparse::Sparse;
use crate::error::{QueryError, Result};
use crate::reader::{Counters, ReadStats};

/// Most rows that are decoded at a time.
pub(crate) const SLICE_ROWS_MAX: usize = 64 << 10;

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
    pages: Pages,
    sparse: Sparse,
}

/// Where the pages lie that hold some rows, in bytes.
#[derive(Debug)]
struct Pages {
    data: Vec<Range<u64>>,
    /// Dictionaries, and whole column chunks where pages are not known.
    other: Vec<Range<u64>>,
    /// True if all pages are known one by one.
    located: bool,
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
        let mask = wanted.mask(&self.metadata);
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

    /// Fetches what the wanted columns of `rows` need. `rows`: ascending, disjoint, not empty, within the file. `given`: columns of exactly these rows
    /// that are known already.
    pub(crate) async fn fetch(
        &self,
        wanted: &Wanted,
        rows: Vec<Range<usize>>,
        given: &[Given],
        stats: &Counters,
    ) -> Result<Fetched> {
        let inside = |(number, place)| {
            let count: usize = within(&rows, &place).iter().map(ExactSizeIterator::len).sum();
            (count > 0).then_some((number, count))
        };
        let groups: Vec<_> = self.row_groups().filter_map(inside).collect();
        let projection = Projection::new(&self.metadata, wanted, &groups, given);
        let projection = projection.map_err(|error| self.corrupt(&error))?;
        let pages = self.pages(&projection.mask, &rows);
        let ranges = pages.data.iter().chain(&pages.other).cloned().collect();
        let sparse = Sparse::fetch(self.cache.objects(), &self.data.path, self.data.size, ranges).await?;
        let read = ReadStats { pages: pages.data.len() as u64, bytes: sparse.held_bytes(), ..ReadStats::default() };
        stats.add(ReadStats { rows: projection.rows() as u64, ..read });
        Ok(Fetched { file: self.clone(), rows, projection, pages, sparse })
    }

    fn corrupt(&self, error: &dyn std::fmt::Display) -> QueryError {
        QueryError::new(ErrorKind::Corrupt, format!("data file {}: {error}", self.data.path))
    }

    /// The pages (and their dictionaries) of the columns in `mask` that hold `rows`.
    fn pages(&self, mask: &ProjectionMask, rows: &[Range<usize>]) -> Pages {
        let parquet = self.metadata.parquet();
        let mut pages = Pages { data: Vec::new(), other: Vec::new(), located: true };
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
                    pages.other.push(start..start + length);
                    pages.located = false;
                    continue;
                };
                if first.offset as u64 > start {
                    pages.other.push(start..first.offset as u64);
                }
                let mut next = 0;
                for range in &inside {
                    let from = locations.partition_point(|page| page.first_row_index as usize <= range.start) - 1;
                    let to = locations.partition_point(|page| (page.first_row_index as usize) < range.end);
                    for page in &locations[from.max(next)..to.max(next)] {
                        let at = page.offset as u64;
                        pages.data.push(at..at + page.compressed_page_size as u64);
                    }
                    next = next.max(to);
                }
            }
        }
        pages
    }
}

impl Fetched {
    /// Decodes the rows, in file order, as one batch. Costs CPU, does no I/O.
    pub(crate) fn decode(self) -> Result<RecordBatch> {
        let Self { file, rows, projection, pages, sparse } = self;
        if projection.knows_all() {
            return projection.apply(&[]).map_err(|error| file.corrupt(&error));
        }
        let ranges = || pages.data.iter().chain(&pages.other).cloned().collect();
        let opened = file.metadata.opened().filter(|_| pages.located);
        let opened = opened.and_then(|metadata| Some((OpenedPages::open(&sparse, ranges())?, metadata)));
        let decoded = match opened {
            Some((opened, metadata)) => {
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(opened, metadata.clone());
                file.read(builder, &rows, &projection)
            }
            None => {
                let metadata = file.metadata.arrow().clone();
                file.read(ParquetRecordBatchReaderBuilder::new_with_metadata(sparse, metadata), &rows, &projection)
            }
        }?;
        projection.apply(decoded.columns()).map_err(|error| file.corrupt(&error))
    }
}

impl OpenFile {
    fn read<T: ChunkReader + 'static>(
        &self,
        builder: ParquetRecordBatchReaderBuilder<T>,
        rows: &[Range<usize>],
        projection: &Projection,
    ) -> Result<RecordBatch> {
        let mut groups = Vec::new();
        let mut selected = Vec::with_capacity(rows.len());
        let mut total = 0;
        for (number, place) in self.row_groups() {
            let inside = within(rows, &place);
            if !inside.is_empty() {
                groups.push(number);
                selected.extend(inside.into_iter().map(|range| range.start + total..range.end + total));
                total += place.len();
            }
        }
        let mut builder =
            builder.with_row_groups(groups).with_projection(projection.mask.clone()).with_batch_size(projection.rows());
        if projection.rows() < total {
            builder = builder
                .with_row_selection(RowSelection::from_consecutive_ranges(selected.into_iter(), total))
                .with_row_selection_policy(RowSelectionPolicy::Selectors);
        }
        let mut reader = builder.build().map_err(|error| parquet_error(&self.data.path, error))?;
        let batch = reader.next().transpose().map_err(|error| self.corrupt(&error))?;
        let found = batch.as_ref().map_or(0, RecordBatch::num_rows);
        match batch {
            Some(batch) if found == projection.rows() => Ok(batch),
            _ => Err(self.corrupt(&format!("expected {} rows, found {found}", projection.rows()))),
        }
    }
}

/// The parts of `rows` inside `place`, relative to its start.
fn within(rows: &[Range<usize>], place: &Range<usize>) -> Vec<Range<usize>> {
    let from = rows.partition_point(|range| range.end <= place.start);
    let inside = rows[from..].iter().take_while(|range| range.start < place.end);
    inside.map(|range| range.start.max(place.start) - place.start..range.end.min(place.end) - place.start).collect()
}

/// `rows` in parts of at most `step` rows.
pub(crate) fn slices(rows: Vec<Range<usize>>, step: usize) -> Vec<Vec<Range<usize>>> {
    let mut slices = Vec::new();
    let (mut slice, mut room) = (Vec::new(), step);
    for mut range in rows {
        while !range.is_empty() {
            let part = range.start..range.end.min(range.start + room);
            range.start = part.end;
            room -= part.len();
            slice.push(part);
            if room == 0 {
                slices.push(std::mem::take(&mut slice));
                room = step;
            }
        }
    }
    if !slice.is_empty() {
        slices.push(slice);
    }
    slices
}
