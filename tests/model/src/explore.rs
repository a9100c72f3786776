//! Exploring, and telling what came of it.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::Action;
use crate::lane::{Lane, State};

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    /// Distinct states.
    pub states: usize,
    /// Steps from the beginning to the farthest.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The laws that were broken, each with a shortest way there.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// What should have been seen and was not.
    pub unseen: Vec<&'static str>,
}

/// Visits every state within the bounds; if a rule is left out, only until a law is broken.
pub fn explore(lane: Lane, threads: usize) -> Explored {
    let begun = Instant::now();
    let checker = lane.checker().threads(threads).finish_when(match lane.flaw {
        None => HasDiscoveries::AllFailures,
        Some(_) => HasDiscoveries::AnyFailures,
    });
    let checker = checker.spawn_bfs().join();
    let mut discoveries = checker.discoveries();
    let (mut broken, mut unseen) = (Vec::new(), Vec::new());
    for Property { name, expectation, .. } in lane.properties() {
        match (expectation.discovery_is_failure(), discoveries.remove(name)) {
            (true, Some(path)) => broken.push((name, shortened(&lane, name, path.into_actions()))),
            (false, None) => unseen.push(name),
            _ => {}
        }
    }
    broken.sort_by_key(|(_, steps): &(_, Vec<Action>)| steps.len());
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    Explored { states, depth, took: begun.elapsed(), broken, unseen }
}

/// Without the steps that the end does not need. The checker goes breadth first, but a whole block of states at a time.
fn shortened(lane: &Lane, law: &str, mut steps: Vec<Action>) -> Vec<Action> {
    let properties = lane.properties();
    let Some(property) = properties.iter().find(|property| property.name == law) else { return steps };
    let breaks = |steps: &[Action]| replayed(lane, steps).is_some_and(|state| !(property.condition)(lane, &state));
    // From the end: a step is only needed by later ones.
    for at in (0..steps.len()).rev() {
        let without = [&steps[..at], &steps[at + 1..]].concat();
        if breaks(&without) {
            steps = without;
        }
    }
    steps
}

/// Where these steps lead, if each is possible.
fn replayed(lane: &Lane, steps: &[Action]) -> Option<State> {
    let mut state = lane.init_states().pop()?;
    let mut possible = Vec::new();
    for step in steps {
        possible.clear();
        lane.actions(&state, &mut possible);
        if !possible.contains(step) {
            return None;
        }
        state = lane.next_state(&state, *step)?;
    }
    Some(state)
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, depth {}, {:.1} s", self.states, self.depth, self.took.as_secs_f64())?;
        for (law, steps) in &self.broken {
            write!(f, "\n  broken after {} steps: {law}", steps.len())?;
            for (number, step) in steps.iter().enumerate() {
                write!(f, "\n    {:2} {step}", number + 1)?;
            }
        }
        self.unseen.iter().try_for_each(|sight| write!(f, "\n  never seen: {sight}"))
    }
}
