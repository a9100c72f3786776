//! Opens a lane and keeps it open: after the store was away it takes its own log over, as any new owner would.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use schemas::{ErrorKind, Seq, TopicId, Watermark};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::lane::{Lane, Opened, not_appended};
use super::{Command, Core};
use crate::engine::Ownership;
use crate::error::{IngestError, Result};
use crate::flush::{self, Flusher};
use crate::lane::replay::PlacedRows;
use crate::lane::state::{LaneState, TopicState};
use crate::lane::takeover::{TakenOver, take_over};
use crate::lane::trim::sweep;

/// Tables opened at once.
const TABLES_AT_ONCE: usize = 16;
/// Watermarks that may wait for the lane's task.
const MOVED_MAX: usize = 256;
/// The first pause before a lane is taken back; doubled each time up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Takes the lane over (with `only_mine`, only if this process has it already) and rebuilds everything that its log says.
pub(crate) async fn open(core: &Arc<Core>, only_mine: bool) -> Result<Kept> {
    let parts = &core.parts;
    let TakenOver { register, at, replay } =
        take_over(&parts.store, &parts.env, core.lane, core.owner, only_mine).await?;
    let mut state = replay.state;
    finish_drops(core, &mut state).await?;
    let ailing = open_tables(core, &mut state, &replay.rows).await?;
    fill_tails(core, &state, replay.rows)?;
    for (topic, reason) in ailing {
        tracing::error!(%topic, error = %reason, "the topic takes no appends: its table needs an operator");
        core.tails.stop_topic(&topic, reason);
    }
    for topic in state.topics.values() {
        parts.topics.publish(&topic.tenant, Arc::clone(topic.shape().def()));
    }
    let (moved, watermarks) = mpsc::channel(MOVED_MAX);
    let flusher = Flusher::start(flush::Parts {
        tails: core.tails.clone(),
        tables: parts.tables.clone(),
        env: parts.env.clone(),
        settings: parts.settings.clone(),
        lane: core.lane,
        epoch: at.epoch,
        moved,
    });
    *core.flusher.lock() = Some(flusher);
    let (store, root) = (parts.store.clone(), register.root().clone());
    tokio::spawn(async move { sweep(&store, &root).await });
    let opened = Opened { register, at, state, index: replay.index, moved: watermarks };
    Ok(Kept(Lane::new(Arc::clone(core), opened)))
}

/// An open lane that no task runs yet.
#[derive(Debug)]
pub(crate) struct Kept(Lane);

impl Kept {
    /// What the owner says of itself.
    pub(crate) fn ownership(&self, core: &Core) -> Ownership {
        Ownership::Open { lane: core.lane, epoch: self.0.epoch() }
    }

    /// Serves until closed, or stopped for good. While the lane is not open, commands are refused.
    pub(crate) async fn run(
        self,
        core: Arc<Core>,
        mut commands: mpsc::Receiver<Command>,
        ownership: watch::Sender<Ownership>,
    ) {
        let Self(mut lane) = self;
        let ownership = Voice(ownership);
        loop {
            let Err(reason) = lane.serve(&mut commands).await else { break };
            drop(lane);
            tracing::error!(lane = %core.lane, error = %reason, "the lane has stopped");
            ownership.say(Ownership::Stopped(reason.clone()));
            stop_flusher(&core).await;
            match take_back(&core, reason, &mut commands).await {
                Ok(Some(Self(taken))) => lane = taken,
                Ok(None) => break,
                Err(reason) => {
                    ownership.say(Ownership::Stopped(reason.clone()));
                    refuse_all(&mut commands, &reason).await;
                    break;
                }
            }
            ownership.say(Ownership::Open { lane: core.lane, epoch: lane.epoch() });
        }
        stop_flusher(&core).await;
        commands.close();
        let stopped = IngestError::new(ErrorKind::Unavailable, "nothing was appended: the server has shut down");
        while let Ok(command) = commands.try_recv() {
            command.refuse(&stopped);
        }
    }
}

/// What the lane's task says of its ownership, also when it panics: else the server would seem open for ever, and take nothing.
struct Voice(watch::Sender<Ownership>);

impl Voice {
    fn say(&self, ownership: Ownership) {
        self.0.send_replace(ownership);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "the lane's task has panicked; what was acknowledged is in the log: restart the server";
            self.say(Ownership::Stopped(IngestError::new(ErrorKind::Internal, message)));
        }
    }
}

async fn stop_flusher(core: &Core) {
    let flusher = core.flusher.lock().take();
    if let Some(flusher) = flusher {
        flusher.stop().await;
    }
}

/// Opens the lane again, as often as it takes. `None` if told to close meanwhile. Errors: why it never will.
async fn take_back(
    core: &Arc<Core>,
    mut reason: IngestError,
    commands: &mut mpsc::Receiver<Command>,
) -> Result<Option<Kept>> {
    let mut pause = PAUSE_MIN;
    while reason.kind().is_retryable() {
        if refuse_until(sleep(pause), commands, &reason).await.is_none() {
            return Ok(None);
        }
        pause = PAUSE_MAX.min(2 * pause);
        match refuse_until(Box::pin(open(core, true)), commands, &reason).await {
            None => return Ok(None),
            Some(Ok(kept)) => return Ok(Some(kept)),
            Some(Err(error)) => reason = error,
        }
        tracing::warn!(lane = %core.lane, error = %reason, "the lane could not be taken back yet");
    }
    Err(reason)
}

