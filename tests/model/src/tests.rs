use crate::explore::explore;
use crate::{Bounds, Flaw, Lane};

const TESTED: Bounds = Bounds::TESTED;

fn keeps_every_law(bounds: Bounds) {
    let explored = explore(Lane { bounds, flaw: None }, 2);
    println!("{bounds:?}: {explored}");
    assert!(explored.broken.is_empty() && explored.unseen.is_empty(), "{bounds:?}: {explored}");
}

#[test]
fn two_take_overs_break_no_law() {
    keeps_every_law(TESTED);
}

#[test]
fn a_floor_that_moves_twice_breaks_no_law() {
    keeps_every_law(Bounds { epochs: 2, trims: 2, ..TESTED });
}

#[test]
fn a_follower_that_falls_behind_misses_nothing() {
    keeps_every_law(Bounds { appends: 2, flushes: 1, follower: true, ..TESTED });
}

#[test]
fn compactions_by_others_and_reads_at_any_time_break_no_law() {
    keeps_every_law(Bounds { epochs: 2, appends: 2, compactions: 1, reads: 1, ..TESTED });
}

#[test]
fn a_refusal_is_true_whoever_owns_the_lane_by_then() {
    keeps_every_law(Bounds { flushes: 1, trims: 0, refusals: 1, ..TESTED });
}

/// The proof that the laws see: without any one rule of the protocol, one of them is broken.
#[test]
fn every_rule_is_needed() {
    for flaw in Flaw::ALL {
        let bounds = match flaw {
            // What only a reader of the log meets.
            Flaw::SealBelowFloorBelieved => Bounds { flushes: 1, follower: true, ..TESTED },
            Flaw::RefusedTooEarly | Flaw::RefusedByFenced => Bounds { refusals: 1, flushes: 0, trims: 0, ..TESTED },
            Flaw::TableBeforeTail => Bounds { reads: 1, ..TESTED },
            _ => TESTED,
        };
        let explored = explore(Lane { bounds, flaw: Some(flaw) }, 1);
        println!("without {flaw:?}: {explored}");
        assert!(!explored.broken.is_empty(), "{flaw:?} breaks no law within {bounds:?}: {explored}");
    }
}

#[test]
fn each_missing_rule_breaks_the_law_that_it_is_there_for() {
    let laws = |flaw| explore(Lane { bounds: TESTED, flaw: Some(flaw) }, 1).broken;
    for (flaw, law) in [
        (Flaw::NoSeal, "I2"),
        (Flaw::OnlyNewestSealed, "I2"),
        (Flaw::SealCollected, "I2"),
        (Flaw::TailFromCheckpoint, "P6"),
        (Flaw::CheckpointWithInFlight, "I7"),
        (Flaw::AckOutOfOrder, "I2"),
        (Flaw::AtOrBeyond, "I8"),
        (Flaw::RebaseOnConflict, "I3"),
        (Flaw::FloorBeforeReload, "I7"),
    ] {
        let broken = laws(flaw);
        assert!(broken.iter().any(|(name, _)| name.starts_with(law)), "without {flaw:?}: {broken:?}");
    }
}
