//! How many commits this process makes for age alone: a table commit is several requests to the store, whatever it carries, and ten thousand quiet
//! topics would make as many commits as ten thousand busy ones.
//!
//! A topic that holds enough bytes is flushed whatever the budget: those commits grow with what is appended, not with the number of topics. All
//! others share the budget, the most overdue first, so that beyond it every topic's interval is stretched by the same factor. Compaction and expiry have a
//! budget of their own, a third of that: a job replaces four files or more, so it keeps up with the flushes, and neither takes the other's turns.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Slower than one commit in a quarter of an hour is taken for that: zero would hold the log for ever.
const PER_SECOND_MIN: f64 = 1.0 / 900.0;

/// The budgets. One a process: its lanes share it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CommitPace {
    flushes: Arc<Mutex<Bucket>>,
    upkeep: Arc<Mutex<Bucket>>,
}

impl CommitPace {
    /// A budget of this many commits a second, of which up to a second's worth may come at once.
    pub(crate) fn new(per_second: f64) -> Self {
        let bucket = |per_second| Arc::new(Mutex::new(Bucket::new(per_second, Instant::now())));
        Self { flushes: bucket(per_second), upkeep: bucket(per_second / 3.0) }
    }

    /// True if a commit may begin; then it is spent.
    pub(crate) fn take(&self) -> bool {
        self.flushes.lock().take(Instant::now())
    }

    /// True if a commit of a compaction or an expiry may begin; then it is spent.
    pub(crate) fn take_for_upkeep(&self) -> bool {
        self.upkeep.lock().take(Instant::now())
    }
}

/// Commits that may begin: they come in at a steady rate, and do not pile up beyond a second's worth.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Begins full.
    fn new(per_second: f64, now: Instant) -> Self {
        let per_second = per_second.max(PER_SECOND_MIN);
        Self { per_second, level: per_second.max(1.0), at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since: Duration = now.saturating_duration_since(self.at);
        self.at = self.at.max(now);
        self.level = (self.level + since.as_secs_f64() * self.per_second).min(self.per_second.max(1.0));
        let may = self.level >= 1.0;
        if may {
            self.level -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_more_begin_than_the_rate_and_a_second_ahead_and_none_is_wasted(
            per_second in 0.01..200.0_f64, asks_ms in prop::collection::vec(0..5_000_u64, 1..300),
        ) {
            let begun = Instant::now();
            let mut bucket = Bucket::new(per_second, begun);
            let (mut now, mut taken, mut refused) = (begun, 0.0, false);
            for ms in asks_ms {
                now += Duration::from_millis(ms);
                match bucket.take(now) {
                    true => taken += 1.0,
                    false => refused = true,
                }
            }
            let seconds = (now - begun).as_secs_f64();
            prop_assert!(taken <= per_second.max(1.0) + seconds * per_second + 1e-6, "{taken} in {seconds} s");
            prop_assert!(taken > 0.0, "the first may always begin");
            // Whoever is refused is refused because the budget is spent, and need not wait longer than one commit's share.
            if refused {
                prop_assert!(bucket.take(now + Duration::from_secs_f64(1.0 / per_second + 1e-3)));
            }
        }
    }

    #[test]
    fn a_budget_of_nothing_still_lets_the_log_go() {
        let now = Instant::now();
        for per_second in [0.0, -1.0, f64::NAN] {
            let mut bucket = Bucket::new(per_second, now);
            assert!(bucket.take(now) && !bucket.take(now));
            assert!(bucket.take(now + Duration::from_secs(901)));
        }
    }
}
