//! Deterministic simulation: several nodes, clients and an S3 server in one thread, one seed a process, faults of every kind.
//!
//! ```text
//! make test                            some seeds, among all other tests
//! make simulate SEEDS=200              many seeds, each longer; prints a table
//! make simulate SEED=17                one again, with its trace in a file
//! ```
#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

mod audit;
mod client;
mod faults;
mod floor;
mod folder;
mod history;
mod judge;
mod network;
mod node;
mod objects;
mod operator;
mod others;
mod outsider;
mod plan;
mod plots;
mod power;
mod proof;
mod report;
mod run;
mod server;
mod stopped;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;

use plan::Plan;
use rand::SeedableRng;
use rand::rngs::StdRng;
use report::Outcome;
use schemas::planted::Bug;

/// Every so many seeds, a local folder is looked at as well.
const FOLDER_EVERY: u64 = 10;

/// The topics of every run: three of one tenant, and another's, which has the name of one of them.
const TOPICS: [&str; 4] = ["orders", AILING, REMADE, "acme/orders"];
/// The one whose table others meddle with, so that it stops.
const AILING: &str = "clicks";
/// The one that is dropped and made again.
const REMADE: &str = "visits";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--one") => one(&arguments.collect::<Vec<_>>()),
        // As Cargo's own tests would: `cargo test simulation`, `cargo test -- --list`.
        Some("--list") => {
            println!("simulation: test");
            ExitCode::SUCCESS
        }
        Some(filter) if !filter.starts_with('-') && !"simulation".contains(filter) => {
            report::result(0, 0, 1, 0.0);
            ExitCode::SUCCESS
        }
        _ => report::all(),
    }
}

/// One seed, in this process: `seed clients operations trace [bug]`. Prints its outcome as JSON, the last line of its output.
fn one(arguments: &[String]) -> ExitCode {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let seed = number(0);
    let bug = arguments.get(4).map(|name| {
        let bug = Bug::ALL.into_iter().find(|known| format!("{known:?}") == *name);
        bug.expect("a bug of this name")
    });
    if let Some(bug) = bug {
        schemas::planted::plant(bug);
    }
    if bug.is_some_and(|bug| folder::BUGS.contains(&bug)) {
        return tell(&Outcome { seed, violations: folder::look(seed), ..Outcome::default() });
    }
    // Whatever asks the machine for randomness gets the seed's: the order of hash maps, the client's jitter, Avro's marks.
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let clocks = mad_turmoil::time::SimClocksGuard::init();
    let panics = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |location| location.file());
        let is_ours = ["turmoil", "tests/simulation"].iter().any(|of| file.contains(of));
        seen.lock().push((is_ours, panic.to_string()));
    }));
    if std::env::var_os("LOGS").is_some() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    let world = run::run(Plan::new(seed, number(1) as usize, number(2) as usize));
    for (is_ours, panic) in panics.lock().drain(..) {
        match is_ours {
            true => world.failed(format!("the simulation panicked: {panic}")),
            false => world.violated(format!("a task panicked: {panic}")),
        }
    }
    // Only now: what a folder's store asks the machine for is not the seed's.
    drop(clocks);
    if bug.is_none() && seed.is_multiple_of(FOLDER_EVERY) {
        folder::look(seed).into_iter().for_each(|fault| world.violated(fault));
    }
    let trace = world.trace();
    if let Some(file) = arguments.get(3).filter(|file| !file.is_empty()) {
        std::fs::write(file, &trace).expect("a place for the trace");
    }
    let history = world.history.lock();
    let outcome = Outcome {
        seed,
        violations: world.violations(),
        failures: world.failures(),
        fired: world
            .store
            .lock()
            .fired()
            .iter()
            .map(|(fault, times)| (fault.name(), *times))
            .collect::<BTreeMap<_, _>>(),
        operations: history.operations.len(),
        acknowledged: history.count(|operation| matches!(operation.told, history::Told::Appended { .. })),
        read: history.count(|operation| matches!(operation.told, history::Told::Cut { .. })),
        refused: history.count(|operation| matches!(operation.told, history::Told::ConditionFailed { .. })),
        unclear: history.count(|operation| operation.told == history::Told::Unclear),
        trace: blake3::hash(trace.as_bytes()).to_hex().to_string(),
    };
    tell(&outcome)
}

/// Prints an outcome as the last line.
fn tell(outcome: &Outcome) -> ExitCode {
    println!("{}", serde_json::to_string(outcome).expect("an outcome is plain data"));
    if outcome.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
