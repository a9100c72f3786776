//! What this process knows of the others and of who has which lane, and when that lets it try a take-over.
//!
//! Nothing here keeps two owners apart: that is the root's and the SEALs' business (P1). A wrong guess costs a take-over too many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::LaneId;
use tokio::time::Instant;
use uuid::Uuid;

use super::heartbeat::{Beat, Node, Pulses};
use super::root::{Claim, Root, State};
use super::spread::assign;

/// The board of one process; its lanes' tasks and its listener write on it.
#[derive(Debug)]
pub(crate) struct Board {
    me: Node,
    /// How long the node that should take a lane over has for it before the others may.
    patience: Duration,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    pulses: Pulses,
    /// Who has each lane, or is to have it.
    holders: BTreeMap<LaneId, Option<Uuid>>,
    /// It is ending: it takes nothing.
    is_leaving: bool,
}

impl Board {
    /// Empty. A node is silent after `silence`.
    pub(crate) fn new(me: Node, silence: Duration) -> Self {
        let known = Known { pulses: Pulses::new(silence), holders: BTreeMap::new(), is_leaving: false };
        Self { me, patience: silence, known: Mutex::new(known) }
    }

    /// The root of a lane says this.
    pub(crate) fn held(&self, lane: LaneId, root: Option<&Root>) {
        let holder = root.and_then(|root| match root.state {
            State::Closed => root.heir,
            State::Opening | State::Open => Some(root.owner),
        });
        self.known.lock().holders.insert(lane, holder);
    }

    /// Someone's heartbeat was read.
    pub(crate) fn hear(&self, node: Uuid, beat: Option<Beat>, now: Instant) {
        self.known.lock().pulses.hear(node, beat, now);
    }

    /// Someone's heartbeat could not be read.
    pub(crate) fn miss(&self, node: &Uuid, now: Instant) {
        self.known.lock().pulses.miss(node, now);
    }

    /// From now on it takes nothing.
    pub(crate) fn leave(&self) {
        self.known.lock().is_leaving = true;
    }

    /// The nodes to listen to: those that were ever heard, and those that have a lane.
    pub(crate) fn others(&self) -> BTreeSet<Uuid> {
        let known = self.known.lock();
        let holders = known.holders.values().flatten().copied();
        holders.chain(known.pulses.known()).filter(|node| *node != self.me.id).collect()
    }

    /// Where the other nodes answer that live.
    pub(crate) fn addresses(&self, now: Instant) -> Vec<String> {
        self.known.lock().pulses.addresses(now)
    }

    /// Nodes that have been silent for so long that their heartbeat is litter; forgets them.
    pub(crate) fn gone(&self, now: Instant) -> Vec<Uuid> {
        let mut known = self.known.lock();
        let gone: Vec<_> = known.pulses.known().into_iter().filter(|node| known.pulses.is_gone(node, now)).collect();
        gone.iter().for_each(|node| known.pulses.forget(node));
        gone
    }

    /// On what condition this process should claim a lane whose root says this, if it should. `vacant_since` remembers, from one call to the next
    /// with the same root, since when nobody has it.
    pub(crate) fn wish(&self, root: &Root, vacant_since: &mut Option<Instant>, now: Instant) -> Option<Claim> {
        let known = self.known.lock();
        let is_mine = root.owner == self.me.id && root.state != State::Closed;
        let is_vacant = match root.state {
            State::Closed => true,
            // Who beats no heart cannot fall silent: only an operator takes it over.
            _ => root.address.is_some() && known.pulses.is_silent(&root.owner, now),
        };
        if known.is_leaving || !(is_mine || is_vacant) {
            *vacant_since = None;
            return None;
        }
        let waited = now.saturating_duration_since(*vacant_since.get_or_insert(now));
        let first = match root.heir.filter(|heir| *heir == self.me.id || !known.pulses.is_silent(heir, now)) {
            Some(heir) => Some(heir),
            None => self.spread(&known, Some(root.owner), now).get(&root.lane).copied(),
        };
        let is_my_turn = is_mine || first.is_none_or(|first| first == self.me.id) || waited >= self.patience;
        is_my_turn.then_some(Claim::After(root.epoch))
    }

