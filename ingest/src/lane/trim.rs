//! Writing a checkpoint, moving the floor, removing what lies below it (P5): runs beside the lane's task, one at a time.
//!
//! The order is the point: rows are parked before the checkpoint that names them, tables are loaded after it was written, the root is swapped last, and only
//! what the new root no longer needs is removed.

use std::collections::{BTreeSet, HashMap};
use std::future::ready;

use catalog::table::Tables;
use catalog::{Env, Store};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use schemas::planted::{Bug, planted};
use schemas::{Epoch, LaneId, Slot, TopicId, Watermark};
use tokio::time::Instant;

use super::floor::{Indexed, Reach, passable};
use super::parked::{Parked, ToPark, parked_path};
use super::root::{CheckpointRef, Root, RootRegister};
use super::state::LaneState;
use super::{Position, checkpoint, checkpoint_path, parked, segment_path};
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
    /// Topics that stopped, with nothing in flight: their rows are to leave the log.
    pub(crate) park: Vec<ToPark>,
    /// Names of the parked objects that the checkpoint in force names.
    pub(crate) parked_before: BTreeSet<String>,
}

/// What a trim has done.
#[derive(Debug)]
pub(crate) struct Trimmed {
    /// How many bytes the checkpoint has.
    pub(crate) checkpoint_bytes: usize,
    /// Segments of the index that the floor passed.
    pub(crate) passed: usize,
    /// Topics that were parked.
    pub(crate) parked: Vec<(TopicId, Parked)>,
    /// Names of the parked objects that the new checkpoint names.
    pub(crate) named: BTreeSet<String>,
    /// Topics whose rows the floor could not pass.
    pub(crate) holders: BTreeSet<TopicId>,
}

impl Trim {
    /// Returns the register and what was done. Errors: `Fenced` among those of the store.
    #[tracing::instrument(level = "debug", skip_all, fields(at = %self.at))]
    pub(crate) async fn run(mut self) -> (RootRegister, Result<Trimmed>) {
        let trimmed = self.write().await;
        (self.register, trimmed)
    }

    async fn write(&mut self) -> Result<Trimmed> {
        // Whatever became of an earlier change, from here on the register is as the store has it; or another's.
        self.register.refresh().await?;
        let lane = self.register.root().lane;
        let parked = self.park(lane).await;
        let begun = Instant::now();
        let written = checkpoint::write(&self.store, &self.env, lane, self.at, &self.state).await?;
        let (checkpoint, checkpoint_bytes) = written;
        metrics::histogram!("firn_checkpoint_seconds").record(begun.elapsed().as_secs_f64());
        if planted(Bug::FloorFromListing) {
            let listed = self.listed().await;
            self.state.topics.retain(|topic, _| listed.contains(topic));
        }
        let (passed, holders) = self.passed().await;
        let floor = self.index.get(passed).map_or(self.at, |first_needed| first_needed.at);
        let named: BTreeSet<String> = self.parked_objects().collect();
        let mut superseded: Option<CheckpointRef> = None;
        self.register
            .change(|root| {
                // It never falls, not even if a table that was loaded the last time cannot be loaded now.
                if floor.is_after(root.floor.epoch, root.floor.slot) {
                    root.floor = floor;
                }
                superseded = root.checkpoint.replace(checkpoint);
                root.shed_closed();
            })
            .await?;
        let segments = self.index[..passed].iter().filter(|segment| !segment.is_seal || planted(Bug::SealCollected));
        let mut garbage: Vec<_> =
            segments.map(|segment| segment_path(lane, segment.at.epoch, segment.at.slot)).collect();
        garbage.extend(superseded.map(|old| checkpoint_path(lane, &old.name)));
        garbage.extend(self.parked_before.difference(&named).map(|name| parked_path(lane, name)));
        tracing::debug!(%lane, %floor, at = %self.at, passed, parked = parked.len(), "checkpoint written");
        remove(&self.store, garbage).await;
        Ok(Trimmed { checkpoint_bytes, passed, parked, named, holders })
    }

    /// Copies the rows of stopped topics out of the log, and notes it in the state that is about to be written. One that cannot be copied now waits for the
    /// next trim; it holds the floor until then.
    async fn park(&mut self, lane: LaneId) -> Vec<(TopicId, Parked)> {
        let (epoch, mut done) = (self.register.root().epoch, Vec::new());
        for park in std::mem::take(&mut self.park) {
            let topic = park.topic;
            match parked::write(&self.store, &self.env, lane, epoch, park).await {
                Ok(parked) => {
                    tracing::warn!(%topic, from = %parked.from, to = %parked.to, reason = %parked.reason, "topic parked");
                    self.state.parked.insert(topic, parked.clone());
                    done.push((topic, parked));
                }
                Err(error) => tracing::warn!(%topic, %error, "a stopped topic's rows stay in the log for now"),
            }
        }
        done
    }

