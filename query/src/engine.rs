//! The read path as others see it.

use std::pin::Pin;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::view::Tail;
use futures::Stream;
use schemas::TenantName;

use crate::error::Result;
use crate::lastseq::TableLastSeqs;
use crate::reader::{ReadStats, Reader};
use crate::replay::{self, Replay};
use crate::settings::Settings;
use crate::sql::{Sql, runtime};
use crate::subscribe::{self, Subscribe};

/// What a query engine is built from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where names are looked up.
    pub topics: Topics,
    /// The committed part.
    pub tables: Tables,
    /// The rest.
    pub tail: Arc<dyn Tail>,
    /// What answers conditions; what it knows of data files is shared.
    pub last_seqs: TableLastSeqs,
    /// What the operator set.
    pub settings: Settings,
}

/// Batches with their schema. Dropping it cancels the work behind it.
pub struct BatchStream {
    /// Schema of every batch.
    pub schema: SchemaRef,
    /// The batches; ends after the first error.
    pub batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
}

impl std::fmt::Debug for BatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The read path of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct QueryEngine {
    reader: Reader,
    sql: Arc<Sql>,
}

/// A planned statement, with the types of its parameters and its result; holds no data.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The text.
    pub sql: String,
    /// Result columns.
    pub schema: SchemaRef,
    /// One field a parameter (`$1`, `?`), in order; `Null` type where it could not be inferred.
    pub parameters: SchemaRef,
}

impl QueryEngine {
    /// Errors: `Invalid` if the spill folder cannot be used; `Unavailable` if there are no threads to be had.
    pub fn new(parts: Parts) -> Result<Self> {
        let runtime = runtime::build(&parts.settings, parts.tables.store().objects())?;
        let reader = Reader::new(parts, runtime);
        let sql = Arc::new(Sql::new(reader.clone())?);
        Ok(Self { reader, sql })
    }

    /// Plans a statement for a tenant: read-only SQL over its topics as `orders`, `default.orders` or `firn.default.orders`.
    ///
    /// Errors: `Invalid` with the position where the planner knows it; `NotFound` for an unknown topic or column, naming those that exist.
    pub async fn prepare(&self, tenant: &TenantName, sql: &str) -> Result<Statement> {
        self.sql.prepare(tenant, sql).await
    }

    /// Runs a statement over read views taken now. `parameters`: one row, a column a parameter in order; an empty batch if there are none.
    ///
    /// Errors: those of `prepare`; in the stream also `Overloaded` (memory and spill exhausted) and `Unavailable` (deadline, store away).
    pub async fn sql(&self, tenant: &TenantName, sql: &str, parameters: Option<RecordBatch>) -> Result<BatchStream> {
        self.sql.run(tenant, sql, parameters).await
    }

    /// One key in seq order, or a whole topic in seq order with bounded memory.
    pub async fn replay(&self, tenant: &TenantName, replay: Replay) -> Result<BatchStream> {
        replay::run(&self.reader, tenant, replay).await
    }

    /// History first, then live, without a gap or a repeat. Never ends by itself; ends with `NotFound` if its only topic is dropped.
    ///
    /// All topics that match must share one schema of the wanted columns if `columns` are given; without `columns`, a pattern whose first level is a
    /// wildcard yields the envelope only.
    pub async fn subscribe(&self, tenant: &TenantName, subscribe: Subscribe) -> Result<BatchStream> {
        subscribe::run(&self.reader, tenant, subscribe).await
    }

    /// What replays and subscriptions have read from data files since the engine was made.
    pub fn read_stats(&self) -> ReadStats {
        self.reader.stats.snapshot()
    }

    /// What the engine reads with, for this crate's tests.
    #[cfg(test)]
    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    #[cfg(test)]
    pub(crate) fn sql_side(&self) -> &Sql {
        &self.sql
    }
}
