//! Taking a lane over (P1): claim it, seal and check every epoch before, close them, open.
//!
//! The order is what keeps two owners apart. The claim makes every older owner's next root change fail; the SEALs make its next segment fail;
//! only when all of them stand does the root say so, and only after that may this owner write its first segment.

use bytes::Bytes;
use catalog::storage::Creation;
use catalog::{Env, Store};
use futures::{Stream, StreamExt, stream};
use schemas::planted::{Bug, planted};
use schemas::{Epoch, ErrorKind, LaneId, Slot};
use tokio::time::Instant;

use super::heartbeat::Node;
use super::replay::Replay;
use super::root::{Claim, Closed, Root, RootRegister, State};
use super::state::LaneState;
use super::{Position, checkpoint, segment_path};
use crate::error::{IngestError, Result};
use crate::wal::{Frame, Place, Segment, segment};

/// Segments read at once. On an object store a read is mostly waiting.
const READ_AHEAD: usize = 8;

/// A lane that is this process's, with everything that its log says.
#[derive(Debug)]
pub(crate) struct TakenOver {
    pub(crate) register: RootRegister,
    /// Where this owner's first segment goes.
    pub(crate) at: Position,
    pub(crate) replay: Replay,
}

/// Takes the lane over, if `claim`'s condition holds.
///
/// Errors: `Fenced` if it does not, or another process took it meanwhile; `Corrupt`, naming segment and byte, if the log is damaged; those of the store.
#[tracing::instrument(level = "debug", skip_all, fields(%lane))]
pub(crate) async fn take_over(store: &Store, env: &Env, lane: LaneId, by: &Node, claim: Claim) -> Result<TakenOver> {
    let started = Instant::now();
    let mut register = RootRegister::claim(store.clone(), env.clone(), lane, by, claim).await?;
    let walked = match walk(store, env, register.root()).await {
        Ok(walked) => walked,
        Err(error) => {
            // A newer owner may have moved the floor under our feet: then nothing is wrong but that we are late.
            register.refresh().await?;
            return Err(error);
        }
    };
    let Walk { at, closed, replay, .. } = walked;
    let open = |root: &mut Root| {
        root.closed.extend(closed);
        root.shed_closed();
        root.state = State::Open;
    };
    if !planted(Bug::WriteBeforeClosed) {
        register.change(open).await?;
    }
    let at = Position { epoch: register.root().epoch, slot: Slot(0), hash: at.hash };
    let bytes: usize = replay.index.iter().map(|segment| segment.bytes).sum();
    let (segments, rows) = (replay.index.len(), replay.rows.iter().map(|placed| placed.rows.len()).sum::<usize>());
    let ms = started.elapsed().as_millis() as u64;
    tracing::info!(%lane, epoch = %at.epoch, segments, bytes, rows, ms, "lane taken over");
    Ok(TakenOver { register, at, replay })
}

async fn walk(store: &Store, env: &Env, root: &Root) -> Result<Walk> {
    let gone = |name: &str| corrupt(format!("lane {}: its checkpoint {name} is missing", root.lane));
    let (state, covered) = checkpointed(store, root).await?.map_err(|name| gone(&name))?;
    let replay = Replay::new(state, covered);
    let store = store.clone();
    let mut walk = Walk { store, lane: root.lane, by: root.epoch, at: root.floor, closed: Vec::new(), replay };
    let mut epoch = root.floor.epoch;
    while epoch < root.epoch {
        match root.closed(epoch) {
            Some(closed) => walk.feed_closed(closed).await?,
            None if epoch >= root.first_unclosed() => walk.seal_and_close(epoch, env).await?,
            None => return Err(corrupt(format!("lane {}: its root forgot where epoch {epoch} was closed", root.lane))),
        }
        epoch = epoch.next();
    }
    Ok(walk)
}

/// The state of the lane that the root names, and the place that it holds for. Errors, inside: the name of a checkpoint that is not there.
pub(crate) async fn checkpointed(store: &Store, root: &Root) -> Result<Result<(LaneState, Position), String>> {
    Ok(match &root.checkpoint {
        None => Ok((LaneState::default(), root.floor)),
        Some(named) => match checkpoint::read(store, root.lane, named).await? {
            Some(state) => Ok((state, named.at)),
            None => Err(named.name.clone()),
        },
    })
}

/// A walk along the log.
struct Walk {
    store: Store,
    lane: LaneId,
    /// The epoch that takes the lane over.
    by: Epoch,
    /// Everything before was fed to `replay`.
    at: Position,
    /// Epochs that were found open, and sealed.
    closed: Vec<Closed>,
    replay: Replay,
}

