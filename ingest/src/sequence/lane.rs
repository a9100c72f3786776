//! The task that owns a lane (P2): takes commands, assigns seqs, groups, puts several segments at once, and answers in slot order.
//!
//! Segment 7 may land before segment 6. It counts only once 6 is this owner's too: until then its rows are invisible and its producers wait, for
//! if this process dies now, the next owner may find slot 6 empty, seal the epoch there, and 7 never happened.

pub(crate) mod leaving;
mod taking;
mod trimming;
mod written;

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use catalog::table::FlushRows;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use schemas::planted::{Bug, planted};
use schemas::{Epoch, ErrorKind, Seq, TopicId, Watermark};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until};

use self::leaving::Leaving;
use self::written::Written;
use super::group::{Entry, Group, Waiter};
use super::halted::Halted;
use super::put::{Landing, put};
use super::verdict::Verdicts;
use super::{Answer, Command, Core, Then};
use crate::error::{IngestError, Result};
use crate::lane::floor::Indexed;
use crate::lane::root::{RootRegister, fenced, read};
use crate::lane::state::{Effect, LaneState};
use crate::lane::trim::Trimmed;
use crate::lane::{Position, segment_path};
use crate::wal::{Place, TopicEnd, segment};

/// How often an owner looks whether it still is one. Nothing rests on it: it lets an idle server say sooner that it was fenced.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a lane begins with.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) register: RootRegister,
    pub(super) at: Position,
    pub(super) state: LaneState,
    pub(super) index: Vec<Indexed>,
    /// Names of the parked objects that the lane's checkpoint names.
    pub(super) parked: BTreeSet<String>,
    /// Watermarks that the flusher moved.
    pub(super) moved: mpsc::Receiver<(TopicId, Watermark)>,
    /// What the keeping of tables asks for.
    pub(super) asks: mpsc::Receiver<Command>,
}

/// An open lane. Ends with the first thing that puts its ownership in doubt.
#[derive(Debug)]
pub(super) struct Lane {
    core: Arc<Core>,
    /// With the trim that is under way, if there is one.
    register: Option<RootRegister>,
    /// With everything that was assigned: what the next append is judged by.
    head: LaneState,
    /// With everything that was decided: what readers see and checkpoints say.
    decided: LaneState,
    /// Where the next segment goes.
    next: Position,
    /// Everything before is decided.
    decided_at: Position,
    /// Decided segments from the floor on.
    index: Vec<Indexed>,
    since_checkpoint: Written,
    /// Size of the last checkpoint; 0 if this owner has written none yet.
    checkpoint_bytes: usize,
    group: Group,
    in_flight: VecDeque<InFlight>,
    /// The puts of what is in flight, in the same order. Driven by this very task: a hand-over less between a put's end and its answer.
    puts: FuturesOrdered<BoxFuture<'static, Landing>>,
    trim: Option<JoinHandle<(RootRegister, Result<Trimmed>)>>,
    trim_not_before: Instant,
    /// Names of the parked objects that the lane's checkpoint names.
    parked: BTreeSet<String>,
    /// Topics that take no appends, and why.
    halted: Halted,
    verdicts: Verdicts,
    leaving: Leaving,
    /// Changes when one more does.
    stops: watch::Receiver<u64>,
    moved: mpsc::Receiver<(TopicId, Watermark)>,
    asks: mpsc::Receiver<Command>,
    /// Ends when the root shows another epoch.
    watch: JoinHandle<IngestError>,
    closing: Option<Closing>,
}

/// A segment that may have landed.
#[derive(Debug)]
struct InFlight {
    at: Position,
    after: Position,
    bytes: usize,
    topics: Vec<TopicEnd>,
    entries: Vec<Entry>,
    waiters: Vec<Waiter>,
    begun: Instant,
}

/// On the way out.
#[derive(Debug)]
pub(super) struct Closing {
    /// Whoever wants to know that it is over.
    pub(super) answer: Option<Answer<()>>,
    pub(super) then: Then,
    has_trimmed: bool,
}

impl Lane {
    pub(super) fn new(core: Arc<Core>, opened: Opened) -> Self {
        let Opened { register, at, state, index, parked, moved, asks } = opened;
        let stops = core.tails.stops();
        let watch = tokio::spawn(watch_root(Arc::clone(&core), at.epoch));
        let bytes = index.iter().map(|segment| segment.bytes).sum();
        let since_checkpoint = Written { bytes, segments: index.len() };
        metrics::gauge!("firn_lane_epoch").set(at.epoch.0 as f64);
        let mut lane = Self {
            core,
            register: Some(register),
            head: state.clone(),
            decided: state,
            next: at,
            decided_at: at,
            index,
            since_checkpoint,
            checkpoint_bytes: 0,
            group: Group::default(),
            in_flight: VecDeque::new(),
            puts: FuturesOrdered::new(),
            trim: None,
            trim_not_before: Instant::now(),
            parked,
            halted: Halted::default(),
            verdicts: Verdicts::default(),
            leaving: Leaving::default(),
            stops,
            moved,
            asks,
            watch,
            closing: None,
        };
        lane.halt_stopped();
        lane
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.next.epoch
    }

