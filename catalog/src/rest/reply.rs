//! What is answered: a status, a document, and for errors the specification's body.

use schemas::ErrorKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::CatalogError;

/// An answer, apart from HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The JSON document; `None` for an answer without a body.
    pub body: Option<Value>,
    /// What names exactly this representation of a table, if it is one.
    pub etag: Option<String>,
}

impl Reply {
    /// 200 with a document.
    pub(super) fn of(body: Value) -> Self {
        Self { status: 200, body: Some(body), etag: None }
    }

    /// 204.
    pub(super) fn done() -> Self {
        Self { status: 204, body: None, etag: None }
    }

    /// 304: the caller has it already.
    pub(super) fn unchanged(etag: String) -> Self {
        Self { status: 304, body: None, etag: Some(etag) }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, kind, message } = refusal;
        let body = json!({"error": {"message": message, "type": kind, "code": status}});
        Self { status, body: Some(body), etag: None }
    }
}

/// An error as the specification has them: a status, the name of an exception that clients know, a message for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The exception's name.
    pub kind: String,
    /// What was expected, what was found, what to do.
    pub message: String,
}

/// Shorthand of this module.
pub(super) type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    /// An error of this status and exception.
    pub fn new(status: u16, kind: &str, message: impl Into<String>) -> Self {
        Self { status, kind: kind.to_owned(), message: message.into() }
    }

    /// 400: the request is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequestException", message)
    }

    /// 403: not on a topic's table. `instead` names what does the job.
    pub(super) fn of_topic(table: &str, what: &str, instead: &str) -> Self {
        Self::new(403, "ForbiddenException", format!("{table} is the table of a topic: {what} is refused; {instead}"))
    }

    pub(super) fn no_namespace(namespace: impl std::fmt::Display) -> Self {
        Self::new(404, "NoSuchNamespaceException", format!("Namespace does not exist: {namespace}"))
    }

    pub(super) fn no_table(table: impl std::fmt::Display) -> Self {
        Self::new(404, "NoSuchTableException", format!("Table does not exist: {table}"))
    }

    pub(super) fn no_view(view: impl std::fmt::Display) -> Self {
        Self::new(404, "NoSuchViewException", format!("View does not exist: {view}"))
    }

    /// `what` is `Table`, `View` or `Namespace`.
    pub(super) fn exists(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(409, "AlreadyExistsException", format!("{what} already exists: {name}"))
    }

    /// 409: look again, then decide again.
    pub(super) fn commit_failed(message: impl Into<String>) -> Self {
        Self::new(409, "CommitFailedException", message)
    }

    /// 500: it may have happened.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, "CommitStateUnknownException", message)
    }

    /// 503: nothing has happened; try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailableException", message)
    }

    /// Whether the same request would be answered so again: what may be kept under an idempotency key.
    pub(super) fn is_final(&self) -> bool {
        (400..500).contains(&self.status) && ![401, 403, 408, 429].contains(&self.status)
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        match error.kind() {
            ErrorKind::Invalid => Self::bad_request(message),
            ErrorKind::NotFound => Self::new(404, "NoSuchTableException", message),
            ErrorKind::Conflict | ErrorKind::Fenced => Self::commit_failed(message),
            ErrorKind::Overloaded | ErrorKind::Unavailable => Self::unavailable(message),
            ErrorKind::Indeterminate => Self::unknown(message),
            ErrorKind::Corrupt | ErrorKind::Internal => Self::new(500, "InternalServerError", message),
        }
    }
}

/// What the library has against a request's requirements or updates.
impl From<iceberg::Error> for Refusal {
    fn from(error: iceberg::Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            iceberg::ErrorKind::CatalogCommitConflicts => Self::commit_failed(error.message()),
            iceberg::ErrorKind::TableNotFound => Self::new(404, "NoSuchTableException", error.message()),
            iceberg::ErrorKind::FeatureUnsupported => Self::new(406, "UnsupportedOperationException", message),
            iceberg::ErrorKind::Unexpected => Self::unavailable(message),
            // What clients of the Java library know such an error by.
            _ => Self::new(400, "IllegalArgumentException", error.message()),
        }
    }
}
