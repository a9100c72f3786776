//! A follower of the log: reads decided segments, and the table for what it came too late for.

use crate::flaw::Flaw;
use crate::store::{Body, Place, START, Seq, Store};

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    /// The next segment that it wants.
    pub at: Place,
    /// The next seq that it wants.
    pub next: Seq,
    /// It met an event that leaves out one before.
    pub missed: bool,
}

impl Default for Follower {
    fn default() -> Self {
        Self { at: START.place, next: 1, missed: false }
    }
}

impl Follower {
    /// Reads on, as far as one segment.
    pub fn step(mut self, store: &Store, flaw: Option<Flaw>) -> Self {
        match store.segments.get(&self.at).map(|segment| segment.body) {
            Some(Body::Event(seq, _)) => {
                self.missed |= seq > self.next;
                self.next = self.next.max(seq + 1);
                self.at.1 += 1;
            }
            Some(Body::Seal(_)) if flaw == Some(Flaw::SealBelowFloorBelieved) => self.at = Place(self.at.0 + 1, 0),
            // A SEAL or nothing: what it means is in the root.
            _ if store.root.floor.place > self.at => {
                self.at = store.root.floor.place;
                self.next = self.next.max(store.table.watermark);
            }
            _ if store.root.closed(self.at.0) == Some(self.at) => self.at = Place(self.at.0 + 1, 0),
            _ => {}
        }
        self
    }
}
