//! The store: registers and segments over an object store or a local folder (P0, X1 to X4).

pub mod conformance;
pub mod metrics;

#[cfg(test)]
pub(crate) mod faults;
mod format;
mod iceberg_io;
mod local;
mod location;
mod pace;
mod probe;
mod read_only;
mod register;
mod rooted;
mod s3;
mod segment;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::client::HttpConnector;
use object_store::path::Path;
use schemas::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::env::Env;
use crate::error::{CatalogError, Result};
use local::LocalFolder;
use location::{Address, Location};
use metrics::Counted;
pub use read_only::Meter;
use read_only::ReadOnly;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use register::fuzz_register;
use register::{ObjectRegisters, Registers};

/// Where a store lies and how to reach it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// A folder (`./data`, `file:///…`) or `s3://bucket/prefix`.
    pub url: String,
    /// S3 only: overrides of the usual `AWS_*` variables, by `object_store`'s names (`aws_endpoint`, `aws_region`, …).
    pub options: std::collections::BTreeMap<String, String>,
    /// How long a conditional write is tried again while its outcome is unknown, milliseconds. Default: 30,000.
    pub deadline_ms: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: String::new(), options: Default::default(), deadline_ms: 30_000 }
    }
}

impl StoreConfig {
    /// A store at this URL, everything else as usual.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

/// A store, rooted: every [`Path`] is relative to the root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    registers: Arc<dyn Registers>,
    /// The same folder again, if it is one.
    local: Option<Arc<LocalFolder>>,
    location: Location,
    /// How long a conditional write is tried.
    deadline: Duration,
    env: Env,
    /// What other clients need to reach the same place.
    client_settings: Vec<s3::Told>,
}

/// The state of a register at a moment.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The document.
    pub content: Bytes,
    /// What a swap of exactly this state must present.
    pub tag: RevisionTag,
}

/// Names one revision of one register: an ETag on S3, a number on a local folder. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionTag(String);

/// What became of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is this caller's; the new revision's tag.
    Won(RevisionTag),
    /// Another's revision is there: re-read, and decide again.
    Lost,
}

/// What became of creating a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object holds exactly the bytes given.
    Mine,
    /// The object holds these other bytes.
    Others(Bytes),
}

impl Store {
    /// Opens a store; creates a local root folder if it is absent, and `firn.json` with it. Does not probe.
    ///
    /// Errors: `Invalid` for a URL that is none of the known kinds, and for a store that a newer Firn has moved on; `Unavailable` if it
    /// cannot be reached.
    pub async fn open(config: &StoreConfig, env: Env) -> Result<Self> {
        let deadline = Duration::from_millis(config.deadline_ms);
        let store = match Address::parse(&config.url)? {
            Address::Folder(folder) => Self::open_folder(folder, deadline, env).await?,
            Address::S3 { bucket, prefix } => {
                let objects = Arc::new(s3::connect(&bucket, &prefix, &config.options, None)?);
                let settings = s3::client_settings(&bucket, &config.options)?;
                Self::over_telling(objects, Location::s3(&bucket, &prefix), deadline, env, settings)
            }
        };
        format::claim(&store).await?;
        Ok(store)
    }

    /// Opens an S3 store whose client, its retries included, reaches the server by `connector` instead of a socket: for simulated networks.
    ///
    /// Errors: `Invalid` for another kind of URL; otherwise as for [`Self::open`].
    pub async fn open_over(config: &StoreConfig, env: Env, connector: Arc<dyn HttpConnector>) -> Result<Self> {
        let Address::S3 { bucket, prefix } = Address::parse(&config.url)? else {
            let message = format!("store URL {:?}: only s3://bucket/prefix is reached by a connector", config.url);
            return Err(CatalogError::new(ErrorKind::Invalid, message));
        };
        let objects = Arc::new(s3::connect(&bucket, &prefix, &config.options, Some(connector))?);
        let deadline = Duration::from_millis(config.deadline_ms);
        let settings = s3::client_settings(&bucket, &config.options)?;
        let store = Self::over_telling(objects, Location::s3(&bucket, &prefix), deadline, env, settings);
        format::claim(&store).await?;
        Ok(store)
    }

    /// Opens a store that is there, to look at it: nothing is written, no folder made, nobody disturbed. Whatever would change it fails.
    ///
    /// Errors: `NotFound` if there is no store; otherwise as for [`Self::open`].
    pub async fn open_read_only(config: &StoreConfig, env: Env, meter: Meter) -> Result<Self> {
        let deadline = Duration::from_millis(config.deadline_ms);
        let store = match Address::parse(&config.url)? {
            Address::Folder(folder) => {
                let absent = |error: std::io::Error| {
                    let message = format!("folder {}: expected a store", folder.display());
                    CatalogError::new(ErrorKind::NotFound, message).caused_by(error)
                };
                let local = Arc::new(LocalFolder::open_read_only(&folder).map_err(absent)?);
                let location = Location::folder(local.root())?;
                let objects = Arc::new(ReadOnly::new(Arc::clone(&local), meter));
                let client_settings = Vec::new();
                let inner = Inner { objects, registers: local, local: None, location, deadline, env, client_settings };
                Self { inner: Arc::new(inner) }
            }
            Address::S3 { bucket, prefix } => {
                let objects = ReadOnly::new(s3::connect(&bucket, &prefix, &config.options, None)?, meter);
                Self::over(Arc::new(objects), Location::s3(&bucket, &prefix), deadline, env)
            }
        };
        format::look(&store).await?;
        Ok(store)
    }

