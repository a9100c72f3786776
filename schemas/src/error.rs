//! The kinds of error that Firn knows, shared by every crate, and the causes that `schemas` itself has.

use std::fmt;

/// What a caller can do about an error. A kind exists only because a caller would act differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; it will be wrong again. Nothing happened.
    Invalid,
    /// What was named does not exist. Nothing happened.
    NotFound,
    /// The state is not what the request needs (exists already, changed meanwhile). Nothing happened; look, then decide again.
    Conflict,
    /// This process no longer owns what it would have to change. Nothing happened here; find the owner.
    Fenced,
    /// A limit is reached for now. Nothing happened; slow down, then retry.
    Overloaded,
    /// Something needed is away for now. Nothing happened; retry.
    Unavailable,
    /// It may have happened: retry with the same producer seq, or look.
    Indeterminate,
    /// Stored bytes are not what was written. Retrying does not help; an operator must look.
    Corrupt,
    /// A defect in Firn.
    Internal,
}

impl ErrorKind {
    /// True if trying the same request again can help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Overloaded | Self::Unavailable | Self::Indeterminate)
    }

    /// Stable lower-case name, used in metrics, JSON and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Fenced => "fenced",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Indeterminate => "indeterminate",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What can be wrong with a name, a topic's definition, or a value that should become one.
///
/// Always [`ErrorKind::Invalid`]: nothing in this crate touches the world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A tenant or topic name is not one.
    #[error("{what} name {found:?}: {reason}")]
    Name {
        /// `topic` or `tenant`.
        what: &'static str,
        /// The name as given.
        found: String,
        /// What a name must be.
        reason: &'static str,
    },
    /// The Avro schema cannot be parsed, or a field of it cannot be mapped.
    #[error("schema field {field:?}: {reason}")]
    Field {
        /// Dotted path of the field inside the record; empty for the record itself.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An option of the topic (key, path template, check, …) is wrong.
    #[error("topic option {option}: {reason}")]
    Option {
        /// The option's name as the user wrote it, e.g. `key`.
        option: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A pattern over topic paths cannot be parsed.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An Arrow batch has not the columns that it must have here.
    #[error("batch: {0}")]
    Batch(String),
}

impl SchemaError {
    /// Always [`ErrorKind::Invalid`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
