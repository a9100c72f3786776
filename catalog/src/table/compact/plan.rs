//! Which seq ranges to merge next: a pure function of a table's files.
//!
//! A range is what lies between two seqs, in one file or many. It stands in a *tier* by its number of rows: tiers are eight times as wide as the one below, from
//! 2^18 rows on four times. Neighbours that stand in tier `t` or below are merged once they are [`MERGE_MIN`] or more and together reach tier `t + 1`. Since rows
//! add up exactly, every row climbs at least one tier each time that it is written anew: no row is written more often than there are tiers above the one it
//! was flushed into. And where no merge is due, no tier has more ranges than its width (or `MERGE_MIN - 1`): what a look-up of a key has to ask.

use std::sync::Arc;

use schemas::{Seq, TopicId};

use super::super::files::{DataFile, Partition};
use super::super::naming::own_range;
use super::Compaction;

/// Ranges that are merged at least.
pub(super) const MERGE_MIN: usize = 4;
/// Sorted runs that are merged at most: each holds a batch and a row group in memory. Eight ranges in each of seven tiers are fewer.
const RUNS_MAX: usize = 64;
/// Largest file of another engine that is put in order in memory, encoded bytes.
pub(super) const UNSORTED_BYTES_MAX: u64 = 32 << 20;
/// Buckets of a table at most: files that are written side by side.
pub(super) const BUCKETS_MAX: u32 = 16;
/// Bits of the number of rows from which on tiers are narrower.
const NARROW_BITS: u32 = 18;
/// The tier that begins there.
const NARROW_TIER: u32 = 6;

/// A seq range of a table, and the files that it is in.
#[derive(Clone, Debug)]
pub struct SeqRange {
    /// Lowest seq.
    pub first: Seq,
    /// Highest seq, inclusive.
    pub last: Seq,
    /// Rows.
    pub rows: u64,
    /// Encoded bytes.
    pub bytes: u64,
    /// Files in sorted runs: those of a run follow each other in key order.
    pub runs: Vec<Vec<Arc<DataFile>>>,
}

/// Ranges to be merged into one.
#[derive(Clone, Debug)]
pub struct Job {
    /// Lowest seq.
    pub first: Seq,
    /// Highest seq, inclusive.
    pub last: Seq,
    /// How many ranges there are now.
    pub ranges: usize,
    /// Rows.
    pub rows: u64,
    /// Encoded bytes.
    pub bytes: u64,
    /// The files, by sorted runs.
    pub files: Vec<Vec<Arc<DataFile>>>,
    /// Why now, in words.
    pub reason: String,
}

/// The tier of a number of rows.
pub(crate) fn tier(rows: u64) -> u32 {
    let bits = rows.max(1).ilog2();
    if bits < NARROW_BITS { bits / 3 } else { NARROW_TIER + (bits - NARROW_BITS) / 2 }
}

/// The least number of rows in a tier.
pub(crate) fn least_rows(tier: u32) -> u64 {
    if tier <= NARROW_TIER { 1 << (3 * tier) } else { 1 << (NARROW_BITS + 2 * (tier - NARROW_TIER)).min(62) }
}

/// First and last seq, and the files between.
type Grouped = ((Seq, Seq), Vec<Arc<DataFile>>);

/// The ranges of a topic's files, ascending and disjoint. Firn's files say in their names which range they are of; those of others say it by their bounds.
pub(crate) fn ranges(topic: TopicId, files: &[Arc<DataFile>]) -> Vec<SeqRange> {
    let extent = |file: &Arc<DataFile>| match own_range(topic, file.path.as_ref()) {
        Some(range) if range.start <= file.seqs.0 && file.seqs.1 < range.end => (range.start, Seq(range.end.0 - 1)),
        _ => file.seqs,
    };
    let mut placed: Vec<_> = files.iter().map(|file| (extent(file), Arc::clone(file))).collect();
    placed.sort_by(|(a, one), (b, other)| (a, one.path.as_ref()).cmp(&(b, other.path.as_ref())));
    let mut grouped: Vec<Grouped> = Vec::new();
    for ((first, last), file) in placed {
        match grouped.last_mut() {
            Some((extent, group)) if first <= extent.1 => {
                extent.1 = extent.1.max(last);
                group.push(file);
            }
            _ => grouped.push(((first, last), vec![file])),
        }
    }
    let range = |((first, last), files): Grouped| SeqRange {
        first,
        last,
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.size).sum(),
        runs: runs(files),
    };
    grouped.into_iter().map(range).collect()
}

/// Puts files that follow each other in key order into one run: as few as there are files that overlap anywhere.
fn runs(mut files: Vec<Arc<DataFile>>) -> Vec<Vec<Arc<DataFile>>> {
    files.sort_by(|a, b| (&a.prefixes.0, &a.keys.0).cmp(&(&b.prefixes.0, &b.keys.0)));
    let mut runs: Vec<Vec<Arc<DataFile>>> = Vec::new();
    for file in files {
        let follows = |run: &&mut Vec<Arc<DataFile>>| {
            let Some(last) = run.last().filter(|last| last.sorted && file.sorted) else { return false };
            (&last.prefixes.1, &last.keys.1) < (&file.prefixes.0, &file.keys.0)
        };
        match runs.iter_mut().find(follows) {
            Some(run) => run.push(file),
            None => runs.push(vec![file]),
        }
    }
    runs
}

