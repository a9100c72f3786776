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
//! `{"kind":"not-found","retryable":false,"message":"…"}` in ASCII JSON.

use schemas::{ErrorKind, limits};
use serde::Serialize;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::error::WireError;

/// The metadata (trailer) key of the machine-readable detail.
pub const DETAIL_KEY: &str = "firn-error";

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
        with_detail(code(error.kind()), error.kind(), &error.to_string())
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
    with_detail(Code::Unimplemented, ErrorKind::Invalid, &format!("{what} is not offered here; {instead}"))
}

#[derive(Serialize)]
struct Detail<'a> {
    kind: &'static str,
    retryable: bool,
    message: &'a str,
}

fn with_detail(code: Code, kind: ErrorKind, message: &str) -> Status {
    let message = shorten(message);
    let detail = Detail { kind: kind.name(), retryable: kind.is_retryable(), message: &message };
    let mut metadata = MetadataMap::new();
    let text = serde_json::to_string(&detail).map(|text| ascii(&text)).unwrap_or_default();
    if let Ok(value) = MetadataValue::try_from(text) {
        metadata.insert(DETAIL_KEY, value);
    }
    Status::with_metadata(code, message, metadata)
}

/// Trailers have room for a few thousand bytes; what is over is cut and marked.
fn shorten(message: &str) -> String {
    if message.len() <= limits::STATUS_BYTES_MAX {
        return message.to_owned();
    }
    let end = (0..=limits::STATUS_BYTES_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
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
