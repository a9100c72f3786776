//! A lane's log, from its floor to its end: every segment there, whole, linked to the one before; what its rows hash to. Reads only.
//!
//! The fold is the one that a take-over does ([`Replay`]); its rows are hashed and let go, segment by segment, so that memory does not grow with the log.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use catalog::audit::{Audited, Checks, Stop, agree, laws};
use catalog::table::RowHash;
use catalog::table::audit::Recorded;
use catalog::{CatalogError, Store};
use futures::StreamExt;
use schemas::{ErrorKind, LaneId, Seq, Slot, TopicId, Watermark};

use super::root;
use crate::error::IngestError;
use crate::lane::replay::Replay;
use crate::lane::root::{Closed, Root, read};
use crate::lane::state::LaneState;
use crate::lane::takeover::{checkpointed, read_slots};
use crate::lane::{Position, checkpoint_path, root_path, segment_path};
use crate::wal::{Place, Segment};

/// Slots beyond the first empty one that are looked at: segments may be there that were never decided.
const BEYOND: u64 = 8;

/// A lane as far as it was read.
#[derive(Debug)]
pub(super) struct LogAudit {
    store: Store,
    pub(super) root: Root,
    /// Everything before was checked.
    pub(super) at: Position,
    replay: Replay,
    /// What the checkpoint has heard of the tables: they were that far once.
    pub(super) watermarks: BTreeMap<TopicId, Watermark>,
    /// Events of each topic, in the order of the log.
    batches: BTreeMap<TopicId, Vec<Batch>>,
    pub(super) checks: Checks,
    pub(super) notes: Vec<String>,
}

/// Rows of one frame, or of a parked object.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) rows: Recorded,
    /// `_time` of the first and of the last, microseconds.
    pub(super) times: (i64, i64),
    /// The columns that `rows` was hashed with.
    pub(super) schema: SchemaRef,
}

/// An error of this crate, met on reading `object`.
pub(super) fn stop(law: catalog::audit::Law, object: impl std::fmt::Display, error: IngestError) -> Stop {
    Stop::of(law, object, CatalogError::new(error.kind(), error.to_string()))
}

impl LogAudit {
    /// Reads root and checkpoint. Errors: a fault if the lane has no root.
    pub(super) async fn begin(store: &Store, lane: LaneId) -> Audited<Self> {
        let mut checks = Checks::default();
        let root = read_root(store, lane).await?;
        root::check(&root, &mut checks)?;
        let name = root.checkpoint.as_ref().map_or("none", |named| named.name.as_str());
        let object = checkpoint_path(lane, name);
        let read = checkpointed(store, &root).await.map_err(|error| stop(laws::LINKED, &object, error))?;
        let (mut state, covered) =
            read.map_err(|_| Stop::fault(laws::FLOOR, &object, "the checkpoint that the root names", "none"))?;
        checks.held(laws::LINKED, "checkpoints", u64::from(root.checkpoint.is_some()));
        // The fold passes over rows that are in their tables; here all are wanted.
        let mut watermarks = BTreeMap::new();
        for (topic, state) in &mut state.topics {
            watermarks.insert(*topic, std::mem::replace(&mut state.watermark, Watermark::START));
        }
        let (store, at, replay) = (store.clone(), root.floor, Replay::new(state, covered));
        let (batches, notes) = Default::default();
        Ok(Self { store, root, at, replay, watermarks, batches, checks, notes })
    }

    /// Reads on to the end of what is decided. May be called again: the root is read anew then.
    pub(super) async fn walk(&mut self) -> Audited<()> {
        self.old_seals().await?;
        while let Some(closed) = self.root.closed(self.at.epoch).copied() {
            self.closed_epoch(&closed).await?;
        }
        self.open_epoch().await
    }

    /// Reads the root anew and goes on from where this stands. False if the floor has passed that place.
    pub(super) async fn go_on(&mut self) -> Audited<bool> {
        self.root = read_root(&self.store, self.root.lane).await?;
        root::check(&self.root, &mut Checks::default())?;
        if self.root.floor.is_after(self.at.epoch, self.at.slot) {
            return Ok(false);
        }
        self.walk().await.map(|()| true)
    }

    /// What the lane knows at the end.
    pub(super) fn state(&self) -> &LaneState {
        &self.replay.state
    }

    /// The topic's events in the log, in their order.
    pub(super) fn batches(&self, topic: &TopicId) -> &[Batch] {
        self.batches.get(topic).map_or(&[], Vec::as_slice)
    }

