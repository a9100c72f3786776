//! The protocol of a lane (P1 to P6) as a state machine that `stateright` explores exhaustively to a stated bound, breadth first.
//!
//! What is modelled, and how little of it:
//!
//! * One lane with one topic; a segment holds one event. A **store** with create-if-absent, compare-and-swap, and deletion.
//! * One **owner** for each epoch that was claimed. Every step of every owner is optional, for ever: so each may crash at any point, sleep for any
//!   time and go on, or be taken over while it believes that it owns the lane. A restart is the next epoch's owner, which remembers nothing.
//! * Requests on their way: a segment's put or a table's commit lands at any later time, also after its sender has died, more than once, or never.
//!   A sender learns what became of it by looking, or never does: that is a lost answer.
//! * Swaps of the root take effect at once: while one is under way its sender does nothing that the swap depends on, so that a late one is a sender that slept.
//! * A **follower** that reads the log from its beginning and falls behind at will; others' **compactions** of the table.
//!
//! [`laws`] are the invariants of the protocol, by the checker's numbers; [`flaw`] the rules that can be left out, each of which breaks a law: the
//! proof that the laws see. What is left out: bytes (the codecs have property tests), producers and what conditions say (one task decides them; that a refusal is true is modelled), parking,
//! sweeps, more than one topic. Those are simulated.

pub mod action;
pub mod explore;
pub mod flaw;
pub mod follower;
pub mod lane;
pub mod laws;
pub mod owner;
pub mod store;

pub use action::Action;
pub use flaw::Flaw;
pub use lane::{Bounds, Lane, State};

#[cfg(test)]
mod tests;
