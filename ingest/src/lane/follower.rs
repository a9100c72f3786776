//! Following a lane that another process owns (P3): what is decided there becomes visible here.
//!
//! A follower reads slot after slot. Where it finds a SEAL or nothing, it reads the root again, which alone knows what that means: the epoch was
//! closed here and the next one goes on; the floor has passed this place, and it begins anew from there; or this is the end for now. Rows that have
//! left the log lie in their tables, which it opens and never changes. A topic that cannot be read here stops no other: see [`opening`].

mod opening;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use schemas::limits::TABLE_LOOK_SECONDS;
use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, Seq, Slot, TopicDef, TopicId};
use tokio::time::Instant;

use self::opening::{Opening, close, reaches};
use super::replay::{PlacedRows, Replay};
use super::root::{CheckpointRef, Root, read, vanished};
use super::state::TopicState;
use super::takeover::{check, checkpointed, corrupt, read_slots};
use super::{Position, segment_path};
use crate::error::{IngestError, Result};
use crate::sequence::Core;
use crate::sequence::keeper::fill_topic;
use crate::wal::{FrameKind, Segment};

/// Tables loaded at once.
const TABLES_AT_ONCE: usize = 16;
/// Why a topic cannot be read whose rows were let go.
const NO_ROOM: &str = "its table does not take its events, and they take more room than there is; ask the lane's owner";
/// How often a checkpoint may be superseded between the root and itself before that is an error.
const BEGINS_MAX: usize = 8;
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
    /// Topics that readers cannot read yet.
    opening: Opening,
    /// The checkpoint whose parked topics are known.
    parked_of: Option<CheckpointRef>,
    trims_at: Instant,
    /// Topics whose tables could not be asked then.
    untrimmed: BTreeSet<TopicId>,
    /// When the tables of all topics are looked at, those without rows in the tail included.
    looks_at: Instant,
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
        Self::begin_with(core, Opening::default()).await
    }

    async fn begin_with(core: &Arc<Core>, mut opening: Opening) -> Result<Option<Self>> {
        let store = &core.parts.store;
        for _ in 0..BEGINS_MAX {
            let Some((root, _)) = read(store, core.lane).await? else { return Ok(None) };
            let Ok((state, covered)) = checkpointed(store, &root).await? else { continue };
            core.board.held(core.lane, Some(&root));
            let mut follower = Self {
                core: Arc::clone(core),
                at: root.floor,
                parked_of: root.checkpoint.clone(),
                root,
                replay: Replay::new(state, covered),
                has_settled: false,
                opening: std::mem::take(&mut opening),
                trims_at: Instant::now(),
                untrimmed: BTreeSet::new(),
                looks_at: Instant::now() + Duration::from_secs(TABLE_LOOK_SECONDS),
                is_broken: false,
            };
            follower.show_parked().await;
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
        self.opening.advance(&self.core, &self.replay.state).await;
        self.trim(is_caught_up).await;
        if !is_caught_up && !self.core.tails.has_room() {
            self.make_room().await?;
        }
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
            let is_believed = planted(Bug::SealBelowFloorBelieved) && matches!(end, End::Seal(_));
            if self.root.floor.is_after(self.at.epoch, self.at.slot) && !is_believed {
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

    async fn show_rows(&mut self, placed: PlacedRows) -> Result<()> {
        let Some(topic) = self.replay.state.topics.get(&placed.topic) else { return Ok(()) };
        let def = Arc::clone(topic.shape().def());
        if self.opening.is_shed(&placed.topic) {
            self.core.tails.begin_at(&def, placed.first_seq.plus(placed.rows.len()));
            return Ok(());
        }
        match self.core.tails.end(&placed.topic) {
            // It may have been held at an earlier version, before this began anew.
            Some(end) if end >= placed.first_seq => self.core.tails.add_topic(def, placed.first_seq),
            Some(_) => self.pass_over(&def, placed.first_seq).await,
            None => self.core.tails.add_topic(def, placed.first_seq),
        }
        show(&self.core, placed)
    }

    /// What lies between the tail's end and `next` has left the log: the table has it. If that cannot be seen, no reader may see the topic.
    async fn pass_over(&mut self, def: &Arc<TopicDef>, next: Seq) {
        self.close_unless_reaching(def, next).await;
        self.core.tails.begin_at(def, next);
    }

    /// Readers see a topic whose tail is to begin at `next` only if its table reaches that.
    async fn close_unless_reaching(&mut self, def: &Arc<TopicDef>, next: Seq) {
        let tables = &self.core.parts.tables;
        if tables.is_open(&def.id) {
            let loaded = tables.load(def).await.map(|table| table.watermark());
            if let (Err((kind, reason)), Some(topic)) = (reaches(next, loaded), self.replay.state.topics.get(&def.id)) {
                close(&self.core, topic, kind, &reason);
                self.opening.insert(def.id);
            }
        }
    }

    /// A topic begins, or has another definition.
    fn hold(&mut self, topic: TopicId) {
        let Some(state) = self.replay.state.topics.get(&topic) else { return };
        self.core.tails.add_topic(Arc::clone(state.shape().def()), state.next_seq);
        self.opening.insert(topic);
    }

    /// A topic ended.
    fn let_go(&mut self, topic: TopicId) {
        self.opening.remove(&topic);
        self.replay.state.dropped.remove(&topic);
        self.core.forget_topic(&topic);
    }

    /// Every topic of the lane is held from here on, and none that it no longer has.
    async fn settle(&mut self) -> Result<()> {
        self.core.forget_others(&self.replay.state);
        self.replay.state.dropped.clear();
        self.opening.retain(&self.replay.state);
        let topics = self.replay.state.topics.values();
        let known = |topic: &TopicState| (topic.tenant.clone(), Arc::clone(topic.shape().def()), topic.next_seq);
        let topics: Vec<_> = topics.map(known).collect();
        for (tenant, def, next) in topics {
            match self.core.tails.end(&def.id) {
                Some(end) if end >= next => self.core.tails.add_topic(Arc::clone(&def), next),
                Some(_) => self.pass_over(&def, next).await,
                None => self.core.tails.add_topic(Arc::clone(&def), next),
            }
            match self.core.parts.tables.is_open(&def.id) {
                // It may have changed before this began anew.
                true => self.core.parts.topics.publish(&tenant, def),
                false => self.opening.insert(def.id),
            }
        }
        self.has_settled = true;
        Ok(())
    }

    /// Forgets rows that have arrived in their tables: at the pace at which the owner flushes, or at once if there is no room for more.
    async fn trim(&mut self, has_room: bool) {
        let now = Instant::now();
        if has_room && now < self.trims_at {
            return;
        }
        let interval = Duration::from_millis(self.core.parts.settings.flush_interval_ms).max(TRIM_INTERVAL_MIN);
        self.trims_at = now + interval;
        let Core { tails, parts, .. } = &*self.core;
        // What others do to the tables of quiet topics must be seen too, before they remove what was there (P7).
        let looks = now >= self.looks_at;
        if looks {
            self.looks_at = now + Duration::from_secs(TABLE_LOOK_SECONDS);
        }
        let loads = tails.loads().into_iter().filter(|load| parts.tables.is_open(&load.def.id));
        let held = loads.filter(|load| looks || load.oldest_micros.is_some());
        let trimming = held.map(|load| async move {
            let table = match load.oldest_micros {
                Some(_) => parts.tables.load(&load.def).await,
                None => parts.tables.refresh(&load.def).await,
            };
            match table {
                Ok(table) => {
                    if load.oldest_micros.is_some() {
                        tails.trim(&load.def.id, table.watermark());
                    }
                    None
                }
                Err(error) => {
                    tracing::debug!(topic = %load.def.name, %error, "a topic's table cannot be read");
                    Some(load.def.id)
                }
            }
        });
        let trimmed = stream::iter(trimming.collect::<Vec<_>>()).buffer_unordered(TABLES_AT_ONCE);
        self.untrimmed = trimmed.filter_map(std::future::ready).collect().await;
    }

    /// There is no room although what is in tables has been forgotten. What will not get there by itself is let go, the largest first: else one topic that
    /// ails would keep all others of the lane from being followed. All that is left is what the owner is about to flush.
    async fn make_room(&mut self) -> Result<()> {
        self.learn_parked().await?;
        let (core, parked) = (&self.core, &self.replay.state.parked);
        let mut stuck = core.tails.loads();
        let is_stuck = |topic: &TopicId| {
            self.opening.contains(topic) || self.untrimmed.contains(topic) || parked.contains_key(topic)
        };
        stuck.retain(|load| load.bytes > 0 && is_stuck(&load.def.id));
        stuck.sort_unstable_by_key(|load| load.bytes);
        while !core.tails.has_room()
            && let Some(load) = stuck.pop()
        {
            if let Some(topic) = self.replay.state.topics.get(&load.def.id) {
                close(core, topic, ErrorKind::Overloaded, NO_ROOM);
            }
            core.tails.let_go(&load.def.id);
            self.opening.shed(load.def.id);
        }
        Ok(())
    }

    /// Which topics the newest checkpoint says are parked: some may have stopped since this follower began.
    async fn learn_parked(&mut self) -> Result<()> {
        if self.root.checkpoint == self.parked_of {
            return Ok(());
        }
        if let Ok((state, _)) = checkpointed(&self.core.parts.store, &self.root).await? {
            self.replay.state.parked = state.parked;
            self.parked_of.clone_from(&self.root.checkpoint);
        }
        Ok(())
    }

    /// Rows that a checkpoint says are outside of the log and of their tables.
    async fn show_parked(&mut self) {
        for (topic, parked) in &self.replay.state.parked.clone() {
            let Some(def) = self.replay.state.topics.get(topic).map(|held| Arc::clone(held.shape().def())) else {
                continue;
            };
            let end = self.core.tails.end(topic);
            if end.is_some_and(|end| end >= parked.to) {
                continue;
            }
            if end.is_none_or(|end| end < parked.from) {
                self.close_unless_reaching(&def, parked.from).await;
            }
            let (core, held) = (&self.core, &self.replay.state.topics[topic]);
            core.tails.begin_by(held.shape().def(), parked.from);
            match fill_topic(core, *topic, parked, || core.tails.has_room()).await {
                Ok(true) => continue,
                Ok(false) => close(core, held, ErrorKind::Overloaded, NO_ROOM),
                Err(error) => close(core, held, error.kind(), &error.to_string()),
            }
            core.tails.let_go(topic);
            core.tails.begin_at(held.shape().def(), parked.to);
            self.opening.insert(*topic);
        }
    }

    /// From the floor again: the log has gone on without this follower.
    async fn restart(&mut self) -> Result<()> {
        let gone = || vanished(self.core.lane, ErrorKind::Unavailable);
        let opening = std::mem::take(&mut self.opening);
        let anew = Self::begin_with(&self.core, opening).await?.ok_or_else(gone)?;
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
