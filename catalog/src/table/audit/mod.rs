//! Proving a table from its metadata, manifests and data files alone: nothing missing, doubled or altered. Reads only.
//!
//! [`TableAudit::open`] looks at the metadata (whose it is, that flushes tile), [`TableAudit::rows`] at every file and every row. Memory is bounded: files
//! are decoded a few thousand rows at a time; what is remembered of rows that were passed is a bit for each seq and the seqs of each distinct time, and of
//! those only what lies in the seq range in which files overlap ([`seen`], [`times`]).
//!
//! What a file of Firn's must contain stands in its name ([`super::naming`]), so that every bit of it counts; what other engines have rewritten is
//! proven by its rows and their hash.

mod file;
mod manifests;
mod ranges;
mod rows;
mod seen;
mod snapshots;
mod times;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use iceberg::spec::TableMetadata;
use schemas::limits::PREFIXES_MAX;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, Watermark};

pub use ranges::Recorded;

use super::pointer::{Pinned, Pointer};
use super::rowhash::RowHash;
use super::verify::number;
use super::{Tables, properties};
use crate::audit::{Audited, Checks, Stop, agree, laws};
use crate::error::CatalogError;
use crate::storage::Meter;
use file::Planned;
use ranges::Found;
use rows::{Rows, Rules};
use seen::Seen;
use snapshots::Promised;
use times::{Fell, Times};

/// Files looked at side by side.
const FILES_AT_ONCE: usize = 4;

/// One state of a topic's table, whose metadata was found to be in order.
#[derive(Debug)]
pub struct TableAudit {
    tables: Tables,
    tenant: TenantName,
    def: Arc<TopicDef>,
    pinned: Pinned,
    /// Path of the metadata.
    object: String,
    metadata: TableMetadata,
    promised: Promised,
}

/// What was proven of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// Live rows.
    pub rows: u64,
    /// Live files.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// `_time` of the last event, microseconds.
    pub last_time: Option<i64>,
}

/// What the rows of all files so far add up to.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    left_over: u64,
    hash: RowHash,
    seen: Seen,
    times: Times,
    prefixes: BTreeSet<String>,
    flushed: Found,
    early: Found,
    logged: Found,
}

impl TableAudit {
    /// Reads pointer and metadata, and checks what they say.
    pub async fn open(tables: &Tables, tenant: &TenantName, def: &Arc<TopicDef>, checks: &mut Checks) -> Audited<Self> {
        let shared = &tables.shared;
        let path = Pointer::path(tenant, &def.name);
        let read = shared.read_pointer(&path).await.map_err(|error| Stop::of(laws::LINKED, &path, error))?;
        let absent =
            || Stop::fault(laws::IDENTITY, &path, format!("the pointer to the table of topic {}", def.id), "none");
        let pinned = read.ok_or_else(absent)?;
        agree(laws::IDENTITY, &path, "topic", def.id, pinned.pointer.topic)?;
        let uri = pinned.pointer.metadata.clone();
        let uri = uri.ok_or_else(|| Stop::fault(laws::IDENTITY, &path, "a table's metadata", "a dropped table"))?;
        let (object, content) = manifests::fetch(shared, &uri, path.as_ref()).await?;
        let metadata: TableMetadata = serde_json::from_slice(&content)
            .map_err(|error| Stop::fault(laws::INTACT, &object, "Iceberg table metadata", error))?;
        checks.held(laws::INTACT, "table metadata", 1);
        let location =
            shared.store.uri(&object_store::path::Path::from(format!("warehouse/{}/{}", def.tenant, def.id)));
        let promised = snapshots::check(&metadata, def, &location, object.as_ref(), checks)?;
        checks.held(laws::IDENTITY, "tables", 1);
        let (tables, tenant, def, object) = (tables.clone(), tenant.clone(), Arc::clone(def), object.to_string());
        Ok(Self { tables, tenant, def, pinned, object, metadata, promised })
    }

    /// First seq not in the table.
    pub fn watermark(&self) -> Watermark {
        self.promised.watermark
    }

    /// Path of the metadata file that this is about.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The version of the topic's schema that the table has.
    ///
    /// Errors: a fault if it says none.
    pub fn schema_version(&self) -> Audited<u32> {
        number(&self.metadata, properties::SCHEMA_VERSION, self.object())
            .map_err(|error| Stop::of(laws::AGREED, &self.object, error))
    }

    /// The same, with rows looked at under this version of the topic: the table's own, which a lane may be ahead of.
    pub fn under(self, def: Arc<TopicDef>) -> Self {
        Self { def, ..self }
    }

    /// Whether the pointer still names the metadata that was looked at.
    ///
    /// Errors: those of reading it.
    pub async fn stands(&self) -> crate::Result<bool> {
        let path = Pointer::path(&self.tenant, &self.def.name);
        let now = self.tables.shared.read_pointer(&path).await?;
        Ok(now.is_some_and(|now| now.tag == self.pinned.tag))
    }

