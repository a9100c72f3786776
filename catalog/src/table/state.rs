//! One state of one table: a metadata file that was current once, and what can be read from it.

use std::fmt;
use std::sync::Arc;

use iceberg::spec::{FormatVersion, ManifestFile, ManifestList, Snapshot, TableMetadata};
use schemas::{Seq, TopicId, Watermark};
use tokio::sync::OnceCell;

use super::files::FileSet;
use super::pointer::Pinned;
use super::verify::{ancestors, number, verified_watermark};
use super::{Shared, iceberg_error, properties};
use crate::error::Result;

/// A table's state at a moment: one Iceberg metadata file.
pub struct TableState {
    shared: Arc<Shared>,
    name: String,
    pinned: Pinned,
    metadata_uri: String,
    metadata: Arc<TableMetadata>,
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

    /// First seq not in the table.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Full URI of the metadata file that this is.
    pub fn metadata_uri(&self) -> &str {
        &self.metadata_uri
    }

    /// Id of the current snapshot; `None` before the first flush.
    pub fn snapshot_id(&self) -> Option<i64> {
        self.metadata.current_snapshot_id()
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

    /// The manifests of the current snapshot.
    pub(super) async fn manifests(&self) -> Result<Vec<ManifestFile>> {
        match self.metadata.current_snapshot() {
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
