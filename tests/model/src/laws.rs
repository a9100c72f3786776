//! What must hold in every state, by the checker's numbers; and what must be seen at least once, else the bound proves nothing.

use std::collections::BTreeSet;

use stateright::Property;

use crate::lane::{Lane, State};
use crate::owner::{Owner, Phase};
use crate::store::{Body, Epoch, Event, Place, Root, Seq, Store};

type Condition = fn(&Lane, &State) -> bool;

fn always(law: &'static str, holds: Condition) -> Property<Lane> {
    Property::always(law, holds)
}

fn sometimes(sight: &'static str, seen: Condition) -> Property<Lane> {
    Property::sometimes(sight, seen)
}

/// The laws.
pub fn laws() -> Vec<Property<Lane>> {
    vec![
        always("I1 one content and one acknowledgement a slot", |_, state| {
            let places: BTreeSet<_> = state.acked.iter().map(|acked| acked.place).collect();
            places.len() == state.acked.len()
        }),
        always("I2 every acknowledged event is in the log or in the table", |_, state| {
            let log = Log::of(&state.store);
            let table = rows(&state.store);
            let logged = |seq, event| log.rows.iter().any(|row| (row.1, row.2) == (seq, event));
            let kept = |seq, event| logged(seq, event) || table.contains(&(seq, event));
            state.acked.iter().all(|acked| kept(acked.seq, acked.event))
        }),
        always("I3 no event is there twice", |_, state| {
            let events: Vec<Event> = view(&state.store).map(|(_, event)| event).collect();
            events.iter().collect::<BTreeSet<_>>().len() == events.len()
        }),
        always("I4 seqs are dense and agree with real time", |_, state| {
            view(&state.store).zip(1..).all(|((found, _), expected)| found == expected)
                && state.acked.iter().all(|acked| acked.seq > acked.after)
        }),
        always("I6 every link of the log holds", |_, state| {
            Log::of(&state.store).linked && state.owners.iter().all(|owner| owner.phase != Phase::Corrupt)
        }),
        always("I7 the floor is below checkpoint and watermark", |_, state| floor_holds(&state.store)),
        always("I8 flushes tile", |_, state| {
            let mut expected = 1;
            state.store.table.snapshots.iter().all(|snapshot| {
                let tiles = snapshot.from == expected;
                expected = snapshot.to();
                tiles
            })
        }),
        always("I13 every missing slot is below the floor", |_, state| Log::of(&state.store).whole),
        always("P3 a follower misses nothing", |_, state| !state.follower.missed),
        always("I5 a refusal is true", |_, state| !state.misled),
        always("P6 a view has no hole", |_, state| !state.torn),
        always("P6 the owner sees every acknowledged event", |_, state| {
            state.owners.iter().filter(|owner| owner.phase == Phase::Open).all(|owner| sees_all(owner, state))
        }),
    ]
}

/// What the bound must reach.
pub fn sights() -> Vec<Property<Lane>> {
    vec![
        sometimes("an event of the last epoch is acknowledged, and one of the first", |lane, state| {
            let acked = |epoch: Epoch| state.acked.iter().any(|acked| acked.place.0 == epoch);
            acked(1) && acked(lane.bounds.epochs)
        }),
        sometimes("a take-over dies half-way and the next one opens", |lane, state| {
            let opened =
                |epoch: Epoch| state.owners.get(usize::from(epoch - 1)).is_some_and(|o| o.phase == Phase::Open);
            lane.bounds.epochs < 3 || (opened(3) && matches!(state.owners[1].phase, Phase::Closing(_)))
        }),
        sometimes("an owner meets a SEAL and stops", |_, state| {
            state.owners.first().is_some_and(|owner| owner.phase == Phase::Stopped)
        }),
        sometimes("two owners have a commit under way at once", |lane, state| {
            let flushing = state.owners.iter().filter(|owner| owner.flush.is_some()).count();
            lane.bounds.flushes < 2 || flushing > 1
        }),
        sometimes("a fenced owner's put lands after its SEAL", |_, state| {
            let beyond = |place: &Place| state.store.root.closed(place.0).is_some_and(|seal| *place > seal);
            state.store.segments.keys().any(beyond)
        }),
        sometimes("the log is deleted up to a later epoch, SEALs apart", |lane, state| {
            let floor = state.store.root.floor.place;
            lane.bounds.trims == 0 || (floor.0 > 1 && state.store.segments.range(..floor).all(|(_, s)| is_seal(s.body)))
        }),
    ]
}

