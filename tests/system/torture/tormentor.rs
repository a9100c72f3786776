//! Does what the schedule says, and measures how long the topic takes no appends.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::cluster::{Cluster, Door};
use super::producer::Beat;
use super::schedule::Fault;
use super::tally::Tally;
use super::{ALIVE_AGAIN, LOAD_MS, STOP_MS};
use crate::crash::strike::Recovery;

/// How long a take-over takes as long as none has told.
const TAKE_OVER: Duration = Duration::from_millis(5);

pub(crate) struct Tormentor {
    pub(crate) cluster: Cluster,
    pulse: watch::Receiver<Beat>,
    random: StdRng,
    pub(crate) tally: Tally,
    /// When the owner was struck that nobody has acknowledged anything after yet, and how many faults there were since.
    outage: Option<(Instant, usize)>,
}

impl Tormentor {
    pub(crate) fn new(cluster: Cluster, pulse: watch::Receiver<Beat>, random: StdRng) -> Self {
        Self { cluster, pulse, random, tally: Tally::default(), outage: None }
    }

    /// Does all of them, and so many more plain kills that there are `kills` in all: not every take-over that was aimed at came.
    pub(crate) async fn run(&mut self, name: &str, faults: &[Fault], kills: usize) {
        let begun = Instant::now();
        self.beat(|beat| beat.acknowledged > 0).await;
        for (done, fault) in faults.iter().enumerate() {
            self.strike(*fault).await;
            if (done + 1) % 100 == 0 {
                let acknowledged = self.pulse.borrow().acknowledged;
                println!("{name}: {} faults after {:?}, {acknowledged} batches", done + 1, begun.elapsed());
            }
        }
        while self.tally.kills < kills {
            self.strike(Fault::Kill).await;
        }
        self.beat(|_| true).await;
    }

    async fn strike(&mut self, fault: Fault) {
        self.cluster.revive();
        sleep(Duration::from_millis(self.random.random_range(LOAD_MS))).await;
        match fault {
            Fault::Kill => self.kill_any().await,
            Fault::KillTakers(takers) => self.kill_takers(takers).await,
            Fault::Stop => {
                let place = self.victim();
                self.stop(place).await;
            }
            Fault::StopTaker => self.stop_taker().await,
        }
    }

    /// Two times out of three the process that acknowledges, else any.
    fn victim(&mut self) -> usize {
        let (any, owner) = (self.any(), self.owner());
        if self.random.random_ratio(2, 3) { owner } else { any }
    }

    fn any(&mut self) -> usize {
        self.random.random_range(0..self.cluster.places())
    }

    /// The process that acknowledged last.
    fn owner(&mut self) -> usize {
        let any = self.any();
        self.pulse.borrow().by.map_or(any, |door| door.place)
    }

    async fn kill_any(&mut self) {
        let place = self.victim();
        let struck = self.kill(place);
        // A process comes back at once, or only after another has taken over; alone, it must come back.
        let late = self.is_late();
        if !late {
            self.cluster.restart(place);
        }
        // One time in three the next fault comes before anybody has recovered from this one.
        if self.random.random_ratio(2, 3) {
            self.recovered(struck).await;
        }
        if late {
            self.cluster.restart(place);
        }
    }

    /// The owner, and then whoever begins to take over from it: a take-over dies half-way, once or twice in a row.
    async fn kill_takers(&mut self, takers: usize) {
        let owner = self.owner();
        self.cluster.mark();
        let mut struck = self.kill(owner);
        self.perhaps_restart(owner);
        for _ in 0..takers {
            let Some(taker) = self.taker(struck).await else { break };
            self.cluster.mark();
            struck = self.kill(taker);
            self.tally.takers_killed += 1;
            self.perhaps_restart(taker);
        }
        self.cluster.restart_all();
        self.recovered(struck).await;
    }

