//! What a lane's segments add up to: a fold, segment by segment, from the floor on. Pure.
//!
//! The state begins as the checkpoint has it and moves with the segments after; the rows of a tail are collected from the floor on.

use std::sync::Arc;

use schemas::planted::{Bug, planted};
use schemas::{Seq, ShardSeqs, TenantName, TopicDef, TopicId};
use serde::{Deserialize, Serialize};

use super::Position;
use super::fences;
use super::floor::Indexed;
use super::producers::ProducerRecord;
use super::state::{Effect, LaneState};
use crate::rows::{Shape, ValidRows};
use crate::wal::{Frame, FrameKind, Payload, Segment, decode_body};

/// The payload of a frame that makes or changes a topic: JSON, so that an older reader can say what it does not understand.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicRecord {
    pub(crate) tenant: TenantName,
    pub(crate) definition: TopicDef,
}

impl TopicRecord {
    /// As a frame's payload.
    pub(crate) fn encode(&self) -> Payload {
        Payload::new(serde_json::to_vec(self).expect("a definition is plain data"))
    }
}

/// Rows of one frame, with their place.
#[derive(Debug)]
pub(crate) struct PlacedRows {
    pub(crate) topic: TopicId,
    pub(crate) first_seq: Seq,
    pub(crate) time_micros: i64,
    pub(crate) rows: ValidRows,
}

/// The fold.
#[derive(Debug)]
pub(crate) struct Replay {
    /// After everything that was fed, or as in the checkpoint while that lies ahead.
    pub(crate) state: LaneState,
    /// Rows that may not be in their table yet, in the order of the log.
    pub(crate) rows: Vec<PlacedRows>,
    /// Every segment that was fed.
    pub(crate) index: Vec<Indexed>,
    checkpoint: Position,
}

impl Replay {
    /// `state` is that at `checkpoint`; segments before it add rows only.
    pub(crate) fn new(state: LaneState, checkpoint: Position) -> Self {
        Self { state, rows: Vec::new(), index: Vec::new(), checkpoint }
    }

    /// True if the segment that begins `at` lies before the checkpoint.
    pub(crate) fn is_covered(&self, at: Position) -> bool {
        self.checkpoint.is_after(at.epoch, at.slot)
    }

    /// Takes the next segment, which begins `at` and is `bytes` long. Errors: what cannot be, in words.
    pub(crate) fn feed(&mut self, at: Position, bytes: usize, segment: &Segment) -> Result<(), String> {
        let is_covered = self.is_covered(at);
        for (number, frame) in segment.frames.iter().enumerate() {
            let fed = if is_covered { self.feed_covered(frame) } else { self.feed_new(frame) };
            fed.map_err(|what| format!("frame {number}: {what}"))?;
        }
        self.index.push(Indexed { at, bytes, topics: segment.topics.clone().into(), is_seal: segment.is_seal() });
        Ok(())
    }

    /// The checkpoint knows what this frame did; only rows may still be wanted, of topics that are still there.
    fn feed_covered(&mut self, frame: &Frame) -> Result<(), String> {
        let Some(topic) = self.state.topics.get(&frame.topic).filter(|_| frame.kind == FrameKind::Events) else {
            return Ok(());
        };
        if frame.last_seq() < topic.watermark.0 || planted(Bug::TailFromCheckpoint) {
            return Ok(());
        }
        let shape = topic.shape_of(frame.schema_version).ok_or_else(|| no_version(frame))?;
        let rows = decode(frame, shape)?;
        self.keep(frame, rows);
        Ok(())
    }

    fn feed_new(&mut self, frame: &Frame) -> Result<(), String> {
        match frame.kind {
            FrameKind::Events => {
                let topic = self.state.topics.get(&frame.topic).ok_or("events of a topic that is not known here")?;
                let shape = topic.shape_of(frame.schema_version).ok_or_else(|| no_version(frame))?;
                let rows = decode(frame, shape)?;
                let prefixes = topic.new_prefixes(&rows.distinct_prefixes);
                let in_table = frame.last_seq() < topic.watermark.0;
                self.state.apply(&appended(frame, prefixes))?;
                if !in_table {
                    self.keep(frame, rows);
                }
                Ok(())
            }
            FrameKind::TopicCreated => {
                let (tenant, shape) = topic_record(frame)?;
                self.state.apply(&Effect::Created { tenant, shape })
            }
            FrameKind::TopicChanged => {
                let (_, shape) = topic_record(frame)?;
                self.state.apply(&Effect::Changed { shape })
            }
            FrameKind::TopicDropped => self.state.apply(&Effect::Dropped { topic: frame.topic }),
            FrameKind::Producer => {
                self.state.apply(&Effect::Producer { topic: frame.topic, record: ProducerRecord::read(frame)? })
            }
            FrameKind::Fence => self.state.apply(&Effect::Fence { topic: frame.topic, fence: fences::read(frame)? }),
            FrameKind::Retained => {
                let seqs: Option<ShardSeqs> = serde_json::from_slice(frame.payload.bytes()).ok();
                let below = seqs.and_then(|seqs| seqs.as_single()).ok_or("a record of retention that names no seq")?;
                self.state.apply(&Effect::Retained { topic: frame.topic, below })
            }
            FrameKind::Seal => Ok(()),
            kind if frame.critical => {
                Err(format!("a critical {kind:?}, which this Firn does not know: use a newer one"))
            }
            _ => Ok(()),
        }
    }

    fn keep(&mut self, frame: &Frame, mut rows: ValidRows) {
        if let Some(topic) = self.state.topics.get(&frame.topic) {
            rows.share_prefixes(&|prefix| topic.admits(prefix), topic.shape().def().name.as_str());
        }
        let (topic, first_seq, time_micros) = (frame.topic, frame.first_seq, frame.time_micros);
        self.rows.push(PlacedRows { topic, first_seq, time_micros, rows });
    }
}

/// What an events frame does to the state.
pub(crate) fn appended(frame: &Frame, prefixes: Vec<String>) -> Effect {
    let (topic, first_seq, count, time_micros) = (frame.topic, frame.first_seq, frame.count, frame.time_micros);
    Effect::Appended { topic, first_seq, count, time_micros, prefixes }
}

fn decode(frame: &Frame, shape: &Arc<Shape>) -> Result<ValidRows, String> {
    let body = decode_body(&frame.payload, frame.columns, shape)?;
    if body.num_rows() != frame.count as usize {
        return Err(format!("expected {} events, found {}", frame.count, body.num_rows()));
    }
    ValidRows::derive(shape, body).map_err(|error| error.to_string())
}

fn topic_record(frame: &Frame) -> Result<(TenantName, Arc<Shape>), String> {
    let record: TopicRecord = serde_json::from_slice(frame.payload.bytes()).map_err(|error| error.to_string())?;
    if record.definition.id != frame.topic {
        return Err(format!(
            "expected the definition of topic {}, found that of {}",
            frame.topic, record.definition.id
        ));
    }
    let shape = Shape::new(Arc::new(record.definition)).map_err(|error| error.to_string())?;
    Ok((record.tenant, Arc::new(shape)))
}

fn no_version(frame: &Frame) -> String {
    format!("topic {} has no schema version {}", frame.topic, frame.schema_version)
}

#[cfg(test)]
mod tests;