    /// The root, to say in it that this owner has closed its lane. Gives it once.
    pub(super) fn take_register(&mut self) -> Option<RootRegister> {
        self.register.take()
    }

    /// Serves until told to close: then all that was acknowledged is decided. Errors: why this owner had to stop; everybody who waited has been
    /// answered.
    pub(super) async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<Closing> {
        let ended = self.run(commands).await;
        if let Err(reason) = &ended {
            self.abandon(reason);
        }
        ended
    }

    async fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<Closing> {
        loop {
            while self.may_put() {
                self.put_group();
            }
            self.trim_if_due();
            self.remove_files_if_due();
            self.verdicts.look_if_due(&self.core);
            if let Some(closing) = self.closed() {
                return Ok(closing);
            }
            let lingers_until = self.lingers_until();
            tokio::select! {
                biased;
                Some(landing) = self.puts.next() => self.landed(landing).await?,
                Some((topic, watermark)) = self.moved.recv() => self.moved_to(topic, watermark),
                trimmed = outcome(&mut self.trim) => self.trimmed(trimmed)?,
                shown = self.verdicts.looked() => self.verdicts.give(shown, &self.core, self.next.epoch)?,
                looked = outcome(&mut self.leaving.look) => self.removed_files(looked),
                Ok(()) = self.stops.changed() => self.halt_stopped(),
                ended = &mut self.watch => return Err(ended.unwrap_or_else(|error| ended_badly("the watch over the root", &error))),
                Some(command) = self.asks.recv(), if self.has_room() => self.take(command),
                command = commands.recv(), if self.has_room() => self.take_all(command, commands),
                () = sleep_until(self.trim_not_before), if self.trim.is_none() && self.has_parkable() => {}
                () = sleep_until(lingers_until.unwrap_or_else(Instant::now)), if lingers_until.is_some() => {}
                () = sleep_until(self.leaving.not_before), if self.leaving.look.is_none() && self.has_leaving() => {}
            }
        }
    }

    /// Room for another command: a full group waits for a put to end, and everybody else with it.
    fn has_room(&self) -> bool {
        self.closing.is_none() && self.group.bytes < self.core.group_bytes() && self.verdicts.has_room()
    }

    /// Takes a command, and whatever else is waiting, so that it rides in the same segment.
    fn take_all(&mut self, first: Option<Command>, commands: &mut mpsc::Receiver<Command>) {
        let Some(first) = first else {
            self.closing = Some(Closing { answer: None, then: Then::End, has_trimmed: false });
            return;
        };
        self.take(first);
        while self.has_room()
            && let Ok(command) = commands.try_recv()
        {
            self.take(command);
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append(append) => self.take_append(append),
            Command::Producer { topic, name, resume, answer } => self.issue_epoch(&topic, name, resume, answer),
            Command::Fence { topic, key_prefix, set, answer } => self.fence(&topic, key_prefix, set, answer),
            Command::Retain { topic, below, answer } => self.retain(topic, below, answer),
            Command::Create { tenant, shape, answer } => {
                if !self.head.topics.contains_key(&shape.def().id) {
                    self.group.create(&mut self.head, tenant, shape);
                }
                self.answer_in_order(answer);
            }
            Command::Change { shape, answer } => self.change(shape, answer),
            Command::Drop { topic, answer } => {
                if self.head.topics.contains_key(&topic) {
                    self.group.drop_topic(&mut self.head, topic);
                }
                self.answer_in_order(answer);
            }
            Command::Followed { topic } => {
                let now = self.core.parts.env.now_micros();
                for state in [&mut self.head, &mut self.decided] {
                    if let Some(dropped) = state.dropped.get_mut(&topic) {
                        dropped.since_micros.get_or_insert(now);
                    }
                    if let Some(topic) = state.topics.get_mut(&topic) {
                        topic.confirmed = true;
                    }
                }
            }
            Command::Resume { topic, watermark, answer } => {
                self.moved_to(topic, watermark);
                if self.core.tails.stopped(&topic).is_none() {
                    self.halted.resume(&topic);
                }
                self.answer_in_order(answer);
            }
            // Who asks may have gone.
            Command::Parked { topic, answer } => drop(answer.send(Ok(self.decided.parked.get(&topic).cloned()))),
            Command::Settle { answer } => self.answer_in_order(answer),
            Command::Close { answer, then } => {
                self.closing = Some(Closing { answer: Some(answer), then, has_trimmed: false });
            }
            Command::CatchUp { answer } => self.catch_up(answer),
            Command::TakeOver { answer } => Waiter::Other(answer).succeed(),
        }
    }

