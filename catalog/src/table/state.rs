//! One state of one table: a metadata file that was current once, and what can be read from it.

use std::fmt;
use std::sync::Arc;

use iceberg::spec::{FormatVersion, ManifestFile, ManifestList, Snapshot, SnapshotRef, TableMetadata};
use schemas::{ErrorKind, Seq, TopicId, Watermark};
use tokio::sync::OnceCell;

use super::files::FileSet;
use super::pointer::Pinned;
use super::verify::{TOTAL_RECORDS, ancestors, number, verified_watermark};
use super::{Shared, iceberg_error, properties};
use crate::error::{CatalogError, Result};

/// A table's state at a moment: one Iceberg metadata file.
pub struct TableState {
    shared: Arc<Shared>,
    name: String,
    pinned: Pinned,
    metadata_uri: String,
    metadata: Arc<TableMetadata>,
    /// The metadata's current one, or an earlier one that is looked at.
    snapshot: Option<SnapshotRef>,
    watermark: Watermark,
    /// First seq that retention has left.
    pub(super) retained: Seq,
    files: OnceCell<Arc<FileSet>>,
    /// Filled once what others committed was found to be in order.
    pub(super) foreign_checked: OnceCell<()>,
}

/// Without what all tables share: that holds the states in turn, and would be written out for ever.
impl fmt::Debug for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, watermark, metadata_uri, .. } = self;
        let mut state = f.debug_struct("TableState");
        state.field("name", name).field("watermark", watermark).field("metadata_uri", metadata_uri);
        state.finish_non_exhaustive()
    }
}

impl TableState {
    /// Errors: `Conflict` if the metadata is not what the topic's flushes left (P4.1), `Corrupt` if it cannot be read.
    pub(super) fn new(
        shared: Arc<Shared>,
        name: String,
        topic: TopicId,
        pinned: Pinned,
        metadata_uri: String,
        metadata: Arc<TableMetadata>,
    ) -> Result<Self> {
        let place = format!("table {name}");
        let watermark = verified_watermark(&metadata, topic, &place)?;
        let retained = properties::seq_or_first(&metadata, properties::RETAINED, &place)?;
        Ok(Self {
            shared,
            name,
            pinned,
            metadata_uri,
            snapshot: metadata.current_snapshot().cloned(),
            metadata,
            watermark,
            retained,
            files: OnceCell::new(),
            foreign_checked: OnceCell::new(),
        })
    }

    /// The state that other metadata would make current after this one: what is to be published is looked at first.
    ///
    /// Errors: those of [`Self::new`].
    pub(super) fn followed_by(&self, metadata: Arc<TableMetadata>) -> Result<Self> {
        let topic = self.pinned.pointer.topic;
        let (name, uri) = (self.name.clone(), self.metadata_uri.clone());
        Self::new(Arc::clone(&self.shared), name, topic, self.pinned.clone(), uri, metadata)
    }

    /// When a commit that follows takes place, milliseconds: now, but never before this state (P4), whatever became of the clock.
    pub(super) fn next_ms(&self) -> i64 {
        self.metadata.last_updated_ms().max(self.shared.env.now_micros() / 1000)
    }

    /// First seq not in the table.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Full URI of the metadata file that this is.
    pub fn metadata_uri(&self) -> &str {
        &self.metadata_uri
    }

