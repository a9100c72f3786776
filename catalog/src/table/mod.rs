//! Topic tables: Iceberg format v2 under the embedded catalog, and the commit that moves a topic's watermark (P4).
//!
//! * [`Tables`] opens, loads and drops tables; its [`flush`](Tables::flush) is the only way that rows get in.
//! * [`TableState`] is one metadata file; [`FileSet`] what its manifests say, for planning reads.
//! * [`EmbeddedCatalog`] shows the same tables to anything that speaks `iceberg::Catalog`.
//!
//! A table's current state is what its pointer register says, and nothing else: a metadata file that no register has named is litter.

pub mod audit;
mod bounds;
mod catalog;
mod commit;
mod compact;
mod create;
mod decide;
mod encode;
mod expire;
mod files;
mod foreign;
mod forget;
mod leave;
mod manifests;
mod metrics;
mod naming;
mod outside;
mod parquet_schema;
mod pointer;
mod properties;
mod retain;
mod rowhash;
mod schema;
mod sort;
mod state;
mod sweep;
mod tag;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::error::ArrowError;
use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::{ManifestEntryRef, ManifestFile, TableMetadata};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parking_lot::RwLock;
use schemas::{ErrorKind, TenantName, TopicDef, TopicId, TopicName, Watermark};

pub use catalog::EmbeddedCatalog;
pub use commit::FlushRows;
pub use compact::{Compacted, Compaction, Job, ListedFile, ListedJob, ListedRange, SeqRange, TableReport};
pub use expire::Expired;
pub use files::{DataFile, FileSet, Partition};
pub use leave::REMOVED_AT_ONCE_MAX;
pub use retain::{Removed, Retention};
pub use rowhash::RowHash;
pub use state::TableState;
pub use sweep::Swept;

use crate::env::Env;
use crate::error::{CatalogError, Result};
use crate::storage::{Creation, Store, Swap};
use create::first_metadata;
use naming::content_id;
pub(crate) use outside::Declined;
use pointer::Pinned;
pub(crate) use pointer::Pointer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use pointer::fuzz_pointer;
pub(crate) use properties::TOPIC as TOPIC_PROPERTY;

/// Bytes of manifests that are kept in memory, as they are in their files; a few times that when parsed.
const MANIFEST_CACHE_BYTES: u64 = 32 << 20;
/// Bytes of manifest lists that are kept in memory.
const LIST_CACHE_BYTES: u64 = 16 << 20;
/// About what one manifest takes in such a list, its bounds included.
const LISTED_BYTES: usize = 512;
/// Reads of a pointer and what it names before the table is given up: a file may go between the two, once its successors are many.
const LOADS_MAX: u32 = 3;

/// The tables of every topic of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables {
    shared: Arc<Shared>,
}

/// What all tables of a process share.
#[derive(Debug)]
struct Shared {
    store: Store,
    env: Env,
    file_io: FileIO,
    opened: RwLock<HashMap<TopicId, Opened>>,
    /// Why tables that readers may ask for are not open: what an error says.
    closed: RwLock<HashMap<TopicId, (ErrorKind, String)>>,
    manifests: moka::sync::Cache<String, Arc<Vec<ManifestEntryRef>>>,
    lists: moka::sync::Cache<String, Arc<[ManifestFile]>>,
    /// Held by the one compaction that runs in this process.
    compacting: tokio::sync::Semaphore,
}

/// A table that this process has opened: where its pointer lies, and what it last said.
#[derive(Clone, Debug)]
struct Opened {
    path: Path,
    name: String,
    state: Arc<TableState>,
}

/// A table as its register names it, that readers do not see yet.
#[derive(Debug)]
pub struct Found(Opened);

impl Found {
    /// First seq that is not in it.
    pub fn watermark(&self) -> Watermark {
        self.0.state.watermark()
    }
}

impl Tables {
    /// Tables in `store`.
    pub fn new(store: Store, env: Env) -> Self {
        let manifests = moka::sync::Cache::builder()
            .max_capacity(MANIFEST_CACHE_BYTES)
            .weigher(|_: &String, entries: &Arc<Vec<ManifestEntryRef>>| weight(entries))
            .build();
        let lists = moka::sync::Cache::builder()
            .max_capacity(LIST_CACHE_BYTES)
            .weigher(|_: &String, list: &Arc<[ManifestFile]>| (LISTED_BYTES * (list.len() + 1)) as u32)
            .build();
        let file_io = store.file_io();
        let compacting = tokio::sync::Semaphore::new(1);
        let (opened, closed) = Default::default();
        Self { shared: Arc::new(Shared { store, env, file_io, opened, closed, manifests, lists, compacting }) }
    }

