//! The figures of a run.

use std::time::Duration;

use super::Done;
use super::cluster::Cluster;
use crate::crash::strike::Recovery;

/// What was done, and what it cost.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    /// Stops of the owner during which another acknowledged.
    pub(crate) taken_over_while_stopped: usize,
    /// From each fault that struck the owner to the next acknowledgement of another life.
    pub(crate) outages: Outages,
}

/// Durations, for percentiles.
#[derive(Default)]
pub(crate) struct Outages(Vec<Duration>);

impl Outages {
    pub(crate) fn add(&mut self, outage: Duration) {
        self.0.push(outage);
    }

    fn percentile(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        self.0.get((self.0.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Tally {
    pub(crate) fn print(&mut self, name: &str, cluster: &Cluster, done: &Done) {
        let events = done.ledger.acknowledged();
        let duplicates: usize = done.produced.iter().map(|one| one.duplicates).sum();
        let broken: usize = done.produced.iter().map(|one| one.broken).sum();
        println!("{name}: {events} events acknowledged, 0 lost, 0 twice; {broken} append streams broke;");
        println!("{name}: {duplicates} batches had been appended before their answer was lost, and were recognised");
        println!(
            "{name}: {} SIGKILL, {} SIGSTOP ({} of them saw another take over); {} processes ended by themselves",
            self.kills,
            self.stops,
            self.taken_over_while_stopped,
            cluster.last_words.len()
        );
        for words in &cluster.last_words {
            println!("{name}: one ended by itself: {words}");
        }
        for (step, times) in &cluster.struck {
            match step {
                Some(step) => println!("{name}: {times} kills struck inside a {step}"),
                None => println!("{name}: {times} kills struck between"),
            }
        }
        let streams: usize = done.followed.iter().map(|one| one.streams).sum();
        println!(
            "{name}: {} subscribers over {streams} streams, {} whole replays of a key meanwhile",
            done.followed.len(),
            done.replays
        );
        let (times, p50, p99) = (self.outages.0.len(), self.outages.percentile(50), self.outages.percentile(99));
        println!("{name}: {times} outages, to the next acknowledgement p50 {p50:?}, p99 {p99:?}");
        println!("{name}: {}", Recovery::summary(&cluster.recoveries));
    }
}
