//! One owner of the lane: from its claim until it is fenced, or nobody ever hears of it again.

use crate::flaw::Flaw;
use crate::store::{
    Body, Checkpoint, Commit, Epoch, Event, Link, Place, Position, Root, Segment, Seq, Snapshot, Store,
};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It goes through the earlier epochs; this one is next.
    Closing(Epoch),
    /// It appends.
    Open,
    /// It was fenced.
    Stopped,
    /// What it found in the log cannot be, and nobody has taken the lane from it, which would explain it.
    Corrupt,
}

/// A decided event, with its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Where its segment begins.
    pub at: Position,
    /// Its place in the topic.
    pub seq: Seq,
    /// What it says.
    pub event: Event,
}

/// An append whose answer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flying {
    seq: Seq,
    event: Event,
    /// The largest seq that was acknowledged when it began.
    after: Seq,
    /// Its slot is known to be the owner's.
    landed: bool,
}

/// An acknowledgement, as the producer remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Acked {
    /// What was appended.
    pub event: Event,
    /// The answer.
    pub seq: Seq,
    /// Where the owner put it.
    pub place: Place,
    /// The largest seq that had been acknowledged when the append began.
    pub after: Seq,
}

/// A flush whose outcome is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flush {
    number: u8,
    from: Seq,
    to: Seq,
    /// The version that it was last pinned to.
    pinned: u8,
}

/// What a trim worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trim {
    floor: Position,
    checkpoint: Checkpoint,
}

/// The first half of a reader's view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// The seqs of the tail.
    Tail(Vec<Seq>),
    /// The table's watermark.
    Table(Seq),
}

/// An owner's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its ownership.
    pub epoch: Epoch,
    /// How far it has come.
    pub phase: Phase,
    /// The root as it last wrote it.
    pub root: Root,
    /// Epochs that it found open and closed.
    pub found: Vec<Place>,
    /// Decided events that may not be in the table: the tail.
    pub rows: Vec<Row>,
    /// Seq of the next append.
    pub next: Seq,
    /// Segments of its own that are decided.
    pub decided: u8,
    /// The last segment before what is in flight.
    pub link: Link,
    /// In order of slot.
    pub flying: Vec<Flying>,
    /// The table's watermark, as it last knew it.
    pub watermark: Seq,
    /// At most one at a time.
    pub flush: Option<Flush>,
    /// Flushes so far.
    pub flushes: u8,
    /// At most one at a time.
    pub trim: Option<Trim>,
    /// A reader that has half of its view.
    pub reader: Option<Half>,
    /// A refusal that is due: the last seq that it names, and the largest that was acknowledged when the append began.
    pub judged: Option<(Seq, Seq)>,
}

impl Owner {
    /// Claims the lane.
    pub fn claim(store: &mut Store) -> Self {
        let mut root = store.root.clone();
        root.epoch += 1;
        let won = store.swap(root.revision, root);
        debug_assert!(won, "it was read just now");
        let root = store.root.clone();
        let Checkpoint { next, watermark, .. } = root.checkpoint;
        Self {
            epoch: root.epoch,
            phase: Phase::Closing(root.floor.place.0),
            found: Vec::new(),
            rows: Vec::new(),
            next,
            decided: 0,
            link: root.floor.link,
            flying: Vec::new(),
            watermark,
            flush: None,
            flushes: 0,
            trim: None,
            reader: None,
            judged: None,
            root,
        }
    }

    /// Forgets all but that it is over.
    pub fn stop(&mut self, phase: Phase) {
        self.phase = phase;
        (self.flush, self.trim, self.reader, self.judged) = (None, None, None, None);
        for memory in [&mut self.found, &mut self.root.closed] {
            memory.clear();
        }
        self.rows.clear();
        self.flying.clear();
    }

    /// Goes through one earlier epoch: reads its segments and sees that a SEAL ends it.
    pub fn close(&mut self, epoch: Epoch, store: &mut Store, flaw: Option<Flaw>) {
        let floor = self.root.floor.place;
        let first = if epoch == floor.0 { floor.1 } else { 0 };
        let known = self.root.closed(epoch);
        for slot in first.. {
            let place = Place(epoch, slot);
            match store.segments.get(&place).copied() {
                None if known.is_some() || place < self.root.checkpoint.at.place => return self.wonder(store),
                None => return self.seal(place, store, flaw),
                Some(segment) => {
                    let is_seal = matches!(segment.body, Body::Seal(_));
                    if !self.feed(place, segment, flaw) || known.is_some_and(|closed| is_seal != (place == closed)) {
                        return self.wonder(store);
                    }
                    if is_seal {
                        return self.closed(place, known.is_none());
                    }
                }
            }
        }
    }

