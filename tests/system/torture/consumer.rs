//! Consumers that go on where they were when a server goes: a subscription from its last seq, and replays of one key.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use serde_json::json;
use tests::client::Client;
use tests::rows;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cluster::{Door, Doors};
use crate::crash::ledger::{BATCH_EVENTS, TOPIC};

/// Silence after which a consumer connects anew: longer than a take-over, since a topic may just be quiet.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);

/// What a subscriber got.
#[derive(Default)]
pub(crate) struct Followed {
    /// Producer and number of every event, in the order in which they came.
    pub(crate) events: Vec<(usize, i64)>,
    /// How often it had to connect.
    pub(crate) streams: usize,
}

/// Follows the topic, from server to server, until it has seen the seq that it is told to end with (0: not yet known).
pub(crate) async fn follow(doors: Doors, start: usize, end: watch::Receiver<i64>) -> Followed {
    let (mut followed, mut place) = (Followed::default(), start);
    while !is_over(&end, followed.events.len()) {
        let door = doors.after(place);
        place = door.place;
        followed.streams += 1;
        // Whatever ended it, the next stream goes on where this one was.
        let _ = follow_at(door, &mut followed.events, &end).await;
        tokio::time::sleep(PAUSE).await;
    }
    followed
}

fn is_over(end: &watch::Receiver<i64>, seen: usize) -> bool {
    let end = *end.borrow();
    end != 0 && seen as i64 >= end
}

async fn follow_at(door: Door, seen: &mut Vec<(usize, i64)>, end: &watch::Receiver<i64>) -> Result<()> {
    let client = timeout(PATIENCE, Client::connect(door.address)).await??;
    let next = seen.len() + 1;
    let ticket = json!({"subscribe": {"pattern": TOPIC, "from": {"seq": next}, "columns": ["_seq", "producer", "n"]}});
    let mut events = timeout(PATIENCE, client.stream(&ticket)).await??;
    while !is_over(end, seen.len()) {
        let batch = timeout(PATIENCE, events.next()).await?.context("the stream has ended")??;
        let batch = [batch];
        let next = seen.len() as i64 + 1;
        let seqs = rows::integers(&batch, "_seq");
        assert!(seqs.iter().copied().eq((next..).take(seqs.len())), "expected seqs from {next}, got {seqs:?}");
        let producers = rows::texts(&batch, "producer").into_iter().map(|name| name.parse().unwrap());
        seen.extend(producers.zip(rows::integers(&batch, "n")));
    }
    Ok(())
}

/// Replays one producer's events, again and again: always 0, 1, 2, … in whole batches. Returns how many replays came to their end.
pub(crate) async fn replay(doors: Doors, producer: usize, enough: watch::Receiver<bool>) -> usize {
    let (mut place, mut replays) = (producer, 0);
    while !*enough.borrow() {
        let door = doors.after(place);
        place = door.place;
        if let Ok(numbers) = replay_at(door, producer).await {
            assert!(numbers.iter().copied().eq(0..numbers.len() as i64), "producer {producer} numbered without a gap");
            assert_eq!(numbers.len() as i64 % BATCH_EVENTS, 0, "a batch is visible whole or not at all");
            replays += 1;
        }
        tokio::time::sleep(4 * PAUSE).await;
    }
    replays
}

async fn replay_at(door: Door, producer: usize) -> Result<Vec<i64>> {
    let client = timeout(PATIENCE, Client::connect(door.address)).await??;
    let ticket = json!({"replay": {"topic": TOPIC, "key": producer.to_string(), "columns": ["n"]}});
    let events = timeout(PATIENCE, client.get(&ticket)).await??;
    Ok(rows::integers(&events, "n"))
}
