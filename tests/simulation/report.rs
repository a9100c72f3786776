//! Many seeds, each in a process of its own, and the table that says what they met.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use schemas::planted::Bug;
use serde::{Deserialize, Serialize};

use crate::faults::Fault;

/// Seeds, and operations of each client, where nobody wants others: what the usual tests have time for.
const SEEDS: u64 = 16;
const OPERATIONS: u64 = 100;
/// Every so many seeds, one is run twice.
const TWICE_EVERY: u64 = 20;
/// A planted bug must be found within so many seeds.
const SEEDS_PER_BUG: u64 = 100;

/// What became of one seed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    /// Laws that were broken.
    pub(crate) violations: Vec<String>,
    /// What the simulation itself could not do.
    pub(crate) failures: Vec<String>,
    pub(crate) fired: BTreeMap<String, u64>,
    pub(crate) operations: usize,
    pub(crate) acknowledged: usize,
    pub(crate) read: usize,
    /// By a condition that did not hold.
    pub(crate) refused: usize,
    pub(crate) unclear: usize,
    /// Hash of the whole trace.
    pub(crate) trace: String,
}

impl Outcome {
    /// No law was broken, and the simulation could do all that it wanted to.
    pub(crate) fn holds(&self) -> bool {
        self.violations.is_empty() && self.failures.is_empty()
    }
}

/// What the caller wants, from the environment.
#[derive(Clone, Debug)]
struct Wanted {
    seeds: std::ops::Range<u64>,
    clients: usize,
    operations: usize,
    jobs: usize,
    bug: Option<String>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How many held: a seed, a seed that did the same twice, a bug that was found.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, is_good: bool) {
        match is_good {
            true => self.passed += 1,
            false => self.failed += 1,
        }
    }
}

/// The last line, as Cargo's own tests have it.
pub(crate) fn result(passed: usize, failed: usize, filtered: usize, seconds: f64) {
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out; finished in {seconds:.2}s"
    );
}

/// Runs what the environment asks for: `SEED`, or `SEEDS` from `FIRST_SEED` on, with `CLIENTS` and `OPERATIONS`, with `PLANTED=1` then the planted
/// bugs, or one of them with `BUG`.
pub(crate) fn all() -> ExitCode {
    let first = number("FIRST_SEED").unwrap_or(1);
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("SEEDS").unwrap_or(SEEDS),
    };
    let clients = number("CLIENTS").unwrap_or(6) as usize;
    let operations = number("OPERATIONS").unwrap_or(OPERATIONS) as usize;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let wanted = Wanted { seeds, clients, operations, jobs, bug: std::env::var("BUG").ok() };
    if number("SEED").is_some() {
        return replay(&wanted);
    }
    let (begun, mut tally) = (uptime(), Tally::default());
    if !wanted.seeds.is_empty() {
        seeds_hold(&wanted, &mut tally);
    }
    if number("PLANTED") == Some(1) {
        bugs_are_found(&wanted, &mut tally);
    }
    result(tally.passed, tally.failed, 0, uptime() - begun);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One seed, its trace kept.
