//! The manifests of a new snapshot: what is added in new ones, those that lose files written anew, the others carried over, small ones merged now and then.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::io::FileIO;
use iceberg::spec::{
    DataFile, ManifestContentType, ManifestEntry, ManifestFile, ManifestListWriter, ManifestWriter,
    ManifestWriterBuilder, PartitionSpec, SchemaRef, Snapshot, Summary, UNASSIGNED_SEQUENCE_NUMBER,
};
use object_store::path::Path;
use schemas::ErrorKind;
use schemas::planted::{Bug, planted};

use super::naming::content_id;
use super::state::TableState;
use super::{Shared, iceberg_error};
use crate::error::{CatalogError, Result};

/// Manifests of few files and one partition spec that a table may have before they are merged: each costs a planner one read.
const SMALL_MANIFESTS_MAX: usize = 32;
/// Files from which on a manifest is no longer small.
const LARGE_MANIFEST_FILES: u32 = 1_024;
/// Where files are drafted, in memory.
const DRAFTS: &str = "memory:///";

/// A snapshot that is being made.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    base: &'a TableState,
    /// Full URI of the folder for metadata.
    folder: String,
    /// Begins the name of every file written here; unlike any other attempt's.
    attempt: String,
    snapshot_id: i64,
    sequence_number: i64,
    /// The schema that the table has with this snapshot.
    schema: SchemaRef,
    /// Holds files until they have a name.
    memory: FileIO,
}

/// What a snapshot does to the live files of its parent.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// New files by the id of their partition spec.
    pub(super) added: BTreeMap<i32, Vec<DataFile>>,
    /// Live files that go.
    pub(super) removed: BTreeSet<Path>,
}

impl Change {
    /// One file more.
    pub(super) fn add(spec_id: i32, file: DataFile) -> Self {
        Self { added: [(spec_id, vec![file])].into(), removed: BTreeSet::new() }
    }
}

impl<'a> Draft<'a> {
    /// Of a snapshot to follow `base`, with names of a sweep generation (P7).
    pub(super) fn after(base: &'a TableState, generation: u64, schema: SchemaRef) -> Self {
        let env = &base.shared().env;
        Self {
            base,
            folder: format!("{}/metadata", base.metadata().location()),
            attempt: format!("g{generation}-{}", env.uuid()),
            snapshot_id: (u128::from_be_bytes(env.nonce()) as u64 >> 1) as i64,
            sequence_number: base.metadata().last_sequence_number() + 1,
            schema,
            memory: FileIO::new_with_memory(),
        }
    }

    /// The snapshot, of the manifest list that [`Self::write`] has stored.
    pub(super) fn snapshot(&self, manifest_list: String, summary: Summary, schema_id: i32) -> Snapshot {
        Snapshot::builder()
            .with_snapshot_id(self.snapshot_id)
            .with_parent_snapshot_id(self.base.snapshot_id())
            .with_sequence_number(self.sequence_number)
            .with_timestamp_ms(self.base.next_ms())
            .with_manifest_list(manifest_list)
            .with_summary(summary)
            .with_schema_id(schema_id)
            .build()
    }

    /// Writes manifests and manifest list of the base's files after `change`; returns the list's URI.
    ///
    /// Errors: `Internal` if a file that is to go is not live in the base, which the caller must have seen to.
    pub(super) async fn write(&self, change: Change) -> Result<String> {
        let mut manifests = Vec::new();
        for (spec, files) in change.added {
            let mut added = self.writer("m0", spec)?;
            for file in files {
                let adding = added.add_file(file, UNASSIGNED_SEQUENCE_NUMBER);
                adding.map_err(|error| iceberg_error("the manifest of new files", error))?;
            }
            manifests.push(self.finish(added).await?);
        }
        let mut left = change.removed;
        let (mut hit, mut small) =
            (BTreeMap::<i32, Vec<ManifestFile>>::new(), BTreeMap::<i32, Vec<ManifestFile>>::new());
        for manifest in self.base.manifests().await?.into_iter().filter(is_live) {
            if !left.is_empty() && self.loses(&manifest, &left).await? {
                hit.entry(manifest.partition_spec_id).or_default().push(manifest);
            } else if is_small(&manifest) {
                small.entry(manifest.partition_spec_id).or_default().push(manifest);
            } else {
                manifests.push(manifest);
            }
        }
        for (spec, hit) in hit {
            manifests.push(self.joined("m1", spec, &hit, &mut left).await?);
        }
        if let Some(path) = left.first() {
            let message = format!("table {}: {path} is to be replaced, but is not live", self.base.name());
            return Err(CatalogError::new(ErrorKind::Internal, message));
        }
        for (spec, small) in small {
            match small.len() >= SMALL_MANIFESTS_MAX {
                true => manifests.push(self.joined("m2", spec, &small, &mut left).await?),
                false => manifests.extend(small),
            }
        }
        self.write_list(manifests).await
    }

