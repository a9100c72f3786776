//! Compaction: neighbouring seq ranges of a topic's table become one, sorted, laid out by prefix and bucket of the key where a file of it is large enough.
//!
//! * [`plan`] says which ranges to merge next, and why: a pure function of what the manifests say.
//! * [`read`] and [`merge`] stream the rows of their files in the order of (`_prefix`, `_key`, `_seq`), [`layout`] cuts the stream into files.
//! * [`replace`] commits (P8): again and again onto whatever base there is, as long as all that was read is still live in it.
//!
//! An attempt that dies leaves files that no snapshot names; the sweep removes them. Nothing of it is remembered: the next plan is made from the table as it is.

mod layout;
mod merge;
pub(super) mod plan;
mod read;
mod replace;
mod report;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use schemas::{ErrorKind, TopicDef};
use serde::{Deserialize, Serialize};

pub(super) use plan::ranges;
pub use plan::{Job, SeqRange};
pub(super) use read::Inputs;
pub use report::{ListedFile, ListedJob, ListedRange, TableReport};

use super::create::{default_level1, wider_spec};
use super::properties;
use super::rowhash::RowHash;
use super::state::TableState;
use super::verify::number;
use super::{Tables, iceberg_error};
use crate::error::{CatalogError, Result};
use layout::Layout;
use merge::Merge;
use plan::{buckets_wanted, plan};
use replace::Replacement;

/// Commits of a wider partition spec that others may overtake.
const ATTEMPTS_MAX: u32 = 16;

/// How tables are compacted. Plain data with defaults; units last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    /// Whether it runs by itself.
    pub enabled: bool,
    /// Encoded bytes that a file aims at.
    pub file_bytes: u64,
    /// A file of less than so many bytes is never of level 1: it stays in level 0, where a file may hold many prefixes and buckets.
    pub level1_bytes_min: u64,
    /// Encoded bytes of a seq range from a quarter of which on it is merged no more. Bounds one job, and what a replay puts back into seq order at a time.
    pub range_bytes_max: u64,
    /// Encoded bytes of an average prefix and bucket at which the number of buckets doubles.
    pub bucket_bytes: u64,
    /// Encoded bytes that are read a second, at most; 0: as fast as it goes.
    pub bytes_per_second_max: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            enabled: true,
            file_bytes: 128 << 20,
            level1_bytes_min: 16 << 20,
            range_bytes_max: 4 << 30,
            bucket_bytes: 4 << 30,
            bytes_per_second_max: 64 << 20,
        }
    }
}

/// What one job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Jobs.
    pub jobs: u64,
    /// Rows that were written anew.
    pub rows: u64,
    /// Files that were replaced.
    pub files_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Files that took their place.
    pub files_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

impl std::ops::AddAssign for Compacted {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.rows += other.rows;
        self.files_in += other.files_in;
        self.bytes_in += other.bytes_in;
        self.files_out += other.files_out;
        self.bytes_out += other.bytes_out;
    }
}

impl TableState {
    /// What would be merged next, the cheapest first; with `whole`, whatever can be.
    ///
    /// Errors: those of [`Self::files`].
    pub async fn plan(&self, topic: &TopicDef, settings: &Compaction, whole: bool) -> Result<Vec<Job>> {
        let files = self.files().await?;
        let settings = self.within_retention(settings, &files)?;
        Ok(plan(&ranges(topic.id, files.files()), &settings, whole))
    }
}

impl Tables {
    /// Does the first job of the table's plan. `None` if there is none to do, or others have replaced its files meanwhile: look again.
    ///
    /// One job at a time runs in a process, on a thread of its own. Dropping the future breaks it off at the next batch. Errors: those of [`Self::load`];
    /// `Corrupt` if the rows that were to be written are not those that were read, or a file cannot be read.
    pub async fn compact(&self, def: &Arc<TopicDef>, settings: &Compaction, whole: bool) -> Result<Option<Compacted>> {
        let _turn = self
            .shared
            .compacting
            .acquire()
            .await
            .map_err(|error| CatalogError::new(ErrorKind::Internal, "compaction: its turn").caused_by(error))?;
        let work = self.clone().job(Arc::clone(def), *settings, whole);
        self.shared
            .env
            .apart(work)
            .await
            .map_err(|error| CatalogError::new(ErrorKind::Internal, "a compaction ended badly").caused_by(error))?
    }

