//! Objects in memory whose conditional writes are truly atomic, and what has ever become of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// Length of a segment that holds a SEAL and nothing else.
pub(crate) const SEAL_BYTES: usize = 176;
/// A stale list shows what was there up to so many puts ago.
const STALE_PUTS: u64 = 100;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    /// Made from the content, as on S3.
    pub(crate) etag: String,
    /// When it was written, since the begin of the run.
    pub(crate) written: Duration,
    /// How many puts had happened by then.
    pub(crate) number: u64,
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

/// An object as a list shows it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) length: usize,
    pub(crate) etag: String,
    pub(crate) written: Duration,
}

/// All objects by path, and their past.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    now: BTreeMap<String, Object>,
    /// Every content that ever stood at a path, but for SEALs that came when the floor had passed their place: those mean nothing (P1).
    pub(crate) ever: BTreeMap<String, BTreeSet<String>>,
    /// Every path at which something was removed.
    pub(crate) removed: BTreeSet<String>,
    /// Every revision of every lane's root, in order.
    pub(crate) roots: Vec<(String, Bytes)>,
    /// All objects as they were when a lane's floor had just moved, and when that was, in words.
    pub(crate) moments: Vec<(String, Objects)>,
    /// Paths as a stale list shows them.
    stale: Vec<Listed>,
    puts: u64,
    /// Others have done something to a table, and are to undo it: as long, not everything can be proven.
    pub(crate) is_meddled: bool,
}

impl Objects {
    /// Writes if the condition holds, in one step. Returns the new ETag.
    pub(crate) fn put(
        &mut self,
        path: &str,
        body: Bytes,
        condition: &Condition,
        now: Duration,
    ) -> Result<String, Refused> {
        let held = self.now.get(path);
        match (condition, held) {
            (Condition::None, _) | (Condition::Absent, None) => {}
            (Condition::Matches(expected), Some(held)) if held.etag == *expected => {}
            (Condition::Matches(_), None) => return Err(Refused::NotFound),
            _ => return Err(Refused::Precondition),
        }
        self.puts += 1;
        if self.puts.is_multiple_of(STALE_PUTS) {
            self.stale = self.list("").collect();
        }
        let etag = etag(&body);
        if self.now.contains_key(path) || !self.is_stale_seal(path, &body) {
            self.ever.entry(path.to_owned()).or_default().insert(etag.clone());
        }
        let object = Object { body: body.clone(), etag: etag.clone(), written: now, number: self.puts };
        self.now.insert(path.to_owned(), object);
        if path.starts_with("lanes/") && path.ends_with("/root.json") {
            self.keep_moment(path, &body);
            self.roots.push((path.to_owned(), body));
        }
        Ok(etag)
    }

    /// Keeps all there is if this revision of a root has another floor than the one before.
    fn keep_moment(&mut self, path: &str, root: &[u8]) {
        let floor = |root: &[u8]| place(&content(root)["floor"]);
        let before = self.roots.iter().rev().find(|(other, _)| other == path);
        if !self.is_meddled && before.is_some_and(|(_, before)| floor(before) != floor(root)) {
            let when = format!("the move of a floor in root {} of {path}", self.roots.len());
            self.moments.push((when, Self { now: self.now.clone(), ..Self::default() }));
        }
    }

    /// True if this is a SEAL for a slot below its lane's floor.
    fn is_stale_seal(&self, path: &str, body: &[u8]) -> bool {
        let Some((lane, epoch, slot)) = slot(path).filter(|_| body.len() == SEAL_BYTES) else { return false };
        let root = self.get(&format!("{lane}/root.json")).map(|object| content(&object.body)).unwrap_or_default();
        (epoch, slot) < place(&root["floor"])
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

    /// What begins so.
    pub(crate) fn list(&self, prefix: &str) -> impl Iterator<Item = Listed> {
        let under = self.now.range(prefix.to_owned()..).take_while(move |(path, _)| path.starts_with(prefix));
        under.map(|(path, object)| Listed {
            path: path.clone(),
            length: object.body.len(),
            etag: object.etag.clone(),
            written: object.written,
        })
    }

    /// As it was a while ago.
    pub(crate) fn stale_list(&self, prefix: &str) -> Vec<Listed> {
        self.stale.iter().filter(|listed| listed.path.starts_with(prefix)).cloned().collect()
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

/// Lane, epoch and slot of a segment's path.
pub(crate) fn slot(path: &str) -> Option<(&str, u64, u64)> {
    let (lane, place) = path.split_once("/w/")?;
    let (epoch, slot) = place.split_once('/')?;
    Some((lane, epoch.parse().ok()?, slot.parse().ok()?))
}

/// What a register holds; null if it is none.
pub(crate) fn content(register: &[u8]) -> Value {
    let mut register: Value = serde_json::from_slice(register).unwrap_or_default();
    register["content"].take()
}

/// Epoch and slot, as a root says them.
pub(crate) fn place(of: &Value) -> (u64, u64) {
    (of["epoch"].as_u64().unwrap_or_default(), of["slot"].as_u64().unwrap_or_default())
}
