//! Sequencing: one task owns a lane's state, assigns seqs, and answers when what it says is decided.
//!
//! * [`admit`]: whether a batch may be appended, with [`conditions`], what it says must hold;
//! * [`group`]: what rides in one segment, and the pure step that gives rows their place;
//! * [`lane`]: the task: takes commands, puts segments, makes decided rows visible, answers;
//! * [`put`]: one segment on its way to the store;
//! * [`verdict`]: refusals, which wait for a look at the root;
//! * [`halted`]: topics that take no appends;
//! * [`keeper`]: a lane in the hands of this process, as owner or standby: opens it, gives it up, takes it back;
//! * [`standby`]: what it does while another owns the lane.

pub(crate) mod admit;
pub(crate) mod conditions;
pub(crate) mod group;
mod halted;
pub(crate) mod keeper;
pub(crate) mod lane;
mod put;
pub(crate) mod standby;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::limits::SEGMENT_BYTES_MAX;
use schemas::{ErrorKind, LaneId, Seq, TenantName, TopicId, Watermark};
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::engine::{Detail, Parts, ProducerEpoch, Receipt, Resume};
use crate::error::{IngestError, Result};
use crate::flush::{CommitPace, Flusher};
use crate::lane::board::Board;
use crate::lane::heartbeat::Node;
use crate::lane::parked::Parked;
use crate::lane::state::LaneState;
use crate::rows::Shape;
use crate::sequence::admit::Basis;
use crate::sequence::group::Part;
use crate::tail::{Permit, Tails};

/// Commands that may wait for a lane's task.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Largest append once encoded, bytes, dead letters included: so that it fits a segment together with what already waits there.
pub(crate) const APPEND_BYTES_MAX: usize = SEGMENT_BYTES_MAX / 4 * 3;
/// Company is never waited for beyond this many bytes, whatever the operator says.
const GROUP_BYTES_MAX: usize = SEGMENT_BYTES_MAX / 8;
/// How long a segment waits for company on an object store, where requests cost money, unless the operator says otherwise.
const LINGER_REMOTE: Duration = Duration::from_millis(5);

const _: () = assert!(APPEND_BYTES_MAX + GROUP_BYTES_MAX < SEGMENT_BYTES_MAX, "and there is room for headers");

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T>>;

/// What a lane's task can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// Append the rows of a batch.
    Append(Box<Append>),
    /// Begin a topic. Answered as well if it has begun already.
    Create { tenant: TenantName, shape: Arc<Shape>, answer: Answer<()> },
    /// Give a topic the next version of its schema. Answered as well if it has it already.
    Change { shape: Arc<Shape>, answer: Answer<()> },
    /// End a topic. Answered as well if it has ended already.
    Drop { topic: TopicId, answer: Answer<()> },
    /// The topic's register says what the lane's records say: a checkpoint need not remember it.
    Followed { topic: TopicId },
    /// Issue an epoch to a producer of a topic.
    Producer { topic: TopicId, name: Arc<str>, resume: Resume, answer: Answer<ProducerEpoch> },
    /// Say which token a fence has; with one in `set`, set it first.
    Fence { topic: TopicId, key_prefix: Option<String>, set: Option<u64>, answer: Answer<Option<u64>> },
    /// Say in the log that events of a topic below a seq, all in its table, are gone. Answered as well if that was said before.
    Retain { topic: TopicId, below: Seq, answer: Answer<()> },
    /// A topic that had stopped is taken up again: its tail says so already, and its table ends before `watermark`.
    Resume { topic: TopicId, watermark: Watermark, answer: Answer<()> },
    /// Say what of a topic lies in parked objects.
    Parked { topic: TopicId, answer: Answer<Option<Parked>> },
    /// Answer once everything taken before this is decided.
    Settle { answer: Answer<()> },
    /// Take nothing more, decide what was taken, write a checkpoint, say in the root that the lane is closed.
    Close { answer: Answer<()>, then: Then },
    /// Answer once readers here see everything that was acknowledged, by whomever, before this was asked.
    CatchUp { answer: Answer<()> },
    /// Become the lane's owner now, whoever has it.
    TakeOver { answer: Answer<()> },
}

/// What a lane's task does once its lane is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It ends: the process does.
    End,
    /// It stands by; this node is to take the lane over.
    StandBy { heir: Uuid },
}

