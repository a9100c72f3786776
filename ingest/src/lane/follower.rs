//! Following a lane that another process owns (P3): what is decided there becomes visible here.
//!
//! A follower reads slot after slot. Where it finds a SEAL or nothing, it reads the root again, which alone knows what that means: the epoch was
//! closed here and the next one goes on; the floor has passed this place, and it begins anew from there; or this is the end for now. Rows that have
//! left the log lie in their tables, which it opens and never changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use schemas::{ErrorKind, Slot, TopicDef, TopicId};
use tokio::time::Instant;

use super::replay::{PlacedRows, Replay};
use super::root::{Root, read, vanished};
use super::takeover::{check, checkpointed, corrupt, read_slots};
use super::{Position, segment_path};
use crate::error::{IngestError, Result};
use crate::sequence::Core;
use crate::sequence::keeper::fill_topic;
use crate::wal::{FrameKind, Segment};

/// Tables opened or loaded at once.
const TABLES_AT_ONCE: usize = 16;
/// How often a checkpoint may be superseded between the root and itself before that is an error.
const BEGINS_MAX: usize = 8;
/// How often a topic's table that is not there yet is looked for: its owner makes it just after the topic's record.
const OPEN_INTERVAL: Duration = Duration::from_millis(250);
/// How often tables are asked how far they have come, at least.
const TRIM_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// A place in another's log, and the state there.
#[derive(Debug)]
pub(crate) struct Follower {
    core: Arc<Core>,
    root: Root,
    /// Everything before is visible.
    at: Position,
    replay: Replay,
    /// True once every topic of the lane is held, that is, once the checkpoint that it began with lies behind.
    has_settled: bool,
    /// Topics that no reader sees, since their tables could not be opened yet.
    unopened: BTreeSet<TopicId>,
    opens_at: Instant,
    trims_at: Instant,
    /// A step was broken off: what is in hand may be half of something.
    is_broken: bool,
}

/// What ended a row of segments.
enum End {
    Seal(Segment),
    Absent,
    /// The tails hold as much as they may.
    Full,
}

impl Follower {
    /// At the floor of the lane, with the state of its checkpoint. `None` if nobody ever owned it.
    pub(crate) async fn begin(core: &Arc<Core>) -> Result<Option<Self>> {
        let store = &core.parts.store;
        for _ in 0..BEGINS_MAX {
            let Some((root, _)) = read(store, core.lane).await? else { return Ok(None) };
            let Ok((state, covered)) = checkpointed(store, &root).await? else { continue };
            core.board.held(core.lane, Some(&root));
            let now = Instant::now();
            let follower = Self {
                core: Arc::clone(core),
                at: root.floor,
                root,
                replay: Replay::new(state, covered),
                has_settled: false,
                unopened: BTreeSet::new(),
                opens_at: now,
                trims_at: now,
                is_broken: false,
            };
            follower.show_parked().await?;
            return Ok(Some(follower));
        }
        let message = format!("lane {}: its checkpoint changes faster than it can be read", core.lane);
        Err(IngestError::new(ErrorKind::Unavailable, message))
    }

    /// The root as last read.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Everything before is visible.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// Makes everything visible that was acknowledged when this began. False if there was no room for it.
    ///
    /// It ends with a slot that is empty and a root, read after that, which still does not close the epoch: at the time of the first no newer owner
    /// could have acknowledged anything, and this one nothing beyond that slot.
    pub(crate) async fn advance(&mut self) -> Result<bool> {
        if self.is_broken {
            self.restart().await?;
        }
        self.is_broken = true;
        let is_caught_up = self.walk().await?;
        if !self.has_settled && !self.replay.is_covered(self.at) {
            self.settle().await?;
        }
        self.is_broken = false;
        self.open_tables().await?;
        self.trim(is_caught_up).await?;
        Ok(is_caught_up)
    }

    async fn walk(&mut self) -> Result<bool> {
        let mut missing: Option<Position> = None;
        loop {
            let end = self.read_on().await?;
            if matches!(end, End::Full) {
                return Ok(false);
            }
            let store = &self.core.parts.store;
            let gone = || vanished(self.core.lane, ErrorKind::Unavailable);
            let (root, _) = read(store, self.core.lane).await?.ok_or_else(gone)?;
            self.core.board.held(self.core.lane, Some(&root));
            self.root = root;
            if self.root.floor.is_after(self.at.epoch, self.at.slot) {
                self.restart().await?;
                missing = None;
                continue;
            }
            let Some(closed) = self.root.closed(self.at.epoch).copied() else { return Ok(true) };
            let is_end = closed.seal_slot == self.at.slot;
            match end {
                End::Seal(seal) if !is_end || seal.link != closed.hash => return Err(self.contradicts()),
                _ if is_end => {
                    self.at = Position { epoch: closed.epoch.next(), slot: Slot(0), hash: closed.hash };
                }
                // It was not there yet when it was looked for; a second time it would be lost.
                _ if closed.seal_slot > self.at.slot && missing != Some(self.at) => missing = Some(self.at),
                _ => return Err(self.contradicts()),
            }
        }
    }

