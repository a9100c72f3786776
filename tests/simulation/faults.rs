//! The store with its faults: which one strikes a request is drawn from the seed, and every stroke is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::objects::Objects;
use crate::plan::Rates;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A request fails (500), and nothing happens.
    Before,
    /// It happens, and is answered 500: the client's own retry meets what it wrote.
    After,
    /// It happens, and the connection breaks before the answer.
    Lost,
    /// A put is not answered, and happens later.
    Late,
    /// A commit to a table is not answered, and happens later.
    LateCommit,
    /// A put happens twice, once later.
    Doubled,
    /// A conditional put is answered 409, and nothing happens.
    Conflict,
    /// A conditional put happens, and is answered that it was there already.
    OwnExists,
    /// Never answered, and nothing happens.
    Hang,
    /// 503 to all, for a while.
    Storm,
    /// 503 and slowness under one prefix, for a while.
    HotSpot,
    /// 403 to all, for a while.
    Expired,
    /// Answered late.
    Slow,
    /// A list shows what was there a while ago.
    StaleList,
    /// One bit of what is read is another.
    BitFlip,
    /// What is read ends early.
    Truncation,
    /// Another object is read.
    Misdirected,
    /// A node dies, and comes back without memory.
    Crash,
    /// Nodes take over and die on the way, one after the other.
    HalfTakeOver,
    /// A taker sleeps with its SEAL on the way.
    StaleTaker,
    /// Another node is told to take over, whatever the owner believes.
    Rival,
    /// A node hears and says nothing for a while, then everything at once.
    Pause,
    /// Messages between a node and the store are lost, both ways.
    Partition,
    /// Messages between a node and the store are lost, one way.
    OneWay,
    /// A client and the nodes do not hear each other.
    ClientCut,
    /// A node's clock jumps.
    ClockJump,
    /// Messages take longer, each its own time.
    Delay,
    /// Messages are lost, here and there.
    Flaky,
    /// A producer's batch arrives twice, perhaps at two nodes.
    Twin,
    /// Another engine rewrites a table's manifests.
    Rewrite,
    /// Another engine expires a table's snapshots, all but the current one.
    Expiry,
    /// Others move a table back to an older snapshot, for a while.
    RollBack,
    /// Others put a copy in a table's place, for a while.
    Replace,
}

impl Fault {
    pub(crate) const ALL: [Self; 33] = [
        Self::Before,
        Self::After,
        Self::Lost,
        Self::Late,
        Self::LateCommit,
        Self::Doubled,
        Self::Conflict,
        Self::OwnExists,
        Self::Hang,
        Self::Storm,
        Self::HotSpot,
        Self::Expired,
        Self::Slow,
        Self::StaleList,
        Self::BitFlip,
        Self::Truncation,
        Self::Misdirected,
        Self::Crash,
        Self::HalfTakeOver,
        Self::StaleTaker,
        Self::Rival,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::ClientCut,
        Self::ClockJump,
        Self::Delay,
        Self::Flaky,
        Self::Twin,
        Self::Rewrite,
        Self::Expiry,
        Self::RollBack,
        Self::Replace,
    ];

    /// Those that the nemesis strikes with, from outside the store.
    pub(crate) const OUTSIDE: [Self; 13] = [
        Self::Crash,
        Self::HalfTakeOver,
        Self::StaleTaker,
        Self::Rival,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::ClientCut,
        Self::ClockJump,
        Self::Delay,
        Self::Flaky,
        Self::Rewrite,
        Self::Expiry,
    ];

