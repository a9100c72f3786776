//! Whether what failed is worth another attempt, at which server, and when.

use std::time::{Duration, Instant};

use flight::detail::{ErrorDetail, Facts};
use tonic::{Code, Status};

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Whether another attempt may come further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would fail alike.
    Never,
    /// At any server of the store.
    Anywhere,
    /// At this one, which owns what was asked for.
    At(String),
}

impl Retry {
    /// What a server's answer, or the lack of one, lets hope for.
    pub(crate) fn after(status: &Status) -> Self {
        let (kind, facts) = match ErrorDetail::of(status) {
            Some(detail) => (detail.kind, detail.facts),
            // What says nothing of itself comes from the connection, not from a Firn server.
            None => return Self::after_connection(status.code()),
        };
        match (kind.as_str(), facts) {
            (_, Some(Facts::NotOwner { owner: Some(owner) })) => Self::At(owner),
            (_, Some(Facts::NotOwner { owner: None })) => Self::Anywhere,
            ("unavailable" | "overloaded" | "indeterminate", _) => Self::Anywhere,
            // The server, not the producer: another owns the lane by now.
            ("fenced", None) => Self::Anywhere,
            _ => Self::Never,
        }
    }

    fn after_connection(code: Code) -> Self {
        match code {
            Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => {
                Self::Anywhere
            }
            _ => Self::Never,
        }
    }
}

/// How long a command goes on trying.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    /// Attempts in a row that came no further.
    fruitless: u32,
    /// When the first of them failed.
    since: Option<Instant>,
}

impl Patience {
    /// It ends once nothing came further for so long.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, fruitless: 0, since: None }
    }

    /// Something came further.
    pub(crate) fn renew(&mut self) {
        (self.fruitless, self.since) = (0, None);
    }

    /// True if no attempt has failed since something came further: then it is news.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fruitless == 0
    }

    /// An attempt has failed: how long to wait before the next. `None`: it has been long enough.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.limit {
            return None;
        }
        self.fruitless += 1;
        Some(pause(self.fruitless - 1))
    }
}

/// How long to wait after so many attempts in a row that came no further.
fn pause(fruitless: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << fruitless.min(10)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use flight::WireError;
    use schemas::ErrorKind;

    use super::*;

    #[test]
    fn what_may_have_happened_or_may_yet_happen_is_tried_again_and_a_refusal_is_not() {
        let after = |kind| Retry::after(&WireError::new(kind, "away").into());
        for kind in [ErrorKind::Unavailable, ErrorKind::Overloaded, ErrorKind::Indeterminate, ErrorKind::Fenced] {
            assert_eq!(after(kind), Retry::Anywhere, "{kind}");
        }
        for kind in
            [ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Corrupt, ErrorKind::Internal]
        {
            assert_eq!(after(kind), Retry::Never, "{kind}");
        }
        for status in [Status::unknown("transport error"), Status::internal("h2 protocol error")] {
            assert_eq!(Retry::after(&status), Retry::Anywhere, "{status}");
        }
        assert_eq!(Retry::after(&Status::invalid_argument("not from here")), Retry::Never);
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0), PAUSE_MIN);
        assert_eq!(pause(1), 2 * PAUSE_MIN);
        assert!((0..100).all(|fruitless| pause(fruitless) <= PAUSE_MAX));
    }

    /// A load whose input paused, or a subscription to a quiet topic, has not tried in vain all that time.
    #[test]
    fn patience_begins_with_the_first_failure() {
        let mut patience = Patience::new(Duration::from_secs(3_600));
        assert!(patience.is_fresh() && patience.since.is_none());
        assert_eq!((patience.pause(), patience.pause()), (Some(PAUSE_MIN), Some(2 * PAUSE_MIN)));
        assert!(!patience.is_fresh() && patience.since.is_some());
        patience.renew();
        assert!(patience.is_fresh() && patience.since.is_none());
        assert_eq!(Patience::new(Duration::ZERO).pause(), None, "who has none tries once");
    }
}
