//! What the store is asked: every request counted by its kind and by what it is about, since on an object store requests cost money.
//!
//! * `firn_store_requests_total{kind, about}`: calls of the store's client. A call that the client itself repeats counts once; so does one for several
//!   ranges of an object, which is as many requests as the ranges lie far apart;
//! * `firn_store_put_bytes_total{about}`: bytes of the objects put.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::RevisionTag;
use super::register::{Held, Registers};

/// Requests, by `kind` (`put`, `part`, `get`, `ranges`, `head`, `list`, `delete`, `copy`) and `about` (`log`, `lane`, `register`, `table`, `other`).
pub const REQUESTS: &str = "firn_store_requests_total";
/// Bytes put, by `about`.
pub const PUT_BYTES: &str = "firn_store_put_bytes_total";

/// A store, or the registers in it, whose requests are counted.
#[derive(Debug)]
pub(super) struct Counted<S>(pub(super) Arc<S>);

/// What a path is about: the first levels of the layout say it.
fn about(path: &Path) -> &'static str {
    let mut parts = path.as_ref().split('/');
    match (parts.next(), parts.nth(1)) {
        (Some("lanes"), Some("w")) => "log",
        (Some("lanes" | "nodes"), _) => "lane",
        (Some("tenants" | "firn.json"), _) => "register",
        (Some("warehouse"), _) => "table",
        _ => "other",
    }
}

fn count(kind: &'static str, about: &'static str) {
    metrics::counter!(REQUESTS, "kind" => kind, "about" => about).increment(1);
}

fn count_put(kind: &'static str, about: &'static str, bytes: usize) {
    count(kind, about);
    metrics::counter!(PUT_BYTES, "about" => about).increment(bytes as u64);
}

impl<S: ObjectStore> fmt::Display for Counted<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Counted<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        count_put("put", about(location), payload.content_length());
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let about = about(location);
        count("part", about);
        let upload = self.0.put_multipart_opts(location, opts).await?;
        Ok(Box::new(CountedUpload { upload, about }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        count(if options.head { "head" } else { "get" }, about(location));
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        count("ranges", about(location));
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let counted = locations.inspect(|location| {
            if let Ok(location) = location {
                count("delete", about(location));
            }
        });
        self.0.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        count("list", prefix.map_or("other", about));
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        count("list", prefix.map_or("other", about));
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        count("list", prefix.map_or("other", about));
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        count("copy", about(to));
        self.0.copy_opts(from, to, options).await
    }
}

/// A local folder's registers are no objects: a read of one counts as a get, a change as a put.
#[async_trait]
impl<R: Registers> Registers for Counted<R> {
    async fn newest(&self, path: &Path) -> Result<Option<Held>> {
        count("get", about(path));
        self.0.newest(path).await
    }

    async fn put_next(&self, path: &Path, expected: Option<&RevisionTag>, document: Bytes) -> Result<RevisionTag> {
        count_put("put", about(path), document.len());
        self.0.put_next(path, expected, document).await
    }
}

#[derive(Debug)]
struct CountedUpload {
    upload: Box<dyn MultipartUpload>,
    about: &'static str,
}

#[async_trait]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        count_put("part", self.about, data.content_length());
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        count("part", self.about);
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_says_what_a_request_is_about() {
        for (path, expected) in [
            ("lanes/0/w/3/17", "log"),
            ("lanes/0/root.json", "lane"),
            ("lanes/0/c/3-17-x", "lane"),
            ("tenants/default/topics/orders.json", "register"),
            ("firn.json", "register"),
            ("warehouse/a/b/data/1.parquet", "table"),
            ("probe/x", "other"),
        ] {
            assert_eq!(about(&Path::from(path)), expected, "{path}");
        }
    }
}
