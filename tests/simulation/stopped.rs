//! I16, with no fault about: others roll a topic's table back. It stops and leaves the log; its neighbours go on; an owner that knows nothing of it finds
//! its rows; and once the table is as it was, it is taken up again with all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::AILING;
use crate::history::Told;
use crate::judge::{RECOVERY_MAX, append, append_within, insist};
use crate::outsider::{Meddling, Outsider};
use crate::wire::Ask;
use crate::world::World;

/// The one's stream of randomness who meddles.
const STREAM: usize = 93;

/// Within this, a topic is served whose neighbour has stopped.
const NEIGHBOUR_MAX: Duration = Duration::from_secs(5);

/// A topic that refuses events for so long has stopped.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// Does it, and says what must not be.
pub(crate) async fn look(world: &Arc<World>) {
    for _ in 0..2 {
        append(world, AILING, "flushed").await;
        insist(world, None, Ask::Flush { topic: AILING.into() }).await;
    }
    let Ok(outsider) = Outsider::open(world, STREAM).await else { return world.failed("the store is away".into()) };
    world.store.lock().objects.is_meddled = true;
    let done = match outsider.meddle(AILING, Meddling::RolledBack).await {
        Ok(Some(done)) => done,
        failed => return world.failed(format!("{AILING} cannot be rolled back: {failed:?}")),
    };
    // Unless it was noticed already, this one is in the log alone.
    let last = match append_within(world, AILING, "parked", NOTICED_WITHIN).await {
        Ok(Told::Appended { last, .. }) => last,
        _ => 0,
    };
    let begun = Instant::now();
    while last > 0 && !is_parked(world, last) {
        if begun.elapsed() > RECOVERY_MAX {
            world.violated(format!("I16: {AILING} cannot be flushed and holds the log for {RECOVERY_MAX:?}"));
            break;
        }
        let asked = Instant::now();
        append(world, "orders", "beside").await;
        insist(world, None, Ask::Flush { topic: "orders".into() }).await;
        if asked.elapsed() > NEIGHBOUR_MAX {
            world.violated(format!("I16: orders took {:?} while {AILING} had stopped", asked.elapsed()));
        }
        sleep(Duration::from_millis(200)).await;
    }
    // One that has all from the store: it has just been started.
    world.ended[0].store(true, Ordering::Relaxed);
    sleep(Duration::from_millis(100)).await;
    insist(world, Some(0), Ask::TakeOver).await;
    append(world, "orders", "beside").await;
    if let Err(error) = outsider.undo(&done).await {
        return world.failed(format!("{AILING} stays rolled back: {error}"));
    }
    world.store.lock().objects.is_meddled = false;
    // The lanes are spread over the nodes again by now.
    insist(world, None, Ask::Resume { topic: AILING.into() }).await;
    append(world, AILING, "resumed").await;
}

/// True if the checkpoint of some lane names rows up to `last` of a topic outside of the log.
fn is_parked(world: &World, last: i64) -> bool {
    let store = world.store.lock();
    let json = |path: &str| -> Option<Value> { serde_json::from_slice(&store.objects.get(path)?.body).ok() };
    (0..world.plan.settings.lanes).any(|lane| {
        let root = json(&format!("lanes/{lane}/root.json")).unwrap_or_default();
        let name = root["content"]["checkpoint"]["name"].as_str().unwrap_or_default();
        let checkpoint = json(&format!("lanes/{lane}/c/{name}")).unwrap_or_default();
        let mut parked = checkpoint["parked"].as_array().into_iter().flatten();
        parked.any(|parked| parked["to"]["0"].as_i64() > Some(last))
    })
}