    /// A lane that this process has and another that lives should have, and who.
    pub(crate) fn surplus(&self, now: Instant) -> Option<(LaneId, Uuid)> {
        let known = self.known.lock();
        let mine = |lane: &LaneId| known.holders.get(lane) == Some(&Some(self.me.id));
        let spread = self.spread(&known, None, now);
        spread.into_iter().find(|(lane, node)| *node != self.me.id && mine(lane))
    }

    fn spread(&self, known: &Known, without: Option<Uuid>, now: Instant) -> BTreeMap<LaneId, Uuid> {
        let mut nodes: BTreeSet<_> = known.pulses.living(now).filter(|node| Some(*node) != without).collect();
        if !known.is_leaving {
            nodes.insert(self.me.id);
        }
        assign(&known.holders, &nodes)
    }
}

#[cfg(test)]
mod tests {
    use catalog::Env;
    use schemas::Epoch;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    fn node(number: u128) -> Node {
        Node { id: Uuid::from_u128(number), address: Some(format!("grpc://node-{number}:1")) }
    }

    fn beat(number: u128, beat: u64) -> Beat {
        Beat { node: node(number).id, address: node(number).address, beat, ready: true }
    }

    fn root(lane: u32, owner: u128, state: State) -> Root {
        let root = Root::claimed(None, LaneId(lane), &node(owner), &Env::system());
        Root { state, ..root }
    }

    #[test]
    fn an_owner_that_fell_silent_is_followed_by_the_node_that_should_have_its_lane_then_by_any() {
        let (two, three) = (Board::new(node(2), SILENCE), Board::new(node(3), SILENCE));
        let (start, root) = (Instant::now(), root(0, 1, State::Open));
        let (mut since_two, mut since_three) = (None, None);
        let mut after = |silences: u32| {
            let now = start + silences * SILENCE;
            for (board, other) in [(&two, 3), (&three, 2)] {
                board.held(LaneId(0), Some(&root));
                board.hear(node(1).id, Some(beat(1, 1)), now);
                board.hear(node(other).id, Some(beat(other, silences.into())), now);
            }
            (two.wish(&root, &mut since_two, now), three.wish(&root, &mut since_three, now))
        };
        assert_eq!(after(0), (None, None));
        assert_eq!(after(1), (Some(Claim::After(Epoch(1))), None), "both see it, one acts");
        assert_eq!(after(2).1, Some(Claim::After(Epoch(1))), "unless that one does not come");
    }

    #[test]
    fn a_lane_that_was_closed_goes_to_its_heir_at_once() {
        let (two, three, now) = (Board::new(node(2), SILENCE), Board::new(node(3), SILENCE), Instant::now());
        let given = Root { heir: Some(node(3).id), ..root(0, 1, State::Closed) };
        two.hear(node(3).id, Some(beat(3, 1)), now);
        assert_eq!(two.wish(&given, &mut None, now), None);
        assert_eq!(three.wish(&given, &mut None, now), Some(Claim::After(Epoch(1))));
        three.leave();
        assert_eq!(three.wish(&given, &mut None, now), None, "who leaves takes nothing");
    }

    #[test]
    fn an_owner_without_a_heart_is_never_silent() {
        let (board, now) = (Board::new(node(2), SILENCE), Instant::now());
        let alone = Root { address: None, ..root(0, 1, State::Open) };
        board.hear(node(1).id, None, now);
        assert_eq!(board.wish(&alone, &mut None, now), None);
    }

    #[test]
    fn a_node_that_comes_gets_its_share_and_one_that_is_not_ready_does_not() {
        let (board, now) = (Board::new(node(1), SILENCE), Instant::now());
        (0..4).for_each(|lane| board.held(LaneId(lane), Some(&root(lane, 1, State::Open))));
        board.hear(node(2).id, Some(Beat { ready: false, ..beat(2, 1) }), now);
        assert_eq!(board.surplus(now), None);
        board.hear(node(2).id, Some(beat(2, 2)), now);
        assert_eq!(board.surplus(now), Some((LaneId(2), node(2).id)));
        board.held(LaneId(2), Some(&root(2, 2, State::Opening)));
        assert_eq!(board.surplus(now), Some((LaneId(3), node(2).id)));
        board.held(LaneId(3), Some(&Root { heir: Some(node(2).id), ..root(3, 1, State::Closed) }));
        assert_eq!(board.surplus(now), None);
    }
}
