//! One run: hosts and network of a seed, a nemesis outside of them, and the judgement at the end.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt;
use turmoil::{Builder, Sim};

use crate::faults::Fault;
use crate::plan::Plan;
use crate::plots::Plot;
use crate::world::World;
use crate::{audit, client, judge, node, operator, proof, server};

/// What a step is: every host runs for as long, and no message takes less.
const TICK: Duration = Duration::from_millis(5);
/// Ports that connections go out from; those below are listened at.
const PORTS: RangeInclusive<u16> = 8_192..=65_535;
/// Faults end at the latest then, whether the clients are done or not.
const FAULTS_MAX: Duration = Duration::from_secs(600);
/// Longest that one of the nemesis's strokes lasts, milliseconds.
const STROKE_MAX_MS: u64 = 8_000;
/// The nemesis's stream of randomness.
const STREAM: usize = 99;

/// Runs a seed to its end.
pub(crate) fn run(plan: Plan) -> Arc<World> {
    let world = World::new(plan);
    let mut sim = Builder::new()
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(3_600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(10))
        .tcp_capacity(4096)
        // A port is a connection's for ever where the other side never hears that it ended: so many must not be needed in a run.
        .ephemeral_ports(PORTS)
        .enable_random_order()
        .rng_seed(world.plan.seed)
        .build();
    let shared = Arc::clone(&world);
    sim.host(server::HOST, move || server::serve(Arc::clone(&shared)));
    for number in 0..world.plan.nodes {
        let shared = Arc::clone(&world);
        sim.host(format!("node-{number}"), move || node::live(Arc::clone(&shared), number));
    }
    for number in 0..world.plan.clients {
        sim.client(format!("client-{number}"), client::live(Arc::clone(&world), number));
    }
    sim.client("operator", operator::live(Arc::clone(&world)));
    sim.client("judge", judge::live(Arc::clone(&world)));
    if let Err(error) = drive(&mut sim, &world) {
        world.failed(format!("the simulation ended: {error}"));
    }
    audit::look(&world);
    proof::prove(&world);
    world
}

/// Steps until everybody is done; the nemesis strikes in between, until the clients are.
fn drive(sim: &mut Sim<'_>, world: &Arc<World>) -> turmoil::Result {
    let mut nemesis = Nemesis { world, next: Duration::from_secs(1), ends: Vec::new() };
    loop {
        let is_done = sim.step()?;
        world.elapsed_ms.store(sim.elapsed().as_millis() as u64, Ordering::Relaxed);
        if is_done {
            return Ok(());
        }
        for (number, ended) in world.ended.iter().enumerate() {
            if ended.swap(false, Ordering::Relaxed) && sim.is_host_running(format!("node-{number}")) {
                sim.bounce(format!("node-{number}"));
            }
        }
        if world.is_healed() {
            continue;
        }
        let total = world.plan.clients * world.plan.operations;
        let is_over = world.history.lock().operations.len() >= total || sim.elapsed() > FAULTS_MAX;
        nemesis.act(sim, is_over);
        if is_over {
            world.store.lock().heal();
            world.is_healed.store(true, Ordering::Relaxed);
            world.note(format_args!("all faults end"));
        }
    }
}

/// Strikes hosts and links.
struct Nemesis<'a> {
    world: &'a Arc<World>,
    next: Duration,
    /// What ends when, and how.
    ends: Vec<(Duration, Stroke)>,
}

/// Something that was done to hosts, and is to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stroke {
    /// The node is dead.
    Dead(String),
    /// Messages between the two are held.
    Held(String),
    /// Messages between the two are lost.
    Cut(String, String),
    /// Messages from the first to the second are lost.
    CutOneWay(String, String),
    /// All messages may take long.
    Slow,
    /// Messages are lost on all links, now and then.
    Flaky,
}