    fn seal(&mut self, place: Place, store: &mut Store, flaw: Option<Flaw>) {
        let is_newest = place.0 + 1 == self.epoch;
        if flaw != Some(Flaw::NoSeal) && (is_newest || flaw != Some(Flaw::OnlyNewestSealed)) {
            let segment = Segment { before: self.link, body: Body::Seal(self.epoch) };
            store.segments.insert(place, segment);
            self.link = segment.link();
        }
        self.closed(place, true);
    }

    fn closed(&mut self, place: Place, is_new: bool) {
        if is_new {
            self.found.push(place);
        }
        self.phase = Phase::Closing(place.0 + 1);
    }

    /// Something is not as it must be: a newer owner explains it, else the lane stands still.
    fn wonder(&mut self, store: &Store) {
        self.stop(if store.root.epoch == self.epoch { Phase::Corrupt } else { Phase::Stopped });
    }

    /// Takes the next segment of the log. False if it does not follow.
    fn feed(&mut self, place: Place, segment: Segment, flaw: Option<Flaw>) -> bool {
        if segment.before != self.link {
            return false;
        }
        if let Body::Event(seq, event) = segment.body {
            let is_covered = place < self.root.checkpoint.at.place;
            if !is_covered && seq != self.next {
                return false;
            }
            if !is_covered {
                self.next += 1;
            }
            if seq >= self.watermark && !(is_covered && flaw == Some(Flaw::TailFromCheckpoint)) {
                self.rows.push(Row { at: Position { place, link: self.link }, seq, event });
            }
        }
        self.link = segment.link();
        true
    }

    /// Every earlier epoch is closed: tells the root so.
    pub fn open(&mut self, store: &mut Store) {
        let mut root = self.root.clone();
        root.closed.append(&mut self.found);
        root.shed_closed();
        self.phase = Phase::Open;
        self.swap(store, root);
    }

    fn swap(&mut self, store: &mut Store, root: Root) {
        if store.swap(self.root.revision, root) {
            self.root = store.root.clone();
        } else {
            self.stop(Phase::Stopped);
        }
    }

    /// The slot of the next append.
    pub fn next_place(&self) -> Place {
        Place(self.epoch, self.decided + self.flying.len() as u8)
    }

    /// Sends a segment.
    pub fn append(&mut self, event: Event, after: Seq, store: &mut Store) {
        let before = self.flying.last().map_or(self.link, |last| Link::Event(last.event));
        store.puts.insert(self.next_place(), Segment { before, body: Body::Event(self.next, event) });
        self.flying.push(Flying { seq: self.next, event, after, landed: false });
        self.next += 1;
    }

