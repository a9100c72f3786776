//! Who runs the nodes: drops topics, sweeps tables, takes topics up again that stopped; and has to do with others who meddle with a table.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::distr::uniform::{SampleRange, SampleUniform};
use tokio::time::{Instant, sleep};

use crate::faults::Fault;
use crate::node::Failure;
use crate::outsider::{Meddling, Outsider};
use crate::wire::{Ask, Said, ask};
use crate::world::World;
use crate::{AILING, REMADE, TOPICS};

/// Its streams of randomness: for what it does, and for the one that meddles.
const STREAM: usize = 90;
const OUTSIDER: usize = 91;
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often it asks, all nodes in turn, while there are faults.
const ATTEMPTS_MAX: usize = 12;
/// After so long, a commit that was not answered is noticed.
const HANGS: Duration = Duration::from_millis(1_200);
/// After the last fault, a request that nobody waits for may land for so long.
const LATE_MAX: Duration = Duration::from_secs(13);

struct Operator {
    world: Arc<World>,
    outsider: Outsider,
}

pub(crate) async fn live(world: Arc<World>) -> turmoil::Result {
    let outsider = loop {
        match Outsider::open(&world, OUTSIDER).await {
            Ok(outsider) => break outsider,
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    };
    let operator = Operator { world: Arc::clone(&world), outsider };
    while !world.is_healed() {
        operator.watch(Duration::from_millis(operator.random(300..4_000))).await;
        match operator.random(0..10) {
            0..3 => operator.drop_topic().await,
            3..7 => {
                let topic = TOPICS[operator.random(0..TOPICS.len())];
                operator.sweep(topic.into()).await;
            }
            _ => operator.live_through_meddling().await,
        }
    }
    sleep(LATE_MAX).await;
    operator.resume().await;
    world.note(format_args!("the operator is done"));
    world.is_operated.store(true, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}

impl Operator {
    fn random<T: SampleUniform>(&self, range: impl SampleRange<T>) -> T {
        self.world.with_random(STREAM, |random| random.random_range(range))
    }

    /// Asks the nodes in turn until one has done it.
    async fn ask(&self, question: &Ask, attempts: usize) -> Option<Said> {
        let nodes = self.world.plan.nodes;
        let first = self.random(0..nodes);
        for attempt in 0..attempts * nodes {
            let node = (first + attempt) % nodes;
            let answer = ask(&format!("node-{node}"), question, PATIENCE).await;
            self.world.note(format_args!("the operator asks node-{node} {question:?} and is told {answer:?}"));
            match answer {
                Ok(said @ (Said::Done | Said::Dropped { .. })) => return Some(said),
                _ => sleep(Duration::from_millis(self.random(20..200))).await,
            }
        }
        None
    }

    /// For so long, sweeps each table that somebody has been trying to commit to for a while.
    async fn watch(&self, long: Duration) {
        let until = Instant::now() + long;
        while Instant::now() < until {
            let now = turmoil::sim_elapsed().unwrap_or_default();
            let hangs = self.world.unanswered.lock().take_if(|(_, since)| now > *since + HANGS);
            if let Some((topic, _)) = hangs {
                self.sweep(topic).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn sweep(&self, topic: String) {
        drop(self.ask(&Ask::Sweep { topic }, 1).await);
    }

    async fn drop_topic(&self) {
        if let Some(Said::Dropped { of }) = self.ask(&Ask::Drop { topic: REMADE.into() }, 2).await {
            let ended = self.world.moment();
            self.world.history.lock().dropped.push((of, ended));
        }
    }

    /// Others change a table; it is noticed, or not; it is put right, and the topic taken up again.
    async fn live_through_meddling(&self) {
        let plan = &self.world.plan;
        let kinds = [(Fault::RollBack, Meddling::RolledBack), (Fault::Replace, Meddling::Copied)];
        let (fault, how) = kinds[self.random(0..kinds.len())];
        if !plan.rates.contains_key(&fault) {
            return;
        }
        self.meddled(true);
        let done = match self.outsider.meddle(AILING, how).await {
            Ok(Some(done)) => done,
            Ok(None) => return self.meddled(false),
            Err(error) => {
                self.note(&error);
                return self.meddled(false);
            }
        };
        self.world.store.lock().count(fault);
        self.world.note(format_args!("{AILING} is {how:?}"));
        sleep(Duration::from_millis(self.random(0..3_000))).await;
        if self.random(0..2) == 0 {
            drop(self.ask(&Ask::Flush { topic: AILING.into() }, 1).await);
            sleep(Duration::from_millis(self.random(0..3_000))).await;
        }
        while let Err(error) = self.outsider.undo(&done).await {
            self.note(&error);
            sleep(Duration::from_millis(100)).await;
        }
        self.world.note(format_args!("{AILING} is as it was"));
        self.meddled(false);
        self.resume().await;
    }

    /// As long as it is so, the other engine leaves the table alone.
    fn meddled(&self, is_so: bool) {
        self.world.store.lock().objects.is_meddled = is_so;
    }

    async fn resume(&self) {
        drop(self.ask(&Ask::Resume { topic: AILING.into() }, ATTEMPTS_MAX).await);
    }

    fn note(&self, error: &Failure) {
        self.world.note(format_args!("an outsider failed: {error}"));
    }
}
