//! Forgetting old snapshots in time, and removing what they alone referred to (P7).
//!
//! In this order, so that a crash at any step leaves litter and never a hole: what the snapshots reach is written down in memory; they leave the metadata, by a
//! commit like any other; what the table refers to *after* that commit is read; and what only the snapshots reached is removed. A snapshot is old enough when it
//! was not the current one for longer than any query may run. What a crash leaves, or an answer that stayed unclear, is left to the [sweep](super::sweep).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt, stream};
use object_store::path::Path;
use schemas::limits::SNAPSHOT_GRACE_SECONDS;
use schemas::{ErrorKind, TopicDef};

use super::forget::{FORGOTTEN_AT_ONCE_MIN, forgettable, long_past};
use super::state::TableState;
use super::sweep::{fingerprint, referenced};
use super::{Tables, iceberg_error};
use crate::error::{CatalogError, Result};

/// Commits that others may overtake before an expiry is given up for now.
const ATTEMPTS_MAX: u32 = 16;
/// Snapshots that are expired at a time: what they reach is held in memory.
const SNAPSHOTS_AT_ONCE_MAX: usize = 512;
/// Files that are removed after one expiry at most; those beyond it are left to the sweep.
const FILES_AT_ONCE_MAX: usize = 100_000;
/// Files that are removed by one call of the store, or side by side.
const REMOVED_TOGETHER: usize = 64;
/// Wait between two such calls: the store has others to serve.
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// What an expiry did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Snapshots that the table no longer has.
    pub snapshots: u64,
    /// Files that were removed.
    pub removed_files: u64,
    /// Bytes of the data files among them.
    pub removed_bytes: u64,
}

/// Files that expired snapshots reach and may be alone to: path and, of data files, bytes.
type Reached = BTreeMap<Path, u64>;

impl TableState {
    /// Ids of the snapshots that would be expired now. Told from the metadata alone, without a request.
    fn expirable(&self) -> Vec<i64> {
        let now_ms = self.next_ms();
        let old = forgettable(self.metadata(), now_ms, FORGOTTEN_AT_ONCE_MIN);
        let mut past = long_past(self.metadata(), &old, now_ms, SNAPSHOT_GRACE_SECONDS as i64 * 1000);
        past.sort_unstable_by_key(|id| self.metadata().snapshot_by_id(*id).map(|snapshot| snapshot.sequence_number()));
        past.truncate(SNAPSHOTS_AT_ONCE_MAX);
        if past.len() < FORGOTTEN_AT_ONCE_MIN { Vec::new() } else { past }
    }

    /// Whether [`Tables::expire`] would find something to do now: no request is made to tell.
    pub fn is_expirable(&self) -> bool {
        !self.expirable().is_empty()
    }
}

