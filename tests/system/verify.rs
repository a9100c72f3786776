//! `firn verify` on both real streams: proven while the server runs and after it stopped, on a folder and on S3; and a damaged store that is called damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use catalog::storage::StoreConfig;
use serde_json::Value;
use tests::client::{append_with, to_topic};
use tests::data::{FLIGHTS, KAFKA};
use tests::process::firn;
use tests::s3::{Kind, S3};
use tests::serve::{config, local, start};

const EVENTS: [(&str, i64); 3] = [("flights", 334_264), ("flights_dead", 2_512), ("kafka", 101_229)];

fn verify(store: &StoreConfig, environment: &BTreeMap<String, String>, arguments: &[&str]) -> Output {
    let command =
        Command::new(firn().unwrap()).args(["verify", "--data", &store.url]).args(arguments).envs(environment).output();
    command.unwrap()
}

/// What `firn verify --json` said, a line each; the last is about all of it.
fn said(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_all_proven(output: &Output) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(0), "{said:?}");
    let (total, reports) = said.split_last().unwrap();
    let mut events: Vec<_> = reports
        .iter()
        .map(|report| {
            assert_eq!(report["verdict"]["verdict"], "proven", "{report}");
            (report["subject"]["topic"]["name"].as_str().unwrap(), report["cut"]["next"].as_i64().unwrap() - 1)
        })
        .collect();
    events.sort_unstable();
    assert_eq!(events, EVENTS);
    println!("verified {} bytes at {:.0} MB/s", total["read_bytes"], total["megabytes_per_second"].as_f64().unwrap());
}

/// Loads both streams, verifies while the server runs and after it has stopped.
async fn load_and_verify(store: StoreConfig, environment: &BTreeMap<String, String>) {
    let mut settings = config(store.clone());
    settings.ingest.checkpoint_bytes = 1 << 20;
    let (server, client) = start(settings).await.unwrap();
    for stream in [&*KAFKA, &*FLIGHTS] {
        client.create(&stream.spec()).await.unwrap();
    }
    client.append(to_topic("kafka"), KAFKA.all(1_009)).await.unwrap();
    let half = FLIGHTS.lines.len() / 2;
    client.append(append_with("flights", "dead-letter"), FLIGHTS.batches(0..half, 4_001)).await.unwrap();
    client.flush("flights").await.unwrap();
    client
        .append(append_with("flights", "dead-letter"), FLIGHTS.batches(half..FLIGHTS.lines.len(), 4_001))
        .await
        .unwrap();
    assert_all_proven(&verify(&store, environment, &["--all", "--json"]));
    server.shutdown().await;
    assert_all_proven(&verify(&store, environment, &["--all", "--json"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_streams_are_proven_in_a_folder_and_a_flipped_bit_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, here) = (local(folder.path()), BTreeMap::new());
    load_and_verify(store.clone(), &here).await;

    let readable = verify(&store, &here, &["kafka"]);
    let text = String::from_utf8(readable.stdout).unwrap();
    assert!(text.starts_with("topic default.kafka: proven\n") && text.contains("MB/s"), "{text}");
    assert!(readable.stderr.is_empty(), "no progress line in a pipe");

    let spoilt = data_file(folder.path());
    let mut bytes = std::fs::read(&spoilt).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&spoilt, bytes).unwrap();
    let damaged = verify(&store, &here, &["--all", "--json"]);
    assert_eq!(damaged.status.code(), Some(8));
    let faults: Vec<_> = said(&damaged).into_iter().filter(|report| report["verdict"]["verdict"] == "fault").collect();
    assert_eq!(faults.len(), 1);
    let named = faults[0]["verdict"]["object"].as_str().unwrap();
    assert!(spoilt.ends_with(named), "{named}");
    assert_eq!(faults[0]["verdict"]["law"]["name"], "I10");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_streams_are_proven_on_s3() {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    load_and_verify(s3.store("verified"), &s3.environment()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_looked_at_is_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (store, here) = (local(folder.path()), BTreeMap::new());
    assert_eq!(verify(&store, &here, &["--all"]).status.code(), Some(3), "there is no store");
    let (server, client) = start(config(store.clone())).await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    assert_eq!(verify(&store, &here, &["nothing"]).status.code(), Some(3), "there is no such topic");
    assert_eq!(verify(&store, &here, &[]).status.code(), Some(2), "no topic is named");
    server.shutdown().await;

    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    let mut wrong = s3.environment();
    wrong.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "another".to_owned());
    assert_eq!(verify(&s3.store("x"), &wrong, &["--all"]).status.code(), Some(9));
}

/// The largest data file of a store.
fn data_file(folder: &Path) -> PathBuf {
    let mut largest = (0, PathBuf::new());
    let mut folders = vec![folder.join("warehouse")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, size) = (entry.path(), entry.metadata().unwrap().len());
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "parquet") => {
                    largest = largest.max((size, path))
                }
                false => {}
            }
        }
    }
    largest.1
}