    /// Id of the snapshot that this is; `None` before the first flush.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.snapshot.as_ref().map(|snapshot| snapshot.snapshot_id())
    }

    /// The table as it was in an earlier snapshot, to be read with the columns that it has now.
    ///
    /// Errors: `NotFound`, naming some that are kept, if the snapshot is not: it has expired, or never was.
    pub fn at_snapshot(&self, id: i64) -> Result<Self> {
        let found = self.metadata.snapshot_by_id(id).cloned();
        found.map(|snapshot| self.at(snapshot)).ok_or_else(|| {
            let mut kept: Vec<_> = self.metadata.snapshots().collect();
            kept.sort_unstable_by_key(|snapshot| snapshot.sequence_number());
            let kept = match kept.as_slice() {
                [] => "it has none yet".to_owned(),
                [oldest, .., newest] => {
                    format!("{} are kept, from {} to {}", kept.len(), oldest.snapshot_id(), newest.snapshot_id())
                }
                [only] => format!("only {} is kept", only.snapshot_id()),
            };
            let message = format!("table {} has no snapshot {id}: it has expired, or never was; {kept}", self.name);
            CatalogError::new(ErrorKind::NotFound, message)
        })
    }

    /// Likewise the snapshot that a tag or branch names. Errors: `NotFound` if nothing has that name.
    pub fn at_ref(&self, name: &str) -> Result<Self> {
        let found = self.metadata.snapshot_for_ref(name).cloned();
        found.map(|snapshot| self.at(snapshot)).ok_or_else(|| {
            let message = format!("table {} has no tag or branch {name:?}: it has expired, or never was", self.name);
            CatalogError::new(ErrorKind::NotFound, message)
        })
    }

    fn at(&self, snapshot: SnapshotRef) -> Self {
        let summary = |snapshot: &SnapshotRef, name: &str| snapshot.summary().additional_properties.get(name).cloned();
        let line = std::iter::successors(Some(&snapshot), |snapshot| {
            snapshot.parent_snapshot_id().and_then(|parent| self.metadata.snapshot_by_id(parent))
        });
        let flushed = line
            .into_iter()
            .find_map(|snapshot| properties::parse_watermark(&summary(snapshot, properties::WATERMARK)?, "").ok());
        // Where no flush is left in its history, its rows are all that were there, but for what retention took.
        let removed = summary(&snapshot, properties::REMOVED_ROWS).and_then(|rows| rows.parse::<i64>().ok());
        let counted =
            || Some(Seq(summary(&snapshot, TOTAL_RECORDS)?.parse::<i64>().ok()? + removed.unwrap_or_default() + 1));
        let retained = summary(&snapshot, properties::RETAINED)
            .and_then(|text| properties::parse_watermark(&text, "").ok())
            .map_or(Seq::FIRST, |Watermark(seq)| seq);
        let watermark = flushed.or_else(|| counted().map(Watermark)).unwrap_or(self.watermark);
        Self {
            shared: Arc::clone(&self.shared),
            name: format!("{} at snapshot {}", self.name, snapshot.snapshot_id()),
            pinned: self.pinned.clone(),
            metadata_uri: self.metadata_uri.clone(),
            metadata: Arc::clone(&self.metadata),
            snapshot: Some(snapshot),
            watermark: watermark.min(self.watermark),
            retained,
            files: OnceCell::new(),
            foreign_checked: OnceCell::new(),
        }
    }

    /// The live data files, with what the manifests say of them. Cached: manifests never change.
    ///
    /// Errors: `Conflict` if another engine has added delete files or files that are not Parquet; `Unavailable`, `Corrupt` from reading manifests.
    pub async fn files(&self) -> Result<Arc<FileSet>> {
        self.files.get_or_try_init(|| async { FileSet::load(self).await.map(Arc::new) }).await.cloned()
    }

    /// `tenant.topic`, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    pub(crate) fn table_metadata(&self) -> &Arc<TableMetadata> {
        &self.metadata
    }

    pub(super) fn metadata(&self) -> &Arc<TableMetadata> {
        &self.metadata
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The sweep generation that files written on this base carry in their names.
    pub(super) fn generation(&self) -> Result<u64> {
        number(&self.metadata, properties::SWEEP, &self.name)
    }

    /// Whether a flush with this commit id is among the ancestors of `main`.
    pub(super) fn has_commit(&self, commit: &str) -> bool {
        ancestors(&self.metadata).any(|snapshot| {
            snapshot.summary().additional_properties.get(properties::COMMIT).is_some_and(|id| id == commit)
        })
    }

    /// The manifests of the snapshot that this is.
    pub(super) async fn manifests(&self) -> Result<Vec<ManifestFile>> {
        match &self.snapshot {
            Some(snapshot) => self.manifests_of(snapshot).await,
            None => Ok(Vec::new()),
        }
    }

    /// The manifests of a snapshot that this metadata knows.
    pub(super) async fn manifests_of(&self, snapshot: &Snapshot) -> Result<Vec<ManifestFile>> {
        self.manifest_list(snapshot).await.map(|list| list.to_vec())
    }

    /// The same, shared: lists never change, and are kept in memory for a while.
    pub(super) async fn manifest_list(&self, snapshot: &Snapshot) -> Result<Arc<[ManifestFile]>> {
        let uri = snapshot.manifest_list();
        if let Some(list) = self.shared.lists.get(uri) {
            return Ok(list);
        }
        let bytes = self.shared.read(uri).await?;
        let list =
            ManifestList::parse_with_version(&bytes, FormatVersion::V2).map_err(|error| iceberg_error(uri, error))?;
        let list: Arc<[ManifestFile]> = list.consume_entries().into_iter().collect();
        self.shared.lists.insert(uri.to_owned(), Arc::clone(&list));
        Ok(list)
    }
}
