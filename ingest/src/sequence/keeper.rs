//! A lane in the hands of this process: as its owner, or standing by until it is.
//!
//! After the store was away an owner takes its own log over, as any new owner would. One that was fenced, or gave the lane away, stands by.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt, stream};
use schemas::envelope::column;
use schemas::{Epoch, ErrorKind, Seq, TopicId, Watermark};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::lane::{Closing, Lane, Opened, leaving, not_appended};
use super::standby::{Desk, stand_by};
use super::{Answer, Command, Core, Then};
use crate::engine::Ownership;
use crate::error::{IngestError, Result};
use crate::flush::{self, Flusher};
use crate::lane::follower::Follower;
use crate::lane::parked::{self, Parked};
use crate::lane::replay::PlacedRows;
use crate::lane::root::{Claim, Root, State};
use crate::lane::state::{LaneState, TopicState};
use crate::lane::takeover::{TakenOver, take_over};
use crate::lane::trim::sweep;

/// Tables opened at once.
const TABLES_AT_ONCE: usize = 16;
/// Watermarks that may wait for the lane's task.
const MOVED_MAX: usize = 256;
/// Records for which the keeping of tables may wait.
const ASKS_MAX: usize = 4;
/// The first pause before a lane is taken back; doubled each time up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Takes the lane over, if the claim's condition holds, and rebuilds everything that its log says.
#[tracing::instrument(level = "debug", skip_all, fields(lane = %core.lane))]
pub(crate) async fn open(core: &Arc<Core>, claim: Claim) -> Result<Kept> {
    let parts = &core.parts;
    let TakenOver { register, at, replay } = take_over(&parts.store, &parts.env, core.lane, &core.node, claim).await?;
    core.board.held(core.lane, Some(register.root()));
    let mut state = replay.state;
    core.forget_others(&state);
    finish_drops(core, &mut state).await;
    let parked: BTreeSet<String> = objects(&state).collect();
    let mut ailing = open_tables(core, &mut state, &replay.rows).await?;
    ailing.extend(fill_with_parked(core, &mut state, &ailing).await?);
    ailing.extend(fill_tails(core, &state, replay.rows));
    core.tails.forget_stops();
    for (id, topic) in &state.topics {
        show_or_close(core, topic, ailing.iter().find(|(ailing, _)| ailing == id).map(|(_, reason)| reason));
    }
    for (topic, reason) in ailing {
        tracing::error!(%topic, error = %reason, "the topic takes no appends: its table needs an operator");
        core.tails.stop_topic(&topic, reason);
        if state.parked.contains_key(&topic) {
            core.tails.set_parked(&topic);
        }
    }
    for topic in state.topics.values() {
        parts.topics.publish(&topic.tenant, Arc::clone(topic.shape().def()));
    }
    let (moved, watermarks) = mpsc::channel(MOVED_MAX);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let flusher = Flusher::start(flush::Parts {
        tails: core.tails.clone(),
        tables: parts.tables.clone(),
        env: parts.env.clone(),
        settings: parts.settings.clone(),
        pace: core.pace.clone(),
        lane: core.lane,
        epoch: at.epoch,
        moved,
        asks,
    });
    *core.flusher.lock() = Some(flusher);
    let (store, root, still_named) = (parts.store.clone(), register.root().clone(), parked.clone());
    tokio::spawn(async move { sweep(&store, &root, &still_named).await });
    let opened = Opened { register, at, state, index: replay.index, parked, moved: watermarks, asks: asked };
    Ok(Kept(Box::new(Lane::new(Arc::clone(core), opened))))
}

/// An open lane that no task runs yet.
#[derive(Debug)]
pub(crate) struct Kept(Box<Lane>);

impl Kept {
    /// What is said of it.
    pub(crate) fn ownership(&self, core: &Core) -> Ownership {
        Ownership::Open { lane: core.lane, epoch: self.0.epoch() }
    }

