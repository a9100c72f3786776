//! Refusals wait until what they rest on is decided, and then for a look at the root, begun after that, which still shows this owner's epoch (P2).
//!
//! Process A owns a lane and is paused; B takes over and appends to key k. A wakes up with a state in which k is something else, and would refuse (or
//! agree to) what is no longer so. It must not: what it says would contradict what B has acknowledged. One read serves all that wait for it, and no
//! append that is written to the log needs one: its own segment is the proof. A linearizable read waits for the same.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use schemas::planted::{Bug, planted};
use schemas::{Epoch, ErrorKind};
use tokio::time::{Duration, Instant, sleep};

use super::{Answer, Core, Order};
use crate::engine::{ProducerEpoch, Receipt};
use crate::error::{IngestError, Result};
use crate::lane::root::{fenced, read};

/// Verdicts that may wait for a look at the root while one is under way.
const WAITING_MAX: usize = 4_096;
/// How long a look at the root that failed waits before the next.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer, and where it goes.
#[derive(Debug)]
pub(crate) enum Reply {
    Receipt(Receipt, Answer<Receipt>),
    Epoch(ProducerEpoch, Answer<ProducerEpoch>),
    Token(Option<u64>, Answer<Option<u64>>),
    Done(Answer<()>),
    /// Readers here see all that was acknowledged, or shown, before this was asked.
    CaughtUp(Answer<()>),
}

/// What is said about a state of the lane, writing nothing.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) outcome: Result<()>,
    pub(crate) reply: Reply,
}

/// The verdicts that rest on what is decided, and wait for a look at the root.
#[derive(Default)]
pub(super) struct Verdicts {
    waiting: Vec<Verdict>,
    /// For whom the look that is under way was begun.
    looked_for: Vec<Verdict>,
    look: Option<BoxFuture<'static, Result<Epoch>>>,
}

impl Reply {
    /// Gives it. Whoever asked may have gone.
    pub(crate) fn give(self) {
        match self {
            Self::Receipt(receipt, answer) => drop(answer.send(Ok(receipt))),
            Self::Epoch(epoch, answer) => drop(answer.send(Ok(epoch))),
            Self::Token(token, answer) => drop(answer.send(Ok(token))),
            Self::Done(answer) => drop(answer.send(Ok(()))),
            Self::CaughtUp(answer) => drop(answer.send(Ok(()))),
        }
    }

    /// Says why not.
    pub(crate) fn fail(self, reason: &IngestError) {
        match self {
            Self::Receipt(_, answer) => drop(answer.send(Err(reason.clone()))),
            Self::Epoch(_, answer) => drop(answer.send(Err(reason.clone()))),
            Self::Token(_, answer) => drop(answer.send(Err(reason.clone()))),
            Self::Done(answer) => drop(answer.send(Err(reason.clone()))),
            Self::CaughtUp(answer) => drop(answer.send(Err(reason.clone()))),
        }
    }
}

impl Verdict {
    /// An append that is refused: none after it in its stream is appended, unless its producer says that they stand by themselves.
    pub(crate) fn refuse(refusal: IngestError, answer: Answer<Receipt>, order: &Order) -> Self {
        order.refused(&refusal);
        Self { outcome: Err(refusal), reply: Reply::Receipt(Receipt::default(), answer) }
    }

    fn give(self) {
        match self.outcome {
            Ok(()) => self.reply.give(),
            Err(refusal) => self.reply.fail(&refusal),
        }
    }
}

impl Verdicts {
    /// What it rests on is decided.
    pub(super) fn push(&mut self, verdict: Verdict) {
        if planted(Bug::RefusalWhenFenced) && !matches!(verdict.reply, Reply::CaughtUp(_)) {
            return verdict.give();
        }
        self.waiting.push(verdict);
    }

    /// Room for more: else nothing is taken until a look at the root has ended.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.looked_for.is_empty()
    }

    /// Begins a look if somebody waits and none is under way: only one that begins now counts for them.
    pub(super) fn look_if_due(&mut self, core: &Arc<Core>) {
        if self.look.is_none() && !self.waiting.is_empty() {
            self.looked_for = std::mem::take(&mut self.waiting);
            self.look = Some(look(Arc::clone(core)).boxed());
        }
    }

    /// The epoch that a look showed, once it has ended. Never ready if none is under way. Cancel-safe.
    pub(super) async fn looked(&mut self) -> Result<Epoch> {
        match &mut self.look {
            Some(look) => look.await,
            None => std::future::pending().await,
        }
    }

    /// Gives what waited for the look, if it showed `mine`. Errors: this owner is fenced, and they still wait.
    pub(super) fn give(&mut self, shown: Result<Epoch>, core: &Core, mine: Epoch) -> Result<()> {
        self.look = None;
        match shown {
            Ok(epoch) if epoch == mine => self.looked_for.drain(..).for_each(Verdict::give),
            Ok(newer) => return Err(fenced(core.lane, newer)),
            Err(error) => {
                let message = format!("nothing was done: the lane's root could not be read to confirm it: {error}");
                let unconfirmed = IngestError::new(ErrorKind::Unavailable, message);
                self.looked_for.drain(..).for_each(|verdict| verdict.reply.fail(&unconfirmed));
            }
        }
        Ok(())
    }

    /// Answers all of them that nothing was done.
    pub(super) fn fail(&mut self, reason: &IngestError) {
        self.look = None;
        let all = self.looked_for.drain(..).chain(self.waiting.drain(..));
        all.for_each(|verdict| verdict.reply.fail(reason));
    }
}

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (waiting, looked_for) = (&self.waiting, &self.looked_for);
        f.debug_struct("Verdicts").field("waiting", waiting).field("looked_for", looked_for).finish_non_exhaustive()
    }
}

/// Reads the root until it can be read, or the deadline of a put has passed.
async fn look(core: Arc<Core>) -> Result<Epoch> {
    let deadline = Instant::now() + Duration::from_millis(core.parts.settings.put_deadline_ms);
    loop {
        match read(&core.parts.store, core.lane).await {
            Ok(Some((root, _))) => return Ok(root.epoch),
            Ok(None) => return Err(IngestError::new(ErrorKind::Corrupt, "it has vanished")),
            Err(error) if !error.kind().is_retryable() || Instant::now() + PAUSE >= deadline => return Err(error),
            Err(error) => tracing::debug!(%error, "the lane's root cannot be read; trying again"),
        }
        sleep(PAUSE).await;
    }
}
