//! Fence tokens: which writer was the last that a topic, or the keys that begin with a prefix, was handed to.
//!
//! A token only grows. It is checked, and if higher set, at the place in the order where the append stands, so a writer whose successor has
//! appended cannot append any more, however late its batch arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::limits::FENCES_MAX;
use schemas::{ErrorKind, TenantId, TopicId};
use serde::{Deserialize, Serialize};

use crate::engine::{Detail, Fence};
use crate::error::{IngestError, Result};
use crate::wal::{Frame, FrameKind, Payload};

/// The fences of a lane's topics. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fences {
    topics: BTreeMap<TopicId, Arc<BTreeMap<Option<String>, u64>>>,
}

/// One fence in a checkpoint.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FenceDocument {
    topic: TopicId,
    #[serde(flatten)]
    fence: Fence,
}

impl Fences {
    /// The token that stands, if one was ever set.
    pub(crate) fn token(&self, topic: &TopicId, key_prefix: &Option<String>) -> Option<u64> {
        self.topics.get(topic)?.get(key_prefix).copied()
    }

    /// True if the token is new and must be set. Errors: it is not high enough, or the topic has too many fences.
    pub(crate) fn judge(&self, topic: &TopicId, fence: &Fence) -> Result<bool> {
        match self.token(topic, &fence.key_prefix) {
            Some(token) if fence.token < token => Err(too_low(fence, token)),
            Some(token) => Ok(fence.token > token),
            None if self.topics.get(topic).is_some_and(|fences| fences.len() >= FENCES_MAX) => {
                let message = format!("nothing was appended: a topic has at most {FENCES_MAX} fences");
                Err(IngestError::new(ErrorKind::Invalid, message))
            }
            None => Ok(true),
        }
    }

    /// Sets a fence. Errors: it falls, in words.
    pub(crate) fn apply(&mut self, topic: TopicId, fence: &Fence) -> Result<(), String> {
        let fences = Arc::make_mut(self.topics.entry(topic).or_default());
        match fences.insert(fence.key_prefix.clone(), fence.token) {
            Some(before) if before >= fence.token => {
                Err(format!("topic {topic}: a fence falls from {before} to {}", fence.token))
            }
            _ => Ok(()),
        }
    }

    /// Forgets those of a topic that has ended.
    pub(crate) fn end_topic(&mut self, topic: &TopicId) {
        self.topics.remove(topic);
    }

    /// As a section of a checkpoint.
    pub(crate) fn document(&self) -> Vec<FenceDocument> {
        let of_topic = |(topic, fences): (&TopicId, &Arc<BTreeMap<Option<String>, u64>>)| {
            let topic = *topic;
            let one = move |(key_prefix, token): (&Option<String>, &u64)| FenceDocument {
                topic,
                fence: Fence { key_prefix: key_prefix.clone(), token: *token },
            };
            fences.iter().map(one).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// Reads what [`Self::document`] made. Errors: what is wrong, in words.
    pub(crate) fn from_document(document: Vec<FenceDocument>) -> Result<Self, String> {
        let mut fences = Self::default();
        document.iter().try_for_each(|one| fences.apply(one.topic, &one.fence))?;
        Ok(fences)
    }
}

fn too_low(fence: &Fence, token: u64) -> IngestError {
    let whose = fence.key_prefix.as_ref().map_or("the topic".to_owned(), |prefix| format!("keys {prefix:?}…"));
    let message = format!(
        "nothing was appended: the fence of {whose} has token {token}, {} was presented: a later writer has taken over",
        fence.token
    );
    IngestError::new(ErrorKind::Conflict, message).with_detail(Detail::FenceFailed { fence: fence.clone(), token })
}

/// The frame that sets a fence: its payload is the token (8 bytes, little endian), 1 if there is a key prefix and 0 if not, and the prefix.
pub(crate) fn frame(tenant: TenantId, topic: TopicId, fence: &Fence) -> Frame {
    let mut payload = fence.token.to_le_bytes().to_vec();
    payload.push(u8::from(fence.key_prefix.is_some()));
    payload.extend_from_slice(fence.key_prefix.as_deref().unwrap_or_default().as_bytes());
    Frame::record(FrameKind::Fence, tenant, topic, Payload::new(payload))
}

/// Reads what [`frame`] made. Errors: what is wrong, in words.
pub(crate) fn read(frame: &Frame) -> Result<Fence, String> {
    let bytes = frame.payload.bytes();
    let Some((token, prefix)) = bytes.split_first_chunk::<8>() else {
        return Err(format!("expected a fence's token of 8 bytes, found {}", bytes.len()));
    };
    let key_prefix = match prefix {
        [0] => None,
        [1, prefix @ ..] => Some(std::str::from_utf8(prefix).map_err(|_| "a key prefix is not UTF-8")?.to_owned()),
        _ => return Err("a fence is neither a topic's nor a key prefix's".to_owned()),
    };
    Ok(Fence { key_prefix, token: u64::from_le_bytes(*token) })
}

#[cfg(test)]
mod tests;
