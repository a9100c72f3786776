//! Owners and takers that slept: what stands in their way is never cleared away, and what they leave behind is not believed.

use bytes::Bytes;
use catalog::storage::Creation;
use catalog::view::Matching;
use schemas::Slot;

use super::*;
use crate::lane::{Position, segment_path};
use crate::wal::{Frame, Place, segment};

/// A lane whose first owner died with a segment on its way, and whose second has moved everything into tables and the floor with it.
/// Returns the slot of the first owner's epoch that its late segment would take.
async fn passed_by_the_floor(site: &Site, settings: &Settings) -> Slot {
    let sleeper = site.open(settings.clone()).await.unwrap();
    sleeper.create_topic(&tenant(), spec()).await.unwrap();
    append(&sleeper, 1..3).await.unwrap();
    drop(sleeper);
    let slots = site.segments().into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().parse::<u64>());
    let slot = Slot(slots.map(Result::unwrap).max().unwrap() + 1);
    let second = site.open(settings.clone()).await.unwrap();
    append(&second, 3..5).await.unwrap();
    second.flush(&tenant(), None).await.unwrap();
    second.shutdown(Duration::from_secs(10)).await;
    slot
}

async fn store(site: &Site) -> Store {
    Store::open(&StoreConfig::at(site.folder.path().to_str().unwrap()), Env::system()).await.unwrap()
}

/// What the next owner has, and that it goes on from there.
async fn check_next_owner(site: &Site, settings: &Settings, next: i64) {
    let engine = site.open(settings.clone()).await.unwrap();
    assert_eq!(append(&engine, 100..101).await.unwrap().first_seq, Some(Seq(next)));
    engine.flush(&tenant(), None).await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_not_lost_to_garbage_collection() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let slot = passed_by_the_floor(&site, &settings).await;
    // Each start sweeps what lies below the floor, and each of these moves the floor on.
    for next in 5..8 {
        check_next_owner(&site, &settings, next).await;
    }
    let late = segment_path(LANE, Epoch(1), slot);
    let left: Vec<_> = files(&site.folder.path().join("lanes/0/w/1"));
    assert_eq!(left, [site.folder.path().join(late.as_ref())], "of the first epoch its SEAL is left, and nothing else");
    let creation = store(&site).await.create_segment(&late, Bytes::from_static(b"the sleeper's")).await.unwrap();
    assert!(matches!(creation, Creation::Others(_)), "the sleeper learns that it is fenced, however late it wakes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_seal_below_the_floor_means_nothing() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    passed_by_the_floor(&site, &settings).await;
    // A taker that read the root before the floor moved finds the first slot of its walk absent, and occupies it.
    let place = Place { lane: LANE, epoch: Epoch(1), slot: Slot(0), predecessor: Position::START.hash };
    let seal = segment::encode(place, Env::system().nonce(), &[Frame::seal()]);
    let path = segment_path(LANE, Epoch(1), Slot(0));
    assert_eq!(store(&site).await.create_segment(&path, seal.bytes).await.unwrap(), Creation::Mine);
    for next in 5..8 {
        check_next_owner(&site, &settings, next).await;
    }
}

/// What it last knew says "refuse", what is true says "append": a refusal would be a lie, whatever became of the batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_owner_gives_no_stale_refusal() {
    let site = Site::new();
    let sleeper = site.unflushed().await;
    sleeper.create_topic(&tenant(), spec()).await.unwrap();
    append(&sleeper, 1..3).await.unwrap();
    let mut appender = appender(&sleeper, OnError::RejectBatch).await;
    let successor = site.unflushed().await;
    append(&successor, 3..4).await.unwrap();
    let terms =
        Terms { conditions: vec![Condition { of: Matching::Topic, expected_last_seq: Seq(3) }], ..Terms::default() };
    let submitted = appender.submit(order_rows(9..10), terms).await;
    let error = match submitted {
        Ok(answer) => answer.await.unwrap_err(),
        Err(error) => error,
    };
    let kinds = [ErrorKind::Fenced, ErrorKind::Indeterminate, ErrorKind::Unavailable];
    assert!(kinds.contains(&error.kind()), "it says that it is not the owner, or does not know: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_while_the_floor_moves_keeps_its_events() {
    const TOPICS: usize = 12;
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, flush_interval_ms: 5, ..Settings::default() };
    let engine = site.open(settings).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let busy = engine.clone();
    // Every append is flushed at once and followed by a checkpoint, so that the floor moves all the time.
    let load = tokio::spawn(async move {
        let mut first = 1;
        while !*stopped.borrow() {
            append(&busy, first..first + 3).await.unwrap();
            first += 3;
        }
        i64::from(first)
    });
    let mut made = Vec::new();
    for number in 0..TOPICS {
        let name = name(&format!("made{number}"));
        let spec = TopicSpec { name: name.clone(), path: None, ..spec() };
        let def = engine.create_topic(&tenant(), spec).await.unwrap();
        let mut appender = engine.appender(&tenant(), &name, AppendOptions::default()).await.unwrap();
        appender.submit(order_rows(1..4), Terms::default()).await.unwrap().await.unwrap();
        made.push(def.id);
    }
    stop.send(true).unwrap();
    let end = load.await.unwrap();
    drop(engine);

    let engine = site.unflushed().await;
    let orders = engine.host.parts.topics.get(&tenant(), &name("orders")).unwrap().id;
    assert_eq!(engine.tail().snapshot(&orders).unwrap().end, Seq(end));
    for topic in made {
        assert_eq!(engine.tail().snapshot(&topic).unwrap().end, Seq(4), "three events, in the table or in the log");
    }
}
