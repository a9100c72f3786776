//! A query under way: its stream, its place among the concurrent ones, its deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::{FutureExt, Stream, StreamExt};
use schemas::ErrorKind;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use super::errors::from_datafusion;
use crate::error::{QueryError, Result};

/// When a query must have ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// `after` from now.
    pub(crate) fn after(after: Duration) -> Self {
        Self { at: Instant::now() + after, after }
    }

    /// The answer of `work`, or `otherwise` if it takes too long.
    pub(crate) async fn bound<T>(
        self,
        work: impl Future<Output = Result<T>>,
        otherwise: impl FnOnce(Self) -> QueryError,
    ) -> Result<T> {
        tokio::time::timeout_at(self.at, work).await.unwrap_or_else(|_| Err(otherwise(self)))
    }

    /// What a query that ran into it is told.
    pub(crate) fn passed(self) -> QueryError {
        let message =
            format!("the query ran into its deadline of {:?}; ask for less, or raise deadline_ms", self.after);
        QueryError::new(ErrorKind::Unavailable, message)
    }

    /// What a query that never started is told.
    pub(crate) fn passed_in_queue(self) -> QueryError {
        let message = format!("other queries took all places for {:?}; try again, or raise concurrent_max", self.after);
        QueryError::new(ErrorKind::Overloaded, message)
    }
}

/// The batches of a query. Its tasks, memory, spill files and place are given back when it ends, fails or is dropped, whichever comes first.
#[derive(Debug)]
pub(crate) struct Running {
    under_way: Option<UnderWay>,
    deadline: Deadline,
    timer: Pin<Box<Sleep>>,
}

struct UnderWay {
    batches: SendableRecordBatchStream,
    _place: OwnedSemaphorePermit,
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").finish_non_exhaustive()
    }
}

impl Running {
    pub(crate) fn new(batches: SendableRecordBatchStream, place: OwnedSemaphorePermit, deadline: Deadline) -> Self {
        let under_way = Some(UnderWay { batches, _place: place });
        Self { under_way, deadline, timer: Box::pin(sleep_until(deadline.at)) }
    }
}

impl Stream for Running {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(under_way) = &mut this.under_way else { return Poll::Ready(None) };
        if this.timer.poll_unpin(context).is_ready() {
            this.under_way = None;
            return Poll::Ready(Some(Err(this.deadline.passed())));
        }
        let next = std::task::ready!(under_way.batches.poll_next_unpin(context));
        if !matches!(next, Some(Ok(_))) {
            this.under_way = None;
        }
        Poll::Ready(next.map(|batch| batch.map_err(from_datafusion)))
    }
}
