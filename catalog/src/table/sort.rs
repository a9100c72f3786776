//! The order that a flush's rows take in their file: by prefix, then key, then seq.
//!
//! The rows come in seq order, so it is enough to find the distinct (prefix, key) pairs, sort those, and deal the rows out to them: one hash
//! look-up a row, and comparisons only between distinct keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use arrow::array::{AsArray, RecordBatch, StringArray};
use schemas::envelope::column;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Where each row of the file comes from, and how many keys there are.
#[derive(Debug)]
pub(crate) struct Order {
    /// For each row of the file in order: batch, row of the batch.
    pub(crate) rows: Vec<(u32, u32)>,
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
        let mut sorted: Vec<u32> = (0..groups.len() as u32).collect();
        let place = |group: &u32| (groups[*group as usize].prefix, groups[*group as usize].key);
        sorted.sort_unstable_by(|a, b| place(a).cmp(&place(b)));

        let mut next = vec![0_usize; groups.len()];
        let mut end = 0;
        for group in &sorted {
            next[*group as usize] = end;
            end += groups[*group as usize].rows as usize;
        }
        let mut rows = vec![(0, 0); end];
        let mut group_of_row = group_of_row.into_iter();
        for (number, batch) in batches.iter().enumerate() {
            for (row, group) in (0..batch.num_rows()).zip(&mut group_of_row) {
                let slot = &mut next[group as usize];
                rows[*slot] = (number as u32, row as u32);
                *slot += 1;
            }
        }
        Self { rows, distinct: groups.len() }
    }
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
