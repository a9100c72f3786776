//! What an append may rest on beyond its rows: who sends it, what must not have happened meanwhile, who may still write.

use catalog::view::Matching;
use schemas::Seq;
use serde::{Deserialize, Serialize};

/// Who sends the batches of an appender, so that one sent twice is appended once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The producer's name, its own within the topic; 1 to [`schemas::limits::NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// As [`crate::Engine::producer_epoch`] gave it. A newer one fences all older.
    pub epoch: u64,
}

/// What one batch is appended under. The default is: whatever the state, and as often as it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The batch's number among its producer's, dense from [`ProducerEpoch::next_producer_seq`]. Given if and only if the appender has an identity.
    pub producer_seq: Option<u64>,
    /// What must hold; all of it, or nothing of the batch is appended. Column [`EXPECTED_LAST_SEQ`] of the batch adds conditions on the keys of its rows.
    pub conditions: Vec<Condition>,
    /// The token by which the writer shows that no later one has taken its place.
    pub fence: Option<Fence>,
}

/// A column of a batch (Int64, nulls for "no condition"): what is expected as last seq of the key of that row. Not part of the event.
pub const EXPECTED_LAST_SEQ: &str = "_expected_last_seq";

/// Nothing that matches lies above a seq, at the batch's place in the order, rows in flight included. The batch's own rows do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which events of the topic; also such as the batch does not add to.
    pub of: Matching,
    /// The last seq that may be there; 0: there is none yet.
    pub expected_last_seq: Seq,
}

/// A fence of a topic, or of the keys of it that begin with a prefix, and a token for it.
///
/// An append that names a fence is refused if its token is below the one that was last set; a higher one is set by it, in the same step. So a writer
/// that was replaced cannot append once its successor's token was seen. Fences stand apart from each other; an append that names none is not held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fence {
    /// `None`: the topic's.
    pub key_prefix: Option<String>,
    /// Grows with each writer.
    pub token: u64,
}

/// What a producer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerEpoch {
    /// The producer's new epoch: every older one of its name is fenced.
    pub producer_epoch: u64,
    /// The number of its first batch: 1, or where its predecessor stopped if it goes on from there.
    pub next_producer_seq: u64,
}

/// Whether a producer's batches are numbered on from where the epoch before stopped, and what was answered under that one is still known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// They are numbered from 1.
    No,
    /// They are; from 1 if there was no epoch before. Refused if there was one and it is forgotten.
    Yes {
        /// The producer did not exist before that time. A lane that has forgotten so many producers that it can no longer tell their names refuses one that
        /// may have been among them; without this it takes a name that it does not know for a new one.
        since_micros: Option<i64>,
    },
}

/// Why an append was refused, for programs. Nothing of it has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Something that matches lies above what was expected.
    ConditionFailed {
        /// The condition that does not hold; the first of several.
        condition: Condition,
        /// The last seq that matches.
        last_seq: Seq,
    },
    /// A later writer has set a higher token.
    FenceFailed {
        /// The fence, with the token that was presented.
        fence: Fence,
        /// The token that stands.
        token: u64,
    },
    /// Batches between are missing, or it is one whose answer is no longer remembered.
    ProducerSeq {
        /// The number that is next.
        next_producer_seq: u64,
        /// The least number whose answer is still remembered; equal to `next_producer_seq` if none is.
        oldest_producer_seq: u64,
    },
    /// The batch of this number had other content.
    ProducerContent {
        /// That number.
        producer_seq: u64,
    },
    /// The producer has a newer epoch.
    ProducerFenced {
        /// The newest.
        producer_epoch: u64,
    },
    /// Its epoch may have been issued, but what it appended is no longer remembered: look, then take a new epoch.
    ProducerForgotten,
    /// No such epoch was issued to this producer.
    ProducerUnknown,
    /// Another process owns the topic's lane.
    NotOwner {
        /// Where clients find it, e.g. `grpc://10.0.0.7:8815`; `None` if nobody knows.
        owner: Option<String>,
    },
}
