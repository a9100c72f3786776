//! The tails: acknowledged events in memory, by topic, until they are in their tables.
//!
//! The lane's task pushes decided batches, the flusher trims, readers take snapshots. Each topic has a lock of its own that is held for a few
//! clones of an `Arc`, at most for merging some small chunks; never across an await.

mod budget;
mod chunks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use catalog::Env;
use catalog::view::{Tail, TailSnapshot};
use parking_lot::{Mutex, RwLock};
use schemas::conform::{absent, conform_batch};
use schemas::{Seq, TopicDef, TopicId, Watermark};
use tokio::sync::watch;

pub(crate) use self::budget::Permit;
pub(crate) use self::chunks::Cut;

use self::budget::Budget;
use self::chunks::Chunks;
use crate::engine::{Standing, TopicStatus};
use crate::error::{IngestError, Result};

/// The tails of every topic that this process holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tails {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    env: Env,
    budget: Arc<Budget>,
    topics: RwLock<HashMap<TopicId, Arc<Mutex<TopicTail>>>>,
    /// Changes whenever a topic stops.
    stops: watch::Sender<u64>,
}

#[derive(Debug)]
struct TopicTail {
    /// The newest version that is decided; all chunks have its schema.
    def: Arc<TopicDef>,
    event: SchemaRef,
    chunks: Chunks,
    next: watch::Sender<Seq>,
    stopped: Option<IngestError>,
    /// What it holds has been copied out of the log.
    parked: bool,
    /// Why it refuses appends for now, if it does.
    held_up: Option<IngestError>,
    /// It takes no room from the others: it stopped, or was dropped while somebody still had it in hand.
    exempt: bool,
}

/// What a topic's tail holds that is not in its table.
#[derive(Clone, Debug)]
pub(crate) struct TopicLoad {
    /// The topic.
    pub(crate) def: Arc<TopicDef>,
    /// First seq that is not in the table.
    pub(crate) watermark: Watermark,
    /// The seq after the last decided event.
    pub(crate) next: Seq,
    /// Arrow bytes held.
    pub(crate) bytes: u64,
    /// When the oldest of it was pushed; `None` if there is nothing.
    pub(crate) oldest_micros: Option<i64>,
    /// Why it no longer goes to its table, if it does not.
    pub(crate) stopped: Option<IngestError>,
}

impl Tails {
    /// No topics yet. `budget_bytes`: what all tails together may hold before appends wait.
    pub(crate) fn new(budget_bytes: u64, env: Env) -> Self {
        let topics = RwLock::new(HashMap::new());
        Self {
            shared: Arc::new(Shared { env, budget: Budget::new(budget_bytes), topics, stops: watch::Sender::new(0) }),
        }
    }

    /// Holds a topic from now on: an empty tail whose first event will have seq `next`. A topic that is held already gets the new definition, if it is
    /// newer, and what is held of it the new schema.
    pub(crate) fn add_topic(&self, def: Arc<TopicDef>, next: Seq) {
        let held = self.topic(&def.id).unwrap_or_else(|| {
            let mut topics = self.shared.topics.write();
            let new = || Arc::new(Mutex::new(TopicTail::new(Arc::clone(&def), next)));
            Arc::clone(topics.entry(def.id).or_insert_with(new))
        });
        let is_older = held.lock().def.version < def.version;
        if is_older {
            self.change_held(&held, None, |topic| topic.evolve(def));
        }
    }

