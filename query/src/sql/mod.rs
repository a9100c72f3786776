//! SQL: read-only statements over a tenant's topics.
//!
//! A statement passes `guard` (size, depth, nothing but reading), has its names looked up in `namespace`, is planned by `planner` in a `session`
//! of its own over views taken once for the whole statement, and runs as a task of the `workers` until its deadline.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use schemas::TenantName;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::engine::{BatchStream, Statement};
use crate::error::Result;
use crate::reader::Reader;
use crate::stream::join_error;
use crate::table::plain;
use planner::Planner;
use running::{AHEAD_BATCHES, Deadline};
use workers::Workers;

pub(crate) mod errors;
pub(crate) mod guard;
pub(crate) mod runtime;
pub(crate) mod session;
pub(crate) mod stack;

mod dialect;
mod memory;
mod namespace;
mod parameters;
mod planner;
mod running;
mod travel;
mod workers;

/// The SQL side of the read path.
#[derive(Debug)]
pub(crate) struct Sql {
    planner: Arc<Planner>,
    workers: Workers,
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Sql {
    /// Plans with DataFusion's functions, runs with the reader's memory and spill folder. Errors: those of [`Workers::new`].
    pub(crate) fn new(reader: Reader) -> Result<Self> {
        let places = Arc::new(Semaphore::new(reader.settings.concurrent_max.clamp(1, Semaphore::MAX_PERMITS)));
        let deadline = reader.settings.deadline();
        Ok(Self { planner: Arc::new(Planner::new(reader)), workers: Workers::new()?, places, deadline })
    }

    /// See [`crate::QueryEngine::prepare`].
    pub(crate) async fn prepare(&self, tenant: &TenantName, sql: &str) -> Result<Statement> {
        let (planner, tenant, sql) = (Arc::clone(&self.planner), tenant.clone(), sql.to_owned());
        let described = self.workers.spawn(async move { planner.describe(&tenant, sql).await });
        described.await.unwrap_or_else(|join| Err(join_error(join)))
    }

    /// See [`crate::QueryEngine::sql`].
    pub(crate) async fn run(&self, tenant: &TenantName, sql: &str, row: Option<RecordBatch>) -> Result<BatchStream> {
        let deadline = Deadline::after(self.deadline);
        let place = async { Ok(Arc::clone(&self.places).acquire_owned().await.expect("never closed")) };
        let place = deadline.bound(place, Deadline::passed_in_queue).await?;

        let (planner, tenant, sql) = (Arc::clone(&self.planner), tenant.clone(), sql.to_owned());
        let (started, schema) = oneshot::channel();
        let (out, received) = mpsc::channel(AHEAD_BATCHES);
        let work = async move {
            let batches = planner.start(&tenant, &sql, row.as_ref()).await?;
            let schema = plain(&batches.schema());
            // If nobody listens any more, the next send will tell.
            let _ = started.send(Arc::clone(&schema));
            running::forward(batches, schema, out).await
        };
        let task = self.workers.spawn(async move {
            let done = deadline.bound(work, Deadline::passed).await;
            drop(place);
            done
        });
        let schema = async { Ok(schema.await.ok()) };
        match deadline.bound(schema, Deadline::passed).await? {
            Some(schema) => Ok(BatchStream { schema, batches: Box::pin(running::batches(received, task, deadline)) }),
            None => match task.await.unwrap_or_else(|join| Err(join_error(join))) {
                Err(error) => Err(error),
                Ok(()) => unreachable!("a task that succeeds has told its schema"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
