//! What an error says to programs: one JSON document, the same in a status and in the answer to a batch.
//!
//! ```json
//! {"kind":"conflict", "retryable":false, "message":"…", "reason":"condition-failed", "condition":{"key":"o-17","expected_last_seq":3}, "last_seq":17}
//! ```
//!
//! It stands in the trailer `firn-error` in ASCII. A document with a `reason` stands in `grpc-status-details-bin` as well: a `google.rpc.Status` whose
//! one detail is a `google.protobuf.StringValue` with the JSON, so that Go and Java find it where they look, and last, so that it is the end of the
//! bytes that `pyarrow` shows as `extra_info` (which it does only beside a trailer `x-arrow-status`).

use ingest::engine::Detail;
use prost::Message;
use schemas::ErrorKind;
use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::status::DETAIL_KEY;
use crate::terms::{FenceToken, LastSeqCondition};

/// Longest key, pattern or prefix that is repeated in an error, bytes: trailers have room for a few thousand in all.
const TEXT_BYTES_MAX: usize = 256;

/// What an error says to programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The kind of error, as `schemas::ErrorKind::name` spells it.
    pub kind: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The message, perhaps cut short.
    pub message: String,
    /// What a program needs to go on.
    #[serde(flatten)]
    pub facts: Option<Facts>,
}

/// What a program needs to go on after an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Facts {
    /// Something that matches lies above what was expected.
    ConditionFailed {
        /// The condition; absent if its key or pattern is too long to repeat.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        condition: Option<LastSeqCondition>,
        /// The last seq that matches.
        last_seq: i64,
    },
    /// A later writer has set a higher token.
    FenceFailed {
        /// The fence with the token that was presented; absent if its prefix is too long to repeat.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<FenceToken>,
        /// The token that stands.
        token: u64,
    },
    /// Batches between are missing, or it is one whose answer is no longer remembered.
    ProducerSeq {
        /// The number that is next.
        next_producer_seq: u64,
        /// The least number whose answer is still remembered; `next_producer_seq` if none is.
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
    /// What the producer appended is no longer remembered: look, then take a new epoch.
    ProducerForgotten,
    /// No such epoch was issued to this producer.
    ProducerUnknown,
    /// Another process owns what was asked for.
    NotOwner {
        /// Where it answers, `grpc://…`; absent if nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
    },
}

impl ErrorDetail {
    pub(crate) fn new(kind: ErrorKind, message: &str, facts: Option<&Facts>) -> Self {
        let (kind, retryable) = (kind.name().to_owned(), kind.is_retryable());
        Self { kind, retryable, message: message.to_owned(), facts: facts.cloned() }
    }

    /// What a status of a Firn server says; `None` if it is from elsewhere.
    pub fn of(status: &Status) -> Option<Self> {
        serde_json::from_str(status.metadata().get(DETAIL_KEY)?.to_str().ok()?).ok()
    }

    /// The JSON document.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data is always JSON")
    }

    /// The value of `grpc-status-details-bin`.
    pub(crate) fn to_rpc_status(&self, code: i32) -> Vec<u8> {
        let text = StringValue { value: self.to_json() };
        let detail =
            Any { type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(), value: text.encode_to_vec() };
        RpcStatus { code, message: self.message.clone(), details: vec![detail] }.encode_to_vec()
    }
}

impl From<&Detail> for Facts {
    fn from(detail: &Detail) -> Self {
        match detail {
            Detail::ConditionFailed { condition, last_seq } => {
                let condition = Some(LastSeqCondition::from(condition))
                    .filter(|condition| short(condition.key.as_deref()) && short(condition.pattern.as_deref()));
                Self::ConditionFailed { condition, last_seq: last_seq.0 }
            }
            Detail::FenceFailed { fence, token } => {
                let fence = Some(FenceToken::from(fence)).filter(|fence| short(fence.key_prefix.as_deref()));
                Self::FenceFailed { fence, token: *token }
            }
            Detail::ProducerSeq { next_producer_seq, oldest_producer_seq } => {
                Self::ProducerSeq { next_producer_seq: *next_producer_seq, oldest_producer_seq: *oldest_producer_seq }
            }
            Detail::ProducerContent { producer_seq } => Self::ProducerContent { producer_seq: *producer_seq },
            Detail::ProducerFenced { producer_epoch } => Self::ProducerFenced { producer_epoch: *producer_epoch },
            Detail::ProducerForgotten => Self::ProducerForgotten,
            Detail::ProducerUnknown => Self::ProducerUnknown,
            Detail::NotOwner { owner } => Self::NotOwner { owner: owner.clone() },
        }
    }
}