    /// Answers once everything taken so far is decided: what an answer rests on must be durable.
    fn answer_in_order(&mut self, answer: Answer<()>) {
        self.settle(Waiter::Other(answer));
    }

    fn may_put(&self) -> bool {
        let has_company = self.closing.is_some() || self.lingers_until().is_none_or(|until| until <= Instant::now());
        !self.group.is_empty()
            && has_company
            && self.in_flight.len() < self.core.parts.settings.puts_in_flight_max.max(1)
    }

    /// Until when the group waits for company, if it does.
    fn lingers_until(&self) -> Option<Instant> {
        let linger = self.core.linger();
        let waits = !linger.is_zero() && self.group.bytes < self.core.group_bytes();
        let may_go = self.in_flight.len() < self.core.parts.settings.puts_in_flight_max.max(1);
        self.group.since.filter(|_| waits && may_go).map(|since| since + linger)
    }

    fn put_group(&mut self) {
        let Group { frames, mut entries, mut waiters, .. } = std::mem::take(&mut self.group);
        if planted(Bug::VisibleBeforeDecided) {
            std::mem::take(&mut entries).into_iter().for_each(|entry| self.make_visible(entry));
        }
        if planted(Bug::FlushOfUndecided) {
            self.flush_undecided(&entries);
        }
        let (lane, at, parts) = (self.core.lane, self.next, &self.core.parts);
        let place = Place { lane, epoch: at.epoch, slot: at.slot, predecessor: at.hash };
        let segment = segment::encode(place, parts.env.nonce(), &frames);
        let after = Position { epoch: at.epoch, slot: at.slot.next(), hash: segment.link };
        let limit = Duration::from_millis(parts.settings.put_deadline_ms);
        let (bytes, topics) = (segment.bytes.len(), segment.topics);
        let path = segment_path(lane, at.epoch, at.slot);
        let put = put(parts.store.clone(), path, segment.bytes, limit);
        if planted(Bug::AckOutOfOrder) {
            let early = std::mem::take(&mut waiters);
            self.puts.push_back(Box::pin(put.inspect(|landing| {
                if matches!(landing, Landing::Mine) {
                    early.into_iter().for_each(Waiter::succeed);
                }
            })));
        } else {
            self.puts.push_back(Box::pin(put));
        }
        self.next = after;
        self.in_flight.push_back(InFlight { at, after, bytes, topics, entries, waiters, begun: Instant::now() });
        metrics::gauge!("firn_puts_in_flight").set(self.in_flight.len() as f64);
    }

    /// Only a planted defect does this: what the table has by then may never have happened.
    fn flush_undecided(&self, entries: &[Entry]) {
        for placed in entries.iter().filter_map(|entry| Some(&entry.rows.as_ref()?.0)) {
            let (tables, def) =
                (self.core.parts.tables.clone(), Arc::clone(self.head.topics[&placed.topic].shape().def()));
            let (from, to) = (placed.first_seq, placed.first_seq.plus(placed.rows.len()));
            let batch = placed.rows.clone().seal(from, placed.time_micros);
            let (lane, epoch) = (self.core.lane, self.next.epoch);
            tokio::spawn(async move {
                drop(tables.flush(&def, FlushRows { from, to, batches: &[batch], lane, epoch }).await);
            });
        }
    }

    /// The oldest put has an answer.
    async fn landed(&mut self, landing: Landing) -> Result<()> {
        match landing {
            Landing::Mine => {
                let segment = self.in_flight.pop_front().expect("it has just landed");
                self.decide(segment);
                Ok(())
            }
            Landing::Others => Err(stolen(Arc::clone(&self.core), self.next.epoch).await),
            Landing::Unknown(error) => Err(error),
        }
    }

    /// A segment is this owner's, as are all before it: its rows become visible, then its producers are answered.
    fn decide(&mut self, segment: InFlight) {
        let InFlight { at, after, bytes, topics, entries, waiters, begun, .. } = segment;
        metrics::histogram!("firn_put_seconds").record(begun.elapsed().as_secs_f64());
        metrics::counter!("firn_log_bytes_total").increment(bytes as u64);
        let appends = waiters.iter().filter(|waiter| matches!(waiter, Waiter::Append(..))).count();
        metrics::counter!("firn_appends_total").increment(appends as u64);
        metrics::gauge!("firn_puts_in_flight").set(self.in_flight.len() as f64);
        for entry in entries {
            self.make_visible(entry);
        }
        self.decided_at = after;
        self.index.push(Indexed { at, bytes, topics: topics.into(), is_seal: false });
        self.since_checkpoint.bytes += bytes;
        self.since_checkpoint.segments += 1;
        waiters.into_iter().for_each(|waiter| self.decided_for(waiter));
    }

