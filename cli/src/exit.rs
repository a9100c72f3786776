//! How a command ends: messages and exit codes.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed for a reason that is none of the others |
//! | 2 | the command line or the settings are wrong |
//! | 3 | what was named does not exist |
//! | 4 | some rows were refused |
//! | 5 | the server or the store is away or overloaded: nothing happened, try again |
//! | 6 | it may have happened: look before trying again |
//! | 7 | what was expected does not hold: nothing happened |
//! | 8 | `verify`: something is missing, doubled or altered |
//! | 9 | `verify`: it could not look, which proves nothing |

use std::fmt::Display;
use std::process::ExitCode;

use arrow_flight::error::FlightError;
use flight::detail::{ErrorDetail, Facts};
use schemas::ErrorKind;

use crate::retry::Retry;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    retry: Retry,
}

impl Failure {
    fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string(), retry: Retry::Never }
    }

    /// Whether another attempt may come further.
    pub(crate) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// The command line or the settings are wrong.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(2, message)
    }

    /// Some rows were refused.
    pub(crate) fn refused(message: impl Display) -> Self {
        Self::new(4, message)
    }

    /// It may have happened: another attempt may tell.
    pub(crate) fn indeterminate(message: impl Display) -> Self {
        Self { retry: Retry::Anywhere, ..Self::new(6, message) }
    }

    /// With a word on what to do.
    pub(crate) fn with_hint(self, hint: &str) -> Self {
        Self { message: format!("{}; {hint}", self.message), ..self }
    }

    /// The server cannot be reached: another may be.
    pub(crate) fn away(message: impl Display) -> Self {
        Self { retry: Retry::Anywhere, ..Self::new(5, message) }
    }

    /// What was verified is not what it should be.
    pub(crate) fn fault(message: impl Display) -> Self {
        Self::new(8, message)
    }

    /// What was to be verified could not be looked at.
    pub(crate) fn unseen(kind: ErrorKind, message: impl Display) -> Self {
        let code = if kind == ErrorKind::NotFound { 3 } else { 9 };
        Self::new(code, message)
    }

    /// Anything else.
    pub(crate) fn other(message: impl Display) -> Self {
        Self::new(1, message)
    }

    /// By the kind of the error behind it.
    pub(crate) fn of_kind(kind: ErrorKind, message: impl Display) -> Self {
        let code = match kind {
            ErrorKind::NotFound => 3,
            ErrorKind::Overloaded | ErrorKind::Unavailable => 5,
            ErrorKind::Indeterminate => 6,
            ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::Fenced | ErrorKind::Corrupt | ErrorKind::Internal => {
                1
            }
        };
        Self::new(code, message)
    }

    /// True if what was expected does not hold, so that nothing happened.
    pub(crate) fn is_unfulfilled(&self) -> bool {
        self.code == 7
    }

    /// Prints the message and gives the code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("firn: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::other(error)
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::ExternalError(source) => match source.downcast::<FlightError>() {
                Ok(flight) => Self::from(*flight),
                Err(other) => Self::other(other),
            },
            other => Self::other(other),
        }
    }
}

impl From<FlightError> for Failure {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => Self::from(*status),
            other => Self::other(other),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let facts = ErrorDetail::of(&status).and_then(|detail| detail.facts);
        if matches!(facts, Some(Facts::ConditionFailed { .. } | Facts::FenceFailed { .. } | Facts::ProducerForgotten)) {
            return Self::new(7, status.message());
        }
        let kind = match status.code() {
            tonic::Code::NotFound => ErrorKind::NotFound,
            tonic::Code::Unavailable => ErrorKind::Unavailable,
            tonic::Code::ResourceExhausted => ErrorKind::Overloaded,
            tonic::Code::Unknown | tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => ErrorKind::Indeterminate,
            _ => ErrorKind::Invalid,
        };
        Self { retry: Retry::after(&status), ..Self::of_kind(kind, status.message()) }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::other(error)
    }
}
