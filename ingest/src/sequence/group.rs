//! What rides in one segment, and how rows get their place in their topic's order. Pure but for the answers it holds.

use std::sync::Arc;

use schemas::{ErrorKind, Seq, Shard, ShardSeqs, TenantName, TopicId};
use tokio::time::Instant;

use super::admit::Basis;
use super::verdict::{Reply, Verdict};
use super::{Answer, Append, Order};
use crate::engine::{Fence, ProducerEpoch, Receipt};
use crate::error::{IngestError, Result};
use crate::lane::fences;
use crate::lane::producers::{Act, Answered, Numbered, ProducerRecord};
use crate::lane::replay::{PlacedRows, TopicRecord, appended};
use crate::lane::state::{Effect, LaneState};
use crate::rows::{Shape, ValidRows};
use crate::tail::Permit;
use crate::wal::{Frame, FrameKind, Payload, encode_body};

/// Rows of one topic, encoded: made outside the lane's task, which only has to place them.
#[derive(Debug)]
pub(crate) struct Part {
    shape: Arc<Shape>,
    rows: ValidRows,
    payload: Payload,
    columns: u16,
}

impl Part {
    /// Encodes and checksums the rows. Not empty.
    pub(crate) fn encode(shape: Arc<Shape>, rows: ValidRows) -> Result<Self> {
        let (payload, columns) = encode_body(&rows.body)?;
        Ok(Self { shape, rows, payload, columns })
    }

    /// What the rows look like.
    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The topic whose rows these are.
    pub(crate) fn topic(&self) -> &TopicId {
        &self.shape.def().id
    }

    /// Bytes in a segment, headers apart.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.payload.bytes().len()
    }
}

/// One frame's effect, with the rows that it makes visible.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) effect: Effect,
    pub(crate) rows: Option<(PlacedRows, Option<Permit>)>,
}

/// Somebody who waits until a segment is decided.
#[derive(Debug)]
pub(crate) enum Waiter {
    Append(Receipt, Answer<Receipt>, Order),
    /// For a record of its own.
    Record(Reply),
    /// For what an earlier segment, or this one, says already.
    Known(Reply),
    /// For a look at the root as well, which whoever decides the segment sees to.
    Verdict(Verdict),
    Other(Answer<()>),
}

impl Waiter {
    /// It is decided.
    pub(crate) fn succeed(self) {
        // Whoever asked may have gone: what they asked for has happened all the same.
        match self {
            Self::Append(receipt, answer, _) => drop(answer.send(Ok(receipt))),
            Self::Record(reply) | Self::Known(reply) | Self::Verdict(Verdict { reply, .. }) => reply.give(),
            Self::Other(answer) => drop(answer.send(Ok(()))),
        }
    }

