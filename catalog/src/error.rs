//! What can go wrong between Firn and its store, with what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;

use schemas::ErrorKind;

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// An error of this crate: a kind to act on, a message for people, the cause underneath.
#[derive(Debug)]
pub struct CatalogError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl CatalogError {
    /// `message` says what was expected, what was found, and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause underneath.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for CatalogError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<schemas::SchemaError> for CatalogError {
    fn from(error: schemas::SchemaError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
