//! The seam between what is written and what is read: a committed table snapshot and the tail that begins exactly at its watermark.
//!
//! `ingest` implements [`Tail`], `query` reads [`ReadView`]s; `query` implements [`LastSeqs`], `ingest` asks it; and neither sees the other.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use schemas::envelope::column;
use schemas::pattern::Pattern;
use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, Seq, TopicDef, TopicId, Watermark};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{CatalogError, Result};
use crate::table::{TableState, Tables};

/// Acknowledged events that may not be in their tables yet.
///
/// # Contract
/// * a batch appears only once its segment is decided (durable, and all before it), and whole;
/// * all of a topic's batches have its newest schema version that is decided, whatever version they were appended under;
/// * `snapshot` is cheap: it clones `Arc`s, copies no column, never awaits.
pub trait Tail: Debug + Send + Sync {
    /// The topic's tail, frozen at the call. `None` if this process does not hold the topic.
    fn snapshot(&self, topic: &TopicId) -> Option<TailSnapshot>;

    /// The seq after the topic's last decided event; changes at every decided append. `None` if this process does not hold the topic.
    fn watch(&self, topic: &TopicId) -> Option<watch::Receiver<Seq>>;
}

/// Which events of a topic a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matching {
    /// Those of one key.
    Key(String),
    /// Those whose `_path` matches.
    Pattern(Pattern),
    /// All of them.
    Topic,
}

/// One question about a table: does anything that matches lie above a seq?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of which events.
    pub of: Matching,
    /// Only what lies above it counts; 0 for all there are. The higher it is, the fewer files are looked into.
    pub above: Seq,
}

/// What one table snapshot says to a list of questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeqsFound {
    /// For each question, the greatest seq that matches and lies above the bound; `None` if nothing does.
    pub last: Vec<Option<Seq>>,
    /// First seq that the snapshot does *not* hold: the answers say nothing about events from here on. They decide only together with in-flight
    /// events and a tail that begins at or below it; once the tail begins above, ask again.
    pub watermark: Watermark,
}

/// The last seqs of keys, paths and topics as far as they are in tables: how conditions on cold keys are tested without state for each key.
///
/// # Contract
/// * all answers of one call are of one snapshot, the newest that this process knows at the call or one newer; they are exact, never a filter's guess;
/// * a key costs at most one read of a few pages in each file that its bounds, bucket and bloom filter leave over, and that has seqs above the
///   bound: nearly always none for a key that is new, one for one that is not; answers are kept for a while within a bound of bytes;
/// * a pattern costs a scan of `_path` from the newest file backwards until one matches, the topic costs nothing.
#[async_trait]
pub trait LastSeqs: Debug + Send + Sync {
    /// Answers `asked`, in their order.
    ///
    /// Errors: `NotFound` if the topic's table is not open in this process; `Unavailable` if the store is away; `Corrupt` for a damaged file.
    async fn last_seqs(&self, topic: &TopicDef, asked: &[Asked]) -> Result<LastSeqsFound>;
}

/// One topic's tail at a moment: contiguous, ordered by `_seq`, no chunk empty.
#[derive(Clone, Debug)]
pub struct TailSnapshot {
    /// The topic, at the newest version of its schema that is decided: all chunks have it.
    pub def: Arc<TopicDef>,
    /// Seq of the first event here; equals `end` if there is none.
    pub start: Seq,
    /// The seq after the last event here: the topic's next seq as far as is decided.
    pub end: Seq,
    /// The events; the first chunk begins at `start`, each at the end of the one before.
    pub chunks: Vec<Arc<TailChunk>>,
}

/// Some consecutive events of a tail in one batch, with an index from key to rows that is built when first asked for.
#[derive(Debug)]
pub struct TailChunk {
    batch: RecordBatch,
    first_seq: Seq,
    /// `hash << 32 | row`, sorted: 8 bytes a row, one allocation.
    rows_by_hash: OnceLock<Box<[u64]>>,
}

impl TailChunk {
    /// `batch` has the topic's event schema (envelope, then payload) and at least one row, with `_seq` dense and ascending.
    pub fn new(batch: RecordBatch) -> Self {
        assert!(batch.num_rows() > 0, "a chunk holds at least one event");
        let seqs = batch.column(column::SEQ).as_primitive::<Int64Type>();
        let first_seq = Seq(seqs.value(0));
        debug_assert_eq!(seqs.value(seqs.len() - 1), first_seq.0 + seqs.len() as i64 - 1, "seqs are dense");
        Self { batch, first_seq, rows_by_hash: OnceLock::new() }
    }

    /// The events.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// Seq of the first event.
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    /// The seq after the last event.
    pub fn end_seq(&self) -> Seq {
        self.first_seq.plus(self.batch.num_rows())
    }

