//! What can go wrong while reading.

use std::error::Error as StdError;
use std::fmt;

use catalog::CatalogError;
use schemas::{ErrorKind, SchemaError};

/// Shorthand of this crate.
pub type Result<T, E = QueryError> = std::result::Result<T, E>;

/// An error of this crate: a kind to act on, a message for people, the cause underneath.
#[derive(Debug)]
pub struct QueryError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl QueryError {
    /// `message` says what was expected, what was found, and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for QueryError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<SchemaError> for QueryError {
    fn from(error: SchemaError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<CatalogError> for QueryError {
    fn from(error: CatalogError) -> Self {
        Self { kind: error.kind(), message: error.to_string(), source: Some(Box::new(error)) }
    }
}
