//! Committing a compaction (P8): what was read goes, what was written comes, in one snapshot.
//!
//! It may be applied to any base in which everything that was read is still live, again and again: flushes come between. If something of it is gone, or the sweep
//! has begun a second generation since, what was written is left for the sweep, and nothing happens. After any answer but success the table is looked at, as
//! after a flush's; nothing is ever deleted on a doubt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{MAIN_BRANCH, Operation, Snapshot, Summary, TableMetadataBuildResult};
use object_store::path::Path;
use schemas::{ErrorKind, TopicDef};

use super::super::decide::may_pin;
use super::super::files::{DataFile, FileSet};
use super::super::manifests::{Change, Draft};
use super::super::state::TableState;
use super::super::verify::TOTAL_RECORDS;
use super::super::{Tables, iceberg_error, properties};
use super::Compacted;
use super::layout::Written;
use super::plan::Job;
use crate::error::{CatalogError, Result};

/// Attempts at one commit before it is given up: others commit faster than this process can.
const ATTEMPTS_MAX: u32 = 32;

/// Files that are to take the place of others.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) job: Job,
    pub(super) written: Vec<Written>,
    /// Sweep generation of the base that the files were written for.
    pub(super) generation: u64,
    /// Identity of this commit over all its attempts.
    pub(super) commit: String,
}

/// What may be done with a replacement, having read the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Apply it to exactly this base.
    Commit,
    /// An earlier attempt's answer was lost: it is there.
    Done,
    /// Something that it replaces is gone, or its files may have been swept: it is nothing any more.
    Abandon,
}

/// `mine`: whether its commit is among the ancestors of `main`.
fn next(mine: bool, all_live: bool, written: u64, generation: u64) -> Next {
    match (mine, all_live && may_pin(written, generation)) {
        (true, _) => Next::Done,
        (false, true) => Next::Commit,
        (false, false) => Next::Abandon,
    }
}

impl Tables {
    /// Commits. `None` if it came to nothing because others were faster.
    ///
    /// Errors: `Conflict` if the table is not what the lane left; `Unavailable`, `Indeterminate`: the next plan is made from what then is there.
    pub(super) async fn replace(&self, def: &TopicDef, replacement: Replacement) -> Result<Option<Compacted>> {
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            let all_live = replacement.job.is_live_in(&base).await?;
            match next(base.has_commit(&replacement.commit), all_live, replacement.generation, base.generation()?) {
                Next::Done => return Ok(Some(replacement.done(&base))),
                Next::Abandon => {
                    tracing::info!(table = base.name(), "a compaction came to nothing: others replaced what it read");
                    return Ok(None);
                }
                Next::Commit => {}
            }
            base.check_foreign().await?;
            if let Some(state) = self.try_replace(def, &replacement, &base).await? {
                return Ok(Some(replacement.done(&state)));
            }
        }
        let message = format!("topic {}: {ATTEMPTS_MAX} compactions were overtaken by commits; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }

    async fn try_replace(
        &self,
        def: &TopicDef,
        replacement: &Replacement,
        base: &TableState,
    ) -> Result<Option<Arc<TableState>>> {
        let draft = Draft::after(base, replacement.generation, Arc::clone(base.metadata().current_schema()));
        let manifest_list = draft.write(replacement.change()).await?;
        let summary = replacement.summary(base, base.files().await?.as_ref());
        let snapshot = draft.snapshot(manifest_list, summary, base.metadata().current_schema_id());
        let built = metadata(base, snapshot)?;
        self.publish(def, &replacement.commit, base, built).await
    }
}

/// The base with one snapshot more; every property stays.
fn metadata(base: &TableState, snapshot: Snapshot) -> Result<TableMetadataBuildResult> {
    let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
    let built = builder.set_branch_snapshot(snapshot, MAIN_BRANCH).and_then(|builder| builder.build());
    built.map_err(|error| iceberg_error(&format!("the next metadata of table {}", base.name()), error))
}

impl Job {
    fn inputs(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().flatten().map(|file| &file.path)
    }

    /// Whether all that it reads is still in the table.
    pub(super) async fn is_live_in(&self, base: &TableState) -> Result<bool> {
        let files = base.files().await?;
        let live: HashSet<&Path> = files.files().iter().map(|file| &file.path).collect();
        Ok(self.inputs().all(|path| live.contains(path)))
    }
}

impl Replacement {
    fn change(&self) -> Change {
        let mut change = Change { removed: self.job.inputs().cloned().collect(), ..Change::default() };
        for written in &self.written {
            change.added.entry(written.spec_id).or_default().push(written.file.clone());
        }
        change
    }

    /// Its totals are counted from the base's files, whatever the summary before it says or leaves out.
    fn summary(&self, base: &TableState, files: &FileSet) -> Summary {
        let metadata = base.metadata();
        let sum = |value: fn(&DataFile) -> u64| files.files().iter().map(|file| value(file)).sum::<u64>();
        let Compacted { rows, files_in, bytes_in, files_out, bytes_out, .. } = self.counts();
        let total = |before: u64, added: u64, removed: u64| (before + added - removed).to_string();
        let entries = [
            (properties::COMMIT, self.commit.clone()),
            ("added-data-files", files_out.to_string()),
            ("deleted-data-files", files_in.to_string()),
            ("added-records", rows.to_string()),
            ("deleted-records", rows.to_string()),
            ("added-files-size", bytes_out.to_string()),
            ("removed-files-size", bytes_in.to_string()),
            ("total-data-files", total(sum(|_| 1), files_out, files_in)),
            (TOTAL_RECORDS, sum(|file| file.rows).to_string()),
            ("total-files-size", total(sum(|file| file.size), bytes_out, bytes_in)),
            ("total-delete-files", "0".to_owned()),
            ("total-position-deletes", "0".to_owned()),
            ("total-equality-deletes", "0".to_owned()),
        ];
        let mut additional_properties: HashMap<String, String> =
            entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for name in properties::CARRIED {
            if let Some(value) = metadata.properties().get(name) {
                additional_properties.insert(name.to_owned(), value.clone());
            }
        }
        Summary { operation: Operation::Replace, additional_properties }
    }

    fn counts(&self) -> Compacted {
        Compacted {
            jobs: 1,
            rows: self.job.rows,
            files_in: self.job.inputs().count() as u64,
            bytes_in: self.job.bytes,
            files_out: self.written.len() as u64,
            bytes_out: self.written.iter().map(|written| written.bytes).sum(),
        }
    }

    fn done(&self, state: &TableState) -> Compacted {
        let Compacted { rows, files_in, files_out, .. } = self.counts();
        tracing::info!(
            table = state.name(), first = %self.job.first, last = %self.job.last, rows, files_in, files_out, reason = self.job.reason, "compacted"
        );
        self.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replace_is_applied_only_where_all_that_it_read_is_live_and_none_of_its_files_can_have_been_swept() {
        assert_eq!(next(false, true, 3, 3), Next::Commit);
        assert_eq!(next(false, true, 3, 4), Next::Commit, "it slept through one sweep");
        assert_eq!(next(false, true, 3, 5), Next::Abandon);
        assert_eq!(next(false, false, 3, 3), Next::Abandon);
        assert_eq!(next(true, false, 3, 9), Next::Done, "whatever came after it");
    }
}