    /// Opens the topic's table in this process, making it unless it is there already (the pointer register then names a table with the topic's id).
    /// Everything else below works on tables opened so; `tenant` is the name that the topic's owner has.
    ///
    /// Errors: `Conflict` if a table of another topic stands there, or it was rolled back; `NotFound` if this topic's table was dropped.
    pub async fn ensure(&self, tenant: &TenantName, def: &TopicDef) -> Result<Arc<TableState>> {
        let path = Pointer::path(tenant, &def.name);
        let name = format!("{tenant}.{}", def.name);
        loop {
            let found = self.shared.read_pointer(&path).await?;
            let previous = match found {
                Some(pinned) if pinned.pointer.topic == def.id || pinned.pointer.metadata.is_some() => {
                    let state = self.read_state(&path, &name, def.id).await?;
                    return Ok(self.open_as(def, Opened { path, name, state }));
                }
                free => free,
            };
            if let Some(state) = self.create(&path, &name, def, previous.as_ref()).await? {
                return Ok(self.open_as(def, Opened { path, name, state }));
            }
        }
    }

    /// The topic's table as it is now, made by nobody: for who only reads. Readers see it once it is [admitted](Self::admit).
    ///
    /// `None` if it is not there yet, or no longer. Errors: those of `ensure`.
    pub async fn find(&self, tenant: &TenantName, def: &TopicDef) -> Result<Option<Found>> {
        let path = Pointer::path(tenant, &def.name);
        let found = self.shared.read_pointer(&path).await?;
        if !found.is_some_and(|pinned| pinned.pointer.topic == def.id && pinned.pointer.metadata.is_some()) {
            return Ok(None);
        }
        let name = format!("{tenant}.{}", def.name);
        let state = self.read_state(&path, &name, def.id).await?;
        Ok(Some(Found(Opened { path, name, state })))
    }

    /// Opens a table that was found for readers of this process.
    pub fn admit(&self, def: &TopicDef, Found(opened): Found) -> Arc<TableState> {
        let state = self.open_as(def, opened);
        self.show(&def.id);
        state
    }

    /// From now on readers who ask for this table here are told why not, until it is [shown](Self::show): a topic whose table cannot be opened, or does not reach up to what
    /// this process has of its log, must not look as if it were not there, or empty.
    pub fn close(&self, topic: &TopicId, kind: ErrorKind, reason: impl Into<String>) {
        self.shared.closed.write().insert(*topic, (kind, reason.into()));
    }

    /// What was [closed](Self::close) is so no more.
    pub fn show(&self, topic: &TopicId) {
        self.shared.closed.write().remove(topic);
    }

    /// Why the table was closed, if it is.
    pub fn closed(&self, topic: &TopicId) -> Option<CatalogError> {
        self.shared.closed.read().get(topic).map(|(kind, reason)| CatalogError::new(*kind, reason.clone()))
    }

    /// First seq that is not in the table as last seen by this process, whether readers see it or not. `None` if it was not opened.
    pub fn watermark(&self, topic: &TopicId) -> Option<Watermark> {
        self.shared.opened.read().get(topic).map(|opened| opened.state.watermark())
    }

    /// True if readers of this process see it.
    pub fn is_open(&self, topic: &TopicId) -> bool {
        self.shared.opened.read().contains_key(topic) && !self.shared.closed.read().contains_key(topic)
    }

    /// Makes the first metadata and points the register at it. `None` if another was faster.
    async fn create(
        &self,
        path: &Path,
        name: &str,
        def: &TopicDef,
        previous: Option<&Pinned>,
    ) -> Result<Option<Arc<TableState>>> {
        let shared = &self.shared;
        let location = shared.store.uri(&Path::from(format!("warehouse/{}/{}", def.tenant, def.id)));
        let metadata = first_metadata(def, &location, shared.env.now_micros() / 1000)?;
        let document = serde_json::to_vec(&metadata).map_err(|error| {
            CatalogError::new(ErrorKind::Internal, format!("the metadata of table {name}")).caused_by(error)
        })?;
        let uri = format!("{location}/metadata/00000-{}.metadata.json", content_id(&document));
        shared.create(&uri, document.into()).await?;

        let nonce = shared.env.uuid().to_string();
        let pointer = Pointer::next(previous.map(|pinned| &pinned.pointer), def.id, Some(uri.clone()), nonce);
        let expected = previous.map(|pinned| &pinned.tag);
        match shared.store.swap_register(path, expected, pointer.encode()).await? {
            Swap::Lost => Ok(None),
            Swap::Won(tag) => {
                let pinned = Pinned { pointer, tag };
                let state =
                    TableState::new(Arc::clone(shared), name.to_owned(), def.id, pinned, uri, Arc::new(metadata))?;
                Ok(Some(Arc::new(state)))
            }
        }
    }

