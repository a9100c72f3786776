//! The write path as others see it: open a store, make topics, append, flush, stop.
//!
//! A process hosts every lane of its store: those that it owns it appends to, those of others it follows.

mod alter;
mod appender;
mod basis;
mod host;
mod naming;
mod nodes;
mod operator;
mod producers;
mod terms;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::view::{LastSeqs, Tail};
use catalog::{Env, Store};
use schemas::check::CheckCompiler;
use schemas::{Epoch, ErrorKind, LaneId, Seq, TenantName, TopicDef, TopicName};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::alter::{Alter, Altered};
pub use self::appender::Appender;
use self::host::Host;
pub use self::operator::{Standing, TopicStatus};
pub use self::terms::{Condition, Detail, EXPECTED_LAST_SEQ, Fence, ProducerEpoch, ProducerIdentity, Resume, Terms};
use crate::error::{IngestError, Result};
use crate::sequence::standby::not_owner;
use crate::sequence::{Answer, Command, Core, Then};
use crate::settings::Settings;

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
    /// What is in tables of keys and paths that conditions are about.
    pub last_seqs: Arc<dyn LastSeqs>,
    /// Compiles `CHECK` expressions.
    pub checks: Arc<dyn CheckCompiler>,
    /// Time and randomness.
    pub env: Env,
    /// What the operator set.
    pub settings: Settings,
}

/// The write path of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    host: Arc<Host>,
}

/// What the handles to one lane share.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    commands: mpsc::Sender<Command>,
    ownership: watch::Receiver<Ownership>,
    is_stopping: Arc<AtomicBool>,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

/// What this process is to a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Its owner: it appends.
    Open {
        /// Which lane.
        lane: LaneId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Another is, or nobody for the moment: this process follows it, and takes it over when its turn comes.
    Standby {
        /// Which lane.
        lane: LaneId,
        /// The newest epoch that it knows of; 0: none.
        epoch: Epoch,
        /// Where clients find the owner, if it is known.
        owner: Option<String>,
        /// Nobody owns it: it is changing hands.
        is_vacant: bool,
    },
    /// It has stopped, and says why; nothing is acknowledged. If the reason is retryable (the store was away) it takes the lane back as soon as it can
    /// and is `Open` again in a newer epoch; else (a corrupt log) this is for good.
    Stopped(IngestError),
}

