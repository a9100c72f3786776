//! Threads of their own for SQL. A statement may compute for seconds without a pause, and those who append, replay and follow must not wait for
//! it; and it may be so deep that it needs more stack than a server's threads have.

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

use schemas::ErrorKind;

use crate::error::{QueryError, Result};

/// Stack of one thread, bytes; only what is touched takes memory.
const STACK_BYTES: usize = 16 << 20;

/// The threads, one a core. Those that still compute when this is dropped end by themselves.
#[derive(Debug)]
pub(super) struct Workers {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Workers {
    /// Errors: `Unavailable` if the system gives no more threads.
    pub(super) fn new() -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().thread_name("query").thread_stack_size(STACK_BYTES).enable_all().build();
        let refused = |error| QueryError::new(ErrorKind::Unavailable, format!("no threads for queries: {error}"));
        Ok(Self { runtime: Some(runtime.map_err(refused)?) })
    }

    /// Runs `work` until it ends or the handle is dropped.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        let runtime = self.runtime.as_ref().expect("taken only by drop");
        AbortOnDropHandle::new(runtime.spawn(work))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
