//! What other engines may commit to a topic's table: an allow-list of updates, on top of P8.
//!
//! | update | |
//! | --- | --- |
//! | a snapshot that replaces files, and `main` moved to it | if the manifests show that it only rearranges rows; Firn's part of the state is written into its summary |
//! | snapshots removed | but the current one |
//! | tags and branches set and removed, statistics | on snapshots that are there |
//! | properties | but `firn.*` |
//! | anything else | refused, naming what does the job |
//!
//! Nothing here can move the watermark: events come in by flushes alone. A commit is pinned to its base as a flush is (P4.4); if it loses, requirements and updates
//! are judged anew on what is there then. A replace is never carried over to another base here: its requirement on `main` fails, and the engine that made it,
//! which knows its inputs, does that.

use std::sync::Arc;

use iceberg::spec::{
    MAIN_BRANCH, Operation, Snapshot, SnapshotReference, Summary, TableMetadata, TableMetadataBuildResult,
};
use iceberg::{TableRequirement, TableUpdate};
use schemas::{ErrorKind, TenantName, TopicDef, limits};

use super::state::TableState;
use super::verify::TOTAL_RECORDS;
use super::{Tables, properties};
use crate::error::CatalogError;

/// Tries of one commit, each overtaken by another's.
const TRIES_MAX: u32 = 8;
/// What begins the names of Firn's own properties and summary entries.
const OWN: &str = "firn.";
/// Where events come from.
const APPEND: &str = "append with `firn produce` or over Arrow Flight";
/// What can be done about events that are wrong.
const CORRECT: &str = "events stay as they are: append one that corrects them (`firn produce`)";
/// What is Firn's to decide.
const LAYOUT: &str = "Firn lays the table out itself: make another topic with `firn topic create`";

/// Why a commit was not made.
#[derive(Debug)]
pub(crate) enum Declined {
    /// It is none that others may make.
    NotAllowed {
        /// What it would do.
        what: String,
        /// What does the job.
        instead: &'static str,
    },
    /// A requirement is not met, or an update cannot be applied.
    Library(iceberg::Error),
    /// The store or the table was in the way.
    Failed(CatalogError),
}

type Result<T> = std::result::Result<T, Declined>;

impl From<iceberg::Error> for Declined {
    fn from(error: iceberg::Error) -> Self {
        Self::Library(error)
    }
}

impl From<CatalogError> for Declined {
    fn from(error: CatalogError) -> Self {
        Self::Failed(error)
    }
}

fn refused<T>(what: impl Into<String>, instead: &'static str) -> Result<T> {
    Err(Declined::NotAllowed { what: what.into(), instead })
}

impl Tables {
    /// Commits what another engine has made of a topic's table. Returns the table as it is then.
    ///
    /// Beside flushes, sweeps and other engines, at any time. After an unclear answer it looks before it tries again.
    pub(crate) async fn commit_outside(
        &self,
        tenant: &TenantName,
        def: &TopicDef,
        requirements: &[TableRequirement],
        updates: &[TableUpdate],
    ) -> Result<Arc<TableState>> {
        let commit = self.shared.env.uuid().to_string();
        if self.watermark(&def.id).is_none() {
            let message = format!("table {tenant}.{} is not open in this process yet; come again", def.name);
            return Err(CatalogError::new(ErrorKind::Unavailable, message).into());
        }
        let mut base = self.load(def).await?;
        for attempt in 0..TRIES_MAX {
            if attempt > 0 {
                base = self.look(def).await?;
                if base.pinned().pointer.nonce == commit {
                    return Ok(base);
                }
            }
            if has_all(&base, updates, attempt > 0) {
                return Ok(base);
            }
            for requirement in requirements {
                requirement.check(Some(base.metadata()))?;
            }
            let Some(built) = next(&base, updates).await? else { return Ok(base) };
            if let Some(state) = self.publish(def, &commit, &base, built).await? {
                return Ok(state);
            }
        }
        let message = format!("topic {}: {TRIES_MAX} commits were overtaken by others; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message).into())
    }
}

/// Whether a table is as `updates` would make it: an earlier attempt's answer was lost, this call's (`again`) or another's. A snapshot's id tells it for certain.
fn has_all(base: &TableState, updates: &[TableUpdate], again: bool) -> bool {
    let added = updates.iter().find_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot.snapshot_id()),
        _ => None,
    });
    match added {
        Some(id) => base.metadata().snapshot_by_id(id).is_some(),
        None => again && changes_nothing(base, updates),
    }
}

