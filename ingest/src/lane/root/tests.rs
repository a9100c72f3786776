use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node() -> Node {
    Node { id: Env::system().uuid(), address: Some("grpc://here:8815".into()) }
}

fn closed(epoch: u64) -> Closed {
    Closed { epoch: Epoch(epoch), seal_slot: Slot(epoch * 10), hash: LinkHash([epoch as u8; 16]) }
}

fn root(epoch: u64, floor: u64, closed_epochs: &[u64]) -> Root {
    let env = Env::system();
    let mut root = Root::claimed(None, LaneId(0), &node(), &env);
    root.epoch = Epoch(epoch);
    root.floor.epoch = Epoch(floor);
    root.closed = closed_epochs.iter().map(|epoch| closed(*epoch)).collect();
    root
}

proptest! {
    #[test]
    fn what_is_written_is_read(epoch in 1..u64::MAX, floor in any::<u64>(), epochs in prop::collection::vec(any::<u64>().prop_map(|epoch| epoch / 10), 0..5)) {
        let root = root(epoch, floor, &epochs);
        prop_assert_eq!(serde_json::from_slice::<Root>(&encode(&root)).unwrap(), root);
    }
}

#[test]
fn the_document_of_format_version_1_stays_what_it_is() {
    let document = json!({
        "format": {"reader": 1, "writer": 1},
        "lane": 0,
        "epoch": 3,
        "owner": "00000000-0000-0000-0000-000000000007",
        "address": "grpc://10.0.0.7:8815",
        "state": "closed",
        "heir": "00000000-0000-0000-0000-000000000009",
        "closed": [{"epoch": 2, "seal_slot": 20, "hash": "02020202020202020202020202020202"}],
        "floor": {"epoch": 2, "slot": 4, "hash": "01010101010101010101010101010101"},
        "checkpoint": {"name": "2-5-ab.json", "hash": "cd", "at": {"epoch": 2, "slot": 5, "hash": "03030303030303030303030303030303"}},
        "nonce": "00000000-0000-0000-0000-000000000008",
        "later": {"than": "this code"},
    });
    let root: Root = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(root.closed, [closed(2)]);
    assert_eq!(serde_json::to_value(&root).unwrap(), document, "with what this code does not know");
}

#[test]
fn a_claim_takes_the_next_epoch_and_keeps_the_rest() {
    let env = Env::system();
    let mut before = root(4, 2, &[2, 3]);
    (before.state, before.heir) = (State::Closed, Some(env.uuid()));
    before.unknown.insert("later".into(), json!(1));
    let claimed = Root::claimed(Some(&before), LaneId(0), &node(), &env);
    assert_eq!((claimed.epoch, claimed.state, claimed.heir), (Epoch(5), State::Opening, None));
    assert_ne!(claimed.owner, before.owner);
    assert_ne!(claimed.nonce, before.nonce);
    assert_eq!((&claimed.closed, claimed.floor, &claimed.unknown), (&before.closed, before.floor, &before.unknown));
}

#[test]
fn every_epoch_after_the_last_closed_one_must_be_sealed() {
    assert_eq!(root(5, 2, &[2, 3]).first_unclosed(), Epoch(4), "not only the newest");
    assert_eq!(root(5, 1, &[]).first_unclosed(), Epoch(1));
}

#[test]
fn closed_epochs_below_the_floor_are_shed_but_never_the_last() {
    let left = |floor, epochs: &[u64]| {
        let mut root = root(9, floor, epochs);
        root.shed_closed();
        root.closed.iter().map(|closed| closed.epoch.0).collect::<Vec<_>>()
    };
    assert_eq!(left(3, &[1, 2, 3, 4]), [3, 4]);
    assert_eq!(left(9, &[1, 2, 3, 4]), [4]);
    assert_eq!(left(1, &[]), [0; 0]);
}

#[tokio::test]
async fn a_lane_is_not_begun_anew_by_an_owner_that_finds_its_root_gone() {
    let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
    let config = catalog::storage::StoreConfig::at(folder.path().to_str().unwrap());
    let store = Store::open(&config, env.clone()).await.unwrap();
    let by = node();
    let claim = |condition| RootRegister::claim(store.clone(), env.clone(), LaneId(0), &by, condition);
    for condition in [Claim::Mine, Claim::After(Epoch(3))] {
        let error = claim(condition).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "the store may be away: {error}");
    }
    assert_eq!(claim(Claim::After(Epoch(0))).await.unwrap().root().epoch, Epoch(1));
}

#[tokio::test]
async fn of_two_that_saw_the_same_owner_fall_silent_one_goes_on() {
    let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
    let config = catalog::storage::StoreConfig::at(folder.path().to_str().unwrap());
    let store = Store::open(&config, env.clone()).await.unwrap();
    let claim = async |condition| RootRegister::claim(store.clone(), env.clone(), LaneId(0), &node(), condition).await;
    claim(Claim::Any).await.unwrap();
    let (one, other) = futures::join!(claim(Claim::After(Epoch(1))), claim(Claim::After(Epoch(1))));
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(won.unwrap().root().epoch, Epoch(2));
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Fenced);
}
