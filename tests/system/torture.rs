//! Several `firn serve` processes over one store, killed and stopped for longer than their heartbeats allow, under producers that retry and consumers
//! that reconnect: in the end every event that anybody sent is there once, in order, whoever is asked.
//!
//! `make torture` runs the long form; the schedule is seeded (`FIRN_SEED`), what the machine makes of it is not.

mod cluster;
mod consumer;
mod producer;
mod recovery;
mod tally;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tests::client::Client;
use tests::process::Launch;
use tests::s3::{Kind, S3};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::cluster::{Cluster, Door};
use self::consumer::Followed;
use self::producer::{Beat, Produced, Producer};
use self::tally::Tally;
use crate::crash::ledger::Ledger;

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

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
}

/// The faults of a run, in their order.
fn schedule(random: &mut StdRng) -> Vec<Fault> {
    let (kills, stops) = (number("FIRN_KILLS", 24), number("FIRN_STOPS", 4));
    let mut faults: Vec<_> =
        std::iter::repeat_n(Fault::Kill, kills).chain(std::iter::repeat_n(Fault::Stop, stops)).collect();
    faults.shuffle(random);
    faults
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

/// Does what the schedule says, and measures how long the topic takes no appends.
struct Tormentor {
    cluster: Cluster,
    pulse: watch::Receiver<Beat>,
    random: StdRng,
    tally: Tally,
    /// When the owner was struck that nobody has acknowledged anything after yet.
    out_since: Option<Instant>,
}

impl Tormentor {
    async fn run(&mut self, name: &str, faults: &[Fault]) {
        let begun = Instant::now();
        for (done, fault) in faults.iter().enumerate() {
            self.cluster.revive();
            tokio::time::sleep(Duration::from_millis(self.random.random_range(LOAD_MS))).await;
            let place = self.victim();
            match fault {
                Fault::Kill => self.kill(place).await,
                Fault::Stop => self.stop(place).await,
            }
            if (done + 1) % 100 == 0 {
                let acknowledged = self.pulse.borrow().acknowledged;
                println!("{name}: {} faults after {:?}, {acknowledged} batches", done + 1, begun.elapsed());
            }
        }
        self.beat(|_| true).await;
    }

    /// Two times out of three the process that acknowledges, else any.
    fn victim(&mut self) -> usize {
        let any = self.random.random_range(0..self.cluster.places());
        let owner = self.pulse.borrow().by.map_or(any, |door| door.place);
        if self.random.random_ratio(2, 3) { owner } else { any }
    }

    async fn kill(&mut self, place: usize) {
        let begun = Instant::now();
        let struck = self.cluster.kill(place);
        self.struck(struck, begun);
        self.tally.kills += 1;
        // A process comes back at once, or only after another has taken over; alone, it must come back.
        let late = self.cluster.places() > 1 && self.random.random_ratio(1, 2);
        if !late {
            self.cluster.restart(place);
        }
        // One time in three the next fault comes before anybody has recovered from this one.
        if self.random.random_ratio(2, 3) {
            let before = self.pulse.borrow().acknowledged;
            self.beat(|beat| beat.by != Some(struck) && beat.acknowledged > before).await;
            self.over();
        }
        if late {
            self.cluster.restart(place);
        }
    }

    async fn stop(&mut self, place: usize) {
        let (begun, length) = (Instant::now(), Duration::from_millis(self.random.random_range(STOP_MS)));
        let struck = self.cluster.pause(place);
        self.struck(struck, begun);
        self.tally.stops += 1;
        let before = self.pulse.borrow().acknowledged;
        let another = |beat: &Beat| beat.by != Some(struck) && beat.acknowledged > before;
        if timeout(length, self.pulse.wait_for(another)).await.is_ok() {
            self.tally.taken_over_while_stopped += usize::from(self.out_since.is_some());
            self.over();
        }
        tokio::time::sleep(length.saturating_sub(begun.elapsed())).await;
        let before = self.pulse.borrow().acknowledged;
        self.cluster.resume(place);
        self.beat(|beat| beat.acknowledged > before).await;
        self.over();
    }

    /// A process was struck: if it was the one that acknowledged, nobody does from now on.
    fn struck(&mut self, struck: Door, when: Instant) {
        if self.pulse.borrow().by == Some(struck) {
            self.out_since.get_or_insert(when);
        }
    }

    /// Somebody acknowledges again.
    fn over(&mut self) {
        if let Some(since) = self.out_since.take() {
            self.tally.outages.add(since.elapsed());
        }
    }

    /// Waits for an acknowledgement; processes that end meanwhile are started again.
    async fn beat(&mut self, is_it: impl Fn(&Beat) -> bool) {
        let begun = Instant::now();
        while timeout(Duration::from_millis(200), self.pulse.wait_for(&is_it)).await.is_err() {
            self.cluster.revive();
            let late = begun.elapsed() > ALIVE_AGAIN;
            assert!(!late, "nothing was acknowledged for {ALIVE_AGAIN:?}:\n{}", self.cluster.said());
        }
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
    let faults = schedule(&mut random);
    let mut cluster = Cluster::start(launch.clone(), processes);
    owner(&mut cluster, async |client| Ledger::create(client).await.is_ok()).await;
    let (pulse, beats) = watch::channel(Beat { acknowledged: 0, by: None });
    let load = Load::start(&cluster, &pulse);
    let mut tormentor = Tormentor { cluster, pulse: beats, random, tally: Tally::default(), out_since: None };
    tormentor.beat(|beat| beat.acknowledged > 0).await;
    tormentor.run(name, &faults).await;
    let done = load.finish().await;
    let Tormentor { mut cluster, mut tally, .. } = tormentor;
    verdict::check(&mut cluster, &done, judge).await;
    tally.print(name, &cluster, &done);
    drop(cluster);
    verdict::verify(&launch).await;
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
