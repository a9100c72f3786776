use std::collections::HashMap;

use proptest::prelude::*;
use schemas::{Epoch, Shard, Slot};
use uuid::Uuid;

use super::*;
use crate::wal::LinkHash;

fn at(slot: u64) -> Position {
    Position { epoch: Epoch(1), slot: Slot(slot), hash: LinkHash::START }
}

/// A segment of `(topic, last seq)`s.
fn segment(slot: u64, topics: &[(u128, i64)]) -> Indexed {
    let end = |(topic, last): &(u128, i64)| TopicEnd {
        topic: TopicId(Uuid::from_u128(*topic)),
        shard: Shard(0),
        last_seq: Seq(*last),
    };
    Indexed { at: at(slot), bytes: 1, topics: topics.iter().map(end).collect(), is_seal: false }
}

fn passed(index: &[Indexed], checkpoint: u64, watermarks: &[(u128, i64)]) -> usize {
    let known: HashMap<_, _> =
        watermarks.iter().map(|(topic, mark)| (TopicId(Uuid::from_u128(*topic)), Watermark(Seq(*mark)))).collect();
    passable(index, &at(checkpoint), |topic| known.get(topic).map_or(Reach::Dropped, |mark| Reach::Table(*mark)))
}

#[test]
fn the_floor_stops_at_the_first_segment_with_an_event_that_is_in_no_table() {
    let index = [segment(0, &[(1, 5)]), segment(1, &[(1, 9), (2, 3)]), segment(2, &[(1, 12)])];
    assert_eq!(passed(&index, 9, &[(1, 13), (2, 4)]), 3);
    assert_eq!(passed(&index, 9, &[(1, 13), (2, 3)]), 1, "topic 2's seq 3 is not below its watermark");
    assert_eq!(passed(&index, 9, &[(1, 5), (2, 4)]), 0);
}

#[test]
fn a_dropped_topic_holds_nothing() {
    assert_eq!(passed(&[segment(0, &[(1, 5), (2, 100)])], 9, &[(1, 6)]), 1);
}

#[test]
fn a_parked_topic_holds_what_lies_beyond_its_extent_alone() {
    let index = [segment(0, &[(1, 5)]), segment(1, &[(1, 6)]), segment(2, &[(1, 7)])];
    assert_eq!(passable(&index, &at(9), |_| Reach::Parked(Seq(7))), 2);
}

#[test]
fn the_floor_never_passes_the_checkpoint() {
    let index = [segment(0, &[]), segment(1, &[]), segment(2, &[])];
    assert_eq!(passed(&index, 2, &[]), 2, "nor segments of records alone");
}

proptest! {
    #[test]
    fn nothing_that_is_only_in_the_log_lies_below_the_floor(
        ends in prop::collection::vec(prop::collection::btree_map(0..4u128, 1..50i64, 0..4), 0..20),
        marks in prop::collection::vec(1..60i64, 4),
        checkpoint in 0..25u64,
    ) {
        let index: Vec<_> = (0..).zip(&ends).map(|(slot, ends)| segment(slot, &ends.iter().map(|(t, l)| (*t, *l)).collect::<Vec<_>>())).collect();
        let marks: Vec<_> = (0..).zip(marks).collect();
        let passed = passed(&index, checkpoint, &marks);
        prop_assert!(passed as u64 <= checkpoint);
        for ends in &ends[..passed] {
            for (topic, last) in ends {
                prop_assert!(*last < marks[*topic as usize].1);
            }
        }
    }
}
