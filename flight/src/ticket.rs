//! Tickets and descriptors: small JSON documents, so that any stock Flight client works without a Firn library.
//!
//! ```json
//! {"replay":    {"topic":"orders", "key":"o-17", "from":1, "to":900, "columns":["_seq","amount"], "where":"amount > 3", "at":{"seq":700}}}
//! {"subscribe": {"pattern":"orders/eu/>", "from":"beginning", "after":{"orders":{"0":17}}, "columns":["amount"], "where":"amount > 3"}}
//! {"append":    {"topic":"orders", "on_error":"reject-row", "producer":"billing-1", "producer_epoch":3, "on_condition":"answer", "schema_version":1}}
//! ```
//!
//! Only `topic` and `pattern` are required. With a `producer_epoch` (the action `producer` gives one) each batch says its `producer_seq` and can be
//! sent again without harm ([`crate::terms`]). Beside the request a document may say `"v":1`, its version (1 if absent; others are refused),
//! and `"compress":"lz4"`, which asks for LZ4 record batches in the answer. Unknown fields are refused, so that a typing error is not
//! taken for silence. A document has at most [`limits::TICKET_BYTES_MAX`] bytes; nesting is bounded by the parser.

use bytes::Bytes;
use ingest::engine::OnError;
use query::at::At;
use query::replay::Replay;
use query::subscribe::Subscribe;
use schemas::{TopicName, limits};
use serde::{Deserialize, Serialize};

use crate::error::{Result, WireError};

/// The version that this code writes, and the only one it reads.
pub const VERSION: u32 = 1;

const LOOKS_LIKE: &str = r#"expected a JSON document such as {"replay":{"topic":"orders","key":"o-17"}} or {"subscribe":{"pattern":"orders/>"}}"#;

/// What a client asks of the data plane, and how the answer should be encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// What is asked.
    pub request: Request,
    /// How the answer's record batches are compressed.
    pub compress: Option<Compression>,
}

/// What a client can ask of the data plane.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `DoGet`: history.
    Replay(Replay),
    /// `DoGet`: history, then live.
    Subscribe(Subscribe),
    /// `DoPut`: append.
    Append(Append),
}

/// How record batches are compressed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// LZ4 frames, as Arrow IPC has them.
    Lz4,
}

/// The body of the `append` descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// To this topic.
    pub topic: TopicName,
    /// What becomes of bad rows.
    #[serde(default)]
    pub on_error: OnError,
    /// The producer's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// The epoch that the action `producer` gave; then each batch has a `producer_seq`, and one that is sent again is appended once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer_epoch: Option<u64>,
    /// What a condition or a fence that does not hold does to the stream.
    #[serde(default, skip_serializing_if = "OnCondition::is_fail")]
    pub on_condition: OnCondition,
    /// The schema version whose columns the batches have, by name and type; the topic's newest when the stream begins, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
}

/// What a condition or a fence that does not hold does to an append stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCondition {
    /// It ends the stream with a status, and no batch after it is appended.
    #[default]
    Fail,
    /// It is the answer to that batch alone, as `refused_by`; the stream goes on.
    Answer,
}

impl OnCondition {
    fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

impl Append {
    /// A plain append.
    pub fn to(topic: TopicName) -> Self {
        let (on_error, on_condition) = (OnError::default(), OnCondition::default());
        Self { topic, on_error, producer: None, producer_epoch: None, on_condition, schema_version: None }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default = "current_version")]
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay: Option<Replay>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscribe: Option<Subscribe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    append: Option<Append>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compress: Option<Compression>,
}

fn current_version() -> u32 {
    VERSION
}

/// True if the bytes are meant as JSON: the first one that is no space is `{`. Flight SQL's commands are protobuf and never begin so.
pub fn is_json(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Reads a JSON document of at most [`limits::TICKET_BYTES_MAX`] bytes. `what` is named in the error.
///
/// Errors: `Invalid`, with line and column.
pub(crate) fn parse_json<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T> {
    if bytes.len() > limits::TICKET_BYTES_MAX {
        let message =
            format!("{what}: expected at most {} bytes of JSON, found {}", limits::TICKET_BYTES_MAX, bytes.len());
        return Err(WireError::invalid(message));
    }
    serde_json::from_slice(bytes).map_err(|error| WireError::invalid(format!("{what}: {error}")))
}

impl Ticket {
    /// Reads a document. Errors: `Invalid`, saying what one looks like.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Document =
            parse_json("ticket", bytes).map_err(|error| WireError::invalid(format!("{error}; {LOOKS_LIKE}")))?;
        if document.v != VERSION {
            let message = format!("ticket: expected version {VERSION}, found {}", document.v);
            return Err(WireError::invalid(message));
        }
        let request = match (document.replay, document.subscribe, document.append) {
            (Some(replay), None, None) => Request::Replay(replay),
            (None, Some(subscribe), None) => Request::Subscribe(subscribe),
            (None, None, Some(append)) => Request::Append(append),
            _ => {
                let message = format!("ticket: expected exactly one of replay, subscribe, append; {LOOKS_LIKE}");
                return Err(WireError::invalid(message));
            }
        };
        check(&request)?;
        Ok(Self { request, compress: document.compress })
    }

    /// The document, in one line.
    pub fn to_json(&self) -> Bytes {
        let mut document =
            Document { v: VERSION, replay: None, subscribe: None, append: None, compress: self.compress };
        match self.request.clone() {
            Request::Replay(replay) => document.replay = Some(replay),
            Request::Subscribe(subscribe) => document.subscribe = Some(subscribe),
            Request::Append(append) => document.append = Some(append),
        }
        serde_json::to_vec(&document).expect("plain data is always JSON").into()
    }
}

impl From<Request> for Ticket {
    fn from(request: Request) -> Self {
        Self { request, compress: None }
    }
}

/// The bounds that a request must keep whatever it says.
fn check(request: &Request) -> Result<()> {
    let bytes = |what: &str, text: Option<&String>, max: usize| match text {
        Some(text) if text.len() > max => {
            Err(WireError::invalid(format!("ticket: expected a {what} of at most {max} bytes, found {}", text.len())))
        }
        _ => Ok(()),
    };
    let columns = |columns: Option<&Vec<String>>| match columns {
        Some(columns) if columns.is_empty() || columns.len() > 2 * limits::FIELDS_MAX => {
            let message = format!("ticket: expected 1 to {} columns, found {}", 2 * limits::FIELDS_MAX, columns.len());
            Err(WireError::invalid(message))
        }
        _ => Ok(()),
    };
    match request {
        Request::Replay(replay) => {
            bytes("key", replay.key.as_ref(), limits::KEY_BYTES_MAX)?;
            bytes("where", replay.filter.as_ref(), limits::EXPRESSION_BYTES_MAX)?;
            if let Some(At::Time(text) | At::Tag(text)) = &replay.at {
                bytes("time or tag", Some(text), limits::NAME_BYTES_MAX)?;
            }
            columns(replay.columns.as_ref())
        }
        Request::Subscribe(subscribe) => {
            bytes("pattern", Some(&subscribe.pattern), limits::PATH_BYTES_MAX)?;
            bytes("where", subscribe.filter.as_ref(), limits::EXPRESSION_BYTES_MAX)?;
            columns(subscribe.columns.as_ref())
        }
        Request::Append(append) => {
            if append.producer_epoch.is_some() && append.producer.is_none() {
                return Err(WireError::invalid("ticket: expected a producer beside producer_epoch, found none"));
            }
            bytes("producer", append.producer.as_ref(), limits::NAME_BYTES_MAX)
        }
    }
}

#[cfg(test)]
mod tests;
