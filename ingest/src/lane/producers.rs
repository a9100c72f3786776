//! What a lane remembers of producers, so that a batch sent twice is appended once and answered alike (P2).
//!
//! For each producer of a topic: its epoch, the number that is next, and the answers to its last [`PRODUCER_ANSWERS_MAX`] batches. What a batch was
//! answered follows from its content and its schema version but for the seqs, so the refused rows are not kept: the retry brings the same content,
//! and validation refuses the same rows of it.
//!
//! The table is a fold over the log's producer frames: eviction too depends on nothing but them (which was used last, and the time that the frames
//! bear), so head, decided state, and whatever a restart rebuilds forget the same. Forgetting is safe at any time: an epoch that was issued and has
//! no entry is answered *forgotten*, never appended anew; and so is a name that asks to go on and has no entry any more ([`forgotten`]).

mod document;
mod forgotten;
mod record;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use schemas::limits::{PRODUCER_ANSWERS_MAX, PRODUCER_IDLE_SECONDS_MAX, PRODUCERS_MAX};
use schemas::{ErrorKind, Seq, TopicId};

pub(crate) use self::document::ProducersDocument;
pub(crate) use self::record::{Act, ProducerRecord};

use self::forgotten::Forgotten;
use crate::engine::{Detail, ProducerEpoch};
use crate::error::IngestError;

/// Everything that a lane remembers of producers. Cheap to clone: entries are shared until they change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Producers {
    /// The last epoch that was issued: one counter for all producers of the lane.
    epochs: u64,
    /// The latest time of a frame that was applied: as good as a clock that never goes back.
    newest_micros: i64,
    entries: BTreeMap<Name, Arc<Producer>>,
    /// By when they were used, the longest ago first.
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    /// Names that are no longer in `entries`.
    forgotten: Forgotten,
}

/// A producer's name within its topic.
type Name = (TopicId, Arc<str>);

#[derive(Clone, Debug, PartialEq)]
struct Producer {
    epoch: u64,
    next_seq: u64,
    /// To the batches up to `next_seq`, the oldest first.
    answers: VecDeque<Answered>,
    used_micros: i64,
    /// Its key in `by_use`.
    used: u64,
}

/// What a batch was answered, and how it is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Hash of what was sent.
    pub(crate) content: u128,
    /// Seq of the first accepted row, if there was one; the others follow it.
    pub(crate) first_seq: Option<Seq>,
    /// Rows accepted.
    pub(crate) accepted: u32,
    /// Rows refused.
    pub(crate) refused: u32,
    /// What the rows were validated by.
    pub(crate) schema_version: u32,
}

/// A batch of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) content: u128,
}

/// What is to be done with it.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// It is new, and next.
    Next,
    /// It was appended before.
    Answered(Answered),
    /// Nothing.
    Refused(IngestError),
}

impl Producers {
    /// What is to be done with a batch.
    pub(crate) fn judge(&self, topic: &TopicId, batch: &Numbered) -> Judgement {
        let Some(producer) = self.entries.get(&(*topic, Arc::clone(&batch.name))) else {
            return Judgement::Refused(self.without_entry(batch));
        };
        if batch.epoch != producer.epoch {
            return Judgement::Refused(batch.of_another_epoch(producer.epoch));
        }
        if batch.seq == producer.next_seq {
            return Judgement::Next;
        }
        match producer.answer(batch.seq) {
            None => Judgement::Refused(batch.out_of_order(producer)),
            Some(answer) if answer.content == batch.content => Judgement::Answered(*answer),
            Some(_) => Judgement::Refused(batch.of_other_content()),
        }
    }

    fn without_entry(&self, batch: &Numbered) -> IngestError {
        let Numbered { name, epoch, .. } = batch;
        if (1..=self.epochs).contains(epoch) {
            let message = format!(
                "producer {name:?}: its epoch {epoch} is forgotten, so nobody knows what of it was appended: look, then take a new epoch"
            );
            return refusal(message, Detail::ProducerForgotten);
        }
        refusal(format!("producer {name:?}: no epoch {epoch} was issued to it: ask for one"), Detail::ProducerUnknown)
    }

    /// Why a producer of this name cannot go on where it stopped, if nobody knows where that was. `since_micros`: before that it did not exist.
    pub(crate) fn forgets(&self, topic: &TopicId, name: &Arc<str>, since_micros: Option<i64>) -> Option<IngestError> {
        if self.entries.contains_key(&(*topic, Arc::clone(name))) || !self.forgotten.contains(topic, name, since_micros)
        {
            return None;
        }
        let message = format!(
            "producer {name:?}: how far it came is forgotten: look what of it was appended, then take an epoch that does not resume"
        );
        Some(refusal(message, Detail::ProducerForgotten))
    }

    /// The epoch that is issued next, and what number its first batch has.
    pub(crate) fn next_epoch(&self, topic: &TopicId, name: &Arc<str>, resumes: bool) -> ProducerEpoch {
        let entry = self.entries.get(&(*topic, Arc::clone(name))).filter(|_| resumes);
        ProducerEpoch {
            producer_epoch: self.epochs + 1,
            next_producer_seq: entry.map_or(FIRST_SEQ, |entry| entry.next_seq),
        }
    }