/// What this process is to a lane, and how far behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// Which lane.
    pub lane: LaneId,
    /// What it is.
    pub ownership: Ownership,
    /// Reads here see everything that was acknowledged so long ago. Zero at the owner; `None` if nothing was followed yet.
    pub lag: Option<Duration>,
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
    /// The schema version whose columns its batches have, by name and type. `None`: the topic's newest when the appender is made.
    pub schema_version: Option<u32>,
    /// A condition or fence that does not hold refuses its batch alone. Else it is like any other error: no later batch of the appender is appended.
    pub outlives_refusals: bool,
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
    /// Opens every lane of the store. One whose owner lives is followed; any other is taken over (P1), and then every earlier owner of it is fenced when
    /// this returns.
    ///
    /// Errors: those of the store; `Corrupt`, naming slot and place, if a log is damaged.
    pub async fn open(parts: Parts) -> Result<Self> {
        Ok(Self { host: Host::open(parts).await? })
    }

    /// Flushes one topic, or all that this process can, and waits until everything that was decided at the call is in its table.
    ///
    /// Errors: `NotFound`; those of [`Tables::flush`]; the reason why the topic or the lane has stopped; `Fenced`, naming the owner, if another
    /// process owns its lane.
    pub async fn flush(&self, tenant: &TenantName, topic: Option<&TopicName>) -> Result<()> {
        let topics = match topic {
            Some(name) => vec![self.topic(tenant, name)?],
            None => self.host.parts.topics.list(tenant),
        };
        let (mut flushes, mut foreign) = (Vec::new(), None);
        for topic in topics {
            let lane = self.host.lane(topic.lane)?;
            let flusher = lane.core.flusher.lock().clone();
            match flusher {
                Some(flusher) => flushes.push(async move { flusher.flush_now(Some(topic.id)).await }),
                None => foreign = Some(lane.stopped()),
            }
        }
        futures::future::try_join_all(flushes).await?;
        match foreign {
            None => Ok(()),
            Some(reason) if topic.is_some() => Err(reason),
            Some(reason) => {
                let message = format!("flushed the topics that this server owns, but not those of others: {reason}");
                Err(IngestError::new(reason.kind(), message))
            }
        }
    }

    /// The tails, for readers: of lanes that this process owns, and of those that it follows.
    pub fn tail(&self) -> Arc<dyn Tail> {
        self.host.tail()
    }

    /// Where clients find this process, if it told.
    pub fn address(&self) -> Option<&str> {
        self.host.node.address.as_deref()
    }

    /// Where clients find the processes of this store that live, as far as is known here: this one first.
    pub fn nodes(&self) -> Vec<String> {
        let others = self.host.board.addresses(Instant::now());
        self.address().map(str::to_owned).into_iter().chain(others).collect()
    }

    /// What this process is to each lane.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.host.lanes.read().iter().map(|lane| lane.status()).collect()
    }

    /// Changes whenever this process becomes something else to a lane.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.host.changes.subscribe()
    }

    /// What this process is to one lane. Errors: `NotFound`.
    pub fn ownership(&self, lane: LaneId) -> Result<watch::Receiver<Ownership>> {
        Ok(self.host.lane(lane)?.ownership.clone())
    }

    /// Where clients find the owner of a topic, as far as is known here: `None` if it is on the move, or told nobody.
    pub fn owner_of(&self, topic: &TopicDef) -> Option<String> {
        let lane = self.host.lane(topic.lane).ok()?;
        match &*lane.ownership.borrow() {
            Ownership::Open { .. } => self.host.node.address.clone(),
            Ownership::Standby { owner, .. } => owner.clone(),
            Ownership::Stopped(_) => None,
        }
    }

    /// Returns once readers here see everything that was acknowledged, by whomever, before the call: what a linearizable read begins with.
    ///
    /// At an owner it costs a read of the lane's root, which all share that wait for one, after the puts that are in flight; at a standby such a read and
    /// the slots that it has not seen. Errors: `Fenced`, `Unavailable` if that cannot be known.
    pub async fn catch_up(&self) -> Result<()> {
        let lanes = self.host.lanes.read().clone();
        let asking = lanes.iter().map(|lane| lane.ask(|answer| Command::CatchUp { answer }));
        futures::future::try_join_all(asking).await.map(drop)
    }

    /// Takes a lane over, or all of them, from whoever has it, and returns once it is this process's.
    pub async fn take_over(&self, lane: Option<LaneId>) -> Result<()> {
        let lanes = match lane {
            Some(lane) => vec![self.host.lane(lane)?],
            None => self.host.lanes.read().clone(),
        };
        let asking = lanes.iter().map(|lane| lane.ask(|answer| Command::TakeOver { answer }));
        futures::future::try_join_all(asking).await.map(drop)
    }

    /// Stops taking appends, waits for those in flight, flushes what `deadline` allows, gives its lanes away, ends its tasks. What is not flushed is
    /// in the log.
    pub async fn shutdown(&self, deadline: Duration) {
        self.host.shutdown(deadline).await;
    }

    fn topic(&self, tenant: &TenantName, name: &TopicName) -> Result<Arc<TopicDef>> {
        let missing = || IngestError::new(ErrorKind::NotFound, format!("there is no topic {name}"));
        self.host.parts.topics.get(tenant, name).ok_or_else(missing)
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
    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.map_err(|_| unanswered())?
    }

    /// Errors if the engine has been told to stop.
    fn check_running(&self) -> Result<()> {
        if self.is_stopping.load(Ordering::Acquire) { Err(self.stopped()) } else { Ok(()) }
    }

    /// Errors if this process does not own the lane, naming who does.
    fn check_owner(&self) -> Result<()> {
        if self.is_open() { Ok(()) } else { Err(self.stopped()) }
    }

    fn is_open(&self) -> bool {
        matches!(*self.ownership.borrow(), Ownership::Open { .. })
    }

    fn stopped(&self) -> IngestError {
        not_owner(&self.ownership.borrow())
    }

    fn status(&self) -> LaneStatus {
        let ownership = self.ownership.borrow().clone();
        let lag = match ownership {
            Ownership::Open { .. } => Some(Duration::ZERO),
            _ => self.core.as_of.lock().map(|as_of| as_of.elapsed()),
        };
        LaneStatus { lane: self.core.lane, ownership, lag }
    }

    /// Closes the lane, if it is open here, and ends its task.
    async fn shutdown(&self, until: Instant) {
        if self.is_open() {
            let settled = timeout_at(until, self.ask(|answer| Command::Settle { answer })).await;
            if !matches!(settled, Ok(Ok(()))) {
                tracing::warn!(lane = %self.core.lane, "not every append was answered before the shutdown");
            }
        }
        let flusher = self.core.flusher.lock().take();
        if let Some(flusher) = flusher {
            flusher.shutdown(until.saturating_duration_since(Instant::now())).await;
        }
        // The last checkpoint makes the next start fast; without it the log alone tells everything.
        let until = until.max(Instant::now() + CLOSE_MIN);
        let closed = timeout_at(until, self.ask(|answer| Command::Close { answer, then: Then::End })).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::warn!(lane = %self.core.lane, "no last checkpoint was written; the next start reads more of the log");
        }
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // Cancelled or ended, it is over.
            drop(task.await);
        }
    }
}

/// The lane's task has gone with a command in hand.
fn unanswered() -> IngestError {
    IngestError::new(ErrorKind::Indeterminate, "the lane ended before it answered: it may have been appended")
}

#[cfg(test)]
mod tests;
