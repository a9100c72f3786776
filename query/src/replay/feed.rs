//! One topic from a cursor on, in seq order, across the seam between table and tail.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use catalog::view::TailSnapshot;
use schemas::{ErrorKind, Seq, TopicDef};
use tokio::time::Instant;

use super::piece::{OUTPUT_BYTES, OUTPUT_ROWS_MAX, output_rows};
use super::table::{Scan, prefixes};
use crate::error::{QueryError, Result};
use crate::reader::Reader;
use crate::shape::Shape;
use crate::stream::Out;

/// A place in a topic that moves on, each event handed out once.
///
/// Nothing is held between two steps but the cursor: what is still in the tail comes from there, what has been flushed meanwhile from the table,
/// looked up again (P6). So a slow reader keeps neither memory nor an old snapshot, and a flush at any moment makes neither a gap nor a repeat.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    reader: Reader,
    def: Arc<TopicDef>,
    shape: Arc<Shape>,
    /// The newest schema version whose rows were found to be what `shape` takes.
    version: u32,
    cursor: Seq,
}

impl Feed {
    /// Begins with `cursor`.
    pub(crate) fn new(reader: Reader, def: Arc<TopicDef>, shape: Arc<Shape>, cursor: Seq) -> Self {
        let version = def.version;
        Self { reader, def, shape, version, cursor }
    }

    /// The next seq.
    pub(crate) fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Hands out what lies before `end`, or everything that is decided now and during the call. Returns when there is no more.
    ///
    /// Errors: `NotFound` if the topic is dropped meanwhile; those of reading.
    pub(crate) async fn run_to(&mut self, end: Option<Seq>, out: &Out) -> Result<()> {
        while end.is_none_or(|end| self.cursor < end) {
            let held = self.reader.tail.snapshot(&self.def.id).ok_or_else(|| dropped(&self.def))?;
            self.check(&held.def)?;
            if held.start <= self.cursor && self.cursor < held.end {
                let stop = end.map_or(held.end, |end| end.min(held.end));
                let batch = self.step(held, stop)?;
                match batch.num_rows() {
                    0 => tokio::task::yield_now().await,
                    _ => out.send(batch).await?,
                }
            } else if !self.table(end, out).await? {
                break;
            }
        }
        Ok(())
    }

    /// What is handed out has the columns that the topic had when this began. Errors: `Conflict` if rows no longer fit them.
    fn check(&mut self, def: &TopicDef) -> Result<()> {
        if def.version <= self.version {
            return Ok(());
        }
        if !self.shape.takes(&def.event_schema()) {
            let message = format!(
                "topic {} has schema version {} now, and events can no longer be given with the columns of version {}: begin again at seq {}",
                def.name, def.version, self.version, self.cursor
            );
            return Err(QueryError::new(ErrorKind::Conflict, message));
        }
        self.version = def.version;
        Ok(())
    }

    /// What is wanted of a batch's worth of the tail from the cursor on, which moves. `held` holds the cursor; `stop` is not before it.
    fn step(&mut self, held: TailSnapshot, stop: Seq) -> Result<RecordBatch> {
        let mut parts = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let from = held.chunks.partition_point(|chunk| chunk.end_seq() <= self.cursor);
        for chunk in &held.chunks[from..] {
            if self.cursor >= stop || rows >= OUTPUT_ROWS_MAX / 2 || bytes >= OUTPUT_BYTES / 2 {
                break;
            }
            let (all, size) = (chunk.batch().num_rows(), chunk.batch().get_array_memory_size());
            let skip = (self.cursor.0 - chunk.first_seq().0) as usize;
            let count = (stop.0.min(chunk.end_seq().0) - self.cursor.0) as usize;
            let count = count.min(output_rows(size, all));
            let events = self.shape.of_events(&chunk.batch().slice(skip, count))?;
            let end = self.cursor.plus(count);
            let kept = self.shape.sift(&events, &(self.cursor..end))?;
            if kept.num_rows() > 0 {
                parts.push(kept);
            }
            rows += count;
            bytes += size / all * count;
            self.cursor = end;
            if skip + count < all {
                break;
            }
        }
        let kept = match parts.as_slice() {
            [one] => one.clone(),
            several => concat_batches(self.shape.kept(), several)
                .map_err(|error| QueryError::new(ErrorKind::Internal, error.to_string()))?,
        };
        self.shape.hand_out(&kept)
    }

    /// The table from the cursor on, which moves. False if there is nothing.
    async fn table(&mut self, end: Option<Seq>, out: &Out) -> Result<bool> {
        let view = self.reader.view(&self.def).await?;
        self.check(view.def())?;
        let retained = view.table().retained();
        if self.cursor < retained {
            check_retained(&self.def, retained, self.cursor)?;
            self.cursor = retained;
            return Ok(true);
        }
        let watermark = view.watermark().0;
        let stop = end.map_or(watermark, |end| end.min(watermark));
        if self.cursor >= stop {
            return Ok(self.cursor < view.end() && end.is_none_or(|end| self.cursor < end));
        }
        let files = view.table().files().await?;
        drop(view);
        let scan = Scan {
            reader: self.reader.clone(),
            shape: Arc::clone(&self.shape),
            prefixes: prefixes(&self.def, &self.shape),
            seqs: self.cursor..stop,
        };
        // A snapshot is left well before its files may go (P7).
        let (begun, enough) = (Instant::now(), self.reader.settings.deadline() / 2);
        self.cursor = scan.run(files.files(), out, || begun.elapsed() < enough).await?;
        Ok(true)
    }
}

/// The error of a topic that is no longer there.
pub(crate) fn dropped(def: &TopicDef) -> QueryError {
    QueryError::new(ErrorKind::NotFound, format!("topic {} has been dropped", def.name))
}

/// Whoever begins at the beginning begins with what there is. Errors: `NotFound` for another seq below `retained`: who goes on there would miss events unawares.
pub(crate) fn check_retained(def: &TopicDef, retained: Seq, from: Seq) -> Result<()> {
    if from >= retained || from == Seq::FIRST {
        return Ok(());
    }
    let message = format!(
        "topic {}: events from seq {from} on were asked for, but its retention has dropped those below {retained}; begin there, or at the beginning",
        def.name
    );
    Err(QueryError::new(ErrorKind::NotFound, message))
}
