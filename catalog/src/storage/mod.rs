//! The store: registers and segments over an object store or a local folder (P0, X1 to X4).

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::env::Env;
use crate::error::Result;

/// Where a store lies and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// A folder (`./data`, `file:///…`) or `s3://bucket/prefix`.
    pub url: String,
    /// S3 only: overrides of the usual `AWS_*` variables, by `object_store`'s names (`aws_endpoint`, `aws_region`, …).
    pub options: std::collections::BTreeMap<String, String>,
}

/// A store, rooted: every [`Path`] is relative to the root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
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
    /// Opens a store; creates a local root folder if it is absent. Does not probe.
    ///
    /// Errors: `Invalid` for a URL that is none of the known kinds, `Unavailable` if it cannot be reached.
    pub async fn open(config: &StoreConfig, env: Env) -> Result<Self> {
        let _ = (config, env);
        unimplemented!()
    }

    /// Tries X3 and X4 with racing writers under a prefix of its own, which it removes afterwards.
    ///
    /// Errors: `Invalid`, naming the axiom, if the store lets two writers win.
    pub async fn probe(&self) -> Result<()> {
        unimplemented!()
    }

    /// The objects, for data and metadata files. Puts are durable when they answer.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// True for a local folder.
    pub fn is_local(&self) -> bool {
        unimplemented!()
    }

    /// The full URI of a path, as Iceberg metadata names it: `file:///…` or `s3://…`.
    pub fn uri(&self, path: &Path) -> String {
        let _ = path;
        unimplemented!()
    }

    /// The path of a URI under this root. Errors: `Invalid` for one that is not.
    pub fn path(&self, uri: &str) -> Result<Path> {
        let _ = uri;
        unimplemented!()
    }

    /// Reads a register. `None` if it was never made.
    pub async fn read_register(&self, path: &Path) -> Result<Option<Revision>> {
        let _ = path;
        unimplemented!()
    }

    /// Swaps a register from `expected` (`None`: it must not exist) to `content`, retrying until the answer is definite.
    ///
    /// Errors: `Indeterminate` past the deadline.
    pub async fn swap_register(&self, path: &Path, expected: Option<&RevisionTag>, content: Bytes) -> Result<Swap> {
        let _ = (path, expected, content);
        unimplemented!()
    }

    /// Creates a segment exactly once, retrying until the answer is definite. `bytes` must hold a nonce, so that no two callers' are equal.
    ///
    /// Errors: `Indeterminate` past the deadline: only occupying the slot proves anything then.
    pub async fn create_segment(&self, path: &Path, bytes: Bytes) -> Result<Creation> {
        let _ = (path, bytes);
        unimplemented!()
    }

    /// Reads a segment; `None` if the slot is empty.
    pub async fn read_segment(&self, path: &Path) -> Result<Option<Bytes>> {
        let _ = path;
        unimplemented!()
    }
}