    /// Slots whose content it does not know yet.
    pub fn unknown_slots(&self) -> impl Iterator<Item = Place> + '_ {
        let slot = |(at, _)| Place(self.epoch, self.decided + at as u8);
        self.flying.iter().enumerate().filter(|(_, flying)| !flying.landed).map(slot)
    }

    /// Learns what is at `place`; what can be acknowledged now goes to `acked`.
    pub fn learn(&mut self, place: Place, store: &Store, acked: &mut Vec<Acked>, flaw: Option<Flaw>) {
        let flying = &mut self.flying[usize::from(place.1 - self.decided)];
        if store.segments.get(&place).map(|segment| segment.body) != Some(Body::Event(flying.seq, flying.event)) {
            return self.stop(Phase::Stopped);
        }
        flying.landed = true;
        let early = flaw == Some(Flaw::AckOutOfOrder);
        if early {
            acked.push(acknowledge(flying, place));
        }
        while let Some(first) = self.flying.first().filter(|first| first.landed).copied() {
            let place = Place(self.epoch, self.decided);
            self.rows.push(Row { at: Position { place, link: self.link }, seq: first.seq, event: first.event });
            if !early {
                acked.push(acknowledge(&first, place));
            }
            self.link = Link::Event(first.event);
            self.decided += 1;
            self.flying.remove(0);
        }
    }

    /// Finds that an append expects another last seq than there is, in flight or not.
    pub fn judge(&mut self, after: Seq) {
        self.judged = Some((self.next - 1, after));
    }

    /// True if the refusal may be given as far as the owner's own memory goes: what it rests on is decided.
    pub fn may_refuse(&self, flaw: Option<Flaw>) -> bool {
        let decided = self.next - 1 - self.flying.len() as u8;
        self.judged.is_some_and(|(last, _)| last <= decided || flaw == Some(Flaw::RefusedTooEarly))
    }

    /// Refuses, if a look at the root still shows its own epoch. True if what it says is so: that seq is there, and nothing beyond it was acknowledged before.
    pub fn refuse(&mut self, store: &Store, durable: impl Fn(Seq) -> bool, flaw: Option<Flaw>) -> bool {
        if store.root.epoch != self.epoch && flaw != Some(Flaw::RefusedByFenced) {
            self.stop(Phase::Stopped);
        }
        self.judged.take().is_none_or(|(last, after)| after <= last && (last == 0 || durable(last)))
    }

    /// Cuts the rows from its watermark on and sends a commit, if the table begins where they do. True if it sent one.
    pub fn flush(&mut self, store: &mut Store, flaw: Option<Flaw>) -> bool {
        let Some(to) = self.rows.last().map(|row| row.seq + 1).filter(|to| *to > self.watermark) else { return false };
        let (from, table) = (self.watermark, &store.table);
        if table.watermark != from && !(flaw == Some(Flaw::AtOrBeyond) && table.watermark > from) {
            self.drop_below(table.watermark);
            return false;
        }
        self.flushes += 1;
        self.pin(Flush { number: self.flushes, from, to, pinned: table.version }, store);
        true
    }

    fn pin(&mut self, flush: Flush, store: &mut Store) {
        let rows = self.rows.iter().filter(|row| (flush.from..flush.to).contains(&row.seq)).map(|row| row.event);
        let snapshot = Snapshot { flush: (self.epoch, flush.number), from: flush.from, rows: rows.collect() };
        store.send(Commit { base: flush.pinned, snapshot });
        self.flush = Some(flush);
    }

    /// True if looking at the table would tell it something new about its flush.
    pub fn may_check(&self, store: &Store) -> bool {
        self.flush.is_some_and(|flush| flush.pinned != store.table.version)
    }

    /// Loads the table to see what became of its flush: done, again, or abandoned.
    pub fn check(&mut self, store: &mut Store) {
        let Some(flush) = self.flush else { return };
        let table = &store.table;
        let is_done = table.snapshots.iter().any(|snapshot| snapshot.flush == (self.epoch, flush.number));
        if !is_done && table.watermark == flush.from {
            return self.pin(Flush { pinned: table.version, ..flush }, store);
        }
        self.flush = None;
        self.drop_below(table.watermark);
    }

    fn drop_below(&mut self, watermark: Seq) {
        self.watermark = watermark;
        self.rows.retain(|row| row.seq >= watermark);
    }

    /// Works out how far the floor may move, after a fresh look at the table. `None` if it would not.
    pub fn measure(&self, store: &Store, flaw: Option<Flaw>) -> Option<Trim> {
        let hoped = self.flush.filter(|_| flaw == Some(Flaw::FloorBeforeReload)).map_or(1, |flush| flush.to);
        let watermark = store.table.watermark.max(hoped);
        let end = Position { place: Place(self.epoch, self.decided), link: self.link };
        let needed = self.rows.iter().find(|row| row.seq >= watermark);
        let floor = needed.map_or(end, |row| row.at);
        let in_flight = if flaw == Some(Flaw::CheckpointWithInFlight) { 0 } else { self.flying.len() as u8 };
        let checkpoint = Checkpoint { at: end, next: self.next - in_flight, watermark };
        let moves = floor.place > self.root.floor.place || checkpoint.at.place > self.root.checkpoint.at.place;
        moves.then_some(Trim { floor, checkpoint })
    }

    /// Swaps in floor and checkpoint.
    pub fn trim(&mut self, store: &mut Store) {
        let Some(trim) = self.trim.take() else { return };
        let mut root = self.root.clone();
        if trim.floor.place > root.floor.place {
            root.floor = trim.floor;
        }
        root.checkpoint = trim.checkpoint;
        root.shed_closed();
        self.swap(store, root);
    }

    /// A reader takes the first half of its view.
    pub fn take(&mut self, store: &Store, flaw: Option<Flaw>) {
        self.reader = Some(match flaw {
            Some(Flaw::TableBeforeTail) => Half::Table(store.table.watermark),
            _ => Half::Tail(self.rows.iter().map(|row| row.seq).collect()),
        });
    }

    /// It takes the other half. True if the view is whole.
    pub fn join(&mut self, store: &Store) -> bool {
        let (watermark, tail) = match self.reader.take() {
            None => return true,
            Some(Half::Tail(tail)) => (store.table.watermark, tail),
            Some(Half::Table(watermark)) => (watermark, self.rows.iter().map(|row| row.seq).collect()),
        };
        tail.into_iter().filter(|seq| *seq >= watermark).zip(watermark..).all(|(found, expected)| found == expected)
    }
}

fn acknowledge(flying: &Flying, place: Place) -> Acked {
    Acked { event: flying.event, seq: flying.seq, place, after: flying.after }
}
