//! `firn tail` and `firn replay` while the servers that they read from are killed, or stop answering: they go on at another, without loss or repetition.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::process::{Process, firn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::crash::ledger::{self, BATCH_EVENTS, Ledger, TOPIC};
use crate::ownership::{append, becomes, launch, start};
use crate::torture::recovery;

/// Longer than it takes to notice that a server is stopped, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `firn` command that prints events as JSON lines.
struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    /// It knows this server only; of others it must hear.
    fn start(server: SocketAddr, arguments: &[&str]) -> Self {
        let mut child = Command::new(firn().unwrap())
            .args(["--server", &server.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next event. `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("events come").unwrap();
        line.map(|line| serde_json::from_str(&line).unwrap())
    }

    /// The seqs of the events up to this one.
    async fn up_to(&mut self, last: i64) -> Vec<i64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&last) {
            let event = self.next().await.expect("a tail has no end");
            let (seq, n) = (event["_seq"].as_i64().unwrap(), event["n"].as_i64().unwrap());
            assert_eq!(n, seq - 1, "each event under its seq");
            seqs.push(seq);
        }
        seqs
    }

    /// Ends it; what it said on standard error.
    async fn end(mut self) -> String {
        let _ = self.child.start_kill();
        self.said().await
    }

    async fn said(&mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
        said
    }
}

/// Waits until a server knows of so many, itself included.
async fn knows(client: &Client, servers: usize) {
    let known = async || client.action("health", &Value::Null).await.unwrap()["nodes"].as_array().map_or(0, Vec::len);
    while known().await != servers {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Appends some batches, from this number on; the last seq.
async fn append_three(client: &Client, from: i64) -> i64 {
    for batch in from..from + 3 {
        assert_eq!(append(client, batch).await.unwrap(), batch * BATCH_EVENTS + 1, "nobody else appends");
    }
    (from + 3) * BATCH_EVENTS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_at_another_server_when_its_own_is_killed_and_when_the_next_one_stops_answering() {
    let data = tempfile::tempdir().unwrap();
    let (first, client) = start(&launch(&data, &[])).await;
    Ledger::create(&client).await.unwrap();
    let (second, standby) = start(&launch(&data, &[])).await;
    knows(&client, 2).await;
    let mut tail = Reader::start(first.address(), &["tail", TOPIC, "--from", "now"]);
    // Nothing says when it has begun to follow, so there is load until it has.
    let mut batches = 0;
    let begun = loop {
        append(&client, batches).await.unwrap();
        batches += 1;
        if let Ok(line) = timeout(Duration::from_millis(200), tail.lines.next_line()).await {
            break serde_json::from_str::<Value>(&line.unwrap().unwrap()).unwrap()["_seq"].as_i64().unwrap();
        }
    };
    let mut seen = vec![begun];
    seen.extend(tail.up_to(append_three(&client, batches).await).await);

    let place = first.address();
    first.kill().unwrap();
    becomes(&standby, "owner").await;
    seen.extend(tail.up_to(append_three(&standby, batches + 3).await).await);

    let mut third = Process::start_at(place, &launch(&data, &[])).unwrap();
    let client = third.client().await.unwrap();
    second.pause().unwrap();
    becomes(&client, "owner").await;
    let last = append_three(&client, batches + 6).await;
    seen.extend(tail.up_to(last).await);
    assert!(seen.iter().copied().eq(begun..=last), "each event once, in its order: {seen:?}");
    let said = tail.end().await;
    assert!(said.matches("going on after seq").count() >= 2, "{said}");
    second.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_several_topics_goes_on_in_each_of_them() {
    let data = tempfile::tempdir().unwrap();
    let (first, client) = start(&launch(&data, &["--set", "ingest.lanes=2"])).await;
    Ledger::create(&client).await.unwrap();
    let schema = json!({"type": "record", "name": "Other", "fields": [
        {"name": "producer", "type": "string"}, {"name": "n", "type": "long"}]});
    client.create(&json!({"name": "other", "schema": schema, "key": ["producer"]})).await.unwrap();
    let both = async |client: &Client, batch: i64| {
        for topic in [TOPIC, "other"] {
            client.append(to_topic(topic), vec![ledger::events(9, batch)]).await.unwrap();
        }
    };
    both(&client, 0).await;
    let mut tail = Reader::start(first.address(), &["tail", "*", "--from", "beginning", "--columns", "_path"]);
    let mut seen = BTreeMap::<String, i64>::new();
    let up_to = async |tail: &mut Reader, seen: &mut BTreeMap<String, i64>, events: i64| {
        while seen.values().sum::<i64>() < 2 * events {
            let event = tail.next().await.unwrap();
            assert_eq!(event.as_object().unwrap().len(), 1, "what was asked for, and nothing else: {event}");
            *seen.entry(event["_path"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    };
    up_to(&mut tail, &mut seen, BATCH_EVENTS).await;
    let (_second, standby) = start(&launch(&data, &[])).await;
    // One of the lanes goes to the newcomer.
    becomes(&standby, "mixed").await;
    both_at(&[&client, &standby], 1).await;
    up_to(&mut tail, &mut seen, 2 * BATCH_EVENTS).await;
    // It hears of the newcomer before its own server goes.
    tokio::time::sleep(Duration::from_secs(6)).await;
    first.kill().unwrap();
    becomes(&standby, "owner").await;
    both(&standby, 2).await;
    up_to(&mut tail, &mut seen, 3 * BATCH_EVENTS).await;
    assert!(seen.values().all(|events| *events == 3 * BATCH_EVENTS), "{seen:?}");
    let said = tail.end().await;
    assert!(said.contains("going on after seq"), "{said}");
}

/// Appends a batch to both topics, to each at whoever owns it.
async fn both_at(clients: &[&Client], batch: i64) {
    for topic in [TOPIC, "other"] {
        let mut appended = 0;
        for client in clients {
            appended += usize::from(client.append(to_topic(topic), vec![ledger::events(9, batch)]).await.is_ok());
        }
        assert_eq!(appended, 1, "one of them owns {topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_whose_server_is_killed_in_the_middle_ends_whole() {
    /// More than pipes and windows hold, so that the server has not sent all when it dies.
    const MEGABYTES: usize = 32;
    let data = tempfile::tempdir().unwrap();
    let (first, client) = start(&launch(&data, &[])).await;
    recovery::fill(&client, MEGABYTES).await;
    let (_second, standby) = start(&launch(&data, &[])).await;
    knows(&client, 2).await;
    let mut replay = Reader::start(first.address(), &["replay", "blobs", "--json"]);
    let mut seqs = Vec::new();
    while seqs.len() < 1_000 {
        seqs.push(replay.next().await.unwrap()["_seq"].as_i64().unwrap());
    }
    first.kill().unwrap();
    becomes(&standby, "owner").await;
    while let Some(event) = replay.next().await {
        seqs.push(event["_seq"].as_i64().unwrap());
    }
    let events = client_count(&standby).await;
    assert!(seqs.iter().copied().eq(1..=events), "{} of {events} events", seqs.len());
    assert!(replay.child.wait().await.unwrap().success());
    let said = replay.said().await;
    assert!(said.contains("going on after seq"), "it was in the middle: {said}");
}

async fn client_count(client: &Client) -> i64 {
    client.number("select count(*) from blobs").await.unwrap()
}