fn is_seal(body: Body) -> bool {
    matches!(body, Body::Seal(_))
}

/// The decided log from the floor on, as the root and the segments say.
struct Log {
    rows: Vec<(Place, Seq, Event)>,
    /// Nothing is missing below a SEAL that the root names.
    whole: bool,
    /// Each segment names the one before.
    linked: bool,
}

impl Log {
    fn of(store: &Store) -> Self {
        let Root { floor, epoch: current, .. } = &store.root;
        let mut log = Self { rows: Vec::new(), whole: true, linked: true };
        let mut link = floor.link;
        let Place(mut epoch, mut slot) = floor.place;
        while epoch <= *current {
            let place = Place(epoch, slot);
            let seal = store.root.closed(epoch);
            match store.segments.get(&place) {
                None if seal.is_none() => break,
                None => {
                    log.whole = false;
                    break;
                }
                Some(segment) => {
                    log.linked &= segment.before == link;
                    link = segment.link();
                    match segment.body {
                        Body::Event(seq, event) => log.rows.push((place, seq, event)),
                        Body::Seal(_) if seal == Some(place) => {}
                        // An epoch that is not closed yet is the end for now.
                        Body::Seal(_) => {
                            log.whole &= seal.is_none();
                            break;
                        }
                    }
                }
            }
            (epoch, slot) = if seal == Some(place) { (epoch + 1, 0) } else { (epoch, slot + 1) };
        }
        log
    }
}

/// True if the event at `seq` is in the log, decided, or in the table.
pub fn is_durable(store: &Store, seq: Seq) -> bool {
    seq < store.table.watermark || Log::of(store).rows.iter().any(|row| row.1 == seq)
}

/// The table's rows with their seqs.
fn rows(store: &Store) -> BTreeSet<(Seq, Event)> {
    let snapshots = store.table.snapshots.iter();
    snapshots.flat_map(|snapshot| (snapshot.from..).zip(snapshot.rows.iter().copied())).collect()
}

/// What a reader gets: the table in the order in which it was written, then the log from the watermark on.
fn view(store: &Store) -> impl Iterator<Item = (Seq, Event)> + '_ {
    let table = store.table.snapshots.iter().flat_map(|snapshot| (snapshot.from..).zip(snapshot.rows.iter().copied()));
    let log = Log::of(store).rows.into_iter().map(|(_, seq, event)| (seq, event));
    table.chain(log.filter(|(seq, _)| *seq >= store.table.watermark))
}

fn floor_holds(store: &Store) -> bool {
    let Root { floor, checkpoint, .. } = &store.root;
    let rows = Log::of(store).rows;
    let first = rows.first().map_or(checkpoint.next, |(_, seq, _)| *seq);
    let after = rows.iter().find(|(place, ..)| *place >= checkpoint.at.place);
    // The checkpoint counts what the log has up to there, no more.
    let exact = after.is_none_or(|(_, seq, _)| *seq == checkpoint.next);
    floor.place <= checkpoint.at.place && first <= store.table.watermark && exact
}

/// What a reader at `owner` sees is without a hole; and if nobody has taken the lane from it, all that was acknowledged.
fn sees_all(owner: &Owner, state: &State) -> bool {
    let watermark = state.store.table.watermark;
    let mut tail = owner.rows.iter().filter(|row| row.seq >= watermark).map(|row| row.seq);
    let dense = tail.by_ref().zip(watermark..).all(|(found, expected)| found == expected);
    let is_owner = owner.epoch == state.store.root.epoch;
    let seen = |seq: Seq| seq < watermark || owner.rows.iter().any(|row| row.seq == seq);
    dense && (!is_owner || state.acked.iter().all(|acked| seen(acked.seq)))
}
