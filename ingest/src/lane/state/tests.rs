use proptest::collection::btree_set;
use proptest::prelude::*;

use super::*;
use crate::testing::orders;

fn created() -> LaneState {
    let mut state = LaneState::default();
    let shape = Arc::new(Shape::new(orders(7)).unwrap());
    state.apply(&Effect::Created { tenant: TenantName::default(), shape }).unwrap();
    state
}

fn append(first: i64, count: u32, time_micros: i64) -> Effect {
    Effect::Appended { topic: orders(7).id, first_seq: Seq(first), count, time_micros, prefixes: vec![] }
}

#[test]
fn seqs_are_dense_from_1() {
    let mut state = created();
    state.apply(&append(1, 10, 5)).unwrap();
    state.apply(&append(11, 1, 5)).unwrap();
    assert_eq!(state.topics[&orders(7).id].next_seq, Seq(12));
    assert_eq!(
        state.apply(&append(13, 1, 5)).unwrap_err(),
        format!("topic {}: expected seq 12 next, found 13", orders(7).id)
    );
    assert!(state.apply(&append(11, 1, 5)).is_err());
}

#[test]
fn a_dropped_topic_is_kept_until_its_register_has_followed_and_takes_no_events() {
    let mut state = created();
    let topic = orders(7).id;
    state.apply(&Effect::Dropped { topic }).unwrap();
    assert!(state.dropped.contains_key(&topic));
    assert!(state.apply(&append(1, 1, 0)).is_err());
    assert!(state.apply(&Effect::Dropped { topic }).is_err());
}

#[test]
fn a_topic_is_created_once() {
    let mut state = created();
    let shape = Arc::clone(state.topics[&orders(7).id].shape());
    assert!(state.apply(&Effect::Created { tenant: TenantName::default(), shape }).is_err());
}

proptest! {
    /// What decides whether rows seen again after a restart get the same prefixes, though the checkpoint knows later ones too.
    #[test]
    fn a_prefix_is_admitted_for_good_or_never(batches in prop::collection::vec(btree_set(0..400u32, 1..80), 1..20)) {
        let mut state = created();
        let topic = orders(7).id;
        let mut verdicts = Vec::new();
        for (next, batch) in (1..).zip(batches) {
            let distinct: Vec<_> = batch.iter().rev().map(|number| format!("orders/{number}")).collect();
            let prefixes = state.topics[&topic].new_prefixes(&distinct);
            let effect = Effect::Appended { topic, first_seq: Seq(next), count: 1, time_micros: 0, prefixes };
            state.apply(&effect).unwrap();
            verdicts.extend(distinct.into_iter().map(|prefix| (state.topics[&topic].admits(&prefix), prefix)));
        }
        let topic = &state.topics[&topic];
        prop_assert!(topic.prefixes.len() < PREFIXES_MAX, "with the topic's own name there are {PREFIXES_MAX}");
        prop_assert!(topic.admits("orders"));
        for (verdict, prefix) in verdicts {
            prop_assert_eq!(topic.admits(&prefix), verdict, "{}", prefix);
        }
    }
}

#[test]
fn retention_only_goes_forward_and_not_beyond_the_end() {
    let mut state = created();
    let topic = orders(7).id;
    state.apply(&append(1, 10, 5)).unwrap();
    for (below, holds) in [(1, false), (5, true), (5, false), (4, false), (12, false), (11, true)] {
        let applied = state.apply(&Effect::Retained { topic, below: Seq(below) });
        assert_eq!(applied.is_ok(), holds, "below {below}: {applied:?}");
    }
    assert_eq!(state.topics[&topic].retained, Seq(11));
}
