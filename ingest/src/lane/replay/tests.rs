use schemas::{Epoch, LaneId, Shard, Slot, TenantId, Watermark};
use uuid::Uuid;

use super::*;
use crate::testing::{orders, valid_orders};
use crate::wal::{LinkHash, Place, encode_body, segment};

fn at(slot: u64) -> Position {
    Position { epoch: Epoch(1), slot: Slot(slot), hash: LinkHash::START }
}

fn segment_of(frames: &[Frame]) -> Segment {
    let place = Place { lane: LaneId(0), epoch: Epoch(1), slot: Slot(0), predecessor: LinkHash::START };
    Segment::decode(&segment::encode(place, [0; 16], frames).bytes).unwrap()
}

fn created() -> Frame {
    let def = orders(7);
    let record = TopicRecord { tenant: TenantName::default(), definition: def.as_ref().clone() };
    Frame::record(FrameKind::TopicCreated, def.tenant, def.id, record.encode())
}

fn events(first: i64, amounts: std::ops::Range<i32>) -> Frame {
    let def = orders(7);
    let (payload, columns) = encode_body(&valid_orders(&def, amounts.clone()).body).unwrap();
    Frame {
        kind: FrameKind::Events,
        critical: true,
        columns,
        schema_version: 1,
        tenant: def.tenant,
        topic: def.id,
        shard: Shard(0),
        count: amounts.len() as u32,
        first_seq: Seq(first),
        time_micros: 50,
        payload,
    }
}

fn fresh() -> Replay {
    Replay::new(LaneState::default(), at(0))
}

#[test]
fn rows_come_back_as_they_were_sealed() {
    let mut replay = fresh();
    replay.feed(at(0), 10, &segment_of(&[created(), events(1, 0..4), events(5, 4..6)])).unwrap();
    let topic = &replay.state.topics[&orders(7).id];
    assert_eq!((topic.next_seq, topic.last_time), (Seq(7), 50));
    assert_eq!(topic.prefixes.len(), 3, "orders/r0, orders/r1, orders/r2");
    let sealed: Vec<_> =
        replay.rows.into_iter().map(|placed| placed.rows.seal(placed.first_seq, placed.time_micros)).collect();
    assert_eq!(
        sealed,
        [valid_orders(&orders(7), 0..4).seal(Seq(1), 50), valid_orders(&orders(7), 4..6).seal(Seq(5), 50)]
    );
}

#[test]
fn segments_before_the_checkpoint_give_rows_and_change_nothing() {
    let mut before = fresh();
    before.feed(at(0), 10, &segment_of(&[created(), events(1, 0..4)])).unwrap();
    before.feed(at(1), 10, &segment_of(&[events(5, 4..6)])).unwrap();
    let mut state = before.state.clone();
    state.topics.get_mut(&orders(7).id).unwrap().watermark = Watermark(Seq(3));

    let mut replay = Replay::new(state, at(2));
    replay.feed(at(0), 10, &segment_of(&[created(), events(1, 0..4)])).unwrap();
    replay.feed(at(1), 10, &segment_of(&[events(5, 4..6)])).unwrap();
    replay.feed(at(2), 10, &segment_of(&[events(7, 6..7)])).unwrap();
    assert_eq!(replay.state.topics[&orders(7).id].next_seq, Seq(8));
    assert_eq!(replay.rows.iter().map(|placed| placed.first_seq.0).collect::<Vec<_>>(), [1, 5, 7]);
    assert_eq!(replay.index.len(), 3);
}

#[test]
fn rows_that_are_in_the_table_are_not_kept() {
    let mut replay = fresh();
    replay.feed(at(0), 10, &segment_of(&[created()])).unwrap();
    replay.state.topics.get_mut(&orders(7).id).unwrap().watermark = Watermark(Seq(5));
    replay.feed(at(1), 10, &segment_of(&[events(1, 0..4), events(5, 4..6)])).unwrap();
    assert_eq!(replay.rows.iter().map(|placed| placed.first_seq.0).collect::<Vec<_>>(), [5]);
}

#[test]
fn a_gap_in_the_seqs_is_found() {
    let mut replay = fresh();
    let fault = replay.feed(at(0), 10, &segment_of(&[created(), events(2, 0..4)])).unwrap_err();
    assert!(fault.starts_with("frame 1: topic") && fault.ends_with("expected seq 1 next, found 2"), "{fault}");
}

#[test]
fn a_frame_that_lies_about_its_count_is_found() {
    let mut lying = events(1, 0..4);
    lying.count = 5;
    let fault = fresh().feed(at(0), 10, &segment_of(&[created(), lying])).unwrap_err();
    assert!(fault.contains("expected 5 events, found 4"), "{fault}");
}

#[test]
fn an_unknown_kind_is_passed_over_unless_it_is_critical() {
    let nil = || (TenantId(Uuid::nil()), TopicId(Uuid::nil()));
    let mut later = Frame::record(FrameKind::Unknown(99), nil().0, nil().1, Payload::new(Vec::new()));
    assert!(fresh().feed(at(0), 10, &segment_of(&[later.clone()])).unwrap_err().contains("use a newer one"));
    later.critical = false;
    fresh().feed(at(0), 10, &segment_of(&[later])).unwrap();
}

/// `orders` with a field more.
fn second() -> TopicDef {
    let mut schema = orders(7).schema.clone();
    schema["fields"].as_array_mut().unwrap().push(serde_json::json!({"name": "note", "type": ["null", "string"]}));
    orders(7).altered(schema, &[]).unwrap().unwrap().0
}

fn changed(definition: TopicDef) -> Frame {
    let (tenant, topic) = (definition.tenant, definition.id);
    let record = TopicRecord { tenant: TenantName::default(), definition };
    Frame::record(FrameKind::TopicChanged, tenant, topic, record.encode())
}

#[test]
fn rows_have_the_version_that_their_frame_names_whichever_is_current() {
    let mut replay = fresh();
    // A batch that was on its way when the topic was changed comes after the change, as the version that it was checked under.
    replay.feed(at(0), 10, &segment_of(&[created(), events(1, 0..2), changed(second()), events(3, 2..3)])).unwrap();
    let topic = &replay.state.topics[&orders(7).id];
    assert_eq!((topic.next_seq, topic.shape().def().version, topic.confirmed), (Seq(4), 2, false));
    let versions: Vec<_> = replay.rows.iter().map(|placed| placed.rows.body.num_columns()).collect();
    assert_eq!(versions, [3, 3]);
    let error = replay.feed(at(1), 10, &segment_of(&[changed(second())])).unwrap_err();
    assert!(error.contains("expected schema version 3 next, found 2"), "{error}");
}

/// The record of a change, byte by byte: kind 4, critical, and the whole definition as JSON.
#[test]
fn a_change_is_written_as_it_always_was() {
    let mut bytes = Vec::new();
    changed(second()).encode(&mut bytes);
    assert_eq!(bytes[..4], [4, 1, 0, 0]);
    assert!(
        bytes[4..8].iter().chain(&bytes[40..64]).all(|byte| *byte == 0),
        "it has no version, no events, no seqs, no time"
    );
    assert_eq!(&bytes[76..], include_str!("golden/topic-changed.json").trim_end().as_bytes());
}
