//! Removing what no snapshot of a topic's table needs any more (P7): every topic in turn, once in a slow interval, and only those whose tables have changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use schemas::TopicId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::tail::TopicLoad;

/// Sweeps until it is stopped. Whatever it is at, it can be broken off: a sweep removes only what nothing names.
pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let interval = Duration::from_millis(parts.settings.sweep_interval_ms.max(1));
    let sweeping = async {
        // What each table was when its last sweep had ended.
        let mut swept: HashMap<TopicId, String> = HashMap::new();
        loop {
            sleep(interval).await;
            let loads = parts.tails.loads();
            swept.retain(|topic, _| loads.iter().any(|load| load.def.id == *topic));
            for load in loads.into_iter().filter(|load| load.stopped.is_none()) {
                sweep(&parts, &load, &mut swept).await;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = sweeping => {}
    }
}

async fn sweep(parts: &Parts, TopicLoad { def, .. }: &TopicLoad, swept: &mut HashMap<TopicId, String>) {
    let Ok(before) = parts.tables.current(def).await else { return };
    if swept.get(&def.id).is_some_and(|uri| uri == before.metadata_uri()) {
        return;
    }
    match parts.tables.sweep(def).await {
        Ok(done) => metrics::counter!("firn_swept_files_total").increment(done.removed_files),
        Err(error) => tracing::warn!(topic = %def.name, %error, "its table's litter stays for now"),
    }
    if let Ok(after) = parts.tables.current(def).await {
        swept.insert(def.id, after.metadata_uri().to_owned());
    }
}