impl Tables {
    /// Takes snapshots that are too many and too old out of the table, and removes the files that only they needed.
    ///
    /// Which these are say the table's properties `history.expire.max-snapshot-age-ms` and `history.expire.min-snapshots-to-keep`; none that was current within the
    /// last [`SNAPSHOT_GRACE_SECONDS`]. Safe at any time, by anyone, beside everything. Errors: those of [`Self::load`]; `Unavailable` if the store, or
    /// others' commits, were in the way: what was removed by then is removed, the rest is left to the sweep.
    pub async fn expire(&self, def: &TopicDef) -> Result<Expired> {
        let base = self.load(def).await?;
        let doomed = base.expirable();
        if doomed.is_empty() {
            return Ok(Expired::default());
        }
        let reached = reached_by(&base, &doomed.iter().copied().collect()).await?;
        let (current, snapshots) = self.take_out(def, &doomed).await?;
        let kept = referenced(&current).await?;
        let litter: Vec<_> = reached.into_iter().filter(|(path, _)| !kept.contains(&fingerprint(path))).collect();
        let mut expired = Expired { snapshots, ..Expired::default() };
        for together in litter.chunks(REMOVED_TOGETHER) {
            self.remove_all(together, &mut expired).await?;
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        let Expired { snapshots, removed_files, removed_bytes } = expired;
        tracing::info!(table = current.name(), snapshots, removed_files, removed_bytes, "expired");
        Ok(expired)
    }

    /// Commits metadata without those of the snapshots that still are old and that nothing else leads to. Returns what came of it, and how many went.
    async fn take_out(&self, def: &TopicDef, doomed: &[i64]) -> Result<(Arc<TableState>, u64)> {
        let commit = self.shared.env.uuid().to_string();
        let mut taken = 0;
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            let still: HashSet<i64> = base.expirable().into_iter().collect();
            let going: Vec<i64> = doomed.iter().copied().filter(|id| still.contains(id)).collect();
            if base.pinned().pointer.nonce == commit || going.is_empty() {
                return Ok((base, taken));
            }
            let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
            let builder = going.iter().fold(builder.remove_snapshots(&going), |builder, id| {
                builder.remove_statistics(*id).remove_partition_statistics(*id)
            });
            let built = builder.build().map_err(|error| iceberg_error(base.name(), error))?;
            taken = going.len() as u64;
            if let Some(state) = self.publish(def, &commit, &base, built).await? {
                return Ok((state, taken));
            }
        }
        let message = format!("topic {}: {ATTEMPTS_MAX} expiries were overtaken by commits; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }

    async fn remove_all(&self, together: &[(Path, u64)], expired: &mut Expired) -> Result<()> {
        let paths: Vec<_> = together.iter().map(|(path, _)| Ok(path.clone())).collect();
        let removing = self.shared.store.objects().delete_stream(Box::pin(stream::iter(paths)));
        let removed = removing
            .or_else(|error| async move {
                match error {
                    object_store::Error::NotFound { path, .. } => Ok(Path::from(path)),
                    error => Err(error),
                }
            })
            .try_fold(0_u64, |count, _| async move { Ok(count + 1) })
            .await;
        expired.removed_files += removed.map_err(|error| {
            let message = "files of expired snapshots cannot be removed; they stay for the sweep";
            CatalogError::new(ErrorKind::Unavailable, message).caused_by(error)
        })?;
        expired.removed_bytes += together.iter().map(|(_, bytes)| bytes).sum::<u64>();
        Ok(())
    }
}

/// What the `doomed` snapshots of a state lead to, without what lies in manifests that others have too.
async fn reached_by(state: &TableState, doomed: &HashSet<i64>) -> Result<Reached> {
    let (metadata, store) = (state.metadata(), &state.shared().store);
    let mut known = HashSet::new();
    for snapshot in metadata.snapshots().filter(|snapshot| !doomed.contains(&snapshot.snapshot_id())) {
        known.extend(
            state.manifest_list(snapshot).await?.iter().filter_map(|manifest| print_of(state, &manifest.manifest_path)),
        );
    }
    let mut reached = Reached::new();
    for file in metadata.statistics_iter().filter(|file| doomed.contains(&file.snapshot_id)) {
        reached.insert(store.path(&file.statistics_path)?, 0);
    }
    for file in metadata.partition_statistics_iter().filter(|file| doomed.contains(&file.snapshot_id)) {
        reached.insert(store.path(&file.statistics_path)?, 0);
    }
    for snapshot in metadata.snapshots().filter(|snapshot| doomed.contains(&snapshot.snapshot_id())) {
        for manifest in state.manifest_list(snapshot).await?.iter() {
            // Snapshots share most of their manifests.
            if !print_of(state, &manifest.manifest_path).is_some_and(|print| known.insert(print)) {
                continue;
            }
            for entry in state.shared().entries(manifest).await?.iter() {
                // What lies in another store is not ours to remove.
                if let Ok(path) = store.path(entry.file_path()) {
                    reached.insert(path, entry.data_file().file_size_in_bytes());
                }
            }
            reached.insert(store.path(&manifest.manifest_path)?, 0);
        }
        reached.insert(store.path(snapshot.manifest_list())?, 0);
        if reached.len() > FILES_AT_ONCE_MAX {
            break;
        }
    }
    Ok(reached)
}

fn print_of(state: &TableState, uri: &str) -> Option<u128> {
    state.shared().store.path(uri).ok().map(|path| fingerprint(&path))
}