    /// The owner is killed; whoever begins to take over from it sleeps half-way, and another takes over from both.
    async fn stop_taker(&mut self) {
        let owner = self.owner();
        self.cluster.mark();
        let struck = self.kill(owner);
        self.perhaps_restart(owner);
        match self.taker(struck).await {
            Some(taker) => {
                self.tally.takers_stopped += 1;
                self.cluster.restart_all();
                self.stop(taker).await;
            }
            None => {
                self.cluster.restart_all();
                let place = self.victim();
                self.stop(place).await;
            }
        }
    }

    /// Waits until a process takes the lane over from the one that was struck, and then for some part of the time that this takes. `None` if a life that
    /// nobody struck acknowledges: the lane had changed hands before.
    async fn taker(&mut self, struck: Door) -> Option<usize> {
        let (begun, before) = (Instant::now(), self.pulse.borrow().acknowledged);
        loop {
            if let Some(taker) = self.cluster.taker() {
                let take_over = Recovery::mean(&self.cluster.recoveries).unwrap_or(TAKE_OVER);
                sleep(self.random.random_range(Duration::ZERO..take_over)).await;
                return Some(taker);
            }
            let beat = *self.pulse.borrow();
            if beat.acknowledged > before && beat.by != Some(struck) {
                return None;
            }
            self.check_alive(begun);
            self.cluster.revive();
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn stop(&mut self, place: usize) {
        let (begun, length) = (Instant::now(), Duration::from_millis(self.random.random_range(STOP_MS)));
        let struck = self.cluster.pause(place);
        self.struck(struck, begun);
        self.tally.stops += 1;
        let before = self.pulse.borrow().acknowledged;
        let another = |beat: &Beat| beat.by != Some(struck) && beat.acknowledged > before;
        if timeout(length, self.pulse.wait_for(another)).await.is_ok() {
            self.tally.taken_over_while_stopped += usize::from(self.outage.is_some());
            self.over();
        }
        sleep(length.saturating_sub(begun.elapsed())).await;
        let before = self.pulse.borrow().acknowledged;
        self.cluster.resume(place);
        self.beat(|beat| beat.acknowledged > before).await;
        self.over();
    }

    fn kill(&mut self, place: usize) -> Door {
        let begun = Instant::now();
        let struck = self.cluster.kill(place);
        self.struck(struck, begun);
        self.tally.kills += 1;
        struck
    }

    /// True if what was killed comes back only after another has taken over: half the times, unless there is no other.
    fn is_late(&mut self) -> bool {
        self.cluster.is_any_up() && self.random.random_ratio(1, 2)
    }

    fn perhaps_restart(&mut self, place: usize) {
        if !self.is_late() {
            self.cluster.restart(place);
        }
    }

    /// A process was struck: if it was the one that acknowledges, or if nobody does, nobody does from now on.
    fn struck(&mut self, struck: Door, when: Instant) {
        match &mut self.outage {
            Some((_, faults)) => *faults += 1,
            None if self.pulse.borrow().by == Some(struck) => self.outage = Some((when, 1)),
            None => {}
        }
    }

    /// Waits until another life than this one acknowledges.
    async fn recovered(&mut self, struck: Door) {
        let before = self.pulse.borrow().acknowledged;
        self.beat(|beat| beat.by != Some(struck) && beat.acknowledged > before).await;
        self.over();
    }

    /// Somebody acknowledges again.
    fn over(&mut self) {
        match self.outage.take() {
            Some((since, 1)) => self.tally.outages.add(since.elapsed()),
            Some((since, _)) => self.tally.long_outages.add(since.elapsed()),
            None => {}
        }
    }

    /// Waits for an acknowledgement; processes that end meanwhile are started again.
    async fn beat(&mut self, is_it: impl Fn(&Beat) -> bool) {
        let begun = Instant::now();
        while timeout(Duration::from_millis(200), self.pulse.wait_for(&is_it)).await.is_err() {
            self.cluster.revive();
            self.check_alive(begun);
        }
    }

    fn check_alive(&self, since: Instant) {
        let late = since.elapsed() > ALIVE_AGAIN;
        assert!(!late, "nothing was acknowledged for {ALIVE_AGAIN:?}:\n{}", self.cluster.said());
    }
}
