//! The life of a node among others: it says that it lives, listens for them, and gives lanes away where another should have them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use catalog::Store;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::host::Host;
use super::{Command, Parts, Then};
use crate::error::Result;
use crate::lane::board::Board;
use crate::lane::heartbeat::{self, Beat, Node};

/// What says that this node lives. Silent for a node that told nobody where it is.
#[derive(Debug)]
pub(super) struct Heart {
    store: Store,
    beat: Option<Beat>,
    every: Duration,
    silence: Duration,
}

impl Heart {
    pub(super) fn new(parts: &Parts, node: &Node) -> Self {
        let millis = |millis: u64| Duration::from_millis(millis.max(1));
        let beat = Beat { node: node.id, address: node.address.clone(), beat: 0, ready: false };
        Self {
            store: parts.store.clone(),
            beat: node.address.is_some().then_some(beat),
            every: millis(parts.settings.heartbeat_ms),
            silence: millis(parts.settings.silence_ms),
        }
    }

    /// Beats once.
    pub(super) async fn beat(&mut self, ready: bool) -> Result<()> {
        let Some(beat) = &mut self.beat else { return Ok(()) };
        (beat.beat, beat.ready) = (beat.beat + 1, ready);
        heartbeat::write(&self.store, beat).await
    }

    /// Beats from now on, and listens for others.
    pub(super) fn start(mut self, host: &Arc<Host>, tasks: &mut JoinSet<()>) {
        if self.beat.is_none() {
            return;
        }
        let (host, every, rounds) =
            (Arc::downgrade(host), self.every, self.silence.div_duration_f64(self.every) as u64);
        // Apart, so that a slow look at others delays no beat.
        tasks.spawn(async move {
            loop {
                sleep(self.every).await;
                if let Err(error) = self.beat(true).await {
                    tracing::debug!(%error, "a heartbeat was not written");
                }
            }
        });
        tasks.spawn(listen(host, every, rounds.max(1)));
    }
}

/// Listens to those that are known every time, looks for others every so many `rounds`.
async fn listen(host: Weak<Host>, every: Duration, rounds: u64) {
    for round in 0_u64.. {
        if let Some(host) = host.upgrade() {
            let (store, board) = (&host.parts.store, &host.board);
            if round.is_multiple_of(rounds) {
                look_around(&host).await;
            }
            for node in board.others() {
                match heartbeat::read(store, node).await {
                    Ok(beat) => board.hear(node, beat, Instant::now()),
                    Err(_) => board.miss(&node, Instant::now()),
                }
            }
            give_away(&host).await;
        } else {
            return;
        }
        sleep(every).await;
    }
}

/// Finds nodes and lanes that are new, and removes what dead nodes left.
async fn look_around(host: &Host) {
    let store = &host.parts.store;
    match heartbeat::nodes(store).await {
        Ok(nodes) => look_at(store, &host.board, host.node.id, nodes).await,
        Err(error) => tracing::debug!(%error, "nobody can be looked for"),
    }
    for node in host.board.gone(Instant::now()) {
        heartbeat::remove(store, node).await;
    }
    let grown = match store.lanes(1).await {
        Ok(count) => Box::pin(host.grow(count)).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = grown {
        tracing::warn!(%error, "it cannot be seen whether there are more lanes");
    }
}

async fn look_at(store: &Store, board: &Board, me: uuid::Uuid, nodes: Vec<uuid::Uuid>) {
    let known = board.others();
    for node in nodes.into_iter().filter(|node| *node != me && !known.contains(node)) {
        if let Ok(beat) = heartbeat::read(store, node).await {
            board.hear(node, beat, Instant::now());
        }
    }
}

/// Gives one lane to a node that should have it, if there is one.
async fn give_away(host: &Host) {
    if host.check_running().is_err() {
        return;
    }
    let Some((lane, heir)) = host.board.surplus(Instant::now()) else { return };
    let Ok(shared) = host.lane(lane) else { return };
    if !shared.is_open() {
        return;
    }
    let begun = Instant::now();
    match shared.ask(|answer| Command::Close { answer, then: Then::StandBy { heir } }).await {
        Ok(()) => tracing::info!(%lane, %heir, ms = begun.elapsed().as_millis() as u64, "lane given away"),
        Err(error) => tracing::warn!(%lane, %heir, %error, "the lane could not be given away"),
    }
}
