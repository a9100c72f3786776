use catalog::Store;
use catalog::storage::StoreConfig;
use catalog::view::ReadView;
use schemas::{Seq, TenantName, TopicDef};
use tempfile::TempDir;

use super::*;
use crate::testing::{orders, topic, valid_orders};

/// A store in a folder with tails, tables and a flusher over them, as the engine builds them.
struct House {
    folder: TempDir,
    tails: Tails,
    tables: Tables,
    flusher: Flusher,
    moved: mpsc::Receiver<(TopicId, Watermark)>,
}

impl House {
    /// A flusher that does nothing unless asked.
    async fn idle() -> Self {
        Self::with(Settings { flush_interval_ms: 3_600_000, ..Settings::default() }).await
    }

    async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::system();
        let config = StoreConfig::at(folder.path().to_str().unwrap());
        let store = Store::open(&config, env.clone()).await.unwrap();
        let tables = Tables::new(store, env.clone());
        let tails = Tails::new(settings.tail_bytes_max, env.clone());
        let (sender, moved) = mpsc::channel(1_000);
        let flusher = Flusher::start(Parts {
            tails: tails.clone(),
            tables: tables.clone(),
            env,
            pace: CommitPace::new(settings.commits_per_second_max),
            settings,
            lane: LaneId(0),
            epoch: Epoch(1),
            moved: sender,
            asks: mpsc::channel(1).0,
        });
        Self { folder, tails, tables, flusher, moved }
    }

    async fn add(&self, def: &Arc<TopicDef>) {
        self.tables.ensure(&TenantName::default(), def).await.unwrap();
        self.tails.add_topic(Arc::clone(def), Seq::FIRST);
    }

    fn push(&self, def: &Arc<TopicDef>, from: i64, rows: usize) {
        let amounts = from as i32..from as i32 + rows as i32;
        self.tails.push(&def.id, valid_orders(def, amounts).seal(Seq(from), from), None);
    }

    async fn watermark(&self, def: &Arc<TopicDef>) -> i64 {
        self.tables.load(def).await.unwrap().watermark().0.0
    }
}

#[tokio::test]
async fn what_was_decided_at_the_call_is_in_its_table_at_the_answer() {
    let mut house = House::idle().await;
    let def = orders(7);
    house.add(&def).await;
    house.push(&def, 1, 10);
    house.push(&def, 11, 5);
    house.flusher.flush_now(Some(def.id)).await.unwrap();
    assert_eq!(house.watermark(&def).await, 16);
    assert_eq!(house.moved.recv().await, Some((def.id, Watermark(Seq(16)))));
    let load = house.tails.loads().remove(0);
    assert_eq!((load.watermark, load.bytes, load.oldest_micros), (Watermark(Seq(16)), 0, None));
}

