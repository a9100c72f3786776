//! Heartbeats: a node says that it lives, others judge by their own watch whether it fell silent.
//!
//! ```text
//! {root}/nodes/{node}.json      {"node","address","beat","ready"}
//! ```
//!
//! One small object a node, overwritten with every beat: requests grow with nodes, not with lanes or topics. It decides only *when* a take-over is
//! tried (P1), so it is no register: a beat that is lost, late or doubled costs patience, never an event. No two clocks are compared: a node is
//! silent once successful reads saw the same beat for as long as the limit on the reader's own clock.

use std::collections::HashMap;
use std::time::Duration;

use catalog::{Env, Store};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use schemas::ErrorKind;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::error::{IngestError, Result};

/// How long a knock at another node's door may take.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// A process, as roots and heartbeats name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Drawn anew at each start.
    pub(crate) id: Uuid,
    /// Where clients find it, e.g. `grpc://10.0.0.7:8815`. `None`: it told nobody, beats no heart, and is the only one of its kind.
    pub(crate) address: Option<String>,
}

/// The object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    pub(crate) node: Uuid,
    pub(crate) address: Option<String>,
    pub(crate) beat: u64,
    /// It has opened or follows every lane: it can be given one.
    pub(crate) ready: bool,
}

/// Where a node's heartbeat lies.
fn path(node: Uuid) -> Path {
    Path::from(format!("nodes/{node}.json"))
}

/// Writes a heartbeat.
pub(crate) async fn write(store: &Store, beat: &Beat) -> Result<()> {
    let document = serde_json::to_vec(beat).expect("a heartbeat is plain data");
    match store.objects().put(&path(beat.node), document.into()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(away("written", beat.node, &error)),
    }
}

/// A node's last heartbeat. `None` if there is none: it never lived, or it has ended.
pub(crate) async fn read(store: &Store, node: Uuid) -> Result<Option<Beat>> {
    let found = async { store.objects().get(&path(node)).await?.bytes().await };
    match found.await {
        // One that cannot be read is none: whoever wrote it is no node of this version.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(away("read", node, &error)),
    }
}

/// A node that ends says so.
pub(crate) async fn remove(store: &Store, node: Uuid) {
    match store.objects().delete(&path(node)).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
        Err(error) => tracing::debug!(%node, %error, "a heartbeat stays behind"),
    }
}

/// The nodes that have a heartbeat: a hint.
pub(crate) async fn nodes(store: &Store) -> Result<Vec<Uuid>> {
    let prefix = Path::from("nodes");
    let listed = store.objects().list(Some(&prefix)).map_ok(|object| {
        let name = object.location.filename().and_then(|name| name.strip_suffix(".json"));
        name.and_then(|name| name.parse().ok())
    });
    let found = listed.filter_map(async |node: object_store::Result<Option<Uuid>>| node.transpose());
    let found: object_store::Result<Vec<Uuid>> = found.try_collect().await;
    found.map_err(|error| IngestError::new(ErrorKind::Unavailable, format!("nodes cannot be listed: {error}")))
}

fn away(what: &str, node: Uuid, error: &object_store::Error) -> IngestError {
    IngestError::new(ErrorKind::Unavailable, format!("the heartbeat of node {node} cannot be {what}: {error}"))
}

