//! What can go wrong between a client and the engines, with what the caller can do about it.

use std::fmt;

use catalog::CatalogError;
use ingest::IngestError;
use query::QueryError;
use schemas::{ErrorKind, SchemaError};

use crate::detail::Facts;

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, WireError>;

/// An error of this crate: a kind to act on, a message for people, facts for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    kind: ErrorKind,
    message: String,
    facts: Option<Box<Facts>>,
}

impl WireError {
    /// `message` says what was expected, what was found, and where.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), facts: None }
    }

    /// The request is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Says to programs what they need to go on.
    pub fn with_facts(self, facts: Facts) -> Self {
        Self { facts: Some(Box::new(facts)), ..self }
    }

    /// What programs need to go on.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_deref()
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for WireError {}

macro_rules! from_crate_error {
    ($($source:ty),*) => {$(
        impl From<$source> for WireError {
            fn from(error: $source) -> Self {
                Self::new(error.kind(), error.to_string())
            }
        }
    )*};
}

from_crate_error!(SchemaError, CatalogError, QueryError);

impl From<IngestError> for WireError {
    fn from(error: IngestError) -> Self {
        let facts = error.detail().map(|detail| Box::new(Facts::from(detail)));
        Self { kind: error.kind(), message: error.to_string(), facts }
    }
}
