//! Several lanes, topics that are dropped and made again, and kills: in the end every topic of every lane is proven.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::error::FlightError;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::rows;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::cluster::{Cluster, Doors};
use super::{launch, number, owner, verdict};

const TOPICS: usize = 6;
const LANES: usize = 3;
const PROCESSES: usize = 3;
/// Silence after which somebody else is asked: a process may have died with the question.
const PATIENCE: Duration = Duration::from_secs(3);
const BATCH_EVENTS: i64 = 10;

/// Whoever works on one topic, one thing after the other.
struct Worker {
    topic: String,
    doors: Doors,
    place: usize,
    random: StdRng,
    /// The number of the next event; none is ever sent twice.
    next: i64,
    /// What the topic that there is now has acknowledged: seq and number of each batch's first event.
    acknowledged: Vec<(i64, i64)>,
    drops: usize,
}

impl Worker {
    fn new(number: usize, seed: u64, doors: Doors) -> Self {
        let random = StdRng::seed_from_u64(seed + number as u64);
        let topic = format!("topic{number}");
        Self { topic, doors, place: number, random, next: 0, acknowledged: Vec::new(), drops: 0 }
    }

    async fn run(mut self, enough: watch::Receiver<bool>) -> Self {
        while !*enough.borrow() {
            match self.random.random_range(0..12) {
                0 => self.drop_and_make().await,
                1 => self.flush().await,
                _ => self.append().await,
            }
        }
        self
    }

    /// A client of the next process that lets one in.
    async fn somewhere(&mut self) -> Option<Client> {
        let door = self.doors.after(self.place);
        self.place = door.place;
        timeout(PATIENCE, Client::connect(door.address)).await.ok()?.ok()
    }

    async fn append(&mut self) {
        let Some(client) = self.somewhere().await else { return sleep(Duration::from_millis(20)).await };
        // Some batches at this owner, as long as it is one.
        for _ in 0..self.random.random_range(1..20) {
            let first = self.next;
            self.next += BATCH_EVENTS;
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..self.next));
            let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
            match timeout(PATIENCE, client.append(to_topic(&self.topic), vec![batch])).await {
                Ok(Ok(receipts)) => self.acknowledged.push((receipts[0].first_seq.unwrap(), first)),
                Ok(Err(FlightError::Tonic(status))) if status.code() == Code::NotFound => {
                    let _ = timeout(PATIENCE, self.create(&client)).await;
                    return;
                }
                _ => return,
            }
        }
    }

    async fn flush(&mut self) {
        if let Some(client) = self.somewhere().await {
            let _ = timeout(PATIENCE, client.flush(&self.topic)).await;
        }
    }

    async fn create(&self, client: &Client) -> Result<(), Status> {
        let schema = json!({"type": "record", "name": "Number", "fields": [{"name": "n", "type": "long"}]});
        client.create(&json!({"name": self.topic, "schema": schema, "key": ["n"]})).await.map(drop)
    }

    /// From the first attempt on nobody knows whether what was acknowledged is there; once there is an answer, everybody does.
    async fn drop_and_make(&mut self) {
        self.acknowledged.clear();
        loop {
            let Some(client) = self.somewhere().await else { continue };
            match timeout(PATIENCE, client.action("drop-topic", &json!({"topic": self.topic}))).await {
                Ok(Ok(_)) => break self.drops += 1,
                Ok(Err(status)) if status.code() == Code::NotFound => break,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        while !matches!(self.somewhere().await, Some(client) if matches!(timeout(PATIENCE, self.create(&client)).await, Ok(Ok(()))))
        {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its seqs are dense from 1, and what was acknowledged since it was made is where its producer was told.
    async fn check(&self, cluster: &mut Cluster) {
        // A worker may have ended with its topic half made.
        let is_owner =
            async |client: &Client| self.create(client).await.is_ok() && client.flush(&self.topic).await.is_ok();
        let client = owner(cluster, is_owner).await;
        let asked = json!({"replay": {"topic": self.topic, "columns": ["_seq", "n"]}});
        let events = client.get(&asked).await.unwrap();
        let (seqs, found) = (rows::integers(&events, "_seq"), rows::integers(&events, "n"));
        assert!(seqs.iter().copied().eq(1..=seqs.len() as i64), "{}: seqs are dense from 1", self.topic);
        for (seq, first) in &self.acknowledged {
            let place = *seq as usize - 1;
            let there = found.get(place..place + BATCH_EVENTS as usize).unwrap_or_default();
            let is_there = there.iter().copied().eq(*first..first + BATCH_EVENTS);
            assert!(is_there, "{}: {first} was acknowledged at seq {seq}, and {there:?} is there", self.topic);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_dropped_and_made_again_in_several_lanes_under_kills_are_all_proven() {
    let (seed, kills) = (number("FIRN_SEED", 4) as u64, number("FIRN_TOPIC_KILLS", 12));
    let data = tempfile::tempdir().unwrap();
    let mut launch = launch(data.path().to_str().unwrap().to_owned(), BTreeMap::new());
    launch.arguments.extend(["--set".to_owned(), format!("ingest.lanes={LANES}")]);
    let mut cluster = Cluster::start(launch.clone(), PROCESSES);
    owner(&mut cluster, async |client| client.action("health", &Value::Null).await.is_ok()).await;
    let (enough, until) = watch::channel(false);
    let worker = |number| tokio::spawn(Worker::new(number, seed, cluster.doors()).run(until.clone()));
    let workers: Vec<_> = (0..TOPICS).map(worker).collect();
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..kills {
        sleep(Duration::from_millis(random.random_range(200..1_500))).await;
        cluster.revive();
        let place = random.random_range(0..PROCESSES);
        cluster.kill(place);
        cluster.restart(place);
    }
    sleep(Duration::from_secs(2)).await;
    enough.send(true).unwrap();
    let workers: Vec<_> = join_all(workers).await.into_iter().map(Result::unwrap).collect();
    for worker in &workers {
        worker.check(&mut cluster).await;
    }
    let (drops, known): (usize, usize) =
        workers.iter().fold((0, 0), |(drops, known), worker| (drops + worker.drops, known + worker.acknowledged.len()));
    println!("topics: {kills} kills, {drops} drops, {known} batches acknowledged since the last of each topic");
    assert!(drops > 0 && known > 0, "there was something to prove");
    drop(cluster);
    verdict::verify(&launch, "--all").await;
}
