//! Keeping tables fast and as long as they should be: every topic of a lane is looked at in turn, what is not kept is dropped, its ranges are compacted as they come
//! due, its old snapshots expired.
//!
//! Looking costs no request: a topic is planned anew only once its files are more by as many as could make a job. One job a topic and turn, so that no topic waits
//! for all of another; one at a time in the whole process. Commits have a budget, a third of that which quiet topics' flushes share. What fails waits, longer each time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::table::TableState;
use schemas::limits::TABLE_LOOK_SECONDS;
use schemas::{ErrorKind, Seq, TopicDef, TopicId};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::error::{IngestError, Result};
use crate::sequence;
use crate::tail::TopicLoad;

/// Files that a table must have more than when nothing was due, for something to be due.
const FILES_MORE_MIN: u64 = 4;
/// How long a topic waits after its first failure; doubled by each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// How long it waits at most.
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// How long a topic waits after a job that came to nothing.
const OVERTAKEN_WAIT: Duration = Duration::from_secs(10);

/// How often a topic with a retention is looked at if nothing else has changed: events grow old by themselves.
const RETENTION_LOOK: Duration = Duration::from_secs(10);

/// What is remembered of a topic.
#[derive(Debug)]
struct Seen {
    /// Its files when nothing was due; `None`: look.
    files: Option<u64>,
    /// The metadata that was looked at last.
    metadata_uri: String,
    refreshed: Instant,
    retained: Option<Instant>,
    failures: u32,
    not_before: Instant,
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self { files: None, metadata_uri: String::new(), refreshed: now, retained: None, failures: 0, not_before: now }
    }

    /// Whether a plan could find something that the last one did not.
    fn may_be_due(&self, state: &TableState) -> bool {
        match (self.files, state.files_counted()) {
            (Some(then), Some(now)) => now < then || now >= then + FILES_MORE_MIN,
            _ => true,
        }
    }

    fn failed(&mut self, now: Instant) {
        self.not_before = now + (BACKOFF_MIN * 2_u32.saturating_pow(self.failures.min(16))).min(BACKOFF_MAX);
        self.failures += 1;
    }
}

/// Maintains until it is stopped. Whatever it is at, it can be broken off: what it leaves is litter.
pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    let interval = Duration::from_millis(parts.settings.maintenance_interval_ms.max(1));
    let maintaining = async {
        let mut seen: BTreeMap<TopicId, Seen> = BTreeMap::new();
        loop {
            sleep(interval).await;
            let loads = parts.tails.loads();
            let here: HashSet<TopicId> = loads.iter().map(|load| load.def.id).collect();
            seen.retain(|topic, _| here.contains(topic));
            for load in loads.into_iter().filter(|load| load.stopped.is_none()) {
                let now = Instant::now();
                let seen = seen.entry(load.def.id).or_insert_with(|| Seen::new(now));
                if now < seen.not_before {
                    continue;
                }
                match maintain(&parts, &load, seen).await {
                    Ok(()) => seen.failures = 0,
                    Err(error) => {
                        seen.failed(Instant::now());
                        tracing::warn!(topic = %load.def.name, %error, "its table is not compacted for now");
                    }
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = maintaining => {}
    }
}

async fn maintain(parts: &Parts, TopicLoad { def, .. }: &TopicLoad, seen: &mut Seen) -> Result<()> {
    let Ok(mut state) = parts.tables.current(def).await else { return Ok(()) };
    if seen.refreshed.elapsed() >= Duration::from_secs(TABLE_LOOK_SECONDS) {
        state = parts.tables.refresh(def).await?;
        seen.refreshed = Instant::now();
    }
    let is_known = seen.metadata_uri == state.metadata_uri();
    if !is_known || seen.retained.is_none_or(|at| at.elapsed() >= RETENTION_LOOK) {
        if let Some(below) = state.droppable(def, parts.env.now_micros()).await? {
            return if parts.pace.take_for_upkeep() { drop_below(parts, def, below).await } else { Ok(()) };
        }
        seen.retained = Some(Instant::now());
    }
    if is_known {
        return Ok(());
    }
    if state.is_expirable() && parts.pace.take_for_upkeep() {
        let expired = parts.tables.expire(def).await?;
        metrics::counter!("firn_expired_snapshots_total").increment(expired.snapshots);
        metrics::counter!("firn_expired_files_total").increment(expired.removed_files);
        return Ok(());
    }
    let settings = &parts.settings.compaction;
    if settings.enabled && seen.may_be_due(&state) {
        if !state.plan(def, settings, false).await?.is_empty() {
            if parts.pace.take_for_upkeep() {
                compact(parts, def, seen).await?;
            }
            return Ok(());
        }
        seen.files = state.files_counted();
    }
    seen.metadata_uri = state.metadata_uri().to_owned();
    Ok(())
}

/// The lane's record first, then the commit: what a condition finds is told by the order of records, whenever the files go.
async fn drop_below(parts: &Parts, def: &Arc<TopicDef>, below: Seq) -> Result<()> {
    let stopping = || IngestError::new(ErrorKind::Unavailable, "retention: the lane's task has stopped");
    let (answer, decided) = oneshot::channel();
    let record = sequence::Command::Retain { topic: def.id, below, answer };
    parts.asks.send(record).await.map_err(|_| stopping())?;
    decided.await.map_err(|_| stopping())??;
    let removed = parts.tables.drop_below(def, below).await?;
    metrics::counter!("firn_retention_rows_total").increment(removed.rows);
    metrics::counter!("firn_retention_bytes_total").increment(removed.bytes);
    Ok(())
}

async fn compact(parts: &Parts, def: &Arc<TopicDef>, seen: &mut Seen) -> Result<()> {
    match parts.tables.compact(def, &parts.settings.compaction, false).await? {
        Some(done) => {
            metrics::counter!("firn_compacted_jobs_total").increment(done.jobs);
            metrics::counter!("firn_compacted_rows_total").increment(done.rows);
            metrics::counter!("firn_compacted_bytes_total").increment(done.bytes_out);
        }
        // Others were faster, or the table is about to have another schema.
        None => seen.not_before = Instant::now() + OVERTAKEN_WAIT,
    }
    Ok(())
}
