//! What has gone wrong in other systems and shows on the whole server only; `tests/FAULTS.md` names the test of each fault and each anomaly.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use futures::future::join_all;
use serde_json::json;
use tests::client::{Client, to_topic};
use tests::disk::Disk;
use tests::process::{Launch, Process};
use tests::rows;
use tests::s3::{Kind, S3};
use tests::serve::{local, serve};

use crate::crash::ledger::{self, Ledger};

/// Power cuts in a row.
const CUTS: u64 = 3;

fn disk() -> Option<Disk> {
    let disk = Disk::attach(256).unwrap();
    if disk.is_none() {
        eprintln!("not shown: a disk whose power can be cut needs root, a loop device and ext4");
    }
    disk
}

/// Flushes often, so that commits and trims are under way as well.
fn launch(data: &str, environment: BTreeMap<String, String>) -> Launch {
    let settings = ["ingest.flush_interval_ms=60", "ingest.checkpoint_bytes=65536"];
    let arguments = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    Launch { data: data.to_owned(), environment, arguments }
}

/// Works under load for a while, then loses its power. What the server had acknowledged is in the ledger.
async fn work_until_the_power_is_cut(launch: &Launch, disk: &Disk, ledger: &mut Ledger, ms: u64) {
    let mut process = Process::start(launch).unwrap();
    let client = process.client().await.unwrap();
    ledger.check(&client).await;
    let load = ledger.load(&client).await;
    tokio::time::sleep(Duration::from_millis(ms)).await;
    disk.cut_power().unwrap();
    process.kill().unwrap();
    ledger.settle(load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlasts_a_power_cut_on_a_disk_that_drops_what_was_not_synced() {
    let Some(disk) = disk() else { return };
    let launch = launch(disk.path().join("store").to_str().unwrap(), BTreeMap::new());
    let mut ledger = Ledger::default();
    for cut in 1..=CUTS {
        work_until_the_power_is_cut(&launch, &disk, &mut ledger, 300 * cut).await;
        disk.restore().unwrap();
        println!("cut {cut}: {} events were acknowledged by then", ledger.acknowledged());
    }
    assert!(ledger.acknowledged() > 0, "there was load");
    let mut process = Process::start(&launch).unwrap();
    ledger.check(&process.client().await.unwrap()).await;
}

/// The test above sees a store that acknowledges before it syncs: this S3 server never does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_answers_before_it_syncs_is_seen_to_lose_what_was_acknowledged() {
    let Some(disk) = disk() else { return };
    let mut s3 = S3::start_over(Kind::VersityGw, &disk.path()).await.unwrap();
    disk.sync().unwrap();
    let launch = launch(&s3.store("unsynced").url, s3.environment());
    let mut ledger = Ledger::default();
    work_until_the_power_is_cut(&launch, &disk, &mut ledger, 500).await;
    assert!(ledger.acknowledged() > 0, "it acknowledged");
    s3.kill().unwrap();
    disk.restore().unwrap();
    s3.restart().await.unwrap();
    let mut process = Process::start(&launch).unwrap();
    // The whole store may be gone, or damaged so that no server opens it.
    let found = match process.client().await {
        Ok(client) => client.number(&format!("select count(*) from {}", ledger::TOPIC)).await.unwrap_or(0),
        Err(_) => 0,
    };
    assert!(found < ledger.acknowledged(), "{found} of {} acknowledged events are there", ledger.acknowledged());
}

/// Times that the topic is dropped and made again.
const GENERATIONS: usize = 6;

fn numbers(of: std::ops::Range<i64>) -> RecordBatch {
    let numbers: ArrayRef = std::sync::Arc::new(Int64Array::from_iter_values(of));
    RecordBatch::try_from_iter([("n", numbers)]).unwrap()
}

/// Appends batches of ten until told to stop, whatever becomes of them; what was acknowledged: seq and number of each batch's first event.
async fn append_on(client: Client, producer: i64, stop: tokio::sync::watch::Receiver<bool>) -> Vec<(i64, i64)> {
    let mut acknowledged = Vec::new();
    for batch in 0.. {
        if *stop.borrow() {
            break;
        }
        let first = producer * 1_000_000 + batch * 10;
        if let Ok(receipts) = client.append(to_topic("orders"), vec![numbers(first..first + 10)]).await {
            acknowledged.push((receipts[0].first_seq.unwrap(), first));
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_dropped_and_made_again_under_load_shares_nothing_with_its_past() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = serve(local(folder.path())).await.unwrap();
    let schema = json!({"type": "record", "name": "Order", "fields": [{"name": "n", "type": "long"}]});
    let spec = json!({"name": "orders", "schema": schema, "key": ["n"], "flush": {"interval_ms": 20}});
    client.create(&spec).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let producers: Vec<_> =
        (0..3).map(|producer| tokio::spawn(append_on(client.clone(), producer, stopped.clone()))).collect();
    for _ in 0..GENERATIONS {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.action("drop-topic", &json!({"topic": "orders"})).await.unwrap();
        client.create(&spec).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(true).unwrap();
    let acknowledged: Vec<_> = join_all(producers).await.into_iter().flat_map(Result::unwrap).collect();

    for from in ["tail and table", "table"] {
        let events = client.get(&json!({"replay": {"topic": "orders", "columns": ["_seq", "n"]}})).await.unwrap();
        let (seqs, found) = (rows::integers(&events, "_seq"), rows::integers(&events, "n"));
        assert!(seqs.iter().copied().eq(1..=found.len() as i64), "{from}: its seqs begin at 1 and are dense");
        for (place, first) in found.iter().enumerate().step_by(10) {
            let receipt = (place as i64 + 1, *first);
            assert!(acknowledged.contains(&receipt), "{from}: {receipt:?} is there and was acknowledged to nobody");
        }
        client.flush("orders").await.unwrap();
    }
    // What was acknowledged last went to the last of them: each producer's newest batch is there.
    let last = client.number("select count(*) from orders").await.unwrap();
    assert!(last > 0, "there was load after the last making");
    for producer in 0..3 {
        let newest = acknowledged.iter().filter(|(_, n)| n / 1_000_000 == producer).max_by_key(|(_, n)| *n).unwrap();
        let there = format!("select count(*) from orders where _seq = {} and n = {}", newest.0, newest.1);
        assert_eq!(client.number(&there).await.unwrap(), 1, "{newest:?}");
    }
    server.shutdown().await;
}