    /// Applies a record of the log. Errors: what contradicts the state, in words.
    pub(crate) fn apply(&mut self, topic: TopicId, record: &ProducerRecord) -> Result<(), String> {
        let ProducerRecord { name, epoch, time_micros, act } = record;
        let key = (topic, Arc::clone(name));
        match act {
            Act::Issued { resumes } => {
                if *epoch != self.epochs + 1 {
                    return Err(format!("expected producer epoch {} next, found {epoch}", self.epochs + 1));
                }
                self.epochs = *epoch;
                let before = self.remove(&key).filter(|_| *resumes);
                let fresh =
                    || Producer { epoch: 0, next_seq: FIRST_SEQ, answers: VecDeque::new(), used_micros: 0, used: 0 };
                let producer = before.map_or_else(fresh, Arc::unwrap_or_clone);
                self.forgotten.remove(&topic, name);
                self.entries.insert(key.clone(), Arc::new(Producer { epoch: *epoch, ..producer }));
            }
            Act::Answered { seq, answer } => {
                let producer = self.entries.get_mut(&key).ok_or_else(|| format!("producer {name:?} is not known"))?;
                if (producer.epoch, producer.next_seq) != (*epoch, *seq) {
                    return Err(format!(
                        "producer {name:?}: expected epoch {} seq {} next, found epoch {epoch} seq {seq}",
                        producer.epoch, producer.next_seq
                    ));
                }
                let producer = Arc::make_mut(producer);
                producer.next_seq += 1;
                producer.answers.push_back(*answer);
                if producer.answers.len() > PRODUCER_ANSWERS_MAX {
                    producer.answers.pop_front();
                }
            }
        }
        self.used(&key, *time_micros);
        self.evict();
        Ok(())
    }

    /// Forgets those of a topic that has ended.
    pub(crate) fn end_topic(&mut self, topic: &TopicId) {
        self.by_use.retain(|_, (of, _)| of != topic);
        self.entries.retain(|(of, _), _| of != topic);
    }

    fn used(&mut self, key: &Name, time_micros: i64) {
        self.newest_micros = self.newest_micros.max(time_micros);
        self.uses += 1;
        let producer = Arc::make_mut(self.entries.get_mut(key).expect("it was just changed"));
        self.by_use.remove(&producer.used);
        self.by_use.insert(self.uses, key.clone());
        (producer.used, producer.used_micros) = (self.uses, self.newest_micros);
    }

    /// Keeps to the bounds of number and age. Never what was just used.
    fn evict(&mut self) {
        let oldest = self.newest_micros.saturating_sub((PRODUCER_IDLE_SECONDS_MAX * 1_000_000) as i64);
        while let Some(entry) = self.by_use.first_entry() {
            let is_idle = self.entries[entry.get()].used_micros < oldest;
            if !is_idle && self.entries.len() <= PRODUCERS_MAX {
                break;
            }
            let key = entry.remove();
            if let Some(evicted) = self.entries.remove(&key) {
                self.forgotten.add(&key.0, &key.1, evicted.used_micros);
            }
        }
    }

    fn remove(&mut self, key: &Name) -> Option<Arc<Producer>> {
        let removed = self.entries.remove(key)?;
        self.by_use.remove(&removed.used);
        Some(removed)
    }
}

/// The number of a producer's first batch.
const FIRST_SEQ: u64 = 1;

impl Producer {
    /// What the batch of this number was answered, if it is remembered.
    fn answer(&self, seq: u64) -> Option<&Answered> {
        let at = seq.checked_sub(self.oldest_seq())?;
        self.answers.get(usize::try_from(at).ok()?)
    }

    fn oldest_seq(&self) -> u64 {
        self.next_seq - self.answers.len() as u64
    }
}

impl Numbered {
    fn of_another_epoch(&self, newest: u64) -> IngestError {
        let Self { name, epoch, .. } = self;
        if *epoch > newest {
            let message = format!("producer {name:?}: no epoch {epoch} was issued to it, its newest is {newest}");
            return refusal(message, Detail::ProducerUnknown);
        }
        let message =
            format!("producer {name:?}: epoch {epoch} is fenced: epoch {newest} was issued to its name since");
        refusal(message, Detail::ProducerFenced { producer_epoch: newest })
    }

    fn out_of_order(&self, producer: &Producer) -> IngestError {
        let Self { name, seq, .. } = self;
        let (next, oldest) = (producer.next_seq, producer.oldest_seq());
        let message = match *seq > next {
            true => format!("producer {name:?}: a gap: expected batch {next} next, found {seq}"),
            false => format!(
                "producer {name:?}: batch {seq} was answered before, and its answer is forgotten: only those from {oldest} to before {next} are kept"
            ),
        };
        refusal(message, Detail::ProducerSeq { next_producer_seq: next, oldest_producer_seq: oldest })
    }

    fn of_other_content(&self) -> IngestError {
        let Self { name, seq, .. } = self;
        let message = format!("producer {name:?}: batch {seq} was appended before, with other content");
        refusal(message, Detail::ProducerContent { producer_seq: *seq })
    }
}

fn refusal(message: String, detail: Detail) -> IngestError {
    IngestError::new(ErrorKind::Conflict, format!("nothing was appended: {message}")).with_detail(detail)
}

#[cfg(test)]
mod tests;