    /// It will not be decided by this owner. `error`: what is said of what the segment would have written; `not`: of what it would not.
    pub(crate) fn fail(self, error: &IngestError, not: &IngestError) {
        match self {
            Self::Append(_, answer, order) => {
                order.broken();
                drop(answer.send(Err(error.clone())));
            }
            Self::Record(reply) => reply.fail(error),
            Self::Known(reply) => reply.fail(&perhaps(error)),
            Self::Verdict(Verdict { reply, .. }) => reply.fail(not),
            Self::Other(answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// What waits for the next segment.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) frames: Vec<Frame>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) bytes: usize,
    /// When the first of it came.
    pub(crate) since: Option<Instant>,
}

impl Group {
    /// True if there is nothing to put.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Gives the rows of an append their place, together with what it rests on. It was admitted by this very head.
    pub(crate) fn append(&mut self, head: &mut LaneState, append: Append, sets_fence: bool, now_micros: i64) {
        let Append { rows, dead, permit, mut receipt, answer, order, basis } = append;
        let mut permit = Some(permit);
        if let Some(part) = rows {
            let count = part.rows.len();
            let first = self.place(head, part, permit.take(), now_micros);
            receipt.first_seq = Some(first);
            receipt.last_seq = Some(Seq(first.plus(count).0 - 1));
        }
        if let Some(part) = dead {
            self.place(head, part, permit.take(), now_micros);
        }
        if let Some(basis) = basis {
            let Basis { shape, numbered, fence, .. } = *basis;
            if let Some(fence) = fence.filter(|_| sets_fence) {
                self.set_fence(head, &shape, fence);
            }
            if let Some(numbered) = numbered {
                self.remember(head, &shape, numbered, &receipt, now_micros);
            }
        }
        self.waiters.push(Waiter::Append(receipt, answer, order));
    }

    /// Writes down what a producer's batch is answered.
    fn remember(
        &mut self,
        head: &mut LaneState,
        shape: &Shape,
        numbered: Numbered,
        receipt: &Receipt,
        now_micros: i64,
    ) {
        let Numbered { name, epoch, seq, content } = numbered;
        let count = |rows: u64| u32::try_from(rows).expect("a batch has at most limits::BATCH_ROWS_MAX rows");
        let answer = Answered {
            content,
            first_seq: receipt.first_seq,
            accepted: count(receipt.accepted),
            refused: count(receipt.refused.len() as u64),
            schema_version: shape.def().version,
        };
        let act = Act::Answered { seq, answer };
        self.push_producer(head, shape, ProducerRecord { name, epoch, time_micros: now_micros, act });
    }

    /// Issues an epoch to a producer of a topic, which the head has.
    pub(crate) fn issue_epoch(
        &mut self,
        head: &mut LaneState,
        topic: &TopicId,
        name: Arc<str>,
        resumes: bool,
        now_micros: i64,
    ) -> ProducerEpoch {
        let issued = head.producers.next_epoch(topic, &name, resumes);
        let shape = Arc::clone(head.topics[topic].shape());
        let act = Act::Issued { resumes };
        let record = ProducerRecord { name, epoch: issued.producer_epoch, time_micros: now_micros, act };
        self.push_producer(head, &shape, record);
        issued
    }

    fn push_producer(&mut self, head: &mut LaneState, shape: &Shape, record: ProducerRecord) {
        let def = shape.def();
        let frame = record.frame(def.tenant, def.id);
        self.push(head, frame, Effect::Producer { topic: def.id, record }, None);
    }

    /// Sets a fence that the head has found to be higher than what stands.
    pub(crate) fn set_fence(&mut self, head: &mut LaneState, shape: &Shape, fence: Fence) {
        let def = shape.def();
        let frame = fences::frame(def.tenant, def.id, &fence);
        self.push(head, frame, Effect::Fence { topic: def.id, fence }, None);
    }

    /// Says that events below are gone, which the head has found to be further than before.
    pub(crate) fn retain(&mut self, head: &mut LaneState, topic: TopicId, below: Seq) {
        let tenant = head.topics[&topic].shape().def().tenant;
        let payload = serde_json::to_vec(&ShardSeqs::single(below)).expect("a map of numbers is JSON");
        let frame = Frame::record(FrameKind::Retained, tenant, topic, Payload::new(payload));
        self.push(head, frame, Effect::Retained { topic, below }, None);
    }

    fn place(&mut self, head: &mut LaneState, part: Part, permit: Option<Permit>, now_micros: i64) -> Seq {
        let Part { shape, rows, payload, columns } = part;
        let def = shape.def();
        let topic = &head.topics[&def.id];
        let frame = Frame {
            kind: FrameKind::Events,
            critical: true,
            columns,
            schema_version: def.version,
            tenant: def.tenant,
            topic: def.id,
            shard: Shard(0),
            count: u32::try_from(rows.len()).expect("a batch has at most limits::BATCH_ROWS_MAX rows"),
            first_seq: topic.next_seq,
            // A clock that jumps back must not be seen in the order of events.
            time_micros: now_micros.max(topic.last_time),
            payload,
        };
        let effect = appended(&frame, topic.new_prefixes(&rows.distinct_prefixes));
        let (topic, first_seq, time_micros) = (frame.topic, frame.first_seq, frame.time_micros);
        let placed = PlacedRows { topic, first_seq, time_micros, rows };
        self.push(head, frame, effect, Some((placed, permit)));
        first_seq
    }

    /// Begins a topic, which the head does not have.
    pub(crate) fn create(&mut self, head: &mut LaneState, tenant: TenantName, shape: Arc<Shape>) {
        let def = shape.def();
        let record = TopicRecord { tenant: tenant.clone(), definition: def.as_ref().clone() };
        let frame = Frame::record(FrameKind::TopicCreated, def.tenant, def.id, record.encode());
        self.push(head, frame, Effect::Created { tenant, shape }, None);
    }

    /// Gives a topic, which the head has, the version that follows.
    pub(crate) fn change(&mut self, head: &mut LaneState, tenant: TenantName, shape: Arc<Shape>) {
        let def = shape.def();
        let record = TopicRecord { tenant, definition: def.as_ref().clone() };
        let frame = Frame::record(FrameKind::TopicChanged, def.tenant, def.id, record.encode());
        self.push(head, frame, Effect::Changed { shape }, None);
    }

    /// Ends a topic, which the head has.
    pub(crate) fn drop_topic(&mut self, head: &mut LaneState, topic: TopicId) {
        let tenant = head.topics[&topic].shape().def().tenant;
        let frame = Frame::record(FrameKind::TopicDropped, tenant, topic, Payload::new(Vec::new()));
        self.push(head, frame, Effect::Dropped { topic }, None);
    }

    fn push(&mut self, head: &mut LaneState, frame: Frame, effect: Effect, rows: Option<(PlacedRows, Option<Permit>)>) {
        head.apply(&effect).expect("the effect was made from this very state");
        self.bytes += frame.encoded_bytes();
        self.since.get_or_insert_with(Instant::now);
        self.frames.push(frame);
        self.entries.push(Entry { effect, rows });
    }
}

/// What was asked for is in the log, or on its way to it, whatever becomes of this owner.
fn perhaps(error: &IngestError) -> IngestError {
    IngestError::new(ErrorKind::Indeterminate, format!("it may have been appended before: {error}"))
}

#[cfg(test)]
mod tests;
