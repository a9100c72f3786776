//! Names whose entries were evicted: a fold over the same records as the entries themselves.
//!
//! Whoever asks to go on under such a name must be told that nobody knows how far it came, or a load that is resumed late would be appended twice. A hash
//! a name is kept, [`PRODUCERS_FORGOTTEN_MAX`] of them; of those beyond, only up to when they were used.

use std::collections::VecDeque;

use schemas::TopicId;
use schemas::limits::PRODUCERS_FORGOTTEN_MAX;
use xxhash_rust::xxh3::Xxh3;

/// What is known of the names that were forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Forgotten {
    /// Of topic and name, in the order in which they were forgotten.
    hashes: VecDeque<u64>,
    /// Names that are in no list any more were last used by then.
    until_micros: Option<i64>,
}

impl Forgotten {
    /// An entry was evicted that was last used then. Entries are evicted in the order of their use.
    pub(super) fn add(&mut self, topic: &TopicId, name: &str, used_micros: i64) {
        self.hashes.push_back(hash(topic, name));
        if self.hashes.len() > PRODUCERS_FORGOTTEN_MAX {
            self.hashes.pop_front();
            // No later than this one.
            self.until_micros = Some(used_micros);
        }
    }

    /// The name is used again.
    pub(super) fn remove(&mut self, topic: &TopicId, name: &str) {
        let hash = hash(topic, name);
        self.hashes.retain(|known| *known != hash);
    }

    /// True if a name that has no entry once had one, or may have had if it was used since that time.
    pub(super) fn contains(&self, topic: &TopicId, name: &str, since_micros: Option<i64>) -> bool {
        let may_be = self.until_micros.zip(since_micros).is_some_and(|(until, since)| since <= until);
        may_be || self.hashes.contains(&hash(topic, name))
    }

    /// The hashes as 16 hexadecimal digits each, and the time.
    pub(super) fn to_parts(&self) -> (String, Option<i64>) {
        (self.hashes.iter().map(|hash| format!("{hash:016x}")).collect(), self.until_micros)
    }

    /// What [`Self::to_parts`] gave. Errors: what is wrong, in words.
    pub(super) fn from_parts(hashes: &str, until_micros: Option<i64>) -> Result<Self, String> {
        let fault = || "a list of forgotten producers should be hashes of 16 hexadecimal digits".to_owned();
        if !hashes.is_ascii() || !hashes.len().is_multiple_of(16) {
            return Err(fault());
        }
        let hash = |at: usize| u64::from_str_radix(&hashes[at..at + 16], 16).map_err(|_| fault());
        let hashes = (0..hashes.len()).step_by(16).map(hash).collect::<Result<_, _>>()?;
        Ok(Self { hashes, until_micros })
    }
}

/// Stands in checkpoints: it stays what it is.
fn hash(topic: &TopicId, name: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(topic.0.as_bytes());
    hash.update(name.as_bytes());
    hash.digest()
}