    /// More tails, empty, under the same budget.
    pub(crate) fn beside(&self) -> Self {
        let Shared { env, budget, .. } = &*self.shared;
        let (topics, stops) = (RwLock::default(), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { env: env.clone(), budget: Arc::clone(budget), topics, stops }) }
    }

    /// Like [`Self::add_topic`]; what is held of the topic and ends below `next` is let go: all below `next` must be in its table.
    pub(crate) fn begin_at(&self, def: &Arc<TopicDef>, next: Seq) {
        self.add_topic(Arc::clone(def), next);
        self.change(&def.id, None, |topic| {
            if topic.chunks.next() < next {
                topic.chunks = Chunks::new(next);
                topic.next.send_replace(next);
            }
        });
    }

    /// Like [`Self::begin_at`]; what is held of the topic and begins above `next` is let go too: the tail reaches down to `next`, or begins there.
    pub(crate) fn begin_by(&self, def: &Arc<TopicDef>, next: Seq) {
        self.begin_at(def, next);
        self.change(&def.id, None, |topic| {
            if topic.chunks.start() > next {
                topic.chunks = Chunks::new(next);
                topic.next.send_replace(next);
            }
        });
    }

    /// Lets go of what is held of a topic, which goes on where it is: for one that no reader can read here.
    pub(crate) fn let_go(&self, topic: &TopicId) {
        self.change(topic, None, |topic| topic.chunks = Chunks::new(topic.chunks.next()));
    }

    /// The seq after the last event held of a topic. `None` if it is not held.
    pub(crate) fn end(&self, topic: &TopicId) -> Option<Seq> {
        Some(self.topic(topic)?.lock().chunks.next())
    }

    /// False while the tails hold as much as they may.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.budget.has_room()
    }

    /// Waits until there is room for an append of this many bytes, first come, first served. Cancel-safe.
    ///
    /// Errors: `Overloaded` past the deadline.
    pub(crate) async fn reserve(&self, bytes: usize, deadline: Duration) -> Result<Permit> {
        self.shared.budget.reserve(bytes, deadline).await
    }

    /// Makes a decided batch of events visible; it begins where the tail ends. Without a permit it is let in all the same, since it is durable.
    ///
    /// A topic that is not held (dropped meanwhile) takes nothing. A batch of an earlier schema version becomes one of the topic's.
    pub(crate) fn push(&self, topic: &TopicId, batch: RecordBatch, permit: Option<Permit>) {
        let now = self.shared.env.now_micros();
        self.change(topic, permit, |topic| {
            topic.chunks.push(conformed(&batch, &topic.event), now);
            topic.next.send_replace(topic.chunks.next());
        });
    }

    /// Forgets what is in the table.
    pub(crate) fn trim(&self, topic: &TopicId, watermark: Watermark) {
        self.change(topic, None, |topic| topic.chunks.trim(watermark));
    }

    /// Changes a topic's tail and settles with the budget what that changes in its size.
    fn change(&self, topic: &TopicId, permit: Option<Permit>, change: impl FnOnce(&mut TopicTail)) {
        if let Some(topic) = self.topic(topic) {
            self.change_held(&topic, permit, change);
        }
    }

    fn change_held(&self, topic: &Mutex<TopicTail>, permit: Option<Permit>, change: impl FnOnce(&mut TopicTail)) {
        let mut topic = topic.lock();
        let (before, parked) = (topic.charged_bytes(), topic.parked_bytes());
        change(&mut topic);
        self.shared.budget.settle(permit, before, topic.charged_bytes());
        self.shared.budget.settle_parked(parked, topic.parked_bytes());
    }

    /// Forgets a topic; its watchers see the end.
    pub(crate) fn drop_topic(&self, topic: &TopicId) {
        let dropped = self.shared.topics.write().remove(topic);
        if let Some(topic) = dropped {
            self.change_held(&topic, None, |topic| (topic.exempt, topic.parked) = (true, false));
        }
    }

    /// From now on the topic refuses appends, for `reason`. What it holds stays readable, and no longer takes room from the others.
    pub(crate) fn stop_topic(&self, topic: &TopicId, reason: IngestError) {
        self.change(topic, None, |topic| {
            topic.stopped = Some(reason);
            topic.exempt = true;
        });
        self.shared.stops.send_modify(|stops| *stops += 1);
    }

    /// Changes whenever a topic stops.
    pub(crate) fn stops(&self) -> watch::Receiver<u64> {
        self.shared.stops.subscribe()
    }

    /// The topics that refuse appends, and why.
    pub(crate) fn all_stopped(&self) -> Vec<(TopicId, IngestError)> {
        let topics = self.shared.topics.read();
        let reason = |(id, topic): (&TopicId, &Arc<Mutex<TopicTail>>)| Some((*id, topic.lock().stopped.clone()?));
        topics.iter().filter_map(reason).collect()
    }

    /// Takes a stopped topic up again, whose table now ends before `watermark`: what it holds takes room again.
    pub(crate) fn resume_topic(&self, topic: &TopicId, watermark: Watermark) {
        self.change(topic, None, |topic| {
            topic.chunks.trim(watermark);
            topic.stopped = None;
            topic.parked = false;
            topic.exempt = false;
        });
    }

    /// Every topic takes appends again: whether it may is found out anew, since the lane was taken over.
    pub(crate) fn forget_stops(&self) {
        let topics: Vec<_> = self.shared.topics.read().values().cloned().collect();
        for topic in topics {
            self.change_held(&topic, None, |topic| {
                (topic.stopped, topic.held_up) = (None, None);
                (topic.parked, topic.exempt) = (false, false);
            });
        }
    }

    /// A stopped topic's rows have been copied out of the log.
    pub(crate) fn set_parked(&self, topic: &TopicId) {
        self.change(topic, None, |topic| topic.parked = true);
    }

    /// False if parked topics, this one among them, hold more than `bytes_max`.
    pub(crate) fn has_parked_room(&self, topic: &TopicId, bytes_max: u64) -> bool {
        let unparked = self.topic(topic).map_or(0, |topic| {
            let topic = topic.lock();
            topic.chunks.bytes() - topic.parked_bytes()
        });
        self.shared.budget.parked_bytes() + unparked as u64 <= bytes_max
    }

    /// How a topic stands.
    pub(crate) fn status(&self, topic: &TopicId) -> Option<TopicStatus> {
        let topic = self.topic(topic)?;
        let topic = topic.lock();
        let (standing, reason) = match (&topic.stopped, &topic.held_up) {
            (Some(reason), _) if topic.parked => (Standing::Parked, Some(reason)),
            (Some(reason), _) => (Standing::Stopped, Some(reason)),
            (None, Some(reason)) => (Standing::HeldUp, Some(reason)),
            (None, None) => (Standing::Open, None),
        };
        Some(TopicStatus { standing, reason: reason.map(ToString::to_string), unreadable: None })
    }

    /// What one topic holds.
    pub(crate) fn load(&self, topic: &TopicId) -> Option<TopicLoad> {
        Some(self.topic(topic)?.lock().load())
    }

    /// Makes a topic refuse appends for now, for `reason`, or no longer.
    pub(crate) fn hold_up(&self, topic: &TopicId, reason: Option<IngestError>) {
        if let Some(topic) = self.topic(topic) {
            topic.lock().held_up = reason;
        }
    }

    /// Why a topic refuses appends, for good or for now, if it does.
    pub(crate) fn refusal(&self, topic: &TopicId) -> Option<IngestError> {
        let topic = self.topic(topic)?;
        let topic = topic.lock();
        topic.stopped.clone().or_else(|| topic.held_up.clone())
    }

    /// Why a topic refuses appends, if it does.
    pub(crate) fn stopped(&self, topic: &TopicId) -> Option<IngestError> {
        self.topic(topic)?.lock().stopped.clone()
    }

    /// The oldest rows that are not in the table, about `bytes_max` of them, and the topic they belong to; `None` if there are none.
    pub(crate) fn cut(&self, topic: &TopicId, bytes_max: u64) -> Option<(Arc<TopicDef>, Cut)> {
        let topic = self.topic(topic)?;
        let mut topic = topic.lock();
        let cut = topic.chunks.cut(bytes_max)?;
        Some((Arc::clone(&topic.def), cut))
    }

    /// All rows that are in no table, and stay here.
    pub(crate) fn unflushed(&self, topic: &TopicId) -> Option<Cut> {
        Some(self.topic(topic)?.lock().chunks.unflushed())
    }

    /// What every topic holds.
    pub(crate) fn loads(&self) -> Vec<TopicLoad> {
        let topics: Vec<_> = self.shared.topics.read().values().cloned().collect();
        topics.iter().map(|topic| topic.lock().load()).collect()
    }

    /// As readers see them.
    pub(crate) fn as_tail(&self) -> Arc<dyn Tail> {
        Arc::new(self.clone())
    }

    fn topic(&self, topic: &TopicId) -> Option<Arc<Mutex<TopicTail>>> {
        self.shared.topics.read().get(topic).cloned()
    }
}

