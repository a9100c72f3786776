//! Whether a lane's root can be what its owners wrote. Pure.

use catalog::audit::{Audited, Checks, Stop, laws};
use schemas::Epoch;

use crate::lane::root::{Root, State};
use crate::lane::root_path;

/// Closed epochs ascend without a gap from the floor's to the newest but one, and the floor lies before the checkpoint.
pub(super) fn check(root: &Root, checks: &mut Checks) -> Audited<()> {
    let object = root_path(root.lane);
    let fault = |place: &str, expected: String, found: String| {
        Err(Stop::fault_at(laws::LINKED, &object, place, expected, found))
    };
    if root.epoch < Epoch(1) || root.floor.epoch < Epoch(1) {
        return fault(
            "epoch",
            "epochs from 1 on".into(),
            format!("{} and a floor in {}", root.epoch, root.floor.epoch),
        );
    }
    if let Some(pair) = root.closed.windows(2).find(|pair| pair[1].epoch != pair[0].epoch.next()) {
        return fault(
            "closed",
            format!("epoch {} after {}", pair[0].epoch.next(), pair[0].epoch),
            format!("{}", pair[1].epoch),
        );
    }
    let newest = root.closed.last().map_or(0, |closed| closed.epoch.0);
    let is_whole = match root.state {
        State::Opening => newest < root.epoch.0,
        State::Open | State::Closed => newest + 1 == root.epoch.0,
    };
    if !is_whole {
        let expected = format!("every epoch before {} closed, and no other", root.epoch);
        return fault("closed", expected, format!("the last closed is {newest}, state {:?}", root.state));
    }
    if let Some(first) = root.closed.first().filter(|first| first.epoch > root.floor.epoch) {
        let expected = format!("where the floor's epoch {} was closed", root.floor.epoch);
        return fault("closed", expected, format!("epoch {} as the first", first.epoch));
    }
    if root.floor.epoch > root.epoch {
        return fault("floor", format!("a place in epoch {} or before", root.epoch), root.floor.to_string());
    }
    if let Some(closed) = root.closed(root.floor.epoch).filter(|closed| root.floor.slot > closed.seal_slot) {
        let expected = format!("a place up to the SEAL of epoch {} at slot {}", closed.epoch, closed.seal_slot);
        return fault("floor", expected, root.floor.to_string());
    }
    if let Some(named) = &root.checkpoint
        && named.at.is_after(root.epoch, schemas::Slot(u64::MAX))
    {
        return fault("checkpoint", format!("a place in epoch {} or before", root.epoch), named.at.to_string());
    }
    let covered = root.checkpoint.as_ref().map(|named| named.at);
    if let Some(at) = covered.filter(|at| (at.epoch, at.slot) < (root.floor.epoch, root.floor.slot)) {
        let expected = format!("a checkpoint at or beyond the floor at {}", root.floor);
        return Err(Stop::fault_at(laws::FLOOR, &object, "checkpoint", expected, at));
    }
    checks.held(laws::LINKED, "roots of lanes", 1);
    checks.held(laws::FLOOR, "floors and checkpoints", 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use catalog::Env;
    use schemas::{LaneId, Slot};

    use super::*;
    use crate::lane::Position;
    use crate::lane::heartbeat::Node;
    use crate::lane::root::{CheckpointRef, Closed};
    use crate::wal::LinkHash;

    fn place(epoch: u64, slot: u64) -> Position {
        Position { epoch: Epoch(epoch), slot: Slot(slot), hash: LinkHash::START }
    }

    /// Epoch 3, of which 1 is below the floor and 2 is closed at slot 7.
    fn root() -> Root {
        let env = Env::system();
        let mut root = Root::claimed(None, LaneId(0), &Node { id: env.uuid(), address: None }, &env);
        root.epoch = Epoch(3);
        root.state = State::Open;
        root.closed = vec![Closed { epoch: Epoch(2), seal_slot: Slot(7), hash: LinkHash::START }];
        root.floor = place(2, 4);
        root.checkpoint = Some(CheckpointRef { name: "c".into(), hash: "h".into(), at: place(3, 2) });
        root
    }

    #[test]
    fn a_root_as_owners_write_it_passes() {
        check(&root(), &mut Checks::default()).unwrap();
        let mut opening = root();
        (opening.epoch, opening.state) = (Epoch(5), State::Opening);
        check(&opening, &mut Checks::default()).unwrap();
    }

    type Spoil = fn(&mut Root);

    #[test]
    fn a_root_that_no_owner_wrote_is_found_and_the_part_named() {
        let spoil: [(&str, Spoil); 6] = [
            ("closed", |root| root.closed.insert(0, Closed { epoch: Epoch(0), ..root.closed[0] })),
            ("closed", |root| root.epoch = Epoch(4)),
            ("closed", |root| root.floor = place(1, 0)),
            ("floor", |root| root.floor = place(2, 8)),
            ("checkpoint", |root| root.checkpoint.as_mut().unwrap().at = place(2, 3)),
            ("checkpoint", |root| root.checkpoint.as_mut().unwrap().at = place(4, 0)),
        ];
        for (place, spoil) in spoil {
            let mut root = root();
            spoil(&mut root);
            let Err(Stop::Fault(fault)) = check(&root, &mut Checks::default()) else { panic!("{root:?} passed") };
            assert_eq!(fault.place, place, "{fault}");
        }
    }
}
