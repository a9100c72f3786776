//! Explores further than the tests do: minutes, not seconds. `make model` runs it.

use std::process::ExitCode;

use model::explore::explore;
use model::{Bounds, Flaw, Lane};

/// Each in turn; together they take some ten minutes and a few gigabytes.
const LONG: [(&str, Bounds); 6] = [
    ("two take-overs", Bounds::TESTED),
    ("three take-overs", Bounds { epochs: 4, flushes: 1, ..Bounds::TESTED }),
    ("two moves of the floor", Bounds { appends: 2, trims: 2, ..Bounds::TESTED }),
    ("a follower", Bounds { flushes: 1, follower: true, ..Bounds::TESTED }),
    ("refusals", Bounds { appends: 2, refusals: 2, ..Bounds::TESTED }),
    ("compactions and reads", Bounds { appends: 2, compactions: 1, reads: 1, ..Bounds::TESTED }),
];

fn main() -> ExitCode {
    let mut sound = true;
    for (what, bounds) in LONG {
        let explored = explore(Lane { bounds, flaw: None }, 2);
        println!("{what}: {explored}");
        sound &= explored.broken.is_empty() && explored.unseen.is_empty();
    }
    for flaw in Flaw::ALL {
        let bounds = Bounds { reads: 1, refusals: 1, follower: true, appends: 2, flushes: 1, ..Bounds::TESTED };
        let found = [Bounds::TESTED, bounds].map(|bounds| explore(Lane { bounds, flaw: Some(flaw) }, 1));
        let shortest = found.iter().flat_map(|explored| &explored.broken).min_by_key(|(_, steps)| steps.len());
        let Some((law, steps)) = shortest else {
            println!("without {flaw:?}: no law broken");
            sound = false;
            continue;
        };
        println!("without {flaw:?}, after {} steps: {law}", steps.len());
        steps.iter().enumerate().for_each(|(number, step)| println!("  {:2} {step}", number + 1));
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
