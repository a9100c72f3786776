//! One segment on its way to the store.

use std::time::Duration;

use bytes::Bytes;
use catalog::Store;
use catalog::storage::Creation;
use object_store::path::Path;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::IngestError;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What became of it.
#[derive(Debug)]
pub(super) enum Landing {
    /// The slot is mine.
    Mine,
    /// The slot is another's: this owner is fenced.
    Others,
    /// Nobody knows, or it is still empty: only a SEAL settles it.
    Unknown(IngestError),
}

/// Puts a segment; while the store refuses or gives no answer, again, until the deadline.
#[tracing::instrument(level = "debug", skip_all, fields(%path))]
pub(super) async fn put(store: Store, path: Path, bytes: Bytes, limit: Duration) -> Landing {
    let deadline = Instant::now() + limit;
    let mut pause = PAUSE_MIN;
    loop {
        let error = match timeout_at(deadline, store.create_segment(&path, bytes.clone())).await {
            Ok(Ok(Creation::Mine)) => return Landing::Mine,
            Ok(Ok(Creation::Others(_))) => return Landing::Others,
            Ok(Err(error)) => IngestError::from(error),
            Err(_) => return Landing::Unknown(no_answer(&path, limit)),
        };
        if !error.kind().is_retryable() || Instant::now() + pause >= deadline {
            return Landing::Unknown(error);
        }
        tracing::warn!(%path, %error, "a segment could not be put; trying again");
        sleep(pause).await;
        pause = PAUSE_MAX.min(2 * pause);
    }
}

fn no_answer(path: &Path, limit: Duration) -> IngestError {
    let message = format!("segment {path}: the store gave no answer within {} ms", limit.as_millis());
    IngestError::new(schemas::ErrorKind::Indeterminate, message)
}
