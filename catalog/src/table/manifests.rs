//! The manifests of a flush's snapshot: one new for its file, the others carried over, small ones merged now and then.

use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, ManifestContentType, ManifestFile, ManifestListWriter, ManifestWriter, ManifestWriterBuilder,
    PartitionSpec, SchemaRef, UNASSIGNED_SEQUENCE_NUMBER,
};
use schemas::ErrorKind;

use super::create::LEVEL0_SPEC_ID;
use super::naming::content_id;
use super::state::TableState;
use super::{Shared, iceberg_error};
use crate::error::{CatalogError, Result};

/// Manifests of few files that a table may have before they are merged: each costs a planner one read.
const SMALL_MANIFESTS_MAX: usize = 32;
/// Files from which on a manifest is no longer small.
const LARGE_MANIFEST_FILES: u32 = 1_024;
/// Where files are drafted, in memory.
const DRAFTS: &str = "memory:///";

/// A snapshot that is being made.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) base: &'a TableState,
    /// Full URI of the folder for metadata.
    pub(super) folder: &'a str,
    /// Begins the name of every file written here; unlike any other attempt's.
    pub(super) attempt: &'a str,
    pub(super) snapshot_id: i64,
    pub(super) sequence_number: i64,
    /// The schema that the table has with this snapshot.
    pub(super) schema: SchemaRef,
    /// Holds files until they have a name.
    pub(super) memory: FileIO,
}

impl Draft<'_> {
    /// Writes manifests and manifest list of the base's files and `file`; returns the list's URI.
    pub(super) async fn write(&self, file: DataFile) -> Result<String> {
        let (mut manifests, small) = self.carried_over().await?;
        let mut added = self.writer("m0")?;
        added
            .add_file(file, UNASSIGNED_SEQUENCE_NUMBER)
            .map_err(|error| iceberg_error("the flush's manifest", error))?;
        manifests.insert(0, self.finish(added).await?);
        match small.len() >= SMALL_MANIFESTS_MAX {
            true => manifests.push(self.merge(&small).await?),
            false => manifests.extend(small),
        }
        self.write_list(manifests).await
    }

    /// The base's manifests that have live files: those to keep as they are, and the small ones of level 0.
    async fn carried_over(&self) -> Result<(Vec<ManifestFile>, Vec<ManifestFile>)> {
        let manifests = self.base.manifests().await?.into_iter();
        let live = manifests.filter(|manifest| manifest.has_added_files() || manifest.has_existing_files());
        Ok(live.partition(|manifest| !is_small(manifest)))
    }

    /// Writes into memory: a manifest's name holds its content's hash.
    fn writer(&self, suffix: &str) -> Result<ManifestWriter> {
        let draft = format!("{DRAFTS}{}-{suffix}", self.attempt);
        let output = self.memory.new_output(&draft).map_err(|error| iceberg_error(&draft, error))?;
        let builder =
            ManifestWriterBuilder::new(output, Some(self.snapshot_id), SchemaRef::clone(&self.schema), self.spec()?);
        Ok(builder.build_v2_data())
    }

    fn spec(&self) -> Result<PartitionSpec> {
        let spec = self.base.metadata().partition_spec_by_id(LEVEL0_SPEC_ID).filter(|spec| spec.is_unpartitioned());
        spec.map(|spec| spec.as_ref().clone()).ok_or_else(|| {
            let message =
                format!("table {}: partition spec {LEVEL0_SPEC_ID} should be the unpartitioned one", self.base.name());
            CatalogError::new(ErrorKind::Corrupt, message)
        })
    }

    /// One manifest of the live files of many, each with the snapshot and sequence numbers that it had.
    async fn merge(&self, small: &[ManifestFile]) -> Result<ManifestFile> {
        let mut writer = self.writer("m1")?;
        for manifest in small {
            let entries = self.shared().entries(manifest).await?;
            for entry in entries.iter().filter(|entry| entry.is_alive()) {
                let (Some(snapshot), Some(sequence)) = (entry.snapshot_id, entry.sequence_number) else {
                    let message = format!(
                        "manifest {}: a live entry without snapshot or sequence number",
                        manifest.manifest_path
                    );
                    return Err(CatalogError::new(ErrorKind::Corrupt, message));
                };
                let kept =
                    writer.add_existing_file(entry.data_file.clone(), snapshot, sequence, entry.file_sequence_number);
                kept.map_err(|error| iceberg_error(&manifest.manifest_path, error))?;
            }
        }
        self.finish(writer).await
    }

    async fn finish(&self, writer: ManifestWriter) -> Result<ManifestFile> {
        let written = writer.write_manifest_file().await;
        let mut manifest = written.map_err(|error| iceberg_error("a manifest could not be written", error))?;
        manifest.manifest_path = self.keep(&manifest.manifest_path).await?;
        Ok(manifest)
    }

    /// Stores what was drafted in memory under a name that tells its content. Returns its URI.
    async fn keep(&self, draft: &str) -> Result<String> {
        let failed = |error| iceberg_error(draft, error);
        let content = self.memory.new_input(draft).map_err(failed)?.read().await.map_err(failed)?;
        self.memory.delete(draft).await.map_err(failed)?;
        let stem = draft.strip_prefix(DRAFTS).unwrap_or(draft);
        let uri = format!("{}/{stem}-{}.avro", self.folder, content_id(&content).as_simple());
        self.shared().create(&uri, content).await?;
        Ok(uri)
    }

    async fn write_list(&self, manifests: Vec<ManifestFile>) -> Result<String> {
        let draft = format!("{DRAFTS}snap-{}-{}", self.snapshot_id, self.attempt);
        let failed = |error| iceberg_error(&draft, error);
        let output = self.memory.new_output(&draft).map_err(failed)?.writer().await.map_err(failed)?;
        let parent = self.base.snapshot_id();
        let mut writer = ManifestListWriter::v2(output, self.snapshot_id, parent, self.sequence_number);
        writer.add_manifests(manifests.into_iter()).map_err(failed)?;
        writer.close().await.map_err(failed)?;
        self.keep(&draft).await
    }

    fn shared(&self) -> &Shared {
        self.base.shared()
    }
}

fn is_small(manifest: &ManifestFile) -> bool {
    let files = manifest.added_files_count.zip(manifest.existing_files_count).map(|(added, existing)| added + existing);
    manifest.content == ManifestContentType::Data
        && manifest.partition_spec_id == LEVEL0_SPEC_ID
        && files.is_some_and(|files| files < LARGE_MANIFEST_FILES)
}
