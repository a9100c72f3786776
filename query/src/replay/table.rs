//! The committed part of a topic in seq order, with bounded memory.
//!
//! Files are sorted by key, so a range of seqs is read whole and put back into seq order in memory, the next being read while this one is handed
//! out. A range that is too wide, or finds no memory, goes by way of the disk.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use catalog::table::DataFile;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::{StreamExt, TryStreamExt, stream};
use schemas::pattern::Pattern;
use schemas::{Seq, TopicDef};
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::groups::{Group, groups};
use super::piece::{Piece, out_of_memory};
use super::spill::{Scatter, Window};
use crate::error::{QueryError, Result};
use crate::parquet::file::{OpenFile, SLICE_ROWS_MAX, slices};
use crate::parquet::lookup::rows_of_prefixes;
use crate::reader::{ReadStats, Reader};
use crate::shape::Shape;
use crate::stream::{Out, join_error};

/// Arrow bytes decoded at a time, about.
const SLICE_BYTES: u64 = 8 << 20;
/// Slices decoded at once, and batches gathered at once.
const PARALLEL: usize = 2;
/// Parts of a range that is too wide for the spill folder: each reads all of its files.
const PARTS_MAX: u64 = 64;
/// Metadata of files loaded at once.
const OPENING: usize = 8;

/// One scan: the files of a snapshot, and what is wanted of them.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) reader: Reader,
    pub(crate) shape: Arc<Shape>,
    /// Only rows of these prefixes can be wanted; all if `None`.
    pub(crate) prefixes: Option<Arc<[String]>>,
    /// Only these seqs.
    pub(crate) seqs: Range<Seq>,
}

/// What became of an attempt to have a group's rows in memory.
enum Loaded {
    Whole(Piece),
    /// It is too wide, or there is no memory for it now.
    NoRoom(Group),
}

/// Opened files of a group with the rows of each that are to be read.
struct Opened {
    files: Vec<(OpenFile, Vec<Range<usize>>)>,
    /// Kept columns of all these rows, Arrow bytes, estimated.
    bytes: u64,
}

impl Scan {
    /// Hands out the wanted rows of `files` (in order of their first seq) in seq order. `go_on` is asked before each range but
    /// the first; returns the seq that was reached: the end of `seqs`, or where it was told to stop.
    pub(crate) async fn run(&self, files: &[Arc<DataFile>], out: &Out, go_on: impl Fn() -> bool) -> Result<Seq> {
        self.reader.stats.add(ReadStats { files_considered: files.len() as u64, ..ReadStats::default() });
        let wanted = files.iter().filter(|file| self.may_want(file));
        let mut ahead = stream::iter(groups(wanted))
            .map(|group| {
                let (scan, first) = (self.clone(), group.first);
                let task = AbortOnDropHandle::new(tokio::spawn(async move { scan.load(group).await }));
                async move { Ok::<_, QueryError>((first, task.await.map_err(join_error)??)) }
            })
            .buffered(2);
        let mut begun = false;
        while let Some((first, loaded)) = ahead.try_next().await? {
            if begun && !go_on() {
                return Ok(first);
            }
            begun = true;
            // What found no room beside the range before it may find it now.
            let loaded = match loaded {
                Loaded::NoRoom(group) => self.load(group).await?,
                whole @ Loaded::Whole(_) => whole,
            };
            match loaded {
                Loaded::Whole(piece) => self.hand_out(piece, out).await?,
                Loaded::NoRoom(group) => {
                    let reached = self.by_way_of_disk(group, out, &go_on).await?;
                    if reached < self.seqs.end && !go_on() {
                        return Ok(reached);
                    }
                }
            }
        }
        Ok(self.seqs.end)
    }

    fn may_want(&self, file: &DataFile) -> bool {
        let (lower, upper) = &file.prefixes;
        let prefix = |prefixes: &Arc<[String]>| prefixes.iter().any(|prefix| lower <= prefix && prefix <= upper);
        file.seqs.0 < self.seqs.end && file.seqs.1 >= self.seqs.start && self.prefixes.as_ref().is_none_or(prefix)
    }

