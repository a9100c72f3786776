//! Which node should own which lane: pure, so that all who see the same arrive at the same.

use std::collections::{BTreeMap, BTreeSet};

use schemas::LaneId;
use uuid::Uuid;

/// Spreads lanes over nodes: numbers differ by at most one, and as few lanes as possible change hands.
///
/// `lanes` says who has each now; one that is nobody's, or whose owner is not among `nodes`, goes to a node with room. Without nodes there is nobody
/// to give a lane to.
pub(crate) fn assign(lanes: &BTreeMap<LaneId, Option<Uuid>>, nodes: &BTreeSet<Uuid>) -> BTreeMap<LaneId, Uuid> {
    if nodes.is_empty() {
        return BTreeMap::new();
    }
    let held = |node: &Uuid| lanes.values().filter(|holder| **holder == Some(*node)).count();
    // Those that have most now may keep one more, where the numbers do not divide.
    let mut by_load: Vec<_> = nodes.iter().map(|node| (std::cmp::Reverse(held(node)), *node)).collect();
    by_load.sort_unstable();
    let (each, over) = (lanes.len() / nodes.len(), lanes.len() % nodes.len());
    let mut room: Vec<_> =
        by_load.into_iter().enumerate().map(|(rank, (_, node))| (node, each + usize::from(rank < over))).collect();
    let mut assigned = BTreeMap::new();
    let mut homeless = Vec::new();
    for (lane, holder) in lanes {
        match room.iter_mut().find(|(node, room)| Some(*node) == *holder && *room > 0) {
            Some((node, room)) => {
                *room -= 1;
                assigned.insert(*lane, *node);
            }
            None => homeless.push(*lane),
        }
    }
    let mut free = room.into_iter().flat_map(|(node, room)| std::iter::repeat_n(node, room));
    assigned.extend(homeless.into_iter().zip(&mut free));
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lanes(holders: &[u8]) -> BTreeMap<LaneId, Option<Uuid>> {
        let lane = |(lane, holder): (usize, &u8)| (LaneId(lane as u32), (*holder > 0).then(|| node(*holder)));
        holders.iter().enumerate().map(lane).collect()
    }

    fn node(number: u8) -> Uuid {
        Uuid::from_u128(number.into())
    }

    fn spread(holders: &[u8], nodes: &[u8]) -> Vec<u8> {
        let nodes = nodes.iter().map(|number| node(*number)).collect();
        assign(&lanes(holders), &nodes).values().map(|node| node.as_u128() as u8).collect()
    }

    #[test]
    fn lanes_move_only_to_those_that_have_too_few() {
        assert_eq!(spread(&[1, 1, 1, 1], &[1]), [1, 1, 1, 1]);
        assert_eq!(spread(&[1, 1, 1, 1], &[1, 2]), [1, 1, 2, 2]);
        assert_eq!(spread(&[1, 1, 1], &[1, 2]), [1, 1, 2], "the odd one stays where it is");
        assert_eq!(spread(&[1, 2, 1, 2], &[2]), [2, 2, 2, 2], "a node is gone");
        assert_eq!(spread(&[2], &[1, 2, 3]), [2], "more nodes than lanes: nothing moves");
        assert_eq!(spread(&[0, 0], &[1, 2]), [1, 2], "nobody had them");
        assert_eq!(spread(&[1, 1], &[]), [0; 0]);
    }

    proptest! {
        #[test]
        fn numbers_differ_by_one_at_most_and_the_second_time_nothing_moves(
            holders in prop::collection::vec(0_u8..6, 0..40),
            nodes in prop::collection::btree_set(1_u8..6, 1..6),
        ) {
            let nodes: Vec<u8> = nodes.into_iter().collect();
            let first = spread(&holders, &nodes);
            prop_assert_eq!(first.len(), holders.len());
            let counts: Vec<_> = nodes.iter().map(|node| first.iter().filter(|held| *held == node).count()).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            prop_assert_eq!(&spread(&first, &nodes), &first);
            // Only surplus and orphans move.
            let most = holders.len().div_ceil(nodes.len());
            let must: usize = nodes.iter().map(|node| holders.iter().filter(|held| *held == node).count().saturating_sub(most)).sum();
            let orphans = holders.iter().filter(|held| !nodes.contains(held)).count();
            let moved = holders.iter().zip(&first).filter(|(before, after)| before != after).count();
            prop_assert!(moved <= must + orphans + nodes.len(), "{moved} moved");
        }
    }
}