    /// Row numbers of `key`, ascending.
    pub fn rows_of(&self, key: &str) -> Vec<u32> {
        let keys: &StringArray = self.batch.column(column::KEY).as_string();
        let index = self.rows_by_hash.get_or_init(|| {
            let entry = |row: usize| half_hash(keys.value(row)) << 32 | row as u64;
            let mut index: Box<[u64]> = (0..keys.len()).map(entry).collect();
            index.sort_unstable();
            index
        });
        let hash = half_hash(key);
        let first = index.partition_point(|entry| entry >> 32 < hash);
        let candidates = index[first..].iter().take_while(|entry| **entry >> 32 == hash).map(|entry| *entry as u32);
        candidates.filter(|row| keys.value(*row as usize) == key).collect()
    }
}

/// 32 bits of a key's hash: enough to find candidates, which are compared in full.
fn half_hash(key: &str) -> u64 {
    xxh3_64(key.as_bytes()) >> 32
}

/// One consistent cut of a topic: one table snapshot and the tail that begins exactly at its watermark: no gap, no overlap.
#[derive(Clone, Debug)]
pub struct ReadView {
    def: Arc<TopicDef>,
    table: Arc<TableState>,
    tail: Vec<RecordBatch>,
    chunks: Vec<Arc<TailChunk>>,
    end: Seq,
}

impl ReadView {
    /// Takes the tail first, then the table (P6): what a flush moves in between is then in both, and cut from the tail.
    ///
    /// Errors: `NotFound` if this process does not hold the topic; those of [`Tables::current`]; `Internal` if there is a gap.
    pub async fn open(tail: &dyn Tail, tables: &Tables, def: Arc<TopicDef>) -> Result<Self> {
        let early = if planted(Bug::SnapshotBeforeTail) { tables.current(&def).await.ok() } else { None };
        if early.is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let held = tail.snapshot(&def.id).ok_or_else(|| {
            CatalogError::new(ErrorKind::NotFound, format!("topic {} is not held by this server", def.name))
        })?;
        let table = match early {
            Some(table) => table,
            None => tables.current(&def).await?,
        };
        Self::new(held, table)
    }

    /// Cuts `held` at the table's watermark. The view has the schema of the tail, which is never older than the one that the topic is known by elsewhere.
    ///
    /// Errors: `Internal` if the tail begins above the watermark, which would be a gap.
    pub fn new(held: TailSnapshot, table: Arc<TableState>) -> Result<Self> {
        let def = held.def;
        let Watermark(from) = table.watermark();
        if held.start > from {
            let message =
                format!("topic {}: the tail begins at {} and the table ends before {from}", def.name, held.start);
            return Err(CatalogError::new(ErrorKind::Internal, message));
        }
        let chunks: Vec<_> = held.chunks.into_iter().filter(|chunk| chunk.end_seq() > from).collect();
        let cut = |chunk: &Arc<TailChunk>| {
            let skip = (from.0 - chunk.first_seq().0).max(0) as usize;
            chunk.batch().slice(skip, chunk.batch().num_rows() - skip)
        };
        let tail = chunks.iter().map(cut).collect();
        Ok(Self { def, table, tail, chunks, end: held.end.max(from) })
    }

    /// What a table held in some snapshot, alone.
    pub fn of_snapshot(def: Arc<TopicDef>, table: TableState) -> Self {
        let end = table.watermark().0;
        Self { def, table: Arc::new(table), tail: Vec::new(), chunks: Vec::new(), end }
    }

    /// The same cut without the events from `end` on. Files may hold some of them: see [`Self::cuts_table`].
    pub fn until(mut self, end: Seq) -> Self {
        self.end = self.end.min(end);
        let mut from = self.watermark().0;
        self.tail.retain_mut(|batch| {
            let rows = batch.num_rows();
            let kept = usize::try_from(self.end.0 - from.0).unwrap_or(0).min(rows);
            *batch = batch.slice(0, kept);
            from = from.plus(rows);
            kept > 0
        });
        self
    }

    /// True if the table holds events that this view does not: those at or above its end.
    pub fn cuts_table(&self) -> bool {
        self.end < self.watermark().0
    }

    /// The topic.
    pub fn def(&self) -> &Arc<TopicDef> {
        &self.def
    }

    /// The committed part: events below [`Self::watermark`].
    pub fn table(&self) -> &Arc<TableState> {
        &self.table
    }

    /// The rest, in seq order, event schema, no batch empty; begins at [`Self::watermark`].
    pub fn tail(&self) -> &[RecordBatch] {
        &self.tail
    }

    /// First seq of the tail part.
    pub fn watermark(&self) -> Watermark {
        self.table.watermark()
    }

    /// The seq after the last event of this view.
    pub fn end(&self) -> Seq {
        self.end
    }

    /// The tail's events of one key, in seq order, as (batch, ascending rows of it); found by index, nothing copied.
    pub fn tail_rows_of(&self, key: &str) -> Vec<(&RecordBatch, Vec<u32>)> {
        let from = self.watermark().0;
        let mut found = Vec::new();
        for chunk in &self.chunks {
            let skip = (from.0 - chunk.first_seq().0).max(0) as u32;
            let rows: Vec<u32> = chunk.rows_of(key).into_iter().filter(|row| *row >= skip).collect();
            if !rows.is_empty() {
                found.push((chunk.batch(), rows));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