    /// A linearizable read that has waited for it.
    pub(super) fn catch_up(&mut self, answer: Answer<()>) {
        self.0.catch_up(answer);
    }
}

/// What this process is to a lane.
#[derive(Debug)]
pub(crate) enum Hand {
    /// Its owner.
    Owner(Kept),
    /// Another is, or nobody. `None`: where the log stands is to be found out.
    Standby(Option<Box<Follower>>),
}

impl Hand {
    /// What is said of it.
    pub(crate) fn ownership(&self, core: &Core) -> Ownership {
        match self {
            Self::Owner(kept) => kept.ownership(core),
            Self::Standby(follower) => standing_by(core, follower.as_deref().map(Follower::root)),
        }
    }

    /// Serves until told to end, or stopped for good. Nothing but an owner acts on commands that change anything.
    pub(crate) async fn run(mut self, core: Arc<Core>, mut commands: mpsc::Receiver<Command>, voice: Voice) {
        loop {
            voice.say(self.ownership(&core));
            let next = match self {
                Self::Owner(kept) => own(kept, &core, &mut commands, &voice).await,
                Self::Standby(follower) => {
                    Box::pin(stand_by(&core, follower.map(|follower| *follower), &mut commands, &voice))
                        .await
                        .map(|kept| kept.map(Self::Owner))
                }
            };
            match next {
                Ok(Some(hand)) => self = hand,
                Ok(None) => break,
                Err(reason) => {
                    tracing::error!(lane = %core.lane, error = %reason, "the lane has stopped for good");
                    voice.say(Ownership::Stopped(reason.clone()));
                    Desk::refusing(not_appended(&reason)).close(&mut commands).await;
                    break;
                }
            }
        }
        stop_flusher(&core).await;
        commands.close();
        let stopped = IngestError::new(ErrorKind::Unavailable, "nothing was appended: the server has shut down");
        while let Ok(command) = commands.try_recv() {
            command.refuse(&stopped);
        }
    }
}

/// Owns the lane until told to close it or something ends that. `None` if the process ends. Errors: why nobody here can go on.
async fn own(
    Kept(mut lane): Kept,
    core: &Arc<Core>,
    commands: &mut mpsc::Receiver<Command>,
    voice: &Voice,
) -> Result<Option<Hand>> {
    loop {
        let reason = match lane.serve(commands).await {
            Ok(closing) => return Ok(close(lane, closing, core).await),
            Err(reason) => reason,
        };
        drop(lane);
        tracing::error!(lane = %core.lane, error = %reason, "the lane has stopped");
        let was_fenced = reason.kind() == ErrorKind::Fenced;
        voice.say(if was_fenced { standing_by(core, None) } else { Ownership::Stopped(reason.clone()) });
        stop_flusher(core).await;
        match take_back(core, reason, commands).await {
            Ok(Some(Kept(taken))) => lane = taken,
            Ok(None) => return Ok(None),
            Err(reason) if reason.kind() == ErrorKind::Fenced => return Ok(Some(Hand::Standby(None))),
            Err(reason) => return Err(reason),
        }
        voice.say(Ownership::Open { lane: core.lane, epoch: lane.epoch() });
    }
}

/// Says in the root that the lane is closed: whoever takes it over need not wait. All that was acknowledged is decided by now.
async fn close(mut lane: Box<Lane>, closing: Closing, core: &Core) -> Option<Hand> {
    stop_flusher(core).await;
    let heir = match closing.then {
        Then::End => None,
        Then::StandBy { heir } => Some(heir),
    };
    if let Some(mut register) = lane.take_register() {
        let said = register.change(|root| (root.state, root.heir) = (State::Closed, heir)).await;
        match said {
            Ok(()) => core.board.held(core.lane, Some(register.root())),
            Err(error) => {
                tracing::warn!(lane = %core.lane, %error, "the root could not be told that the lane is closed")
            }
        }
    }
    drop(lane);
    if let Some(answer) = closing.answer {
        drop(answer.send(Ok(())));
    }
    heir.map(|_| Hand::Standby(None))
}