    fn parked_objects(&self) -> impl Iterator<Item = String> {
        self.state.parked.values().flat_map(|parked| &parked.objects).map(|object| object.name.clone())
    }

    /// How many segments the floor passes, and the topics that hold it there: what the known watermarks let hope for, confirmed by what the tables
    /// themselves say now.
    async fn passed(&self) -> (usize, BTreeSet<TopicId>) {
        let hoped = passable(&self.index, &self.at, |topic| self.hint(topic));
        if planted(Bug::FloorBeforeReload) {
            return (hoped, BTreeSet::new());
        }
        let named: BTreeSet<TopicId> =
            self.index[..hoped].iter().flat_map(|segment| segment.topics.iter()).map(|end| end.topic).collect();
        let loads = stream::iter(named).map(|topic| self.load(topic)).buffer_unordered(LOADS_MAX);
        let fresh: HashMap<TopicId, Watermark> = loads.filter_map(ready).collect().await;
        // A table that could not be loaded holds the floor.
        let confirmed = |topic: &TopicId| self.reach(topic, fresh.get(topic).copied().unwrap_or(Watermark::START));
        let passed = passable(&self.index[..hoped], &self.at, confirmed);
        let reach = |topic: &TopicId| if passed < hoped { confirmed(topic) } else { self.hint(topic) };
        let needed = self.index.get(passed).filter(|segment| self.at.is_after(segment.at.epoch, segment.at.slot));
        let ends = needed.iter().flat_map(|segment| segment.topics.iter());
        let holders = ends.filter(|end| !reach(&end.topic).covers(end.last_seq)).map(|end| end.topic);
        (passed, holders.collect())
    }

    /// The topics that have files, as a listing shows them. Only a planted defect asks: a listing may be stale.
    async fn listed(&self) -> BTreeSet<TopicId> {
        let objects = self.store.objects().list(Some(&Path::from("warehouse")));
        let topic = |path: &Path| path.parts().nth(2).and_then(|id| id.as_ref().parse().ok()).map(TopicId);
        objects.filter_map(|object| ready(object.ok().and_then(|object| topic(&object.location)))).collect().await
    }

    fn hint(&self, topic: &TopicId) -> Reach {
        self.reach(topic, self.state.topics.get(topic).map_or(Watermark::START, |topic| topic.watermark))
    }

    /// How far a topic's rows are safe outside of the log, if its table ends before `watermark`.
    fn reach(&self, topic: &TopicId, watermark: Watermark) -> Reach {
        match (self.state.topics.contains_key(topic), self.state.parked.get(topic)) {
            (false, _) => Reach::Dropped,
            (true, Some(parked)) if parked.to > watermark.0 => Reach::Parked(parked.to),
            (true, _) => Reach::Table(watermark),
        }
    }

    async fn load(&self, topic: TopicId) -> Option<(TopicId, Watermark)> {
        let def = self.state.topics.get(&topic)?.shape().def();
        match self.tables.load_checked(def).await {
            Ok(table) => Some((topic, table.watermark())),
            Err(error) => {
                tracing::warn!(topic = %def.name, %error, "its table cannot be loaded, so its events stay in the log");
                None
            }
        }
    }
}

/// Removes what a crash left behind: segments below the floor, and checkpoints and parked objects of earlier epochs that the root, or its checkpoint
/// (`parked`), does not name.
///
/// Safe at any time and by anyone, however late: the floor never falls, and what a later owner writes bears its own epoch.
pub(crate) async fn sweep(store: &Store, root: &Root, parked: &BTreeSet<String>) {
    let lane = root.lane;
    let is_earlier = |name: &str| {
        let epoch: Option<u64> = name.split_once('-').and_then(|(epoch, _)| epoch.parse().ok());
        epoch.is_some_and(|epoch| epoch < root.epoch.0)
    };
    let is_garbage = |path: &Path, bytes: u64| {
        let parts: Vec<_> = path.parts().collect();
        match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
            ["lanes", _, "w", epoch, slot] => match (epoch.parse(), slot.parse()) {
                (Ok(epoch), Ok(slot)) => bytes > SEAL_BYTES && root.floor.is_after(Epoch(epoch), Slot(slot)),
                _ => false,
            },
            ["lanes", _, "c", name] => {
                let is_named = root.checkpoint.as_ref().is_some_and(|named| named.name == name);
                !is_named && is_earlier(name)
            }
            ["lanes", _, "p", name] => !parked.contains(name) && is_earlier(name),
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
