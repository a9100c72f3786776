//! Which names a process has seen since they were last fsynced, in bounded memory.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

/// Names remembered in a generation; two generations are kept. At 16 bytes and some overhead each, a few MB.
const GENERATION_MAX: usize = 64 << 10;

/// Remembers at least the latest [`GENERATION_MAX`] names. To forget one costs an fsync, nothing else.
#[derive(Debug, Default)]
pub(super) struct Seen {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl Seen {
    /// A name together with the file that bears it now: a name that a rename has given to another file is not one that was seen.
    pub(super) fn identity(name: &Path, stat: &Metadata) -> u128 {
        let mut hash = Xxh3::new();
        hash.update(name.as_os_str().as_bytes());
        for part in [stat.ino(), stat.mtime().cast_unsigned(), stat.mtime_nsec().cast_unsigned()] {
            hash.update(&part.to_le_bytes());
        }
        hash.digest128()
    }

    pub(super) fn contains(&self, identity: u128) -> bool {
        self.young.contains(&identity) || self.old.contains(&identity)
    }

    pub(super) fn insert(&mut self, identity: u128) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_names_are_remembered_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let last = 3 * GENERATION_MAX as u128;
        (0..=last).for_each(|identity| seen.insert(identity));
        assert!((last - GENERATION_MAX as u128 + 1..=last).all(|identity| seen.contains(identity)));
        assert!(!seen.contains(0), "the oldest is forgotten");
        assert!(seen.young.len() + seen.old.len() <= 2 * GENERATION_MAX);
    }
}
