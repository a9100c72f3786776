//! A local folder as an object store whose puts are durable when they answer.
//!
//! `object_store`'s own local store never syncs; this one keeps the rules of the protocol (see `disk`), and is safe for any number of
//! processes on one folder. Registers lie in rows of numbered files (see `registers`). All I/O runs on tokio's blocking pool.

mod disk;
#[cfg(test)]
mod race;
mod registers;
mod scratch;
mod seen;
mod upload;

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use disk::{Disk, PlaceError};
use registers::Hints;
use scratch::SCRATCH;
use upload::Upload;

/// How much of a file is read in one go, bytes: what a stream holds in memory.
const CHUNK_BYTES: u64 = 8 << 20;
const NAME: &str = "local folder";

/// A local folder. Every [`ObjectPath`] is a file below it, except that nothing lies under `.tmp`.
#[derive(Debug)]
pub(super) struct LocalFolder {
    disk: Arc<Disk>,
    hints: Arc<Hints>,
}

/// Underneath an error of a put that certainly did nothing: the file never got its name.
#[derive(Debug, thiserror::Error)]
#[error("nothing was written: {0}")]
pub(super) struct Unplaced(io::Error);

impl LocalFolder {
    /// Opens `root`, making it if it is absent. `id` is this process's own.
    pub(super) fn open(root: &Path, id: &str) -> io::Result<Self> {
        Ok(Self { disk: Arc::new(Disk::open(root, id)?), hints: Arc::default() })
    }

    /// Opens a folder that is there, to look at it: whatever would write fails.
    pub(super) fn open_read_only(root: &Path) -> io::Result<Self> {
        Ok(Self { disk: Arc::new(Disk::open_read_only(root)?), hints: Arc::default() })
    }

    /// The absolute, canonical path of the root.
    pub(super) fn root(&self) -> &Path {
        self.disk.root()
    }

    /// Removes a folder with all that is in it, registers too: only for what nobody else has ever named.
    pub(super) async fn remove_folder(&self, folder: &ObjectPath) -> Result<()> {
        let (disk, folder) = (Arc::clone(&self.disk), folder.clone());
        let file = self.file(&folder)?;
        blocking(move || disk.remove_folder(&file).map_err(|error| read_error(&folder, error))).await
    }

    fn file(&self, location: &ObjectPath) -> Result<PathBuf> {
        file(self.root(), location)
    }
}

impl fmt::Display for LocalFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalFolder({})", self.root().display())
    }
}

#[async_trait]
impl ObjectStore for LocalFolder {
    /// `PutMode::Update` is not supported: what is swapped is a register.
    async fn put_opts(&self, location: &ObjectPath, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let file = self.file(location)?;
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                let operation = "a conditional overwrite".into();
                return Err(Error::NotImplemented { operation, implementer: self.to_string() });
            }
        };
        let (disk, location) = (Arc::clone(&self.disk), location.clone());
        blocking(move || {
            let place = || {
                let temporary = disk.written(payload.iter())?;
                if create { disk.place_new(temporary, &file) } else { disk.place_over(temporary, &file) }
            };
            place().map(|stat| put_result(&stat)).map_err(|error| place_error(&location, error))
        })
        .await
    }

    /// Replaces what bears the name, if anything does, once it is complete.
    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let file = self.file(location)?;
        let (disk, location) = (Arc::clone(&self.disk), location.clone());
        blocking(move || {
            let temporary = disk.temporary().map_err(|error| place_error(&location, error.into()))?;
            Ok(Box::new(Upload::new(disk, location, file, temporary)) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        let name = self.file(location)?;
        let (disk, location) = (Arc::clone(&self.disk), location.clone());
        let (file, meta, range, first) = blocking(move || {
            let (file, stat) = disk.open_file(&name).map_err(|error| read_error(&location, error))?;
            let meta = object_meta(&location, &stat);
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(generic)?,
                None => 0..meta.size,
            };
            let first = if options.head { Bytes::new() } else { read_chunk(&file, &location, &range)? };
            let range = if options.head { 0..0 } else { range };
            Ok((file, meta, range, first))
        })
        .await?;
        let payload = GetResultPayload::Stream(chunks(file, meta.location.clone(), range.clone(), first));
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    async fn get_ranges(&self, location: &ObjectPath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let name = self.file(location)?;
        let (disk, location, ranges) = (Arc::clone(&self.disk), location.clone(), ranges.to_vec());
        blocking(move || {
            let (file, _) = disk.open_file(&name).map_err(|error| read_error(&location, error))?;
            ranges.iter().map(|range| read_range(&file, &location, range)).collect()
        })
        .await
    }

    /// Removing what is not there succeeds, as on S3.
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        let root = self.root().to_owned();
        let delete = move |location: ObjectPath| {
            let file = file(&root, &location);
            blocking(move || match std::fs::remove_file(file?) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(read_error(&location, error)),
                _ => Ok(location),
            })
        };
        locations.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        let root = self.root().to_owned();
        let start = vec![prefix.cloned().unwrap_or_default()];
        let folders = stream::try_unfold(start, move |mut waiting| {
            let root = root.clone();
            async move {
                let Some(folder) = waiting.pop() else { return Ok::<_, Error>(None) };
                let level = blocking(move || read_folder(&root, &folder)).await?;
                waiting.extend(level.common_prefixes.into_iter().rev());
                Ok(Some((stream::iter(level.objects).map(Ok), waiting)))
            }
        });
        folders.try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        let root = self.root().to_owned();
        let folder = prefix.cloned().unwrap_or_default();
        blocking(move || read_folder(&root, &folder)).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        let (source, target) = (self.file(from)?, self.file(to)?);
        let (disk, from, to) = (Arc::clone(&self.disk), from.clone(), to.clone());
        blocking(move || {
            let (original, _) = disk.open_file(&source).map_err(|error| read_error(&from, error))?;
            let place = || {
                let temporary = disk.temporary()?;
                io::copy(&mut &original, &mut &temporary.file)?;
                match options.mode {
                    CopyMode::Create => disk.place_new(temporary, &target),
                    CopyMode::Overwrite => disk.place_over(temporary, &target),
                }
            };
            place().map(drop).map_err(|error| place_error(&to, error))
        })
        .await
    }
}

