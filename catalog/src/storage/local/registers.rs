//! Registers on a local folder: `orders.json/` holds `0000000001.json`, `0000000002.json`, …; the highest number is the value.
//!
//! A revision is made by linking the next number, so of two processes one wins. A number once used is never free again: a superseded
//! revision becomes an empty file, never none. Else a process that slept through its removal would link an old number and
//! believe that its revision counts. So the numbers from 1 up to the highest are all there, and the highest is found without a listing.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::Result;
use object_store::path::Path as ObjectPath;
use parking_lot::Mutex;
use schemas::planted::{Bug, planted};

use super::disk::Disk;
use super::{LocalFolder, blocking, generic, place_error, read_error};
use crate::storage::RevisionTag;
use crate::storage::register::{Held, Registers};

/// Registers whose highest number is remembered.
const HINTS_MAX: usize = 64 << 10;

/// A number of each register that is in use: where to begin looking for the highest.
#[derive(Debug, Default)]
pub(super) struct Hints(Mutex<HashMap<ObjectPath, u64>>);

impl Hints {
    /// 0 if the register is not known.
    fn get(&self, path: &ObjectPath) -> u64 {
        self.0.lock().get(path).copied().unwrap_or(0)
    }

    fn raise(&self, path: &ObjectPath, number: u64) {
        let mut hints = self.0.lock();
        if hints.len() >= HINTS_MAX {
            hints.clear();
        }
        let hint = hints.entry(path.clone()).or_default();
        *hint = number.max(*hint);
    }
}

#[async_trait]
impl Registers for LocalFolder {
    async fn newest(&self, path: &ObjectPath) -> Result<Option<Held>> {
        let row = self.file(path)?;
        let (disk, hints, path) = (Arc::clone(&self.disk), Arc::clone(&self.hints), path.clone());
        blocking(move || {
            let newest = read_newest(&disk, &row, hints.get(&path)).map_err(|error| read_error(&path, error))?;
            Ok(newest.map(|(number, document)| {
                hints.raise(&path, number);
                Held { document, tag: RevisionTag(number.to_string()) }
            }))
        })
        .await
    }

    async fn put_next(
        &self,
        path: &ObjectPath,
        expected: Option<&RevisionTag>,
        document: Bytes,
    ) -> Result<RevisionTag> {
        let row = self.file(path)?;
        let current = expected.map_or(Ok(0), |tag| tag.0.parse::<u64>()).map_err(generic)?;
        let next = current + 1;
        let (disk, hints, path) = (Arc::clone(&self.disk), Arc::clone(&self.hints), path.clone());
        blocking(move || {
            let place = || disk.place_new(disk.written([&document])?, &revision(&row, next));
            place().map_err(|error| place_error(&path, error))?;
            hints.raise(&path, next);
            supersede(&disk, &row, current);
            Ok(RevisionTag(next.to_string()))
        })
        .await
    }
}

fn revision(row: &Path, number: u64) -> PathBuf {
    row.join(format!("{number:010}.json"))
}

/// Empties a revision that another stands above. If it fails, some bytes stay for nothing.
fn supersede(disk: &Disk, row: &Path, number: u64) {
    if number == 0 {
        return;
    }
    if planted(Bug::NumberUsedTwice) {
        return drop(std::fs::remove_file(revision(row, number)));
    }
    if let Err(error) = disk.make_empty(&revision(row, number)) {
        tracing::debug!(row = %row.display(), number, %error, "a superseded revision keeps its content");
    }
}

/// The highest number and its content; `None` if the row is empty.
fn read_newest(disk: &Disk, row: &Path, hint: u64) -> io::Result<Option<(u64, Bytes)>> {
    let exists = |number| match std::fs::symlink_metadata(revision(row, number)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    let mut known = hint;
    let mut emptied = 0;
    loop {
        let number = highest(known, exists)?;
        if number == 0 {
            return Ok(None);
        }
        let (file, stat) = disk.open_file(&revision(row, number))?;
        let mut document = vec![0; usize::try_from(stat.len()).map_err(io::Error::other)?];
        file.read_exact_at(&mut document, 0)?;
        if !document.is_empty() {
            return Ok(Some((number, document.into())));
        }
        // Superseded since it was found: there is a higher one now.
        if emptied == number {
            let message = format!("revision {number} is empty, and none stands above it");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        (known, emptied) = (number, number);
    }
}

/// The highest number that exists, given that all from 1 up to it do; 0 if none does. `known` exists, or is 0.
///
/// Doubles its steps upwards, then halves them: about 2 log₂ of the distance from `known`. Numbers made meanwhile may be missed, but
/// the answer was the highest at some moment of the call.
fn highest<E>(known: u64, exists: impl Fn(u64) -> Result<bool, E>) -> Result<u64, E> {
    let mut low = known;
    let mut step = 1;
    while exists(low + step)? {
        low += step;
        step *= 2;
    }
    let mut high = low + step;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if exists(middle)? { low = middle } else { high = middle }
    }
    Ok(low)
}

#[cfg(test)]
mod tests;
