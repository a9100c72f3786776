//! One key's events in seq order: no plan, only look-ups.
//!
//! Files that tile by seq are looked into several at once and handed out one after the other; files that overlap are merged. A key with few rows
//! in a file costs one decode of a few pages; one with many is handed out window by window, so that memory stays bounded.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::datatypes::Int64Type;
use catalog::view::ReadView;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use schemas::envelope::field_id;
use schemas::{ErrorKind, Seq};
use tokio_util::task::AbortOnDropHandle;

use super::groups::{Group, groups};
use super::piece::{OUTPUT_BYTES, OUTPUT_ROWS_MAX, out_of_memory, output_rows};
use crate::error::{QueryError, Result};
use crate::parquet::file::{OpenFile, SLICE_ROWS_MAX, slices};
use crate::parquet::known::text_by_pages;
use crate::parquet::lookup::{candidates, locate, manifest_may_hold};
use crate::parquet::projection::{Given, Wanted};
use crate::reader::{ReadStats, Reader};
use crate::shape::Shape;
use crate::stream::{Out, join_error};

/// Groups looked into at once.
const GROUPS_AHEAD: usize = 16;
/// Rows of a key in one file up to which they are decoded as soon as they are found.
const FEW_ROWS_MAX: usize = 2 << 10;
/// Arrow bytes of such rows, by the file's average row.
const FEW_BYTES_MAX: u64 = 1 << 20;

/// What is looked for.
#[derive(Debug)]
pub(crate) struct KeyReplay {
    pub(crate) reader: Reader,
    pub(crate) shape: Shape,
    pub(crate) key: String,
    /// Field id of the payload's column that equals `_key`, if one does.
    pub(crate) key_field: Option<i32>,
    pub(crate) seqs: Range<Seq>,
}

/// A file's rows of the key.
struct Found {
    file: OpenFile,
    rows: Vec<Range<usize>>,
    /// Kept columns of these rows, unless they are too many.
    few: Option<RecordBatch>,
}

impl KeyReplay {
    /// Hands out the key's events in `view`, in seq order.
    pub(crate) async fn run(self, view: ReadView, out: Out) -> Result<()> {
        let this = Arc::new(self);
        let set = view.table().files().await?;
        let considered = set.files().len() as u64;
        this.reader.stats.add(ReadStats { files_considered: considered, ..ReadStats::default() });
        let files = set.files().iter().filter(|file| manifest_may_hold(file, &this.key, &this.seqs));
        let mut pending = Gather::new(&this.shape, &out);
        let mut found = stream::iter(groups(files)).map(|group| this.find(group)).buffered(GROUPS_AHEAD);
        while let Some(group) = found.try_next().await? {
            if group.iter().all(|found| found.few.is_some()) {
                let few = group.into_iter().filter_map(|found| found.few).collect();
                pending.add(in_seq_order(&this.shape, few)?).await?;
            } else {
                pending.flush().await?;
                this.many(group, &out).await?;
            }
        }
        for (events, rows) in view.tail_rows_of(&this.key) {
            let events = this.shape.of_events(events)?;
            let events = take_record_batch(&events, &UInt32Array::from(rows)).map_err(internal)?;
            pending.add(this.shape.sift(&events, &this.seqs)?).await?;
        }
        pending.flush().await
    }

