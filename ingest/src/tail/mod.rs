//! The tails: acknowledged events in memory, by topic, until they are in their tables.
//!
//! The lane's task pushes decided batches, the flusher trims, readers take snapshots. Each topic has a lock of its own that is held for a few
//! clones of an `Arc`, at most for merging some small chunks; never across an await.

mod budget;
mod chunks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use catalog::Env;
use catalog::view::{Tail, TailSnapshot};
use parking_lot::{Mutex, RwLock};
use schemas::{Seq, TopicDef, TopicId, Watermark};
use tokio::sync::watch;

pub(crate) use self::budget::Permit;
pub(crate) use self::chunks::Cut;

use self::budget::Budget;
use self::chunks::Chunks;
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
}

#[derive(Debug)]
struct TopicTail {
    def: Arc<TopicDef>,
    chunks: Chunks,
    next: watch::Sender<Seq>,
    stopped: Option<IngestError>,
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
        Self { shared: Arc::new(Shared { env, budget: Budget::new(budget_bytes), topics }) }
    }

    /// Holds a topic from now on: an empty tail whose first event will have seq `next`. A topic that is held already gets the new definition.
    pub(crate) fn add_topic(&self, def: Arc<TopicDef>, next: Seq) {
        let mut topics = self.shared.topics.write();
        match topics.get(&def.id) {
            Some(topic) => topic.lock().def = def,
            None => {
                let id = def.id;
                let (chunks, next) = (Chunks::new(next), watch::Sender::new(next));
                let topic = TopicTail { def, chunks, next, stopped: None, exempt: false };
                topics.insert(id, Arc::new(Mutex::new(topic)));
            }
        }
    }

    /// Waits until there is room for an append of this many bytes, first come, first served. Cancel-safe.
    ///
    /// Errors: `Overloaded` past the deadline.
    pub(crate) async fn reserve(&self, bytes: usize, deadline: Duration) -> Result<Permit> {
        self.shared.budget.reserve(bytes, deadline).await
    }

    /// Makes a decided batch of events visible; it begins where the tail ends. Without a permit it is let in all the same, since it is durable.
    ///
    /// A topic that is not held (dropped meanwhile) takes nothing.
    pub(crate) fn push(&self, topic: &TopicId, batch: RecordBatch, permit: Option<Permit>) {
        let now = self.shared.env.now_micros();
        self.change(topic, permit, |topic| {
            topic.chunks.push(batch, now);
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
        let before = topic.charged_bytes();
        change(&mut topic);
        self.shared.budget.settle(permit, before, topic.charged_bytes());
    }

    /// Forgets a topic; its watchers see the end.
    pub(crate) fn drop_topic(&self, topic: &TopicId) {
        let dropped = self.shared.topics.write().remove(topic);
        if let Some(topic) = dropped {
            self.change_held(&topic, None, |topic| topic.exempt = true);
        }
    }

    /// From now on the topic refuses appends, for `reason`. What it holds stays readable, and no longer takes room from the others.
    pub(crate) fn stop_topic(&self, topic: &TopicId, reason: IngestError) {
        self.change(topic, None, |topic| {
            topic.stopped = Some(reason);
            topic.exempt = true;
        });
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

impl TopicTail {
    fn charged_bytes(&self) -> usize {
        if self.exempt { 0 } else { self.chunks.bytes() }
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
        Some(self.topic(topic)?.lock().chunks.snapshot())
    }

    fn watch(&self, topic: &TopicId) -> Option<watch::Receiver<Seq>> {
        Some(self.topic(topic)?.lock().next.subscribe())
    }
}

#[cfg(test)]
mod tests;
