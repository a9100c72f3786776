//! The flusher's task: what is under way, what failed and waits, who waits for what.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::table::FlushRows;
use schemas::{ErrorKind, TopicId, Watermark};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::decide;
use super::{Command, Parts};
use crate::error::{IngestError, Result};
use crate::tail::{Cut, TopicLoad};

/// Flushes at once: while one waits for the store, another sorts and encodes.
const FLUSHES_AT_ONCE: usize = 2;
/// How often the tails are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a topic waits after its first failure; doubled by each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// How long it waits at most.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The state of the flusher's task.
#[derive(Debug)]
pub(super) struct Run {
    parts: Arc<Parts>,
    jobs: JoinSet<Result<()>>,
    busy: HashMap<Id, TopicId>,
    failing: HashMap<TopicId, Failing>,
    waiters: Vec<Waiter>,
    /// Topics that keep the log from being trimmed.
    hurried: BTreeSet<TopicId>,
    /// Topics that refuse appends until their tables can be written again.
    held_up: HashSet<TopicId>,
}

/// A topic whose last flush failed.
#[derive(Debug)]
struct Failing {
    times: u32,
    not_before: Instant,
    error: IngestError,
}

/// Somebody who waits until topics are in their tables up to a seq.
#[derive(Debug)]
struct Waiter {
    missing: HashMap<TopicId, Watermark>,
    reply: oneshot::Sender<Result<()>>,
}

impl Run {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self {
            parts,
            jobs: JoinSet::new(),
            busy: HashMap::new(),
            failing: HashMap::new(),
            waiters: Vec::new(),
            hurried: BTreeSet::new(),
            held_up: HashSet::new(),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.jobs.join_next_with_id() => self.ended(ended),
                Some(command) = commands.recv() => match command {
                    Command::Flush { topic, reply } => self.wanted(topic, reply),
                    Command::Hurry { topics } => self.hurried.extend(topics),
                },
                _ = look.tick() => {}
            }
            let loads = self.parts.tails.loads();
            self.answer(&loads);
            self.hold_up(&loads);
            self.start_due(loads);
        }
    }

    /// Starts what is due, as far as there is room for.
    fn start_due(&mut self, mut loads: Vec<TopicLoad>) {
        let room = FLUSHES_AT_ONCE.saturating_sub(self.jobs.len());
        if room == 0 {
            return;
        }
        let (now, busy) = (Instant::now(), self.busy.values().copied().collect::<HashSet<_>>());
        loads.retain(|load| {
            let waits = self.failing.get(&load.def.id).is_some_and(|failing| now < failing.not_before);
            load.stopped.is_none() && !waits && !busy.contains(&load.def.id)
        });
        let wanted = |topic: &TopicId| {
            self.hurried.contains(topic) || self.waiters.iter().any(|waiter| waiter.missing.contains_key(topic))
        };
        let due = decide(&loads, wanted, self.parts.env.now_micros(), &self.parts.settings);
        let due = due.into_iter().filter(|due| !due.can_wait || self.parts.pace.take());
        for topic in due.map(|due| due.topic).take(room).collect::<Vec<_>>() {
            let job = self.jobs.spawn(flush(Arc::clone(&self.parts), topic));
            self.busy.insert(job.id(), topic);
            self.hurried.remove(&topic);
        }
    }

    /// Notes what became of a flush.
    fn ended(&mut self, ended: std::result::Result<(Id, Result<()>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                (error.id(), Err(IngestError::new(ErrorKind::Internal, format!("the flush ended badly: {error}"))))
            }
        };
        let Some(topic) = self.busy.remove(&id) else { return };
        let Err(error) = result else {
            self.failing.remove(&topic);
            return;
        };
        metrics::counter!("firn_flush_failures_total", "kind" => error.kind().name()).increment(1);
        if error.kind().is_retryable() {
            let first = || Failing { times: 0, not_before: Instant::now(), error: error.clone() };
            let failing = self.failing.entry(topic).or_insert_with(first);
            let backoff = BACKOFF_MIN.saturating_mul(1 << failing.times.min(16)).min(BACKOFF_MAX);
            failing.times += 1;
            failing.not_before = Instant::now() + backoff;
            failing.error = error.clone();
            tracing::warn!(%topic, %error, times = failing.times, "a flush failed and will be tried again");
        } else {
            tracing::error!(%topic, %error, "the topic stops: its table needs an operator");
            let reason = format!("topic {topic} takes no appends, since its table cannot be written: {error}");
            self.parts.tails.stop_topic(&topic, IngestError::new(error.kind(), reason));
            self.failing.remove(&topic);
        }
        self.fail_waiters(&topic, &error);
    }

    /// Topics whose tables cannot be written for now, and which together hold more than half of the room, take no appends until that changes: else they
    /// would fill all of it, and every other topic would wait for a table that is not its own.
    fn hold_up(&mut self, loads: &[TopicLoad]) {
        if self.failing.is_empty() && self.held_up.is_empty() {
            return;
        }
        let fails = |load: &&TopicLoad| load.stopped.is_none() && self.failing.contains_key(&load.def.id);
        let held: u64 = loads.iter().filter(fails).map(|load| load.bytes).sum();
        let is_full = held > self.parts.settings.tail_bytes_max / 2;
        let failing: Vec<_> = loads.iter().filter(|load| is_full && fails(load)).map(|load| &load.def).collect();
        let tails = &self.parts.tails;
        for topic in self.held_up.extract_if(|held| !failing.iter().any(|def| def.id == *held)) {
            tails.hold_up(&topic, None);
        }
        for def in failing {
            let Some(Failing { error, .. }) = self.failing.get(&def.id) else { continue };
            if self.held_up.insert(def.id) {
                let message = format!(
                    "topic {} takes no appends for now: its table cannot be written, and what waits for that fills half of the tails' room; retry ({error})",
                    def.name
                );
                tails.hold_up(&def.id, Some(IngestError::new(ErrorKind::Overloaded, message)));
            }
        }
    }

    fn fail_waiters(&mut self, topic: &TopicId, error: &IngestError) {
        for waiter in self.waiters.extract_if(.., |waiter| waiter.missing.contains_key(topic)) {
            // Nobody may be waiting any more.
            let _ = waiter.reply.send(Err(error.clone()));
        }
    }

    /// Somebody asks for a flush: notes how far each topic has to come.
    fn wanted(&mut self, topic: Option<TopicId>, reply: oneshot::Sender<Result<()>>) {
        let loads = self.parts.tails.loads();
        let asked = loads.into_iter().filter(|load| topic.is_none_or(|topic| topic == load.def.id));
        let mut missing = HashMap::new();
        for load in asked.filter(|load| load.next > load.watermark.0) {
            match load.stopped {
                None => {}
                // The others go on: all means all that can be.
                Some(_) if topic.is_none() => continue,
                Some(reason) => {
                    let _ = reply.send(Err(reason));
                    return;
                }
            }
            // Asked for by name: no reason to wait until the store has had its rest.
            self.failing.remove(&load.def.id);
            missing.insert(load.def.id, Watermark(load.next));
        }
        self.waiters.push(Waiter { missing, reply });
    }

    /// Answers those whose topics have arrived. A topic that was dropped meanwhile has nothing left to wait for.
    fn answer(&mut self, loads: &[TopicLoad]) {
        if self.waiters.is_empty() {
            return;
        }
        let watermarks: HashMap<_, _> = loads.iter().map(|load| (load.def.id, load.watermark)).collect();
        for waiter in &mut self.waiters {
            waiter.missing.retain(|topic, wanted| watermarks.get(topic).is_some_and(|reached| *reached < *wanted));
        }
        for waiter in self.waiters.extract_if(.., |waiter| waiter.missing.is_empty()) {
            let _ = waiter.reply.send(Ok(()));
        }
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
    }
}

