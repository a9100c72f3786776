//! Several engines over one store: one owns a lane, the others follow it, and one of them is next.

use super::*;
use crate::lane::follower::Follower;

/// A node that tells its address, which nobody can knock at. It beats often, and is silent soon.
fn node(number: u32) -> Settings {
    let advertise = Some(format!("grpc://node-{number}"));
    Settings { advertise, heartbeat_ms: 20, silence_ms: 400, ..unflushed() }
}

/// A node that is taken for dead although it works: its heart beats once.
fn heartless(number: u32) -> Settings {
    Settings { heartbeat_ms: 3_600_000, ..node(number) }
}

async fn becomes(engine: &Engine, lane: LaneId, wanted: impl FnMut(&Ownership) -> bool) -> Ownership {
    engine.ownership(lane).unwrap().wait_for(wanted).await.unwrap().clone()
}

fn is_open(ownership: &Ownership) -> bool {
    matches!(ownership, Ownership::Open { .. })
}

fn is_standby(ownership: &Ownership) -> bool {
    matches!(ownership, Ownership::Standby { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_stands_by_reads_what_is_acknowledged_and_names_the_owner() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    let owner = Some("grpc://node-1".to_owned());
    let stands = Ownership::Standby { lane: LANE, epoch: Epoch(1), owner: owner.clone(), is_vacant: false };
    assert_eq!(second.lanes()[0].ownership, stands);
    second.catch_up().await.unwrap();
    assert_eq!(amounts(&second), [(1, 1), (2, 2)]);
    append(&first, 3..4).await.unwrap();
    second.catch_up().await.unwrap();
    assert_eq!(amounts(&second), [(1, 1), (2, 2), (3, 3)], "what was acknowledged before a linearizable read is in it");

    let refusal = append(&second, 7..8).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Fenced);
    assert_eq!(refusal.detail(), Some(&Detail::NotOwner { owner }));
    let other = TopicSpec { name: name("others"), path: None, ..spec() };
    assert_eq!(second.create_topic(&tenant(), other).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(append(&first, 4..5).await.unwrap().first_seq, Some(Seq(4)), "nobody was fenced");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_ends_gives_its_lane_to_who_stands_by() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(Settings { silence_ms: 3_600_000, ..node(2) }).await.unwrap();
    first.shutdown(Duration::from_secs(10)).await;
    becomes(&second, LANE, is_open).await;
    assert_eq!(append(&second, 3..4).await.unwrap().first_seq, Some(Seq(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_falls_silent_is_followed_by_another_and_then_follows_it() {
    let site = Site::new();
    let first = site.open(heartless(1)).await.unwrap();
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    becomes(&second, LANE, is_open).await;
    assert_eq!(append(&second, 3..4).await.unwrap().first_seq, Some(Seq(3)));

    let error = append(&first, 9..10).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Fenced), "{error}");
    becomes(&first, LANE, is_standby).await;
    first.catch_up().await.unwrap();
    assert_eq!(amounts(&first), [(1, 1), (2, 2), (3, 3)]);
    append(&second, 4..5).await.unwrap();
    first.catch_up().await.unwrap();
    assert_eq!(amounts(&first).last(), Some(&(4, 4)), "it follows who fenced it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_that_is_ordered_needs_nobodys_silence() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    second.take_over(None).await.unwrap();
    assert_eq!(append(&second, 3..4).await.unwrap().first_seq, Some(Seq(3)));
    becomes(&first, LANE, is_standby).await;
    let third = site.open(Settings { take_over: true, ..node(3) }).await.unwrap();
    assert!(is_open(&third.lanes()[0].ownership));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_that_waits_while_its_process_takes_the_lane_over_is_answered() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    append(&first, 3..4).await.unwrap();
    let (taken, caught_up) = tokio::join!(second.take_over(None), second.catch_up());
    taken.unwrap();
    caught_up.unwrap();
    assert_eq!(amounts(&second), [(1, 1), (2, 2), (3, 3)]);
}

/// A put whose answer the owner does not have yet may have landed, and a standby may have shown its rows to somebody. One thread, so that the put is under
/// way when the read begins.
#[tokio::test]
async fn a_linearizable_read_at_the_owner_waits_for_what_a_standby_may_have_shown_already() {
    let site = Site::new();
    let engine = site.open(Settings { put_deadline_ms: 60_000, ..unflushed() }).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    let (epoch, away) = (site.folder.path().join("lanes/0/w/1"), site.folder.path().join("away"));
    std::fs::rename(&epoch, &away).unwrap();
    std::fs::write(&epoch, b"no folder").unwrap();
    let submitted = appender(&engine, OnError::RejectBatch).await.submit(order_rows(3..4), Terms::default()).await;
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    let reader = engine.clone();
    let read = tokio::spawn(async move { reader.catch_up().await });
    for _ in 0..32 {
        crate::lane::root::read(&engine.host.parts.store, LANE).await.unwrap();
    }
    assert!(!read.is_finished(), "nobody knows what became of the put");
    std::fs::remove_file(&epoch).unwrap();
    std::fs::rename(&away, &epoch).unwrap();
    read.await.unwrap().unwrap();
    assert_eq!(amounts(&engine), [(1, 1), (2, 2), (3, 3)]);
    submitted.unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_of_a_lane_that_has_stopped_for_good_is_told_so() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    second.catch_up().await.unwrap();
    let path = site.folder.path().join("lanes/0/w/1/1");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[150] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(second.take_over(None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    let read = timeout(Duration::from_secs(30), second.catch_up()).await.expect("it does not wait for ever");
    assert!(read.unwrap_err().to_string().contains("lanes/0/w/1/1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_spread_over_the_processes_that_live_and_topics_over_lanes() {
    let site = Site::new();
    let settings = |number| Settings { lanes: 4, ..node(number) };
    let first = site.open(settings(1)).await.unwrap();
    let mut made = std::collections::BTreeSet::new();
    for number in 0..16 {
        let topic = TopicSpec { name: name(&format!("orders_{number}")), path: None, ..spec() };
        made.insert(first.create_topic(&tenant(), topic).await.unwrap().lane);
    }
    assert_eq!(made.len(), 4, "sixteen topics are in four lanes");
    let second = site.open(settings(2)).await.unwrap();
    becomes(&second, LaneId(2), is_open).await;
    becomes(&second, LaneId(3), is_open).await;
    let owned = |engine: &Engine| engine.lanes().iter().filter(|lane| is_open(&lane.ownership)).count();
    for lane in [LaneId(2), LaneId(3)] {
        becomes(&first, lane, |ownership| matches!(ownership, Ownership::Standby { owner: Some(_), .. })).await;
    }
    assert_eq!((owned(&first), owned(&second)), (2, 2));
    second.catch_up().await.unwrap();
    for number in 0..16 {
        let topic = name(&format!("orders_{number}"));
        let engines = [&first, &second];
        let mut taken = 0;
        for engine in engines {
            match engine.appender(&tenant(), &topic, AppendOptions::default()).await {
                Ok(mut appender) => {
                    appender.submit(order_rows(1..2), Terms::default()).await.unwrap().await.unwrap();
                    taken += 1;
                }
                Err(refusal) => {
                    assert!(matches!(refusal.detail(), Some(Detail::NotOwner { owner: Some(_) })), "{refusal}")
                }
            }
        }
        assert_eq!(taken, 1, "{topic} has one owner");
    }
    first.catch_up().await.unwrap();
    for number in 0..16 {
        assert_eq!(tail_of(&first, &format!("orders_{number}")).len(), 1, "whoever owns it, both read it");
    }
    first.shutdown(Duration::from_secs(10)).await;
    becomes(&second, LaneId(0), is_open).await;
    becomes(&second, LaneId(1), is_open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_gets_more_lanes_and_never_fewer_and_processes_that_run_notice() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    let second = site.open(Settings { lanes: 3, ..node(2) }).await.unwrap();
    assert_eq!(second.lanes().len(), 3);
    let mut changes = first.changes();
    while first.lanes().len() < 3 {
        let _ = timeout(Duration::from_millis(50), changes.changed()).await;
    }
    drop((first, second));
    assert_eq!(site.unflushed().await.lanes().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_the_floor_has_passed_goes_on_from_the_tables() {
    let site = Site::new();
    let first = site.open(Settings { checkpoint_bytes: 1, ..node(1) }).await.unwrap();
    let def = first.create_topic(&tenant(), spec()).await.unwrap();
    let second = site.open(Settings { checkpoint_bytes: 1, ..node(2) }).await.unwrap();
    // Its own task follows closely; this one sleeps in between.
    let core = second.host.core(LANE);
    let mut follower = Follower::begin(&core).await.unwrap().unwrap();
    append(&first, 1..4).await.unwrap();
    assert!(follower.advance().await.unwrap());
    assert_eq!(core.tails.end(&def.id), Some(Seq(4)));
    for amount in 4..10 {
        append(&first, amount..amount + 1).await.unwrap();
        first.flush(&tenant(), None).await.unwrap();
    }
    append(&first, 10..12).await.unwrap();
    while site.segments().len() > 3 {
        append(&first, 12..13).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(follower.advance().await.unwrap());
    let held = core.tails.as_tail().snapshot(&def.id).unwrap();
    let table = core.parts.tables.load(&def).await.unwrap();
    assert!(held.start <= table.watermark().0, "no gap: {} and {}", held.start, table.watermark());
    assert_eq!(Some(held.end), first.tail().snapshot(&def.id).map(|held| held.end));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_dropped_or_made_at_the_owner_is_so_at_a_standby() {
    let site = Site::new();
    let first = site.open(node(1)).await.unwrap();
    let second = site.open(node(2)).await.unwrap();
    let known = |engine: &Engine| engine.host.parts.topics.get(&tenant(), &name("orders")).map(|def| def.id);
    let def = first.create_topic(&tenant(), spec()).await.unwrap();
    let mut news = second.host.parts.topics.watch();
    while known(&second) != Some(def.id) {
        news.changed().await.unwrap();
    }
    first.drop_topic(&tenant(), &name("orders")).await.unwrap();
    let again = first.create_topic(&tenant(), spec()).await.unwrap();
    while known(&second) != Some(again.id) {
        news.changed().await.unwrap();
    }
    second.catch_up().await.unwrap();
    assert!(second.tail().snapshot(&def.id).is_none());
}