    /// The table as last seen by this process: no I/O. Errors: why it was [closed](Self::close); `NotFound` if it was not opened.
    pub async fn current(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        if let Some(reason) = self.closed(&def.id) {
            return Err(reason);
        }
        let state = self.shared.opened.read().get(&def.id).map(|opened| Arc::clone(&opened.state));
        state.ok_or_else(|| not_open(def))
    }

    /// The table read afresh from its register.
    ///
    /// Errors: `NotFound` if it was not opened or was dropped; `Conflict` if it is not what the topic's flushes left (P4.1).
    pub async fn load(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        let (path, name) = self.opened(def)?;
        let state = self.read_state(&path, &name, def.id).await?;
        Ok(self.remember(def, state))
    }

    /// The table as its register has it now: one read if nobody has committed since this process looked last. For who has served it from memory for a while.
    ///
    /// Errors: those of [`Self::load`].
    pub async fn refresh(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        let (path, _) = self.opened(def)?;
        let (known, found) = (self.current(def).await?, self.shared.read_pointer(&path).await?);
        match found.is_some_and(|found| found.pointer.version == known.pinned().pointer.version) {
            true => Ok(known),
            false => self.load(def).await,
        }
    }

    /// The table read afresh, as [`Self::load`] does, and what others committed since the last flush looked through (P8): for who lets go of what it holds
    /// because the table has it.
    pub async fn load_checked(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        let state = self.load(def).await?;
        state.check_foreign().await?;
        Ok(state)
    }

    async fn read_state(&self, path: &Path, name: &str, topic: TopicId) -> Result<Arc<TableState>> {
        for last in (0..LOADS_MAX).rev() {
            let pinned = self.shared.read_pointer(path).await?;
            let dropped = || CatalogError::new(ErrorKind::NotFound, format!("table {name} was dropped"));
            let pinned = pinned.ok_or_else(dropped)?;
            if pinned.pointer.topic != topic {
                let message = format!(
                    "table {name} should be of topic {topic}, but register {path} names one of topic {}",
                    pinned.pointer.topic
                );
                return Err(CatalogError::new(ErrorKind::Conflict, message));
            }
            let uri = pinned.pointer.metadata.clone().ok_or_else(dropped)?;
            match self.shared.read_metadata(&uri).await {
                Ok(metadata) => {
                    let shared = Arc::clone(&self.shared);
                    return TableState::new(shared, name.to_owned(), topic, pinned, uri, metadata).map(Arc::new);
                }
                Err(error) if last == 0 || error.kind() != ErrorKind::NotFound => return Err(corrupt_if_absent(error)),
                Err(_) => {}
            }
        }
        Err(CatalogError::new(ErrorKind::Unavailable, format!("table {name} changes faster than it can be read")))
    }

    /// Forgets a dropped topic's pointer; its files stay for a grace period (P7), until [`Self::remove_dropped`]. Idempotent.
    pub async fn drop_table(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        let path = Pointer::path(tenant, &def.name);
        self.forget(&def.id);
        loop {
            let Some(pinned) = self.shared.read_pointer(&path).await? else { return Ok(()) };
            if pinned.pointer.topic != def.id || pinned.pointer.metadata.is_none() {
                return Ok(());
            }
            let next = Pointer::next(Some(&pinned.pointer), def.id, None, self.shared.env.uuid().to_string());
            if let Swap::Won(_) = self.shared.store.swap_register(&path, Some(&pinned.tag), next.encode()).await? {
                return Ok(());
            }
        }
    }

    /// Forgets what is cached of a topic.
    pub fn forget(&self, topic: &TopicId) {
        self.shared.opened.write().remove(topic);
        self.shared.closed.write().remove(topic);
    }

    /// The pointer of a topic's table as its register has it. `None` if there never was one.
    pub(crate) async fn pointer(&self, tenant: &TenantName, topic: &TopicName) -> Result<Option<Pointer>> {
        Ok(self.shared.read_pointer(&Pointer::path(tenant, topic)).await?.map(|pinned| pinned.pointer))
    }

    /// A whole object by its full URI. Errors: `NotFound`, `Unavailable`, `Invalid` if it does not lie in the store.
    pub(crate) async fn read_object(&self, uri: &str) -> Result<Bytes> {
        self.shared.read(uri).await
    }

    /// Creates an object whose name nobody else uses.
    pub(crate) async fn create_object(&self, uri: &str, bytes: Bytes) -> Result<()> {
        self.shared.create(uri, bytes).await
    }

    /// Removes a metadata file that nothing leads to any more, or leaves it as litter.
    pub(crate) async fn delete_metadata(&self, uri: &str) {
        self.shared.delete_quietly(uri).await;
    }

