//! Several processes over one store: one owns a lane, the others stand by, and the lane changes hands by a kill, a pause, a signal, or an order.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::process::{Launch, Process, firn};

use crate::crash::ledger::{self, Ledger, TOPIC};

/// Beats ten times a second, and is silent after one.
pub(crate) fn launch(data: &tempfile::TempDir, further: &[&str]) -> Launch {
    let settings = ["ingest.heartbeat_ms=100", "ingest.silence_ms=1000", "ingest.flush_interval_ms=200"];
    let settings = settings.iter().flat_map(|setting| ["--set", *setting]);
    let arguments = settings.chain(further.iter().copied()).map(str::to_owned).collect();
    Launch { data: data.path().to_str().unwrap().to_owned(), arguments, ..Launch::default() }
}

pub(crate) async fn start(launch: &Launch) -> (Process, Client) {
    let mut process = Process::start(launch).unwrap();
    let client = process.client().await.unwrap();
    (process, client)
}

pub(crate) async fn role(client: &Client) -> Value {
    client.action("health", &Value::Null).await.unwrap()["role"].take()
}

/// How long it took until the server had this role.
pub(crate) async fn becomes(client: &Client, wanted: &str) -> Duration {
    let begun = Instant::now();
    while role(client).await != wanted {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not become {wanted}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// A batch that is appended somehow, and the seq that it got.
pub(crate) async fn append(client: &Client, batch: i64) -> Result<i64, Value> {
    match client.append(to_topic(TOPIC), vec![ledger::events(9, batch)]).await {
        Ok(receipts) => Ok(receipts[0].first_seq.unwrap()),
        Err(arrow_flight::error::FlightError::Tonic(status)) => {
            let detail = status.metadata().get("firn-error").unwrap().to_str().unwrap().to_owned();
            Err(serde_json::from_str(&detail).unwrap())
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_stands_by_and_takes_over_when_the_first_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let (first, client) = start(&launch(&data, &[])).await;
    let load = ledger.load(&client).await;
    let (second, standby) = start(&launch(&data, &[])).await;
    assert_eq!((role(&client).await, role(&standby).await), (json!("owner"), json!("standby")));
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.kill().unwrap();
    ledger.settle(load).await;
    assert!(ledger.acknowledged() > 0, "there was load");
    let took = becomes(&standby, "owner").await;
    println!("{} events acknowledged; the standby was the owner {took:?} after the kill", ledger.acknowledged());
    ledger.check(&standby).await;
    let load = ledger.load(&standby).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    second.kill().unwrap();
    ledger.settle(load).await;
    let begun = Instant::now();
    let (_third, client) = start(&launch(&data, &[])).await;
    assert_eq!(role(&client).await, "owner", "who starts after a kill does not wait for silence");
    println!("a restart after a kill took {:?}", begun.elapsed());
    ledger.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_paused_finds_itself_fenced_acknowledges_nothing_and_follows() {
    let data = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let (first, client) = start(&launch(&data, &[])).await;
    let (_second, standby) = start(&launch(&data, &[])).await;
    let load = ledger.load(&client).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    first.pause().unwrap();
    let took = becomes(&standby, "owner").await;
    println!("the standby was the owner {took:?} after the pause began");
    let begun = append(&standby, 0).await.unwrap();
    let said = first.said().len();
    first.resume().unwrap();
    // The first owner answers nothing but errors from here on: the load ends by itself.
    ledger.settle(load).await;
    becomes(&client, "standby").await;
    assert!(first.has_said(said, |line| line.contains("another process took it over")), "{:?}", first.said());
    let refusal = append(&client, 1).await.unwrap_err();
    assert_eq!(refusal["reason"], "not-owner", "{refusal}");
    let next = append(&standby, 1).await.unwrap();
    assert_eq!(next, begun + ledger::BATCH_EVENTS, "nothing came between");
    ledger.book(9, &[begun, next]);
    ledger.check(&standby).await;
    let last = next + ledger::BATCH_EVENTS - 1;
    while client.number(&format!("select count(*) from {TOPIC}")).await.unwrap() < last {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ledger.check(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_told_to_end_hands_over_at_once() {
    let data = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let (first, client) = start(&launch(&data, &[])).await;
    // Silence would tell after a minute only.
    let (_second, standby) = start(&launch(&data, &["--set", "ingest.silence_ms=60000"])).await;
    let load = ledger.load(&client).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &first.pid().to_string()]).status().unwrap().success());
    ledger.settle(load).await;
    becomes(&standby, "owner").await;
    println!("the lane was handed over {:?} after the signal", begun.elapsed());
    assert_eq!(first.ended().await.unwrap().0, Some(0));
    ledger.check(&standby).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_over_that_is_ordered_fences_an_owner_that_lives() {
    let data = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let (first, client) = start(&launch(&data, &[])).await;
    let load = ledger.load(&client).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (second, successor) = start(&launch(&data, &["--take-over"])).await;
    assert_eq!(role(&successor).await, "owner");
    ledger.settle(load).await;
    becomes(&client, "standby").await;
    assert!(first.has_said(0, |line| line.contains("another process took it over")), "{:?}", first.said());
    ledger.check(&successor).await;
    let taken = client.action("take-over", &json!({"lane": 0})).await.unwrap();
    assert_eq!(taken, json!({"taken_over": 0}));
    assert_eq!(role(&client).await, "owner");
    becomes(&successor, "standby").await;
    ledger.check(&client).await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_ask_a_standby_are_answered_by_the_owner() {
    let data = tempfile::tempdir().unwrap();
    let (first, client) = start(&launch(&data, &[])).await;
    Ledger::create(&client).await.unwrap();
    let (second, standby) = start(&launch(&data, &[])).await;
    while standby.describe(TOPIC).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let owner = format!("grpc://{}", first.address());
    let refusal = append(&standby, 0).await.unwrap_err();
    assert_eq!((&refusal["reason"], &refusal["owner"]), (&json!("not-owner"), &json!(owner)));
    let info = standby.flight().get_flight_info(to_topic(TOPIC)).await.unwrap().into_inner();
    assert_eq!(info.endpoint[0].location[0].uri, owner);

    let rows = data.path().join("rows.ndjson");
    std::fs::write(&rows, "{\"producer\":\"a\",\"n\":1}\n{\"producer\":\"a\",\"n\":2}\n").unwrap();
    let ask = |arguments: &[&str]| -> Output {
        let server = format!("grpc://127.0.0.1:1,grpc://{}", second.address());
        let output = Command::new(firn().unwrap()).args(arguments).env("FIRN_SERVER", server).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    };
    ask(&["produce", TOPIC, rows.to_str().unwrap()]);
    let replayed = ask(&["replay", TOPIC, "--json"]);
    assert_eq!(String::from_utf8_lossy(&replayed.stdout).lines().count(), 2, "what was just acknowledged is there");
    let tailed = ask(&["tail", TOPIC, "--from", "beginning", "--limit", "2"]);
    assert_eq!(String::from_utf8_lossy(&tailed.stdout).lines().count(), 2);
    // A linearizable read sees it at the standby as well.
    let mut call = tonic::Request::new(arrow_flight::Ticket::new(json!({"replay": {"topic": TOPIC}}).to_string()));
    call.metadata_mut().insert("firn-linearizable", "true".parse().unwrap());
    let data = standby.flight().do_get(call).await.unwrap().into_inner();
    let batches = arrow_flight::decode::FlightRecordBatchStream::new_from_flight_data(futures::TryStreamExt::map_err(
        data,
        arrow_flight::error::FlightError::from,
    ));
    let batches: Vec<_> = futures::TryStreamExt::try_collect(batches).await.unwrap();
    assert_eq!(tests::rows::integers(&batches, "_seq"), [1, 2]);
}
