//! A topic that stops leaves the log, its neighbours go on, and an operator takes it up again.

use std::path::PathBuf;

use super::*;
use crate::lane::follower::Follower;

pub(super) fn healthy() -> TopicSpec {
    TopicSpec { name: name("healthy"), path: None, ..spec() }
}

pub(super) async fn append_to_healthy(engine: &Engine) -> Result<Receipt> {
    let mut producer = engine.appender(&tenant(), &name("healthy"), AppendOptions::default()).await?;
    producer.submit(order_rows(1..2), Terms::default()).await?.await
}

pub(super) fn status(engine: &Engine) -> TopicStatus {
    engine.topic_status(&engine.topic(&tenant(), &name("orders")).unwrap())
}

/// Appends to and flushes the healthy topic until `done`: every append asks for a checkpoint.
pub(super) async fn go_on_until(engine: &Engine, done: impl Fn() -> bool) {
    for _ in 0..300 {
        append_to_healthy(engine).await.unwrap();
        engine.flush(&tenant(), Some(&name("healthy"))).await.unwrap();
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("300 checkpoints were not enough; the topic: {:?}", status(engine));
}

/// Another topic's table stands where the topic's was. Returns what the register said.
pub(super) fn replace_table(site: &Site) -> String {
    let newest = files(&site.folder.path().join("tenants/default/tables/orders.json")).into_iter().max().unwrap();
    let before = std::fs::read_to_string(newest).unwrap();
    let mut pointer: serde_json::Value = serde_json::from_str(&before).unwrap();
    pointer["topic"] = uuid::Uuid::from_u128(4711).to_string().into();
    set_table(site, &pointer.to_string());
    before
}

/// Writes the next revision of the topic's table register.
pub(super) fn set_table(site: &Site, pointer: &str) {
    let register = site.folder.path().join("tenants/default/tables/orders.json");
    let newest = files(&register).into_iter().max().unwrap();
    let number: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::write(register.join(format!("{:010}.json", number + 1)), pointer).unwrap();
}

/// A file where the folder of the topic's data files is to be: its flushes fail for now.
fn block_data(site: &Site, engine: &Engine) -> PathBuf {
    let def = engine.topic(&tenant(), &name("orders")).unwrap();
    let data = site.folder.path().join(format!("warehouse/{}/{}/data", def.tenant, def.id));
    std::fs::write(&data, "in the way").unwrap();
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_topic_leaves_the_log_survives_a_crash_and_is_taken_up_again() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    append(&engine, 3..5).await.unwrap();
    append(&engine, 5..6).await.unwrap();
    let table = replace_table(&site);
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap_err();
    let refused = append(&engine, 6..7).await.unwrap_err();
    assert!(refused.to_string().contains("takes no appends"), "{refused}");

    go_on_until(&engine, || status(&engine).standing == Standing::Parked && site.segments().len() <= 1).await;
    assert_eq!(files(&site.folder.path().join("lanes/0/p")).len(), 1);
    assert!(status(&engine).reason.unwrap().contains("cannot be written"));
    assert!(engine.resume_topic(&tenant(), &name("orders")).await.is_err(), "its table is still another's");
    drop(engine);

    set_table(&site, &table);
    let engine = site.open(settings).await.unwrap();
    assert_eq!(status(&engine).standing, Standing::Parked, "until an operator says otherwise");
    assert_eq!(amounts(&engine), [(3, 3), (4, 4), (5, 5)], "from the parked object");
    append(&engine, 6..7).await.unwrap_err();
    append_to_healthy(&engine).await.unwrap();
    assert!(engine.resume_topic(&tenant(), &name("orders")).await.unwrap());
    assert_eq!(status(&engine), TopicStatus::default());
    assert_eq!(append(&engine, 6..7).await.unwrap().first_seq, Some(Seq(6)));
    assert!(!engine.resume_topic(&tenant(), &name("orders")).await.unwrap(), "it has not stopped");
    engine.flush(&tenant(), None).await.unwrap();
    let def = engine.topic(&tenant(), &name("orders")).unwrap();
    assert_eq!(engine.host.parts.tables.load(&def).await.unwrap().watermark().0, Seq(7));
    engine.shutdown(Duration::from_secs(10)).await;
    assert!(files(&site.folder.path().join("lanes/0/p")).is_empty(), "the checkpoint names it no more");
}

/// What it last saw of the table ends below the parked rows, and it cannot see more of it: a reader would be told that there is a gap, as if that were a defect.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_slept_while_a_topic_was_parked_says_that_its_table_cannot_be_read() {
    let site = Site::new();
    let node = |number| Settings {
        advertise: Some(format!("grpc://node-{number}")),
        checkpoint_bytes: 1,
        silence_ms: 3_600_000,
        ..unflushed()
    };
    let engine = site.open(node(1)).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    let sleeper = site.open(node(2)).await.unwrap();
    sleeper.catch_up().await.unwrap();
    assert_eq!(view(&sleeper, "orders").await.unwrap().end(), Seq(3));
    let core = Arc::clone(&sleeper.host.lane(LANE).unwrap().core);
    sleeper.shutdown(Duration::from_secs(10)).await;

    append(&engine, 3..5).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    append(&engine, 5..6).await.unwrap();
    let table = replace_table(&site);
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap_err();
    go_on_until(&engine, || status(&engine).standing == Standing::Parked && site.segments().len() <= 1).await;
    let mut follower = Follower::begin(&core).await.unwrap().unwrap();
    follower.advance().await.unwrap();
    let error = view(&sleeper, "orders").await.unwrap_err();
    assert!(error.to_string().contains("cannot be read at this server for now"), "{error}");

    set_table(&site, &table);
    for _ in 0..200 {
        follower.advance().await.unwrap();
        if view(&sleeper, "orders").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(view(&sleeper, "orders").await.unwrap().end(), Seq(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_topic_that_there_is_no_memory_for_is_taken_up_again_object_by_object() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, parked_bytes_max: 0, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    for _ in 0..4 {
        append(&engine, 1..10_001).await.unwrap();
    }
    let table = replace_table(&site);
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap_err();
    let held = |engine: &Engine| engine.host.lane(LANE).unwrap().core.tails.load(&def.id).unwrap().bytes;
    go_on_until(&engine, || status(&engine).standing == Standing::Parked && held(&engine) == 0).await;
    assert!(files(&site.folder.path().join("lanes/0/p")).len() > 1);
    let error = view(&engine, "orders").await.unwrap_err();
    assert!(error.to_string().contains("resume it first"), "{error}");
    assert!(engine.resume_topic(&tenant(), &name("orders")).await.is_err(), "its table is still another's");
    view(&engine, "orders").await.unwrap_err();
    drop(engine);

    set_table(&site, &table);
    let engine = site.open(settings).await.unwrap();
    assert_eq!((status(&engine).standing, held(&engine)), (Standing::Parked, 0));
    let error = view(&engine, "orders").await.unwrap_err();
    assert!(error.to_string().contains("resume it first"), "{error}");
    assert_eq!(status(&engine).unreadable, Some(error.to_string()));
    assert!(engine.resume_topic(&tenant(), &name("orders")).await.unwrap());
    assert_eq!(status(&engine), TopicStatus::default());
    let whole = view(&engine, "orders").await.unwrap();
    assert_eq!((whole.watermark().0, whole.end()), (Seq(40_003), Seq(40_003)));
    let files = whole.table().files().await.unwrap();
    assert!(files.files().len() > 2, "one commit for each object");
    assert_eq!(files.files().iter().map(|file| file.rows).sum::<u64>(), 40_002, "each event once");
    assert_eq!(append(&engine, 6..7).await.unwrap().first_seq, Some(Seq(40_003)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_holds_the_floor_near_the_bound_is_parked_whatever_the_cause() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, log_bytes_max: 32 << 10, ..unflushed() };
    let engine = site.open(settings).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    let data = block_data(&site, &engine);
    append(&engine, 1..4).await.unwrap();
    go_on_until(&engine, || status(&engine).standing == Standing::Parked).await;
    append(&engine, 4..5).await.unwrap_err();
    go_on_until(&engine, || site.segments().len() <= 1).await;
    assert_eq!(amounts(&engine), [(1, 1), (2, 2), (3, 3)]);

    std::fs::remove_file(data).unwrap();
    assert!(engine.resume_topic(&tenant(), &name("orders")).await.unwrap());
    assert_eq!(append(&engine, 4..5).await.unwrap().first_seq, Some(Seq(4)));
    engine.flush(&tenant(), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_table_cannot_be_written_for_now_leaves_room_for_the_others() {
    let site = Site::new();
    let settings = Settings { tail_bytes_max: 4 << 20, room_deadline_ms: 2_000, ..unflushed() };
    let engine = site.open(settings).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    let data = block_data(&site, &engine);
    append(&engine, 1..2).await.unwrap();
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap_err();
    let mut refused = None;
    for _ in 0..200 {
        if let Err(error) = append(&engine, 1..2_000).await {
            refused = Some(error);
            break;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let refused = refused.expect("it may not fill the room");
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert_eq!(status(&engine).standing, Standing::HeldUp);
    append_to_healthy(&engine).await.unwrap();
    std::fs::remove_file(data).unwrap();
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    append(&engine, 1..2).await.unwrap();
}
