//! A seq range that is too wide for memory: its rows are scattered to temporary files, one a window of seqs, and each is then sorted in memory.
//!
//! Seqs are (nearly) dense, so windows of equal width hold about equally many rows: two passes and no merge.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::execution::disk_manager::{DiskManager, RefCountedTempFile};
use schemas::{ErrorKind, Seq};

use crate::error::{QueryError, Result};

/// Most windows of one range: each keeps a file open while it is written.
pub(crate) const WINDOWS_MAX: u64 = 512;

/// A range on its way to disk.
pub(crate) struct Scatter {
    first: Seq,
    width: u64,
    disk: Arc<DiskManager>,
    windows: Vec<Writing>,
}

struct Writing {
    file: RefCountedTempFile,
    writer: StreamWriter<BufWriter<File>>,
    rows: usize,
}

/// The rows of one window of seqs, in a temporary file that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Window {
    file: RefCountedTempFile,
    /// How many.
    pub(crate) rows: usize,
}

impl Scatter {
    /// Room for kept batches with seqs from `first` to `last`, in `windows` files. Errors: `Overloaded` if there is no disk to spill to.
    pub(crate) fn new(
        disk: &Arc<DiskManager>,
        schema: &SchemaRef,
        (first, last): (Seq, Seq),
        windows: u64,
    ) -> Result<Self> {
        let width = (last.0.abs_diff(first.0) + 1).div_ceil(windows.clamp(1, WINDOWS_MAX));
        let count = (last.0.abs_diff(first.0) + 1).div_ceil(width);
        let open = |_| {
            let file = disk.create_tmp_file("replay").map_err(|error| no_disk(&error))?;
            let writer = File::options().write(true).open(file.path()).map_err(|error| no_disk(&error))?;
            let writer = StreamWriter::try_new(BufWriter::new(writer), schema).map_err(|error| no_disk(&error))?;
            Ok(Writing { file, writer, rows: 0 })
        };
        let windows = (0..count).map(open).collect::<Result<_>>()?;
        Ok(Self { first, width, disk: Arc::clone(disk), windows })
    }

    /// Adds the rows of a kept batch to their windows. Blocks on the disk. Errors: `Overloaded` if the disk, or what may be used of it, is full.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let seqs = batch.column(0).as_primitive::<Int64Type>();
        let window_of = |row: usize| (seqs.value(row).abs_diff(self.first.0) / self.width) as usize;
        let mut ends = vec![0usize; self.windows.len() + 1];
        for row in 0..seqs.len() {
            ends[window_of(row) + 1] += 1;
        }
        for window in 1..ends.len() {
            ends[window] += ends[window - 1];
        }
        let starts = ends.clone();
        let mut rows = vec![0u32; seqs.len()];
        for row in 0..seqs.len() {
            let end = &mut ends[window_of(row)];
            rows[*end] = row as u32;
            *end += 1;
        }
        let by_window = take_record_batch(batch, &UInt32Array::from(rows)).map_err(|error| no_disk(&error))?;
        for (window, writing) in self.windows.iter_mut().enumerate() {
            let count = starts[window + 1] - starts[window];
            if count > 0 {
                let part = by_window.slice(starts[window], count);
                writing.writer.write(&part).map_err(|error| no_disk(&error))?;
                writing.rows += count;
            }
        }
        self.account()
    }

    /// The windows, ascending; empty ones are left out. Also says how many bytes they take.
    pub(crate) fn finish(mut self) -> Result<(Vec<Window>, u64)> {
        for writing in &mut self.windows {
            let flushed = writing.writer.finish().map_err(|error| no_disk(&error));
            flushed.and_then(|()| writing.writer.get_mut().flush().map_err(|error| no_disk(&error)))?;
        }
        self.account()?;
        let bytes = self.windows.iter().map(|writing| writing.file.current_disk_usage()).sum();
        let windows = self.windows.into_iter().filter(|writing| writing.rows > 0);
        Ok((windows.map(|Writing { file, rows, .. }| Window { file, rows }).collect(), bytes))
    }

    /// Tells the disk manager what is used. It is asked first whether that is too much: it miscounts what it refuses.
    fn account(&mut self) -> Result<()> {
        let size = |writing: &Writing| writing.file.inner().as_file().metadata().map_or(0, |file| file.len());
        let more: u64 = self.windows.iter().map(|w| size(w).saturating_sub(w.file.current_disk_usage())).sum();
        let (used, most) = (self.disk.used_disk_space(), self.disk.max_temp_directory_size());
        if used + more > most {
            let message = format!(
                "replay: expected at most {most} bytes of spill files, found {}; raise spill_bytes_max",
                used + more
            );
            return Err(QueryError::new(ErrorKind::Overloaded, message));
        }
        self.windows.iter_mut().try_for_each(|w| w.file.update_disk_usage()).map_err(|error| no_disk(&error))
    }
}

impl std::fmt::Debug for Scatter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scatter").field("first", &self.first).field("width", &self.width).finish_non_exhaustive()
    }
}

impl Window {
    /// Reads the rows back, in the order in which they were written. Blocks on the disk.
    pub(crate) fn read(self) -> Result<Vec<RecordBatch>> {
        let file = File::open(self.file.path()).map_err(|error| no_disk(&error))?;
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(|error| no_disk(&error))?;
        reader.collect::<Result<_, _>>().map_err(|error| no_disk(&error))
    }
}

fn no_disk(error: &dyn std::fmt::Display) -> QueryError {
    QueryError::new(ErrorKind::Overloaded, format!("replay: a wide range needs room in the spill folder: {error}"))
}
