//! From tail to table: decides which topics are due, hands their rows to [`Tables::flush`], forgets what arrived.
//!
//! One task owns what is under way; each flush is a task of its own that holds a frozen cut of the tail and no lock, so appends go on however
//! long it takes. A topic whose table is not what the lane left there stops alone, and says why to every append. Topics whose tables cannot be written
//! for now may together fill half of the room for tails; then they take no appends until that gets better, and the others go on.

mod decide;
mod maintain;
mod pace;
mod run;
mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::Env;
use catalog::table::Tables;
use parking_lot::Mutex;
use schemas::{Epoch, ErrorKind, LaneId, TopicId, Watermark};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use self::pace::CommitPace;
use self::run::Run;
use crate::error::{IngestError, Result};
use crate::settings::Settings;
use crate::tail::Tails;

/// Flush requests that may wait to be noticed.
const COMMANDS_MAX: usize = 64;

/// What a flusher is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Where the rows come from; its topics are those that are flushed.
    pub(crate) tails: Tails,
    /// Where they go.
    pub(crate) tables: Tables,
    /// Time.
    pub(crate) env: Env,
    /// When and how much.
    pub(crate) settings: Settings,
    /// How many commits a second for age alone; shared by all lanes of the process.
    pub(crate) pace: CommitPace,
    /// Who flushes, for people.
    pub(crate) lane: LaneId,
    /// Who flushes, for people.
    pub(crate) epoch: Epoch,
    /// Told of every watermark that moved, after the tail was trimmed to it.
    pub(crate) moved: mpsc::Sender<(TopicId, Watermark)>,
    /// The way to the lane's task, for records that the keeping of tables needs.
    pub(crate) asks: mpsc::Sender<crate::sequence::Command>,
}

/// Moves decided events from the tails to the tables, until it is stopped. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Flusher {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What the flusher can be asked.
#[derive(Debug)]
enum Command {
    /// Flush one topic, or all; answered when everything decided by now is in its table, or with the first failure.
    Flush { topic: Option<TopicId>, reply: oneshot::Sender<Result<()>> },
    /// Flush these before others, what is there of them by now: they keep the log from being trimmed.
    Hurry { topics: BTreeSet<TopicId> },
}

impl Flusher {
    /// Starts it on the current runtime.
    pub(crate) fn start(parts: Parts) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let stop = CancellationToken::new();
        let parts = Arc::new(parts);
        tokio::spawn(sweep::run(Arc::clone(&parts), stop.clone()));
        tokio::spawn(maintain::run(Arc::clone(&parts), stop.clone()));
        let task = tokio::spawn(Run::new(parts).run(received, stop.clone()));
        Self { commands, stop, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// Flushes one topic, or all of them, and waits until everything that was decided at the call is in its table.
    ///
    /// Errors: that of the first flush that failed (it will be tried again); the reason if the topic has stopped; `Unavailable` if the flusher has.
    pub(crate) async fn flush_now(&self, topic: Option<TopicId>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let stopped = || IngestError::new(ErrorKind::Unavailable, "flush: the server is stopping");
        self.commands.send(Command::Flush { topic, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Asks for these topics to be flushed before others. Nobody waits for it: whoever asks will ask again.
    pub(crate) fn hurry(&self, topics: BTreeSet<TopicId>) {
        if self.commands.try_send(Command::Hurry { topics }).is_err() {
            tracing::debug!("the flusher is busy, or has stopped; it is asked again by the next checkpoint");
        }
    }

    /// Flushes what `deadline` allows, then stops. What was not flushed is in the log.
    pub(crate) async fn shutdown(&self, deadline: Duration) {
        match timeout(deadline, self.flush_now(None)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last flush failed; the events stay in the log"),
            Err(_) => tracing::warn!("the last flush took too long; the events stay in the log"),
        }
        self.stop().await;
    }

    /// Stops without flushing. A flush under way is broken off: whatever became of its commit, the next owner finds out (P4).
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the flusher ended badly");
        }
    }
}

#[cfg(test)]
mod tests;