    /// Shows what is there, up to a SEAL or an empty slot. One slot is asked for first: mostly it is empty.
    async fn read_on(&mut self) -> Result<End> {
        let (store, lane, from) = (self.core.parts.store.clone(), self.core.lane, self.at);
        let Some(first) = store.read_segment(&segment_path(lane, from.epoch, from.slot)).await? else {
            return Ok(End::Absent);
        };
        let later = read_slots(&store, lane, from.epoch, from.slot.0 + 1..);
        let mut objects = stream::iter([Ok(Some(first))]).chain(later);
        while let Some(object) = objects.next().await {
            let Some(object) = object? else { return Ok(End::Absent) };
            let segment = check(lane, self.at, &object)?;
            if segment.is_seal() {
                return Ok(End::Seal(segment));
            }
            if !self.core.tails.has_room() {
                return Ok(End::Full);
            }
            self.show(&object, &segment).await?;
        }
        Ok(End::Absent)
    }

    /// One more decided segment.
    async fn show(&mut self, object: &Bytes, segment: &Segment) -> Result<()> {
        let (at, is_covered) = (self.at, self.replay.is_covered(self.at));
        self.replay
            .feed(at, object.len(), segment)
            .map_err(|what| corrupt(format!("segment {}: {what}", segment_path(self.core.lane, at.epoch, at.slot))))?;
        self.replay.index.clear();
        for placed in std::mem::take(&mut self.replay.rows) {
            self.show_rows(placed).await?;
        }
        for frame in segment.frames.iter().filter(|_| !is_covered) {
            match frame.kind {
                FrameKind::TopicCreated | FrameKind::TopicChanged => self.hold(frame.topic),
                FrameKind::TopicDropped => self.let_go(frame.topic),
                _ => {}
            }
        }
        self.at = Position { epoch: at.epoch, slot: at.slot.next(), hash: segment.link };
        Ok(())
    }

    async fn show_rows(&self, placed: PlacedRows) -> Result<()> {
        let Some(topic) = self.replay.state.topics.get(&placed.topic) else { return Ok(()) };
        let def = Arc::clone(topic.shape().def());
        match self.core.tails.end(&placed.topic) {
            Some(end) if end >= placed.first_seq => {}
            Some(_) => self.pass_over(&def, placed.first_seq).await?,
            None => self.core.tails.add_topic(def, placed.first_seq),
        }
        show(&self.core, placed)
    }

    /// What lies between the tail's end and `next` has left the log: the table must be known to have it before the tail lets go.
    async fn pass_over(&self, def: &Arc<TopicDef>, next: schemas::Seq) -> Result<()> {
        match self.core.parts.tables.load(def).await {
            Ok(_) => {}
            Err(error) if error.kind().is_retryable() => return Err(error.into()),
            // No reader sees it without its table.
            Err(error) => tracing::debug!(topic = %def.name, %error, "a topic's table is not open here"),
        }
        self.core.tails.begin_at(def, next);
        Ok(())
    }

    /// A topic begins, or has another definition.
    fn hold(&mut self, topic: TopicId) {
        let Some(state) = self.replay.state.topics.get(&topic) else { return };
        self.core.tails.add_topic(Arc::clone(state.shape().def()), state.next_seq);
        self.unopened.insert(topic);
        self.opens_at = Instant::now();
    }

    /// A topic ended.
    fn let_go(&mut self, topic: TopicId) {
        self.unopened.remove(&topic);
        self.replay.state.dropped.remove(&topic);
        self.core.forget_topic(&topic);
    }

    /// Every topic of the lane is held from here on, and none that it no longer has.
    async fn settle(&mut self) -> Result<()> {
        self.core.forget_others(&self.replay.state);
        self.replay.state.dropped.clear();
        for topic in self.replay.state.topics.values() {
            let def = topic.shape().def();
            match self.core.tails.end(&def.id) {
                Some(end) if end >= topic.next_seq => {}
                Some(_) => self.pass_over(def, topic.next_seq).await?,
                None => self.core.tails.add_topic(Arc::clone(def), topic.next_seq),
            }
        }
        self.unopened = self.replay.state.topics.keys().copied().collect();
        self.has_settled = true;
        Ok(())
    }

