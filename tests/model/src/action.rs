//! The steps of the model, in words: a counterexample reads as a story.

use std::fmt;

use crate::store::{Epoch, Place};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A process claims the next epoch (P1.1).
    Claim,
    /// It seals or reads the next earlier epoch (P1.2, P1.3).
    Close(Epoch),
    /// It swaps in what it closed, and opens (P1.4, P1.5).
    Open(Epoch),
    /// It sends a segment with a new event (P2).
    Append(Epoch),
    /// A segment's put reaches the store.
    Land(Place),
    /// The owner learns what is in a slot that it wrote to; acknowledges what is decided (P3).
    Learn(Place),
    /// It finds that a condition does not hold (P2).
    Judge(Epoch),
    /// It says so.
    Refuse(Epoch),
    /// It loads the table and sends a commit of what it has (P4.1 to P4.4).
    Flush(Epoch),
    /// A commit, by its number among those sent, reaches the table.
    Commit(usize),
    /// The owner loads the table to see what became of its commit (P4.5).
    Check(Epoch),
    /// Somebody compacts the table.
    Compact,
    /// The owner loads the table and works out floor and checkpoint (P5).
    Measure(Epoch),
    /// It swaps them in.
    Trim(Epoch),
    /// What lies below the floor is deleted.
    Collect,
    /// The follower reads on (P3, P6).
    Follow,
    /// A reader at the owner takes one half of its view (P6).
    Take(Epoch),
    /// And the other.
    Join(Epoch),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim => write!(f, "a process claims the lane"),
            Self::Close(epoch) => write!(f, "owner {epoch} closes the next earlier epoch"),
            Self::Open(epoch) => write!(f, "owner {epoch} opens"),
            Self::Append(epoch) => write!(f, "owner {epoch} sends a segment"),
            Self::Land(Place(epoch, slot)) => write!(f, "the put of {epoch}/{slot} lands"),
            Self::Learn(Place(epoch, slot)) => write!(f, "owner {epoch} learns what is at {epoch}/{slot}"),
            Self::Judge(epoch) => write!(f, "owner {epoch} finds a condition that does not hold"),
            Self::Refuse(epoch) => write!(f, "owner {epoch} refuses by it"),
            Self::Flush(epoch) => write!(f, "owner {epoch} loads the table and sends a commit"),
            Self::Commit(number) => write!(f, "commit {number} lands"),
            Self::Check(epoch) => write!(f, "owner {epoch} looks what became of its commit"),
            Self::Compact => write!(f, "somebody compacts the table"),
            Self::Measure(epoch) => write!(f, "owner {epoch} loads the table and works out a floor"),
            Self::Trim(epoch) => write!(f, "owner {epoch} moves the floor"),
            Self::Collect => write!(f, "what lies below the floor is deleted"),
            Self::Follow => write!(f, "the follower reads on"),
            Self::Take(epoch) => write!(f, "a reader at owner {epoch} takes half of its view"),
            Self::Join(epoch) => write!(f, "a reader at owner {epoch} takes the other half"),
        }
    }
}
