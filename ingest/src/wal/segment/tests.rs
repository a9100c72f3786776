use proptest::collection::vec;
use proptest::prelude::*;
use schemas::TenantId;

use super::super::frame::Payload;
use super::*;

fn place() -> Place {
    Place { lane: LaneId(0), epoch: Epoch(3), slot: Slot(17), predecessor: LinkHash([0xaa; 16]) }
}

fn kinds() -> impl Strategy<Value = FrameKind> {
    prop_oneof![
        Just(FrameKind::Events),
        Just(FrameKind::TopicCreated),
        Just(FrameKind::TopicDropped),
        Just(FrameKind::TopicChanged),
        Just(FrameKind::Producer),
        Just(FrameKind::Fence),
        Just(FrameKind::Retained),
        Just(FrameKind::GroupProgress),
        Just(FrameKind::Seal),
        (10u8..).prop_map(FrameKind::Unknown),
    ]
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let ids = (kinds(), any::<bool>(), any::<u16>(), any::<u32>(), any::<u128>(), 0..3u128);
    let counts = (0..3u32, 1..1000u32, 1..1_000_000i64, any::<i64>(), vec(any::<u8>(), 0..300));
    let frame = (ids, counts).prop_map(
        |((kind, critical, columns, version, tenant, topic), (shard, count, first, time, bytes))| Frame {
            kind,
            critical,
            columns,
            schema_version: version,
            tenant: TenantId(Uuid::from_u128(tenant)),
            topic: TopicId(Uuid::from_u128(topic)),
            shard: Shard(shard),
            count,
            first_seq: Seq(first),
            time_micros: time,
            payload: Payload::new(bytes),
        },
    );
    vec(frame, 0..6)
}

proptest! {
    #[test]
    fn what_is_written_is_read(frames in frames(), nonce in any::<[u8; 16]>(), lane in any::<u32>(), epoch in any::<u64>(), slot in any::<u64>()) {
        let place = Place { lane: LaneId(lane), epoch: Epoch(epoch), slot: Slot(slot), predecessor: LinkHash([7; 16]) };
        let encoded = encode(place, nonce, &frames);
        let segment = Segment::decode(&encoded.bytes).unwrap();
        prop_assert_eq!(segment.place, place);
        prop_assert_eq!(segment.nonce, nonce);
        prop_assert_eq!(segment.link, encoded.link);
        prop_assert_eq!(&segment.topics, &encoded.topics);
        prop_assert_eq!(segment.frames, frames);
    }

    #[test]
    fn a_flipped_bit_is_found_and_named_near_its_place(frames in frames(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let intact = encode(place(), [1; 16], &frames).bytes;
        let at = at.index(intact.len());
        let mut damaged = intact.to_vec();
        damaged[at] ^= 1 << bit;
        let damage = Segment::decode(&damaged.into()).unwrap_err();
        prop_assert!(damage.offset <= at, "byte {} flipped, found {}", at, damage);
    }

    #[test]
    fn a_missing_or_additional_byte_is_found(frames in frames(), cut in any::<prop::sample::Index>()) {
        let intact = encode(place(), [1; 16], &frames).bytes;
        prop_assert!(Segment::decode(&intact.slice(..cut.index(intact.len()))).is_err());
        let longer = [&intact[..], &[0]].concat();
        prop_assert!(Segment::decode(&longer.into()).is_err());
    }

    #[test]
    fn bytes_that_are_no_segment_are_refused(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(Segment::decode(&bytes.into()).is_err());
    }
}

#[test]
fn every_single_flip_in_a_small_segment_is_found() {
    let mut frame = Frame::record(
        FrameKind::Events,
        TenantId(Uuid::nil()),
        TopicId(Uuid::from_u128(5)),
        Payload::new(&b"rows"[..]),
    );
    (frame.count, frame.first_seq) = (2, Seq(10));
    let intact = encode(place(), [1; 16], &[frame]).bytes;
    for at in 0..intact.len() {
        for bit in 0..8 {
            let mut damaged = intact.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(Segment::decode(&damaged.into()).is_err(), "bit {bit} of byte {at} flipped unnoticed");
        }
    }
}

#[test]
fn the_header_names_each_topic_with_its_last_seq() {
    let events = |topic, first, count| {
        let mut frame = Frame::record(
            FrameKind::Events,
            TenantId(Uuid::nil()),
            TopicId(Uuid::from_u128(topic)),
            Payload::new(Bytes::new()),
        );
        (frame.count, frame.first_seq) = (count, Seq(first));
        frame
    };
    let segment =
        Segment::decode(&encode(place(), [0; 16], &[events(2, 1, 10), events(1, 5, 1), events(2, 11, 3)]).bytes)
            .unwrap();
    let ends: Vec<_> = segment.topics.iter().map(|end| (end.topic.0.as_u128(), end.last_seq)).collect();
    assert_eq!(ends, [(1, Seq(5)), (2, Seq(13))]);
}

/// These bytes are in users' stores: a change of the format needs a new version, not new bytes here.
#[test]
fn the_bytes_of_format_version_1_stay_what_they_are() {
    let mut frame = Frame::record(
        FrameKind::Events,
        TenantId(Uuid::from_u128(1)),
        TopicId(Uuid::from_u128(2)),
        Payload::new(&b"abc"[..]),
    );
    (frame.columns, frame.schema_version, frame.count) = (3, 4, 5);
    (frame.first_seq, frame.time_micros) = (Seq(6), 7);
    let encoded = encode(place(), [0x11; 16], &[frame]);
    let hex: String = encoded.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    assert_eq!(Segment::decode(&encoded.bytes).unwrap().frames.len(), 1);
}

#[test]
fn a_seal_is_the_shortest_segment() {
    let seal = encode(place(), [0; 16], &[Frame::seal()]);
    assert_eq!(seal.bytes.len() as u64, crate::lane::trim::SEAL_BYTES);
    assert!(Segment::decode(&seal.bytes).unwrap().is_seal());
}

const GOLDEN: &str = "\
    4649524e57414c0a01000000000000000300000000000000110000000000000011111111111111111111111111111111\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa290fc9258146ce85c91873be64dc9544f000000000000000100000001000000\
    00000000000000000000000000000002000000000a00000000000000b9186aa301010300040000000000000000000000\
    000000000000000100000000000000000000000000000002000000000500000006000000000000000700000000000000\
    03000000b73f4b3667e9cc78616263";
