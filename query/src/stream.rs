//! From a task that makes batches to the stream that a caller pulls them from.

use std::fmt;
use std::future::Future;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream;
use schemas::ErrorKind;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::BatchStream;
use crate::error::{QueryError, Result};

/// Batches made ahead of the caller.
const AHEAD_BATCHES: usize = 2;

/// Where a task puts its batches. Cheap to clone; batches of one clone stay in order.
#[derive(Clone)]
pub(crate) struct Out {
    batches: mpsc::Sender<Result<RecordBatch>>,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").finish_non_exhaustive()
    }
}

impl Out {
    /// Waits for room; that is the back-pressure. Errors: `Unavailable` once the caller has gone.
    pub(crate) async fn send(&self, batch: RecordBatch) -> Result<()> {
        let gone = |_| QueryError::new(ErrorKind::Unavailable, "the reader has gone");
        self.batches.send(Ok(batch)).await.map_err(gone)
    }
}

/// Runs `work` in a task of its own. Its error ends the stream; dropping the stream ends the task at its next await.
pub(crate) fn produce<F>(schema: SchemaRef, work: impl FnOnce(Out) -> F) -> BatchStream
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (batches, received) = mpsc::channel(AHEAD_BATCHES);
    let work = work(Out { batches });
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    let batches = stream::unfold(Some((received, task)), |state| async move {
        let (mut received, task) = state?;
        if let Some(batch) = received.recv().await {
            return Some((batch, Some((received, task))));
        }
        // All senders are gone: the task has ended, and says how.
        match task.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), None)),
            Err(join) => Some((Err(join_error(join)), None)),
        }
    });
    BatchStream { schema, batches: Box::pin(batches) }
}

/// A helper task that did not end by itself.
pub(crate) fn join_error(error: tokio::task::JoinError) -> QueryError {
    QueryError::new(ErrorKind::Internal, format!("a reading task ended abnormally: {error}"))
}
