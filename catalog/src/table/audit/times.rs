//! Whether times never fall along seqs, when the rows come in any order.
//!
//! They do not if and only if, of two times, all seqs of the earlier lie below all seqs of the later. So the first and the last seq of each distinct time
//! are enough, and events that were sequenced together share one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use schemas::Seq;

/// First and last seq of each time, microseconds.
#[derive(Debug, Default)]
pub(super) struct Times {
    held: BTreeMap<i64, (Seq, Seq)>,
    /// The latest time of those that no longer change, and its last seq.
    settled: Option<(i64, Seq)>,
}

/// A time that fell: an event and a later one of an earlier time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fell {
    /// Of the later event.
    pub(super) seq: Seq,
    pub(super) time: i64,
    /// Of the earlier event.
    pub(super) after: i64,
}

impl Times {
    /// An event.
    pub(super) fn add(&mut self, time: i64, seq: Seq) {
        self.extend(time, (seq, seq));
    }

    fn extend(&mut self, time: i64, (first, last): (Seq, Seq)) {
        match self.held.entry(time) {
            Entry::Vacant(place) => {
                place.insert((first, last));
            }
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                *held = (held.0.min(first), held.1.max(last));
            }
        }
    }

    /// Adds another's events.
    pub(super) fn absorb(&mut self, other: Self) {
        other.held.into_iter().for_each(|(time, seqs)| self.extend(time, seqs));
    }

    /// No event below `frontier` will come any more: checks those, and forgets them. Errors: where a time fell.
    pub(super) fn settle(&mut self, frontier: Seq) -> Result<(), Fell> {
        while let Some(entry) = self.held.first_entry() {
            let (time, (first, last)) = (*entry.key(), *entry.get());
            if let Some((before, end)) =
                self.settled.filter(|(before, end)| time < *before || time > *before && first < *end)
            {
                // Whichever of the two has the larger seq is the one that is too early.
                let (seq, fell, after) = if first < end { (end, before, time) } else { (first, time, before) };
                return Err(Fell { seq, time: fell, after });
            }
            if last >= frontier {
                break;
            }
            entry.remove();
            self.settled = Some((time, last.max(self.settled.map_or(last, |settled| settled.1))));
        }
        Ok(())
    }

    /// The time of the last event, once all are settled.
    pub(super) fn last(&self) -> Option<i64> {
        self.settled.map(|settled| settled.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(events: &[(i64, i64)]) -> Result<Option<i64>, Fell> {
        let mut times = Times::default();
        events.iter().for_each(|(seq, time)| times.add(*time, Seq(*seq)));
        times.settle(Seq(i64::MAX)).map(|()| times.last())
    }

    #[test]
    fn times_may_stand_still_and_come_in_any_order() {
        assert_eq!(check(&[(4, 20), (1, 10), (3, 20), (2, 10), (5, 21)]), Ok(Some(21)));
        assert_eq!(check(&[]), Ok(None));
    }

    #[test]
    fn a_time_that_falls_is_found_with_its_event() {
        assert_eq!(check(&[(1, 10), (2, 20), (3, 15)]), Err(Fell { seq: Seq(3), time: 15, after: 20 }));
        assert_eq!(check(&[(5, 10), (1, 20)]), Err(Fell { seq: Seq(5), time: 10, after: 20 }));
    }

    #[test]
    fn what_is_settled_is_forgotten_and_still_counts() {
        let mut times = Times::default();
        (1..=100).for_each(|seq| times.add(seq * 10, Seq(seq)));
        times.settle(Seq(51)).unwrap();
        assert_eq!(times.held.len(), 50);
        let mut more = Times::default();
        more.add(200, Seq(101));
        times.absorb(more);
        assert!(times.settle(Seq(102)).is_err(), "seq 20 had that time, and 101 is far beyond");
        let mut times = Times::default();
        times.add(10, Seq(1));
        times.settle(Seq(2)).unwrap();
        times.add(10, Seq(2));
        times.settle(Seq(3)).unwrap();
        assert_eq!(times.last(), Some(10));
    }
}
