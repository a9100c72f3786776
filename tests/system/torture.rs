//! Several `firn serve` processes over one store, killed and stopped for longer than their heartbeats allow, under producers that retry and consumers
//! that reconnect: in the end every event that anybody sent is there once, in order, whoever is asked.
//!
//! `make torture` runs the long form; the schedule is seeded (`FIRN_SEED`), what the machine makes of it is not.

mod cluster;
mod consumer;
mod producer;
pub(crate) mod recovery;
mod schedule;
mod tally;
mod topics;
mod tormentor;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tests::client::Client;
use tests::process::Launch;
use tests::s3::{Kind, S3};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::cluster::Cluster;
use self::consumer::Followed;
use self::producer::{Beat, Produced, Producer};
use self::schedule::schedule;
use self::tormentor::Tormentor;
use crate::crash::ledger::{Ledger, TOPIC};

/// Producers, each with a name and a stream of its own.
const PRODUCERS: usize = 3;
/// Subscribers to the whole topic.
const FOLLOWERS: usize = 2;
/// How long the load goes on between two faults, milliseconds.
const LOAD_MS: std::ops::Range<u64> = 20..250;
/// Silence after which a lane is taken over, in these processes, milliseconds.
const SILENCE_MS: u64 = 1_000;
/// How long a process is stopped: always longer than that.
const STOP_MS: std::ops::Range<u64> = 1_200..2_500;
/// Faults end, then appends are acknowledged within this bound (I15).
const ALIVE_AGAIN: Duration = Duration::from_secs(60);

/// A number from the environment.
fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Short intervals, so that a commit, a trim and a take-over are always near.
fn launch(data: String, environment: BTreeMap<String, String>) -> Launch {
    let settings = [
        "ingest.flush_interval_ms=60".to_owned(),
        "ingest.checkpoint_bytes=65536".to_owned(),
        format!("ingest.silence_ms={SILENCE_MS}"),
        format!("ingest.heartbeat_ms={}", SILENCE_MS / 5),
    ];
    let arguments = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
    Launch { data, environment, arguments }
}

/// Everything that runs against the processes.
struct Load {
    producers: Vec<JoinHandle<Produced>>,
    followers: Vec<JoinHandle<Followed>>,
    replays: JoinHandle<usize>,
    enough: watch::Sender<bool>,
    end: watch::Sender<i64>,
}

/// What it did.
struct Done {
    ledger: Ledger,
    produced: Vec<Produced>,
    followed: Vec<Followed>,
    replays: usize,
}

impl Load {
    fn start(cluster: &Cluster, pulse: &watch::Sender<Beat>) -> Self {
        let ((enough, until), (end, ends)) = (watch::channel(false), watch::channel(0));
        let producer =
            |number| Producer { number, doors: cluster.doors(), pulse: pulse.clone(), enough: until.clone() };
        let producers = (0..PRODUCERS).map(|number| tokio::spawn(producer(number).run())).collect();
        let follow = |start| tokio::spawn(consumer::follow(cluster.doors(), start, ends.clone()));
        let followers = (0..FOLLOWERS).map(follow).collect();
        let replays = tokio::spawn(consumer::replay(cluster.doors(), 0, until.clone()));
        Self { producers, followers, replays, enough, end }
    }

    /// No new batches; every one that was sent is answered, and every subscriber sees the last event.
    async fn finish(self) -> Done {
        self.enough.send(true).unwrap();
        let (mut ledger, mut produced) = (Ledger::default(), Vec::new());
        for producer in self.producers {
            let done = producer.await.unwrap();
            ledger.book(done.number, &done.first_seqs);
            produced.push(done);
        }
        self.end.send(ledger.acknowledged()).unwrap();
        let mut followed = Vec::new();
        for follower in self.followers {
            followed.push(timeout(ALIVE_AGAIN, follower).await.expect("a subscriber sees the last event").unwrap());
        }
        Done { ledger, produced, followed, replays: self.replays.await.unwrap() }
    }
}

/// A client of the topic's owner: whoever does for it what only an owner can. A lane may change hands at any time, so others are asked again.
async fn owner(cluster: &mut Cluster, is_owner: impl AsyncFn(&Client) -> bool) -> Client {
    for _ in 0..600 {
        cluster.revive();
        for door in cluster.doors().all() {
            if let Ok(client) = Client::connect(door.address).await
                && timeout(Duration::from_secs(20), is_owner(&client)).await.unwrap_or(false)
            {
                return client;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no process owns the topic:\n{}", cluster.said());
}

async fn torture(name: &str, launch: Launch, judge: &[String]) {
    let seed = number("FIRN_SEED", 4) as u64;
    let processes = number("FIRN_PROCESSES", 3);
    println!("{name}: {processes} processes, seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (kills, stops) = (number("FIRN_KILLS", 24), number("FIRN_STOPS", 4));
    let faults = schedule(kills, stops, &mut random);
    let mut cluster = Cluster::start(launch.clone(), processes);
    owner(&mut cluster, async |client| Ledger::create(client).await.is_ok()).await;
    let (pulse, beats) = watch::channel(Beat { acknowledged: 0, by: None });
    let load = Load::start(&cluster, &pulse);
    let mut tormentor = Tormentor::new(cluster, beats, random);
    tormentor.run(name, &faults, kills).await;
    let done = load.finish().await;
    let Tormentor { mut cluster, tally, .. } = tormentor;
    verdict::check(&mut cluster, &done, judge).await;
    tally.print(name, &cluster, &done);
    drop(cluster);
    verdict::verify(&launch, TOPIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_there_once_and_in_order_after_kills_and_pauses_on_a_local_folder() {
    let data = tempfile::tempdir().unwrap();
    torture("local", launch(data.path().to_str().unwrap().to_owned(), BTreeMap::new()), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_there_once_and_in_order_after_kills_and_pauses_on_s3() {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    torture("s3", launch(s3.store("torture").url, s3.environment()), &s3.pyiceberg()).await;
}
