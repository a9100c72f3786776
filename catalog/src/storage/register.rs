//! Registers: small JSON documents changed by compare-and-swap (P0, X3).
//!
//! What is stored is the document in an envelope that carries a nonce of its revision and a hash:
//!
//! ```text
//! {"nonce":"<32 hex digits>","xxh3":"<16 hex digits>","content":<the document>}
//! ```
//!
//! The hash covers the register's path, the nonce's digits and the document. The nonce decides whose a revision is, whatever the store answered; it also makes every revision's bytes differ from every other's,
//! so that an ETag made from content never comes back.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use schemas::ErrorKind;
use serde::de::IgnoredAny;
use xxhash_rust::xxh3::Xxh3;

use super::pace::{Pace, unreadable};
use super::{Revision, RevisionTag, Swap};
use crate::env::Env;
use crate::error::{CatalogError, Result};

/// One kind of place where registers can lie. What it answers to a put need not be true; what it answers to a read must be the latest (X2).
#[async_trait]
pub(super) trait Registers: Debug + Send + Sync {
    /// The newest revision. `None` if there is none.
    async fn newest(&self, path: &Path) -> object_store::Result<Option<Held>>;

    /// Puts the revision that follows `expected` (`None`: the first), if that is the newest.
    async fn put_next(
        &self,
        path: &Path,
        expected: Option<&RevisionTag>,
        document: Bytes,
    ) -> object_store::Result<RevisionTag>;
}

/// A revision as it is stored.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) document: Bytes,
    pub(super) tag: RevisionTag,
}

/// Reads of a register before what is found there is called corrupt: a bit that flips on the way is not one that has flipped.
const READS_MAX: u32 = 3;

/// Reads the newest revision.
pub(super) async fn read(registers: &dyn Registers, path: &Path) -> Result<Option<Revision>> {
    let mut reads = 1;
    loop {
        let held = registers.newest(path).await.map_err(|error| unreadable(&name(path), error))?;
        let Some(held) = held else { return Ok(None) };
        match decode(path, &held.document) {
            Ok((_, content)) => return Ok(Some(Revision { content, tag: held.tag })),
            Err(error) if reads == READS_MAX => return Err(error),
            Err(error) => tracing::warn!(%error, "it is read again"),
        }
        reads += 1;
    }
}

/// Swaps `expected` for `content`, until the answer is definite.
pub(super) async fn swap(
    registers: &dyn Registers,
    env: &Env,
    limit: Duration,
    path: &Path,
    expected: Option<&RevisionTag>,
    content: &[u8],
) -> Result<Swap> {
    let nonce = env.nonce();
    let document = encode(path, nonce, content).map_err(|error| {
        let message = format!("{}: expected a JSON document", name(path));
        CatalogError::new(ErrorKind::Invalid, message).caused_by(error)
    })?;
    let mut pace = Pace::new(env, limit, name(path));
    let mut misreads = 0;
    loop {
        if let Ok(tag) = pace.attempt(registers.put_next(path, expected, document.clone())).await? {
            return Ok(Swap::Won(tag));
        }
        if let Some(held) = pace.look(registers.newest(path)).await {
            match held.map(|held| (decode(path, &held.document), held.tag)) {
                Some((Ok((found, _)), tag)) if found == nonce => return Ok(Swap::Won(tag)),
                // Whose it is cannot be told: this caller's perhaps.
                Some((Err(error), _)) => {
                    misreads += 1;
                    if misreads == READS_MAX {
                        return Err(error);
                    }
                }
                held if held.as_ref().map(|(_, tag)| tag) != expected => return Ok(Swap::Lost),
                _ => {}
            }
        }
        pace.pause().await?;
    }
}

fn name(path: &Path) -> String {
    format!("register {path}")
}

const NONCE_OPENS: &[u8] = b"{\"nonce\":\"";
const HASH_OPENS: &[u8] = b"\",\"xxh3\":\"";
const CONTENT_OPENS: &[u8] = b"\",\"content\":";
const CLOSES: &[u8] = b"}\n";
const NONCE_DIGITS: usize = 32;
const HASH_DIGITS: usize = 16;

