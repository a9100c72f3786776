//! What a lane knows after some place of its log: a pure fold over what its segments say.
//!
//! The owner keeps it twice: at the *head*, with everything that was assigned, by which the next append is judged; and as *decided*, which is
//! what a checkpoint writes down. Recovery arrives at the same by applying the same effects, so a retry is told the same after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::limits::PREFIXES_MAX;
use schemas::{Seq, TenantName, TopicDef, TopicId, Watermark};

use super::fences::Fences;
use super::parked::Parked;
use super::producers::{ProducerRecord, Producers};
use crate::engine::Fence;
use crate::rows::Shape;

/// Everything that the lane's records have said of its topics.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaneState {
    pub(crate) topics: BTreeMap<TopicId, TopicState>,
    /// Dropped, but the topic's register may not say so yet, or files of its table may be left.
    pub(crate) dropped: BTreeMap<TopicId, Dropped>,
    /// Live topics with rows outside of the log.
    pub(crate) parked: BTreeMap<TopicId, Parked>,
    /// Which batches were answered what.
    pub(crate) producers: Producers,
    /// Which writers were replaced.
    pub(crate) fences: Fences,
}

/// A topic that has ended, and whose it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dropped {
    pub(crate) tenant: TenantName,
    pub(crate) def: Arc<TopicDef>,
    /// Since when its registers say so, or the last of its files that was found is gone, microseconds; `None` if they may not say so yet. A hint: it decides
    /// only when files are looked for.
    pub(crate) since_micros: Option<i64>,
}

/// One live topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicState {
    pub(crate) tenant: TenantName,
    /// Every schema version that rows in the log may have, ascending; the last one is current.
    pub(crate) shapes: Vec<Arc<Shape>>,
    pub(crate) next_seq: Seq,
    /// `_time` of the last event, microseconds.
    pub(crate) last_time: i64,
    /// The values of `_prefix`, the topic's own name apart.
    pub(crate) prefixes: BTreeSet<String>,
    /// As last heard: a hint, never what a decision rests on.
    pub(crate) watermark: Watermark,
    /// First seq that retention has left: those below are gone, whatever the table still has of them.
    pub(crate) retained: Seq,
    /// The topic's register is known to say that it is live, at its newest schema version.
    pub(crate) confirmed: bool,
}

/// What one frame does to the state.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A topic begins.
    Created { tenant: TenantName, shape: Arc<Shape> },
    /// A topic has a new schema version.
    Changed { shape: Arc<Shape> },
    /// A topic ends.
    Dropped { topic: TopicId },
    /// Events of a topic. `prefixes`: those that they add to the known ones.
    Appended { topic: TopicId, first_seq: Seq, count: u32, time_micros: i64, prefixes: Vec<String> },
    /// A producer has a new epoch, or a batch of it was answered.
    Producer { topic: TopicId, record: ProducerRecord },
    /// A fence is set.
    Fence { topic: TopicId, fence: Fence },
    /// Events below are gone.
    Retained { topic: TopicId, below: Seq },
}

impl LaneState {
    /// Applies one effect. Errors: what contradicts the state, in words; the log is then not what its owner wrote.
    pub(crate) fn apply(&mut self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Created { tenant, shape } => {
                let topic = shape.def().id;
                let fresh = TopicState {
                    tenant: tenant.clone(),
                    shapes: vec![Arc::clone(shape)],
                    next_seq: Seq::FIRST,
                    last_time: 0,
                    prefixes: BTreeSet::new(),
                    watermark: Watermark::START,
                    retained: Seq::FIRST,
                    confirmed: false,
                };
                match self.topics.insert(topic, fresh) {
                    None => Ok(()),
                    Some(_) => Err(format!("topic {topic} is created a second time")),
                }
            }
            Effect::Changed { shape } => {
                let topic = self.topic_mut(&shape.def().id)?;
                let (before, after) = (topic.shape().def().version, shape.def().version);
                if after != before + 1 {
                    let id = shape.def().id;
                    return Err(format!("topic {id}: expected schema version {} next, found {after}", before + 1));
                }
                topic.shapes.push(Arc::clone(shape));
                topic.confirmed = false;
                Ok(())
            }
            Effect::Dropped { topic } => {
                let Some(state) = self.topics.remove(topic) else { return Err(unknown(topic)) };
                self.parked.remove(topic);
                let def = Arc::clone(state.shape().def());
                self.dropped.insert(*topic, Dropped { tenant: state.tenant, def, since_micros: None });
                self.producers.end_topic(topic);
                self.fences.end_topic(topic);
                Ok(())
            }
            Effect::Appended { topic: id, first_seq, count, time_micros, prefixes } => {
                let topic = self.topic_mut(id)?;
                if *first_seq != topic.next_seq {
                    return Err(format!("topic {id}: expected seq {} next, found {first_seq}", topic.next_seq));
                }
                topic.next_seq = first_seq.plus(*count as usize);
                topic.last_time = topic.last_time.max(*time_micros);
                topic.prefixes.extend(prefixes.iter().cloned());
                Ok(())
            }
            Effect::Producer { topic, record } => {
                self.topic_mut(topic)?;
                self.producers.apply(*topic, record)
            }
            Effect::Fence { topic, fence } => {
                self.topic_mut(topic)?;
                self.fences.apply(*topic, fence)
            }
            Effect::Retained { topic: id, below } => {
                let topic = self.topic_mut(id)?;
                if *below <= topic.retained || *below > topic.next_seq {
                    let (retained, next) = (topic.retained, topic.next_seq);
                    return Err(format!(
                        "topic {id}: expected retention beyond {retained} and up to {next}, found {below}"
                    ));
                }
                topic.retained = *below;
                Ok(())
            }
        }
    }

    fn topic_mut(&mut self, topic: &TopicId) -> Result<&mut TopicState, String> {
        self.topics.get_mut(topic).ok_or_else(|| unknown(topic))
    }
}

fn unknown(topic: &TopicId) -> String {
    format!("topic {topic} is not known here")
}

impl TopicState {
    /// The current schema version.
    pub(crate) fn shape(&self) -> &Arc<Shape> {
        self.shapes.last().expect("a topic has a definition from the start")
    }

    /// The schema version of this number, if rows may have it.
    pub(crate) fn shape_of(&self, version: u32) -> Option<&Arc<Shape>> {
        self.shapes.iter().find(|shape| shape.def().version == version)
    }

    /// True if rows of this prefix keep it; else they share the topic's own name. Never changes for a prefix that has been asked about in order:
    /// what is known stays known, and once the number is full it stays full.
    pub(crate) fn admits(&self, prefix: &str) -> bool {
        prefix == self.shape().def().name.as_str() || self.prefixes.contains(prefix)
    }

    /// Of the prefixes of a batch, those that become known with it. Sorted first: the order of rows decides nothing.
    pub(crate) fn new_prefixes(&self, distinct: &[String]) -> Vec<String> {
        let mut new: Vec<_> = distinct.iter().filter(|prefix| !self.admits(prefix)).cloned().collect();
        new.sort_unstable();
        new.dedup();
        // One of the bounded number is the topic's own name, which those beyond it share.
        new.truncate((PREFIXES_MAX - 1).saturating_sub(self.prefixes.len()));
        new
    }
}

#[cfg(test)]
mod tests;