/// True if nobody listens at a node's address: it has ended, as surely as silence would tell later. Anything else proves nothing.
pub(crate) async fn is_refused(env: &Env, address: &str) -> bool {
    let place = address.split_once("://").map_or(address, |(_, place)| place);
    let knock = timeout(KNOCK_TIMEOUT, env.knock(place)).await;
    matches!(knock, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// What was heard of the other nodes.
#[derive(Debug)]
pub(crate) struct Pulses {
    silence: Duration,
    heard: HashMap<Uuid, Heard>,
}

#[derive(Debug)]
struct Heard {
    last: Option<Beat>,
    /// When `last` was first seen; moved on when a read fails, since then nobody knows.
    since: Instant,
}

impl Pulses {
    /// A node is silent once its beat has not changed for `silence`.
    pub(crate) fn new(silence: Duration) -> Self {
        Self { silence, heard: HashMap::new() }
    }

    /// A read of the node's heartbeat found this.
    pub(crate) fn hear(&mut self, node: Uuid, beat: Option<Beat>, now: Instant) {
        match self.heard.get_mut(&node) {
            Some(heard) if heard.last == beat => {}
            _ => {
                self.heard.insert(node, Heard { last: beat, since: now });
            }
        }
    }

    /// A read of the node's heartbeat failed: silence begins anew, for it may be the store's.
    pub(crate) fn miss(&mut self, node: &Uuid, now: Instant) {
        if let Some(heard) = self.heard.get_mut(node) {
            heard.since = now;
        }
    }

    /// True if the node has ended or fell silent. One that was never looked for is not.
    pub(crate) fn is_silent(&self, node: &Uuid, now: Instant) -> bool {
        self.silent_for(node, now).is_some()
    }

    /// True if it has been silent for so long that nobody need remember it.
    pub(crate) fn is_gone(&self, node: &Uuid, now: Instant) -> bool {
        self.silent_for(node, now).is_some_and(|silent| silent >= 20 * self.silence)
    }

    /// For how long it has been silent, beyond the limit.
    fn silent_for(&self, node: &Uuid, now: Instant) -> Option<Duration> {
        let heard = self.heard.get(node)?;
        let still = now.saturating_duration_since(heard.since);
        match heard.last {
            None => Some(still),
            Some(_) => still.checked_sub(self.silence),
        }
    }

    /// The nodes that can be given a lane, other than this one.
    pub(crate) fn living(&self, now: Instant) -> impl Iterator<Item = Uuid> + '_ {
        let ready = self.heard.iter().filter(|(_, heard)| heard.last.as_ref().is_some_and(|last| last.ready));
        ready.map(|(node, _)| *node).filter(move |node| !self.is_silent(node, now))
    }

    /// Where those answer.
    pub(crate) fn addresses(&self, now: Instant) -> Vec<String> {
        let living = self.living(now).filter_map(|node| self.heard.get(&node)?.last.as_ref()?.address.clone());
        living.collect()
    }

    /// Every node that has ever been looked for.
    pub(crate) fn known(&self) -> Vec<Uuid> {
        self.heard.keys().copied().collect()
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, node: &Uuid) {
        self.heard.remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    fn beat(node: u128, beat: u64) -> Option<Beat> {
        Some(Beat { node: Uuid::from_u128(node), address: None, beat, ready: true })
    }

    #[test]
    fn a_node_is_silent_once_its_beat_has_not_changed_for_the_limit() {
        let (node, start) = (Uuid::from_u128(1), Instant::now());
        let mut pulses = Pulses::new(SILENCE);
        assert!(!pulses.is_silent(&node, start), "nobody has looked yet");
        pulses.hear(node, beat(1, 1), start);
        pulses.hear(node, beat(1, 2), start + SILENCE);
        pulses.hear(node, beat(1, 2), start + SILENCE * 3 / 2);
        assert!(!pulses.is_silent(&node, start + SILENCE * 3 / 2));
        assert_eq!(pulses.living(start + SILENCE).collect::<Vec<_>>(), [node]);
        assert!(pulses.is_silent(&node, start + SILENCE * 2));
        assert_eq!(pulses.living(start + SILENCE * 2).count(), 0);
    }

    #[test]
    fn a_node_that_took_its_heartbeat_away_has_ended() {
        let (node, now) = (Uuid::from_u128(1), Instant::now());
        let mut pulses = Pulses::new(SILENCE);
        pulses.hear(node, beat(1, 7), now);
        pulses.hear(node, None, now);
        assert!(pulses.is_silent(&node, now));
    }

    #[test]
    fn a_store_that_does_not_answer_proves_nobodys_silence() {
        let (node, start) = (Uuid::from_u128(1), Instant::now());
        let mut pulses = Pulses::new(SILENCE);
        pulses.hear(node, beat(1, 1), start);
        pulses.miss(&node, start + 10 * SILENCE);
        pulses.hear(node, beat(1, 1), start + 10 * SILENCE);
        assert!(!pulses.is_silent(&node, start + 10 * SILENCE));
        assert!(pulses.is_silent(&node, start + 11 * SILENCE));
    }

    /// Nodes of two versions stand by for each other: one that cannot read the other's heartbeat takes it for silent, and its lanes from it.
    #[test]
    fn the_document_stays_what_it_is_and_may_say_more() {
        let document =
            r#"{"node":"00000000-0000-0000-0000-000000000007","address":"grpc://10.0.0.7:8815","beat":3,"ready":true}"#;
        let beat: Beat = serde_json::from_str(document).unwrap();
        assert_eq!(serde_json::to_string(&beat).unwrap(), document);
        let later = document.replace("\"beat\"", "\"later\":[1],\"beat\"");
        assert_eq!(serde_json::from_str::<Beat>(&later).unwrap(), beat);
        assert_eq!(path(beat.node).as_ref(), "nodes/00000000-0000-0000-0000-000000000007.json");
    }

    #[tokio::test]
    async fn a_door_that_nobody_stands_behind_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("grpc://{}", listener.local_addr().unwrap());
        assert!(!is_refused(&Env::system(), &address).await);
        drop(listener);
        assert!(is_refused(&Env::system(), &address).await);
        assert!(!is_refused(&Env::system(), "somewhere").await, "no port, no knowledge");
    }
}