/// What `updates` make of the table, if they may. `None` if nothing.
async fn next(base: &TableState, updates: &[TableUpdate]) -> Result<Option<TableMetadataBuildResult>> {
    let added = allowed(base.metadata(), updates)?;
    let mut updates = updates.to_vec();
    if let Some(snapshot) = added {
        base.check_foreign().await?;
        let rows = base.check_replace(&snapshot).await.map_err(as_refusal)?;
        let stamped = stamped(&snapshot, base.metadata(), rows);
        for update in &mut updates {
            if let TableUpdate::AddSnapshot { snapshot } = update {
                *snapshot = stamped.clone();
            }
        }
    }
    if changes_nothing(base, &updates) {
        return Ok(None);
    }
    let built = build(base, updates)?;
    check_size(&built.metadata)?;
    // What is published is read back as any state is: the watermark is where it was (P4.1), and every file can be planned with.
    let candidate = base.followed_by(Arc::new(built.metadata.clone()))?;
    candidate.files().await.map_err(as_refusal)?;
    Ok(Some(built))
}

fn build(base: &TableState, updates: Vec<TableUpdate>) -> Result<TableMetadataBuildResult> {
    let mut builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
    for update in updates {
        builder = update.apply(builder)?;
    }
    Ok(builder.build()?)
}

/// Whether everything is as `updates` would make it. The library counts a property that is set to what it was as a change.
fn changes_nothing(base: &TableState, updates: &[TableUpdate]) -> bool {
    let had = base.metadata().properties();
    let (of_properties, others): (Vec<_>, Vec<_>) = updates
        .iter()
        .cloned()
        .partition(|update| matches!(update, TableUpdate::SetProperties { .. } | TableUpdate::RemoveProperties { .. }));
    let are_there = of_properties.iter().all(|update| match update {
        TableUpdate::SetProperties { updates } => updates.iter().all(|(name, value)| had.get(name) == Some(value)),
        TableUpdate::RemoveProperties { removals } => removals.iter().all(|name| !had.contains_key(name)),
        _ => true,
    });
    are_there && build(base, others).is_ok_and(|built| built.changes.is_empty())
}

/// A table that others made wrong is refused and stays as it was; to try the same again would not help.
fn as_refusal(error: CatalogError) -> Declined {
    match error.kind() {
        ErrorKind::Conflict | ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::NotFound => {
            Declined::NotAllowed { what: error.to_string(), instead: APPEND }
        }
        _ => Declined::Failed(error),
    }
}

/// The snapshot that is to replace files, if there is one. Errors: `NotAllowed`, for the first update that is not.
fn allowed(metadata: &TableMetadata, updates: &[TableUpdate]) -> Result<Option<Snapshot>> {
    let mut added: Option<&Snapshot> = None;
    for update in updates {
        if let TableUpdate::AddSnapshot { snapshot } = update {
            if added.is_some() {
                return refused("a commit of several snapshots", "replace files one commit at a time");
            }
            added = Some(replacing(metadata, snapshot)?);
        }
    }
    let mut moved = false;
    for update in updates {
        if let TableUpdate::SetSnapshotRef { ref_name, reference } = update
            && ref_name == MAIN_BRANCH
        {
            let goes_on = Some(reference.snapshot_id) == added.map(Snapshot::snapshot_id);
            if !goes_on && Some(reference.snapshot_id) != metadata.current_snapshot_id() || !is_branch(reference) {
                return refused(
                    "moving `main` elsewhere",
                    "set a tag or a branch on the snapshot, or read it by its id",
                );
            }
            moved |= goes_on;
        } else {
            one_allowed(metadata, update)?;
        }
    }
    if added.is_some() && !moved {
        return refused("a snapshot that `main` does not lead to", "commit it to `main`");
    }
    Ok(added.cloned())
}

fn is_branch(reference: &SnapshotReference) -> bool {
    matches!(reference.retention, iceberg::spec::SnapshotRetention::Branch { .. })
}

/// A snapshot that says of itself that it replaces files of the current one. That it does so is told by the manifests, later.
fn replacing<'a>(metadata: &TableMetadata, snapshot: &'a Snapshot) -> Result<&'a Snapshot> {
    match snapshot.summary().operation {
        Operation::Replace if snapshot.parent_snapshot_id() == metadata.current_snapshot_id() => Ok(snapshot),
        // The requirement that `main` is where it was has this meaning too, and engines know to try again then.
        Operation::Replace => Err(Declined::Library(iceberg::Error::new(
            iceberg::ErrorKind::CatalogCommitConflicts,
            format!(
                "the files of snapshot {:?} are to be replaced, but {:?} is current by now",
                snapshot.parent_snapshot_id(),
                metadata.current_snapshot_id()
            ),
        ))),
        Operation::Append => refused("an append", APPEND),
        Operation::Overwrite => refused("an overwrite", CORRECT),
        Operation::Delete => refused("a delete", CORRECT),
    }
}