/// Moves the oldest rows of one topic to its table.
async fn flush(parts: Arc<Parts>, topic: TopicId) -> Result<()> {
    // A tail that flush lags far behind goes in several commits: each is sorted in memory.
    let Some((def, cut)) = parts.tails.cut(&topic, parts.settings.flush_bytes.saturating_mul(2)) else { return Ok(()) };
    let begun = Instant::now();
    let oldest = parts.tails.load(&topic).and_then(|load| load.oldest_micros);
    let age_micros = oldest.map_or(0, |oldest| parts.env.now_micros().saturating_sub(oldest).max(0));
    let (lane, epoch) = (parts.lane, parts.epoch);
    let Cut { from, to, batches } = cut;
    let table = parts.tables.flush(&def, FlushRows { from, to, batches: &batches, lane, epoch }).await?;
    let watermark = table.watermark();
    if watermark.0 <= from {
        let message = format!("flush of {}: expected a watermark above {from}, found {watermark}", def.name);
        return Err(IngestError::new(ErrorKind::Internal, message));
    }
    // Trimming gives their room to others: they must be gone by then.
    drop(batches);
    parts.tails.trim(&topic, watermark);
    metrics::histogram!("firn_flush_age_seconds").record(age_micros as f64 / 1e6);
    metrics::histogram!("firn_flush_seconds").record(begun.elapsed().as_secs_f64());
    metrics::counter!("firn_flushed_events_total").increment((to.0 - from.0) as u64);
    if parts.moved.send((topic, watermark)).await.is_err() {
        tracing::debug!("the lane has ended; nobody needs to know of the watermark");
    }
    Ok(())
}