    /// The store they lie in.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    fn opened(&self, def: &TopicDef) -> Result<(Path, String)> {
        let opened = self.shared.opened.read();
        opened.get(&def.id).map(|opened| (opened.path.clone(), opened.name.clone())).ok_or_else(|| not_open(def))
    }

    fn open_as(&self, def: &TopicDef, opened: Opened) -> Arc<TableState> {
        let state = Arc::clone(&opened.state);
        self.shared.opened.write().entry(def.id).or_insert(opened);
        self.remember(def, state)
    }

    /// Keeps the newest state seen: a slow reader must not take a table back. Returns it.
    fn remember(&self, def: &TopicDef, state: Arc<TableState>) -> Arc<TableState> {
        let mut opened = self.shared.opened.write();
        let Some(entry) = opened.get_mut(&def.id) else { return state };
        if entry.state.pinned().pointer.version < state.pinned().pointer.version {
            entry.state = Arc::clone(&state);
        }
        state
    }
}

impl Shared {
    async fn read_pointer(&self, path: &Path) -> Result<Option<Pinned>> {
        let Some(revision) = self.store.read_register(path).await? else { return Ok(None) };
        let pointer = Pointer::decode(&revision.content, path)?;
        Ok(Some(Pinned { pointer, tag: revision.tag }))
    }

    async fn read_metadata(&self, uri: &str) -> Result<Arc<TableMetadata>> {
        let bytes = self.read(uri).await?;
        serde_json::from_slice(&bytes).map(Arc::new).map_err(|error| {
            CatalogError::new(ErrorKind::Corrupt, format!("{uri} should be Iceberg table metadata")).caused_by(error)
        })
    }

    /// A whole object. Errors: `NotFound`, `Unavailable`, naming it.
    async fn read(&self, uri: &str) -> Result<Bytes> {
        let path = self.store.path(uri)?;
        let read = async { self.store.objects().get(&path).await?.bytes().await };
        read.await.map_err(|error| object_error(uri, error))
    }

    /// Creates an object once (P0). Its name holds an identity of this attempt alone, so that nobody else's can be there.
    async fn create(&self, uri: &str, bytes: Bytes) -> Result<()> {
        match self.store.create_segment(&self.store.path(uri)?, bytes).await? {
            Creation::Mine => Ok(()),
            Creation::Others(_) => {
                let message =
                    format!("{uri} should be new, but other bytes are there: an identity was given out twice");
                Err(CatalogError::new(ErrorKind::Internal, message))
            }
        }
    }

    /// Removes what nothing names any more; whoever misses that it failed finds litter, not harm.
    async fn delete_quietly(&self, uri: &str) {
        let Ok(path) = self.store.path(uri) else { return };
        if let Err(error) = self.store.objects().delete(&path).await {
            tracing::debug!(uri, %error, "an old metadata file stays");
        }
    }

    /// A manifest's entries, with what they inherit from the manifest list filled in.
    async fn entries(&self, manifest: &ManifestFile) -> Result<Arc<Vec<ManifestEntryRef>>> {
        let uri = &manifest.manifest_path;
        if let Some(entries) = self.manifests.get(uri) {
            return Ok(entries);
        }
        let read = manifest.load_manifest(&self.file_io).await.map_err(|error| iceberg_error(uri, error))?;
        let entries = Arc::new(read.into_parts().0);
        self.manifests.insert(uri.clone(), Arc::clone(&entries));
        Ok(entries)
    }
}

/// About what a manifest takes in its file, going by the columns that its entries know of.
fn weight(entries: &[ManifestEntryRef]) -> u32 {
    let columns: usize = entries.iter().map(|entry| entry.data_file().value_counts().len()).sum();
    u32::try_from(256 * entries.len() + 64 * columns).unwrap_or(u32::MAX)
}

fn not_open(def: &TopicDef) -> CatalogError {
    let message = format!("the table of topic {} ({}) is not open in this process", def.name, def.id);
    CatalogError::new(ErrorKind::NotFound, message)
}

/// A metadata file that its register names and that is not there is no missing table.
fn corrupt_if_absent(error: CatalogError) -> CatalogError {
    match error.kind() {
        ErrorKind::NotFound => CatalogError::new(ErrorKind::Corrupt, "a table's metadata is missing").caused_by(error),
        _ => error,
    }
}

fn object_error(uri: &str, error: object_store::Error) -> CatalogError {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    CatalogError::new(kind, uri).caused_by(error)
}

fn iceberg_error(what: &str, error: iceberg::Error) -> CatalogError {
    let kind = match error.kind() {
        iceberg::ErrorKind::Unexpected => ErrorKind::Unavailable,
        iceberg::ErrorKind::FeatureUnsupported => ErrorKind::Invalid,
        _ => ErrorKind::Corrupt,
    };
    CatalogError::new(kind, what).caused_by(error)
}

fn arrow_error(error: ArrowError) -> CatalogError {
    CatalogError::new(ErrorKind::Internal, "event columns could not be rearranged").caused_by(error)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