type Nonce = [u8; 16];

/// The bytes of a revision. Errors: `content` is not JSON.
fn encode(path: &Path, nonce: Nonce, content: &[u8]) -> std::result::Result<Bytes, serde_json::Error> {
    serde_json::from_slice::<IgnoredAny>(content)?;
    let nonce = hex(nonce);
    let hash = hash(path, nonce.as_bytes(), content);
    Ok([NONCE_OPENS, nonce.as_bytes(), HASH_OPENS, hash.as_bytes(), CONTENT_OPENS, content, CLOSES].concat().into())
}

/// The nonce and the content of a revision. Errors: `Corrupt` if a bit of it is not as it was written.
fn decode(path: &Path, document: &Bytes) -> Result<(Nonce, Bytes)> {
    parse(path, document).ok_or_else(|| {
        let found = String::from_utf8_lossy(&document[..document.len().min(80)]);
        let message = format!("{}: expected a whole document, found {} bytes: {found:?}…", name(path), document.len());
        CatalogError::new(ErrorKind::Corrupt, message)
    })
}

fn parse(path: &Path, document: &Bytes) -> Option<(Nonce, Bytes)> {
    let rest = document.strip_prefix(NONCE_OPENS)?;
    let (nonce, rest) = rest.split_at_checked(NONCE_DIGITS)?;
    let (stored, rest) = rest.strip_prefix(HASH_OPENS)?.split_at_checked(HASH_DIGITS)?;
    let content = rest.strip_prefix(CONTENT_OPENS)?.strip_suffix(CLOSES)?;
    if hash(path, nonce, content).as_bytes() != stored {
        return None;
    }
    let nonce = u128::from_str_radix(std::str::from_utf8(nonce).ok()?, 16).ok()?.to_be_bytes();
    Some((nonce, document.slice_ref(content)))
}

/// For the fuzzer: what is read is what was written, to the byte; and a document is read back from its revision.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_register(data: &Bytes) {
    let path = Path::from("fuzz.json");
    if let Some((nonce, content)) = parse(&path, data)
        && let Ok(written) = encode(&path, nonce, &content)
    {
        assert_eq!(&written, data);
    }
    if let Ok(revision) = encode(&path, [7; 16], data) {
        assert_eq!(parse(&path, &revision), Some(([7; 16], data.clone())));
    }
}

fn hex(nonce: Nonce) -> String {
    format!("{:032x}", u128::from_be_bytes(nonce))
}

/// The path is in it: a read that is led to another register does not take that one for this.
fn hash(path: &Path, nonce: &[u8], content: &[u8]) -> String {
    let mut hash = Xxh3::new();
    hash.update(path.as_ref().as_bytes());
    hash.update(nonce);
    hash.update(content);
    format!("{:016x}", hash.digest())
}

/// Registers as objects of a store with conditional puts: the tag is the ETag.
#[derive(Debug)]
pub(super) struct ObjectRegisters<S>(pub(super) S);

#[async_trait]
impl<S: ObjectStore> Registers for ObjectRegisters<S> {
    async fn newest(&self, path: &Path) -> object_store::Result<Option<Held>> {
        let found = match self.0.get(path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        let tag = tag(path, found.meta.e_tag.clone())?;
        Ok(Some(Held { document: found.bytes().await?, tag }))
    }

    async fn put_next(
        &self,
        path: &Path,
        expected: Option<&RevisionTag>,
        document: Bytes,
    ) -> object_store::Result<RevisionTag> {
        let mode = match expected {
            None => PutMode::Create,
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.0.clone()), version: None }),
        };
        let put = self.0.put_opts(path, PutPayload::from_bytes(document), mode.into()).await?;
        tag(path, put.e_tag)
    }
}

/// Without an ETag a put counts as unanswered: the read that follows finds one, or the store has none.
fn tag(path: &Path, e_tag: Option<String>) -> object_store::Result<RevisionTag> {
    e_tag.map(RevisionTag).ok_or_else(|| object_store::Error::Generic {
        store: "registers",
        source: format!("expected an ETag for {path}, found none").into(),
    })
}

#[cfg(test)]
mod tests;