    /// Opens the tables of topics that have none open yet, and shows those topics to readers.
    async fn open_tables(&mut self) -> Result<()> {
        if self.unopened.is_empty() || Instant::now() < self.opens_at {
            return Ok(());
        }
        self.opens_at = Instant::now() + OPEN_INTERVAL;
        let core = &self.core;
        let topics = self.unopened.iter().filter_map(|topic| self.replay.state.topics.get(topic));
        let opening: Vec<_> = topics
            .map(|topic| async move {
                let def = topic.shape().def();
                match core.parts.tables.open(&topic.tenant, def).await {
                    Ok(Some(_)) => {
                        core.parts.topics.publish(&topic.tenant, Arc::clone(def));
                        Ok(Some(def.id))
                    }
                    Ok(None) => Ok(None),
                    Err(error) if error.kind().is_retryable() => Err(IngestError::from(error)),
                    Err(error) => {
                        tracing::debug!(topic = %def.name, %error, "a topic's table cannot be opened here");
                        Ok(None)
                    }
                }
            })
            .collect();
        let opened: Vec<_> = stream::iter(opening).buffer_unordered(TABLES_AT_ONCE).try_collect().await?;
        for topic in opened.iter().flatten() {
            self.unopened.remove(topic);
        }
        Ok(())
    }

    /// Forgets rows that have arrived in their tables: at the pace at which the owner flushes, or at once if there is no room for more.
    async fn trim(&mut self, has_room: bool) -> Result<()> {
        let now = Instant::now();
        if has_room && now < self.trims_at {
            return Ok(());
        }
        let interval = Duration::from_millis(self.core.parts.settings.flush_interval_ms).max(TRIM_INTERVAL_MIN);
        self.trims_at = now + interval;
        let Core { tails, parts, .. } = &*self.core;
        let loads = tails.loads().into_iter();
        let held = loads.filter(|load| load.oldest_micros.is_some());
        let trimming = held.filter_map(|load| {
            let topic = self.replay.state.topics.get(&load.def.id)?;
            Some(async move {
                match parts.tables.open(&topic.tenant, &load.def).await {
                    Ok(Some(table)) => tails.trim(&load.def.id, table.watermark()),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(topic = %load.def.name, %error, "a topic's table cannot be read"),
                }
            })
        });
        stream::iter(trimming.collect::<Vec<_>>()).buffer_unordered(TABLES_AT_ONCE).collect::<()>().await;
        Ok(())
    }

    /// Rows that a checkpoint says are outside of the log and of their tables.
    async fn show_parked(&self) -> Result<()> {
        let (core, state) = (&self.core, &self.replay.state);
        for (topic, parked) in &state.parked {
            let Some(held) = state.topics.get(topic) else { continue };
            if core.tails.end(topic).is_some_and(|end| end >= parked.to) {
                continue;
            }
            core.tails.begin_at(held.shape().def(), parked.from);
            fill_topic(core, *topic, parked).await?;
        }
        Ok(())
    }

    /// From the floor again: the log has gone on without this follower.
    async fn restart(&mut self) -> Result<()> {
        let gone = || vanished(self.core.lane, ErrorKind::Unavailable);
        let anew = Self::begin(&self.core).await?.ok_or_else(gone)?;
        tracing::info!(lane = %self.core.lane, from = %self.at, to = %anew.at, "following the lane anew from its floor");
        *self = Self { is_broken: self.is_broken, ..anew };
        Ok(())
    }

    fn contradicts(&self) -> IngestError {
        let Self { core, at, root, .. } = self;
        corrupt(format!("lane {}: what is at {at} contradicts the root, which has closed {:?}", core.lane, root.closed))
    }
}

/// Makes decided rows visible that are not yet. Errors: `Corrupt` if they begin beyond the tail's end; it takes them up where the tail ends.
pub(crate) fn show(core: &Core, placed: PlacedRows) -> Result<()> {
    let PlacedRows { topic, first_seq, time_micros, rows } = placed;
    let Some(end) = core.tails.end(&topic) else { return Ok(()) };
    let after = first_seq.plus(rows.len());
    if after <= end {
        return Ok(());
    }
    if first_seq > end {
        return Err(corrupt(format!("topic {topic}: expected the log to go on at seq {end}, found {first_seq}")));
    }
    let (held, missing) = ((end.0 - first_seq.0) as usize, (after.0 - end.0) as usize);
    core.tails.push(&topic, rows.seal(first_seq, time_micros).slice(held, missing), None);
    Ok(())
}
