use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use catalog::storage::StoreConfig;
use catalog::view::ReadView;
use futures::future::try_join_all;
use schemas::envelope::column;
use schemas::{TopicId, TopicSpec};
use tempfile::TempDir;

use super::*;
use crate::testing::{TestChecks, TestLastSeqs, batch, name, order_rows, orders};

const LANE: LaneId = LaneId(0);

/// A store in a folder, in which engines come and go.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, settings: Settings) -> Result<Engine> {
        self.open_in(Env::system(), settings).await
    }

    async fn open_in(&self, env: Env, settings: Settings) -> Result<Engine> {
        let store = Store::open(&StoreConfig::at(self.folder.path().to_str().unwrap()), env.clone()).await?;
        let (topics, tables) = (Topics::new(store.clone(), env.clone()), Tables::new(store.clone(), env.clone()));
        let last_seqs = Arc::new(TestLastSeqs(tables.clone()));
        let checks = Arc::new(TestChecks);
        Engine::open(Parts { store, topics, tables, last_seqs, checks, env, settings }).await
    }

    /// An engine that never flushes by itself.
    async fn unflushed(&self) -> Engine {
        self.open(unflushed()).await.unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        files(&self.folder.path().join("lanes/0/w"))
    }
}

fn unflushed() -> Settings {
    Settings { flush_interval_ms: 3_600_000, flush_bytes: 1 << 40, put_deadline_ms: 1_000, ..Settings::default() }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn tenant() -> TenantName {
    TenantName::default()
}

fn spec() -> TopicSpec {
    let def = orders(1);
    serde_json::from_value(serde_json::json!({
        "name": "orders", "schema": def.schema, "key": ["id"], "path": "orders/{region}", "checks": ["amount > 0"],
    }))
    .unwrap()
}

async fn appender(engine: &Engine, on_error: OnError) -> Appender {
    let options = AppendOptions { on_error, producer: Some("tests".into()), ..AppendOptions::default() };
    engine.appender(&tenant(), &name("orders"), options).await.unwrap()
}

async fn append(engine: &Engine, amounts: std::ops::Range<i32>) -> Result<Receipt> {
    let options = AppendOptions { producer: Some("tests".into()), ..AppendOptions::default() };
    let mut appender = engine.appender(&tenant(), &name("orders"), options).await?;
    appender.submit(order_rows(amounts), Terms::default()).await?.await
}

/// Seq, time and amount of every event in the tail.
fn tail_of(engine: &Engine, topic: &str) -> Vec<(i64, i64, i32)> {
    let id = engine.host.parts.topics.get(&tenant(), &name(topic)).unwrap().id;
    let held = engine.tail().snapshot(&id).unwrap();
    let mut events = Vec::new();
    for chunk in &held.chunks {
        let seqs = chunk.batch().column(column::SEQ).as_primitive::<Int64Type>();
        let times = chunk.batch().column(column::TIME).as_primitive::<TimestampMicrosecondType>();
        let amounts = chunk.batch().column(column::PAYLOAD + 2).as_primitive::<Int32Type>();
        events.extend((0..seqs.len()).map(|row| (seqs.value(row), times.value(row), amounts.value(row))));
    }
    events
}

fn amounts(engine: &Engine) -> Vec<(i64, i32)> {
    tail_of(engine, "orders").into_iter().map(|(seq, _, amount)| (seq, amount)).collect()
}

/// What a reader of this engine would see of a topic.
async fn view(engine: &Engine, topic: &str) -> catalog::Result<ReadView> {
    let parts = &engine.host.parts;
    let def = parts.topics.get(&tenant(), &name(topic)).expect("readers know of the topic");
    ReadView::open(engine.tail().as_ref(), &parts.tables, def).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_made_and_dropped_side_by_side_and_each_is_one_topic() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let of = |number: usize| TopicSpec { name: name(&format!("t{number}")), path: None, ..spec() };
    let make = async |number: usize| engine.create_topic(&tenant(), of(number)).await;
    let end = async |number: usize| engine.drop_topic(&tenant(), &of(number).name).await;
    let made = try_join_all((0..40).map(|number| make(number % 20))).await.unwrap();
    assert!((0..20).all(|number| made[number].id == made[number + 20].id), "whoever comes second gets the first's");
    let dropped = try_join_all((0..20).step_by(2).map(end));
    let (_, again) = tokio::try_join!(dropped, try_join_all((1..20).step_by(2).map(make))).unwrap();
    assert!(again.iter().zip(made[1..].iter().step_by(2)).all(|(again, first)| again.id == first.id));
    drop(engine);
    let engine = site.unflushed().await;
    assert_eq!(engine.host.parts.topics.list(&tenant()).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_crash_and_seqs_go_on() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    let receipt = append(&engine, 1..4).await.unwrap();
    assert_eq!((receipt.first_seq, receipt.last_seq, receipt.accepted), (Some(Seq(1)), Some(Seq(3)), 3));
    append(&engine, 4..6).await.unwrap();
    let before = tail_of(&engine, "orders");
    drop(engine);

    let engine = site.unflushed().await;
    assert_eq!(tail_of(&engine, "orders"), before, "seq, time and payload alike");
    assert_eq!(append(&engine, 6..7).await.unwrap().first_seq, Some(Seq(6)));
    let after = tail_of(&engine, "orders");
    assert!(after.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0 && pair[0].1 <= pair[1].1));
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_events_leave_the_log_and_the_next_start_reads_only_what_is_left() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    engine.create_topic(&tenant(), spec()).await.unwrap();
    append(&engine, 1..4).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    append(&engine, 4..6).await.unwrap();
    engine.flush(&tenant(), Some(&name("orders"))).await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await;
    assert_eq!(site.segments().len(), 0, "all in the table, and a checkpoint says the rest");

    let engine = site.open(settings).await.unwrap();
    assert_eq!(amounts(&engine), []);
    assert_eq!(append(&engine, 6..8).await.unwrap().first_seq, Some(Seq(6)));
    drop(engine);
    let engine = site.unflushed().await;
    assert_eq!(amounts(&engine), [(6, 6), (7, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_producers_share_one_dense_row_of_seqs() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    let producers = (0..8).map(|producer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut appender = appender(&engine, OnError::RejectBatch).await;
            let mut answers = Vec::new();
            for batch in 0..20 {
                let first = producer * 1000 + batch * 10 + 1;
                answers.push(appender.submit(order_rows(first..first + 5), Terms::default()).await.unwrap());
            }
            try_join_all(answers).await.unwrap()
        })
    });
    let receipts: Vec<Vec<Receipt>> = try_join_all(producers).await.unwrap();
    for of_one in &receipts {
        assert!(of_one.windows(2).all(|pair| pair[0].last_seq < pair[1].first_seq), "one appender keeps its order");
    }
    let held: BTreeMap<i64, i32> = amounts(&engine).into_iter().collect();
    assert_eq!(held.keys().copied().collect::<Vec<_>>(), (1..=800).collect::<Vec<_>>());
    for (producer, of_one) in (0..).zip(&receipts) {
        for (batch, receipt) in (0..).zip(of_one) {
            assert_eq!(held[&receipt.first_seq.unwrap().0], producer * 1000 + batch * 10 + 1);
        }
    }
    assert!(site.segments().len() < 160, "what came during a put rode together");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_fences_the_first() {
    let site = Site::new();
    let first = site.unflushed().await;
    first.create_topic(&tenant(), spec()).await.unwrap();
    append(&first, 1..3).await.unwrap();
    let second = site.unflushed().await;

    let error = append(&first, 3..5).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Indeterminate | ErrorKind::Fenced), "{error}");
    let mut ownership = first.ownership(LANE).unwrap();
    ownership.wait_for(|now| matches!(now, Ownership::Standby { .. })).await.unwrap();
    assert_eq!(append(&first, 3..5).await.unwrap_err().kind(), ErrorKind::Fenced);

    assert_eq!(append(&second, 7..8).await.unwrap().first_seq, Some(Seq(3)));
    assert_eq!(amounts(&second), [(1, 1), (2, 2), (3, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_engine_notices_that_it_was_fenced() {
    let site = Site::new();
    let first = site.unflushed().await;
    let _second = site.unflushed().await;
    first.ownership(LANE).unwrap().wait_for(|now| matches!(now, Ownership::Standby { .. })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_not_opened_and_the_place_is_named() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    drop(engine);
    let path = site.folder.path().join("lanes/0/w/1/1");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[150] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let error = site.open(unflushed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("lanes/0/w/1/1: at byte 128"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn creating_a_topic_twice_gives_the_same_and_otherwise_conflicts() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    assert_eq!(engine.create_topic(&tenant(), spec()).await.unwrap(), def);
    let other = TopicSpec { checks: vec![], ..spec() };
    assert_eq!(engine.create_topic(&tenant(), other).await.unwrap_err().kind(), ErrorKind::Conflict);
    let wrong = TopicSpec { checks: vec!["nonsense".into()], name: name("others"), path: None, ..spec() };
    assert_eq!(engine.create_topic(&tenant(), wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_dropped_and_made_again_shares_nothing_with_its_past() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let old = engine.create_topic(&tenant(), spec()).await.unwrap();
    let mut producer = appender(&engine, OnError::RejectBatch).await;
    append(&engine, 1..3).await.unwrap();
    engine.drop_topic(&tenant(), &name("orders")).await.unwrap();
    let refusal = producer.submit(order_rows(3..4), Terms::default()).await.unwrap().await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotFound);
    assert_eq!(append_missing(&engine).await, ErrorKind::NotFound);
    let new = engine.create_topic(&tenant(), spec()).await.unwrap();
    assert_ne!(old.id, new.id);
    assert_eq!(append(&engine, 7..8).await.unwrap().first_seq, Some(Seq(1)));
    drop((engine, producer));
    assert_eq!(amounts(&site.unflushed().await), [(1, 7)]);
}

async fn append_missing(engine: &Engine) -> ErrorKind {
    engine.appender(&tenant(), &name("orders"), AppendOptions::default()).await.unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_are_refused_by_the_producers_policy() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    let submit = async |on_error| {
        let submitted = appender(&engine, on_error).await.submit(order_rows(-1..3), Terms::default()).await.unwrap();
        submitted.await.unwrap()
    };
    let whole = submit(OnError::RejectBatch).await;
    assert_eq!((whole.accepted, whole.first_seq, whole.refused.len()), (0, None, 2));
    let by_row = submit(OnError::RejectRow).await;
    assert_eq!((by_row.accepted, by_row.first_seq), (2, Some(Seq(1))));
    assert_eq!(by_row.refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), [0, 1]);
    let segments = site.segments().len();
    let dead = submit(OnError::DeadLetter).await;
    assert_eq!((dead.accepted, dead.last_seq), (2, Some(Seq(4))));
    let id = engine.host.parts.topics.get(&tenant(), &name("orders_dead")).unwrap().id;
    assert_eq!(engine.tail().snapshot(&id).unwrap().end, Seq(3), "two dead letters");
    assert_eq!(
        site.segments().len() - segments,
        2,
        "one for the record of the topic, one for rows and dead letters together"
    );
    let columns = batch(
        order_rows(1..2).columns().iter().zip(["id", "wrong", "amount"]).map(|(c, n)| (n, Arc::clone(c))).collect(),
    );
    assert_eq!(
        appender(&engine, OnError::RejectRow).await.submit(columns, Terms::default()).await.err().unwrap().kind(),
        ErrorKind::Invalid
    );
}

/// A folder that cannot be written to stands for a store that is away.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_on_when_the_store_comes_back() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    let (here, away) = (site.folder.path().join("lanes"), site.folder.path().join("lanes.away"));
    std::fs::rename(&here, &away).unwrap();
    std::fs::write(&here, "in the way").unwrap();

    let error = append(&engine, 3..5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
    let error = append(&engine, 5..6).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(amounts(&engine), [(1, 1), (2, 2)], "what was acknowledged stays readable");

    std::fs::remove_file(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    let mut ownership = engine.ownership(LANE).unwrap();
    ownership.wait_for(|now| matches!(now, Ownership::Open { epoch, .. } if *epoch > Epoch(1))).await.unwrap();
    assert_eq!(append(&engine, 7..8).await.unwrap().first_seq, Some(Seq(3)));
    assert_eq!(amounts(&engine), [(1, 1), (2, 2), (3, 7)]);
    drop(engine);
    assert_eq!(amounts(&site.unflushed().await), [(1, 1), (2, 2), (3, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_under_load_loses_nothing() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 2_000, flush_interval_ms: 20, ..Settings::default() };
    let engine = site.open(settings.clone()).await.unwrap();
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    for first in (1..400).step_by(4) {
        append(&engine, first..first + 4).await.unwrap();
    }
    drop(engine);
    let engine = site.open(settings).await.unwrap();
    let held = engine.tail().snapshot(&def.id).unwrap();
    assert_eq!(held.end, Seq(401));
    let table = engine.host.parts.tables.load(&def).await.unwrap();
    assert!(held.start <= table.watermark().0, "no gap between table and tail");
    assert!(site.segments().len() < 100, "{} segments are left", site.segments().len());
    assert_eq!(append(&engine, 1..2).await.unwrap().first_seq, Some(Seq(401)));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_nothing_is_taken() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    let mut producer = appender(&engine, OnError::RejectBatch).await;
    engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(producer.submit(order_rows(1..2), Terms::default()).await.err().unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(engine.create_topic(&tenant(), spec()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_record_is_in_the_log_is_finished_by_the_next_start() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let Parts { topics, checks, .. } = &engine.host.parts;
    let tenant_id = topics.ensure_tenant(&tenant()).await.unwrap();
    let def = spec().resolve(schemas::TopicId(uuid::Uuid::from_u128(5)), tenant_id, LANE).unwrap();
    topics.reserve(&tenant(), def.clone()).await.unwrap();
    let shape = Arc::clone(crate::validate::Validator::new(Arc::new(def.clone()), &**checks).unwrap().shape());
    engine.host.lane(LANE).unwrap().ask(|answer| Command::Create { tenant: tenant(), shape, answer }).await.unwrap();
    drop(engine);
    let engine = site.unflushed().await;
    assert_eq!(*engine.create_topic(&tenant(), spec()).await.unwrap(), def);
    assert_eq!(append(&engine, 1..2).await.unwrap().first_seq, Some(Seq(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_only_reserved_can_be_taken_again() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let topics = &engine.host.parts.topics;
    let tenant_id = topics.ensure_tenant(&tenant()).await.unwrap();
    for other in [spec(), TopicSpec { checks: vec![], ..spec() }] {
        let reserved = other.resolve(schemas::TopicId(uuid::Uuid::from_u128(5)), tenant_id, LANE).unwrap();
        topics.reserve(&tenant(), reserved).await.unwrap();
        let made = engine.create_topic(&tenant(), spec()).await.unwrap();
        assert_eq!(made.checks, spec().checks);
        assert_eq!(append(&engine, 1..2).await.unwrap().first_seq, Some(Seq(1)));
        engine.drop_topic(&tenant(), &name("orders")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_table_is_another_ones_stops_alone() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    let healthy = TopicSpec { name: name("healthy"), path: None, ..spec() };
    engine.create_topic(&tenant(), healthy).await.unwrap();
    drop(engine);
    let store = Store::open(&StoreConfig::at(site.folder.path().to_str().unwrap()), Env::system()).await.unwrap();
    let register = |name: &str| object_store::path::Path::from(format!("tenants/default/tables/{name}.json"));
    let healthy = store.read_register(&register("healthy")).await.unwrap().unwrap().content;
    let orders = store.read_register(&register("orders")).await.unwrap().unwrap().tag;
    store.swap_register(&register("orders"), Some(&orders), healthy).await.unwrap();

    let engine = site.unflushed().await;
    assert_eq!(append(&engine, 3..4).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(amounts(&engine), [(1, 1), (2, 2)], "what was acknowledged stays readable");
    let mut producer = engine.appender(&tenant(), &name("healthy"), AppendOptions::default()).await.unwrap();
    assert_eq!(producer.submit(order_rows(1..2), Terms::default()).await.unwrap().await.unwrap().accepted, 1);
}

mod ailing;
mod clocks;
mod compacting;
mod dropped;
mod evolving;
mod owners;
mod parked;
mod sleepers;
mod standbys;
mod terms;
