//! Row hashes by seq range: what each flush, and each batch that is still in the log, must be found to be in the table.

use std::collections::BTreeMap;

use schemas::Seq;

use super::super::rowhash::RowHash;

/// Rows `[from, to)` and their hash, as somebody has recorded them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// First seq.
    pub from: Seq,
    /// The seq after the last.
    pub to: Seq,
    /// Hash of the rows.
    pub hash: RowHash,
    /// Where it is recorded, for messages.
    pub object: String,
}

/// What a flush recorded, and under which of the table's schemas.
#[derive(Clone, Debug)]
pub(super) struct Flushed {
    pub(super) rows: Recorded,
    pub(super) schema_id: Option<i32>,
}

/// Disjoint ranges, ascending.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<Recorded>);

/// What was found of some [`Ranges`]: rows and sum of their digests, by the range's number.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<usize, (i64, RowHash)>);

impl Ranges {
    pub(super) fn new(mut recorded: Vec<Recorded>) -> Self {
        recorded.sort_by_key(|range| range.from);
        Self(recorded)
    }

    /// Adds rows to what was found of the ranges that they are in.
    pub(super) fn add(&self, found: &mut Found, rows: impl Iterator<Item = (Seq, RowHash)>) {
        let mut last: Option<(usize, &Recorded)> = None;
        for (seq, digest) in rows {
            if last.is_none_or(|(_, range)| seq < range.from || seq >= range.to) {
                let number = self.0.partition_point(|range| range.to <= seq);
                last = self.0.get(number).filter(|range| range.from <= seq).map(|range| (number, range));
            }
            if let Some((number, _)) = last {
                let (rows, hash) = found.0.entry(number).or_default();
                *rows += 1;
                *hash = *hash + digest;
            }
        }
    }

    /// The first range that was found to be otherwise than it was recorded, with the rows and the hash that were found. Of one that begins below `retained`
    /// rows may be gone.
    pub(super) fn first_difference(&self, found: &Found, retained: Seq) -> Option<(&Recorded, i64, RowHash)> {
        let looked = self.0.iter().enumerate().map(|(number, range)| {
            let (rows, hash) = found.0.get(&number).copied().unwrap_or_default();
            (range, rows, hash)
        });
        looked.into_iter().find(|(range, rows, hash)| match range.to.0 - range.from.0 {
            all if *rows < all => range.from >= retained,
            all => *rows > all || *hash != range.hash,
        })
    }

    /// Likewise, but a range that was not found as a whole is no matter.
    pub(super) fn first_altered(&self, found: &Found) -> Option<(&Recorded, i64, RowHash)> {
        let whole = found.0.iter().map(|(number, (rows, hash))| (&self.0[*number], *rows, *hash));
        whole.into_iter().find(|(range, rows, hash)| *rows >= range.to.0 - range.from.0 && *hash != range.hash)
    }
}

impl Found {
    pub(super) fn absorb(&mut self, other: Self) {
        for (number, (rows, hash)) in other.0 {
            let (all, sum) = self.0.entry(number).or_default();
            *all += rows;
            *sum = *sum + hash;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(from: i64, to: i64, hash: u128) -> Recorded {
        Recorded { from: Seq(from), to: Seq(to), hash: RowHash(hash), object: String::new() }
    }

    #[test]
    fn rows_count_for_the_range_that_they_are_in_whatever_their_order() {
        let ranges = Ranges::new(vec![recorded(5, 7, 11), recorded(1, 3, 3)]);
        let mut found = Found::default();
        ranges.add(
            &mut found,
            [(6, 6), (1, 1), (4, 100), (2, 2), (5, 5), (7, 100)]
                .map(|(seq, hash)| (Seq(seq), RowHash(hash)))
                .into_iter(),
        );
        assert_eq!(ranges.first_difference(&found, Seq::FIRST), None);
        let mut more = Found::default();
        ranges.add(&mut more, [(Seq(2), RowHash(0))].into_iter());
        found.absorb(more);
        assert_eq!(ranges.first_difference(&found, Seq::FIRST), Some((&recorded(1, 3, 3), 3, RowHash(3))));
        assert_eq!(ranges.first_altered(&found), None, "the hash is right");
        let mut part = Found::default();
        ranges.add(&mut part, [(Seq(5), RowHash(1))].into_iter());
        assert_eq!(ranges.first_altered(&part), None, "the rest may lie in files that say less");
        ranges.add(&mut part, [(Seq(6), RowHash(1))].into_iter());
        assert_eq!(ranges.first_altered(&part), Some((&recorded(5, 7, 11), 2, RowHash(2))));
    }
}