    /// The work of one job, which is large.
    fn job(
        self,
        def: Arc<TopicDef>,
        settings: Compaction,
        whole: bool,
    ) -> BoxFuture<'static, Result<Option<Compacted>>> {
        async move { self.compact_here(&def, &settings, whole).await }.boxed()
    }

    async fn compact_here(&self, def: &TopicDef, settings: &Compaction, whole: bool) -> Result<Option<Compacted>> {
        let mut base = self.load(def).await?;
        if !has_version(&base, def)? {
            return Ok(None);
        }
        let Some(job) = base.plan(def, settings, whole).await?.into_iter().next() else { return Ok(None) };
        base.check_foreign().await?;
        if let Some(buckets) = self.wider(&base, settings).await? {
            base = self.widen(def, buckets).await?;
        }
        if !has_version(&base, def)? {
            return Ok(None);
        }
        match self.write_anew(def, &base, job.clone(), settings).await {
            Ok(replacement) => self.replace(def, replacement).await,
            // Others replaced what was read so long ago that it has been removed since.
            Err(error)
                if error.kind() == ErrorKind::NotFound && !job.is_live_in(self.look(def).await?.as_ref()).await? =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The number of buckets that the table should have by now, if it has fewer.
    async fn wider(&self, base: &TableState, settings: &Compaction) -> Result<Option<u32>> {
        let Some((_, buckets)) = default_level1(base.metadata()) else { return Ok(None) };
        let wanted = buckets_wanted(base.files().await?.files(), buckets, settings);
        Ok((wanted > buckets).then_some(wanted))
    }

    /// Commits the level-1 spec with so many buckets as the table's default. Files that are there stay under theirs.
    async fn widen(&self, def: &TopicDef, buckets: u32) -> Result<Arc<TableState>> {
        let commit = self.shared.env.uuid().to_string();
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            if default_level1(base.metadata()).is_some_and(|(_, now)| now >= buckets) {
                return Ok(base);
            }
            let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
            let built = builder.add_default_partition_spec(wider_spec(buckets)?).and_then(|builder| builder.build());
            let built = built.map_err(|error| iceberg_error(base.name(), error))?;
            if let Some(state) = self.publish(def, &commit, &base, built).await? {
                tracing::info!(
                    table = state.name(),
                    buckets,
                    "the table's keys are spread over more buckets from now on"
                );
                return Ok(state);
            }
        }
        let message = format!("topic {}: {ATTEMPTS_MAX} commits were overtaken by others; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }

    /// Streams the job's rows into new files, and proves that they are the same.
    async fn write_anew(
        &self,
        def: &TopicDef,
        base: &TableState,
        job: Job,
        settings: &Compaction,
    ) -> Result<Replacement> {
        let generation = base.generation()?;
        let inputs = read::Inputs::new(self.shared.store.clone(), def.event_schema(), settings.bytes_per_second_max);
        let layout = Layout::new(self, def, base, &job, &inputs, settings).await?;
        let (written, read) = self.stream(&job, &inputs, layout).await?;
        let (rows, hash) = (
            written.iter().map(|file| file.rows).sum(),
            written.iter().fold(RowHash::default(), |sum, file| sum + file.row_hash),
        );
        if (rows, hash) != (job.rows, read) {
            let message = format!(
                "table {}: {} rows with hash {read} were read from seq {} to {}, and {rows} with {hash} written anew; nothing is committed",
                base.name(),
                job.rows,
                job.first,
                job.last
            );
            return Err(CatalogError::new(ErrorKind::Corrupt, message));
        }
        Ok(Replacement { job, written, generation, commit: self.shared.env.uuid().to_string() })
    }

    async fn stream(
        &self,
        job: &Job,
        inputs: &read::Inputs,
        mut layout: Layout<'_>,
    ) -> Result<(Vec<layout::Written>, RowHash)> {
        let runs = job.files.iter().map(|files| inputs.run(files.clone())).collect();
        let mut merge = Merge::new(runs).await?;
        while let Some(batch) = merge.next().await? {
            layout.add(batch).await?;
            // On one thread, this is where a job can be broken off.
            tokio::task::yield_now().await;
        }
        Ok((layout.finish().await?, merge.row_hash()))
    }
}

/// True if the table has the schema that the topic has: it does once a flush has carried the last change there, and rows are not written under any other.
pub(super) fn has_version(table: &TableState, def: &TopicDef) -> Result<bool> {
    let version: u32 = number(table.metadata(), properties::SCHEMA_VERSION, table.name())?;
    Ok(version == def.version)
}

/// Waits so long that not more than `bytes_per_second` are taken.
#[derive(Debug)]
struct Throttle {
    bytes_per_second: u64,
    free_at: tokio::time::Instant,
}

impl Throttle {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, free_at: tokio::time::Instant::now() }
    }

    async fn take(&mut self, bytes: u64) {
        if self.bytes_per_second == 0 {
            return;
        }
        let now = tokio::time::Instant::now();
        let took = Duration::from_micros(bytes.saturating_mul(1_000_000) / self.bytes_per_second);
        tokio::time::sleep_until(self.free_at).await;
        self.free_at = self.free_at.max(now) + took;
    }
}

#[cfg(test)]
mod tests;
