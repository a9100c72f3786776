//! The table of producers as a section of a checkpoint.

use std::sync::Arc;

use schemas::{ShardSeqs, TopicId};
use serde::{Deserialize, Serialize};

use super::forgotten::Forgotten;
use super::{Answered, Producer, Producers};

/// The section. What was used longest ago stands first.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProducersDocument {
    epochs: u64,
    newest_micros: i64,
    producers: Vec<ProducerDocument>,
    /// Hashes of the names that were forgotten, 16 hexadecimal digits each, the oldest first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    forgotten: String,
    /// Names that are in neither list were last used by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgotten_until_micros: Option<i64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ProducerDocument {
    topic: TopicId,
    name: String,
    epoch: u64,
    next: u64,
    used_micros: i64,
    /// To the batches up to `next`, the oldest first.
    answers: Vec<AnswerDocument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct AnswerDocument {
    /// 32 hexadecimal digits.
    content: String,
    /// Empty if no row was accepted.
    first: ShardSeqs,
    accepted: u32,
    refused: u32,
    schema_version: u32,
}

impl From<&Producers> for ProducersDocument {
    fn from(producers: &Producers) -> Self {
        let answer = |answer: &Answered| AnswerDocument {
            content: format!("{:032x}", answer.content),
            first: answer.first_seq.map(ShardSeqs::single).unwrap_or_default(),
            accepted: answer.accepted,
            refused: answer.refused,
            schema_version: answer.schema_version,
        };
        let producer = |(topic, name): &(TopicId, Arc<str>)| {
            let producer = &producers.entries[&(*topic, Arc::clone(name))];
            ProducerDocument {
                topic: *topic,
                name: name.to_string(),
                epoch: producer.epoch,
                next: producer.next_seq,
                used_micros: producer.used_micros,
                answers: producer.answers.iter().map(answer).collect(),
            }
        };
        let (forgotten, forgotten_until_micros) = producers.forgotten.to_parts();
        Self {
            epochs: producers.epochs,
            newest_micros: producers.newest_micros,
            producers: producers.by_use.values().map(producer).collect(),
            forgotten,
            forgotten_until_micros,
        }
    }
}

impl TryFrom<ProducersDocument> for Producers {
    type Error = String;
    fn try_from(document: ProducersDocument) -> Result<Self, String> {
        let forgotten = Forgotten::from_parts(&document.forgotten, document.forgotten_until_micros)?;
        let (epochs, newest_micros) = (document.epochs, document.newest_micros);
        let mut producers = Self { epochs, newest_micros, forgotten, ..Self::default() };
        for producer in document.producers {
            let ProducerDocument { topic, name, epoch, next, used_micros, answers } = producer;
            let answers = answers.into_iter().map(answered).collect::<Result<_, _>>()?;
            producers.uses += 1;
            let key = (topic, Arc::from(name));
            producers.by_use.insert(producers.uses, key.clone());
            let producer = Producer { epoch, next_seq: next, answers, used_micros, used: producers.uses };
            if producer.answers.len() as u64 >= next {
                return Err(format!("producer {:?} has more answers than batches", key.1));
            }
            producers.entries.insert(key, Arc::new(producer));
        }
        match producers.entries.len() == producers.by_use.len() {
            true => Ok(producers),
            false => Err("a producer stands twice in the checkpoint".to_owned()),
        }
    }
}

fn answered(document: AnswerDocument) -> Result<Answered, String> {
    let AnswerDocument { content, first, accepted, refused, schema_version } = document;
    let content = u128::from_str_radix(&content, 16).map_err(|_| format!("{content:?} is no content hash"))?;
    Ok(Answered { content, first_seq: first.as_single(), accepted, refused, schema_version })
}