    async fn load(&self, group: Group) -> Result<Loaded> {
        let opened = self.open(&group).await?;
        let memory = self.memory();
        if opened.bytes > self.reader.settings.range_bytes_max as u64 || memory.try_grow(opened.bytes as usize).is_err()
        {
            return Ok(Loaded::NoRoom(group));
        }
        let batches: Vec<RecordBatch> = self.rows_of(opened).try_collect().await?;
        let piece = spawn_blocking(move || Piece::new(batches, memory)).await.map_err(join_error)??;
        Ok(Loaded::Whole(piece))
    }

    /// Hands out a wide range: as a whole, or part by part where the spill folder has no room for all of it, each part of the range reading all of its files.
    /// `go_on` is asked before each part but the first. Returns the seq that was reached.
    async fn by_way_of_disk(&self, group: Group, out: &Out, go_on: &impl Fn() -> bool) -> Result<Seq> {
        let bytes = self.open(&group).await?.bytes;
        let range = group.first.max(self.seqs.start)..Seq(group.last.0 + 1).min(self.seqs.end);
        for (number, seqs) in parts(&range, bytes, self.reader.settings.spill_bytes_max / 2).enumerate() {
            if number > 0 && !go_on() {
                return Ok(seqs.start);
            }
            let part = Self { seqs, ..self.clone() };
            part.scatter(&group, out).await?;
        }
        Ok(range.end)
    }

    /// The rows of `seqs`, which this scan is of, by way of temporary files.
    async fn scatter(&self, group: &Group, out: &Out) -> Result<()> {
        let files = group.files.iter().filter(|file| self.may_want(file)).cloned().collect();
        let opened = self.open(&Group { files, ..group.clone() }).await?;
        let window_bytes = (self.reader.settings.range_bytes_max as u64 / 2).max(1);
        let bounds = (group.first.max(self.seqs.start), group.last.min(Seq(self.seqs.end.0 - 1)));
        let (disk, kept) = (&self.reader.runtime.disk_manager, self.shape.kept());
        let mut scatter = Scatter::new(disk, kept, bounds, opened.bytes.div_ceil(window_bytes))?;
        let (all_rows, bytes) = (opened.rows().max(1), opened.bytes);
        let mut slices = Box::pin(self.rows_of(opened));
        while let Some(batch) = slices.try_next().await? {
            let write = move || scatter.write(&batch).map(|()| scatter);
            scatter = spawn_blocking(write).await.map_err(join_error)??;
        }
        let (windows, spilled_bytes) = spawn_blocking(move || scatter.finish()).await.map_err(join_error)??;
        self.reader.stats.add(ReadStats { spilled_bytes, ..ReadStats::default() });
        for window in windows {
            let estimate = (bytes / all_rows as u64).max(1) as usize * window.rows;
            let piece = self.read_back(window, estimate).await?;
            self.hand_out(piece, out).await?;
        }
        Ok(())
    }

    async fn read_back(&self, window: Window, bytes: usize) -> Result<Piece> {
        let memory = self.memory();
        memory.try_grow(bytes).map_err(|_| out_of_memory(bytes))?;
        spawn_blocking(move || Piece::new(window.read()?, memory)).await.map_err(join_error)?
    }

    async fn hand_out(&self, piece: Piece, out: &Out) -> Result<()> {
        let piece = Arc::new(piece);
        let gathered = stream::iter(piece.places()).map(|places| {
            let piece = Arc::clone(&piece);
            let task = AbortOnDropHandle::new(spawn_blocking(move || piece.gather(places)));
            async move { task.await.map_err(join_error)? }
        });
        let mut gathered = gathered.buffered(PARALLEL);
        while let Some(kept) = gathered.try_next().await? {
            out.send(self.shape.hand_out(&kept)?).await?;
        }
        Ok(())
    }