    fn make_visible(&mut self, Entry { effect, rows }: Entry) {
        self.decided.apply(&effect).expect("the head has applied it already, in this order");
        let tails = &self.core.tails;
        match &effect {
            Effect::Created { shape, .. } => tails.add_topic(Arc::clone(shape.def()), Seq::FIRST),
            Effect::Dropped { topic } => {
                tails.drop_topic(topic);
                self.halted.resume(topic);
            }
            Effect::Changed { shape } => {
                let next = self.decided.topics[&shape.def().id].next_seq;
                tails.add_topic(Arc::clone(shape.def()), next);
            }
            Effect::Appended { .. } | Effect::Producer { .. } | Effect::Fence { .. } | Effect::Retained { .. } => {}
        }
        if let Some((mut placed, permit)) = rows {
            let topic = &self.decided.topics[&placed.topic];
            placed.rows.share_prefixes(&|prefix| topic.admits(prefix), topic.shape().def().name.as_str());
            metrics::counter!("firn_events_total").increment(placed.rows.len() as u64);
            tails.push(&placed.topic, placed.rows.seal(placed.first_seq, placed.time_micros), permit);
        }
    }

    fn moved_to(&mut self, topic: TopicId, watermark: Watermark) {
        for state in [&mut self.head, &mut self.decided] {
            if let Some(topic) = state.topics.get_mut(&topic) {
                topic.watermark = topic.watermark.max(watermark);
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.group.is_empty() && self.in_flight.is_empty()
    }

    /// Once there is nothing left to do: who waits for that.
    fn closed(&mut self) -> Option<Closing> {
        let is_done = self.is_drained() && self.verdicts.is_empty() && self.trim.is_none();
        self.closing.take_if(|closing| is_done && closing.has_trimmed)
    }

    /// Answers everybody: what is in flight may have happened, what was not put has not.
    fn abandon(&mut self, reason: &IngestError) {
        let perhaps = IngestError::new(ErrorKind::Indeterminate, format!("it may have been appended: {reason}"));
        let not = not_appended(reason);
        self.puts.clear();
        for segment in self.in_flight.drain(..) {
            segment.waiters.into_iter().for_each(|waiter| waiter.fail(&perhaps, &not));
        }
        std::mem::take(&mut self.group).waiters.into_iter().for_each(|waiter| waiter.fail(&not, &not));
        self.verdicts.fail(&not);
        if let Some(answer) = self.closing.take().and_then(|closing| closing.answer) {
            Waiter::Other(answer).fail(&not, &not);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.watch.abort();
        if let Some(trim) = &self.trim {
            trim.abort();
        }
        if let Some(look) = &self.leaving.look {
            look.abort();
        }
    }
}

/// What is answered to those whose command this owner has not acted on.
pub(super) fn not_appended(reason: &IngestError) -> IngestError {
    let kind = if reason.kind() == ErrorKind::Fenced { ErrorKind::Fenced } else { ErrorKind::Unavailable };
    IngestError::new(kind, format!("nothing was appended: {reason}"))
}

/// A task of the lane's panicked: retryable, since the lane is taken back from what the store has.
fn ended_badly(what: &str, error: &JoinError) -> IngestError {
    IngestError::new(ErrorKind::Unavailable, format!("{what} ended badly: {error}"))
}

async fn outcome<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}

/// Another's segment stands where this owner's should: who is it?
async fn stolen(core: Arc<Core>, epoch: Epoch) -> IngestError {
    let lane = core.lane;
    match read(&core.parts.store, lane).await {
        Ok(Some((root, _))) if root.epoch != epoch => fenced(lane, root.epoch),
        Ok(_) => {
            let message = format!("lane {lane}: a slot of epoch {epoch} holds another's segment");
            IngestError::new(ErrorKind::Indeterminate, message)
        }
        Err(error) => error,
    }
}

/// Returns when the root shows another epoch.
async fn watch_root(core: Arc<Core>, epoch: Epoch) -> IngestError {
    loop {
        sleep(LOOK_INTERVAL).await;
        match read(&core.parts.store, core.lane).await {
            Ok(Some((root, _))) if root.epoch != epoch => return fenced(core.lane, root.epoch),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the lane's root cannot be read"),
        }
    }
}
