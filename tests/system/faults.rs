//! Whatever becomes of the store under a running server: it waits or says what ails it, and loses nothing acknowledged.

use std::process::Command;
use std::time::Duration;

use tests::client::to_topic;
use tests::data::KAFKA;
use tests::link::{Cut, Link};
use tests::process::Launch;
use tests::s3::{Kind, S3};
use tests::serve::{config, local, serve, start};

use crate::crash::ledger::{self, Ledger};
use crate::ownership;

/// A file system of a few megabytes, which only root may mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(folder.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    /// Takes all the room that there is; removing the file gives it back.
    fn fill(&self) -> std::path::PathBuf {
        let filler = self.0.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4_096]).is_ok() {}
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_appends_up_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not shown: a small disk can be mounted by root only");
        return;
    };
    let (server, client) = serve(local(&disk.0.path().join("store"))).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..1_000, 100)).await.unwrap();

    let filler = disk.fill();
    let producer = client.clone();
    let stuck =
        tokio::spawn(async move { producer.append(to_topic("kafka"), KAFKA.batches(1_000..2_000, 1_000)).await });
    assert_eq!(
        client.number("select count(*) from kafka").await.unwrap(),
        1_000,
        "reads go on; nothing is seen before it is durable"
    );
    std::fs::remove_file(filler).unwrap();
    assert_eq!(stuck.await.unwrap().unwrap()[0].accepted, 1_000);
    assert_eq!(client.number("select count(*) from kafka").await.unwrap(), 2_000);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stays_full_stops_the_lane_until_there_is_room_and_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not shown: a small disk can be mounted by root only");
        return;
    };
    let store = local(&disk.0.path().join("store"));
    let mut impatient = config(store.clone());
    impatient.ingest.put_deadline_ms = 500;
    let (server, client) = start(impatient).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..1_000, 100)).await.unwrap();

    let filler = disk.fill();
    let error = client.append(to_topic("kafka"), KAFKA.batches(1_000..2_000, 1_000)).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("space"), "it says what ails it: {error}");
    std::fs::remove_file(filler).unwrap();

    let mut tries = 0;
    while let Err(error) = client.append(to_topic("kafka"), KAFKA.batches(0..10, 10)).await {
        tries += 1;
        assert!(tries < 600, "the same server goes on once there is room: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let events = client.number("select count(*) from kafka").await.unwrap();
    assert!([1_010, 2_010].contains(&events), "what was in flight is there whole or not at all: {events}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_away_and_comes_back_loses_nothing() {
    let mut s3 = S3::start(Kind::VersityGw).await.unwrap();
    let (server, client) = serve(s3.store("flaky")).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..5_000, 500)).await.unwrap();

    s3.kill().unwrap();
    let producer = client.clone();
    let stuck = tokio::spawn(async move { producer.append(to_topic("kafka"), KAFKA.batches(5_000..6_000, 500)).await });
    assert_eq!(client.number("select count(*) from kafka").await.unwrap(), 5_000, "the tail is in memory");
    s3.restart().await.unwrap();
    assert_eq!(stuck.await.unwrap().unwrap().iter().map(|receipt| receipt.accepted).sum::<u64>(), 1_000);
    client.flush("kafka").await.unwrap();
    assert_eq!(client.number("select count(*) from kafka").await.unwrap(), 6_000);
    server.shutdown().await;
}

/// A process whose store is on the other side of a link.
async fn cut_off(cut: Cut) {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    let link = Link::to(s3.address()).await.unwrap();
    let settings = ["ingest.heartbeat_ms=100", "ingest.silence_ms=1000", "ingest.flush_interval_ms=100"];
    let arguments = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    let near = Launch { data: s3.store("cut").url, environment: s3.environment(), arguments };
    let mut far = near.clone();
    far.environment.insert("AWS_ENDPOINT".to_owned(), format!("http://{}", link.address()));
    let mut ledger = Ledger::default();
    let (_owner, client) = ownership::start(&far).await;
    let load = ledger.load(&client).await;
    let (_standby, standby) = ownership::start(&near).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    link.cut(cut);
    ownership::becomes(&standby, "owner").await;
    // It believes that the lane is its own, and none of what it is sent is acknowledged.
    assert_eq!(ownership::role(&client).await, "owner");
    let begun = ownership::append(&standby, 0).await.unwrap();
    link.cut(Cut::default());
    ledger.settle(load).await;
    assert!(ledger.acknowledged() > 0, "there was load");
    ownership::becomes(&client, "standby").await;
    let next = ownership::append(&standby, 1).await.unwrap();
    assert_eq!(next, begun + ledger::BATCH_EVENTS, "nothing that was held up on the way landed between");
    ledger.book(9, &[begun, next]);
    ledger.check(&standby).await;
    while client.number(&format!("select count(*) from {}", ledger::TOPIC)).await.unwrap()
        < next + ledger::BATCH_EVENTS - 1
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ledger.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_requests_do_not_reach_the_store_is_followed_by_another_and_what_lands_late_changes_nothing() {
    cut_off(Cut { requests: true, answers: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_hears_no_answer_of_the_store_is_followed_by_another_and_what_it_put_is_there_once() {
    cut_off(Cut { requests: false, answers: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_the_credentials_for_a_while_loses_nothing() {
    let mut s3 = S3::start(Kind::VersityGw).await.unwrap();
    let (server, client) = serve(s3.store("expired")).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..5_000, 500)).await.unwrap();

    s3.kill().unwrap();
    s3.restart_with("another secret").await.unwrap();
    let producer = client.clone();
    let stuck = tokio::spawn(async move { producer.append(to_topic("kafka"), KAFKA.batches(5_000..6_000, 500)).await });
    let newcomer = async { catalog::Store::open(&s3.store("other"), catalog::Env::system()).await?.probe().await };
    assert!(newcomer.await.is_err(), "the credentials count for nothing");
    assert!(!stuck.is_finished(), "nothing is acknowledged, and nothing given up");
    s3.kill().unwrap();
    s3.restart().await.unwrap();
    assert_eq!(stuck.await.unwrap().unwrap().iter().map(|receipt| receipt.accepted).sum::<u64>(), 1_000);
    client.flush("kafka").await.unwrap();
    assert_eq!(client.number("select count(*) from kafka").await.unwrap(), 6_000);
    server.shutdown().await;
}
