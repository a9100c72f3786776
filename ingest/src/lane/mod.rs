//! A lane: the internal log that topics are sequenced in. Who owns it, what has been decided in it, where it begins.
//!
//! * [`root`]: the register that says all this;
//! * [`state`]: what the decided segments say, and what the next append is judged by;
//! * [`producers`] and [`fences`]: the parts of it that retries and writers are judged by;
//! * [`checkpoint`]: that state at one place of the log, as an object;
//! * [`heartbeat`], [`board`], [`spread`]: which processes live, and which of them should own what;
//! * [`follower`]: what is decided in a lane that another owns (P3);
//! * [`takeover`]: becoming the owner (P1), with [`replay`], the fold over what is found;
//! * [`floor`] and [`trim`]: what of the log is still needed, and removing the rest (P5);
//! * [`parked`]: the rows of topics that stopped, outside of the log.

pub(crate) mod board;
pub(crate) mod checkpoint;
pub(crate) mod fences;
pub(crate) mod floor;
pub(crate) mod follower;
pub(crate) mod heartbeat;
pub(crate) mod parked;
pub(crate) mod producers;
pub(crate) mod replay;
pub(crate) mod root;
pub(crate) mod spread;
pub(crate) mod state;
pub(crate) mod takeover;
pub(crate) mod trim;

use std::fmt;

use object_store::path::Path;
use schemas::{Epoch, LaneId, Slot};
use serde::{Deserialize, Serialize};

use crate::wal::LinkHash;

/// A place between two segments of a lane: what follows stands at `epoch` and `slot` (or, if that is a SEAL, begins the next epoch)
/// and names `hash` as its predecessor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) epoch: Epoch,
    pub(crate) slot: Slot,
    pub(crate) hash: LinkHash,
}

impl Position {
    /// Before the first segment of a lane.
    pub(crate) const START: Self = Self { epoch: Epoch(1), slot: Slot(0), hash: LinkHash::START };

    /// True if the segment at `epoch` and `slot` lies before this place.
    pub(crate) fn is_after(&self, epoch: Epoch, slot: Slot) -> bool {
        (epoch, slot) < (self.epoch, self.slot)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} slot {}", self.epoch, self.slot)
    }
}

/// Where a lane's root register lies.
pub(crate) fn root_path(lane: LaneId) -> Path {
    Path::from(format!("lanes/{lane}/root.json"))
}

/// Where a segment lies.
pub(crate) fn segment_path(lane: LaneId, epoch: Epoch, slot: Slot) -> Path {
    Path::from(format!("lanes/{lane}/w/{epoch}/{slot}"))
}

/// Where a checkpoint of this name lies.
pub(crate) fn checkpoint_path(lane: LaneId, name: &str) -> Path {
    Path::from(format!("lanes/{lane}/c/{name}"))
}
