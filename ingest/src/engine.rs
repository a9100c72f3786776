//! The write path as others see it: open a store, make topics, append, flush, stop.

mod appender;
mod naming;
mod terms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::view::Tail;
use catalog::{Env, Store};
use schemas::check::CheckCompiler;
use schemas::{Epoch, ErrorKind, LaneId, Seq, TenantName, TopicDef, TopicName};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::appender::Appender;
pub use self::terms::{
    Condition, Detail, EXPECTED_LAST_SEQ, Fence, ProducerEpoch, ProducerIdentity, Terms,
};
use self::naming::HalfDropped;
use crate::error::{IngestError, Result};
use crate::sequence::{Answer, COMMANDS_MAX, Command, Core, keeper};
use crate::settings::Settings;
use crate::tail::Tails;

/// The one lane there is.
const LANE: LaneId = LaneId(0);
/// Time that the last checkpoint gets, even if the deadline of a shutdown has passed.
const CLOSE_MIN: Duration = Duration::from_secs(2);

/// What an engine is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where everything lies.
    pub store: Store,
    /// The topics, which the engine fills.
    pub topics: Topics,
    /// The tables, which the engine fills.
    pub tables: Tables,
    /// Compiles `CHECK` expressions.
    pub checks: Arc<dyn CheckCompiler>,
    /// Time and randomness.
    pub env: Env,
    /// What the operator set.
    pub settings: Settings,
}

/// The write path of one process: owner of its lanes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    commands: mpsc::Sender<Command>,
    ownership: watch::Receiver<Ownership>,
    /// Creating and dropping take turns: each looks first, and acts on what it saw. Holds the drop that one of them left half done.
    naming: tokio::sync::Mutex<Option<HalfDropped>>,
    is_stopping: AtomicBool,
    lane_task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

/// Whether this process still owns its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It appends.
    Open {
        /// Which lane.
        lane: LaneId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// It has stopped, and says why; nothing is acknowledged. If the reason is retryable (the store was away) it takes the lane back as soon as it can
    /// and is `Open` again in a newer epoch; else (fenced by another process, a corrupt log) this is for good.
    Stopped(IngestError),
}

impl PartialEq for IngestError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl Eq for IngestError {}

/// What becomes of a batch in which some rows are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// One bad row refuses the whole batch.
    #[default]
    RejectBatch,
    /// Good rows are appended, bad ones reported.
    RejectRow,
    /// Like `RejectRow`, and bad rows are appended to `{topic}_dead` in the same segment.
    DeadLetter,
}

/// How a producer wants its batches treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Bad rows.
    pub on_error: OnError,
    /// The producer's name, for dead letters.
    pub producer: Option<String>,
    /// Makes retries safe: then each batch has a `producer_seq`.
    pub identity: Option<ProducerIdentity>,
}

/// Why one row was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Row of the batch as it was sent, from 0.
    pub row: u64,
    /// Which column or rule, what was expected, what was found.
    pub reason: String,
}

/// The answer to one batch. It is durable, and visible to every reader, when this is handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Seq of the first accepted row; `None` if no row was accepted.
    pub first_seq: Option<Seq>,
    /// Seq of the last accepted row.
    pub last_seq: Option<Seq>,
    /// Rows accepted.
    pub accepted: u64,
    /// Rows refused, ascending by row. Non-empty under `RejectBatch` means that nothing was accepted.
    pub refused: Vec<Refusal>,
    /// It was appended before, and this is the answer that it had then.
    #[serde(default)]
    pub duplicate: bool,
}

