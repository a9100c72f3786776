//! Which topics to flush now: a pure function of what the tails hold.

use std::cmp::Reverse;

use schemas::TopicId;

use crate::settings::Settings;
use crate::tail::TopicLoad;

/// A topic whose tail is to move to its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) topic: TopicId,
    /// Nobody waits for it and it needs little room: it goes when the budget for commits allows.
    pub(super) can_wait: bool,
}

/// The topics whose tails are to move to their tables now, the most urgent first, out of those that are free to.
///
/// A topic is due when somebody waits for it, when its oldest event is as old as its interval, or when it holds as many bytes as it may. If none
/// is and the tails together hold more than half of their room, the largest goes: many small topics must not stop each other's appends.
///
/// `wanted` says whether somebody waits for a topic. A clock that jumped back makes a topic due early, never late.
pub(super) fn decide(
    loads: &[TopicLoad],
    wanted: impl Fn(&TopicId) -> bool,
    now_micros: i64,
    settings: &Settings,
) -> Vec<Due> {
    let total: u64 = loads.iter().map(|load| load.bytes).sum();
    let is_full = total > settings.tail_bytes_max / 2;
    let held = loads.iter().filter_map(|load| Some((load, load.oldest_micros?)));
    let mut due: Vec<_> = held
        .filter_map(|(load, oldest)| {
            let (by_age, by_bytes) = urgency_percent(load, oldest, now_micros, settings);
            let (urgency, wanted) = (by_age.max(by_bytes), wanted(&load.def.id));
            let can_wait = !wanted && !is_full && by_bytes < 100;
            (wanted || urgency >= 100).then_some((Reverse((wanted, urgency)), load.def.id, can_wait))
        })
        .collect();
    due.sort_unstable();
    if due.is_empty() && is_full {
        let largest = loads.iter().filter(|load| load.oldest_micros.is_some()).max_by_key(|load| load.bytes);
        return largest.map(|load| Due { topic: load.def.id, can_wait: false }).into_iter().collect();
    }
    due.into_iter().map(|(_, topic, can_wait)| Due { topic, can_wait }).collect()
}

/// How far a topic is on its way to being due by age and by bytes; 100 and more is due.
fn urgency_percent(load: &TopicLoad, oldest_micros: i64, now_micros: i64, settings: &Settings) -> (u64, u64) {
    let interval_ms = load.def.flush.interval_ms.unwrap_or(settings.flush_interval_ms);
    let bytes_max = load.def.flush.bytes.unwrap_or(settings.flush_bytes);
    let percent = |part: u64, whole: u64| part.saturating_mul(100).checked_div(whole).unwrap_or(100);
    let by_age = match u64::try_from(now_micros.saturating_sub(oldest_micros)) {
        Ok(age_micros) => percent(age_micros, interval_ms.saturating_mul(1_000)),
        Err(_) => 100,
    };
    (by_age, percent(load.bytes, bytes_max))
}

#[cfg(test)]
mod tests;
