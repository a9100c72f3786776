//! Sequencing: one task owns a lane's state, assigns seqs, and answers when what it says is decided.
//!
//! * [`group`]: what rides in one segment, and the pure step that gives rows their place;
//! * [`lane`]: the task: takes commands, puts segments, makes decided rows visible, answers;
//! * [`put`]: one segment on its way to the store;
//! * [`keeper`]: opens the lane, and takes it back after the store was away.

pub(crate) mod group;
pub(crate) mod keeper;
pub(crate) mod lane;
mod put;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::limits::SEGMENT_BYTES_MAX;
use schemas::{ErrorKind, LaneId, TenantName, TopicId};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::engine::{Parts, Receipt};
use crate::error::{IngestError, Result};
use crate::flush::Flusher;
use crate::rows::Shape;
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
    /// End a topic. Answered as well if it has ended already.
    Drop { topic: TopicId, answer: Answer<()> },
    /// The topic's register says what the lane's records say: a checkpoint need not remember it.
    Followed { topic: TopicId },
    /// Answer once everything taken before this is decided.
    Settle { answer: Answer<()> },
    /// Take nothing more, decide what was taken, write a checkpoint, end.
    Close { answer: Answer<()> },
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
}

/// What the batches of one appender share: once one was not appended for certain, none after it is.
///
/// Else a lane that stops and is taken back would refuse batch 3 and append batch 4, which was on its way: a producer that goes on from 3, as
/// it was told to, would have 4 twice. Written and read by the lane's task alone, in the order of its commands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order(Arc<AtomicBool>);

impl Order {
    /// A batch failed.
    pub(crate) fn broken(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Errors if an earlier batch failed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
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
            | Self::Drop { answer, .. }
            | Self::Settle { answer }
            | Self::Close { answer } => {
                drop(answer.send(Err(reason.clone())));
            }
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
    pub(crate) owner: Uuid,
    pub(crate) tails: Tails,
    /// Runs while the lane is open.
    pub(crate) flusher: Mutex<Option<Flusher>>,
}

impl Core {
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