    /// The files of a group that hold the key. Metadata and filters are looked at here; files that remain are read by tasks of their own.
    async fn find(self: &Arc<Self>, group: Group) -> Result<Vec<Found>> {
        let mut tasks = Vec::new();
        for data in &group.files {
            let file = OpenFile::open(&self.reader.metadata, data).await?;
            let rows = candidates(&file, &self.key);
            if !rows.is_empty() {
                let this = Arc::clone(self);
                tasks.push(AbortOnDropHandle::new(tokio::spawn(async move { this.look_into(file, rows).await })));
            }
        }
        let found = try_join_all(tasks).await.map_err(join_error)?;
        let found: Vec<Option<Found>> = found.into_iter().collect::<Result<_>>()?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn look_into(&self, file: OpenFile, candidates: Vec<Range<usize>>) -> Result<Option<Found>> {
        self.reader.stats.add(ReadStats { files_opened: 1, ..ReadStats::default() });
        let rows = locate(&file, &self.key, candidates, &self.reader.stats).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let count: usize = rows.iter().map(ExactSizeIterator::len).sum();
        let bytes = file.decoded_bytes(self.shape.read()) / file.rows().max(1) as u64 * count as u64;
        let few = match count <= FEW_ROWS_MAX && bytes <= FEW_BYTES_MAX {
            true => Some(self.decode(&file, rows.clone()).await?),
            false => None,
        };
        Ok(Some(Found { file, rows, few }))
    }

    /// Kept columns of these rows of a file, in file order.
    async fn decode(&self, file: &OpenFile, rows: Vec<Range<usize>>) -> Result<RecordBatch> {
        let given = self.given(file, &rows);
        let read = file.fetch(self.shape.read(), rows, &given, &self.reader.stats).await?.decode()?;
        self.shape.sift(&read, &self.seqs)
    }

    /// What is known of these rows without reading them: their key, a field that is the key, and texts that the page index says: path and prefix,
    /// mostly, and what they were made of.
    fn given(&self, file: &OpenFile, rows: &[Range<usize>]) -> Vec<Given> {
        let count = rows.iter().map(ExactSizeIterator::len).sum();
        let mut given = Vec::new();
        let key: ArrayRef = Arc::new(StringArray::from(vec![self.key.as_str(); count]));
        for id in [Some(field_id::KEY), self.key_field].into_iter().flatten() {
            given.push(Given { id, values: Arc::clone(&key) });
        }
        for (id, name) in self.shape.read().texts() {
            if given.iter().all(|given| given.id != id)
                && let Some(values) = file.metadata.leaf(id, name).and_then(|leaf| text_by_pages(file, leaf, rows))
            {
                given.push(Given { id, values });
            }
        }
        given
    }

    /// Hands out a group that holds many rows of the key: their seqs are read first, then the rows, window by window.
    async fn many(self: &Arc<Self>, group: Vec<Found>, out: &Out) -> Result<()> {
        let rows: usize = group.iter().flat_map(|found| &found.rows).map(ExactSizeIterator::len).sum();
        let memory = MemoryConsumer::new("replay of a key").register(&self.reader.runtime.memory_pool);
        let bytes = rows * size_of::<(i64, u32, usize)>();
        memory.try_grow(bytes).map_err(|_| out_of_memory(bytes))?;

        let only_seq = Wanted::new(Arc::new(self.shape.kept().project(&[0]).map_err(internal)?));
        let mut places: Vec<(i64, u32, usize)> = Vec::with_capacity(rows);
        let mut row_bytes = 1;
        for (number, found) in (0u32..).zip(&group) {
            let Found { file, rows, .. } = found;
            for slice in slices(rows.clone(), SLICE_ROWS_MAX) {
                let batch = file.fetch(&only_seq, slice.clone(), &[], &self.reader.stats).await?.decode()?;
                let seqs = batch.column(0).as_primitive::<Int64Type>().values().iter();
                let wanted = seqs.zip(slice.into_iter().flatten()).filter(|(seq, _)| self.seqs.contains(&Seq(**seq)));
                places.extend(wanted.map(|(seq, row)| (*seq, number, row)));
            }
            row_bytes = row_bytes.max(file.decoded_bytes(self.shape.read()) / file.rows().max(1) as u64);
        }
        places.sort_unstable();
        let window = output_rows(row_bytes as usize, 1);
        let files: Arc<[OpenFile]> = group.into_iter().map(|found| found.file).collect();
        let windows: Vec<_> = places.chunks(window).map(<[_]>::to_vec).collect();
        drop(places);
        let mut decoded = stream::iter(windows)
            .map(|window| {
                let (this, files) = (Arc::clone(self), Arc::clone(&files));
                let task = AbortOnDropHandle::new(tokio::spawn(async move { this.window(&files, window).await }));
                async move { task.await.map_err(join_error)? }
            })
            .buffered(2);
        while let Some(kept) = decoded.try_next().await? {
            if kept.num_rows() > 0 {
                out.send(self.shape.hand_out(&kept)?).await?;
            }
        }
        Ok(())
    }

    /// The rows at these places (seq, file, row), in seq order: kept columns.
    async fn window(&self, files: &[OpenFile], places: Vec<(i64, u32, usize)>) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        for (number, file) in (0u32..).zip(files) {
            let mut rows: Vec<usize> = places.iter().filter(|place| place.1 == number).map(|place| place.2).collect();
            rows.sort_unstable();
            let mut ranges: Vec<Range<usize>> = Vec::new();
            for row in rows {
                match ranges.last_mut() {
                    Some(last) if last.end == row => last.end += 1,
                    _ => ranges.push(row..row + 1),
                }
            }
            if !ranges.is_empty() {
                parts.push(self.decode(file, ranges).await?);
            }
        }
        in_seq_order(&self.shape, parts)
    }
}

/// Small batches on their way out, joined to larger ones.
struct Gather<'a> {
    shape: &'a Shape,
    out: &'a Out,
    parts: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl<'a> Gather<'a> {
    fn new(shape: &'a Shape, out: &'a Out) -> Self {
        Self { shape, out, parts: Vec::new(), rows: 0, bytes: 0 }
    }

    async fn add(&mut self, kept: RecordBatch) -> Result<()> {
        if kept.num_rows() > 0 {
            self.rows += kept.num_rows();
            self.bytes += kept.get_array_memory_size();
            self.parts.push(kept);
        }
        if self.rows >= OUTPUT_ROWS_MAX / 2 || self.bytes >= OUTPUT_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let parts = std::mem::take(&mut self.parts);
        (self.rows, self.bytes) = (0, 0);
        if parts.is_empty() {
            return Ok(());
        }
        let kept = concat_batches(self.shape.kept(), &parts).map_err(internal)?;
        self.out.send(self.shape.hand_out(&kept)?).await
    }
}

/// Kept batches as one, ascending by seq.
fn in_seq_order(shape: &Shape, parts: Vec<RecordBatch>) -> Result<RecordBatch> {
    let kept = match parts.as_slice() {
        [one] => one.clone(),
        several => concat_batches(shape.kept(), several).map_err(internal)?,
    };
    let seqs = kept.column(0).as_primitive::<Int64Type>();
    if seqs.values().is_sorted() {
        return Ok(kept);
    }
    let order = sort_to_indices(seqs, None, None).map_err(internal)?;
    take_record_batch(&kept, &order).map_err(internal)
}

fn internal(error: arrow::error::ArrowError) -> QueryError {
    QueryError::new(ErrorKind::Internal, error.to_string())
}
