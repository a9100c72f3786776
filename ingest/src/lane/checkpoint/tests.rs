use catalog::storage::StoreConfig;
use schemas::{Epoch, Seq, Slot};

use super::super::parked;
use super::super::producers::{Act, Answered, ProducerRecord};
use super::super::state::Effect;
use super::*;
use crate::engine::Fence;
use crate::testing::orders;
use crate::wal::LinkHash;

const AT: Position = Position { epoch: Epoch(2), slot: Slot(5), hash: LinkHash([3; 16]) };

fn state() -> LaneState {
    let mut state = LaneState::default();
    for number in [7, 8] {
        let shape = Arc::new(Shape::new(orders(number)).unwrap());
        state.apply(&Effect::Created { tenant: TenantName::default(), shape }).unwrap();
    }
    let prefixes = vec!["orders/a".to_owned(), "orders/b".to_owned()];
    let effect = Effect::Appended { topic: orders(7).id, first_seq: Seq(1), count: 9, time_micros: 17, prefixes };
    state.apply(&effect).unwrap();
    state.apply(&Effect::Dropped { topic: orders(8).id }).unwrap();
    state.dropped.get_mut(&orders(8).id).unwrap().since_micros = Some(19);
    for effect in producer_and_fences() {
        state.apply(&effect).unwrap();
    }
    let topic = state.topics.get_mut(&orders(7).id).unwrap();
    (topic.watermark, topic.retained, topic.confirmed) = (Watermark(Seq(4)), Seq(3), true);
    let (from, to) = (Seq(4), Seq(10));
    let object = parked::Named { name: "2-p".to_owned(), hash: "0f".to_owned(), from, to };
    let parked = parked::Parked { from, to, reason: "why".to_owned(), objects: vec![object] };
    state.parked.insert(orders(7).id, parked);
    state
}

fn producer_and_fences() -> Vec<Effect> {
    let topic = orders(7).id;
    let record = |act| ProducerRecord { name: "loader".into(), epoch: 1, time_micros: 18, act };
    let answer = |content, first: Option<i64>, accepted, refused| Answered {
        content,
        first_seq: first.map(Seq),
        accepted,
        refused,
        schema_version: 1,
    };
    let acts = [
        Act::Issued { resumes: false },
        Act::Answered { seq: 1, answer: answer(11, Some(1), 9, 0) },
        Act::Answered { seq: 2, answer: answer(12, None, 0, 2) },
    ];
    let fence = |key_prefix: Option<&str>, token| Fence { key_prefix: key_prefix.map(str::to_owned), token };
    let producers = acts.map(|act| Effect::Producer { topic, record: record(act) });
    let fences = [fence(None, 5), fence(Some("o-"), 6)].map(|fence| Effect::Fence { topic, fence });
    producers.into_iter().chain(fences).collect()
}

#[test]
fn what_is_written_is_read() {
    let object = encode(LaneId(0), AT, &state(), Uuid::from_u128(1));
    let read = decode(&object, LaneId(0), AT).unwrap();
    assert_eq!(encode(LaneId(0), AT, &read, Uuid::from_u128(1)), object);
    let topic = &read.topics[&orders(7).id];
    assert_eq!(
        (topic.next_seq, topic.last_time, topic.watermark, topic.confirmed),
        (Seq(10), 17, Watermark(Seq(4)), true)
    );
    assert_eq!(topic.retained, Seq(3));
    assert_eq!(topic.prefixes.iter().collect::<Vec<_>>(), ["orders/a", "orders/b"]);
    assert_eq!(topic.shape().def(), &orders(7));
    assert_eq!((&read.dropped[&orders(8).id].def, read.dropped[&orders(8).id].since_micros), (&orders(8), Some(19)));
    assert_eq!(read.parked, state().parked);
}

#[test]
fn the_document_of_format_version_1_stays_what_it_is() {
    let object: serde_json::Value =
        serde_json::from_slice(&encode(LaneId(0), AT, &state(), Uuid::from_u128(1))).unwrap();
    let mut document = object.clone();
    document["topics"][0]["definitions"] = "checked where definitions are".into();
    document["dropped"][0]["definition"] = "likewise".into();
    assert_eq!(
        document,
        serde_json::json!({
            "format": 1,
            "lane": 0,
            "at": {"epoch": 2, "slot": 5, "hash": "03030303030303030303030303030303"},
            "nonce": "00000000-0000-0000-0000-000000000001",
            "topics": [{
                "tenant": "default",
                "definitions": "checked where definitions are",
                "next": {"0": 10},
                "last_time_micros": 17,
                "prefixes": ["orders/a", "orders/b"],
                "watermark": {"0": 4},
                "retained": {"0": 3},
                "confirmed": true,
            }],
            "dropped": [{"tenant": "default", "definition": "likewise", "since_micros": 19}],
            "parked": [{
                "topic": orders(7).id,
                "from": {"0": 4},
                "to": {"0": 10},
                "reason": "why",
                "objects": [{"name": "2-p", "hash": "0f", "from": {"0": 4}, "to": {"0": 10}}],
            }],
            "producers": {
                "epochs": 1,
                "newest_micros": 18,
                "producers": [{
                    "topic": orders(7).id,
                    "name": "loader",
                    "epoch": 1,
                    "next": 3,
                    "used_micros": 18,
                    "answers": [
                        {"content": "0000000000000000000000000000000b", "first": {"0": 1}, "accepted": 9, "refused": 0, "schema_version": 1},
                        {"content": "0000000000000000000000000000000c", "first": {}, "accepted": 0, "refused": 2, "schema_version": 1},
                    ],
                }],
            },
            "fences": [
                {"topic": orders(7).id, "key_prefix": null, "token": 5},
                {"topic": orders(7).id, "key_prefix": "o-", "token": 6},
            ],
        })
    );
}

#[test]
fn the_state_of_another_place_is_refused() {
    let object = encode(LaneId(0), AT, &state(), Uuid::from_u128(1));
    let elsewhere = Position { slot: Slot(6), ..AT };
    assert!(decode(&object, LaneId(0), elsewhere).unwrap_err().contains("epoch 2 slot 5"));
    assert!(decode(&object, LaneId(1), AT).is_err());
}

#[tokio::test]
async fn an_altered_checkpoint_is_found_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::system();
    let store = Store::open(&StoreConfig::at(folder.path().to_str().unwrap()), env.clone()).await.unwrap();
    let (mut named, _) = write(&store, &env, LaneId(0), AT, &state()).await.unwrap();
    assert!(read(&store, LaneId(0), &named).await.unwrap().is_some());
    named.hash = blake3::hash(b"what was written").to_hex().to_string();
    assert_eq!(read(&store, LaneId(0), &named).await.unwrap_err().kind(), ErrorKind::Corrupt);
    named.name = "2-5-gone.json".into();
    assert!(read(&store, LaneId(0), &named).await.unwrap().is_none());
}