    /// SEALs stay for ever, and those that the root names are what it says, below the floor too.
    async fn old_seals(&mut self) -> Audited<()> {
        let below: Vec<_> =
            self.root.closed.iter().filter(|closed| closed.epoch < self.root.floor.epoch).copied().collect();
        for closed in below {
            let path = segment_path(self.root.lane, closed.epoch, closed.seal_slot);
            let object =
                self.store.read_segment(&path).await.map_err(|error| Stop::of(laws::UNBROKEN, &path, error))?;
            let object = object.ok_or_else(|| Stop::fault(laws::UNBROKEN, &path, "the SEAL of its epoch", "none"))?;
            let segment = Segment::decode(&object)
                .map_err(|damage| Stop::fault(laws::INTACT, &path, "a segment as it was written", damage))?;
            agree(laws::LINKED, &path, "hash", closed.hash, segment.link)?;
            self.checks.held(laws::UNBROKEN, "SEALs", 1);
        }
        Ok(())
    }

    /// All of a closed epoch's slots, up to its SEAL.
    async fn closed_epoch(&mut self, closed: &Closed) -> Audited<()> {
        let mut objects = read_slots(&self.store, self.root.lane, closed.epoch, self.at.slot.0..=closed.seal_slot.0);
        while let Some(object) = objects.next().await {
            let path = self.path();
            let object = object.map_err(|error| stop(laws::UNBROKEN, &path, error))?;
            let expected =
                || format!("a segment, since epoch {} ends with a SEAL at slot {}", closed.epoch, closed.seal_slot);
            let object = object.ok_or_else(|| Stop::fault(laws::UNBROKEN, &path, expected(), "none"))?;
            let is_last = self.at.slot == closed.seal_slot;
            let segment = self.check(&object)?;
            if segment.is_seal() != is_last {
                let kind = |is_seal: bool| if is_seal { "a SEAL" } else { "a segment that is no SEAL" };
                return Err(Stop::fault(laws::LINKED, &path, kind(is_last), kind(segment.is_seal())));
            }
            if is_last {
                agree(laws::LINKED, &path, "hash", closed.hash, segment.link)?;
                self.checks.held(laws::UNBROKEN, "SEALs", 1);
            }
            self.feed(&object, &segment)?;
        }
        Ok(())
    }

    /// What there is of an epoch that nobody has closed. A SEAL that the root does not name ends it for now, like an empty slot.
    async fn open_epoch(&mut self) -> Audited<()> {
        let mut objects = read_slots(&self.store, self.root.lane, self.at.epoch, self.at.slot.0..);
        while let Some(object) = objects.next().await {
            let path = self.path();
            let Some(object) = object.map_err(|error| stop(laws::UNBROKEN, &path, error))? else { break };
            let segment = self.check(&object)?;
            if segment.is_seal() {
                self.notes.push(format!(
                    "{path} is a SEAL that the root does not name yet: a take-over is under way or has died"
                ));
                break;
            }
            self.feed(&object, &segment)?;
        }
        drop(objects);
        if self.replay.is_covered(self.at) {
            return Err(Stop::fault(
                laws::UNBROKEN,
                self.path(),
                "a segment, since the lane's checkpoint lies beyond",
                "none",
            ));
        }
        self.look_beyond().await
    }

    /// Segments after an empty slot are of puts under way, or of an owner that died; they were never acknowledged.
    async fn look_beyond(&mut self) -> Audited<()> {
        let (lane, Position { epoch, slot, .. }) = (self.root.lane, self.at);
        let mut objects = read_slots(&self.store, lane, epoch, slot.0 + 1..=slot.0 + BEYOND);
        let mut beyond = Vec::new();
        while let Some(object) = objects.next().await {
            beyond.push(object.map_err(|error| stop(laws::UNBROKEN, self.path(), error))?.is_some());
        }
        if let Some(first) = beyond.iter().position(|there| *there) {
            let later = segment_path(lane, epoch, Slot(slot.0 + 1 + first as u64));
            self.notes.push(format!("{} is empty and {later} is not: what lies there was never acknowledged, if the empty one was never written", self.path()));
        }
        Ok(())
    }

    /// Every bit of a segment, and that it is the one that belongs here.
    fn check(&mut self, object: &Bytes) -> Audited<Segment> {
        let Position { epoch, slot, hash } = self.at;
        let path = self.path();
        let segment = Segment::decode(object)
            .map_err(|damage| Stop::fault(laws::INTACT, &path, "a segment as it was written", damage))?;
        let (expected, found) = (Place { lane: self.root.lane, epoch, slot, predecessor: hash }, segment.place);
        let place = |place: Place| format!("lane {} epoch {} slot {}", place.lane, place.epoch, place.slot);
        agree(laws::LINKED, &path, "header", place(expected), place(found))?;
        agree(laws::LINKED, &path, "hash of the predecessor", hash, found.predecessor)?;
        self.checkpoint_here()?;
        Ok(segment)
    }

