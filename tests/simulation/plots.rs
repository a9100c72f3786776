//! What single strokes would hardly ever bring about: takers that die one after the other, and a taker whose SEAL comes when nobody needs it any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Method;
use rand::RngExt;

use crate::faults::Fault;
use crate::objects::{SEAL_BYTES, content, slot};
use crate::server::Asked;
use crate::world::World;

/// How long a plot waits for its next step.
const STEP_MAX: Duration = Duration::from_secs(15);
/// How long an owner that was replaced needs to notice.
const NOTICE: Duration = Duration::from_millis(1_200);
/// How long a taker that sleeps is away.
const SLEEP: Duration = Duration::from_secs(8);
/// How long the floor may need to pass an epoch.
const PASSING_MAX: Duration = Duration::from_secs(40);
/// The plots' stream of randomness.
const STREAM: usize = 92;

/// A node that is to die.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doom {
    pub(crate) at: Duration,
    pub(crate) node: usize,
    /// How long it stays dead.
    pub(crate) lasts: Duration,
}

/// The plot that is under way.
#[derive(Debug, Default)]
pub(crate) enum Plot {
    #[default]
    None,
    /// These nodes take the lanes over, one after the other; all but the last die as soon as they have claimed them.
    Deaths { takers: Vec<usize>, until: Duration },
    /// `taker` takes the lanes over, and its first SEAL is kept back until the floor has passed its place, and `follower` is kept from reading on there.
    /// `owner` does not learn of it until it has written to that place itself.
    Stale { taker: usize, follower: usize, owner: usize, seal: Option<Box<Seal>>, until: Duration },
}

/// A SEAL on its way.
#[derive(Debug)]
pub(crate) struct Seal {
    asked: Asked,
    lane: String,
    epoch: u64,
    slot: u64,
    is_taker_away: bool,
    /// When the owner is to take the lanes back: its own segment is at that place.
    take_back: Option<Duration>,
    is_taken_back: bool,
}

impl Plot {
    /// Begins one, if none is under way and there are nodes enough. Returns the owner whose lanes are taken.
    pub(crate) fn begin(&mut self, fault: Fault, world: &World, now: Duration) -> Option<usize> {
        let until = now + STEP_MAX;
        let owner = owner(world)?;
        let others: Vec<_> = (0..world.plan.nodes).filter(|node| *node != owner).collect();
        match (&*self, fault, &others[..]) {
            (Self::None, Fault::HalfTakeOver, [one]) => *self = Self::Deaths { takers: vec![*one; 3], until },
            (Self::None, Fault::HalfTakeOver, [one, other]) => {
                *self = Self::Deaths { takers: vec![*one, *other, *one], until };
            }
            (Self::None, Fault::StaleTaker, [taker, follower]) => {
                *self = Self::Stale { taker: *taker, follower: *follower, owner, seal: None, until };
            }
            _ => return None,
        }
        world.rivals[others[0]].store(true, Ordering::Relaxed);
        Some(owner)
    }

    /// True if this request never reaches the store, or not now.
    pub(crate) fn keeps_back(&mut self, from: &str, asked: &Asked) -> bool {
        let Self::Stale { taker, follower, owner, seal, .. } = self else { return false };
        let Some((lane, epoch, slot)) = slot(&asked.path) else {
            let is_root = |seal: &Seal| asked.path.strip_suffix("/root.json") == Some(&seal.lane);
            let is_asked = seal.as_ref().is_some_and(|seal| seal.take_back.is_none() && is_root(seal));
            return is_asked && asked.method == Method::GET && is_node(from, *owner);
        };
        match seal {
            None if asked.method == Method::PUT && asked.body.len() == SEAL_BYTES && is_node(from, *taker) => {
                let (asked, lane) = (asked.clone(), lane.to_owned());
                let (take_back, is_taker_away, is_taken_back) = (None, false, false);
                *seal = Some(Box::new(Seal { asked, lane, epoch, slot, is_taker_away, take_back, is_taken_back }));
                true
            }
            Some(seal) if asked.method == Method::GET && is_node(from, *follower) => {
                lane == seal.lane && epoch == seal.epoch && slot >= seal.slot
            }
            _ => false,
        }
    }

    /// A request was answered: a taker that has claimed a lane dies soon after, and the next is told.
    pub(crate) fn saw(&mut self, from: &str, asked: &Asked, world: &World, now: Duration) {
        let Self::Deaths { takers, .. } = self else { return };
        let is_claim = asked.method == Method::PUT && asked.path.ends_with("/root.json") && is_opening(&asked.body);
        let Some(taker) = takers.first().copied().filter(|taker| is_claim && is_node(from, *taker)) else { return };
        takers.remove(0);
        if let Some(next) = takers.first() {
            let after = world.with_random(STREAM, |random| random.random_range(0..60));
            world.store.lock().count(Fault::HalfTakeOver);
            let lasts = world.with_random(STREAM, |random| random.random_range(20..300));
            let doom =
                Doom { at: now + Duration::from_millis(after), node: taker, lasts: Duration::from_millis(lasts) };
            world.dooms.lock().push(doom);
            world.rivals[*next].store(true, Ordering::Relaxed);
        }
    }

    /// One step on, from outside of any host.
    pub(crate) fn act(&mut self, world: &World, now: Duration) {
        let is_over = match self {
            Self::None => return,
            Self::Deaths { takers, until } => takers.is_empty() || now > *until,
            Self::Stale { seal: None, until, .. } => now > *until,
            Self::Stale { taker, owner, seal: Some(seal), until, .. } => {
                if !std::mem::replace(&mut seal.is_taker_away, true) {
                    world.store.lock().count(Fault::StaleTaker);
                    world.dooms.lock().push(Doom { at: now, node: *taker, lasts: SLEEP });
                }
                match seal.take_back {
                    None => {
                        if world.store.lock().objects.get(&seal.asked.path).is_some() {
                            (seal.take_back, *until) = (Some(now + NOTICE), now + PASSING_MAX);
                        }
                        now > *until
                    }
                    Some(at) => {
                        if now >= at && !std::mem::replace(&mut seal.is_taken_back, true) {
                            world.rivals[*owner].store(true, Ordering::Relaxed);
                        }
                        seal.lands(world) || now > *until
                    }
                }
            }
        };
        if is_over {
            *self = Self::None;
        }
    }
}

impl Seal {
    /// Lets it land if its place is free again, and its epoch of no interest any more.
    fn lands(&self, world: &World) -> bool {
        let is_time = {
            let store = world.store.lock();
            let path = format!("{}/root.json", self.lane);
            let root = store.objects.get(&path).map(|object| content(&object.body)).unwrap_or_default();
            store.objects.get(&self.asked.path).is_none() && root["floor"]["epoch"].as_u64() > Some(self.epoch)
        };
        if is_time {
            let status = self.asked.act_in(world).status();
            world.note(format_args!("a stale SEAL comes to {}: {status}", self.asked.path));
        }
        is_time
    }
}

fn is_node(from: &str, node: usize) -> bool {
    from == format!("node-{node}")
}

fn is_opening(root: &[u8]) -> bool {
    content(root)["state"] == "opening"
}

/// The node that owns the lane whose root changed last.
fn owner(world: &World) -> Option<usize> {
    let store = world.store.lock();
    let root = content(&store.objects.roots.last()?.1);
    root["address"].as_str()?.strip_prefix("grpc://node-")?.split(':').next()?.parse().ok()
}
