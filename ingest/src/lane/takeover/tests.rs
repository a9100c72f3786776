use std::path::PathBuf;

use catalog::storage::StoreConfig;
use schemas::TenantName;
use tempfile::TempDir;

use super::super::replay::TopicRecord;
use super::super::root::read;
use super::*;
use crate::testing::orders;
use crate::wal::FrameKind;

const LANE: LaneId = LaneId(0);

/// A lane in a folder, without a task.
struct Log {
    folder: TempDir,
    store: Store,
    env: Env,
}

impl Log {
    async fn new() -> Self {
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
        let store = Store::open(&StoreConfig::at(folder.path().to_str().unwrap()), env.clone()).await.unwrap();
        Self { folder, store, env }
    }

    async fn take_over(&self) -> Result<TakenOver> {
        take_over(&self.store, &self.env, LANE, &self.node(), Claim::Any).await
    }

    fn node(&self) -> Node {
        Node { id: self.env.uuid(), address: None }
    }

    /// A claim whose owner dies before it has sealed anything.
    async fn claim(&self) {
        RootRegister::claim(self.store.clone(), self.env.clone(), LANE, &self.node(), Claim::Any).await.unwrap();
    }

    /// A segment that creates topic `number`. Returns the place after it.
    async fn append(&self, at: Position, number: u128) -> Position {
        let def = orders(number);
        let record = TopicRecord { tenant: TenantName::default(), definition: def.as_ref().clone() };
        let frame = Frame::record(FrameKind::TopicCreated, def.tenant, def.id, record.encode());
        let place = Place { lane: LANE, epoch: at.epoch, slot: at.slot, predecessor: at.hash };
        let encoded = segment::encode(place, self.env.nonce(), &[frame]);
        let put = self.store.create_segment(&segment_path(LANE, at.epoch, at.slot), encoded.bytes).await.unwrap();
        assert_eq!(put, Creation::Mine);
        Position { slot: at.slot.next(), hash: encoded.link, ..at }
    }

    fn file(&self, at: Position) -> PathBuf {
        self.folder.path().join(segment_path(LANE, at.epoch, at.slot).as_ref())
    }

    async fn root(&self) -> Root {
        read(&self.store, LANE).await.unwrap().unwrap().0
    }
}

fn topics(taken: &TakenOver) -> Vec<u128> {
    taken.replay.state.topics.keys().map(|topic| topic.0.as_u128()).collect()
}

#[tokio::test]
async fn the_first_owner_begins_an_empty_lane() {
    let log = Log::new().await;
    let taken = log.take_over().await.unwrap();
    assert_eq!(taken.at, Position::START);
    assert_eq!(log.root().await.state, State::Open);
}

#[tokio::test]
async fn the_next_owner_finds_what_was_written_and_seals_it() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    let end = log.append(log.append(first.at, 1).await, 2).await;
    let second = log.take_over().await.unwrap();
    assert_eq!(topics(&second), [1, 2]);
    assert_eq!((second.at.epoch, second.at.slot), (Epoch(2), Slot(0)));
    assert_eq!(log.root().await.closed.last().unwrap().seal_slot, end.slot);
    let late =
        log.store.create_segment(&segment_path(LANE, end.epoch, end.slot), Bytes::from_static(b"late")).await.unwrap();
    assert!(matches!(late, Creation::Others(_)), "the old owner's next put fails");
    let mut register = first.register;
    assert_eq!(register.change(|_| {}).await.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn take_overs_that_died_half_way_leave_every_epoch_sealed_by_the_next() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    let end = log.append(first.at, 1).await;
    log.claim().await;
    log.claim().await;
    assert_eq!(log.root().await.state, State::Opening);
    let fourth = log.take_over().await.unwrap();
    assert_eq!(topics(&fourth), [1]);
    assert_eq!(fourth.at.epoch, Epoch(4));
    let closed: Vec<_> = log.root().await.closed.iter().map(|closed| (closed.epoch.0, closed.seal_slot)).collect();
    assert_eq!(closed, [(1, end.slot), (2, Slot(0)), (3, Slot(0))], "not only the newest");
    let end = log.append(fourth.at, 2).await;
    let fifth = log.take_over().await.unwrap();
    assert_eq!(topics(&fifth), [1, 2]);
    assert_eq!(fifth.at.epoch, end.epoch.next());
}

#[tokio::test]
async fn a_taker_that_died_after_its_seal_is_believed() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    let end = log.append(first.at, 1).await;
    log.claim().await;
    let place = Place { lane: LANE, epoch: end.epoch, slot: end.slot, predecessor: end.hash };
    let seal = segment::encode(place, log.env.nonce(), &[Frame::seal()]);
    log.store.create_segment(&segment_path(LANE, end.epoch, end.slot), seal.bytes).await.unwrap();
    let third = log.take_over().await.unwrap();
    assert_eq!(topics(&third), [1]);
    let closed = log.root().await.closed[0];
    assert_eq!((closed.seal_slot, closed.hash), (end.slot, seal.link));
}

#[tokio::test]
async fn what_landed_after_a_hole_never_happened() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    let hole = log.append(first.at, 1).await;
    log.append(Position { slot: hole.slot.next(), ..hole }, 2).await;
    assert_eq!(topics(&log.take_over().await.unwrap()), [1]);
}

#[tokio::test]
async fn a_damaged_segment_stops_the_take_over_and_is_named() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    let second = log.append(first.at, 1).await;
    log.append(second, 2).await;
    let mut bytes = std::fs::read(log.file(second)).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(log.file(second), bytes).unwrap();
    let error = log.take_over().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().starts_with("segment lanes/0/w/1/1: at byte 176: "), "{error}");
}

#[tokio::test]
async fn a_segment_of_another_slot_is_not_believed() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    let second = log.append(first.at, 1).await;
    log.append(second, 2).await;
    std::fs::copy(log.file(first.at), log.file(second)).unwrap();
    assert_eq!(log.take_over().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_missing_segment_below_a_seal_is_not_passed_over() {
    let log = Log::new().await;
    let first = log.take_over().await.unwrap();
    log.append(first.at, 1).await;
    log.take_over().await.unwrap();
    std::fs::remove_file(log.file(first.at)).unwrap();
    let error = log.take_over().await.unwrap_err();
    assert!(error.to_string().contains("segment lanes/0/w/1/0 is missing"), "{error}");
}

#[tokio::test]
async fn a_lane_that_another_holds_is_not_taken_back() {
    let log = Log::new().await;
    let owner = log.node();
    take_over(&log.store, &log.env, LANE, &owner, Claim::Any).await.unwrap();
    take_over(&log.store, &log.env, LANE, &owner, Claim::Mine).await.unwrap();
    log.take_over().await.unwrap();
    let error = take_over(&log.store, &log.env, LANE, &owner, Claim::Mine).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_store_of_a_newer_firn_is_left_alone() {
    let log = Log::new().await;
    let mut register = log.take_over().await.unwrap().register;
    register.change(|root| root.format.writer = 2).await.unwrap();
    assert_eq!(log.take_over().await.unwrap_err().kind(), ErrorKind::Invalid);
}