/// Refuses what comes until `work` is done. `None` if told to close before that.
async fn refuse_until<T>(
    work: impl Future<Output = T>,
    commands: &mut mpsc::Receiver<Command>,
    reason: &IngestError,
) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            command = commands.recv() => match command {
                None => return None,
                Some(Command::Close { answer }) => {
                    drop(answer.send(Ok(())));
                    return None;
                }
                Some(command) => command.refuse(&not_appended(reason)),
            },
        }
    }
}

async fn refuse_all(commands: &mut mpsc::Receiver<Command>, reason: &IngestError) {
    refuse_until(std::future::pending::<()>(), commands, reason).await;
}

/// Does what was left undone after the record of a drop. First of all, since the name may be another topic's by now.
async fn finish_drops(core: &Core, state: &mut LaneState) -> Result<()> {
    let parts = &core.parts;
    for (topic, dropped) in std::mem::take(&mut state.dropped) {
        core.tails.drop_topic(&topic);
        parts.topics.retract(&dropped.tenant, &topic);
        let finished = match parts.tables.drop_table(&dropped.tenant, &dropped.def).await {
            Ok(()) => parts.topics.release(&dropped.tenant, &dropped.def).await,
            failed => failed,
        };
        if let Err(error) = finished {
            if error.kind().is_retryable() {
                return Err(error.into());
            }
            tracing::error!(%topic, %error, "a dropped topic's registers cannot be read, so its name stays taken");
            state.dropped.insert(topic, dropped);
        }
    }
    Ok(())
}

/// Opens every topic's table, confirms what was not confirmed, and begins the tails where the tables end.
///
/// Returns the topics whose table is not what the lane left: they stop, and the others go on.
async fn open_tables(core: &Core, state: &mut LaneState, rows: &[PlacedRows]) -> Result<Vec<(TopicId, IngestError)>> {
    let opening: Vec<_> = state.topics.iter_mut().map(|(id, topic)| open_table(core, *id, topic)).collect();
    let opened: Vec<_> = stream::iter(opening).buffer_unordered(TABLES_AT_ONCE).try_collect().await?;
    let mut ailing = Vec::new();
    for (id, table) in opened {
        let topic = &state.topics[&id];
        let oldest = || rows.iter().find(|placed| placed.topic == id).map_or(topic.next_seq, |placed| placed.first_seq);
        let start = match table {
            Ok(Watermark(start)) => start,
            Err(reason) => {
                ailing.push((id, reason));
                oldest()
            }
        };
        core.tails.add_topic(Arc::clone(topic.shape().def()), start);
    }
    Ok(ailing)
}

/// The topic's watermark, or what is wrong with its table. Errors: those of the store, with which nothing can begin.
async fn open_table(core: &Core, id: TopicId, topic: &mut TopicState) -> Result<(TopicId, Result<Watermark>)> {
    let def = Arc::clone(topic.shape().def());
    let watermark = match core.parts.tables.ensure(&topic.tenant, &def).await {
        Ok(table) => table.watermark(),
        Err(error) if error.kind().is_retryable() => return Err(error.into()),
        Err(error) => return Ok((id, Err(error.into()))),
    };
    if watermark.0 > topic.next_seq {
        let message = format!(
            "topic {}: its table ends before seq {watermark}, its log before {}: the log lost events that the table has",
            def.name, topic.next_seq
        );
        return Ok((id, Err(IngestError::new(ErrorKind::Corrupt, message))));
    }
    if watermark < topic.watermark {
        let message = format!(
            "topic {}: events below seq {} were flushed, its table ends before {watermark}: it was rolled back or made anew by others",
            def.name, topic.watermark
        );
        return Ok((id, Err(IngestError::new(ErrorKind::Conflict, message))));
    }
    if !topic.confirmed {
        match core.parts.topics.confirm(&topic.tenant, &def).await {
            Ok(()) => topic.confirmed = true,
            Err(error) if error.kind().is_retryable() => return Err(error.into()),
            Err(error) => tracing::error!(topic = %def.name, %error, "the topic's register cannot be read"),
        }
    }
    topic.watermark = watermark;
    Ok((id, Ok(watermark)))
}

/// Makes decided rows visible that are not yet: all that are not in a table, or, if the lane is taken back, those that were in flight.
fn fill_tails(core: &Core, state: &LaneState, rows: Vec<PlacedRows>) -> Result<()> {
    let tail = core.tails.as_tail();
    for placed in rows.into_iter().filter(|placed| state.topics.contains_key(&placed.topic)) {
        let PlacedRows { topic, first_seq, time_micros, rows } = placed;
        let Some(end) = tail.snapshot(&topic).map(|held| held.end) else { continue };
        let after = first_seq.plus(rows.len());
        if after <= end {
            continue;
        }
        if first_seq > end {
            let message = format!("topic {topic}: expected the log to go on at seq {end}, found {first_seq}");
            return Err(IngestError::new(ErrorKind::Corrupt, message));
        }
        let (held, missing) = ((end.0 - first_seq.0) as usize, (after.0 - end.0) as usize);
        core.tails.push(&topic, rows.seal(first_seq, time_micros).slice(held, missing), None);
    }
    debug_assert!(state.topics.keys().all(|topic| tail.snapshot(topic).is_some_and(|held| held.end >= Seq::FIRST)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_whose_task_panics_says_that_it_has_stopped() {
        let open = Ownership::Open { lane: schemas::LaneId(0), epoch: schemas::Epoch(1) };
        let (sender, mut ownership) = watch::channel(open);
        let task = tokio::spawn(async move {
            let _voice = Voice(sender);
            panic!("as a defect would");
        });
        assert!(task.await.unwrap_err().is_panic());
        let said = ownership.borrow_and_update().clone();
        assert!(matches!(said, Ownership::Stopped(error) if error.kind() == ErrorKind::Internal));
    }
}
