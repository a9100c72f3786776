//! A table's files as an operator reads them, and what the planner makes of them.

use schemas::{ErrorKind, Seq, TopicDef};
use serde::{Deserialize, Serialize};

use super::super::create::default_level1;
use super::super::files::{DataFile, Partition};
use super::super::state::TableState;
use super::Compaction;
use super::plan::{Job, SeqRange, plan, ranges, tier};
use crate::error::{CatalogError, Result};

/// Most ranges of which the files are listed one by one.
const LISTED_MAX: usize = 10_000;

/// One live file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedFile {
    /// Its path in the store.
    pub path: String,
    /// 0 or 1.
    pub level: u8,
    /// The prefix that it is of; `None` in level 0.
    pub prefix: Option<String>,
    /// `bucket/buckets` of the key; `None` in level 0.
    pub bucket: Option<String>,
    /// Lowest seq in it.
    pub first: Seq,
    /// Highest seq in it.
    pub last: Seq,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Whether its rows are known to lie in order of prefix, key and seq.
    pub sorted: bool,
}

/// One seq range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRange {
    /// Lowest seq.
    pub first: Seq,
    /// Highest seq.
    pub last: Seq,
    /// Its tier by rows.
    pub tier: u32,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Why it is merged no more; `None` if it will be.
    pub settled: Option<String>,
    /// Its files.
    pub files: Vec<ListedFile>,
}

/// What would be merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedJob {
    /// Lowest seq.
    pub first: Seq,
    /// Highest seq.
    pub last: Seq,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Why now.
    pub reason: String,
}

/// A table's files by seq range, and what would be merged next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// Buckets that new level-1 files are spread over; 0 if other engines changed the default spec.
    pub buckets: u32,
    /// Live snapshots.
    pub snapshots: u64,
    /// Manifests of the current one.
    pub manifests: u64,
    /// The ranges, oldest first.
    pub ranges: Vec<ListedRange>,
    /// What would be merged next, the cheapest first; empty if nothing is due.
    pub next: Vec<ListedJob>,
}

impl TableState {
    /// What lies in the table and what would be done about it. Errors: those of [`Self::files`]; `Overloaded` for more files than can be listed.
    pub async fn report(&self, topic: &TopicDef, settings: &Compaction) -> Result<TableReport> {
        let files = self.files().await?;
        if files.files().len() > LISTED_MAX {
            let message = format!(
                "table {}: expected at most {LISTED_MAX} files to list, found {}",
                self.name(),
                files.files().len()
            );
            return Err(CatalogError::new(ErrorKind::Overloaded, message));
        }
        let settings = &self.within_retention(settings, &files)?;
        let ranges = ranges(topic.id, files.files());
        let next = plan(&ranges, settings, false);
        Ok(TableReport {
            buckets: default_level1(self.metadata()).map_or(0, |(_, buckets)| buckets),
            snapshots: self.metadata().snapshots().len() as u64,
            manifests: self.manifests().await?.len() as u64,
            ranges: ranges.iter().map(|range| listed(range, settings)).collect(),
            next: next
                .into_iter()
                .map(|Job { first, last, rows, bytes, reason, .. }| ListedJob { first, last, rows, bytes, reason })
                .collect(),
        })
    }

    /// Live data files, as the current snapshot's summary counts them; 0 before the first flush. `None` if another engine left it out.
    pub fn files_counted(&self) -> Option<u64> {
        let Some(snapshot) = self.metadata().current_snapshot() else { return Some(0) };
        snapshot.summary().additional_properties.get("total-data-files").and_then(|text| text.parse().ok())
    }
}

fn listed(range: &SeqRange, settings: &Compaction) -> ListedRange {
    ListedRange {
        first: range.first,
        last: range.last,
        tier: tier(range.rows),
        rows: range.rows,
        bytes: range.bytes,
        settled: range.settled(settings),
        files: range.runs.iter().flatten().map(|file| listed_file(file)).collect(),
    }
}

fn listed_file(file: &DataFile) -> ListedFile {
    let (level, prefix, bucket) = match &file.partition {
        Partition::Level0 => (0, None, None),
        Partition::Level1 { prefix, bucket, buckets } => (1, Some(prefix.clone()), Some(format!("{bucket}/{buckets}"))),
    };
    let (path, (first, last)) = (file.path.to_string(), file.seqs);
    ListedFile { path, level, prefix, bucket, first, last, rows: file.rows, bytes: file.size, sorted: file.sorted }
}
