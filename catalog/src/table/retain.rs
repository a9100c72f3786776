//! Retention: a topic's oldest events leave its table, by age, size or number.
//!
//! Which may go is told by the manifests: whole seq ranges from the oldest on, so that nothing is written anew. That they go is first a record of the lane
//! ("below R"), by which conditions are judged at their place in the order; then a commit here. What went, rows and hash, is a property of the table that every
//! summary repeats, so that the table can still be proven from what is left (P8). The watermark stays where it is. The files stay until the snapshots that need
//! them are [expired](super::expire).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use futures::FutureExt;
use futures::future::BoxFuture;
use iceberg::spec::{MAIN_BRANCH, Operation, Summary, TableMetadata};
use object_store::path::Path;
use schemas::envelope::{column, field_id};
use schemas::{ErrorKind, Seq, TopicDef, Watermark};
use serde::{Deserialize, Serialize};

use super::compact::{Compaction, Inputs, has_version, ranges};
use super::files::{DataFile, FileSet};
use super::manifests::{Change, Draft};
use super::rowhash::RowHash;
use super::state::TableState;
use super::verify::TOTAL_RECORDS;
use super::{Tables, iceberg_error, properties};
use crate::error::{CatalogError, Result};

/// Commits that others may overtake before one is given up for now.
const ATTEMPTS_MAX: u32 = 16;
/// A range is at most this part of what is kept: so much longer may events stay than they must.
const PARTS_KEPT: u64 = 4;

/// How much of a topic is kept; whichever bound is reached first. None: everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Events younger than this stay, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// So many encoded bytes of the newest events stay at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// So many of the newest events stay at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
}

/// What retention took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Events.
    pub rows: u64,
    /// Files that they were in.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl TableState {
    /// How much of the topic is kept. Errors: `Corrupt` if the property cannot be read.
    pub fn retention(&self) -> Result<Retention> {
        let Some(text) = self.metadata().properties().get(properties::RETENTION) else {
            return Ok(Retention::default());
        };
        serde_json::from_str(text).map_err(|error| {
            let message = format!("table {}: {} cannot be read: {text:?}", self.name(), properties::RETENTION);
            CatalogError::new(ErrorKind::Corrupt, message).caused_by(error)
        })
    }

    /// First seq that retention has left: events below may be gone. 1 if it took none.
    pub fn retained(&self) -> Seq {
        self.retained
    }

    /// The seq below which all events may go now, if that is beyond what went before: the end of the last of the oldest ranges that are not kept.
    ///
    /// Errors: those of [`Self::files`].
    pub async fn droppable(&self, topic: &TopicDef, now_micros: i64) -> Result<Option<Seq>> {
        let retention = self.retention()?;
        if retention == Retention::default() || !has_version(self, topic)? {
            return Ok(None);
        }
        let files = self.files().await?;
        let newest = newest_times(&files);
        let all = ranges(topic.id, files.files());
        let sum = |value: fn(&super::SeqRange) -> u64| all.iter().map(value).sum::<u64>();
        let (mut rows, mut bytes) = (sum(|range| range.rows), sum(|range| range.bytes));
        let oldest_kept = retention.age_ms.map(|age| now_micros.saturating_sub_unsigned(age.saturating_mul(1000)));
        let mut below = None;
        for range in &all {
            let times = range.runs.iter().flatten().map(|file| newest.get(&file.path).copied().flatten());
            // A range with a time that nobody knows is not known to be old.
            let newest: Option<i64> = times.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().max());
            let is_old = oldest_kept.zip(newest).is_some_and(|(kept, newest)| newest < kept);
            let is_beyond = |most: Option<u64>, left: u64| most.is_some_and(|most| left >= most);
            (rows, bytes) = (rows - range.rows, bytes - range.bytes);
            if !(is_old || is_beyond(retention.events, rows) || is_beyond(retention.bytes, bytes)) {
                break;
            }
            below = Some(Seq(range.last.0 + 1));
        }
        Ok(below.filter(|below| *below > self.retained))
    }

    /// Compaction's settings, with ranges no wider than a part of what is kept: they go as a whole.
    pub(super) fn within_retention(&self, settings: &Compaction, files: &FileSet) -> Result<Compaction> {
        let now_micros = self.shared().env.now_micros();
        let Retention { age_ms, bytes, events } = self.retention()?;
        let (rows, all) = files.files().iter().fold((0, 0), |(rows, all), file| (rows + file.rows, all + file.size));
        let part = |part: u64, whole: u64| (u128::from(all) * u128::from(part) / u128::from(whole.max(1))) as u64;
        let by_age = age_ms.and_then(|age| {
            let began =
                files.bounds(field_id::TIME).and_then(|(lower, _)| times(&lower).into_iter().flatten().min())?;
            Some(part(age, now_micros.saturating_sub(began).max(1) as u64 / 1000))
        });
        let kept = [by_age, bytes, events.map(|events| part(events, rows))].into_iter().flatten().min();
        let most = kept.map_or(settings.range_bytes_max, |kept| (kept / PARTS_KEPT).max(1));
        Ok(Compaction { range_bytes_max: settings.range_bytes_max.min(most), ..*settings })
    }
}

