//! Topics of a followed lane that readers cannot read here, or not yet: their tables are looked for beside the following, each by itself, so that one that
//! cannot be opened delays no other (I16).
//!
//! Such a topic is there for readers, with the reason; it is looked at again and again, less and less often, until its table is there and reaches up to
//! what is held of the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use catalog::table::Found;
use schemas::{ErrorKind, Seq, TopicDef, TopicId, Watermark};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::error::IngestError;
use crate::lane::state::{LaneState, TopicState};
use crate::sequence::Core;

/// Tables looked at at once.
const LOOKS_MAX: usize = 16;
/// How long a topic waits after a look that found nothing to open; doubled each time up to [`PAUSE_MAX`]. Its owner makes a table just after the topic's
/// record.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long following waits for topics that are looked at for the first time: mostly all are open by then.
const FIRST_LOOKS: Duration = Duration::from_secs(2);

/// What a look at a table's register found, and which look it was.
type Look = (TopicId, u64, catalog::Result<Option<Found>>);

/// The topics that are not open, and the looks at their tables that are under way.
#[derive(Debug, Default)]
pub(super) struct Opening {
    topics: BTreeMap<TopicId, Waiting>,
    queue: VecDeque<TopicId>,
    looks: JoinSet<Look>,
    /// The number of the last look.
    last_look: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    /// When it is looked at again; `None` while it is in the queue or looked at.
    due: Option<Instant>,
    /// The look that is under way. What another one found is from before it was waited for.
    look: Option<u64>,
    /// How often it was looked at.
    looks: u32,
    /// Readers are told that it is there, and why it cannot be read.
    is_announced: bool,
    /// What the log has of it is not kept.
    is_shed: bool,
}

impl Opening {
    /// A topic begins, has another definition, or is no longer open: it is looked at before others.
    pub(super) fn insert(&mut self, topic: TopicId) {
        let waiting = self.topics.entry(topic).or_default();
        if waiting.due.take().is_some() || waiting.looks == 0 {
            self.queue.push_back(topic);
        }
    }

    /// A topic ended.
    pub(super) fn remove(&mut self, topic: &TopicId) {
        self.topics.remove(topic);
    }

    /// Those that the lane has no more.
    pub(super) fn retain(&mut self, state: &LaneState) {
        self.topics.retain(|topic, _| state.topics.contains_key(topic));
    }

    pub(super) fn contains(&self, topic: &TopicId) -> bool {
        self.topics.contains_key(topic)
    }

    /// True if rows of the topic are let pass.
    pub(super) fn is_shed(&self, topic: &TopicId) -> bool {
        self.topics.get(topic).is_some_and(|waiting| waiting.is_shed)
    }

    /// Rows of the topic are not kept from here on, until its table can be opened: then those from there on are.
    pub(super) fn shed(&mut self, topic: TopicId) {
        let pause = Instant::now() + PAUSE_MIN;
        let waiting = self.topics.entry(topic).or_insert_with(|| Waiting { due: Some(pause), ..Waiting::default() });
        (waiting.is_shed, waiting.is_announced) = (true, true);
    }

    /// Opens what can be opened by now. Waits a little for topics that are looked at for the first time, and for no other.
    pub(super) async fn advance(&mut self, core: &Core, state: &LaneState) {
        if self.topics.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = self.topics.iter_mut().filter(|(_, waiting)| waiting.due.is_some_and(|due| due <= now));
        self.queue.extend(due.map(|(topic, waiting)| (waiting.due = None, *topic).1));
        loop {
            self.look(core, state);
            while let Some(Ok(look)) = self.looks.try_join_next() {
                self.looked(core, state, look);
            }
            if !self.topics.values().any(|waiting| waiting.looks == 0 && !waiting.is_announced) {
                return;
            }
            match timeout_at(now + FIRST_LOOKS, self.looks.join_next()).await {
                Ok(Some(Ok(look))) => self.looked(core, state, look),
                _ => break,
            }
        }
        for (topic, waiting) in self.topics.iter_mut().filter(|(_, waiting)| !waiting.is_announced) {
            waiting.is_announced |= core.parts.tables.is_open(topic);
            if let Some(state) = state.topics.get(topic).filter(|_| !waiting.is_announced) {
                waiting.announce(core, state, ErrorKind::Unavailable, "its table is still being opened");
            }
        }
    }