impl Walk {
    /// An epoch that was closed: all its slots must be there, up to the SEAL that the root names.
    async fn feed_closed(&mut self, closed: &Closed) -> Result<()> {
        let mut objects = self.read(closed.epoch, self.at.slot.0..=closed.seal_slot.0);
        while let Some(object) = objects.next().await {
            let path = segment_path(self.lane, self.at.epoch, self.at.slot);
            let object =
                object?.ok_or_else(|| corrupt(format!("segment {path} is missing below the SEAL of its epoch")))?;
            let is_last = self.at.slot == closed.seal_slot;
            let segment = self.check(&object)?;
            if segment.is_seal() != is_last || is_last && segment.link != closed.hash {
                let message = format!(
                    "segment {path}: expected epoch {} to end at slot {} with hash {}",
                    closed.epoch, closed.seal_slot, closed.hash
                );
                return Err(corrupt(message));
            }
            self.feed(&object, &segment)?;
        }
        Ok(())
    }

    /// An epoch that was left open: on to its first absent slot, which gets the SEAL, unless its old owner is faster; then on again.
    async fn seal_and_close(&mut self, epoch: Epoch, env: &Env) -> Result<()> {
        debug_assert_eq!(epoch, self.at.epoch, "the walk goes from epoch to epoch");
        loop {
            if self.feed_what_is_there().await? {
                return Ok(());
            }
            let Position { epoch, slot, hash } = self.at;
            // The checkpoint is of decided segments: one that is missing below it is lost, not yet to come.
            if self.replay.is_covered(self.at) {
                let path = segment_path(self.lane, epoch, slot);
                return Err(corrupt(format!("segment {path} is missing below the lane's checkpoint")));
            }
            let place = Place { lane: self.lane, epoch, slot, predecessor: hash };
            let seal = segment::encode(place, env.nonce(), &[Frame::seal()]).bytes;
            let is_newest = epoch.next() == self.by;
            if (planted(Bug::NoSeal) || planted(Bug::OnlyNewestSealed) && !is_newest) && self.take(&seal)? {
                return Ok(());
            }
            let object = match self.store.create_segment(&segment_path(self.lane, epoch, slot), seal.clone()).await? {
                Creation::Mine => seal,
                Creation::Others(object) => object,
            };
            if self.take(&object)? {
                return Ok(());
            }
        }
    }

    /// Feeds what is there. True if that ended with a SEAL.
    async fn feed_what_is_there(&mut self) -> Result<bool> {
        let mut objects = self.read(self.at.epoch, self.at.slot.0..);
        while let Some(object) = objects.next().await {
            match object? {
                None => return Ok(false),
                Some(object) if self.take(&object)? => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    /// Feeds the next segment of an epoch that was left open. True if it is a SEAL.
    fn take(&mut self, object: &Bytes) -> Result<bool> {
        let Position { epoch, slot, .. } = self.at;
        let segment = self.check(object)?;
        self.feed(object, &segment)?;
        if segment.is_seal() {
            self.closed.push(Closed { epoch, seal_slot: slot, hash: segment.link });
        }
        Ok(segment.is_seal())
    }

    fn read<S: Iterator<Item = u64>>(
        &self,
        epoch: Epoch,
        slots: S,
    ) -> impl Stream<Item = Result<Option<Bytes>>> + Unpin + use<S> {
        read_slots(&self.store, self.lane, epoch, slots)
    }

    fn check(&self, object: &Bytes) -> Result<Segment> {
        check(self.lane, self.at, object)
    }

    fn feed(&mut self, object: &Bytes, segment: &Segment) -> Result<()> {
        let at = self.at;
        self.replay
            .feed(at, object.len(), segment)
            .map_err(|what| corrupt(format!("segment {}: {what}", segment_path(self.lane, at.epoch, at.slot))))?;
        self.at = match segment.is_seal() {
            true => Position { epoch: at.epoch.next(), slot: Slot(0), hash: segment.link },
            false => Position { epoch: at.epoch, slot: at.slot.next(), hash: segment.link },
        };
        Ok(())
    }
}

/// What is in these slots, in their order; some are read ahead.
pub(crate) fn read_slots<S: Iterator<Item = u64>>(
    store: &Store,
    lane: LaneId,
    epoch: Epoch,
    slots: S,
) -> impl Stream<Item = Result<Option<Bytes>>> + Unpin + use<S> {
    let store = store.clone();
    let read = move |slot| {
        let (store, path) = (store.clone(), segment_path(lane, epoch, Slot(slot)));
        async move { Ok(store.read_segment(&path).await?) }
    };
    Box::pin(stream::iter(slots).map(read).buffered(READ_AHEAD))
}

/// Checks every bit of a segment, and that it is the one that belongs `at` this place.
pub(super) fn check(lane: LaneId, at: Position, object: &Bytes) -> Result<Segment> {
    let Position { epoch, slot, hash } = at;
    let path = segment_path(lane, epoch, slot);
    let segment = Segment::decode(object).map_err(|damage| corrupt(format!("segment {path}: {damage}")))?;
    let expected = Place { lane, epoch, slot, predecessor: hash };
    if segment.place != expected {
        return Err(corrupt(format!("segment {path}: expected {expected:?}, found {:?}", segment.place)));
    }
    Ok(segment)
}

pub(super) fn corrupt(message: String) -> IngestError {
    IngestError::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests;