/// Upper bound of `_time` of each file, as far as the manifests tell.
fn newest_times(files: &FileSet) -> HashMap<Path, Option<i64>> {
    let upper = files.bounds(field_id::TIME).map(|(_, upper)| times(&upper)).unwrap_or_default();
    let paths = files.files().iter().map(|file| file.path.clone());
    paths.zip(upper.into_iter().chain(std::iter::repeat(None))).collect()
}

fn times(bounds: &ArrayRef) -> Vec<Option<i64>> {
    bounds.as_primitive_opt::<TimestampMicrosecondType>().map(|times| times.iter().collect()).unwrap_or_default()
}

impl Tables {
    /// Sets how much of the topic is kept. Errors: those of [`Self::load`]; `Invalid` for a bound of 0; `Unavailable` if others' commits were in the way.
    pub async fn set_retention(&self, def: &TopicDef, retention: Retention) -> Result<Arc<TableState>> {
        let Retention { age_ms, bytes, events } = retention;
        if [age_ms, bytes, events].contains(&Some(0)) {
            return Err(CatalogError::new(ErrorKind::Invalid, "retention: expected bounds of 1 or more, found 0"));
        }
        let text = serde_json::to_string(&retention)
            .map_err(|error| CatalogError::new(ErrorKind::Internal, "retention as JSON").caused_by(error))?;
        let commit = self.shared.env.uuid().to_string();
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            if base.retention()? == retention {
                return Ok(base);
            }
            let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
            let set = HashMap::from([(properties::RETENTION.to_owned(), text.clone())]);
            let built = builder.set_properties(set).and_then(|builder| builder.build());
            let built = built.map_err(|error| iceberg_error(base.name(), error))?;
            if let Some(state) = self.publish(def, &commit, &base, built).await? {
                return Ok(state);
            }
        }
        Err(overtaken(def))
    }

    /// Takes the files out of the table whose events all lie below `below`, which a decided record of the topic's lane says. Their rows are read and hashed first.
    ///
    /// Idempotent: what is gone is not taken again. Errors: those of [`Self::load`]; `Internal` beyond the watermark; `Corrupt` if a file cannot be read;
    /// `Unavailable` if others' commits were in the way.
    pub async fn drop_below(&self, def: &Arc<TopicDef>, below: Seq) -> Result<Removed> {
        let done = self.shared.env.apart(self.clone().removal(Arc::clone(def), below)).await;
        done.map_err(|error| CatalogError::new(ErrorKind::Internal, "a removal ended badly").caused_by(error))?
    }

    fn removal(self, def: Arc<TopicDef>, below: Seq) -> BoxFuture<'static, Result<Removed>> {
        async move { self.drop_below_here(&def, below).await }.boxed()
    }

    async fn drop_below_here(&self, def: &TopicDef, below: Seq) -> Result<Removed> {
        let commit = self.shared.env.uuid().to_string();
        let mut hashes = HashMap::new();
        let mut removed = Removed::default();
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            if base.has_commit(&commit) {
                return Ok(removed);
            }
            if Watermark(below) > base.watermark() {
                let message = format!("table {}: events below {below} are to go, beyond its watermark", base.name());
                return Err(CatalogError::new(ErrorKind::Internal, message));
            }
            if !has_version(&base, def)? {
                let message =
                    format!("table {}: a flush has yet to carry schema version {} there", base.name(), def.version);
                return Err(CatalogError::new(ErrorKind::Unavailable, message));
            }
            base.check_foreign().await?;
            let files = base.files().await?;
            let doomed: Vec<_> = files.files().iter().filter(|file| file.seqs.1 < below).cloned().collect();
            if doomed.is_empty() && base.retained() >= below {
                return Ok(Removed::default());
            }
            let hash_base = properties::seq_or_first(base.metadata(), properties::ROW_HASH_BASE, base.name())?;
            let hash = self.hash_of(def, &doomed, hash_base, &mut hashes).await?;
            let sum = |value: fn(&DataFile) -> u64| doomed.iter().map(|file| value(file)).sum::<u64>();
            removed = Removed { rows: sum(|file| file.rows), files: sum(|_| 1), bytes: sum(|file| file.size) };
            let taking = Taking { commit: &commit, below, doomed, removed, hash };
            if let Some(state) = self.take(def, &base, &files, taking).await? {
                let Removed { rows, files, bytes } = removed;
                tracing::info!(table = state.name(), %below, rows, files, bytes, "retention took events");
                return Ok(removed);
            }
        }
        Err(overtaken(def))
    }

    /// The hash of all rows of some files, as far as the table's total counts them: from `hash_base` on. Each file is read once however often it is asked for.
    async fn hash_of(
        &self,
        def: &TopicDef,
        files: &[Arc<DataFile>],
        hash_base: Seq,
        known: &mut HashMap<Path, RowHash>,
    ) -> Result<RowHash> {
        let inputs =
            Inputs::new(self.shared.store.clone(), def.event_schema(), Compaction::default().bytes_per_second_max);
        let mut sum = RowHash::default();
        for file in files {
            let hash = match known.get(&file.path) {
                Some(hash) => *hash,
                None => {
                    let (mut rows, mut hash) = (inputs.run(vec![Arc::clone(file)]), RowHash::default());
                    while let Some(batch) = rows.next().await? {
                        let seqs = batch.column(column::SEQ).as_primitive::<Int64Type>().values();
                        let counted =
                            seqs.iter().zip(RowHash::of_each(&batch)?).filter(|(seq, _)| **seq >= hash_base.0);
                        hash = counted.fold(hash, |sum, (_, digest)| sum + digest);
                        tokio::task::yield_now().await;
                    }
                    known.insert(file.path.clone(), hash);
                    hash
                }
            };
            sum = sum + hash;
        }
        Ok(sum)
    }

    async fn take(
        &self,
        def: &TopicDef,
        base: &TableState,
        files: &FileSet,
        taking: Taking<'_>,
    ) -> Result<Option<Arc<TableState>>> {
        let metadata = base.metadata();
        let draft = Draft::after(base, base.generation()?, Arc::clone(metadata.current_schema()));
        let removed = taking.doomed.iter().map(|file| file.path.clone()).collect();
        let manifest_list = draft.write(Change { removed, ..Change::default() }).await?;
        let changed = taking.properties(metadata)?;
        let summary = taking.summary(metadata, files, &changed);
        let snapshot = draft.snapshot(manifest_list, summary, metadata.current_schema_id());
        let builder = metadata.as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
        let built = builder
            .set_branch_snapshot(snapshot, MAIN_BRANCH)
            .and_then(|builder| builder.set_properties(changed))
            .and_then(|builder| builder.build());
        let built =
            built.map_err(|error| iceberg_error(&format!("the next metadata of table {}", base.name()), error))?;
        self.publish(def, taking.commit, base, built).await
    }
}

