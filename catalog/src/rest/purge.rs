//! Removing the files of dropped tables.
//!
//! What is to be removed was noted in the directory by the swap that took the name away, and the note goes when the files have gone: whatever crashes on the way,
//! the next purge goes on with it. Only what lies in the folders of users' tables is removed, whatever a manifest says: never a topic's file, never one elsewhere.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{ManifestList, TableMetadata};
use object_store::path::Path;
use schemas::TenantName;

use super::RestCatalog;
use super::directory::Purging;
use super::reply::{Refusal, Result};

/// Files deleted with one call to the store.
const BATCH_FILES: usize = 256;

impl RestCatalog {
    /// Removes what is noted, the oldest first. What cannot be removed now stays noted.
    pub(super) async fn purge(&self, tenant: &TenantName) {
        let Ok(directory) = self.directory(tenant).await else { return };
        for noted in directory.purging {
            let done = async {
                self.remove_files(tenant, &noted).await?;
                let change = self.env().uuid();
                self.change_directory(tenant, change, |directory| {
                    directory.purging.retain(|other| other != &noted);
                    Ok(())
                })
                .await
            };
            if let Err(error) = done.await {
                tracing::warn!(table = %noted.id, error = error.message, "a dropped table's files stay for the next purge");
            }
        }
    }

    /// First what its metadata leads to, then its own folder, in which that metadata lies.
    async fn remove_files(&self, tenant: &TenantName, noted: &Purging) -> Result<()> {
        let allowed = self.tables_folder(tenant).await?;
        match self.read_table(&noted.metadata).await {
            Ok(metadata) => self.remove_referenced(&allowed, &metadata).await?,
            Err(error) if error.status == 404 => {}
            Err(error) => return Err(error),
        }
        let folder = self.folder(tenant, noted.id).await?;
        let found = self.store().objects().list(Some(&folder)).map_ok(|object| object.location).boxed();
        self.store().objects().delete_stream(found).try_for_each(async |_| Ok(())).await.map_err(unremoved)
    }

    async fn remove_referenced(&self, allowed: &Path, metadata: &TableMetadata) -> Result<()> {
        let io = self.store().file_io();
        let mut files = Vec::new();
        for snapshot in metadata.snapshots() {
            // Gone already if an earlier purge came this far.
            let Ok(list) = self.tables().read_object(snapshot.manifest_list()).await else { continue };
            let Ok(list) = ManifestList::parse_with_version(&list, metadata.format_version()) else { continue };
            for manifest in list.entries() {
                if let Ok(read) = manifest.load_manifest(&io).await {
                    for entry in read.entries() {
                        files.push(entry.file_path().to_owned());
                        self.remove_batch(allowed, &mut files, BATCH_FILES).await?;
                    }
                }
            }
            // Manifests after what they name, and lists after these: what is left can still be found.
            files.extend(list.entries().iter().map(|manifest| manifest.manifest_path.clone()));
            files.push(snapshot.manifest_list().to_owned());
            self.remove_batch(allowed, &mut files, 1).await?;
        }
        files.extend(metadata.statistics_iter().map(|file| file.statistics_path.clone()));
        files.extend(metadata.partition_statistics_iter().map(|file| file.statistics_path.clone()));
        files.extend(metadata.metadata_log().iter().map(|log| log.metadata_file.clone()));
        self.remove_batch(allowed, &mut files, 1).await
    }

    /// Removes what has gathered, once there is enough of it.
    async fn remove_batch(&self, allowed: &Path, files: &mut Vec<String>, enough: usize) -> Result<()> {
        if files.len() < enough {
            return Ok(());
        }
        let paths = files.drain(..).filter_map(|uri| self.store().path(&uri).ok());
        let ours: Vec<_> = paths.filter(|path| path.prefix_matches(allowed)).map(Ok).collect();
        let removed = Arc::clone(self.store().objects()).delete_stream(stream::iter(ours).boxed());
        removed
            .filter(|result| std::future::ready(!matches!(result, Err(object_store::Error::NotFound { .. }))))
            .try_for_each(async |_| Ok(()))
            .await
            .map_err(unremoved)
    }
}

fn unremoved(error: object_store::Error) -> Refusal {
    Refusal::unavailable(format!("a dropped table's files cannot be removed: {error}"))
}