#[tokio::test]
async fn a_read_view_has_every_event_once_before_while_and_after_it_moves() {
    let house = House::with(Settings { flush_interval_ms: 1, ..Settings::default() }).await;
    let def = orders(7);
    house.add(&def).await;
    let tail = house.tails.as_tail();
    for round in 0..20 {
        house.push(&def, 1 + round * 50, 50);
        let view = ReadView::open(tail.as_ref(), &house.tables, Arc::clone(&def)).await.unwrap();
        let end = 1 + (round + 1) * 50;
        assert_eq!(view.end(), Seq(end));
        let in_tail: usize = view.tail().iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(view.watermark().0.plus(in_tail), Seq(end));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.flusher.flush_now(None).await.unwrap();
    assert_eq!(house.watermark(&def).await, 1_001);
}

#[tokio::test]
async fn a_tail_that_lags_goes_in_several_commits_and_no_batch_is_cut() {
    let mut house = House::with(Settings { flush_interval_ms: 3_600_000, flush_bytes: 1, ..Settings::default() }).await;
    let def = orders(7);
    house.add(&def).await;
    let rows = 20_000;
    for at in 0..3 {
        house.push(&def, 1 + at * rows, rows as usize);
    }
    house.flusher.flush_now(Some(def.id)).await.unwrap();
    for at in 1..=3 {
        assert_eq!(house.moved.recv().await, Some((def.id, Watermark(Seq(1 + at * rows)))));
    }
}

#[tokio::test]
async fn a_topic_whose_table_another_owner_moved_on_is_trimmed_to_it() {
    let house = House::idle().await;
    let def = orders(7);
    house.add(&def).await;
    let events = valid_orders(&def, 1..11).seal(Seq(1), 0);
    let batches = [events];
    let rows =
        catalog::table::FlushRows { from: Seq(1), to: Seq(11), batches: &batches, lane: LaneId(0), epoch: Epoch(1) };
    house.tables.flush(&def, rows).await.unwrap();
    house.push(&def, 1, 10);
    house.push(&def, 11, 3);
    house.flusher.flush_now(Some(def.id)).await.unwrap();
    assert_eq!(house.watermark(&def).await, 14);
}

#[tokio::test]
async fn a_topic_whose_table_is_gone_stops_alone_and_says_why() {
    let house = House::idle().await;
    let (bad, good) = (orders(7), topic_named("invoices", 8));
    house.add(&bad).await;
    house.add(&good).await;
    house.push(&bad, 1, 10);
    house.push(&good, 1, 10);
    house.tables.drop_table(&TenantName::default(), &bad).await.unwrap();
    let error = house.flusher.flush_now(Some(bad.id)).await.unwrap_err();
    assert!(!error.kind().is_retryable(), "{error}");
    let reason = house.tails.stopped(&bad.id).unwrap().to_string();
    assert!(reason.contains("takes no appends"), "{reason}");
    assert_eq!(house.flusher.flush_now(Some(bad.id)).await.unwrap_err().to_string(), reason);
    house.flusher.flush_now(Some(good.id)).await.unwrap();
    assert_eq!(house.watermark(&good).await, 11);
    assert!(house.tails.stopped(&good.id).is_none());
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_only_delays_the_flush() {
    let house = House::idle().await;
    let def = orders(7);
    house.add(&def).await;
    house.push(&def, 1, 10);
    // A file where the folder of data files is to be.
    let topic = house.folder.path().join("warehouse").join(def.tenant.to_string()).join(def.id.to_string());
    std::fs::write(topic.join("data"), b"in the way").unwrap();
    let error = house.flusher.flush_now(Some(def.id)).await.unwrap_err();
    assert!(error.kind().is_retryable(), "{error}");
    assert!(house.tails.stopped(&def.id).is_none());
    house.push(&def, 11, 10);
    std::fs::remove_file(topic.join("data")).unwrap();
    house.flusher.flush_now(Some(def.id)).await.unwrap();
    assert_eq!(house.watermark(&def).await, 21);
}

#[tokio::test]
async fn shutdown_flushes_what_is_there() {
    let house = House::idle().await;
    let def = orders(7);
    house.add(&def).await;
    house.push(&def, 1, 10);
    house.flusher.shutdown(Duration::from_secs(60)).await;
    assert_eq!(house.watermark(&def).await, 11);
    assert_eq!(house.flusher.flush_now(None).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_dropped_topic_has_nothing_to_wait_for() {
    let house = House::idle().await;
    let def = orders(7);
    house.add(&def).await;
    house.push(&def, 1, 10);
    house.tails.drop_topic(&def.id);
    house.flusher.flush_now(Some(def.id)).await.unwrap();
    house.flusher.flush_now(None).await.unwrap();
}

fn topic_named(name: &str, number: u128) -> Arc<TopicDef> {
    let fields = serde_json::json!([
        {"name": "id", "type": "string"},
        {"name": "region", "type": "string"},
        {"name": "amount", "type": "int"},
    ]);
    topic(name, fields, &["id"], None, number)
}
