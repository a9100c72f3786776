//! The memory that all queries share.
//!
//! DataFusion's fair pool divides all of it among those who can spill, and then nothing is left for what merges their spilled runs, which cannot:
//! the sort that just spilled to save memory fails for want of it. Here a part is out of reach for those who can spill.

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

/// The part that only consumers who cannot spill may have: one in this many.
const KEPT_SHARE: usize = 4;

/// First come, first served for consumers who cannot spill; equal shares of the rest for those who can.
#[derive(Debug)]
pub(super) struct QueryMemory {
    bytes: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    spillers: usize,
    by_spillers: usize,
    by_others: usize,
}

impl QueryMemory {
    /// A pool of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, held: Mutex::default() }
    }

    /// What one of those who can spill may hold in all.
    fn share(&self, held: &Held) -> usize {
        let kept = held.by_others.max(self.bytes / KEPT_SHARE);
        self.bytes.saturating_sub(kept) / held.spillers.max(1)
    }
}

impl MemoryPool for QueryMemory {
    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.held.lock().spillers += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.held.lock().spillers -= 1;
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *held_by(&mut self.held.lock(), reservation) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *held_by(&mut self.held.lock(), reservation) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.held.lock();
        let room = match reservation.consumer().can_spill() {
            true => self.share(&held).saturating_sub(reservation.size()),
            false => self.bytes.saturating_sub(held.by_spillers + held.by_others),
        };
        if additional > room {
            let name = reservation.consumer().name();
            let message =
                format!("{name} holds {} bytes and wants {additional} more, {room} are to be had", reservation.size());
            return Err(DataFusionError::ResourcesExhausted(message));
        }
        *held_by(&mut held, reservation) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let held = self.held.lock();
        held.by_spillers + held.by_others
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

fn held_by<'a>(held: &'a mut Held, reservation: &MemoryReservation) -> &'a mut usize {
    match reservation.consumer().can_spill() {
        true => &mut held.by_spillers,
        false => &mut held.by_others,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pool() -> (Arc<QueryMemory>, Arc<dyn MemoryPool>) {
        let pool = Arc::new(QueryMemory::new(1_000));
        (Arc::clone(&pool), pool)
    }

    #[test]
    fn those_who_can_spill_share_what_is_not_kept_for_the_others() {
        let (_, pool) = pool();
        let first = MemoryConsumer::new("first").with_can_spill(true).register(&pool);
        first.try_grow(750).unwrap();
        assert!(first.try_grow(1).is_err());
        let second = MemoryConsumer::new("second").with_can_spill(true).register(&pool);
        second.try_grow(375).unwrap();
        assert!(second.try_grow(1).is_err());
    }

    #[test]
    fn a_merge_finds_room_beside_sorts_that_took_all_they_could() {
        let (memory, pool) = pool();
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        sort.try_grow(750).unwrap();
        let merge = MemoryConsumer::new("merge").register(&pool);
        merge.try_grow(250).unwrap();
        let error = merge.try_grow(1).unwrap_err().to_string();
        assert!(error.contains("merge holds 250 bytes and wants 1 more, 0 are to be had"), "{error}");
        drop((sort, merge));
        assert_eq!(memory.reserved(), 0);
    }

    #[test]
    fn what_others_hold_beyond_their_part_is_taken_from_the_spillers_share() {
        let (_, pool) = pool();
        let join = MemoryConsumer::new("join").register(&pool);
        join.try_grow(600).unwrap();
        let sort = MemoryConsumer::new("sort").with_can_spill(true).register(&pool);
        assert!(sort.try_grow(401).is_err());
        sort.try_grow(400).unwrap();
    }
}
