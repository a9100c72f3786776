//! One topic's tail: chunks in seq order, merged as they grow.
//!
//! A topic that gets single events would otherwise hold a batch an event: each new chunk is merged with those before it as long as they are less
//! than twice as large, so a row is copied a logarithmic number of times and a tail has few small chunks.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use catalog::view::{TailChunk, TailSnapshot};
use schemas::{Seq, TopicDef, Watermark};

use crate::memory::Held;

/// Chunks are merged up to this many rows: an index over them is built in about a millisecond.
const CHUNK_ROWS_MAX: usize = 16 << 10;
/// Chunks are merged up to this many bytes.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// The chunks of one topic, dense from `start` to `next`.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: VecDeque<Chunk>,
    next: Seq,
    /// First seq that is not in the table, as far as is known here.
    watermark: Seq,
    /// Chunks from here on may be merged; those before are, or were, on their way to the table and are to be dropped whole.
    cut_at: Seq,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    chunk: Arc<TailChunk>,
    bytes: usize,
    /// When the first of its rows was pushed.
    pushed_micros: i64,
}

/// Rows on their way out of a tail: `[from, to)`, whole appends only.
#[derive(Debug)]
pub(crate) struct Cut {
    /// First seq, which the table's watermark should be at.
    pub(crate) from: Seq,
    /// The seq after the last.
    pub(crate) to: Seq,
    /// The rows, in seq order.
    pub(crate) batches: Vec<RecordBatch>,
}

impl Chunk {
    fn rows(&self) -> usize {
        self.chunk.batch().num_rows()
    }
}

impl Chunks {
    /// Empty; the first event pushed has seq `next`.
    pub(super) fn new(next: Seq) -> Self {
        Self { chunks: VecDeque::new(), next, watermark: next, cut_at: next, bytes: 0 }
    }

    /// Appends a batch of events, which begins at [`Self::next`]. An empty one changes nothing.
    pub(super) fn push(&mut self, batch: RecordBatch, now_micros: i64) {
        if batch.num_rows() == 0 {
            return;
        }
        let chunk = TailChunk::new(batch);
        assert_eq!(chunk.first_seq(), self.next, "a tail has no gap and no overlap");
        self.next = chunk.end_seq();
        self.push_chunk(chunk, now_micros);
        self.merge();
    }

    fn push_chunk(&mut self, chunk: TailChunk, pushed_micros: i64) {
        let bytes = Held::of(chunk.batch().columns());
        self.bytes += bytes;
        self.chunks.push_back(Chunk { chunk: Arc::new(chunk), bytes, pushed_micros });
    }

    fn merge(&mut self) {
        let from = self.mergeable_from();
        if self.chunks.len() - from < 2 {
            return;
        }
        let parts: Vec<_> = self.chunks.drain(from..).collect();
        let pushed_micros = parts[0].pushed_micros;
        let batches = parts.iter().map(|part| part.chunk.batch());
        let merged = concat_batches(parts[0].chunk.batch().schema_ref(), batches)
            .expect("the schemas are equal, and bounded chunks overflow no offset");
        self.bytes -= parts.iter().map(|part| part.bytes).sum::<usize>();
        self.push_chunk(TailChunk::new(merged), pushed_micros);
    }

    /// The first of the last chunks that belong in one.
    fn mergeable_from(&self) -> usize {
        let Some(newest) = self.chunks.back() else { return 0 };
        let (mut rows, mut bytes) = (newest.rows(), newest.bytes);
        let mut from = self.chunks.len() - 1;
        while let Some(before) = from.checked_sub(1).map(|at| &self.chunks[at]) {
            let fits = rows + before.rows() <= CHUNK_ROWS_MAX && bytes + before.bytes <= CHUNK_BYTES_MAX;
            let alike = before.chunk.batch().schema_ref() == newest.chunk.batch().schema_ref();
            if !fits || !alike || before.rows() >= 2 * rows || before.chunk.first_seq() < self.cut_at {
                break;
            }
            rows += before.rows();
            bytes += before.bytes;
            from -= 1;
        }
        from
    }

    /// Drops what lies wholly below the table's watermark. A chunk that straddles it stays whole: readers cut it (P6).
    pub(super) fn trim(&mut self, Watermark(watermark): Watermark) {
        self.watermark = self.watermark.max(watermark);
        while let Some(oldest) = self.chunks.front() {
            if oldest.chunk.end_seq() > self.watermark {
                break;
            }
            self.bytes -= oldest.bytes;
            self.chunks.pop_front();
        }
    }

    /// The oldest rows that are not in the table, about `bytes_max` of them and at least one chunk; `None` if all are.
    ///
    /// Later rows will not be merged with these, so that they can be dropped whole.
    pub(super) fn cut(&mut self, bytes_max: u64) -> Option<Cut> {
        let from = self.watermark.max(self.start());
        let mut bytes = 0;
        let mut batches = Vec::new();
        let mut to = from;
        for chunk in &self.chunks {
            if !batches.is_empty() && bytes + chunk.bytes as u64 > bytes_max {
                break;
            }
            bytes += chunk.bytes as u64;
            let skip = usize::try_from(from.0 - chunk.chunk.first_seq().0).unwrap_or(0);
            batches.push(chunk.chunk.batch().slice(skip, chunk.rows() - skip));
            to = chunk.chunk.end_seq();
        }
        self.cut_at = self.cut_at.max(to);
        (!batches.is_empty()).then_some(Cut { from, to, batches })
    }

    /// All rows that are not in the table, as far as they are here; an empty extent if all are.
    pub(super) fn unflushed(&self) -> Cut {
        let from = self.watermark.max(self.start());
        let rows = |chunk: &Chunk| {
            let skip = usize::try_from(from.0 - chunk.chunk.first_seq().0).unwrap_or(0);
            chunk.chunk.batch().slice(skip, chunk.rows() - skip)
        };
        let held = self.chunks.iter().filter(|chunk| chunk.chunk.end_seq() > from);
        Cut { from, to: self.next.max(from), batches: held.map(rows).collect() }
    }

    /// Puts others in the place of all batches, row for row.
    pub(super) fn replace(&mut self, with: impl Fn(&RecordBatch) -> RecordBatch) {
        for held in &mut self.chunks {
            let batch = with(held.chunk.batch());
            debug_assert_eq!(batch.num_rows(), held.rows());
            let bytes = Held::of(batch.columns());
            self.bytes = self.bytes - held.bytes + bytes;
            (held.chunk, held.bytes) = (Arc::new(TailChunk::new(batch)), bytes);
        }
    }

    /// All of it, frozen.
    pub(super) fn snapshot(&self, def: Arc<TopicDef>) -> TailSnapshot {
        let chunks = self.chunks.iter().map(|chunk| Arc::clone(&chunk.chunk)).collect();
        TailSnapshot { def, start: self.start(), end: self.next, chunks }
    }

    /// Seq of the first event here.
    pub(super) fn start(&self) -> Seq {
        self.chunks.front().map_or(self.next, |chunk| chunk.chunk.first_seq())
    }

    /// The seq after the last event here.
    pub(super) fn next(&self) -> Seq {
        self.next
    }

    /// The first seq that is not in the table, as far as is known here.
    pub(super) fn watermark(&self) -> Watermark {
        Watermark(self.watermark)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest row that is not in the table was pushed.
    pub(super) fn oldest_micros(&self) -> Option<i64> {
        self.chunks.front().map(|chunk| chunk.pushed_micros)
    }
}

#[cfg(test)]
mod tests;