/// Of everything but snapshots and `main`.
fn one_allowed(metadata: &TableMetadata, update: &TableUpdate) -> Result<()> {
    match update {
        TableUpdate::AddSnapshot { .. }
        | TableUpdate::SetSnapshotRef { .. }
        | TableUpdate::SetStatistics { .. }
        | TableUpdate::RemoveStatistics { .. }
        | TableUpdate::SetPartitionStatistics { .. }
        | TableUpdate::RemovePartitionStatistics { .. } => Ok(()),
        TableUpdate::RemoveSnapshots { snapshot_ids } => {
            match snapshot_ids.iter().any(|id| Some(*id) == metadata.current_snapshot_id()) {
                true => refused("removing the current snapshot", "expire older ones"),
                false => Ok(()),
            }
        }
        TableUpdate::RemoveSnapshotRef { ref_name } if ref_name != MAIN_BRANCH => Ok(()),
        TableUpdate::RemoveSnapshotRef { .. } => refused("removing `main`", "drop the topic with `firn topic drop`"),
        TableUpdate::SetProperties { updates } => properties_allowed(updates.keys()),
        TableUpdate::RemoveProperties { removals } => properties_allowed(removals.iter()),
        TableUpdate::AssignUuid { uuid } if *uuid == metadata.uuid() => Ok(()),
        TableUpdate::UpgradeFormatVersion { format_version } if *format_version == metadata.format_version() => Ok(()),
        TableUpdate::SetLocation { location } if location.trim_end_matches('/') == metadata.location() => Ok(()),
        other => {
            let (what, instead) = layout(other);
            refused(what, instead)
        }
    }
}

fn properties_allowed<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    match names.find(|name| name.starts_with(OWN)) {
        Some(name) => refused(format!("changing the property {name}"), "properties that begin with `firn.` are Firn's"),
        None => Ok(()),
    }
}

/// What is never allowed, in words.
fn layout(update: &TableUpdate) -> (&'static str, &'static str) {
    match update {
        TableUpdate::AddSchema { .. } | TableUpdate::SetCurrentSchema { .. } | TableUpdate::RemoveSchemas { .. } => {
            ("changing the schema", "change the topic's with `firn topic alter`")
        }
        TableUpdate::AddSpec { .. } | TableUpdate::SetDefaultSpec { .. } | TableUpdate::RemovePartitionSpecs { .. } => {
            ("changing the partition spec", LAYOUT)
        }
        TableUpdate::AddSortOrder { .. } | TableUpdate::SetDefaultSortOrder { .. } => {
            ("changing the sort order", LAYOUT)
        }
        TableUpdate::SetLocation { .. } => ("moving it to another location", LAYOUT),
        TableUpdate::UpgradeFormatVersion { .. } => ("changing the format version", LAYOUT),
        TableUpdate::AssignUuid { .. } => ("giving it another uuid", "make another topic with `firn topic create`"),
        _ => ("this change", LAYOUT),
    }
}

/// The snapshot with Firn's part of the table's state in its summary, whatever its engine wrote there.
fn stamped(snapshot: &Snapshot, metadata: &TableMetadata, rows: u64) -> Snapshot {
    let mut entries = snapshot.summary().additional_properties.clone();
    entries.retain(|name, _| !name.starts_with(OWN));
    for name in properties::CARRIED {
        if let Some(value) = metadata.properties().get(name) {
            entries.insert(name.to_owned(), value.clone());
        }
    }
    entries.insert(TOTAL_RECORDS.to_owned(), rows.to_string());
    Snapshot::builder()
        .with_snapshot_id(snapshot.snapshot_id())
        .with_parent_snapshot_id(snapshot.parent_snapshot_id())
        .with_sequence_number(snapshot.sequence_number())
        .with_timestamp_ms(snapshot.timestamp_ms())
        .with_manifest_list(snapshot.manifest_list())
        .with_summary(Summary { operation: Operation::Replace, additional_properties: entries })
        .with_schema_id(snapshot.schema_id().unwrap_or_else(|| metadata.current_schema_id()))
        .build()
}

/// Errors: `NotAllowed` if properties, branches and tags are more than every flush should write again.
fn check_size(metadata: &TableMetadata) -> Result<()> {
    let bytes: usize = metadata.properties().iter().map(|(name, value)| name.len() + value.len()).sum();
    let most = limits::TOPIC_PROPERTIES_BYTES_MAX;
    if bytes > most {
        return refused(format!("properties of {bytes} bytes"), "every flush writes them again: 256 KiB are the most");
    }
    let references = references(metadata);
    match references <= limits::TOPIC_REFS_MAX {
        true => Ok(()),
        false => refused(format!("{references} branches and tags"), "remove some: 1,000 are the most"),
    }
}

/// How many branches and tags there are.
pub(super) fn references(metadata: &TableMetadata) -> usize {
    // The library keeps references to itself; its JSON does not.
    let document = serde_json::to_value(metadata).unwrap_or_default();
    document["refs"].as_object().map_or(0, serde_json::Map::len)
}

#[cfg(test)]
mod tests;