/// What is said of a lane that another owns.
pub(super) fn standing_by(core: &Core, root: Option<&Root>) -> Ownership {
    let is_vacant = root.is_some_and(|root| root.state == State::Closed || root.owner == core.node.id);
    let owner = root.filter(|_| !is_vacant).and_then(|root| root.address.clone());
    Ownership::Standby { lane: core.lane, epoch: root.map_or(Epoch(0), |root| root.epoch), owner, is_vacant }
}

/// What the lane's task says of its ownership, also when it panics: else the server would seem open for ever, and take nothing.
#[derive(Debug)]
pub(crate) struct Voice {
    /// Of this lane.
    pub(crate) ownership: watch::Sender<Ownership>,
    /// Changes with any lane's.
    pub(crate) changes: watch::Sender<u64>,
}

impl Voice {
    pub(super) fn say(&self, next: Ownership) {
        let has_changed = self.ownership.send_if_modified(|said| {
            let has_changed = *said != next;
            *said = next;
            has_changed
        });
        if has_changed {
            self.changes.send_modify(|changes| *changes += 1);
        }
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

/// Opens the lane again, as often as it takes. `None` if told to end meanwhile. Errors: why it never will.
async fn take_back(
    core: &Arc<Core>,
    mut reason: IngestError,
    commands: &mut mpsc::Receiver<Command>,
) -> Result<Option<Kept>> {
    let mut pause = PAUSE_MIN;
    let mut desk = Desk::refusing(not_appended(&reason));
    while reason.kind().is_retryable() {
        desk.refuse_for(not_appended(&reason));
        if desk.meanwhile(commands, sleep(pause)).await.is_none() {
            return Ok(None);
        }
        pause = PAUSE_MAX.min(2 * pause);
        match desk.meanwhile(commands, Box::pin(open(core, Claim::Mine))).await {
            None => return Ok(None),
            Some(Ok(mut kept)) => {
                desk.hand_over(&mut kept);
                return Ok(Some(kept));
            }
            Some(Err(error)) => reason = error,
        }
        tracing::warn!(lane = %core.lane, error = %reason, "the lane could not be taken back yet");
    }
    desk.fail(&reason);
    Err(reason)
}

/// Does what was left undone after the record of a drop. First of all, since the name may be another topic's by now. What cannot be done yet is tried again
/// while the lane is open.
async fn finish_drops(core: &Core, state: &mut LaneState) {
    for (topic, dropped) in &mut state.dropped {
        core.tails.drop_topic(topic);
        core.parts.topics.retract(&dropped.tenant, topic);
        if dropped.since_micros.is_some() {
            continue;
        }
        match leaving::let_go_of_name(&core.parts, dropped).await {
            Ok(()) => dropped.since_micros = Some(core.parts.env.now_micros()),
            Err(error) => {
                tracing::error!(%topic, %error, "a dropped topic's registers cannot be changed, so its name stays taken")
            }
        }
    }
}

/// Opens every topic's table, confirms what was not confirmed, and begins the tails where the tables end.
///
/// Returns the topics whose table is not what the lane left: they stop, and the others go on.
async fn open_tables(core: &Core, state: &mut LaneState, rows: &[PlacedRows]) -> Result<Vec<(TopicId, IngestError)>> {
    let opening: Vec<_> = state.topics.iter_mut().map(|(id, topic)| open_table(core, *id, topic)).collect();
    let opened: Vec<_> = stream::iter(opening).buffer_unordered(TABLES_AT_ONCE).try_collect().await?;
    let mut oldest_in_log = HashMap::new();
    for placed in rows {
        oldest_in_log.entry(placed.topic).or_insert(placed.first_seq);
    }
    let mut ailing = Vec::new();
    for (id, table) in opened {
        let topic = &state.topics[&id];
        let in_log = oldest_in_log.get(&id).copied().unwrap_or(topic.next_seq);
        let oldest = state.parked.get(&id).map_or(in_log, |parked| parked.from.min(in_log));
        let start = match table {
            Ok(Watermark(start)) if start >= oldest => start,
            Ok(watermark) => {
                ailing.push((id, lost(topic, watermark, oldest)));
                oldest
            }
            Err(reason) => {
                ailing.push((id, reason));
                oldest
            }
        };
        core.tails.begin_by(topic.shape().def(), start);
        core.tails.trim(&id, Watermark(start));
    }
    Ok(ailing)
}

/// Readers see a topic of which nothing is missing between its table and the end of its log, and are told why they do not see another.
fn show_or_close(core: &Core, topic: &TopicState, ails: Option<&IngestError>) {
    let (tables, def) = (&core.parts.tables, topic.shape().def());
    let held = core.tails.as_tail().snapshot(&def.id);
    let is_whole = held.zip(tables.watermark(&def.id)).is_some_and(|(held, Watermark(watermark))| {
        held.start <= watermark && held.end.max(watermark) >= topic.next_seq
    });
    match ails {
        _ if is_whole => tables.show(&def.id),
        Some(reason) => tables.close(&def.id, reason.kind(), format!("topic {} cannot be read: {reason}", def.name)),
        None => {
            let message = format!("topic {} cannot be read: this server does not hold what its table lacks", def.name);
            tables.close(&def.id, ErrorKind::Internal, message);
        }
    }
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
        let versions: Vec<_> = topic.shapes.iter().map(|shape| shape.def().as_ref()).collect();
        match core.parts.topics.follow(&topic.tenant, &versions).await {
            Ok(()) => topic.confirmed = true,
            Err(error) if error.kind().is_retryable() => return Err(error.into()),
            Err(error) => tracing::error!(topic = %def.name, %error, "the topic's register cannot be read"),
        }
    }
    topic.watermark = watermark;
    Ok((id, Ok(watermark)))
}

/// The table ends before what is left of the log.
fn lost(topic: &TopicState, watermark: Watermark, oldest: Seq) -> IngestError {
    let name = &topic.shape().def().name;
    let message = format!(
        "topic {name}: its table ends before seq {watermark}, and the oldest event outside of it has seq {oldest}: the table was rolled back or made anew by others"
    );
    IngestError::new(ErrorKind::Conflict, message)
}

fn objects(state: &LaneState) -> impl Iterator<Item = String> {
    state.parked.values().flat_map(|parked| &parked.objects).map(|object| object.name.clone())
}

/// Makes parked rows visible, which come before what the log has. A topic whose parked rows are all in its table by now is parked no more; the others, which
/// are returned with the reason, go on taking no appends. Errors: those of the store.
async fn fill_with_parked(
    core: &Core,
    state: &mut LaneState,
    ailing: &[(TopicId, IngestError)],
) -> Result<Vec<(TopicId, IngestError)>> {
    let ails = |id: &TopicId| ailing.iter().any(|(ailing, _)| ailing == id);
    let topics = &state.topics;
    state.parked.retain(|id, parked| topics.get(id).is_some_and(|topic| ails(id) || topic.watermark.0 < parked.to));
    let mut reasons = Vec::new();
    for (id, parked) in &state.parked {
        let has_room = || core.tails.has_parked_room(id, core.parts.settings.parked_bytes_max);
        let reason = match fill_topic(core, *id, parked, has_room).await {
            Ok(is_whole) => {
                if !is_whole {
                    core.tails.let_go(id);
                    core.tails.begin_at(topics[id].shape().def(), parked.to);
                }
                match is_whole {
                    _ if ails(id) => continue,
                    true => IngestError::new(ErrorKind::Conflict, parked.reason.clone()),
                    false => too_large(&parked.reason),
                }
            }
            Err(error) if error.kind().is_retryable() => return Err(error),
            Err(error) => error,
        };
        reasons.push((*id, reason));
    }
    Ok(reasons)
}

/// The rows of a topic that was parked just now stay readable if there is room for them in memory: nothing but that needs them there.
pub(super) fn keep_parked(core: &Core, topic: &TopicId, parked: &Parked) {
    core.tails.set_parked(topic);
    if !core.tails.has_parked_room(topic, core.parts.settings.parked_bytes_max) {
        let reason = too_large(&parked.reason);
        core.parts.tables.close(topic, reason.kind(), format!("topic {topic} cannot be read: {reason}"));
        core.tails.let_go(topic);
    }
}

/// Why a parked topic can be read only once it has been resumed.
fn too_large(reason: &str) -> IngestError {
    let message = format!(
        "its events that are in no table are parked, and take more memory than there is for such (ingest.parked_bytes_max): resume it first ({reason})"
    );
    IngestError::new(ErrorKind::Conflict, message)
}

/// Makes a topic's parked rows visible that are not yet, an object at a time. False once there is no room for more. Errors: those of reading one.
pub(crate) async fn fill_topic(
    core: &Core,
    topic: TopicId,
    parked: &Parked,
    has_room: impl Fn() -> bool,
) -> Result<bool> {
    let tail = core.tails.as_tail();
    for object in &parked.objects {
        let end = tail.snapshot(&topic).map_or(object.to, |held| held.end);
        if object.to <= end {
            continue;
        }
        if !has_room() {
            return Ok(false);
        }
        for batch in parked::read(&core.parts.store, core.lane, topic, object).await? {
            let seqs = batch.column(column::SEQ).as_primitive::<Int64Type>();
            let known = seqs.values().partition_point(|seq| *seq < end.0);
            core.tails.push(&topic, batch.slice(known, batch.num_rows() - known), None);
        }
    }
    Ok(has_room())
}

/// Makes decided rows visible that are not yet: all that are not in a table, or, if the lane is taken back, those that were in flight. Returns the topics of
/// which some are missing before others: those stop.
fn fill_tails(core: &Core, state: &LaneState, rows: Vec<PlacedRows>) -> Vec<(TopicId, IngestError)> {
    let tail = core.tails.as_tail();
    let mut ailing: Vec<(TopicId, IngestError)> = Vec::new();
    for placed in rows.into_iter().filter(|placed| state.topics.contains_key(&placed.topic)) {
        let PlacedRows { topic, first_seq, time_micros, rows } = placed;
        let Some(end) = tail.snapshot(&topic).map(|held| held.end) else { continue };
        let after = first_seq.plus(rows.len());
        if after <= end {
            continue;
        }
        if first_seq > end {
            if ailing.iter().all(|(known, _)| *known != topic) {
                let message = format!("topic {topic}: expected the log to go on at seq {end}, found {first_seq}");
                ailing.push((topic, IngestError::new(ErrorKind::Corrupt, message)));
            }
            continue;
        }
        let (held, missing) = ((end.0 - first_seq.0) as usize, (after.0 - end.0) as usize);
        core.tails.push(&topic, rows.seal(first_seq, time_micros).slice(held, missing), None);
    }
    debug_assert!(state.topics.keys().all(|topic| tail.snapshot(topic).is_some_and(|held| held.end >= Seq::FIRST)));
    ailing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_whose_task_panics_says_that_it_has_stopped() {
        let open = Ownership::Open { lane: schemas::LaneId(0), epoch: schemas::Epoch(1) };
        let (ownership, mut heard) = watch::channel(open);
        let task = tokio::spawn(async move {
            let _voice = Voice { ownership, changes: watch::Sender::new(0) };
            panic!("as a defect would");
        });
        assert!(task.await.unwrap_err().is_panic());
        let said = heard.borrow_and_update().clone();
        assert!(matches!(said, Ownership::Stopped(error) if error.kind() == ErrorKind::Internal));
    }
}
