//! The model: what can happen next, and what becomes of it.

use stateright::{Model, Property};

use crate::action::Action;
use crate::flaw::Flaw;
use crate::follower::Follower;
use crate::laws;
use crate::owner::{Acked, Owner, Phase};
use crate::store::{Body, Commit, Epoch, Place, Seq, Store};

/// How far to explore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Ownerships: one is the first, each further one a take-over.
    pub epochs: u8,
    /// Appends, in all.
    pub appends: u8,
    /// Puts in flight at once.
    pub flying: usize,
    /// Flushes, in all.
    pub flushes: u8,
    /// Moves of floor and checkpoint, in all.
    pub trims: u8,
    /// Compactions of the table by others.
    pub compactions: u8,
    /// Views taken by readers at an owner.
    pub reads: u8,
    /// Appends whose condition does not hold.
    pub refusals: u8,
    /// Whether somebody follows the log.
    pub follower: bool,
}

impl Bounds {
    /// Two take-overs, three events, two flushes: what the tests explore, about 2.5 million states.
    pub const TESTED: Self = Self {
        epochs: 3,
        appends: 3,
        flying: 2,
        flushes: 2,
        trims: 1,
        compactions: 0,
        reads: 0,
        refusals: 0,
        follower: false,
    };
}

/// The lane with everything around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What is durable, and requests under way to it.
    pub store: Store,
    /// By epoch, from 1.
    pub owners: Vec<Owner>,
    /// Who reads along.
    pub follower: Follower,
    /// Every acknowledgement, in order.
    pub acked: Vec<Acked>,
    /// A reader got a view with a hole.
    pub torn: bool,
    /// A refusal said what was not so.
    pub misled: bool,
    /// Appends so far: each is another event.
    pub appends: u8,
    flushes: u8,
    trims: u8,
    compactions: u8,
    reads: u8,
    refusals: u8,
}

/// The protocol to a bound, whole or with a rule left out.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// How far to explore.
    pub bounds: Bounds,
    /// What is left out.
    pub flaw: Option<Flaw>,
}

impl Lane {
    fn owner_actions(&self, state: &State, owner: &Owner, actions: &mut Vec<Action>) {
        let epoch = owner.epoch;
        let may_append = state.appends < self.bounds.appends && owner.flying.len() < self.bounds.flying;
        match owner.phase {
            Phase::Stopped | Phase::Corrupt => return,
            Phase::Closing(next) => {
                actions.push(if next < epoch { Action::Close(epoch) } else { Action::Open(epoch) });
                if self.flaw != Some(Flaw::WriteBeforeClosed) {
                    return;
                }
            }
            Phase::Open => {}
        }
        if may_append {
            actions.push(Action::Append(epoch));
        }
        let landed = |place: &Place| state.store.segments.contains_key(place);
        actions.extend(owner.unknown_slots().filter(landed).map(Action::Learn));
        if owner.phase != Phase::Open {
            return;
        }
        match owner.judged {
            Some(_) if owner.may_refuse(self.flaw) => actions.push(Action::Refuse(epoch)),
            None if state.refusals < self.bounds.refusals => actions.push(Action::Judge(epoch)),
            _ => {}
        }
        if owner.flush.is_none() && state.flushes < self.bounds.flushes && !owner.rows.is_empty() {
            actions.push(Action::Flush(epoch));
        }
        if owner.may_check(&state.store) {
            actions.push(Action::Check(epoch));
        }
        match owner.trim {
            Some(_) => actions.push(Action::Trim(epoch)),
            None if state.trims < self.bounds.trims => actions.push(Action::Measure(epoch)),
            None => {}
        }
        match owner.reader {
            Some(_) => actions.push(Action::Join(epoch)),
            None if state.reads < self.bounds.reads => actions.push(Action::Take(epoch)),
            None => {}
        }
    }

    fn may_land(&self, state: &State, commit: &Commit) -> bool {
        let rebased = self.flaw == Some(Flaw::RebaseOnConflict) && state.store.table.snapshots.len() < 4;
        rebased || state.store.table.version == commit.base
    }

