//! Rules of the protocol that can be left out, to see that a law notices.

/// One rule, left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// P1.2: an epoch is closed at its first absent slot, but nothing is put there.
    NoSeal,
    /// P1.2: of several open epochs only the newest gets a SEAL.
    OnlyNewestSealed,
    /// P1: a reader takes any SEAL for the end of its epoch, whether or not the root says so.
    SealBelowFloorBelieved,
    /// P1: what lies below the floor is deleted, SEALs too.
    SealCollected,
    /// P1.4: the new owner appends before the earlier epochs are closed.
    WriteBeforeClosed,
    /// P1.5: the tail begins at the checkpoint, not at the floor.
    TailFromCheckpoint,
    /// P1.5: a checkpoint counts what is in flight.
    CheckpointWithInFlight,
    /// P2: an event is acknowledged as soon as its own segment landed.
    AckOutOfOrder,
    /// P2: a refusal that rests on what is in flight does not wait for it.
    RefusedTooEarly,
    /// P2: a refusal is given without a look at the root.
    RefusedByFenced,
    /// P4.2: rows are committed if the table has at least what comes before them.
    AtOrBeyond,
    /// P4.4: a commit whose base has moved is applied to the newer one.
    RebaseOnConflict,
    /// P5: the floor moves by what a commit was meant to do, without looking again.
    FloorBeforeReload,
    /// P6: the table is read before the tail.
    TableBeforeTail,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NoSeal,
        Self::OnlyNewestSealed,
        Self::SealBelowFloorBelieved,
        Self::SealCollected,
        Self::WriteBeforeClosed,
        Self::TailFromCheckpoint,
        Self::CheckpointWithInFlight,
        Self::AckOutOfOrder,
        Self::RefusedTooEarly,
        Self::RefusedByFenced,
        Self::AtOrBeyond,
        Self::RebaseOnConflict,
        Self::FloorBeforeReload,
        Self::TableBeforeTail,
    ];
}
