//! A checkpoint: the state of a lane after one decided slot, as one JSON object that is created once and named, with its hash, by the root.
//!
//! Nothing in flight enters it, else a retry would be told of rows that a take-over left behind. Format version 1.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use catalog::storage::Creation;
use catalog::{Env, Store};
use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, LaneId, Seq, ShardSeqs, TenantName, TopicDef, Watermark};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fences::{FenceDocument, Fences};
use super::parked::ParkedDocument;
use super::producers::{Producers, ProducersDocument};
use super::root::CheckpointRef;
use super::state::{Dropped, LaneState, TopicState};
use super::{Position, checkpoint_path};
use crate::error::{IngestError, Result};
use crate::rows::Shape;

const FORMAT_VERSION: u32 = 1;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Document {
    format: u32,
    lane: LaneId,
    at: Position,
    nonce: Uuid,
    topics: Vec<TopicDocument>,
    dropped: Vec<DroppedDocument>,
    parked: Vec<ParkedDocument>,
    producers: ProducersDocument,
    fences: Vec<FenceDocument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TopicDocument {
    tenant: TenantName,
    /// Ascending by version; the last is current.
    definitions: Vec<TopicDef>,
    next: ShardSeqs,
    last_time_micros: i64,
    prefixes: BTreeSet<String>,
    watermark: ShardSeqs,
    /// Absent: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retained: Option<ShardSeqs>,
    confirmed: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct DroppedDocument {
    tenant: TenantName,
    definition: TopicDef,
    /// See [`Dropped`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since_micros: Option<i64>,
}

/// The object that says `state`, with `at` as the place that it holds for.
pub(crate) fn encode(lane: LaneId, at: Position, state: &LaneState, nonce: Uuid) -> Bytes {
    let topic = |topic: &TopicState| TopicDocument {
        tenant: topic.tenant.clone(),
        definitions: topic.shapes.iter().map(|shape| shape.def().as_ref().clone()).collect(),
        next: ShardSeqs::single(topic.next_seq),
        last_time_micros: topic.last_time,
        prefixes: topic.prefixes.clone(),
        watermark: ShardSeqs::single(topic.watermark.0),
        retained: (topic.retained > Seq::FIRST).then(|| ShardSeqs::single(topic.retained)),
        confirmed: topic.confirmed,
    };
    let dropped = |dropped: &Dropped| DroppedDocument {
        tenant: dropped.tenant.clone(),
        definition: dropped.def.as_ref().clone(),
        since_micros: dropped.since_micros,
    };
    let document = Document {
        format: FORMAT_VERSION,
        lane,
        at,
        nonce,
        topics: state.topics.values().map(topic).collect(),
        dropped: state.dropped.values().map(dropped).collect(),
        parked: state.parked.iter().map(|(topic, parked)| ParkedDocument::new(*topic, parked)).collect(),
        producers: if planted(Bug::ProducersForgotten) {
            (&Producers::default()).into()
        } else {
            (&state.producers).into()
        },
        fences: state.fences.document(),
    };
    serde_json::to_vec(&document).expect("a checkpoint is plain data").into()
}

/// Reads what [`encode`] wrote. Errors: what is wrong, in words.
pub(crate) fn decode(object: &[u8], lane: LaneId, at: Position) -> Result<LaneState, String> {
    let document: Document = serde_json::from_slice(object).map_err(|error| error.to_string())?;
    if document.format != FORMAT_VERSION {
        return Err(format!("expected format version {FORMAT_VERSION}, found {}", document.format));
    }
    if document.lane != lane || document.at != at {
        let found = format!("lane {} at {}", document.lane, document.at);
        return Err(format!("expected the state of lane {lane} at {at}, found that of {found}"));
    }
    let mut state = LaneState {
        producers: Producers::try_from(document.producers)?,
        fences: Fences::from_document(document.fences)?,
        ..LaneState::default()
    };
    for topic in document.topics {
        let (id, topic) = topic_state(topic)?;
        state.topics.insert(id, topic);
    }
    for dropped in document.dropped {
        let def = Arc::new(dropped.definition);
        let (tenant, since_micros) = (dropped.tenant, dropped.since_micros);
        state.dropped.insert(def.id, Dropped { tenant, def, since_micros });
    }
    for parked in document.parked {
        let (topic, parked) = parked.parse()?;
        state.parked.insert(topic, parked);
    }
    Ok(state)
}

fn topic_state(document: TopicDocument) -> Result<(schemas::TopicId, TopicState), String> {
    let shape = |def| Shape::new(Arc::new(def)).map(Arc::new).map_err(|error| error.to_string());
    let shapes: Vec<_> = document.definitions.into_iter().map(shape).collect::<Result<_, _>>()?;
    let id = shapes.first().ok_or("a topic without a definition")?.def().id;
    let single = |seqs: &ShardSeqs| {
        seqs.as_single().ok_or_else(|| format!("topic {id} spans shards, which this Firn does not know"))
    };
    let state = TopicState {
        tenant: document.tenant,
        next_seq: single(&document.next)?,
        last_time: document.last_time_micros,
        prefixes: document.prefixes,
        watermark: Watermark(single(&document.watermark)?),
        retained: document.retained.as_ref().map(single).transpose()?.unwrap_or(Seq::FIRST),
        confirmed: document.confirmed,
        shapes,
    };
    Ok((id, state))
}

/// Writes a checkpoint, which counts once the root names it, and says how many bytes it has.
pub(crate) async fn write(
    store: &Store,
    env: &Env,
    lane: LaneId,
    at: Position,
    state: &LaneState,
) -> Result<(CheckpointRef, usize)> {
    let nonce = env.uuid();
    let state = state.clone();
    let encoded = env.compute(move || encode(lane, at, &state, nonce)).await;
    let object = encoded.map_err(|error| {
        IngestError::new(ErrorKind::Internal, format!("a checkpoint of lane {lane} was not encoded: {error}"))
    })?;
    let bytes = object.len();
    metrics::gauge!("firn_checkpoint_bytes").set(bytes as f64);
    let name = format!("{}-{}-{}.json", at.epoch, at.slot, nonce.as_simple());
    let path = checkpoint_path(lane, &name);
    let hash = blake3::hash(&object).to_hex().to_string();
    match store.create_segment(&path, object).await? {
        Creation::Mine => Ok((CheckpointRef { name, hash, at }, bytes)),
        Creation::Others(_) => {
            Err(IngestError::new(ErrorKind::Internal, format!("{path}: another object has this name, nonce and all")))
        }
    }
}

/// Reads the checkpoint that the root names. `None` if it is gone, which a newer root would explain.
pub(crate) async fn read(store: &Store, lane: LaneId, named: &CheckpointRef) -> Result<Option<LaneState>> {
    let path = checkpoint_path(lane, &named.name);
    let Some(object) = store.read_segment(&path).await? else { return Ok(None) };
    let corrupt = |what: String| IngestError::new(ErrorKind::Corrupt, format!("{path}: {what}"));
    let found = blake3::hash(&object).to_hex();
    if found.as_str() != named.hash {
        return Err(corrupt(format!("expected BLAKE3 {}, found {found}", named.hash)));
    }
    decode(&object, lane, named.at).map(Some).map_err(corrupt)
}

#[cfg(test)]
mod tests;
