//! The register that names a table's current metadata: the one place where a commit becomes true.

use bytes::Bytes;
use object_store::path::Path;
use schemas::{ErrorKind, TenantName, TopicId, TopicName};
use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "fuzzing"))]
use super::properties;
use crate::error::{CatalogError, Result};
use crate::storage::RevisionTag;

/// Version of the document that this code writes.
const FORMAT: u32 = 1;

/// `tenants/{tenant}/tables/{table}.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    /// Version of this document's format.
    pub(crate) format: u32,
    /// Counts the changes of this register, from 1. It also numbers metadata files.
    pub(crate) version: u64,
    /// The topic whose table this is.
    pub(crate) topic: TopicId,
    /// Full URI of the current metadata file; `None` once the topic was dropped. A file's name is never used twice, so no two revisions are equal.
    pub(crate) metadata: Option<String>,
    /// The commit that wrote this revision; makes even the revision that drops a table unlike any other.
    pub(crate) nonce: String,
    /// What a newer version of Firn added.
    #[serde(flatten)]
    pub(crate) unknown: serde_json::Map<String, serde_json::Value>,
}

impl Pointer {
    /// Where the register of a topic's table lies.
    pub(crate) fn path(tenant: &TenantName, topic: &TopicName) -> Path {
        Path::from(format!("tenants/{tenant}/tables/{topic}.json"))
    }

    /// The first revision, or the one after `previous`.
    pub(crate) fn next(previous: Option<&Self>, topic: TopicId, metadata: Option<String>, nonce: String) -> Self {
        let version = previous.map_or(0, |pointer| pointer.version) + 1;
        let unknown = previous.map(|pointer| pointer.unknown.clone()).unwrap_or_default();
        Self { format: FORMAT, version, topic, metadata, nonce, unknown }
    }

    /// As the register holds it.
    pub(crate) fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("a pointer is JSON"))
    }

    /// Errors: `Corrupt` naming the register.
    pub(crate) fn decode(content: &[u8], path: &Path) -> Result<Self> {
        let read: serde_json::Result<Self> = serde_json::from_slice(content);
        read.map_err(|error| {
            CatalogError::new(ErrorKind::Corrupt, format!("register {path} should be a table's pointer"))
                .caused_by(error)
        })
    }
}

/// A pointer and what a swap of exactly it must present.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) pointer: Pointer,
    pub(crate) tag: RevisionTag,
}

/// For the fuzzer: a pointer and a watermark lose nothing when they are written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_pointer(data: &[u8]) {
    let place = Path::from("fuzz");
    if let Ok(pointer) = Pointer::decode(data, &place) {
        assert_eq!(Pointer::decode(&pointer.encode(), &place).ok(), Some(pointer));
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(watermark) = properties::parse_watermark(&text, "fuzz") {
        let written = properties::seqs_text(watermark.0);
        assert_eq!(properties::parse_watermark(&written, "fuzz").ok(), Some(watermark));
    }
}

#[cfg(test)]
mod tests;
