//! Which snapshots are forgotten: every commit adds one, and the metadata that all of them stand in is written anew by each.
//!
//! Only metadata is expired here (the first half of P7). [`expire`](super::expire) does it in time, and removes what they alone referred to; a flush does it where
//! nobody expires, and leaves the files to the sweep. The nearest surviving ancestor still carries the watermark, which is what P4.1 needs.

use std::cmp::Reverse;
use std::collections::HashSet;

use iceberg::spec::{MAIN_BRANCH, TableMetadata};

/// The table property that says how long a snapshot is kept at least, milliseconds.
pub(crate) const SNAPSHOT_AGE: &str = "history.expire.max-snapshot-age-ms";
/// Its first value. Longer than any query may run on a snapshot that was current when it began.
pub(crate) const SNAPSHOT_AGE_MS: i64 = 20 * 60_000;
/// The table property that says how many of the newest snapshots are kept, however old.
pub(crate) const SNAPSHOTS_KEPT: &str = "history.expire.min-snapshots-to-keep";
/// Its first value.
pub(crate) const SNAPSHOTS_KEPT_MIN: usize = 100;

/// Forgetting waits until it is worth while: this many snapshots at once.
pub(crate) const FORGOTTEN_AT_ONCE_MIN: usize = 32;
/// A flush forgets only where nobody else does: this many snapshots at once.
pub(crate) const FORGOTTEN_BY_FLUSH_MIN: usize = 256;

/// Ids of snapshots that are too old and too many at `now_ms`, if there are `at_once` of them. Never the current one, one that a branch or tag other than `main`
/// leads to, or an ancestor of such a one.
pub(crate) fn forgettable(metadata: &TableMetadata, now_ms: i64, at_once: usize) -> Vec<i64> {
    let setting = |name: &str| metadata.properties().get(name).and_then(|text| text.parse::<i64>().ok());
    let oldest_ms = now_ms.saturating_sub(setting(SNAPSHOT_AGE).unwrap_or(SNAPSHOT_AGE_MS));
    let kept = setting(SNAPSHOTS_KEPT).map_or(SNAPSHOTS_KEPT_MIN, |kept| usize::try_from(kept).unwrap_or(1));
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_unstable_by_key(|snapshot| Reverse(snapshot.sequence_number()));
    // A query may have begun on a snapshot until the next one came, however old it was by then.
    let successors = snapshots.iter().zip(snapshots.iter().skip(1)).skip(kept.max(1) - 1);
    let old = successors.filter(|(successor, _)| successor.timestamp_ms() < oldest_ms);
    let old: Vec<i64> = old.map(|(_, snapshot)| snapshot.snapshot_id()).collect();
    if old.len() < at_once {
        return Vec::new();
    }
    let pinned = pinned(metadata);
    old.into_iter().filter(|id| !pinned.contains(id)).collect()
}

/// Those of `ids` that were not current any more `least_ms` before `now_ms`, and whose successor says so: who read them then is done.
pub(crate) fn long_past(metadata: &TableMetadata, ids: &[i64], now_ms: i64, least_ms: i64) -> Vec<i64> {
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_unstable_by_key(|snapshot| snapshot.sequence_number());
    let pairs = snapshots.windows(2).filter(|pair| pair[1].timestamp_ms() < now_ms.saturating_sub(least_ms));
    let past: HashSet<i64> = pairs.map(|pair| pair[0].snapshot_id()).collect();
    ids.iter().copied().filter(|id| past.contains(id)).collect()
}

/// What branches and tags lead to, `main` apart: of that the current snapshot only.
fn pinned(metadata: &TableMetadata) -> HashSet<i64> {
    let mut pinned: HashSet<i64> = metadata.current_snapshot_id().into_iter().collect();
    // The library keeps references to itself; its JSON does not.
    let document = serde_json::to_value(metadata).unwrap_or_default();
    let references = document["refs"].as_object().into_iter().flatten().filter(|(name, _)| *name != MAIN_BRANCH);
    for (_, reference) in references {
        let mut next = reference["snapshot-id"].as_i64();
        while let Some(id) = next.filter(|id| pinned.insert(*id)) {
            next = metadata.snapshot_by_id(id).and_then(|snapshot| snapshot.parent_snapshot_id());
        }
    }
    pinned
}

#[cfg(test)]
mod tests;