    /// Every manifest, every file, every row. `logged`: rows below the watermark that the log still has, in ranges that do not overlap.
    pub async fn rows(&self, logged: Vec<Recorded>, meter: &Meter, checks: &mut Checks) -> Audited<TableFacts> {
        let Promised { watermark, hash_base, flushes, retained, .. } = &self.promised;
        let shared = &self.tables.shared;
        let files = match self.metadata.current_snapshot() {
            Some(main) => manifests::plan(shared, &self.metadata, main, *watermark, checks).await?,
            None => Vec::new(),
        };
        let bytes = files.iter().map(|file| file.entry.file_size_in_bytes()).sum();
        meter.expect(bytes);
        let counts = (files.len() as u64, flushes.len() as u64, logged.len() as u64);
        let schemas = self.metadata.schemas_iter().cloned().collect();
        let rules = Rules::new(Arc::clone(&self.def), schemas, *hash_base, flushes.clone(), logged, *retained);
        let rules = Arc::new(rules.map_err(|error| Stop::Unseen(error.into()))?);
        let mut sum = self.sum_up(files, &rules).await?;
        self.check_sum(&rules, &sum)?;
        sum.times.settle(watermark.0).map_err(|fell| self.time_fell(fell))?;
        for (law, what, count) in [
            (laws::INTACT, "data files", counts.0),
            (laws::SAME, "hashes of flushes", counts.1),
            (laws::SAME, "batches of the log found in the table", counts.2),
            (laws::SAME, "hashes of the table", 1),
            (laws::ONCE, "rows of the table", sum.count),
            (laws::DENSE, "times of the table", sum.count),
            (laws::DERIVED, "keys, paths and prefixes of the table", sum.count),
        ] {
            checks.held(law, what, count);
        }
        Ok(TableFacts { rows: sum.count, files: counts.0, bytes, last_time: sum.times.last() })
    }

    /// Goes through the files in order of their first seqs, some of them side by side.
    async fn sum_up(&self, files: Vec<Planned>, rules: &Arc<Rules>) -> Audited<Sum> {
        let (store, end) = (&self.tables.shared.store, self.promised.watermark.0);
        let first = files.first().map_or(self.promised.retained, |file| file.seqs.0);
        // Once a file is through, nothing below the first seq of the next will come any more.
        let frontiers = files.iter().skip(1).map(|file| file.seqs.0).chain([end]);
        let names: Vec<_> = files.iter().map(|file| file.path.to_string()).zip(frontiers).collect();
        let audits = files.into_iter().map(|file| {
            let (store, rules) = (store.clone(), Arc::clone(rules));
            async move { tokio::spawn(file::audit(store, rules, file, end)).await }
        });
        let mut audits = stream::iter(audits).buffered(FILES_AT_ONCE).zip(stream::iter(names));
        let mut sum = Sum { seen: Seen::from(first), ..Sum::default() };
        while let Some((audited, (object, frontier))) = audits.next().await {
            let rows = audited.map_err(|error| {
                let message = format!("{object}: looking at it ended badly");
                Stop::Unseen(CatalogError::new(ErrorKind::Internal, message).caused_by(error))
            })??;
            sum.add(rows, &object)?;
            sum.times.settle(frontier).map_err(|fell| self.time_fell(fell))?;
        }
        Ok(sum)
    }

    /// All rows together are what the metadata and the log promise.
    fn check_sum(&self, rules: &Rules, sum: &Sum) -> Audited<()> {
        let Promised { watermark, retained, removed, removed_hash, total, .. } = &self.promised;
        let (missing, first) = sum.seen.missing(watermark.0);
        if missing != *removed {
            let first = first.map(|seq| format!(", first seq {seq}")).unwrap_or_default();
            let expected = format!("{removed} seqs below {watermark} in no file");
            return Err(Stop::fault(laws::DENSE, &self.object, expected, format!("{missing}{first}")));
        }
        let (kept, expected) = ((sum.count - sum.left_over) as i64, watermark.0.0 - retained.0);
        if kept != expected {
            let expected = format!("{expected} rows from {retained}, where retention ended, to before {watermark}");
            return Err(Stop::fault(laws::DENSE, &self.object, expected, kept));
        }
        let differences = [
            rules.flushed.first_difference(&sum.flushed, *retained),
            rules.early.first_altered(&sum.early),
            rules.logged.first_difference(&sum.logged, *retained),
        ];
        if let Some((range, rows, hash)) = differences.into_iter().flatten().next() {
            let place = format!("seqs {} to before {}", range.from, range.to);
            let expected = format!("{} rows with hash {}", range.to.0 - range.from.0, range.hash);
            let found = format!("{rows} with {hash} in the table");
            return Err(Stop::fault_at(laws::SAME, &range.object, place, expected, found));
        }
        agree(laws::SAME, &self.object, properties::TOTAL_ROW_HASH, *total, sum.hash + *removed_hash)?;
        if sum.prefixes.len() > PREFIXES_MAX {
            let expected = format!("at most {PREFIXES_MAX} distinct prefixes");
            return Err(Stop::fault(laws::DERIVED, &self.object, expected, sum.prefixes.len()));
        }
        Ok(())
    }

    fn time_fell(&self, fell: Fell) -> Stop {
        let expected = format!("a time of {} microseconds or later", fell.after);
        Stop::fault_at(laws::DENSE, &self.object, format!("seq {}", fell.seq), expected, fell.time)
    }
}

impl Sum {
    fn add(&mut self, rows: Rows, object: &str) -> Audited<()> {
        let Rows { count, left_over, hash, seen, times, prefixes, flushed, early, logged, .. } = rows;
        let again = |seq: Seq| {
            Stop::fault(laws::ONCE, object, "each seq in one file", format!("seq {seq}, which another has too"))
        };
        self.seen.absorb(seen).map_err(again)?;
        self.times.absorb(times);
        self.flushed.absorb(flushed);
        self.early.absorb(early);
        self.logged.absorb(logged);
        self.prefixes.extend(prefixes);
        self.count += count;
        self.left_over += left_over;
        self.hash = self.hash + hash;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
