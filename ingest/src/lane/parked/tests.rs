use catalog::storage::StoreConfig;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::testing::{orders, valid_orders};

const LANE: LaneId = LaneId(3);

/// Batches of so many rows each, from a seq on.
fn rows(from: i64, sizes: &[usize]) -> Vec<RecordBatch> {
    let def = orders(7);
    let mut next = from;
    let batch = |size: &usize| {
        let amounts = next as i32..next as i32 + *size as i32;
        let batch = valid_orders(&def, amounts).seal(Seq(next), next);
        next += *size as i64;
        batch
    };
    sizes.iter().map(batch).collect()
}

fn head(from: i64, to: i64) -> Head {
    Head { lane: LANE, topic: orders(7).id, from: Seq(from), to: Seq(to) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_written_is_read(from in 1..1_000i64, sizes in vec(1..20usize, 0..5), nonce in any::<[u8; 16]>()) {
        let batches = rows(from, &sizes);
        let head = head(from, from + sizes.iter().sum::<usize>() as i64);
        let object = object::encode(head, nonce, &batches).unwrap();
        prop_assert_eq!(object::decode(&object, head).unwrap(), batches);
    }

    #[test]
    fn a_flipped_bit_and_a_missing_byte_are_found(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let intact = object::encode(head(5, 12), [1; 16], &rows(5, &[3, 4])).unwrap();
        let at = at.index(intact.len());
        let mut damaged = intact.to_vec();
        damaged[at] ^= 1 << bit;
        prop_assert!(object::decode(&damaged.into(), head(5, 12)).is_err());
        prop_assert!(object::decode(&intact.slice(..at), head(5, 12)).is_err());
    }
}

#[test]
fn the_header_of_format_version_1_stays_what_it_is() {
    let object = object::encode(head(5, 5), [0xab; 16], &[]).unwrap();
    let hex: String = object.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "4649524e50524b0a",
        "0100",
        "0000",
        "03000000",
        "00000000000000000000000000000007",
        "00000000",
        "00000000",
        "0500000000000000",
        "0500000000000000",
        "abababababababababababababababab",
        "0000000000000000",
        "7f498d4624c30160d8984701d306aa99",
        "c6ddd2d9",
    ];
    assert_eq!(hex, expected.concat());
}

#[test]
fn the_rows_of_another_topic_or_extent_are_refused() {
    let object = object::encode(head(5, 8), [1; 16], &rows(5, &[3])).unwrap();
    let other = Head { topic: orders(8).id, ..head(5, 8) };
    assert!(object::decode(&object, other).unwrap_err().contains("expected Head"));
    assert!(object::decode(&object, head(5, 9)).is_err());
    let short = object::encode(head(5, 9), [1; 16], &rows(5, &[3])).unwrap();
    assert!(object::decode(&short, head(5, 9)).unwrap_err().contains("up to before seq 9, found those to before 8"));
}

#[test]
fn a_checkpoint_says_it_and_refuses_extents_that_do_not_tile() {
    let named =
        |from: i64, to: i64| Named { name: format!("2-{from}"), hash: "00".to_owned(), from: Seq(from), to: Seq(to) };
    let parked = |objects| Parked { from: Seq(5), to: Seq(9), reason: "why".to_owned(), objects };
    let topic = TopicId(Uuid::from_u128(7));
    let whole = parked(vec![named(5, 7), named(7, 9)]);
    let document = serde_json::to_value(ParkedDocument::new(topic, &whole)).unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "topic": "00000000-0000-0000-0000-000000000007",
            "from": {"0": 5},
            "to": {"0": 9},
            "reason": "why",
            "objects": [
                {"name": "2-5", "hash": "00", "from": {"0": 5}, "to": {"0": 7}},
                {"name": "2-7", "hash": "00", "from": {"0": 7}, "to": {"0": 9}},
            ],
        })
    );
    let read: ParkedDocument = serde_json::from_value(document).unwrap();
    assert_eq!(read.parse().unwrap(), (topic, whole));
    for gap in [vec![named(5, 7)], vec![named(5, 7), named(8, 9)], vec![]] {
        assert!(ParkedDocument::new(topic, &parked(gap)).parse().unwrap_err().contains("should tile"));
    }
}

#[tokio::test]
async fn rows_come_back_from_the_store_and_damage_is_named() {
    let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
    let store = Store::open(&StoreConfig::at(folder.path().to_str().unwrap()), env.clone()).await.unwrap();
    let batches = rows(5, &[3, 4]);
    let cut = Cut { from: Seq(5), to: Seq(12), batches: batches.clone() };
    let park = ToPark { topic: orders(7).id, reason: "why".to_owned(), rows: cut };
    let parked = write(&store, &env, LANE, Epoch(2), park).await.unwrap();
    let [named] = &parked.objects[..] else { panic!("it fits one object") };
    assert!(named.name.starts_with("2-"));
    assert_eq!(read(&store, LANE, orders(7).id, named).await.unwrap(), batches);

    let altered = Named { hash: "00".to_owned(), ..named.clone() };
    assert_eq!(read(&store, LANE, orders(7).id, &altered).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let gone = Named { name: "2-gone".to_owned(), ..named.clone() };
    assert!(read(&store, LANE, orders(7).id, &gone).await.unwrap_err().to_string().contains("is missing"));
}