/// Where an object lies. Errors: `NotSupported` for the root itself and for what must not be an object.
fn file(root: &Path, location: &ObjectPath) -> Result<PathBuf> {
    let relative = Path::new(location.as_ref());
    let ordinary = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if location.is_root() || !ordinary || relative.starts_with(SCRATCH) {
        let source = format!("{location:?} cannot name an object in a local folder").into();
        return Err(Error::NotSupported { source });
    }
    Ok(root.join(relative))
}

/// Runs blocking work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// The objects and the folders in one folder, by name.
fn read_folder(root: &Path, folder: &ObjectPath) -> Result<ListResult> {
    let mut level = ListResult { objects: Vec::new(), common_prefixes: Vec::new() };
    let entries = match std::fs::read_dir(root.join(folder.as_ref())) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(level);
        }
        entries => entries.map_err(|error| read_error(folder, error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| read_error(folder, error))?;
        let name = entry.file_name();
        // A name that no object can have is not an object's.
        let Some(location) = name.to_str().and_then(|name| ObjectPath::parse(join(folder, name)).ok()) else {
            continue;
        };
        match entry.metadata() {
            Ok(_) if folder.is_root() && name == SCRATCH => {}
            Ok(stat) if stat.is_dir() => level.common_prefixes.push(location),
            Ok(stat) if stat.is_file() => level.objects.push(object_meta(&location, &stat)),
            // Removed while the folder was read, or neither file nor folder.
            _ => {}
        }
    }
    level.objects.sort_by(|a, b| a.location.cmp(&b.location));
    level.common_prefixes.sort();
    Ok(level)
}

fn join(folder: &ObjectPath, name: &str) -> String {
    if folder.is_root() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The rest of a range after its first chunk, chunk by chunk.
fn chunks(file: File, location: ObjectPath, range: Range<u64>, first: Bytes) -> BoxStream<'static, Result<Bytes>> {
    let rest = range.start + first.len() as u64..range.end;
    let file = Arc::new(file);
    let rest = stream::try_unfold(rest, move |rest| {
        let (file, location) = (Arc::clone(&file), location.clone());
        async move {
            if rest.is_empty() {
                return Ok(None);
            }
            let end = rest.end;
            let chunk = blocking(move || read_chunk(&file, &location, &rest).map(|chunk| (chunk, rest.start))).await?;
            let next = chunk.1 + chunk.0.len() as u64..end;
            Ok(Some((chunk.0, next)))
        }
    });
    stream::iter((!first.is_empty()).then_some(Ok(first))).chain(rest).boxed()
}

fn read_chunk(file: &File, location: &ObjectPath, range: &Range<u64>) -> Result<Bytes> {
    read_range(file, location, &(range.start..range.end.min(range.start + CHUNK_BYTES)))
}

fn read_range(file: &File, location: &ObjectPath, range: &Range<u64>) -> Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).map_err(generic)?];
    file.read_exact_at(&mut bytes, range.start).map_err(|error| read_error(location, error))?;
    Ok(bytes.into())
}

fn object_meta(location: &ObjectPath, stat: &Metadata) -> ObjectMeta {
    // Before 1970 or without a clock: the epoch.
    let last_modified = stat.modified().map(Into::into).unwrap_or_default();
    ObjectMeta { location: location.clone(), last_modified, size: stat.len(), e_tag: Some(e_tag(stat)), version: None }
}

fn put_result(stat: &Metadata) -> PutResult {
    PutResult { e_tag: Some(e_tag(stat)), version: None }
}

/// Files are never written to once they have a name, so the file's identity is its content's.
fn e_tag(stat: &Metadata) -> String {
    format!("{:x}-{:x}-{:x}", stat.ino(), stat.mtime() * 1_000_000_000 + stat.mtime_nsec(), stat.len())
}

fn place_error(location: &ObjectPath, error: PlaceError) -> Error {
    let path = location.to_string();
    match error {
        PlaceError::Taken => Error::AlreadyExists { path, source: "the name is taken".into() },
        PlaceError::Unplaced(error) => Error::Generic { store: NAME, source: Box::new(Unplaced(error)) },
        PlaceError::InDoubt(error) => Error::Generic { store: NAME, source: Box::new(error) },
    }
}

fn read_error(location: &ObjectPath, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound { path, source: Box::new(error) },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: Box::new(error) },
        _ => generic(io::Error::new(error.kind(), format!("{path}: {error}"))),
    }
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: NAME, source: Box::new(error) }
}

#[cfg(test)]
mod tests;
