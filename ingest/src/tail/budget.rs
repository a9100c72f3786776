//! How many bytes all tails together may hold, and who waits for room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use schemas::ErrorKind;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::{IngestError, Result};

/// Room is handed out in units of this many bytes: a semaphore counts in 32 bits.
const UNIT_BYTES: usize = 1024;

/// Room for the tails of one process, given out first come, first served.
///
/// What is already durable cannot be turned away, so occupancy may be forced above the total (a tail rebuilt at start, an append that kept more
/// than it asked for); that debt is paid before anybody who waits is let in.
#[derive(Debug)]
pub(super) struct Budget {
    free: Semaphore,
    total_units: usize,
    debt_units: Mutex<usize>,
    /// Bytes of parked topics: they take none of the room above.
    parked: AtomicUsize,
}

/// Room for one append. It becomes occupancy when the append reaches its tail; dropped before, the room is free again.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    units: usize,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let total_units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT_BYTES);
        let total_units = total_units.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Arc::new(Self {
            free: Semaphore::new(total_units),
            total_units,
            debt_units: Mutex::new(0),
            parked: AtomicUsize::new(0),
        })
    }

    /// Waits for room, fairly. An append that is larger than the whole budget waits for all of it. Cancel-safe.
    ///
    /// Errors: `Overloaded` past the deadline.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: usize, deadline: Duration) -> Result<Permit> {
        let units = units(bytes).clamp(1, self.total_units);
        match timeout(deadline, self.free.acquire_many(units as u32)).await {
            Ok(acquired) => {
                acquired.expect("the semaphore is never closed").forget();
                Ok(Permit { budget: Arc::clone(self), units })
            }
            Err(_) => {
                let message = format!(
                    "no room for {bytes} bytes in the tail after {} ms: the tables do not keep up with what is appended; slow down, then retry",
                    deadline.as_millis()
                );
                Err(IngestError::new(ErrorKind::Overloaded, message))
            }
        }
    }

    /// False while everything is given out.
    pub(super) fn has_room(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// What a topic's tail occupies has gone from `before` to `after` bytes; `permit` was reserved for it.
    pub(super) fn settle(&self, permit: Option<Permit>, before: usize, after: usize) {
        let reserved = permit.map_or(0, Permit::into_units);
        let had = units(before) + reserved;
        let has = units(after);
        if has > had {
            self.force(has - had);
        } else {
            self.release(had - has);
        }
    }

    /// What a parked topic occupies has gone from `before` to `after` bytes.
    pub(super) fn settle_parked(&self, before: usize, after: usize) {
        self.parked.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Bytes that parked topics occupy.
    pub(super) fn parked_bytes(&self) -> u64 {
        self.parked.load(Ordering::Relaxed) as u64
    }

    fn force(&self, units: usize) {
        let mut debt = self.debt_units.lock();
        *debt += units - self.free.forget_permits(units);
    }

    fn release(&self, units: usize) {
        let mut debt = self.debt_units.lock();
        let paid = units.min(*debt);
        *debt -= paid;
        self.free.add_permits(units - paid);
    }

    /// Bytes that are free, negative if occupancy was forced above the total.
    #[cfg(test)]
    pub(super) fn free_bytes(&self) -> i64 {
        let debt = self.debt_units.lock();
        (self.free.available_permits() as i64 - *debt as i64) * UNIT_BYTES as i64
    }
}

impl Permit {
    fn into_units(mut self) -> usize {
        std::mem::take(&mut self.units)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.release(self.units);
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn dropping_a_permit_gives_its_room_back() {
        let budget = Budget::new(10 << 10);
        let permit = budget.reserve(10 << 10, SOON).await.unwrap();
        assert_eq!(budget.reserve(1, SOON).await.unwrap_err().kind(), ErrorKind::Overloaded);
        drop(permit);
        budget.reserve(1, SOON).await.unwrap();
        assert_eq!(budget.free_bytes(), 10 << 10);
    }

    #[tokio::test]
    async fn a_large_append_is_not_overtaken_by_small_ones() {
        let budget = Budget::new(10 << 10);
        let first = budget.reserve(4 << 10, SOON).await.unwrap();
        let mut large = Box::pin(budget.reserve(8 << 10, Duration::from_secs(60)));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(budget.reserve(1 << 10, SOON).await.is_err(), "there is room, but another came first");
        drop(first);
        large.await.unwrap();
    }

    #[tokio::test]
    async fn an_append_that_stops_waiting_holds_nobody_up() {
        let budget = Budget::new(10 << 10);
        let _first = budget.reserve(4 << 10, SOON).await.unwrap();
        assert!(budget.reserve(8 << 10, SOON).await.is_err());
        budget.reserve(6 << 10, SOON).await.unwrap();
    }

    #[tokio::test]
    async fn an_append_larger_than_the_budget_gets_all_of_it() {
        let budget = Budget::new(10 << 10);
        let permit = budget.reserve(1 << 30, SOON).await.unwrap();
        assert_eq!(budget.free_bytes(), 0);
        drop(permit);
        assert_eq!(budget.free_bytes(), 10 << 10);
    }

    #[tokio::test]
    async fn what_was_forced_in_is_paid_back_before_anybody_is_let_in() {
        let budget = Budget::new(10 << 10);
        budget.settle(None, 0, 30 << 10);
        assert_eq!(budget.free_bytes(), -(20 << 10));
        budget.settle(None, 30 << 10, 10 << 10);
        assert!(budget.reserve(1, SOON).await.is_err());
        budget.settle(None, 10 << 10, 0);
        assert_eq!(budget.free_bytes(), 10 << 10);
        budget.reserve(1, SOON).await.unwrap();
    }
}