/// The batch under a version of its topic that is not older than its own.
fn conformed(batch: &RecordBatch, event: &SchemaRef) -> RecordBatch {
    conform_batch(batch, event, &absent).expect("what follows a schema takes every row of it")
}

impl TopicTail {
    fn new(def: Arc<TopicDef>, next: Seq) -> Self {
        let (chunks, next, event) = (Chunks::new(next), watch::Sender::new(next), def.event_schema());
        Self { def, event, chunks, next, stopped: None, parked: false, held_up: None, exempt: false }
    }

    /// From now on it has this version of its schema. Mostly columns are shared; those that are wider are made anew.
    fn evolve(&mut self, def: Arc<TopicDef>) {
        if def.version <= self.def.version {
            return;
        }
        self.event = def.event_schema();
        self.def = def;
        self.chunks.replace(|batch| conformed(batch, &self.event));
    }

    fn charged_bytes(&self) -> usize {
        if self.exempt { 0 } else { self.chunks.bytes() }
    }

    fn parked_bytes(&self) -> usize {
        if self.parked { self.chunks.bytes() } else { 0 }
    }

    fn load(&self) -> TopicLoad {
        TopicLoad {
            def: Arc::clone(&self.def),
            watermark: self.chunks.watermark(),
            next: self.chunks.next(),
            bytes: self.chunks.bytes() as u64,
            oldest_micros: self.chunks.oldest_micros(),
            stopped: self.stopped.clone(),
        }
    }
}

impl Tail for Tails {
    fn snapshot(&self, topic: &TopicId) -> Option<TailSnapshot> {
        let topic = self.topic(topic)?;
        let topic = topic.lock();
        Some(topic.chunks.snapshot(Arc::clone(&topic.def)))
    }

    fn watch(&self, topic: &TopicId) -> Option<watch::Receiver<Seq>> {
        Some(self.topic(topic)?.lock().next.subscribe())
    }
}

#[cfg(test)]
mod tests;
