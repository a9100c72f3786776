//! What can go wrong on the way from a batch to an acknowledged event.

use std::error::Error as StdError;
use std::fmt;

use catalog::CatalogError;
use schemas::{ErrorKind, SchemaError};

use crate::engine::Detail;

/// Shorthand of this crate.
pub type Result<T, E = IngestError> = std::result::Result<T, E>;

/// An error of this crate: a kind to act on, a message for people, the cause underneath. Cheap to clone: one failed put answers many appends.
#[derive(Clone, Debug)]
pub struct IngestError {
    kind: ErrorKind,
    message: String,
    source: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
    detail: Option<std::sync::Arc<Detail>>,
}

impl IngestError {
    /// `message` says what was expected, what was found, and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, detail: None }
    }

    /// Says it to programs as well.
    pub fn with_detail(self, detail: Detail) -> Self {
        Self { detail: Some(std::sync::Arc::new(detail)), ..self }
    }

    /// Why an append was refused, for programs.
    pub fn detail(&self) -> Option<&Detail> {
        self.detail.as_deref()
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for IngestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for IngestError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<SchemaError> for IngestError {
    fn from(error: SchemaError) -> Self {
        Self { kind: error.kind(), message: error.to_string(), source: None, detail: None }
    }
}

impl From<CatalogError> for IngestError {
    fn from(error: CatalogError) -> Self {
        Self { kind: error.kind(), message: error.to_string(), source: Some(std::sync::Arc::new(error)), detail: None }
    }
}
