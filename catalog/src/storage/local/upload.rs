//! A big file written part by part: into a temporary file, then to its name.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use object_store::path::Path as ObjectPath;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::disk::Disk;
use super::scratch::Temporary;
use super::{blocking, generic, place_error, put_result};

/// An upload under way. Dropped before it is complete, it leaves nothing.
#[derive(Debug)]
pub(super) struct Upload {
    disk: Arc<Disk>,
    location: ObjectPath,
    name: PathBuf,
    /// Shared with the parts being written; `None` once the upload is over.
    temporary: Option<Arc<Temporary>>,
    /// Where the next part begins, bytes.
    next: u64,
}

impl Upload {
    pub(super) fn new(disk: Arc<Disk>, location: ObjectPath, name: PathBuf, temporary: Temporary) -> Self {
        Self { disk, location, name, temporary: Some(Arc::new(temporary)), next: 0 }
    }

    fn over(&self) -> Error {
        let source = format!("the upload of {} is over already", self.location).into();
        Error::NotSupported { source }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(temporary) = self.temporary.clone() else {
            let over = self.over();
            return async { Err(over) }.boxed();
        };
        let mut offset = self.next;
        self.next += data.content_length() as u64;
        let write = move || {
            for chunk in data {
                temporary.file.write_all_at(&chunk, offset).map_err(generic)?;
                offset += chunk.len() as u64;
            }
            Ok(())
        };
        blocking(write).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let over = self.over();
        let temporary = self.temporary.take().and_then(Arc::into_inner).ok_or(over)?;
        let (disk, location, name) = (Arc::clone(&self.disk), self.location.clone(), self.name.clone());
        let length = self.next;
        blocking(move || {
            let written = temporary.file.metadata().map_err(generic)?.len();
            if written != length {
                let source = format!("{location}: {length} bytes were to be written, {written} were").into();
                return Err(Error::Generic { store: super::NAME, source });
            }
            disk.place_over(temporary, &name)
                .map(|stat| put_result(&stat))
                .map_err(|error| place_error(&location, error))
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.temporary = None;
        Ok(())
    }
}
