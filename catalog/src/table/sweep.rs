//! Removing files of a table that no snapshot needs (P7), without meeting a flush or a compaction that slept.
//!
//! Every data file and manifest carries in its name the sweep generation of the base that it was written for. A sweep first commits the next generation,
//! `g + 1`, and then removes what carries a generation below `g` and is not referenced by what it committed. So a flush that slept through one sweep finds its
//! file where it was and may commit it, onto a base that is one generation ahead; one that slept through two starts anew
//! ([`may_pin`](super::decide::may_pin)), and if it did not look, its commit is pinned to a base that is no longer current. Age decides nothing here.
//!
//! A metadata file's generation is its number: the pointer has moved on, so whoever wrote it can no longer make it current.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::ManifestStatus;
use object_store::ObjectMeta;
use object_store::path::Path;
use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, TopicDef};
use xxhash_rust::xxh3::xxh3_128;

use super::forget::{FORGOTTEN_AT_ONCE_MIN, forgettable};
use super::state::TableState;
use super::{Tables, iceberg_error, properties};
use crate::error::{CatalogError, Result};

/// Commits of a new generation that others may overtake before a sweep is given up for now.
const ATTEMPTS_MAX: u32 = 16;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The generation that it began.
    pub generation: u64,
    /// Files that it removed.
    pub removed_files: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}

impl Tables {
    /// Begins a new sweep generation, forgets old snapshots, and removes the files of earlier generations that nothing names any more.
    ///
    /// Safe at any time, by anyone, beside flushes. Errors: those of [`Self::load`]; `Unavailable` if the store, or others' commits, were in the way: what was
    /// removed by then is removed, the rest stays for the next sweep.
    pub async fn sweep(&self, def: &TopicDef) -> Result<Swept> {
        let state = self.begin_generation(def).await?;
        let generation = state.generation()?;
        let referenced = referenced(&state).await?;
        let (shared, version) = (self.shared.as_ref(), state.pinned().pointer.version);
        // No flush takes as long, unless it sleeps.
        let now_ms = shared.env.now_micros() / 1000;
        let is_old = |object: &ObjectMeta| now_ms - object.last_modified.timestamp_millis() > 1_000;
        let is_litter = |object: &ObjectMeta| {
            (is_past(object.location.filename().unwrap_or_default(), generation, version)
                || planted(Bug::SweepByAge) && is_old(object))
                && !referenced.contains(&fingerprint(&object.location))
        };
        let root = shared.store.path(state.metadata().location())?;
        let mut swept = Swept { generation, ..Swept::default() };
        let mut listed = shared.store.objects().list(Some(&root));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| unlisted(&root, error))?;
            if is_litter(&object) {
                self.remove(object, &mut swept).await?;
            }
        }
        tracing::info!(
            table = state.name(),
            generation,
            files = swept.removed_files,
            bytes = swept.removed_bytes,
            "swept"
        );
        Ok(swept)
    }

    /// Commits the generation after the table's. Whoever else commits one meanwhile only makes it the one after that.
    async fn begin_generation(&self, def: &TopicDef) -> Result<std::sync::Arc<TableState>> {
        let commit = self.shared.env.uuid().to_string();
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            if base.pinned().pointer.nonce == commit {
                return Ok(base);
            }
            let generation = (base.generation()? + 1).to_string();
            let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
            let built = builder
                .remove_snapshots(&forgettable(base.metadata(), base.next_ms(), FORGOTTEN_AT_ONCE_MIN))
                .set_properties(HashMap::from([(properties::SWEEP.to_owned(), generation)]))
                .and_then(|builder| builder.build());
            let built = built.map_err(|error| iceberg_error(base.name(), error))?;
            if let Some(state) = self.publish(def, &commit, &base, built).await? {
                return Ok(state);
            }
        }
        let message = format!("topic {}: {ATTEMPTS_MAX} sweeps were overtaken by commits; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }

    async fn remove(&self, object: ObjectMeta, swept: &mut Swept) -> Result<()> {
        let location = object.location.clone();
        let one = stream::iter([Ok(object.location)]);
        let removed: object_store::Result<Vec<_>> =
            self.shared.store.objects().delete_stream(Box::pin(one)).try_collect().await;
        match removed {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {
                swept.removed_files += 1;
                swept.removed_bytes += object.size;
                Ok(())
            }
            Err(error) => {
                let message = format!("file {location} cannot be removed; it stays for the next sweep");
                Err(CatalogError::new(ErrorKind::Unavailable, message).caused_by(error))
            }
        }
    }
}

/// Fingerprints of everything that a table's metadata leads to: every snapshot, branches and tags, statistics, and the metadata files that are kept. A set
/// of paths would be ten times as large; two files with one fingerprint would both stay.
pub(super) async fn referenced(state: &TableState) -> Result<HashSet<u128>> {
    let (metadata, store) = (state.metadata(), &state.shared().store);
    let mut found = HashSet::new();
    // What does not lie in this store is not listed either.
    let mut add = |uri: &str| store.path(uri).is_ok_and(|path| found.insert(fingerprint(&path)));
    add(state.metadata_uri());
    for log in metadata.metadata_log() {
        add(&log.metadata_file);
    }
    for file in metadata.statistics_iter() {
        add(&file.statistics_path);
    }
    for file in metadata.partition_statistics_iter() {
        add(&file.statistics_path);
    }
    for snapshot in metadata.snapshots() {
        add(snapshot.manifest_list());
        for manifest in state.manifests_of(snapshot).await? {
            // Snapshots share most of their manifests.
            if !add(&manifest.manifest_path) {
                continue;
            }
            let entries = state.shared().entries(&manifest).await?;
            for entry in entries.iter().filter(|entry| entry.status() != ManifestStatus::Deleted) {
                add(entry.file_path());
            }
        }
    }
    Ok(found)
}

pub(super) fn fingerprint(path: &Path) -> u128 {
    xxh3_128(path.as_ref().as_bytes())
}

/// True if a file of this name can no longer come into a table whose sweep has begun `generation` and whose pointer has this `version`. Never true for
/// names that Firn does not give.
fn is_past(name: &str, generation: u64, version: u64) -> bool {
    if let Some(stem) = name.strip_suffix(".metadata.json") {
        let number: Option<u64> = stem.split_once('-').and_then(|(number, _)| number.parse().ok());
        return number.is_some_and(|number| number < version);
    }
    let stem = name.strip_suffix(".parquet").or_else(|| name.strip_suffix(".avro"));
    // No other part begins so: they are numbers, words, and hexadecimal digits.
    let mut parts = stem.into_iter().flat_map(|stem| stem.split('-'));
    let written: Option<u64> = parts.find_map(|part| part.strip_prefix('g').and_then(|digits| digits.parse().ok()));
    written.is_some_and(|written| written.saturating_add(1) < generation)
}

fn unlisted(root: &Path, error: object_store::Error) -> CatalogError {
    let message = format!("the files under {root} cannot be listed; they stay for the next sweep");
    CatalogError::new(ErrorKind::Unavailable, message).caused_by(error)
}

#[cfg(test)]
mod tests;