    async fn open(&self, group: &Group) -> Result<Opened> {
        let opening = stream::iter(group.files.clone())
            .map(|file| async move { OpenFile::open(&self.reader.metadata, &file).await });
        let files: Vec<OpenFile> = opening.buffered(OPENING).try_collect().await?;
        let mut bytes = 0;
        let files = files.into_iter().filter_map(|file| {
            let rows = match &self.prefixes {
                Some(prefixes) => rows_of_prefixes(&file, prefixes),
                None => file.whole(),
            };
            let (all, count) = (file.rows() as u64, rows.iter().map(|range| range.len() as u64).sum::<u64>());
            bytes += file.decoded_bytes(self.shape.read()) * count / all.max(1);
            (count > 0).then_some((file, rows))
        });
        let files: Vec<_> = files.collect();
        self.reader.stats.add(ReadStats { files_opened: files.len() as u64, ..ReadStats::default() });
        Ok(Opened { files, bytes })
    }

    /// The wanted rows, kept columns, in no order, slice by slice.
    fn rows_of(&self, opened: Opened) -> impl futures::Stream<Item = Result<RecordBatch>> + Send + use<> {
        let step = (SLICE_BYTES / (opened.bytes / opened.rows().max(1) as u64).max(1)) as usize;
        let step = step.clamp(1, SLICE_ROWS_MAX);
        let slices: Vec<_> = opened
            .files
            .into_iter()
            .flat_map(|(file, rows)| slices(rows, step).into_iter().map(move |slice| (file.clone(), slice)))
            .collect();
        let scan = self.clone();
        let decoding = stream::iter(slices).map(move |(file, rows)| {
            let scan = scan.clone();
            let task = AbortOnDropHandle::new(tokio::spawn(async move { scan.decode(file, rows).await }));
            async move { task.await.map_err(join_error)? }
        });
        decoding.buffered(PARALLEL)
    }

    async fn decode(&self, file: OpenFile, rows: Vec<Range<usize>>) -> Result<RecordBatch> {
        let fetched = file.fetch(self.shape.read(), rows, &[], &self.reader.stats).await?;
        let (shape, seqs) = (Arc::clone(&self.shape), self.seqs.clone());
        spawn_blocking(move || shape.sift(&fetched.decode()?, &seqs)).await.map_err(join_error)?
    }

    fn memory(&self) -> MemoryReservation {
        MemoryConsumer::new("replay").register(&self.reader.runtime.memory_pool)
    }
}

impl Opened {
    fn rows(&self) -> usize {
        self.files.iter().flat_map(|(_, rows)| rows).map(ExactSizeIterator::len).sum()
    }
}

/// Cuts a range whose rows take `bytes` into parts of at most `room`, as far as seqs tell, but no more than [`PARTS_MAX`].
pub(super) fn parts(range: &Range<Seq>, bytes: u64, room: u64) -> impl Iterator<Item = Range<Seq>> + use<> {
    let (first, end) = (range.start.0, range.end.0);
    let count = bytes.div_ceil(room.max(1)).clamp(1, PARTS_MAX);
    let width = (end.abs_diff(first)).div_ceil(count).max(1) as usize;
    (first..end).step_by(width).map(move |from| Seq(from)..Seq(end.min(from.saturating_add(width as i64))))
}

/// The only prefixes that rows on a path of the shape's pattern can have; `None` if they can have any.
pub(crate) fn prefixes(def: &TopicDef, shape: &Shape) -> Option<Arc<[String]>> {
    prefixes_of(def, shape.pattern()?)
}

/// The only prefixes that rows on a path that matches can have; `None` if they can have any.
///
/// A row's prefix is the leading levels of its path, or the topic's own name once the topic has too many prefixes.
pub(crate) fn prefixes_of(def: &TopicDef, pattern: &Pattern) -> Option<Arc<[String]>> {
    let literal = pattern.literal_prefix();
    let levels: Vec<&str> = literal.split('/').take(def.prefix_levels).collect();
    (levels.len() == def.prefix_levels).then(|| [levels.join("/"), def.name.to_string()].into())
}
