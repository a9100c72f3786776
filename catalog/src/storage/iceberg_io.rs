//! Iceberg's own reads and writes, sent through the store: one cache, one set of metrics, one fault injector serve everything.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use iceberg::io::{
    FileIO, FileIOBuilder, FileMetadata, FileRead, FileWrite, InputFile, OutputFile, Storage, StorageConfig,
    StorageFactory,
};
use iceberg::{Error, ErrorKind, Result};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::Store;

/// What a writer holds in memory before it begins a multipart upload, and the size of its parts, bytes.
const PART_BYTES: usize = 8 << 20;

/// Iceberg's view of a store.
pub(super) fn file_io(store: &Store) -> FileIO {
    FileIOBuilder::new(Arc::new(FirnStorage { store: Some(store.clone()) })).build()
}

/// A live store, which is its own factory.
///
/// Iceberg can write its storages down, to send them to other machines. A live handle cannot be written down: what is read back has
/// none, and every use of it fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FirnStorage {
    #[serde(skip)]
    store: Option<Store>,
}

impl FirnStorage {
    fn place(&self, uri: &str) -> Result<(&Arc<dyn ObjectStore>, Path)> {
        let Some(store) = &self.store else {
            let message =
                "expected a storage made by an open store, found one that was deserialised: a live store cannot travel";
            return Err(Error::new(ErrorKind::FeatureUnsupported, message));
        };
        let path = store.path(uri).map_err(|error| Error::new(ErrorKind::DataInvalid, error.to_string()))?;
        Ok((store.objects(), path))
    }
}

#[typetag::serde(name = "firn")]
impl StorageFactory for FirnStorage {
    fn build(&self, _config: &StorageConfig) -> Result<Arc<dyn Storage>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
#[typetag::serde(name = "firn")]
impl Storage for FirnStorage {
    async fn exists(&self, path: &str) -> Result<bool> {
        let (objects, place) = self.place(path)?;
        match objects.head(&place).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(path, error)),
        }
    }

    async fn metadata(&self, path: &str) -> Result<FileMetadata> {
        let (objects, place) = self.place(path)?;
        let meta = objects.head(&place).await.map_err(|error| failed(path, error))?;
        Ok(FileMetadata { size: meta.size })
    }

    async fn read(&self, path: &str) -> Result<Bytes> {
        let (objects, place) = self.place(path)?;
        let read = async { objects.get(&place).await?.bytes().await };
        read.await.map_err(|error| failed(path, error))
    }

    async fn reader(&self, path: &str) -> Result<Box<dyn FileRead>> {
        let (objects, place) = self.place(path)?;
        Ok(Box::new(Reader { objects: Arc::clone(objects), place }))
    }

    async fn write(&self, path: &str, bs: Bytes) -> Result<()> {
        let (objects, place) = self.place(path)?;
        objects.put(&place, PutPayload::from_bytes(bs)).await.map_err(|error| failed(path, error))?;
        Ok(())
    }

    async fn writer(&self, path: &str) -> Result<Box<dyn FileWrite>> {
        let (objects, place) = self.place(path)?;
        let writer = BufWriter::with_capacity(Arc::clone(objects), place, PART_BYTES);
        Ok(Box::new(Writer { uri: path.to_owned(), writer: Some(writer) }))
    }

    async fn delete(&self, path: &str) -> Result<()> {
        let (objects, place) = self.place(path)?;
        match objects.delete(&place).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(path, error)),
        }
    }

    async fn delete_prefix(&self, path: &str) -> Result<()> {
        let (objects, place) = self.place(path.trim_end_matches('/'))?;
        let found = objects.list(Some(&place)).map_ok(|meta| meta.location).boxed();
        let deleted = objects.delete_stream(found).try_for_each(async |_| Ok(()));
        deleted.await.map_err(|error| failed(path, error))
    }

    async fn delete_stream(&self, mut paths: BoxStream<'static, String>) -> Result<()> {
        while let Some(path) = paths.next().await {
            self.delete(&path).await?;
        }
        Ok(())
    }

    fn new_input(&self, path: &str) -> Result<InputFile> {
        Ok(InputFile::new(Arc::new(self.clone()), path.to_owned()))
    }

    fn new_output(&self, path: &str) -> Result<OutputFile> {
        Ok(OutputFile::new(Arc::new(self.clone()), path.to_owned()))
    }
}

struct Reader {
    objects: Arc<dyn ObjectStore>,
    place: Path,
}

#[async_trait]
impl FileRead for Reader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.objects.get_range(&self.place, range).await.map_err(|error| failed(self.place.as_ref(), error))
    }
}

/// Small files are one put, bigger ones a multipart upload; either way nothing bears the name before `close` has answered.
struct Writer {
    uri: String,
    /// `None` once closed.
    writer: Option<BufWriter>,
}

impl Writer {
    fn closed(&self) -> Error {
        Error::new(ErrorKind::PreconditionFailed, format!("{} is closed already", self.uri))
    }
}

#[async_trait]
impl FileWrite for Writer {
    async fn write(&mut self, bs: Bytes) -> Result<()> {
        let closed = self.closed();
        let writer = self.writer.as_mut().ok_or(closed)?;
        writer.put(bs).await.map_err(|error| failed(&self.uri, error))
    }

    async fn close(&mut self) -> Result<()> {
        let mut writer = self.writer.take().ok_or_else(|| self.closed())?;
        writer.shutdown().await.map_err(|error| {
            Error::new(ErrorKind::Unexpected, format!("{} cannot be written", self.uri)).with_source(error)
        })
    }
}

fn failed(uri: &str, error: object_store::Error) -> Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::DataInvalid,
        _ => ErrorKind::Unexpected,
    };
    Error::new(kind, format!("{uri}: the store's answer was an error")).with_source(error)
}

#[cfg(test)]
mod tests;