    /// Where the checkpoint holds, the log is the one that it was taken of, and so far as it says.
    fn checkpoint_here(&self) -> Audited<()> {
        let named = self.root.checkpoint.as_ref();
        let Some(named) = named.filter(|named| (named.at.epoch, named.at.slot) == (self.at.epoch, self.at.slot)) else {
            return Ok(());
        };
        let object = checkpoint_path(self.root.lane, &named.name);
        agree(laws::LINKED, &object, "hash of the segment before it", self.at.hash, named.at.hash)?;
        for (topic, batches) in &self.batches {
            let (Some(state), Some(last)) = (self.replay.state.topics.get(topic), batches.last()) else { continue };
            let place = format!("next seq of topic {topic}");
            agree(laws::DENSE, &object, place, last.rows.to, state.next_seq)?;
        }
        Ok(())
    }

    fn feed(&mut self, object: &Bytes, segment: &Segment) -> Audited<()> {
        let (at, path) = (self.at, self.path());
        let fed = self.replay.feed(at, object.len(), segment);
        fed.map_err(|what| Stop::fault(laws::DENSE, &path, "frames that follow from those before", what))?;
        // Nobody trims here.
        self.replay.index.clear();
        for placed in std::mem::take(&mut self.replay.rows) {
            let (topic, from, time) = (placed.topic, placed.first_seq, placed.time_micros);
            let events = placed.rows.seal(from, time);
            let hash = RowHash::of(&events).map_err(Stop::Unseen)?;
            let rows = Recorded { from, to: from.plus(events.num_rows()), hash, object: path.to_string() };
            self.add(topic, Batch { rows, times: (time, time), schema: events.schema() })?;
            self.checks.held(laws::DENSE, "events of the log", events.num_rows() as u64);
        }
        self.checks.held(laws::INTACT, "segments", 1);
        self.at = match segment.is_seal() {
            true => Position { epoch: at.epoch.next(), slot: Slot(0), hash: segment.link },
            false => Position { slot: at.slot.next(), hash: segment.link, ..at },
        };
        self.checkpoint_here()
    }

    /// The next batch of a topic follows the one before.
    fn add(&mut self, topic: TopicId, batch: Batch) -> Audited<()> {
        let batches = self.batches.entry(topic).or_default();
        if let Some(last) = batches.last() {
            let object = &batch.rows.object;
            agree(laws::DENSE, object, format!("first seq of topic {topic}"), last.rows.to, batch.rows.from)?;
            if batch.times.0 < last.times.1 {
                let place = format!("time of topic {topic} at seq {}", batch.rows.from);
                return Err(Stop::fault_at(
                    laws::DENSE,
                    object,
                    place,
                    format!("{} or later", last.times.1),
                    batch.times.0,
                ));
            }
        }
        batches.push(batch);
        Ok(())
    }

    fn path(&self) -> object_store::path::Path {
        segment_path(self.root.lane, self.at.epoch, self.at.slot)
    }
}

async fn read_root(store: &Store, lane: LaneId) -> Audited<Root> {
    let object = root_path(lane);
    let read = read(store, lane).await.map_err(|error| match error.kind() {
        ErrorKind::Invalid => Stop::Unseen(CatalogError::new(error.kind(), error.to_string())),
        _ => stop(laws::LINKED, &object, error),
    })?;
    read.map(|(root, _)| root).ok_or_else(|| Stop::fault(laws::LINKED, &object, "the root of a lane", "none"))
}

/// Events that parked objects hold: a topic's, in their order.
pub(super) async fn parked(audit: &LogAudit, topic: &TopicId) -> Audited<Vec<Batch>> {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
    use schemas::envelope::column;

    use crate::lane::parked::{parked_path, read};

    let lane = audit.root.lane;
    let mut batches = Vec::new();
    for named in audit.state().parked.get(topic).into_iter().flat_map(|parked| &parked.objects) {
        let object = parked_path(lane, &named.name).to_string();
        let rows = read(&audit.store, lane, *topic, named).await.map_err(|error| stop(laws::KEPT, &object, error))?;
        for events in rows.iter().filter(|events| events.num_rows() > 0) {
            let seqs = events.column(column::SEQ).as_primitive::<Int64Type>().values();
            let times = events.column(column::TIME).as_primitive::<TimestampMicrosecondType>().values();
            let from = Seq(seqs[0]);
            let to = from.plus(events.num_rows());
            if let Some(row) = seqs.iter().zip(from.0..).position(|(seq, expected)| *seq != expected) {
                let expected = format!("seq {}", from.plus(row));
                return Err(Stop::fault_at(laws::DENSE, &object, format!("row {row}"), expected, seqs[row]));
            }
            if let Some(row) = times.windows(2).position(|pair| pair[1] < pair[0]) {
                let expected = format!("a time of {} or later", times[row]);
                return Err(Stop::fault_at(
                    laws::DENSE,
                    &object,
                    format!("seq {}", from.plus(row + 1)),
                    expected,
                    times[row + 1],
                ));
            }
            let hash = RowHash::of(events).map_err(Stop::Unseen)?;
            let rows = Recorded { from, to, hash, object: object.clone() };
            batches.push(Batch { rows, times: (times[0], times[times.len() - 1]), schema: events.schema() });
        }
    }
    Ok(batches)
}