impl SeqRange {
    /// Why it is merged no more, or cannot be; `None` if it can.
    pub fn settled(&self, settings: &Compaction) -> Option<String> {
        if self.bytes >= settings.range_bytes_max / MERGE_MIN as u64 {
            return Some("as large as ranges become".to_owned());
        }
        let unsorted = self.runs.iter().flatten().find(|file| !file.sorted && file.size > UNSORTED_BYTES_MAX);
        if let Some(file) = unsorted {
            return Some(format!("{} is not sorted by key, and too large to be sorted here", file.path));
        }
        (self.runs.len() > RUNS_MAX / 4).then(|| format!("{} of its files overlap each other", self.runs.len()))
    }
}

/// What to merge next: jobs that share no range, the cheapest first. With `whole`, once nothing is due: whatever neighbours there are, as far as one job goes.
pub(crate) fn plan(ranges: &[SeqRange], settings: &Compaction, whole: bool) -> Vec<Job> {
    let free: Vec<bool> = ranges.iter().map(|range| range.settled(settings).is_none()).collect();
    let due = due(ranges, settings, free.clone());
    if !whole || !due.is_empty() {
        return due;
    }
    let all = |stretch| cut(ranges, stretch, settings, 2, 0, "all that can be merged was asked for");
    stretches(&free).into_iter().filter_map(all).collect()
}

fn due(ranges: &[SeqRange], settings: &Compaction, mut free: Vec<bool>) -> Vec<Job> {
    let mut jobs = Vec::new();
    let highest = ranges.iter().map(|range| tier(range.rows)).max().unwrap_or_default();
    for at in 0..=highest {
        let fits: Vec<bool> = ranges.iter().zip(&free).map(|(range, free)| *free && tier(range.rows) <= at).collect();
        for stretch in stretches(&fits) {
            let reason = format!("neighbours of tier {at} or below reach {} rows together", least_rows(at + 1));
            let Some(job) = cut(ranges, stretch.clone(), settings, MERGE_MIN, least_rows(at + 1), &reason) else {
                continue;
            };
            for place in stretch.filter(|place| (job.first..=job.last).contains(&ranges[*place].first)) {
                free[place] = false;
            }
            jobs.push(job);
        }
    }
    jobs
}

/// Maximal stretches of `true`.
fn stretches(of: &[bool]) -> Vec<std::ops::Range<usize>> {
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for place in (0..of.len()).filter(|place| of[*place]) {
        match found.last_mut() {
            Some(last) if last.end == place => last.end += 1,
            _ => found.push(place..place + 1),
        }
    }
    found
}

/// The oldest ranges of a stretch that are `least` or more and have `rows` together, and what of the rest one job can take besides, up to the tier above; all that
/// it can take if `rows` is 0.
fn cut(
    ranges: &[SeqRange],
    stretch: std::ops::Range<usize>,
    settings: &Compaction,
    least: usize,
    rows: u64,
    reason: &str,
) -> Option<Job> {
    let (mut taken, mut sum, mut bytes, mut runs, mut is_full) = (0, 0_u64, 0_u64, 0, false);
    for range in &ranges[stretch.clone()] {
        is_full = bytes + range.bytes > settings.range_bytes_max;
        let is_enough = rows > 0 && taken >= least && sum >= rows.saturating_mul(4);
        if taken > 0 && (is_full || is_enough || runs + range.runs.len() > RUNS_MAX) {
            break;
        }
        (taken, sum, bytes, runs) = (taken + 1, sum + range.rows, bytes + range.bytes, runs + range.runs.len());
    }
    // What is cut short by the bound of a job goes as it is: it is then as large as ranges become.
    if taken < least || (sum < rows && !is_full) {
        return None;
    }
    let merged = &ranges[stretch.start..stretch.start + taken];
    Some(Job {
        first: merged[0].first,
        last: merged[taken - 1].last,
        ranges: taken,
        rows: sum,
        bytes,
        files: merged.iter().flat_map(|range| range.runs.iter().cloned()).collect(),
        reason: format!("{taken} ranges, {sum} rows: {reason}"),
    })
}

/// The number of buckets that suits a table whose default spec has `buckets`: it doubles as the average prefix grows. Never less than `buckets`.
pub(super) fn buckets_wanted(files: &[Arc<DataFile>], buckets: u32, settings: &Compaction) -> u32 {
    let mut prefixes = std::collections::BTreeSet::new();
    let mut bytes = 0;
    for file in files {
        if let Partition::Level1 { prefix, .. } = &file.partition {
            prefixes.insert(prefix.as_str());
            bytes += file.size;
        }
    }
    let average = bytes / (prefixes.len() as u64).max(1);
    let mut wanted = buckets.max(1);
    while wanted < BUCKETS_MAX && average / u64::from(wanted) >= settings.bucket_bytes.max(1) {
        wanted *= 2;
    }
    wanted
}

#[cfg(test)]
mod tests;
