//! Writing a checkpoint, moving the floor, removing what lies below it (P5): runs beside the lane's task, one at a time.

use std::collections::{BTreeSet, HashMap};
use std::future::ready;

use catalog::table::Tables;
use catalog::{Env, Store};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use schemas::{Epoch, Slot, TopicId, Watermark};

use super::floor::{Indexed, Reach, passable};
use super::root::{CheckpointRef, Root, RootRegister};
use super::state::LaneState;
use super::{Position, checkpoint, checkpoint_path, segment_path};
use crate::error::Result;

/// Tables loaded at once.
const LOADS_MAX: usize = 8;
/// Length of a segment that holds a SEAL and nothing else: its header and one empty frame. No segment with events is as short.
pub(crate) const SEAL_BYTES: u64 = 176;

/// What a trim needs: a frozen picture of the lane at a decided place.
#[derive(Debug)]
pub(crate) struct Trim {
    pub(crate) store: Store,
    pub(crate) env: Env,
    pub(crate) tables: Tables,
    /// Comes back with the answer: nobody else changes the root meanwhile.
    pub(crate) register: RootRegister,
    /// The decided state `at` that place.
    pub(crate) state: LaneState,
    pub(crate) at: Position,
    /// Every decided segment from the floor up to `at`.
    pub(crate) index: Vec<Indexed>,
}

impl Trim {
    /// Returns the register and how many segments of the index the floor passed. Errors: `Fenced` among those of the store.
    pub(crate) async fn run(mut self) -> (RootRegister, Result<usize>) {
        let passed = self.write().await;
        (self.register, passed)
    }

    async fn write(&mut self) -> Result<usize> {
        // Whatever became of an earlier change, from here on the register is as the store has it; or another's.
        self.register.refresh().await?;
        let lane = self.register.root().lane;
        let named = checkpoint::write(&self.store, &self.env, lane, self.at, &self.state).await?;
        let passed = self.passed().await;
        let floor = self.index.get(passed).map_or(self.at, |first_needed| first_needed.at);
        let mut superseded: Option<CheckpointRef> = None;
        self.register
            .change(|root| {
                // It never falls, not even if a table that was loaded the last time cannot be loaded now.
                if floor.is_after(root.floor.epoch, root.floor.slot) {
                    root.floor = floor;
                }
                superseded = root.checkpoint.replace(named);
                root.shed_closed();
            })
            .await?;
        let segments = self.index[..passed].iter().filter(|segment| !segment.is_seal);
        let mut garbage: Vec<_> =
            segments.map(|segment| segment_path(lane, segment.at.epoch, segment.at.slot)).collect();
        garbage.extend(superseded.map(|old| checkpoint_path(lane, &old.name)));
        tracing::debug!(%lane, %floor, at = %self.at, passed, "checkpoint written");
        remove(&self.store, garbage).await;
        Ok(passed)
    }

    /// What the known watermarks let hope for, confirmed by what the tables themselves say now.
    async fn passed(&self) -> usize {
        let hoped = passable(&self.index, &self.at, |topic| self.hint(topic));
        let named: BTreeSet<TopicId> =
            self.index[..hoped].iter().flat_map(|segment| &segment.topics).map(|end| end.topic).collect();
        let loads = stream::iter(named).map(|topic| self.load(topic)).buffer_unordered(LOADS_MAX);
        let fresh: HashMap<TopicId, Watermark> = loads.filter_map(ready).collect().await;
        passable(&self.index[..hoped], &self.at, |topic| match (self.state.topics.get(topic), fresh.get(topic)) {
            (None, _) => Reach::Dropped,
            (Some(_), Some(watermark)) => Reach::Table(*watermark),
            // It could not be loaded: then it holds the floor.
            (Some(_), None) => Reach::Table(Watermark::START),
        })
    }

    fn hint(&self, topic: &TopicId) -> Reach {
        self.state.topics.get(topic).map_or(Reach::Dropped, |topic| Reach::Table(topic.watermark))
    }

    async fn load(&self, topic: TopicId) -> Option<(TopicId, Watermark)> {
        let def = self.state.topics.get(&topic)?.shape().def();
        match self.tables.load(def).await {
            Ok(table) => Some((topic, table.watermark())),
            Err(error) => {
                tracing::warn!(topic = %def.name, %error, "its table cannot be loaded, so its events stay in the log");
                None
            }
        }
    }
}

/// Removes what a crash left behind: segments below the floor, and checkpoints of earlier epochs that the root does not name.
///
/// Safe at any time and by anyone, however late: the floor never falls, and a later owner's checkpoints bear its own epoch.
pub(crate) async fn sweep(store: &Store, root: &Root) {
    let lane = root.lane;
    let is_garbage = |path: &Path, bytes: u64| {
        let parts: Vec<_> = path.parts().collect();
        match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
            ["lanes", _, "w", epoch, slot] => match (epoch.parse(), slot.parse()) {
                (Ok(epoch), Ok(slot)) => bytes > SEAL_BYTES && root.floor.is_after(Epoch(epoch), Slot(slot)),
                _ => false,
            },
            ["lanes", _, "c", name] => {
                let epoch: Option<u64> = name.split_once('-').and_then(|(epoch, _)| epoch.parse().ok());
                let is_named = root.checkpoint.as_ref().is_some_and(|named| named.name == name);
                !is_named && epoch.is_some_and(|epoch| epoch < root.epoch.0)
            }
            _ => false,
        }
    };
    let prefix = Path::from(format!("lanes/{lane}"));
    let listed = store.objects().list(Some(&prefix));
    let found =
        listed.try_filter_map(|object| ready(Ok(is_garbage(&object.location, object.size).then_some(object.location))));
    match found.try_collect::<Vec<_>>().await {
        Ok(garbage) => remove(store, garbage).await,
        Err(error) => tracing::warn!(%lane, %error, "what lies below the floor cannot be listed; it stays for now"),
    }
}

/// What cannot be removed now is found by a later [`sweep`].
async fn remove(store: &Store, garbage: Vec<Path>) {
    let paths = stream::iter(garbage).map(Ok);
    let mut removed = store.objects().delete_stream(Box::pin(paths));
    while let Some(answer) = removed.next().await {
        match answer {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%error, "an object below the floor cannot be removed; it stays for now"),
        }
    }
}