    fn apply(&self, state: &mut State, action: Action) {
        let State { store, owners, acked, .. } = state;
        let of = |epoch: Epoch| usize::from(epoch - 1);
        match action {
            Action::Claim => owners.push(Owner::claim(store)),
            Action::Close(epoch) => {
                if let Phase::Closing(next) = owners[of(epoch)].phase {
                    owners[of(epoch)].close(next, store, self.flaw);
                }
            }
            Action::Open(epoch) => owners[of(epoch)].open(store),
            Action::Append(epoch) => {
                state.appends += 1;
                owners[of(epoch)].append(state.appends, last_acked(acked), store);
            }
            Action::Land(place) => {
                let segment = store.puts[&place];
                store.segments.insert(place, segment);
            }
            Action::Learn(place) => owners[of(place.0)].learn(place, store, acked, self.flaw),
            Action::Judge(epoch) => {
                state.refusals += 1;
                owners[of(epoch)].judge(last_acked(acked));
            }
            Action::Refuse(epoch) => {
                let durable = |seq| laws::is_durable(store, seq);
                state.misled |= !owners[of(epoch)].refuse(store, durable, self.flaw);
            }
            Action::Flush(epoch) => state.flushes += u8::from(owners[of(epoch)].flush(store, self.flaw)),
            Action::Commit(number) => {
                let commit = store.commits[number].clone();
                store.land(&commit, self.flaw == Some(Flaw::RebaseOnConflict));
            }
            Action::Check(epoch) => owners[of(epoch)].check(store),
            Action::Compact => {
                store.table.version += 1;
                state.compactions += 1;
            }
            Action::Measure(epoch) => {
                let owner = &mut owners[of(epoch)];
                owner.trim = owner.measure(store, self.flaw);
                state.trims += u8::from(owner.trim.is_some());
            }
            Action::Trim(epoch) => owners[of(epoch)].trim(store),
            Action::Collect => store.collect(self.flaw == Some(Flaw::SealCollected)),
            Action::Follow => state.follower = state.follower.step(store, self.flaw),
            Action::Take(epoch) => {
                owners[of(epoch)].take(store, self.flaw);
                state.reads += 1;
            }
            Action::Join(epoch) => state.torn |= !owners[of(epoch)].join(store),
        }
    }
}

fn last_acked(acked: &[Acked]) -> Seq {
    acked.iter().map(|acked| acked.seq).max().unwrap_or(0)
}

impl Model for Lane {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (store, follower) = Default::default();
        let (owners, acked) = Default::default();
        vec![State {
            store,
            owners,
            follower,
            acked,
            torn: false,
            misled: false,
            appends: 0,
            flushes: 0,
            trims: 0,
            compactions: 0,
            reads: 0,
            refusals: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let store = &state.store;
        if store.root.epoch < self.bounds.epochs {
            actions.push(Action::Claim);
        }
        for owner in &state.owners {
            self.owner_actions(state, owner, actions);
        }
        let free = |place: &Place| !store.segments.contains_key(place);
        actions.extend(store.puts.keys().copied().filter(free).map(Action::Land));
        let commits = store.commits.iter().enumerate().filter(|(_, commit)| self.may_land(state, commit));
        actions.extend(commits.map(|(number, _)| Action::Commit(number)));
        if state.compactions < self.bounds.compactions {
            actions.push(Action::Compact);
        }
        let is_garbage = |body: Body| self.flaw == Some(Flaw::SealCollected) || !matches!(body, Body::Seal(_));
        if store.segments.range(..store.root.floor.place).any(|(_, segment)| is_garbage(segment.body)) {
            actions.push(Action::Collect);
        }
        if self.bounds.follower && state.follower.step(store, self.flaw) != state.follower {
            actions.push(Action::Follow);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.apply(&mut next, action);
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = laws::laws();
        if self.flaw.is_none() {
            properties.extend(laws::sights());
        }
        properties
    }
}
