//! Topics that take no appends: why, and whether their rows have left the log yet.

use std::collections::{BTreeMap, BTreeSet};

use schemas::TopicId;

use super::Append;
use crate::error::IngestError;
use crate::lane::state::LaneState;

/// The topics of a lane that have stopped. Empty but on a bad day, so that asking costs an append nothing.
#[derive(Debug, Default)]
pub(super) struct Halted {
    reasons: BTreeMap<TopicId, IngestError>,
    /// Those whose rows still hold the floor.
    unparked: BTreeSet<TopicId>,
}

impl Halted {
    /// Notes the topics of this lane that have stopped: what is taken from here on has nothing of theirs.
    pub(super) fn stop(&mut self, stopped: Vec<(TopicId, IngestError)>, head: &LaneState, decided: &LaneState) {
        for (id, reason) in stopped {
            let Some(topic) = head.topics.get(&id) else { continue };
            let is_parked = decided.parked.get(&id).is_some_and(|parked| parked.to == topic.next_seq);
            if self.reasons.insert(id, reason).is_none() && !is_parked {
                self.unparked.insert(id);
            }
        }
    }

    /// A topic is taken up again.
    pub(super) fn resume(&mut self, topic: &TopicId) {
        self.reasons.remove(topic);
        self.unparked.remove(topic);
    }

    /// A topic's rows are safe outside of the log.
    pub(super) fn parked(&mut self, topic: &TopicId) {
        self.unparked.remove(topic);
    }

    /// True if the topic takes no appends.
    pub(super) fn contains(&self, topic: &TopicId) -> bool {
        self.reasons.contains_key(topic)
    }

    /// Why nothing of an append can be taken, if one of its topics has stopped.
    pub(super) fn refusal(&self, append: &Append) -> Option<&IngestError> {
        if self.reasons.is_empty() {
            return None;
        }
        append.rows.iter().chain(&append.dead).find_map(|part| self.reasons.get(part.topic()))
    }

    /// Topics whose rows hold the floor and of which nothing is in flight any more, and why they stopped.
    pub(super) fn parkable(
        &self,
        head: &LaneState,
        decided: &LaneState,
    ) -> impl Iterator<Item = (TopicId, &IngestError)> {
        self.unparked.iter().filter_map(|id| {
            let (head, decided) = (head.topics.get(id)?, decided.topics.get(id)?);
            (head.next_seq == decided.next_seq).then_some((*id, self.reasons.get(id)?))
        })
    }
}
