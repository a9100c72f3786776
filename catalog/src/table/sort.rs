//! The order that a flush's rows take in their file: by prefix, then key, then seq.
//!
//! The rows come in seq order, so it is enough to find the distinct (prefix, key) pairs, sort those, and deal the rows out to them: one hash
//! look-up a row, and comparisons only between distinct keys.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{AsArray, RecordBatch, StringArray, UInt32Array};
use schemas::envelope::column;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Where each row of the file comes from, and how many keys there are.
#[derive(Debug)]
pub(crate) struct Order {
    /// For each row of the file in order: its number among the rows of all batches.
    pub(crate) rows: UInt32Array,
    /// How many distinct (prefix, key) pairs there are.
    pub(crate) distinct: usize,
}

struct Group<'a> {
    prefix: &'a str,
    key: &'a str,
    rows: u32,
}

impl Order {
    /// Of batches with the event schema, in seq order.
    pub(crate) fn of(batches: &[RecordBatch]) -> Self {
        let (groups, group_of_row) = group(batches);
        let mut next = vec![0_u32; groups.len()];
        let mut end = 0;
        for group in sorted(&groups) {
            next[group as usize] = end;
            end += groups[group as usize].rows;
        }
        let mut rows = vec![0; group_of_row.len()];
        for (row, group) in group_of_row.into_iter().enumerate() {
            let place = &mut next[group as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        Self { rows: rows.into(), distinct: groups.len() }
    }
}

/// The groups' numbers by prefix, then key.
///
/// Most comparisons are of two numbers: a prefix's rank, and the eight bytes in which keys first differ.
fn sorted(groups: &[Group<'_>]) -> Vec<u32> {
    let mut prefixes = BTreeSet::new();
    for group in groups {
        prefixes.insert(group.prefix);
    }
    let prefixes: Vec<&str> = prefixes.into_iter().collect();
    let alike = groups.iter().fold(None, |alike: Option<&[u8]>, group| {
        let key = group.key.as_bytes();
        Some(alike.map_or(key, |alike| &key[..alike.iter().zip(key).take_while(|(a, b)| a == b).count()]))
    });
    let alike = alike.map_or(0, <[u8]>::len);
    let mut places: Vec<(u32, u64, u32)> = Vec::with_capacity(groups.len());
    for (number, group) in groups.iter().enumerate() {
        let rank = prefixes.partition_point(|prefix| *prefix < group.prefix);
        places.push((rank as u32, head(&group.key.as_bytes()[alike..]), number as u32));
    }
    places.sort_unstable_by(|a, b| {
        (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| groups[a.2 as usize].key.cmp(groups[b.2 as usize].key))
    });
    places.into_iter().map(|place| place.2).collect()
}

/// The first eight bytes as a number that compares as they do; shorter ones are filled up with zeros, which only the whole keys tell apart.
fn head(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let known = bytes.len().min(8);
    first[..known].copy_from_slice(&bytes[..known]);
    u64::from_be_bytes(first)
}

/// The distinct (prefix, key) pairs in order of appearance, and for each row the number of its pair.
fn group(batches: &[RecordBatch]) -> (Vec<Group<'_>>, Vec<u32>) {
    let total = batches.iter().map(RecordBatch::num_rows).sum();
    let mut group_of_row = Vec::with_capacity(total);
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut by_hash: HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>> = HashMap::default();
    let (mut prefix, mut seed) = ("", 0);
    for batch in batches {
        let prefixes: &StringArray = batch.column(column::PREFIX).as_string();
        let keys: &StringArray = batch.column(column::KEY).as_string();
        for row in 0..batch.num_rows() {
            let key = keys.value(row);
            if prefixes.value(row) != prefix {
                prefix = prefixes.value(row);
                seed = xxh3_64_with_seed(prefix.as_bytes(), 0);
            }
            let mut hash = xxh3_64_with_seed(key.as_bytes(), seed);
            let group = loop {
                let group = *by_hash.entry(hash).or_insert_with(|| {
                    groups.push(Group { prefix, key, rows: 0 });
                    groups.len() as u32 - 1
                });
                let found = &groups[group as usize];
                if found.key == key && found.prefix == prefix {
                    break group;
                }
                hash = hash.wrapping_add(1);
            };
            groups[group as usize].rows += 1;
            group_of_row.push(group);
        }
    }
    (groups, group_of_row)
}

/// Passes a `u64` that is a hash already on as it is.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests;