fn short(text: Option<&str>) -> bool {
    text.is_none_or(|text| text.len() <= TEXT_BYTES_MAX)
}

/// `google.rpc.Status`
#[derive(Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.protobuf.StringValue`
#[derive(Message)]
struct StringValue {
    #[prost(string, tag = "1")]
    value: String,
}

#[cfg(test)]
mod tests {
    use catalog::view::Matching;
    use ingest::engine::Condition;
    use schemas::Seq;

    use super::*;
    use crate::error::WireError;

    fn refused(key: &str) -> WireError {
        let condition = Condition { of: Matching::Key(key.to_owned()), expected_last_seq: Seq(3) };
        let facts = Facts::from(&Detail::ConditionFailed { condition, last_seq: Seq(17) });
        WireError::new(ErrorKind::Conflict, "key o-17: expected 3").with_facts(facts)
    }

    #[test]
    fn a_refusal_reads_as_it_is_documented_in_the_trailer_and_at_the_end_of_the_details() {
        let status = Status::from(refused("o-17"));
        let json = r#"{"kind":"conflict","retryable":false,"message":"key o-17: expected 3","reason":"condition-failed","condition":{"key":"o-17","expected_last_seq":3},"last_seq":17}"#;
        assert_eq!(status.metadata().get(DETAIL_KEY).expect("a detail"), json);
        assert!(status.details().ends_with(json.as_bytes()), "{:?}", status.details());
        assert_eq!(status.metadata().get("x-arrow-status").expect("for pyarrow"), "5");
        let rpc = RpcStatus::decode(status.details()).expect("a google.rpc.Status");
        assert_eq!((rpc.code, rpc.message.as_str()), (status.code() as i32, status.message()));
        let value = StringValue::decode(rpc.details[0].value.as_slice()).expect("a StringValue").value;
        assert_eq!(value, json);
        let detail = ErrorDetail::of(&status).expect("ours");
        assert!(
            matches!(detail.facts, Some(Facts::ConditionFailed { last_seq: 17, condition: Some(_) })),
            "{detail:?}"
        );
    }

    #[test]
    fn an_error_without_facts_has_no_details_and_reads_back_without() {
        let status = Status::from(WireError::invalid("no"));
        assert!(status.details().is_empty() && status.metadata().get("x-arrow-status").is_none());
        assert_eq!(ErrorDetail::of(&status).map(|detail| (detail.kind, detail.facts)), Some(("invalid".into(), None)));
        assert_eq!(ErrorDetail::of(&Status::unavailable("a proxy's")), None);
    }

    #[test]
    fn a_long_key_is_not_repeated() {
        let status = Status::from(refused(&"k".repeat(1_000)));
        let facts = ErrorDetail::of(&status).expect("ours").facts;
        assert_eq!(facts, Some(Facts::ConditionFailed { condition: None, last_seq: 17 }));
    }

    #[test]
    fn every_fact_survives_its_own_json() {
        let fence = FenceToken { key_prefix: None, token: 5 };
        for facts in [
            Facts::FenceFailed { fence: Some(fence), token: 7 },
            Facts::ProducerSeq { next_producer_seq: 9, oldest_producer_seq: 3 },
            Facts::ProducerContent { producer_seq: 4 },
            Facts::ProducerFenced { producer_epoch: 2 },
            Facts::ProducerForgotten,
            Facts::ProducerUnknown,
            Facts::NotOwner { owner: Some("grpc://10.0.0.7:8815".into()) },
            Facts::NotOwner { owner: None },
        ] {
            let status = Status::from(WireError::new(ErrorKind::Fenced, "no").with_facts(facts.clone()));
            assert_eq!(ErrorDetail::of(&status).expect("ours").facts, Some(facts));
        }
    }
}
