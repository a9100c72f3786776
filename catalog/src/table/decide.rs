//! What a flush does next, from what the table says: the decision of P4, apart from all I/O.

use schemas::planted::{Bug, planted};
use schemas::{Seq, Watermark};

/// What to do about rows from a given seq on, having read the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// They are not in the table: commit them onto exactly this base.
    Commit,
    /// They are: an earlier attempt's answer was lost.
    Done,
    /// Another flush took (some of) them: abandon this one, delete nothing, cut anew at the watermark.
    CutAgain,
    /// The table has lost what it had: nobody may go on.
    Stop,
}

/// `mine`: whether this flush's commit id is among the ancestors of `main`.
pub(crate) fn next(mine: bool, from: Seq, watermark: Watermark) -> Next {
    match (mine, watermark.0.cmp(&from)) {
        (true, _) => Next::Done,
        (false, std::cmp::Ordering::Equal) => Next::Commit,
        (false, std::cmp::Ordering::Greater) if planted(Bug::WatermarkAtLeast) => Next::Commit,
        (false, std::cmp::Ordering::Greater) => Next::CutAgain,
        (false, std::cmp::Ordering::Less) => Next::Stop,
    }
}

/// Whether a file written in one sweep generation may be committed in another (P7): later, a sweep may already have taken it for an orphan.
pub(crate) fn may_pin(written: u64, base: u64) -> bool {
    base.saturating_sub(written) <= 1
}

#[cfg(test)]
mod tests;
