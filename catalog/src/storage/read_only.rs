//! A store that can be looked at and nothing else: for auditing one whose owners run, or whose disk must not be touched.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How much was read, and how much there is to read as far as is known: for whoever waits. Cheap to clone, all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    counts: Arc<(AtomicU64, AtomicU64)>,
}

impl Meter {
    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.counts.0.load(Ordering::Relaxed)
    }

    /// Bytes that will have been read in the end, as far as is known by now.
    pub fn expected(&self) -> u64 {
        self.counts.1.load(Ordering::Relaxed)
    }

    /// So many more bytes are to be read.
    pub fn expect(&self, bytes: u64) {
        self.counts.1.fetch_add(bytes, Ordering::Relaxed);
    }

    fn count(&self, bytes: u64) {
        self.counts.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Passes reads on and counts them; refuses everything else.
#[derive(Debug)]
pub(super) struct ReadOnly<S> {
    inner: S,
    meter: Meter,
}

impl<S: ObjectStore> ReadOnly<S> {
    pub(super) fn new(inner: S, meter: Meter) -> Self {
        Self { inner, meter }
    }
}

impl<S: ObjectStore> fmt::Display for ReadOnly<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadOnly({})", self.inner)
    }
}

fn refused() -> Error {
    Error::NotSupported { source: "the store was opened for looking only".into() }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for ReadOnly<S> {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(refused())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.inner.get_opts(location, options).await?;
        self.meter.count(found.range.end - found.range.start);
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let found = self.inner.get_ranges(location, ranges).await?;
        self.meter.count(found.iter().map(|bytes| bytes.len() as u64).sum());
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        locations.map(|_| Err(refused())).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused())
    }
}

#[cfg(test)]
mod tests {
    use schemas::ErrorKind;

    use super::*;
    use crate::env::Env;
    use crate::storage::{Store, StoreConfig};

    fn names(folder: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_there_is_read_and_counted_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig::at(folder.path().to_str().unwrap());
        let owner = Store::open(&config, Env::system()).await.unwrap();
        let (segment, register) = (Path::from("a/segment"), Path::from("a/register.json"));
        owner.create_segment(&segment, Bytes::from_static(b"12345")).await.unwrap();
        owner.swap_register(&register, None, Bytes::from_static(b"{}")).await.unwrap();
        drop(owner);
        let before = names(folder.path());

        let meter = Meter::default();
        let store = Store::open_read_only(&config, Env::system(), meter.clone()).await.unwrap();
        assert_eq!(store.read_segment(&segment).await.unwrap().unwrap(), "12345");
        assert_eq!(meter.read(), 5);
        let tag = store.read_register(&register).await.unwrap().unwrap().tag;
        let swapped = store.swap_register(&register, Some(&tag), Bytes::from_static(b"{}")).await;
        assert!(swapped.is_err());
        let created = store.create_segment(&Path::from("a/other"), Bytes::from_static(b"6")).await;
        assert_eq!(created.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(names(folder.path()), before, "not even a folder of its own");
    }

    #[tokio::test]
    async fn where_there_is_no_store_none_is_made() {
        let folder = tempfile::tempdir().unwrap();
        for place in [folder.path().to_owned(), folder.path().join("absent")] {
            let config = StoreConfig::at(place.to_str().unwrap());
            let error = Store::open_read_only(&config, Env::system(), Meter::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        assert!(names(folder.path()).is_empty());
    }
}