impl Nemesis<'_> {
    fn act(&mut self, sim: &mut Sim<'_>, is_over: bool) {
        let now = sim.elapsed();
        let ended: Vec<_> =
            self.ends.extract_if(.., |(at, _)| is_over || *at <= now).map(|(_, stroke)| stroke).collect();
        for stroke in ended {
            self.undo(sim, stroke);
        }
        self.plot(sim, now, is_over);
        if !is_over && now >= self.next {
            let interval = self.world.plan.strike_interval_ms;
            let (wait, lasts) = self.random(|random| {
                let share = random.random::<f64>().powi(2);
                (random.random_range(interval / 2..interval * 2), 50 + (share * STROKE_MAX_MS as f64) as u64)
            });
            self.next = now + Duration::from_millis(wait);
            self.strike(sim, now + Duration::from_millis(lasts));
        }
    }

    fn random<T>(&self, draw: impl FnOnce(&mut rand::rngs::StdRng) -> T) -> T {
        self.world.with_random(STREAM, draw)
    }

    fn strike(&mut self, sim: &mut Sim<'_>, until: Duration) {
        let rates = &self.world.plan.rates;
        let kinds: Vec<_> =
            Fault::OUTSIDE.iter().filter_map(|fault| rates.get(fault).map(|rate| (*fault, *rate))).collect();
        let total: f64 = kinds.iter().map(|(_, rate)| rate).sum();
        let mut dice = self.random(|random| random.random::<f64>()) * total;
        let struck = kinds.into_iter().find(|(_, rate)| {
            dice -= rate;
            dice < 0.0
        });
        let Some((fault, _)) = struck else { return };
        let number = self.random(|random| random.random_range(0..self.world.plan.nodes));
        let node = format!("node-{number}");
        let stroke = match fault {
            Fault::Rival => {
                self.world.rivals[number].store(true, Ordering::Relaxed);
                None
            }
            Fault::ClockJump => {
                let jump = self.random(|random| random.random_range(-7_200_000_000..7_200_000_000));
                self.world.skews[number].store(jump, Ordering::Relaxed);
                None
            }
            Fault::HalfTakeOver | Fault::StaleTaker => return self.begin_plot(sim, fault, until),
            Fault::Rewrite | Fault::Expiry => {
                // Counted once it has happened.
                self.world.orders.lock().push(fault);
                return;
            }
            Fault::Crash => Some(Stroke::Dead(node)),
            Fault::Pause => Some(Stroke::Held(node)),
            Fault::Partition => Some(Stroke::Cut(node, server::HOST.into())),
            Fault::OneWay if self.random(|random| random.random()) => {
                Some(Stroke::CutOneWay(node, server::HOST.into()))
            }
            Fault::OneWay => Some(Stroke::CutOneWay(server::HOST.into(), node)),
            Fault::ClientCut => {
                let client = self.random(|random| random.random_range(0..self.world.plan.clients));
                Some(Stroke::Cut(format!("client-{client}"), node))
            }
            Fault::Flaky => Some(Stroke::Flaky),
            _ => Some(Stroke::Slow),
        };
        match stroke {
            Some(stroke) if !self.is_free_for(&stroke) => return,
            Some(stroke) => self.try_begin(sim, stroke, until),
            None => self.world.note(format_args!("strike {fault:?} at node-{number}")),
        }
        self.world.store.lock().count(fault);
    }

    /// Begins to bring something about; it is counted once it has come so far.
    fn begin_plot(&mut self, sim: &mut Sim<'_>, fault: Fault, until: Duration) {
        let owner = self.world.plot.lock().begin(fault, self.world, sim.elapsed());
        self.world.note(format_args!("plot {fault:?}: {owner:?}"));
        // An owner that hears nothing does not know that it was replaced.
        let is_deaf = fault == Fault::HalfTakeOver && self.random(|random| random.random());
        if let Some(owner) = owner.filter(|_| is_deaf) {
            self.try_begin(sim, Stroke::Held(format!("node-{owner}")), until);
        }
    }

    /// The next step of what is being brought about.
    fn plot(&mut self, sim: &mut Sim<'_>, now: Duration, is_over: bool) {
        if is_over {
            *self.world.plot.lock() = Plot::None;
            self.world.dooms.lock().clear();
        }
        self.world.plot.lock().act(self.world, now);
        let doomed: Vec<_> = self.world.dooms.lock().extract_if(.., |doom| doom.at <= now).collect();
        for doom in doomed {
            self.try_begin(sim, Stroke::Dead(format!("node-{}", doom.node)), now + doom.lasts);
        }
    }

    fn is_free_for(&self, stroke: &Stroke) -> bool {
        !self.ends.iter().any(|(_, other)| other.meets(stroke))
    }

    /// Begins it, unless another stands in its way.
    fn try_begin(&mut self, sim: &mut Sim<'_>, stroke: Stroke, until: Duration) {
        if self.is_free_for(&stroke) {
            self.begin(sim, &stroke);
            self.world.note(format_args!("strike {stroke:?} until {until:?}"));
            self.ends.push((until, stroke));
        }
    }

    fn begin(&self, sim: &mut Sim<'_>, stroke: &Stroke) {
        /// Share of messages after which a link is broken until the next one.
        const FAIL_RATE: f64 = 0.02;
        match stroke {
            Stroke::Dead(node) => sim.crash(node.as_str()),
            Stroke::Held(node) => self.others(node).iter().for_each(|other| sim.hold(node.as_str(), other.as_str())),
            Stroke::Cut(a, b) => sim.partition(a.as_str(), b.as_str()),
            Stroke::CutOneWay(from, to) => sim.partition_oneway(from.as_str(), to.as_str()),
            Stroke::Slow => sim.set_max_message_latency(Duration::from_millis(120)),
            Stroke::Flaky => sim.set_fail_rate(FAIL_RATE),
        }
    }

    fn undo(&self, sim: &mut Sim<'_>, stroke: Stroke) {
        self.world.note(format_args!("end of {stroke:?}"));
        match stroke {
            Stroke::Dead(node) => sim.bounce(node.as_str()),
            Stroke::Held(node) => {
                self.others(&node).iter().for_each(|other| sim.release(node.as_str(), other.as_str()));
            }
            Stroke::Cut(a, b) => sim.repair(a.as_str(), b.as_str()),
            Stroke::CutOneWay(from, to) => sim.repair_oneway(from.as_str(), to.as_str()),
            Stroke::Slow => sim.set_max_message_latency(Duration::from_millis(10)),
            Stroke::Flaky => sim.set_fail_rate(0.0),
        }
    }

    /// Everybody that a node speaks to, but for nodes that are held themselves.
    fn others(&self, node: &str) -> Vec<String> {
        let clients = (0..self.world.plan.clients).map(|number| format!("client-{number}"));
        let nodes = (0..self.world.plan.nodes).map(|number| format!("node-{number}"));
        let is_held = |node: &String| self.ends.iter().any(|(_, stroke)| *stroke == Stroke::Held(node.clone()));
        clients
            .chain(nodes.filter(|other| other != node && !is_held(other)))
            .chain([server::HOST.to_owned(), "operator".to_owned()])
            .collect()
    }
}

impl Stroke {
    /// True if the two would undo each other: one kind of stroke a link at a time.
    fn meets(&self, other: &Self) -> bool {
        self == other || self.hosts().iter().any(|host| other.hosts().contains(host))
    }

    fn hosts(&self) -> Vec<&str> {
        let hosts = match self {
            Self::Dead(node) | Self::Held(node) => vec![node.as_str()],
            Self::Cut(a, b) | Self::CutOneWay(a, b) => vec![a.as_str(), b.as_str()],
            Self::Slow => vec!["all"],
            Self::Flaky => vec!["links"],
        };
        hosts.into_iter().filter(|host| *host != server::HOST).collect()
    }
}
