//! The figures of a run.

use std::fmt;
use std::time::Duration;

use super::Done;
use super::cluster::Cluster;
use super::producer::Produced;
use crate::crash::strike::Recovery;

/// What was done, and what it cost.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) kills: usize,
    pub(crate) stops: usize,
    /// Kills and stops of a process that had just begun to take the lane over.
    pub(crate) takers_killed: usize,
    pub(crate) takers_stopped: usize,
    /// Stops of the owner during which another acknowledged.
    pub(crate) taken_over_while_stopped: usize,
    /// From a fault that struck the owner to the next acknowledgement, if there was no other fault between.
    pub(crate) outages: Outages,
    /// The same from the first of several faults.
    pub(crate) long_outages: Outages,
}

/// Durations, for percentiles.
#[derive(Default)]
pub(crate) struct Outages(Vec<Duration>);

impl Outages {
    pub(crate) fn add(&mut self, outage: Duration) {
        self.0.push(outage);
    }
}

impl fmt::Display for Outages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(place).copied().unwrap_or_default()
        };
        let [p50, p99, most] = [50, 99, 100].map(percentile);
        write!(f, "{}; to the next acknowledgement p50 {p50:.2?}, p99 {p99:.2?}, most {most:.2?}", sorted.len())
    }
}

impl Tally {
    pub(crate) fn print(&self, name: &str, cluster: &Cluster, done: &Done) {
        let say = |text: String| println!("{name}: {text}");
        let sum = |of: fn(&Produced) -> usize| done.produced.iter().map(of).sum::<usize>();
        let events = done.ledger.acknowledged();
        say(format!("{events} events acknowledged, seqs 1 to {events}, 0 lost, 0 twice"));
        say(format!(
            "{} append streams broke; {} batches were sent again, {} of them had been appended before and were recognised",
            sum(|one| one.broken),
            sum(|one| one.resent),
            sum(|one| one.duplicates)
        ));
        say(format!(
            "{} SIGKILL, {} of them aimed at a take-over; {} SIGSTOP, {} of them aimed at a take-over, {} saw another take over",
            self.kills, self.takers_killed, self.stops, self.takers_stopped, self.taken_over_while_stopped
        ));
        for (step, times) in &cluster.struck {
            match step {
                Some(step) => say(format!("{times} kills struck inside a {step}")),
                None => say(format!("{times} kills struck between")),
            }
        }
        say(format!("{} processes ended by themselves", cluster.last_words.len()));
        for words in &cluster.last_words {
            say(format!("one ended by itself: {words}"));
        }
        let streams: usize = done.followed.iter().map(|one| one.streams).sum();
        let (subscribers, replays) = (done.followed.len(), done.replays);
        say(format!("{subscribers} subscribers over {streams} streams, {replays} whole replays of a key meanwhile"));
        say(format!("outages by one fault: {}", self.outages));
        say(format!("outages by several in a row: {}", self.long_outages));
        say(Recovery::summary(&cluster.recoveries));
    }
}