    async fn open_folder(folder: std::path::PathBuf, deadline: Duration, env: Env) -> Result<Self> {
        let unavailable = |error: std::io::Error| {
            let message = format!("folder {}: cannot be opened as a store", folder.display());
            CatalogError::new(ErrorKind::Unavailable, message).caused_by(error)
        };
        let (root, id) = (folder.clone(), env.uuid().simple().to_string());
        let opened = tokio::task::spawn_blocking(move || LocalFolder::open(&root, &id)).await;
        let local = Arc::new(opened.map_err(std::io::Error::from).flatten().map_err(unavailable)?);
        let location = Location::folder(local.root())?;
        let (objects, registers) = (Arc::new(Counted(Arc::clone(&local))), Arc::new(Counted(Arc::clone(&local))));
        let client_settings = Vec::new();
        let inner = Inner { objects, registers, local: Some(local), location, deadline, env, client_settings };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A store in an object store with conditional puts, of which other clients are told nothing.
    fn over<S: ObjectStore>(objects: Arc<S>, location: Location, deadline: Duration, env: Env) -> Self {
        Self::over_telling(objects, location, deadline, env, Vec::new())
    }

    fn over_telling<S: ObjectStore>(
        objects: Arc<S>,
        location: Location,
        deadline: Duration,
        env: Env,
        client_settings: Vec<s3::Told>,
    ) -> Self {
        let objects = Arc::new(Counted(objects));
        let registers = Arc::new(ObjectRegisters(Arc::clone(&objects)));
        let inner = Inner { objects, registers, local: None, location, deadline, env, client_settings };
        Self { inner: Arc::new(inner) }
    }

    /// How many lanes the store has, at least `wanted` from now on: recorded in `firn.json`, never falls.
    ///
    /// Errors: those of a register; `Corrupt` if `firn.json` is not as it was written.
    pub async fn lanes(&self, wanted: u32) -> Result<u32> {
        format::lanes(self, wanted).await
    }

    /// Tries X3 and X4 with racing writers under a prefix of its own, which it removes afterwards.
    ///
    /// Errors: `Invalid`, naming the axiom, if the store lets two writers win; `Unavailable` if it does not answer.
    pub async fn probe(&self) -> Result<()> {
        probe::run(self).await
    }

    /// The objects, for data and metadata files. Puts are durable when they answer.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.objects
    }

    /// Iceberg's own I/O through this store: it knows objects by their full URI ([`Self::uri`]).
    pub fn file_io(&self) -> iceberg::io::FileIO {
        iceberg_io::file_io(self)
    }

    /// True for a local folder.
    pub fn is_local(&self) -> bool {
        self.inner.local.is_some()
    }

    /// What an Iceberg client must be told to reach the store itself, by Iceberg's names (`s3.endpoint`, …); with `keys`, the server's own keys to it. Empty for
    /// a local folder.
    pub fn client_settings(&self, keys: bool) -> BTreeMap<String, String> {
        let told = self.inner.client_settings.iter().filter(|told| keys || !told.is_secret);
        told.filter_map(|told| Some((told.name.to_owned(), told.value.clone()?))).collect()
    }

    /// The full URI of a path, as Iceberg metadata names it: `file:///…` or `s3://…`. Not percent-encoded.
    pub fn uri(&self, path: &Path) -> String {
        self.inner.location.uri(path)
    }

    /// The path of a URI under this root; Spark's spellings (`file:/…`, `s3a://…`) are understood. Errors: `Invalid` for one that is not.
    pub fn path(&self, uri: &str) -> Result<Path> {
        self.inner.location.path(uri)
    }

    /// Reads a register. `None` if it was never made.
    ///
    /// Errors: `Corrupt` if it is not as it was written, `Unavailable` if there is no answer.
    pub async fn read_register(&self, path: &Path) -> Result<Option<Revision>> {
        register::read(&*self.inner.registers, path).await
    }

    /// Swaps a register from `expected` (`None`: it must not exist) to `content`, a JSON document, retrying until the answer is definite.
    ///
    /// Errors: `Invalid` if `content` is not JSON; `Unavailable` if the store refuses (nothing happened); `Indeterminate` past the deadline.
    pub async fn swap_register(&self, path: &Path, expected: Option<&RevisionTag>, content: Bytes) -> Result<Swap> {
        let Inner { registers, env, deadline, .. } = &*self.inner;
        register::swap(&**registers, env, *deadline, path, expected, &content).await
    }

    /// Creates a segment exactly once, retrying until the answer is definite. `bytes` must hold a nonce, so that no two callers' are equal.
    ///
    /// Errors: `Unavailable` if the store refuses (nothing happened: no space, no permission); `Indeterminate` past the deadline: only
    /// occupying the slot proves anything then.
    pub async fn create_segment(&self, path: &Path, bytes: Bytes) -> Result<Creation> {
        let Inner { objects, env, deadline, .. } = &*self.inner;
        segment::create(&**objects, env, *deadline, path, bytes).await
    }

    /// Reads a segment; `None` if the slot is empty. Errors: `Unavailable` if there is no answer.
    pub async fn read_segment(&self, path: &Path) -> Result<Option<Bytes>> {
        segment::read(&*self.inner.objects, path).await
    }

    /// Removes what is left of a prefix under which no object is wanted any more: on a local folder, the folders.
    pub(crate) async fn remove_empty(&self, prefix: &Path) -> object_store::Result<()> {
        match &self.inner.local {
            Some(local) => local.remove_folder(prefix).await,
            None => Ok(()),
        }
    }

    /// Removes all that lies under a prefix which nobody else has ever named, registers too.
    async fn remove_prefix(&self, prefix: &Path) -> object_store::Result<()> {
        use futures::TryStreamExt;
        match &self.inner.local {
            Some(local) => local.remove_folder(prefix).await,
            None => {
                let found = self.objects().list(Some(prefix)).map_ok(|meta| meta.location);
                self.objects().delete_stream(Box::pin(found)).try_for_each(async |_| Ok(())).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
