//! What is durable: the root register, segments, the table; and requests that may still reach them.

use std::collections::BTreeMap;

/// One ownership of the lane, from 1.
pub type Epoch = u8;
/// Position in the topic, from 1.
pub type Seq = u8;
/// What was appended: no two appends say the same.
pub type Event = u8;

/// Where a segment stands: epoch and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub Epoch, pub u8);

/// What a segment names as its predecessor, in place of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Nothing lies before.
    Start,
    /// The segment of this event.
    Event(Event),
    /// A SEAL made by the owner of this epoch.
    Seal(Epoch),
}

/// A place with what lies before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// What follows stands here.
    pub place: Place,
    /// And names this as its predecessor.
    pub link: Link,
}

/// Before the first segment.
pub const START: Position = Position { place: Place(1, 0), link: Link::Start };

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its predecessor.
    pub before: Link,
    /// What it says.
    pub body: Body,
}

/// What a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// One event at its place in the topic.
    Event(Seq, Event),
    /// The epoch ends here; by the owner of that later epoch.
    Seal(Epoch),
}

impl Segment {
    /// What the next segment names.
    pub fn link(&self) -> Link {
        match self.body {
            Body::Event(_, event) => Link::Event(event),
            Body::Seal(by) => Link::Seal(by),
        }
    }
}

/// The root register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// Counts swaps: what compare-and-swap compares.
    pub revision: u8,
    /// The current ownership; 0 before the first.
    pub epoch: Epoch,
    /// Closed epochs and the slots of their SEALs, ascending.
    pub closed: Vec<Place>,
    /// Where the log begins that is still needed.
    pub floor: Position,
    /// The state at one decided place.
    pub checkpoint: Checkpoint,
}

/// The state of the lane at one place of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// All before is in it, nothing after.
    pub at: Position,
    /// Seq of the next event there.
    pub next: Seq,
    /// The table's watermark, as known there.
    pub watermark: Seq,
}

impl Root {
    /// The first epoch that has not been closed.
    pub fn first_unclosed(&self) -> Epoch {
        self.closed.last().map_or(self.floor.place.0, |closed| closed.0 + 1)
    }

    /// Where `epoch` ended, if it is closed.
    pub fn closed(&self, epoch: Epoch) -> Option<Place> {
        self.closed.iter().copied().find(|closed| closed.0 == epoch)
    }

    /// Forgets closed epochs below the floor, but never the last.
    pub fn shed_closed(&mut self) {
        let Some(last) = self.closed.last().copied() else { return };
        self.closed.retain(|closed| closed.0 >= self.floor.place.0 || *closed == last);
    }
}

/// The topic's table: its snapshots, the oldest first, and its watermark property.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// Counts commits, ours and others': what a commit is pinned to.
    pub version: u8,
    /// First seq that is not in it.
    pub watermark: Seq,
    /// What was flushed.
    pub snapshots: Vec<Snapshot>,
}

/// One flush.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snapshot {
    /// Owner and number of the flush: the same over all its attempts.
    pub flush: (Epoch, u8),
    /// Seq of the first row.
    pub from: Seq,
    /// In order of seq.
    pub rows: Vec<Event>,
}

impl Snapshot {
    /// Seq after the last row.
    pub fn to(&self) -> Seq {
        self.from + self.rows.len() as u8
    }
}

/// A request to commit a snapshot onto one version of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit {
    /// The version that it is pinned to.
    pub base: u8,
    /// What it adds.
    pub snapshot: Snapshot,
}

/// All that outlives a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The lane's root.
    pub root: Root,
    /// Segments that are there.
    pub segments: BTreeMap<Place, Segment>,
    /// Puts that were sent, landed or not: they may land again.
    pub puts: BTreeMap<Place, Segment>,
    /// The topic's table.
    pub table: Table,
    /// Commits that were sent.
    pub commits: Vec<Commit>,
}

impl Default for Store {
    fn default() -> Self {
        let checkpoint = Checkpoint { at: START, next: 1, watermark: 1 };
        Self {
            root: Root { revision: 0, epoch: 0, closed: Vec::new(), floor: START, checkpoint },
            segments: BTreeMap::new(),
            puts: BTreeMap::new(),
            table: Table { version: 0, watermark: 1, snapshots: Vec::new() },
            commits: Vec::new(),
        }
    }
}

impl Store {
    /// Compare-and-swap of the root. False if it was lost.
    pub fn swap(&mut self, expected: u8, mut root: Root) -> bool {
        let won = self.root.revision == expected;
        if won {
            root.revision = expected + 1;
            self.root = root;
        }
        won
    }

    /// Deletes the segments below the floor; SEALs only if `seals`.
    pub fn collect(&mut self, seals: bool) {
        let floor = self.root.floor.place;
        self.segments.retain(|place, segment| *place >= floor || (matches!(segment.body, Body::Seal(_)) && !seals));
    }

    /// A commit takes effect if its base is the table's version, or whatever that is if it is to be `rebased`.
    pub fn land(&mut self, commit: &Commit, rebased: bool) {
        if self.table.version == commit.base || rebased {
            self.table.version += 1;
            self.table.watermark = commit.snapshot.to();
            self.table.snapshots.push(commit.snapshot.clone());
        }
    }

    /// Notes a request to commit.
    pub fn send(&mut self, commit: Commit) {
        if let Err(at) = self.commits.binary_search(&commit) {
            self.commits.insert(at, commit);
        }
    }
}
