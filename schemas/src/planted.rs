//! Defects on purpose: the simulation plants one and must find it, so that we know that it could.
//!
//! Each has one place in the real code, `if planted(Bug::…)`. Without the feature `planted`, which no default build has, the question is a constant
//! `false`, and nothing of them is compiled.

#[cfg(feature = "planted")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// A defect that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Bug {
    /// "Already exists" is believed to mean another's, whatever the nonce says.
    NoNonceCheck = 1,
    /// A conflict (409) is read as "already exists, and it is mine".
    ConflictAsExists,
    /// A segment is answered as soon as it has landed, before those below it.
    AckOutOfOrder,
    /// Rows are visible as soon as they have their seq.
    VisibleBeforeDecided,
    /// A take-over reads the old epochs and creates no SEAL.
    NoSeal,
    /// SEALs are removed with the segments below the floor.
    SealCollected,
    /// The tail is rebuilt from the checkpoint on, not from the floor on.
    TailFromCheckpoint,
    /// A commit that lost is applied to the newer base as it is.
    RebaseOnConflict,
    /// A flush goes on if the watermark is at or beyond its first row.
    WatermarkAtLeast,
    /// A checkpoint holds what is in flight.
    CheckpointInFlight,
    /// After an unclear commit its files are deleted.
    DeleteOnUnknown,
    /// A read view takes the table's snapshot first and the tail after it.
    SnapshotBeforeTail,
    /// A checkpoint says nothing of producers.
    ProducersForgotten,
    /// What was looked up in the table decides although the tail begins above it by now.
    StaleFact,
    /// A refusal is given without a look at the root.
    RefusalWhenFenced,
    /// Of several open epochs only the newest gets a SEAL.
    OnlyNewestSealed,
    /// A follower takes any SEAL for the end of its epoch, wherever the floor is.
    SealBelowFloorBelieved,
    /// A new owner appends although the root does not say where the earlier epochs ended.
    WriteBeforeClosed,
    /// The floor passes topics that a listing does not show.
    FloorFromListing,
    /// The floor moves by the watermarks that were last heard of.
    FloorBeforeReload,
    /// Two attempts at one commit give their manifests one name.
    NameWithoutNonce,
    /// A sweep removes what is old enough and not referenced, whatever its generation.
    SweepByAge,
    /// A table is taken for the topic's, whosever it is.
    BaseUnchecked,
    /// A checkpoint does not say where parked rows begin.
    ParkedWithoutExtent,
    /// On a local folder a superseded revision is removed, and its number is free again.
    NumberUsedTwice,
    /// Rows are flushed as soon as they have their seq.
    FlushOfUndecided,
    /// On a local folder a put is answered before it is synced.
    PutWithoutSync,
}

/// The one that is planted; 0 for none.
#[cfg(feature = "planted")]
static PLANTED: AtomicUsize = AtomicUsize::new(0);

impl Bug {
    /// All.
    pub const ALL: [Self; 27] = [
        Self::NoNonceCheck,
        Self::ConflictAsExists,
        Self::AckOutOfOrder,
        Self::VisibleBeforeDecided,
        Self::NoSeal,
        Self::SealCollected,
        Self::TailFromCheckpoint,
        Self::RebaseOnConflict,
        Self::WatermarkAtLeast,
        Self::CheckpointInFlight,
        Self::DeleteOnUnknown,
        Self::SnapshotBeforeTail,
        Self::ProducersForgotten,
        Self::StaleFact,
        Self::RefusalWhenFenced,
        Self::OnlyNewestSealed,
        Self::SealBelowFloorBelieved,
        Self::WriteBeforeClosed,
        Self::FloorFromListing,
        Self::FloorBeforeReload,
        Self::NameWithoutNonce,
        Self::SweepByAge,
        Self::BaseUnchecked,
        Self::ParkedWithoutExtent,
        Self::NumberUsedTwice,
        Self::FlushOfUndecided,
        Self::PutWithoutSync,
    ];
}

/// True if this defect is planted in this process.
#[cfg(feature = "planted")]
pub fn planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as usize
}

/// True if this defect is planted in this process: never in this build.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Plants a defect, for the life of the process.
#[cfg(feature = "planted")]
pub fn plant(bug: Bug) {
    PLANTED.store(bug as usize, Ordering::Relaxed);
}
