//! The only place that turns kinds of error into gRPC codes.
//!
//! | kind | code | | kind | code |
//! | --- | --- | --- | --- | --- |
//! | invalid | `INVALID_ARGUMENT` | | unavailable | `UNAVAILABLE` |
//! | not-found | `NOT_FOUND` | | indeterminate | `UNKNOWN` |
//! | conflict | `ABORTED` | | corrupt | `DATA_LOSS` |
//! | fenced | `FAILED_PRECONDITION` | | internal | `INTERNAL` |
//! | overloaded | `RESOURCE_EXHAUSTED` | | not offered at all | `UNIMPLEMENTED` |
//!
//! One code a kind, so that a client that sees codes only loses nothing. Every status also carries the metadata entry [`DETAIL_KEY`]:
//! `{"kind":"not-found","retryable":false,"message":"…"}` in ASCII JSON; with more of it where a program can go on by it ([`crate::detail`]).

use bytes::Bytes;
use schemas::{ErrorKind, limits};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::detail::{ErrorDetail, Facts};
use crate::error::WireError;

/// The metadata (trailer) key of the machine-readable detail.
pub const DETAIL_KEY: &str = "firn-error";
/// Beside this trailer Arrow's C++ client, and `pyarrow` with it, shows `grpc-status-details-bin`.
const ARROW_STATUS_KEY: &str = "x-arrow-status";
/// Longest message beside facts, bytes: both stand in the trailers several times.
const MESSAGE_BESIDE_FACTS_BYTES_MAX: usize = limits::STATUS_BYTES_MAX / 2;

/// The gRPC code of a kind.
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Fenced => Code::FailedPrecondition,
        ErrorKind::Overloaded => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Indeterminate => Code::Unknown,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Internal => Code::Internal,
    }
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        with_detail(code(error.kind()), error.kind(), &error.to_string(), error.facts())
    }
}

/// What gRPC met while it read from a client, as an error of ours: too large a message, a broken or cancelled stream.
pub(crate) fn of_transport(status: Status) -> WireError {
    let kind = match status.code() {
        Code::OutOfRange | Code::InvalidArgument | Code::ResourceExhausted => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    WireError::new(kind, format!("the client's stream: {}", status.message()))
}

/// What Firn does not offer at all. `instead` says what does the job.
pub(crate) fn unsupported(what: &str, instead: &str) -> Status {
    with_detail(Code::Unimplemented, ErrorKind::Invalid, &format!("{what} is not offered here; {instead}"), None)
}

fn with_detail(code: Code, kind: ErrorKind, message: &str, facts: Option<&Facts>) -> Status {
    let longest = if facts.is_some() { MESSAGE_BESIDE_FACTS_BYTES_MAX } else { limits::STATUS_BYTES_MAX };
    let message = shorten(message, longest);
    let detail = ErrorDetail::new(kind, &message, facts);
    let mut metadata = MetadataMap::new();
    if let Ok(value) = MetadataValue::try_from(ascii(&detail.to_json())) {
        metadata.insert(DETAIL_KEY, value);
    }
    if facts.is_none() {
        return Status::with_metadata(code, message, metadata);
    }
    metadata.insert(ARROW_STATUS_KEY, MetadataValue::from_static(arrow_code(code)));
    Status::with_details_and_metadata(code, message, Bytes::from(detail.to_rpc_status(code as i32)), metadata)
}

/// The Arrow status code that Arrow's C++ client takes this gRPC code for.
fn arrow_code(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted => "4",
        Code::NotFound => "1",
        Code::Unknown => "9",
        _ => "5",
    }
}

/// Trailers have room for a few thousand bytes; what is over is cut and marked.
fn shorten(message: &str, longest: usize) -> String {
    if message.len() <= longest {
        return message.to_owned();
    }
    let end = (0..=longest).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    format!("{} …", &message[..end])
}

/// JSON text with every non-ASCII character escaped: metadata values are ASCII.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
