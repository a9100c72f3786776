//! What everything in one run shares: the seed's decisions, the store's contents, the trace, the history. One thread; the locks are for the types.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use catalog::env::{Env, Source};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use turmoil::net::TcpStream;

use crate::faults::{Fault, FaultStore};
use crate::history::History;
use crate::plan::Plan;
use crate::plots::{Doom, Plot};

/// One run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) store: Mutex<FaultStore>,
    pub(crate) history: Mutex<History>,
    /// Nodes that are told to take every lane over, whoever has it.
    pub(crate) rivals: Vec<AtomicBool>,
    /// What the other engine is to do next.
    pub(crate) orders: Mutex<Vec<Fault>>,
    /// Nodes whose process has ended by itself, and is started again.
    pub(crate) ended: Vec<AtomicBool>,
    /// How far each node's clock is off, microseconds.
    pub(crate) skews: Vec<AtomicI64>,
    /// What is being brought about.
    pub(crate) plot: Mutex<Plot>,
    /// Nodes that are to die.
    pub(crate) dooms: Mutex<Vec<Doom>>,
    /// The topic whose table was last to be changed by a commit that nobody was answered, and when.
    pub(crate) unanswered: Mutex<Option<(String, Duration)>>,
    /// Set once every fault has ended.
    pub(crate) is_healed: AtomicBool,
    /// Set once the operator has put everything right after that.
    pub(crate) is_operated: AtomicBool,
    /// What must not be, in words.
    violations: Mutex<Vec<String>>,
    /// What kept the simulation itself from going on: it says nothing of what it simulates.
    failures: Mutex<Vec<String>>,
    trace: Mutex<String>,
    moment: AtomicU64,
    /// Milliseconds since the begin, for what happens outside of any host.
    pub(crate) elapsed_ms: AtomicU64,
    randomness: Vec<Mutex<StdRng>>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let nodes = plan.nodes;
        let rng =
            |stream: u64| Mutex::new(StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000_003).wrapping_add(stream)));
        Arc::new(Self {
            store: Mutex::new(FaultStore::new(plan.seed, plan.rates.clone())),
            history: Mutex::default(),
            orders: Mutex::default(),
            rivals: (0..nodes).map(|_| AtomicBool::new(false)).collect(),
            ended: (0..nodes).map(|_| AtomicBool::new(false)).collect(),
            skews: (0..nodes).map(|_| AtomicI64::new(0)).collect(),
            plot: Mutex::default(),
            dooms: Mutex::default(),
            unanswered: Mutex::default(),
            is_healed: AtomicBool::new(false),
            is_operated: AtomicBool::new(false),
            violations: Mutex::default(),
            failures: Mutex::default(),
            trace: Mutex::default(),
            moment: AtomicU64::new(0),
            elapsed_ms: AtomicU64::new(0),
            randomness: (0..100).map(rng).collect(),
            plan,
        })
    }

    /// The next moment in the one true order of what happens.
    pub(crate) fn moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes down what happened. Two runs of one seed must write the same, byte for byte.
    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        let outside = || Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed));
        let at = turmoil::sim_elapsed().unwrap_or_else(outside);
        let mut trace = self.trace.lock();
        // Writing to a string cannot fail.
        let _ = writeln!(trace, "{:>6}.{:03} {what}", at.as_secs(), at.subsec_millis());
    }

    pub(crate) fn trace(&self) -> String {
        self.trace.lock().clone()
    }

    /// Something that must not be.
    pub(crate) fn violated(&self, what: String) {
        self.note(format_args!("VIOLATED {what}"));
        self.violations.lock().push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// Something that the simulation could not do.
    pub(crate) fn failed(&self, what: String) {
        self.note(format_args!("FAILED {what}"));
        self.failures.lock().push(what);
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.is_healed.load(Ordering::Relaxed)
    }

    /// True once every fault has ended, and the operator has put right what there was.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_operated.load(Ordering::Relaxed)
    }

    /// A generator that only `stream` uses. Streams of nodes go on where they were when the node crashed: nothing is drawn twice.
    pub(crate) fn with_random<T>(&self, stream: usize, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.randomness[stream].lock())
    }

    /// Time and randomness of a node.
    pub(crate) fn env(self: &Arc<Self>, node: usize) -> Env {
        Env::from_source(Arc::new(NodeEnv { world: Arc::clone(self), node }))
    }
}

#[derive(Debug)]
struct NodeEnv {
    world: Arc<World>,
    node: usize,
}

impl Source for NodeEnv {
    fn now_micros(&self) -> i64 {
        /// 2026-01-01.
        const BEGIN: i64 = 1_767_225_600_000_000;
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_micros() as i64;
        let skew = self.world.skews.get(self.node).map_or(0, |skew| skew.load(Ordering::Relaxed));
        BEGIN + elapsed + skew
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.world.with_random(self.node, |random| random.fill_bytes(&mut bytes));
        bytes
    }

    fn computes_inline(&self) -> bool {
        true
    }

    fn knock(&self, place: &str) -> BoxFuture<'static, io::Result<()>> {
        let place = place.to_owned();
        Box::pin(async move { TcpStream::connect(place).await.map(drop) })
    }
}