fn replay(wanted: &Wanted) -> ExitCode {
    let seed = wanted.seeds.start;
    let file = std::env::temp_dir().join(format!("firn-simulation-{seed}.trace"));
    let file = file.to_string_lossy().into_owned();
    match run(wanted, seed, wanted.bug.as_deref(), &file) {
        Ok(outcome) => {
            println!("{outcome:#?}\ntrace: {file}");
            if outcome.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed in a process of its own. Errors: it died without an outcome.
fn run(wanted: &Wanted, seed: u64, bug: Option<&str>, trace: &str) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--one", &seed.to_string(), &wanted.clients.to_string(), &wanted.operations.to_string(), trace]);
    command.args(bug);
    let Output { stdout, stderr, status } = command.output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&stdout);
    let outcome = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    outcome.ok_or_else(|| format!("seed {seed} died: {status}: {}", String::from_utf8_lossy(&stderr)))
}

/// Runs seeds on all processors, in whatever order they end, until `go_on` says no.
fn run_many(
    wanted: &Wanted,
    seeds: Vec<u64>,
    bug: Option<&str>,
    mut go_on: impl FnMut(u64, Result<Outcome, String>) -> bool,
) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let (sender, outcomes) = mpsc::sync_channel(wanted.jobs);
        for _ in 0..wanted.jobs {
            let (sender, next, seeds) = (sender.clone(), &next, &seeds);
            scope.spawn(move || {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    if sender.send((*seed, run(wanted, *seed, bug, ""))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (seed, outcome) in outcomes {
            if !go_on(seed, outcome) {
                break;
            }
        }
    });
}

/// No seed breaks a law, and those run twice do the same twice. Prints the table.
fn seeds_hold(wanted: &Wanted, tally: &mut Tally) {
    let begun = uptime();
    let (mut outcomes, mut twice) = (Vec::new(), Vec::new());
    let seeds: Vec<_> = wanted.seeds.clone().collect();
    run_many(wanted, seeds, None, |seed, outcome| {
        tally.count(outcome.as_ref().is_ok_and(Outcome::holds));
        match outcome {
            Ok(outcome) => {
                for what in outcome.violations.iter().chain(&outcome.failures) {
                    println!("seed {seed}: {what}");
                }
                if !outcome.holds() {
                    println!("  again: {}", again(wanted, seed));
                }
                outcomes.push(outcome);
            }
            Err(error) => println!("{error}\n  again: {}", again(wanted, seed)),
        }
        true
    });
    let repeated: Vec<_> = wanted.seeds.clone().filter(|seed| seed % TWICE_EVERY == 1).collect();
    run_many(wanted, repeated, None, |seed, outcome| {
        let first = outcomes.iter().find(|outcome| outcome.seed == seed).map(|outcome| outcome.trace.clone());
        let is_same = first.is_some() && first == outcome.ok().map(|outcome| outcome.trace);
        if !is_same {
            println!("seed {seed} did not do the same twice");
        }
        tally.count(is_same);
        twice.push(is_same);
        true
    });
    print(wanted, &outcomes, &twice, uptime() - begun);
}

fn again(wanted: &Wanted, seed: u64) -> String {
    format!("make simulate SEED={seed} CLIENTS={} OPERATIONS={}", wanted.clients, wanted.operations)
}

fn print(wanted: &Wanted, outcomes: &[Outcome], twice: &[bool], seconds: f64) {
    let sum = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).sum::<usize>();
    let broken = outcomes.iter().filter(|outcome| !outcome.violations.is_empty()).count();
    println!(
        "\n{} seeds × {} clients × {} operations in {seconds:.0} s",
        outcomes.len(),
        wanted.clients,
        wanted.operations
    );
    println!("  laws broken in             {broken} seeds");
    println!("  appends acknowledged       {}", sum(|outcome| outcome.acknowledged));
    println!("  linearizable reads         {}", sum(|outcome| outcome.read));
    println!("  refused by conditions      {}", sum(|outcome| outcome.refused));
    println!("  unclear answers            {}", sum(|outcome| outcome.unclear));
    println!("  the same twice             {} of {} seeds", twice.iter().filter(|same| **same).count(), twice.len());
    println!("  fault          runs with it   strokes");
    for fault in Fault::ALL {
        let times: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.fired.get(&fault.name())).collect();
        let share = 100.0 * times.len() as f64 / outcomes.len().max(1) as f64;
        println!("  {:<14} {share:>10.0} % {:>9}", fault.name(), times.into_iter().sum::<u64>());
    }
}

/// Every planted bug is found. Prints within how many seeds.
fn bugs_are_found(wanted: &Wanted, tally: &mut Tally) {
    println!("\n  planted bug               found");
    for bug in Bug::ALL {
        let name = format!("{bug:?}");
        if wanted.bug.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (mut tried, mut found) = (0, None);
        let seeds = (wanted.seeds.start..wanted.seeds.start + SEEDS_PER_BUG).collect();
        run_many(wanted, seeds, Some(&name), |seed, outcome| {
            tried += 1;
            // A law must have been broken: that a seed could not be run to its end shows nothing.
            match outcome {
                Ok(outcome) => {
                    outcome.failures.iter().for_each(|failure| println!("  {name}: seed {seed}: {failure}"));
                    found = outcome.violations.into_iter().next().map(|violation| (seed, violation));
                }
                Err(died) => println!("  {name}: {died}"),
            }
            found.is_none()
        });
        tally.count(found.is_some());
        match found {
            Some((seed, how)) => {
                let how: String = how.chars().take(110).collect();
                println!("  {name:<25} within {tried:>3} seeds (seed {seed}: {how})");
            }
            None => {
                println!("  {name:<25} NOT FOUND in {tried} seeds: {} BUG={name}", again(wanted, wanted.seeds.start))
            }
        }
    }
}

/// Seconds since the machine started. The usual clocks are the simulation's in this program.
fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}
