//! Whether a failed attempt is worth another one, and when. Pure.

use std::time::Duration;

use arrow_flight::error::FlightError;
use flight::detail::{ErrorDetail, Facts};
use tonic::Code;

use crate::exit::Failure;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Why an attempt ended before its input did.
#[derive(Debug)]
pub(super) struct Broken {
    /// What to say if there is no other attempt.
    pub(super) failure: Failure,
    /// Whether another attempt may come further.
    pub(super) is_retryable: bool,
    /// Where the next attempt should go, if not to the same server.
    pub(super) owner: Option<String>,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, is_retryable: false, owner: None }
    }
}

impl From<FlightError> for Broken {
    fn from(error: FlightError) -> Self {
        let (mut is_retryable, mut owner) = (false, None);
        if let FlightError::Tonic(status) = &error {
            let detail = ErrorDetail::of(status);
            // What says nothing of itself comes from the connection, not from a Firn server.
            is_retryable = match &detail {
                Some(detail) => matches!(detail.kind.as_str(), "unavailable" | "overloaded" | "indeterminate"),
                None => matches!(
                    status.code(),
                    Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
                ),
            };
            if let Some(Facts::NotOwner { owner: elsewhere }) = detail.and_then(|detail| detail.facts) {
                (is_retryable, owner) = (true, elsewhere);
            }
        }
        Self { failure: Failure::from(error), is_retryable, owner }
    }
}

/// How long to wait after so many attempts in a row that came no further.
pub(super) fn pause(fruitless: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << fruitless.min(10)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use flight::WireError;
    use schemas::ErrorKind;
    use tonic::Status;

    use super::*;

    fn is_retryable(status: Status) -> bool {
        Broken::from(FlightError::Tonic(Box::new(status))).is_retryable
    }

    #[test]
    fn what_may_have_happened_or_may_yet_happen_is_tried_again_and_a_refusal_is_not() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Overloaded, ErrorKind::Indeterminate] {
            assert!(is_retryable(WireError::new(kind, "away").into()), "{kind}");
        }
        for kind in
            [ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Corrupt, ErrorKind::Internal]
        {
            assert!(!is_retryable(WireError::new(kind, "no").into()), "{kind}");
        }
        assert!(
            is_retryable(Status::unknown("transport error")) && is_retryable(Status::internal("h2 protocol error"))
        );
        assert!(!Broken::from(FlightError::ProtocolError("no".into())).is_retryable);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0), PAUSE_MIN);
        assert_eq!(pause(1), 2 * PAUSE_MIN);
        assert!((0..100).all(|fruitless| pause(fruitless) <= PAUSE_MAX));
    }
}
