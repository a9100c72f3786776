//! The write path as others see it: open a store, make topics, append, flush, stop.

use std::future::Future;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::view::Tail;
use catalog::{Env, Store};
use schemas::check::CheckCompiler;
use schemas::{Epoch, LaneId, Seq, TenantName, TopicDef, TopicName, TopicSpec};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::{IngestError, Result};
use crate::settings::Settings;

/// What an engine is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where everything lies.
    pub store: Store,
    /// The topics, which the engine fills.
    pub topics: Topics,
    /// The tables, which the engine fills.
    pub tables: Tables,
    /// Compiles `CHECK` expressions.
    pub checks: Arc<dyn CheckCompiler>,
    /// Time and randomness.
    pub env: Env,
    /// What the operator set.
    pub settings: Settings,
}

/// The write path of one process: owner of its lanes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {}

/// Whether this process still owns its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// It appends.
    Open {
        /// Which lane.
        lane: LaneId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// It has stopped for good, and says why (fenced by a newer epoch, an unknown slot, a corrupt log). Nothing is acknowledged any more.
    Stopped(IngestError),
}

impl PartialEq for IngestError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl Eq for IngestError {}

/// What becomes of a batch in which some rows are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// One bad row refuses the whole batch.
    #[default]
    RejectBatch,
    /// Good rows are appended, bad ones reported.
    RejectRow,
    /// Like `RejectRow`, and bad rows are appended to `{topic}_dead` in the same segment.
    DeadLetter,
}

/// How a producer wants its batches treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Bad rows.
    pub on_error: OnError,
    /// The producer's name, for dead letters; idempotence comes with it.
    pub producer: Option<String>,
}

/// Why one row was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Row of the batch as it was sent, from 0.
    pub row: u64,
    /// Which column or rule, what was expected, what was found.
    pub reason: String,
}

/// The answer to one batch. It is durable, and visible to every reader, when this is handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Seq of the first accepted row; `None` if no row was accepted.
    pub first_seq: Option<Seq>,
    /// Seq of the last accepted row.
    pub last_seq: Option<Seq>,
    /// Rows accepted.
    pub accepted: u64,
    /// Rows refused, ascending by row. Non-empty under `RejectBatch` means that nothing was accepted.
    pub refused: Vec<Refusal>,
}

impl Engine {
    /// Takes the lane over (P1), rebuilds its tail and state, and begins to append. Every earlier owner is fenced when this returns.
    ///
    /// Errors: those of the store; `Corrupt`, naming slot and place, if the log is damaged; `Fenced` if another process takes over meanwhile.
    pub async fn open(parts: Parts) -> Result<Self> {
        let _ = parts;
        unimplemented!()
    }

    /// Makes a topic: register, lane record, table, confirmation. The same definition again is answered with the topic that is there.
    ///
    /// Errors: `Invalid` naming field or option; `Conflict` if another definition has the name; those of an append.
    pub async fn create_topic(&self, tenant: &TenantName, spec: TopicSpec) -> Result<Arc<TopicDef>> {
        let _ = (tenant, spec);
        unimplemented!()
    }

    /// Drops a topic: its name is free, its events are gone for readers.
    ///
    /// Errors: `NotFound`; those of an append.
    pub async fn drop_topic(&self, tenant: &TenantName, name: &TopicName) -> Result<()> {
        let _ = (tenant, name);
        unimplemented!()
    }

    /// A producer's way in. One appender keeps the order of its batches.
    ///
    /// Errors: `NotFound` if there is no such topic; with `DeadLetter`, those of making `{topic}_dead`.
    pub async fn appender(&self, tenant: &TenantName, topic: &TopicName, options: AppendOptions) -> Result<Appender> {
        let _ = (tenant, topic, options);
        unimplemented!()
    }

    /// Flushes one topic, or all of them, and waits until everything that was decided at the call is in its table.
    pub async fn flush(&self, tenant: &TenantName, topic: Option<&TopicName>) -> Result<()> {
        let _ = (tenant, topic);
        unimplemented!()
    }

    /// The tails, for readers.
    pub fn tail(&self) -> Arc<dyn Tail> {
        unimplemented!()
    }

    /// Whether this process still owns its lane.
    pub fn ownership(&self) -> watch::Receiver<Ownership> {
        unimplemented!()
    }

    /// Stops taking appends, waits for those in flight, flushes what `deadline` allows, ends its tasks. What is not flushed is in the log.
    pub async fn shutdown(&self, deadline: std::time::Duration) {
        let _ = deadline;
        unimplemented!()
    }
}

/// A producer's way in. Batches submitted one after the other are sequenced in that order.
#[derive(Debug)]
pub struct Appender {}

impl Appender {
    /// Validates a batch (any columns in any order, matched to the topic's by name; `_headers` and `_kind` allowed) and hands it to the lane.
    ///
    /// Returns once the batch has its place in the queue, waiting while there is no room: that is the back-pressure. The future it returns
    /// resolves when the batch is durable and all before it are; dropping it does not take the batch back.
    /// Errors, nothing having happened: `Invalid` for a batch whose columns cannot be the topic's or that is over a limit; `Overloaded` past the
    /// deadline for room; `Fenced`, `Unavailable` if the lane has stopped. The future's errors: `Indeterminate` if the lane stopped with it in flight.
    pub async fn submit(
        &mut self,
        batch: RecordBatch,
    ) -> Result<impl Future<Output = Result<Receipt>> + Send + 'static + use<>> {
        let _ = batch;
        Ok(async { unimplemented!() })
    }
}