/// One removal.
struct Taking<'a> {
    commit: &'a str,
    below: Seq,
    doomed: Vec<Arc<DataFile>>,
    removed: Removed,
    hash: RowHash,
}

impl Taking<'_> {
    /// What has been taken so far, this included.
    fn properties(&self, metadata: &TableMetadata) -> Result<HashMap<String, String>> {
        let had = |name: &str| metadata.properties().get(name).map(String::as_str);
        let rows: u64 = had(properties::REMOVED_ROWS).and_then(|text| text.parse().ok()).unwrap_or_default();
        let hash = had(properties::REMOVED_ROW_HASH).map(str::parse::<RowHash>).transpose()?.unwrap_or_default();
        let below = self.below.max(properties::seq_or_first(metadata, properties::RETAINED, metadata.location())?);
        Ok(HashMap::from([
            (properties::RETAINED.to_owned(), properties::seqs_text(below)),
            (properties::REMOVED_ROWS.to_owned(), (rows + self.removed.rows).to_string()),
            (properties::REMOVED_ROW_HASH.to_owned(), (hash + self.hash).to_string()),
        ]))
    }

    fn summary(&self, metadata: &TableMetadata, files: &FileSet, changed: &HashMap<String, String>) -> Summary {
        let sum = |value: fn(&DataFile) -> u64| files.files().iter().map(|file| value(file)).sum::<u64>();
        let Removed { rows, files: count, bytes } = self.removed;
        let entries = [
            (properties::COMMIT, self.commit.to_owned()),
            ("deleted-data-files", count.to_string()),
            ("deleted-records", rows.to_string()),
            ("removed-files-size", bytes.to_string()),
            ("total-data-files", (sum(|_| 1) - count).to_string()),
            (TOTAL_RECORDS, (sum(|file| file.rows) - rows).to_string()),
            ("total-files-size", (sum(|file| file.size) - bytes).to_string()),
            ("total-delete-files", "0".to_owned()),
            ("total-position-deletes", "0".to_owned()),
            ("total-equality-deletes", "0".to_owned()),
        ];
        let carried = properties::CARRIED.iter().filter_map(|name| {
            let value = changed.get(*name).or_else(|| metadata.properties().get(*name))?;
            Some(((*name).to_owned(), value.clone()))
        });
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(carried);
        Summary { operation: Operation::Delete, additional_properties: entries.collect() }
    }
}

fn overtaken(def: &TopicDef) -> CatalogError {
    let message = format!("topic {}: {ATTEMPTS_MAX} commits were overtaken by others; try again", def.name);
    CatalogError::new(ErrorKind::Unavailable, message)
}
