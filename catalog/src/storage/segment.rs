//! Segments: objects created exactly once (P0, X4).

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use schemas::planted::{Bug, planted};

use super::Creation;
use super::pace::{Pace, Proof, unreadable};
use crate::env::Env;
use crate::error::Result;

/// Creates a segment, until the answer is definite.
pub(super) async fn create(
    objects: &dyn ObjectStore,
    env: &Env,
    limit: Duration,
    path: &Path,
    bytes: Bytes,
) -> Result<Creation> {
    let mut pace = Pace::new(env, limit, name(path));
    loop {
        let payload = PutPayload::from_bytes(bytes.clone());
        match pace.attempt(objects.put_opts(path, payload, PutMode::Create.into())).await? {
            Ok(_) => return Ok(Creation::Mine),
            // Perhaps by an earlier attempt of this very call, or by a retry inside the client: the bytes decide, not the status.
            Err(Proof::Taken) => match pace.look(get(objects, path)).await {
                Some(Some(found)) if found == bytes || planted(Bug::NoNonceCheck) => return Ok(Creation::Mine),
                Some(Some(found)) => return Ok(Creation::Others(found)),
                Some(None) if planted(Bug::ConflictAsExists) => return Ok(Creation::Mine),
                // A conflict between two puts of which neither may have come through, or no answer.
                Some(None) | None => {}
            },
            Err(_) => {}
        }
        pace.pause().await?;
    }
}

/// Reads a segment; `None` if the slot is empty.
pub(super) async fn read(objects: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    get(objects, path).await.map_err(|error| unreadable(&name(path), error))
}

async fn get(objects: &dyn ObjectStore, path: &Path) -> object_store::Result<Option<Bytes>> {
    match objects.get(path).await {
        Ok(found) => Ok(Some(found.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> String {
    format!("segment {path}")
}

#[cfg(test)]
mod tests;
