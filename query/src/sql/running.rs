//! A query under way: its task, its deadline, and the stream that its caller pulls.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::{Stream, StreamExt, stream};
use schemas::ErrorKind;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::errors::from_datafusion;
use crate::error::{QueryError, Result};
use crate::stream::join_error;
use crate::table::plain_batch;

/// Batches made ahead of the caller.
pub(super) const AHEAD_BATCHES: usize = 2;

/// When a query must have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// `after` from now.
    pub(super) fn after(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }

    /// The answer of `work`, or `otherwise` if it takes too long.
    pub(super) async fn bound<T>(
        self,
        work: impl Future<Output = Result<T>>,
        otherwise: impl FnOnce(Self) -> QueryError,
    ) -> Result<T> {
        timeout_at(self.at, work).await.unwrap_or_else(|_| Err(otherwise(self)))
    }

    /// What a query that ran into it is told.
    pub(super) fn passed(self) -> QueryError {
        let message =
            format!("the query ran into its deadline of {:?}; ask for less, or raise deadline_ms", self.after);
        QueryError::new(ErrorKind::Unavailable, message)
    }

    /// What a query that never started is told.
    pub(super) fn passed_in_queue(self) -> QueryError {
        let message = format!("other queries took all places for {:?}; try again, or raise concurrent_max", self.after);
        QueryError::new(ErrorKind::Overloaded, message)
    }
}

/// Hands batches over as they come, in `schema`. Ends early, without complaint, when nobody wants them any more.
pub(super) async fn forward(
    mut batches: SendableRecordBatchStream,
    schema: SchemaRef,
    out: mpsc::Sender<RecordBatch>,
) -> Result<()> {
    while let Some(batch) = batches.next().await {
        let batch = batch.and_then(|batch| Ok(plain_batch(batch, &schema)?)).map_err(from_datafusion)?;
        if out.send(batch).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The batches that `task` makes, then its error if it has one. Dropping the stream ends the task at its next await.
///
/// The deadline is the task's own; it counts here too since a task that computes without a pause learns of it late.
pub(super) fn batches(
    received: mpsc::Receiver<RecordBatch>,
    task: AbortOnDropHandle<Result<()>>,
    deadline: Deadline,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    stream::unfold(Some((received, task)), move |state| async move {
        let (mut received, task) = state?;
        match timeout_at(deadline.at, received.recv()).await {
            Ok(Some(batch)) => Some((Ok(batch), Some((received, task)))),
            Ok(None) => match task.await.unwrap_or_else(|join| Err(join_error(join))) {
                Ok(()) => None,
                Err(error) => Some((Err(error), None)),
            },
            Err(_) => Some((Err(deadline.passed()), None)),
        }
    })
}
