//! Entry points for the fuzzer: what a lane finds in its store.
//!
//! Checksums keep random bytes from getting anywhere, so most entries put valid ones around what the fuzzer says.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use schemas::{Epoch, LaneId, Seq, Shard, Slot, TenantId, TopicId, TopicSpec};
use serde_json::json;
use uuid::Uuid;

use crate::lane::replay::{Replay, TopicRecord};
use crate::lane::root::Root;
use crate::lane::state::{Effect, LaneState};
use crate::lane::{Position, checkpoint};
use crate::rows::{Shape, ValidRows};
use crate::wal::{Frame, FrameKind, LinkHash, Payload, Place, Segment, decode_body, segment};

/// A name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// By name, as `make fuzz TARGET=…` takes them.
pub const TARGETS: &[Target] =
    &[("segment", segment), ("frames", frames), ("body", body), ("root", root), ("checkpoint", checkpoint)];

/// A topic with a field of every kind.
fn shape() -> &'static Arc<Shape> {
    static SHAPE: OnceLock<Arc<Shape>> = OnceLock::new();
    SHAPE.get_or_init(|| {
        let optional = |name: &str, kind| json!({"name": name, "type": ["null", kind]});
        let inner = json!({"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]});
        let spec: TopicSpec = serde_json::from_value(json!({
            "name": "orders", "key": ["k"], "path": "orders/{region}",
            "schema": {"type": "record", "name": "Event", "fields": [
                {"name": "k", "type": "string"},
                optional("region", json!("string")),
                optional("flag", json!("boolean")),
                optional("small", json!("int")),
                optional("amount", json!("double")),
                optional("raw", json!("bytes")),
                optional("at", json!({"type": "long", "logicalType": "timestamp-micros"})),
                optional("price", json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2})),
                optional("mark", json!({"type": "fixed", "name": "Mark", "size": 4})),
                optional("list", json!({"type": "array", "items": "long"})),
                optional("map", json!({"type": "map", "values": "string"})),
                optional("inner", inner),
            ]},
        }))
        .expect("a topic");
        let def = spec.resolve(TopicId(Uuid::nil()), TenantId(Uuid::nil()), LaneId(0)).expect("a definition");
        Arc::new(Shape::new(Arc::new(def)).expect("its shape"))
    })
}

/// An object under a segment's name. What is read is what was written, to the byte.
fn segment(data: &[u8]) {
    if let Ok(read) = Segment::decode(&Bytes::copy_from_slice(data)) {
        let written = segment::encode(read.place, read.nonce, &read.frames);
        assert_eq!((&written.bytes[..], written.link), (data, read.link));
    }
}

/// Frames, their checksums right: a segment of them is read back; replayed onto a lane with a topic it gives a state or says what is wrong.
fn frames(mut data: &[u8]) {
    const HEADER_BYTES: usize = 26;
    let mut frames = Vec::new();
    while let Some((header, rest)) = data.split_at_checked(HEADER_BYTES) {
        let length = usize::from(u16::from_le_bytes([header[24], header[25]])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        frames.push(frame(header, payload));
        data = rest;
    }
    let place = Place { lane: LaneId(0), epoch: Epoch(1), slot: Slot(0), predecessor: LinkHash::START };
    let written = segment::encode(place, [0; 16], &frames);
    let read = Segment::decode(&written.bytes).expect("what was written is read");
    assert_eq!((&read.frames, read.link, read.place), (&frames, written.link, place));
    let mut state = LaneState::default();
    let created = Effect::Created { tenant: schemas::TenantName::default(), shape: Arc::clone(shape()) };
    state.apply(&created).expect("it is the first");
    let mut replay = Replay::new(state, Position::START);
    if replay.feed(Position::START, written.bytes.len(), &read).is_ok() {
        store_and_read(&replay.state);
    }
}

fn frame(header: &[u8], payload: &[u8]) -> Frame {
    let long = |at: usize| i64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let known = [
        FrameKind::Events,
        FrameKind::TopicCreated,
        FrameKind::TopicDropped,
        FrameKind::TopicChanged,
        FrameKind::Producer,
        FrameKind::Fence,
        FrameKind::GroupProgress,
        FrameKind::Seal,
    ];
    let kind = known.get(usize::from(header[0])).copied().unwrap_or(FrameKind::Unknown(header[0].max(100)));
    let topic = TopicId(Uuid::from_u128(u128::from(header[3])));
    Frame {
        critical: header[1] & 1 != 0,
        columns: u16::from(header[1] >> 1),
        schema_version: u32::from(header[2]),
        shard: Shard(u32::from(header[4])),
        count: u32::from_le_bytes([header[5], header[6], 0, header[7]]),
        first_seq: Seq(long(8)),
        time_micros: long(16),
        ..Frame::record(kind, TenantId(Uuid::nil()), topic, Payload::new(payload.to_vec()))
    }
}

/// The payload of an events frame, after a byte that says which optional columns there are. What is taken for rows is sound.
fn body(data: &[u8]) {
    let Some((present, message)) = data.split_first() else { return };
    let Ok(body) = decode_body(&Payload::new(message.to_vec()), u16::from(*present & 3), shape()) else { return };
    for column in body.columns() {
        column.to_data().validate_full().expect("what was decoded is valid");
    }
    let _ = ValidRows::derive(shape(), body);
}

/// A lane's root: what is read is written again with nothing lost.
fn root(data: &[u8]) {
    let Ok(root) = serde_json::from_slice::<Root>(data) else { return };
    let written = serde_json::to_vec(&root).expect("a root is JSON");
    assert_eq!(serde_json::from_slice::<Root>(&written).expect("what was written is read"), root);
    let mut shed = root.clone();
    shed.shed_closed();
    assert_eq!(shed.closed.last(), root.closed.last());
}

/// A checkpoint, and the record of a topic.
fn checkpoint(data: &[u8]) {
    let _ = serde_json::from_slice::<TopicRecord>(data);
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    let Ok(at) = serde_json::from_value::<Position>(document["at"].clone()) else { return };
    if let Ok(state) = checkpoint::decode(data, LaneId(0), at) {
        store_and_read(&state);
    }
}

/// What a checkpoint says of a state is the state.
fn store_and_read(state: &LaneState) {
    let written = checkpoint::encode(LaneId(0), Position::START, state, Uuid::nil());
    let read = checkpoint::decode(&written, LaneId(0), Position::START).expect("what was written is read");
    assert_eq!(checkpoint::encode(LaneId(0), Position::START, &read, Uuid::nil()), written);
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod kept;

#[test]
fn what_the_fuzzer_has_kept_is_survived() {
    kept::replay(TARGETS);
}
