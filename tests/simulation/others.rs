//! Another engine at work on the tables, which knows Iceberg and nothing of Firn: it rewrites manifests and expires snapshots, as it may. It
//! reads and writes metadata as the JSON that it is. What it may not, see [`crate::outsider`].

use std::sync::Arc;
use std::time::Duration;

use catalog::storage::{StoreConfig, Swap};
use catalog::{Env, Store};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::faults::Fault;
use crate::network::Simulated;
use crate::server::{BUCKET, HOST};
use crate::world::World;
use crate::{AILING, TOPICS, node};

/// The stream of randomness of the other engine.
const STREAM: usize = 97;
/// Longest it tries a commit, milliseconds.
const DEADLINE_MS: u64 = 5_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is done to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// A snapshot of the same files, under a manifest list of its own.
    Rewrite,
    /// No snapshot but the current one is left.
    Expire,
}

/// The other engine.
#[derive(Debug)]
pub(crate) struct Other {
    world: Arc<World>,
    store: Store,
    env: Env,
}

impl Other {
    /// Opens the store, however long it takes.
    pub(crate) async fn open(world: &Arc<World>) -> Self {
        let options = [("aws_endpoint", format!("http://{HOST}")), ("aws_skip_signature", "true".into())];
        let options = options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let config = StoreConfig { url: format!("s3://{BUCKET}"), options, deadline_ms: DEADLINE_MS };
        let env = world.env(STREAM);
        loop {
            match Store::open_over(&config, env.clone(), Arc::new(Simulated)).await {
                Ok(store) => return Self { world: Arc::clone(world), store, env },
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// Does what the nemesis orders, until all faults have ended.
    pub(crate) async fn work(&self) {
        while !self.world.is_healed() {
            let order = self.world.orders.lock().pop();
            if let Some(fault) = order {
                let edit = if fault == Fault::Expiry { Edit::Expire } else { Edit::Rewrite };
                let topic = self.world.with_random(STREAM, |random| TOPICS[random.random_range(0..TOPICS.len())]);
                // What is as it should not be must be there still when it is put right.
                if topic == AILING && self.world.store.lock().objects.is_meddled {
                    continue;
                }
                let done = self.commit(topic, edit).await;
                self.world.note(format_args!("the other engine: {edit:?} of {topic}: {done:?}"));
                if done.is_ok_and(|before| before.is_some()) {
                    self.world.store.lock().count(fault);
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// One commit. Returns the snapshot that was current before; `None` if there was nothing to do or another was faster.
    pub(crate) async fn commit(&self, topic: &str, edit: Edit) -> Result<Option<i64>, Failure> {
        let (tenant, topic) = node::names(topic)?;
        let path = Path::from(format!("tenants/{tenant}/tables/{topic}.json"));
        let Some(revision) = self.store.read_register(&path).await? else { return Ok(None) };
        let mut pointer: Value = serde_json::from_slice(&revision.content)?;
        let Some(uri) = pointer["metadata"].as_str() else { return Ok(None) };
        let mut metadata: Value = serde_json::from_slice(&self.read(uri).await?)?;
        let Some(before) = metadata["current-snapshot-id"].as_i64().filter(|id| *id > 0) else { return Ok(None) };
        let is_new = match edit {
            Edit::Rewrite => self.rewrite(&mut metadata, before).await?,
            Edit::Expire => expire(&mut metadata, before),
        };
        if !is_new {
            return Ok(None);
        }
        let uri = format!("{}/metadata/theirs-{}.metadata.json", text(&metadata["location"]), self.env.uuid());
        self.write(&uri, serde_json::to_vec(&metadata)?).await?;
        pointer["version"] = json!(pointer["version"].as_i64().unwrap_or_default() + 1);
        pointer["nonce"] = json!(self.env.uuid().to_string());
        pointer["metadata"] = json!(uri);
        let swap = self.store.swap_register(&path, Some(&revision.tag), serde_json::to_vec(&pointer)?.into()).await?;
        Ok(matches!(swap, Swap::Won(_)).then_some(before))
    }

    /// The same files in a snapshot of operation `replace`, which says nothing of Firn.
    async fn rewrite(&self, metadata: &mut Value, before: i64) -> Result<bool, Failure> {
        let mut next = snapshot(metadata, before).clone();
        let list = format!("{}/metadata/theirs-{}.avro", text(&metadata["location"]), self.env.uuid());
        let manifests = self.read(text(&next["manifest-list"])).await?;
        self.write(&list, manifests.to_vec()).await?;
        let id = self.world.with_random(STREAM, |random| random.random_range(1..i64::MAX));
        let sequence = metadata["last-sequence-number"].as_i64().unwrap_or_default() + 1;
        let totals = next["summary"].as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("total-"));
        let mut summary: serde_json::Map<_, _> = totals.map(|(name, total)| (name.clone(), total.clone())).collect();
        summary.insert("operation".into(), json!("replace"));
        next["parent-snapshot-id"] = json!(before);
        next["snapshot-id"] = json!(id);
        next["sequence-number"] = json!(sequence);
        next["timestamp-ms"] = metadata["last-updated-ms"].clone();
        next["manifest-list"] = json!(list);
        next["summary"] = Value::Object(summary);
        metadata["last-sequence-number"] = json!(sequence);
        push(&mut metadata["snapshots"], next);
        Ok(show(metadata, id))
    }

    async fn read(&self, uri: &str) -> Result<bytes::Bytes, Failure> {
        Ok(self.store.objects().get(&self.store.path(uri)?).await?.bytes().await?)
    }

    async fn write(&self, uri: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        self.store.objects().put(&self.store.path(uri)?, bytes.into()).await?;
        Ok(())
    }
}

fn expire(metadata: &mut Value, current: i64) -> bool {
    let mut has_changed = false;
    for list in ["snapshots", "snapshot-log"] {
        if let Some(entries) = metadata[list].as_array_mut() {
            let before = entries.len();
            entries.retain(|entry| entry["snapshot-id"].as_i64() == Some(current));
            has_changed |= list == "snapshots" && entries.len() < before;
        }
    }
    has_changed
}

/// Makes a snapshot the current one.
fn show(metadata: &mut Value, id: i64) -> bool {
    let entry = json!({"snapshot-id": id, "timestamp-ms": metadata["last-updated-ms"]});
    push(&mut metadata["snapshot-log"], entry);
    metadata["current-snapshot-id"] = json!(id);
    metadata["refs"]["main"]["snapshot-id"] = json!(id);
    true
}

fn snapshot(metadata: &Value, id: i64) -> &Value {
    let all = metadata["snapshots"].as_array().into_iter().flatten();
    all.into_iter().find(|snapshot| snapshot["snapshot-id"].as_i64() == Some(id)).unwrap_or(&Value::Null)
}

fn push(list: &mut Value, entry: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(entry),
        None => *list = json!([entry]),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
