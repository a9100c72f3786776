//! Objects in memory whose conditional writes are truly atomic, and what has ever become of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    /// Made from the content, as on S3.
    pub(crate) etag: String,
}

/// What a put asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    Absent,
    Matches(String),
}

/// Why a put did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// 412.
    Precondition,
    /// 404: a swap of what is not there.
    NotFound,
}

/// All objects by path, and their past.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    now: BTreeMap<String, Object>,
    /// Every content that ever stood at a path.
    pub(crate) ever: BTreeMap<String, BTreeSet<String>>,
    /// Every revision of every lane's root, in order.
    pub(crate) roots: Vec<(String, Bytes)>,
    /// Paths as a stale list shows them.
    stale: Vec<(String, usize, String)>,
    puts: u64,
}

impl Objects {
    /// Writes if the condition holds, in one step. Returns the new ETag.
    pub(crate) fn put(&mut self, path: &str, body: Bytes, condition: &Condition) -> Result<String, Refused> {
        let held = self.now.get(path);
        match (condition, held) {
            (Condition::None, _) | (Condition::Absent, None) => {}
            (Condition::Matches(expected), Some(held)) if held.etag == *expected => {}
            (Condition::Matches(_), None) => return Err(Refused::NotFound),
            _ => return Err(Refused::Precondition),
        }
        self.puts += 1;
        if self.puts % 20 == 0 {
            self.stale = self.list("").collect();
        }
        let etag = etag(&body);
        self.ever.entry(path.to_owned()).or_default().insert(etag.clone());
        if path.starts_with("lanes/") && path.ends_with("/root.json") {
            self.roots.push((path.to_owned(), body.clone()));
        }
        self.now.insert(path.to_owned(), Object { body, etag: etag.clone() });
        Ok(etag)
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Object> {
        self.now.get(path)
    }

    /// True if it was there.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        self.now.remove(path).is_some()
    }

    /// Path, length, ETag.
    pub(crate) fn list(&self, prefix: &str) -> impl Iterator<Item = (String, usize, String)> {
        let under = self.now.range(prefix.to_owned()..).take_while(move |(path, _)| path.starts_with(prefix));
        under.map(|(path, object)| (path.clone(), object.body.len(), object.etag.clone()))
    }

    /// As it was a while ago.
    pub(crate) fn stale_list(&self, prefix: &str) -> Vec<(String, usize, String)> {
        self.stale.iter().filter(|(path, ..)| path.starts_with(prefix)).cloned().collect()
    }

    /// Another object than `path`, near it.
    pub(crate) fn neighbour(&self, path: &str) -> Option<&Object> {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.now.iter().find(|(other, _)| other.starts_with(folder) && *other != path).map(|(_, object)| object)
    }
}

/// An ETag, in its quotes.
pub(crate) fn etag(body: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(body).to_hex()[..32])
}
