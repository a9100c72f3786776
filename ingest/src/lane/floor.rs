//! Which segments are still needed (P5): pure.

use std::sync::Arc;

use schemas::{Seq, TopicId, Watermark};

use super::Position;
use crate::wal::TopicEnd;

/// What the owner remembers of a decided segment at or above the floor: where it stands and what its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// The place before it.
    pub(crate) at: Position,
    pub(crate) bytes: usize,
    /// Shared, since every checkpoint looks at the whole index, however many topics each segment names.
    pub(crate) topics: Arc<[TopicEnd]>,
    /// A SEAL is passed by the floor like any other, but never deleted.
    pub(crate) is_seal: bool,
}

/// How far a topic's events are safe outside of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is durably dropped: nobody will ask for them.
    Dropped,
    /// They are in its table below here.
    Table(Watermark),
    /// They are in its table or in parked objects that the checkpoint names, below here.
    Parked(Seq),
}

impl Reach {
    /// True if everything up to `last_seq` is.
    pub(super) fn covers(self, last_seq: Seq) -> bool {
        match self {
            Self::Dropped => true,
            Self::Table(Watermark(next)) | Self::Parked(next) => last_seq < next,
        }
    }
}

/// How many segments from the old floor on are needed no more, given that `checkpoint` is in force: the longest row of them from the floor that
/// all lie before the checkpoint and in which every topic that a header names is safe elsewhere.
pub(crate) fn passable(index: &[Indexed], checkpoint: &Position, reach: impl Fn(&TopicId) -> Reach) -> usize {
    let needed = |segment: &Indexed| {
        !checkpoint.is_after(segment.at.epoch, segment.at.slot)
            || !segment.topics.iter().all(|end| reach(&end.topic).covers(end.last_seq))
    };
    index.iter().position(needed).unwrap_or(index.len())
}

#[cfg(test)]
mod tests;
