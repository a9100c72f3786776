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
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    now: BTreeMap<String, Object>,
    /// Every content that ever stood at a path.
    pub(crate) ever: BTreeMap<String, BTreeSet<String>>,
    /// Every path at which something was removed.
    pub(crate) removed: BTreeSet<String>,
    /// Every revision of every lane's root, in order.
    pub(crate) roots: Vec<(String, Bytes)>,
    /// All objects as they were when a lane's floor had just moved, and when that was, in words.
    pub(crate) moments: Vec<(String, Objects)>,
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
        if self.puts.is_multiple_of(20) {
            self.stale = self.list("").collect();
        }
        let etag = etag(&body);
        self.ever.entry(path.to_owned()).or_default().insert(etag.clone());
        self.now.insert(path.to_owned(), Object { body: body.clone(), etag: etag.clone() });
        if path.starts_with("lanes/") && path.ends_with("/root.json") {
            self.keep_moment(path, &body);
            self.roots.push((path.to_owned(), body));
        }
        Ok(etag)
    }

    /// Keeps all there is if this revision of a root has another floor than the one before.
    fn keep_moment(&mut self, path: &str, root: &[u8]) {
        let floor = |root: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(root).ok().map(|root| root["content"]["floor"].clone())
        };
        let before = self.roots.iter().rev().find(|(other, _)| other == path);
        if before.is_some_and(|(_, before)| floor(before) != floor(root)) {
            let when = format!("the move of a floor in root {} of {path}", self.roots.len());
            self.moments.push((when, Self { now: self.now.clone(), ..Self::default() }));
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Object> {
        self.now.get(path)
    }

    /// True if it was there.
    pub(crate) fn remove(&mut self, path: &str) -> bool {
        let is_there = self.now.remove(path).is_some();
        if is_there {
            self.removed.insert(path.to_owned());
        }
        is_there
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