    /// Usual rate: a share of the requests (of a producer's batches) that it can strike; weight among [`Self::OUTSIDE`].
    pub(crate) fn rate(self) -> f64 {
        match self {
            Self::Before | Self::After | Self::Lost => 0.005,
            Self::Late | Self::Doubled | Self::Conflict | Self::OwnExists => 0.01,
            Self::Hang | Self::Slow => 0.002,
            Self::Storm | Self::HotSpot | Self::Expired => 0.000_5,
            Self::StaleList => 0.3,
            Self::BitFlip | Self::Truncation | Self::Misdirected => 0.004,
            Self::Twin | Self::LateCommit => 0.05,
            Self::Crash | Self::Rival => 3.0,
            Self::HalfTakeOver | Self::StaleTaker | Self::Rewrite | Self::Expiry => 1.5,
            // The operator has to do with them or not.
            Self::RollBack | Self::Replace => 1.0,
            Self::Pause | Self::Partition | Self::OneWay | Self::ClientCut | Self::ClockJump => 1.0,
            Self::Delay | Self::Flaky => 1.0,
        }
    }

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }

    fn strikes(self, request: Request) -> bool {
        use Request::{Commit, List, Put, PutIf, ReadLog};
        match self {
            Self::Before | Self::After | Self::Lost | Self::Hang | Self::Slow => true,
            Self::Storm | Self::HotSpot | Self::Expired => true,
            Self::Late | Self::Doubled => matches!(request, Put | PutIf | Commit),
            Self::Conflict | Self::OwnExists => matches!(request, PutIf | Commit),
            Self::LateCommit => request == Commit,
            Self::StaleList => request == List,
            // What Iceberg's own formats do not check is not struck: their readers could not tell.
            Self::BitFlip | Self::Truncation | Self::Misdirected => request == ReadLog,
            _ => false,
        }
    }
}

/// What kind of request it is, as far as faults care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Put,
    PutIf,
    /// A conditional put of a table's pointer.
    Commit,
    Read,
    /// Of a segment, a checkpoint or a register.
    ReadLog,
    List,
    Other,
}

/// Objects, and the faults that stand before them.
#[derive(Debug)]
pub(crate) struct FaultStore {
    pub(crate) objects: Objects,
    rates: Rates,
    random: StdRng,
    fired: BTreeMap<Fault, u64>,
    storm_until: Duration,
    expired_until: Duration,
    hot: Option<(String, Duration)>,
    has_faults: bool,
}

impl FaultStore {
    pub(crate) fn new(seed: u64, rates: Rates) -> Self {
        Self {
            objects: Objects::default(),
            rates,
            random: StdRng::seed_from_u64(seed ^ 0xFA17),
            fired: BTreeMap::new(),
            storm_until: Duration::ZERO,
            expired_until: Duration::ZERO,
            hot: None,
            has_faults: true,
        }
    }

    /// No fault from here on.
    pub(crate) fn heal(&mut self) {
        self.has_faults = false;
    }

    /// What strikes this request, if anything does.
    pub(crate) fn draw(&mut self, request: Request, path: &str, now: Duration) -> Option<Fault> {
        if !self.has_faults {
            return None;
        }
        if now < self.storm_until {
            return Some(Fault::Storm);
        }
        if now < self.expired_until {
            return Some(Fault::Expired);
        }
        if self.hot.as_ref().is_some_and(|(prefix, until)| now < *until && path.starts_with(prefix)) {
            return Some(Fault::HotSpot);
        }
        let dice: f64 = self.random.random();
        let mut below = 0.0;
        let rates = self.rates.iter().filter(|(fault, _)| fault.strikes(request));
        let struck = rates.map(|(fault, rate)| (*fault, *rate)).find(|(_, rate)| {
            below += rate;
            dice < below
        });
        let (fault, _) = struck?;
        let lasts = Duration::from_millis(self.random.random_range(100..4_000));
        match fault {
            Fault::Storm => self.storm_until = now + lasts,
            Fault::Expired => self.expired_until = now + lasts,
            Fault::HotSpot => {
                let prefix: Vec<_> = path.split('/').take(3).collect();
                self.hot = Some((prefix.join("/"), now + lasts));
            }
            _ => {}
        }
        self.count(fault);
        Some(fault)
    }

    /// True if a fault that is not the store's own strikes.
    pub(crate) fn befalls(&mut self, fault: Fault) -> bool {
        let rate = self.rates.get(&fault).copied().filter(|_| self.has_faults).unwrap_or_default();
        let strikes = rate > 0.0 && self.random.random_bool(rate.min(1.0));
        if strikes {
            self.count(fault);
        }
        strikes
    }

    /// A stroke.
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.fired.entry(fault).or_default() += 1;
    }

    pub(crate) fn fired(&self) -> &BTreeMap<Fault, u64> {
        &self.fired
    }

    /// A pause of up to `max_ms`, often short.
    pub(crate) fn pause(&mut self, max_ms: u64) -> Duration {
        let share = self.random.random::<f64>().powi(2);
        Duration::from_millis(1 + (share * max_ms as f64) as u64)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound.max(1))
    }
}