    /// Begins as many looks as there may be.
    fn look(&mut self, core: &Core, state: &LaneState) {
        while self.looks.len() < LOOKS_MAX
            && let Some(topic) = self.queue.pop_front()
        {
            let Some(waiting) = self.topics.get_mut(&topic).filter(|waiting| waiting.look.is_none()) else { continue };
            let Some(state) = state.topics.get(&topic) else { continue };
            self.last_look += 1;
            let number = self.last_look;
            waiting.look = Some(number);
            let (tables, tenant) = (core.parts.tables.clone(), state.tenant.clone());
            let def = Arc::clone(state.shape().def());
            self.looks.spawn(async move { (topic, number, tables.find(&tenant, &def).await) });
        }
    }

    fn looked(&mut self, core: &Core, state: &LaneState, (topic, number, found): Look) {
        let (Some(waiting), Some(state)) = (self.topics.get_mut(&topic), state.topics.get(&topic)) else { return };
        if waiting.look != Some(number) {
            return;
        }
        waiting.look = None;
        waiting.looks += 1;
        let def = state.shape().def();
        let begins = core.tails.as_tail().snapshot(&topic).map_or(state.next_seq, |held| held.start);
        match judge(state, begins, found) {
            Judged::Open(found) => {
                core.parts.tables.admit(def, found);
                core.parts.topics.publish(&state.tenant, Arc::clone(def));
                self.topics.remove(&topic);
                return;
            }
            // What was last seen of it will do.
            _ if core.parts.tables.is_open(&topic) => {
                core.parts.topics.publish(&state.tenant, Arc::clone(def));
                self.topics.remove(&topic);
                return;
            }
            Judged::NotYet => {}
            Judged::Closed { kind, reason, is_there } => {
                waiting.is_shed &= !is_there;
                waiting.announce(core, state, kind, &reason);
            }
        }
        let pause = PAUSE_MIN.saturating_mul(1 << waiting.looks.min(16)).min(PAUSE_MAX);
        waiting.due = Some(Instant::now() + pause);
    }
}

impl Waiting {
    fn announce(&mut self, core: &Core, state: &TopicState, kind: ErrorKind, reason: &str) {
        if !self.is_announced {
            tracing::warn!(topic = %state.shape().def().name, reason, "a topic cannot be read here");
        }
        self.is_announced = true;
        close(core, state, kind, reason);
    }
}

/// Tells readers that a topic is there and why it cannot be read.
pub(super) fn close(core: &Core, state: &TopicState, kind: ErrorKind, reason: &str) {
    let def: &Arc<TopicDef> = state.shape().def();
    let message = format!("topic {} cannot be read at this server for now: {reason}", def.name);
    core.parts.tables.close(&def.id, kind, message);
    core.parts.topics.publish(&state.tenant, Arc::clone(def));
}

enum Judged {
    Open(Found),
    /// The topic has just been made: its table is on its way.
    NotYet,
    /// `is_there`: its table can be read, so that keeping rows helps.
    Closed {
        kind: ErrorKind,
        reason: String,
        is_there: bool,
    },
}

/// What to make of a look at the table of a topic whose tail begins at this seq.
fn judge(state: &TopicState, begins: Seq, found: catalog::Result<Option<Found>>) -> Judged {
    match found {
        Ok(Some(found)) if found.watermark().0 >= begins => Judged::Open(found),
        Ok(Some(found)) => {
            let ends = found.watermark();
            let reason =
                format!("its table ends before seq {ends}, and what this server has of the log begins at {begins}");
            Judged::Closed { kind: ErrorKind::Unavailable, reason, is_there: true }
        }
        Ok(None) if state.next_seq == Seq::FIRST && !state.confirmed => Judged::NotYet,
        Ok(None) => {
            let reason = "its table's register does not name it: others have changed it".to_owned();
            Judged::Closed { kind: ErrorKind::Conflict, reason, is_there: false }
        }
        Err(error) => {
            let error = IngestError::from(error);
            let reason = format!("its table cannot be opened: {error}");
            Judged::Closed { kind: error.kind(), reason, is_there: false }
        }
    }
}

/// Whether a table that was loaded reaches `next`; else what to tell readers.
pub(super) fn reaches(next: Seq, loaded: catalog::Result<Watermark>) -> Result<(), (ErrorKind, String)> {
    match loaded {
        Ok(Watermark(end)) if end >= next => Ok(()),
        Ok(end) => {
            let reason = format!("its table ends before seq {end}, and the log that is left begins at {next}");
            Err((ErrorKind::Conflict, reason))
        }
        Err(error) => Err((error.kind(), format!("its table cannot be read: {error}"))),
    }
}
