//! What everybody who can be asked says in the end: replay, SQL, subscribers, another engine, and the offline proof.

use std::process::Stdio;

use serde_json::Value;
use tests::client::Client;
use tests::judge;
use tests::process::{Launch, firn};
use tests::rows;
use tokio::process::Command;

use super::cluster::Cluster;
use super::{ALIVE_AGAIN, Done, owner};
use crate::crash::ledger::TOPIC;

/// Asks the owner before and after everything has moved into the table, each other process, each subscriber, and PyIceberg.
pub(crate) async fn check(cluster: &mut Cluster, done: &Done, properties: &[String]) {
    let last = done.ledger.acknowledged();
    let client = &owner(cluster, async |client| client.action("health", &Value::Null).await.is_ok_and(is_owner)).await;
    done.ledger.check(client).await;
    let client = &owner(cluster, async |client| client.flush(TOPIC).await.is_ok()).await;
    done.ledger.check(client).await;
    let count = format!("select count(*) from {TOPIC}");
    assert_eq!(client.number(&count).await.unwrap(), last, "nothing is there but what was acknowledged");

    let events = client.sql(&format!("select producer, n from {TOPIC} order by _seq")).await.unwrap();
    let producers = rows::texts(&events, "producer").into_iter().map(|name| name.parse::<usize>().unwrap());
    let events: Vec<_> = producers.zip(rows::integers(&events, "n")).collect();
    for followed in &done.followed {
        assert!(followed.events == events, "a subscriber saw what is there, each event once, in its order");
    }
    for door in cluster.doors().all() {
        let all = async {
            loop {
                if let Ok(client) = Client::connect(door.address).await
                    && client.number(&count).await.is_ok_and(|found| found == last)
                {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(ALIVE_AGAIN, all).await.unwrap_or_else(|_| panic!("{door:?} sees all {last} events"));
    }
    pyiceberg(client, last, &events, properties).await;
}

fn is_owner(health: Value) -> bool {
    health["role"] == "owner"
}

/// Another engine finds the same in the table alone.
async fn pyiceberg(client: &Client, last: i64, events: &[(usize, i64)], properties: &[String]) {
    let description = client.describe(TOPIC).await.unwrap();
    let metadata = description["table"]["metadata_uri"].as_str().unwrap();
    let mut asked = vec![metadata, "0"];
    asked.extend(properties.iter().map(String::as_str));
    let judged = judge::python("iceberg", &asked).await.unwrap();
    let of_key: Vec<i64> = (1..).zip(events).filter(|(_, event)| event.0 == 0).map(|(seq, _)| seq).collect();
    assert_eq!(judged["count"], last);
    assert_eq!(judged["max_seq"], last);
    assert_eq!(judged["sums"]["_seq"], last * (last + 1) / 2);
    assert_eq!(judged["sums"]["n"], events.iter().map(|(_, n)| n).sum::<i64>());
    assert_eq!(judged["key_seqs"], serde_json::json!(of_key));
}

/// `firn verify` proves a topic, or `--all`, from the files, with no server running.
pub(crate) async fn verify(launch: &Launch, what: &str) {
    let mut command = Command::new(firn().unwrap());
    command.args(["verify", what, "--data", &launch.data]).envs(&launch.environment).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "firn verify: {said}");
}
