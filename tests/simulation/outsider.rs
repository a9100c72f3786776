//! Others who may write to the store, and do things to a topic's table that Firn would not: all that they touch is Iceberg's metadata, and the register
//! that names it.

use std::sync::Arc;

use catalog::storage::Swap;
use catalog::{Env, Store};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};

use crate::node::{Failure, open_store};
use crate::world::World;

/// The nonces of their revisions begin so.
pub(crate) const MARK: &str = "outsider";

/// What they do to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meddling {
    /// `main` is moved back to an older snapshot.
    RolledBack,
    /// It is restored from a copy, which has another uuid.
    Copied,
}

/// What was done, to be undone.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    register: Path,
    original: Value,
    mine: String,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Outsider {
    store: Store,
    env: Env,
}

impl Outsider {
    /// With a stream of randomness of its own.
    pub(crate) async fn open(world: &Arc<World>, stream: usize) -> Result<Self, Failure> {
        let env = world.env(stream);
        Ok(Self { store: open_store(&env).await?, env })
    }

    /// Does it. `None` if there is nothing to do it to. It may have been done even if nobody can tell: it is to be undone all the same.
    pub(crate) async fn meddle(&self, topic: &str, how: Meddling) -> Result<Option<Done>, Failure> {
        let register = Path::from(format!("tenants/default/tables/{topic}.json"));
        let Some(revision) = self.store.read_register(&register).await? else { return Ok(None) };
        let original: Value = serde_json::from_slice(&revision.content)?;
        let Some(uri) = original["metadata"].as_str() else { return Ok(None) };
        let bytes = self.store.objects().get(&self.store.path(uri)?).await?.bytes().await?;
        let mut metadata: Value = serde_json::from_slice(&bytes)?;
        match how {
            Meddling::Copied => metadata["table-uuid"] = json!(self.env.uuid().to_string()),
            Meddling::RolledBack => {
                let Some(earlier) = earlier(&metadata) else { return Ok(None) };
                metadata["refs"]["main"]["snapshot-id"] = earlier.clone();
                metadata["current-snapshot-id"] = earlier;
            }
        }
        let folder = uri.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mine = format!("{folder}/{:05}-{}.metadata.json", number(&original) + 1, self.env.uuid());
        let document = PutPayload::from(serde_json::to_vec(&metadata)?);
        self.store.objects().put(&self.store.path(&mine)?, document).await?;
        let next = self.next(&original, &original, mine.as_str());
        match self.store.swap_register(&register, Some(&revision.tag), next).await {
            Ok(Swap::Lost) => Ok(None),
            Ok(Swap::Won(_)) | Err(_) => Ok(Some(Done { register, original, mine })),
        }
    }

    /// Undoes it. Afterwards it cannot happen any more, if it had not yet.
    pub(crate) async fn undo(&self, done: &Done) -> Result<(), Failure> {
        let Some(revision) = self.store.read_register(&done.register).await? else { return Ok(()) };
        let current: Value = serde_json::from_slice(&revision.content)?;
        let is_mine = current["metadata"] == done.mine.as_str();
        if !is_mine && current["nonce"] != done.original["nonce"] {
            return Ok(());
        }
        let metadata = done.original["metadata"].as_str().unwrap_or_default();
        match self
            .store
            .swap_register(&done.register, Some(&revision.tag), self.next(&done.original, &current, metadata))
            .await?
        {
            Swap::Won(_) => Ok(()),
            Swap::Lost => Err("the register changed meanwhile".into()),
        }
    }

    /// The register's document after `current`.
    fn next(&self, original: &Value, current: &Value, metadata: &str) -> bytes::Bytes {
        let mut next = original.clone();
        next["version"] = json!(number(current) + 1);
        next["metadata"] = json!(metadata);
        next["nonce"] = json!(format!("{MARK} {}", self.env.uuid()));
        next.to_string().into()
    }
}

/// The newest ancestor of `main` that has fewer events: a step back over a compaction takes nothing away.
fn earlier(metadata: &Value) -> Option<Value> {
    let snapshots = || metadata["snapshots"].as_array().into_iter().flatten();
    let snapshot = |id: &Value| snapshots().find(|snapshot| snapshot["snapshot-id"] == *id);
    let ancestors =
        std::iter::successors(snapshot(&metadata["current-snapshot-id"]), |at| snapshot(&at["parent-snapshot-id"]));
    let mut flushed = ancestors.filter(|at| at["summary"]["firn.watermark"].is_string());
    let held = &flushed.next()?["summary"]["firn.watermark"];
    flushed.find(|at| at["summary"]["firn.watermark"] != *held).map(|at| at["snapshot-id"].clone())
}

fn number(pointer: &Value) -> u64 {
    pointer["version"].as_u64().unwrap_or_default()
}