    /// Whether any of these files is live in a manifest.
    async fn loses(&self, manifest: &ManifestFile, removed: &BTreeSet<Path>) -> Result<bool> {
        let entries = self.shared().entries(manifest).await?;
        Ok(entries.iter().any(|entry| entry.is_alive() && self.path(entry).is_some_and(|path| removed.contains(&path))))
    }

    /// Whoever wrote the entry: other engines have other spellings of a URI.
    fn path(&self, entry: &ManifestEntry) -> Option<Path> {
        self.shared().store.path(entry.file_path()).ok()
    }

    /// Writes into memory: a manifest's name holds its content's hash.
    fn writer(&self, suffix: &str, spec: i32) -> Result<ManifestWriter> {
        let draft = format!("{DRAFTS}{}-{suffix}s{spec}", self.attempt);
        let output = self.memory.new_output(&draft).map_err(|error| iceberg_error(&draft, error))?;
        let spec = self.spec(spec)?;
        let builder = ManifestWriterBuilder::new(output, Some(self.snapshot_id), SchemaRef::clone(&self.schema), spec);
        Ok(builder.build_v2_data())
    }

    fn spec(&self, id: i32) -> Result<PartitionSpec> {
        let spec = self.base.metadata().partition_spec_by_id(id).map(|spec| spec.as_ref().clone());
        spec.ok_or_else(|| {
            let message = format!("table {}: partition spec {id} should be there, and is not", self.base.name());
            CatalogError::new(ErrorKind::Corrupt, message)
        })
    }

    /// One manifest of the live files of many: those in `removed` as deleted by this snapshot, which leaves it; the others with the snapshot and sequence
    /// numbers that they had.
    async fn joined(
        &self,
        suffix: &str,
        spec: i32,
        manifests: &[ManifestFile],
        removed: &mut BTreeSet<Path>,
    ) -> Result<ManifestFile> {
        let mut writer = self.writer(suffix, spec)?;
        for manifest in manifests {
            let entries = self.shared().entries(manifest).await?;
            for entry in entries.iter().filter(|entry| entry.is_alive()) {
                let goes = !removed.is_empty() && self.path(entry).is_some_and(|path| removed.remove(&path));
                let kept = carry(&mut writer, entry, goes, &manifest.manifest_path);
                kept?.map_err(|error| iceberg_error(&manifest.manifest_path, error))?;
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
        let name = match planted(Bug::NameWithoutNonce) {
            true => stem.replace(&self.attempt, &self.sequence_number.to_string()),
            false => format!("{stem}-{}", content_id(&content).as_simple()),
        };
        let uri = format!("{}/{name}.avro", self.folder);
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

/// Writes one live entry again. Errors: `Corrupt` if it lacks what every live entry has.
fn carry(writer: &mut ManifestWriter, entry: &ManifestEntry, goes: bool, place: &str) -> Result<iceberg::Result<()>> {
    let (Some(snapshot), Some(sequence)) = (entry.snapshot_id, entry.sequence_number) else {
        let message = format!("manifest {place}: a live entry without snapshot or sequence number");
        return Err(CatalogError::new(ErrorKind::Corrupt, message));
    };
    let (file, file_sequence) = (entry.data_file.clone(), entry.file_sequence_number);
    Ok(match goes {
        true => writer.add_delete_file(file, sequence, file_sequence),
        false => writer.add_existing_file(file, snapshot, sequence, file_sequence),
    })
}

fn is_live(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

fn is_small(manifest: &ManifestFile) -> bool {
    let files = manifest.added_files_count.zip(manifest.existing_files_count).map(|(added, existing)| added + existing);
    manifest.content == ManifestContentType::Data && files.is_some_and(|files| files < LARGE_MANIFEST_FILES)
}