/// One batch, validated and encoded.
#[derive(Debug)]
pub(crate) struct Append {
    /// The rows that fit.
    pub(crate) rows: Option<Part>,
    /// The others, as events of the dead-letter topic.
    pub(crate) dead: Option<Part>,
    /// Room in the tail for both.
    pub(crate) permit: Permit,
    /// The answer, but for the seqs.
    pub(crate) receipt: Receipt,
    pub(crate) answer: Answer<Receipt>,
    pub(crate) order: Order,
    /// What it rests on beyond its rows; most appends rest on nothing.
    pub(crate) basis: Option<Box<Basis>>,
}

/// What the batches of one appender share: once one was not appended for certain, none after it is.
///
/// Else a lane that stops and is taken back would refuse batch 3 and append batch 4, which was on its way: a producer that goes on from 3, as
/// it was told to, would have 4 twice. Written and read by the lane's task alone, in the order of its commands.
///
/// What a condition or a fence refuses is refused for certain: a producer may ask that its other batches are appended all the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    is_broken: Arc<AtomicBool>,
    outlives_refusals: bool,
}

impl Order {
    /// For a producer whose batches stand by themselves, or do not.
    pub(crate) fn new(outlives_refusals: bool) -> Self {
        Self { outlives_refusals, ..Self::default() }
    }

    /// A batch failed.
    pub(crate) fn broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// A batch was refused.
    pub(crate) fn refused(&self, refusal: &IngestError) {
        let by_terms = matches!(refusal.detail(), Some(Detail::ConditionFailed { .. } | Detail::FenceFailed { .. }));
        if !(self.outlives_refusals && by_terms) {
            self.broken();
        }
    }

    /// Errors if an earlier batch failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_broken.load(Ordering::Relaxed) {
            false => Ok(()),
            true => {
                let message = "nothing was appended: an earlier batch of this stream failed; begin another stream";
                Err(IngestError::new(ErrorKind::Unavailable, message))
            }
        }
    }
}

impl Command {
    /// Answers that nothing happened, for this reason.
    pub(crate) fn refuse(self, reason: &IngestError) {
        // Whoever asked may have gone.
        match self {
            Self::Append(append) => {
                append.order.broken();
                drop(append.answer.send(Err(reason.clone())));
            }
            Self::Create { answer, .. }
            | Self::Change { answer, .. }
            | Self::Drop { answer, .. }
            | Self::Retain { answer, .. }
            | Self::Resume { answer, .. }
            | Self::Settle { answer }
            | Self::Close { answer, .. }
            | Self::CatchUp { answer }
            | Self::TakeOver { answer } => {
                drop(answer.send(Err(reason.clone())));
            }
            Self::Parked { answer, .. } => drop(answer.send(Err(reason.clone()))),
            Self::Producer { answer, .. } => drop(answer.send(Err(reason.clone()))),
            Self::Fence { answer, .. } => drop(answer.send(Err(reason.clone()))),
            Self::Followed { .. } => {}
        }
    }
}

/// What the engine's handles and its lane's task share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) parts: Parts,
    pub(crate) lane: LaneId,
    /// This process, as the lane's root names it.
    pub(crate) node: Node,
    /// What this process knows of the others.
    pub(crate) board: Arc<Board>,
    /// Up to when readers here are known to have seen everything, while others own the lane.
    pub(crate) as_of: Mutex<Option<Instant>>,
    pub(crate) tails: Tails,
    /// Table commits for age alone; one a process.
    pub(crate) pace: CommitPace,
    /// Runs while the lane is open.
    pub(crate) flusher: Mutex<Option<Flusher>>,
}

impl Core {
    /// A topic is no longer, for readers.
    pub(crate) fn forget_topic(&self, topic: &TopicId) {
        self.tails.drop_topic(topic);
        self.parts.topics.forget(topic);
        self.parts.tables.forget(topic);
    }

    /// The lane has the topics of `state` and no others: while this process was behind, some may have been dropped.
    pub(crate) fn forget_others(&self, state: &LaneState) {
        for held in self.tails.loads().iter().filter(|held| !state.topics.contains_key(&held.def.id)) {
            self.forget_topic(&held.def.id);
        }
    }

    fn linger(&self) -> Duration {
        match self.parts.settings.linger_ms {
            Some(ms) => Duration::from_millis(ms),
            None if self.parts.store.is_local() => Duration::ZERO,
            None => LINGER_REMOTE,
        }
    }

    fn group_bytes(&self) -> usize {
        usize::try_from(self.parts.settings.segment_bytes).unwrap_or(usize::MAX).min(GROUP_BYTES_MAX)
    }
}