impl Engine {
    /// Takes the lane over (P1), rebuilds its tail and state, and begins to append. Every earlier owner is fenced when this returns.
    ///
    /// Errors: those of the store; `Corrupt`, naming slot and place, if the log is damaged; `Fenced` if another process takes over meanwhile.
    pub async fn open(parts: Parts) -> Result<Self> {
        let tails = Tails::new(parts.settings.tail_bytes_max, parts.env.clone());
        let owner = parts.env.uuid();
        let core = Arc::new(Core { parts, lane: LANE, owner, tails, flusher: parking_lot::Mutex::new(None) });
        let kept = Box::pin(keeper::open(&core, false)).await?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (sender, ownership) = watch::channel(kept.ownership(&core));
        let lane_task = tokio::spawn(kept.run(Arc::clone(&core), received, sender));
        let shared = Shared {
            core,
            commands,
            ownership,
            naming: tokio::sync::Mutex::default(),
            is_stopping: AtomicBool::new(false),
            lane_task: parking_lot::Mutex::new(Some(lane_task)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Flushes one topic, or all of them, and waits until everything that was decided at the call is in its table.
    ///
    /// Errors: `NotFound`; those of [`Tables::flush`]; the reason why the topic or the lane has stopped.
    pub async fn flush(&self, tenant: &TenantName, topic: Option<&TopicName>) -> Result<()> {
        let topics: Vec<_> = match topic {
            Some(name) => vec![self.topic(tenant, name)?.id],
            None => self.shared.core.parts.topics.list(tenant).iter().map(|def| def.id).collect(),
        };
        let flusher = self.shared.core.flusher.lock().clone();
        let flusher = flusher.ok_or_else(|| self.shared.stopped())?;
        let flushes = topics.into_iter().map(|topic| flusher.flush_now(Some(topic)));
        futures::future::try_join_all(flushes).await.map(drop)
    }

    /// The tails, for readers.
    pub fn tail(&self) -> Arc<dyn Tail> {
        self.shared.core.tails.as_tail()
    }

    /// Whether this process still owns its lane.
    pub fn ownership(&self) -> watch::Receiver<Ownership> {
        self.shared.ownership.clone()
    }

    /// Stops taking appends, waits for those in flight, flushes what `deadline` allows, ends its tasks. What is not flushed is in the log.
    pub async fn shutdown(&self, deadline: Duration) {
        self.shared.is_stopping.store(true, Ordering::Release);
        let until = Instant::now() + deadline;
        let settled = timeout_at(until, self.shared.ask(|answer| Command::Settle { answer })).await;
        if !matches!(settled, Ok(Ok(()))) {
            tracing::warn!("not every append was answered before the shutdown");
        }
        let flusher = self.shared.core.flusher.lock().take();
        if let Some(flusher) = flusher {
            flusher.shutdown(until.saturating_duration_since(Instant::now())).await;
        }
        // The last checkpoint makes the next start fast; without it the log alone tells everything.
        let closed =
            timeout_at(until.max(Instant::now() + CLOSE_MIN), self.shared.ask(|answer| Command::Close { answer }))
                .await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::warn!("no last checkpoint was written; the next start reads more of the log");
        }
        let task = self.shared.lane_task.lock().take();
        if let Some(task) = task {
            task.abort();
            // Cancelled or ended, it is over.
            drop(task.await);
        }
    }

    fn topic(&self, tenant: &TenantName, name: &TopicName) -> Result<Arc<TopicDef>> {
        let missing = || IngestError::new(ErrorKind::NotFound, format!("there is no topic {name}"));
        self.shared.core.parts.topics.get(tenant, name).ok_or_else(missing)
    }
}

impl Shared {
    /// Hands a command to the lane's task, waiting for room. Errors: nothing has happened: `Overloaded` past the deadline for room; why the lane has stopped.
    async fn send(&self, command: Command) -> Result<()> {
        let limit = Duration::from_millis(self.core.parts.settings.room_deadline_ms);
        match timeout(limit, self.commands.send(command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.stopped()),
            Err(_) => {
                let message = format!("the log had no room within {} ms: slow down, then retry", limit.as_millis());
                Err(IngestError::new(ErrorKind::Overloaded, message))
            }
        }
    }

    /// Hands over a command and waits for its answer.
    async fn ask(&self, command: impl FnOnce(Answer<()>) -> Command) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.map_err(|_| unanswered())?
    }

    /// Errors if the engine has been told to stop.
    fn check_running(&self) -> Result<()> {
        if self.is_stopping.load(Ordering::Acquire) { Err(self.stopped()) } else { Ok(()) }
    }

    fn stopped(&self) -> IngestError {
        match &*self.ownership.borrow() {
            Ownership::Stopped(reason) => reason.clone(),
            Ownership::Open { .. } => IngestError::new(ErrorKind::Unavailable, "the server is shutting down"),
        }
    }
}

/// The lane's task has gone with a command in hand.
fn unanswered() -> IngestError {
    IngestError::new(ErrorKind::Indeterminate, "the lane ended before it answered: it may have been appended")
}

#[cfg(test)]
mod tests;
