//! The conditions of a batch (P2): looked up before it queues, tested at its place in the order.
//!
//! What a condition is about may lie in the table, in the tail, or in flight. The appender's own task looks into table and tail, up to the end of the
//! tail at that moment; the lane's task adds what was sequenced since, which is little. So nothing is kept for each key, and the lane waits for
//! nobody. A flush may meanwhile have moved rows that the look-up did not cover out of the tail: then what was found decides nothing, and the append
//! goes back to be looked up again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow::array::{Array, AsArray, StringArray};
use catalog::view::{Asked, LastSeqs, Matching, TailSnapshot};
use schemas::envelope::column;
use schemas::limits::{CONDITIONS_MAX, KEY_BYTES_MAX};
use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, Seq, TopicDef};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::Append;
use crate::engine::{Condition, Detail};
use crate::error::{IngestError, Result};
use crate::lane::replay::PlacedRows;

/// Keys that are searched for in one chunk before other tasks have their turn.
const SEARCHES_AT_ONCE: usize = 512;
/// Nothing matches, as far as is known.
const NONE: Seq = Seq(0);

/// The conditions of one batch, and what is known of them.
#[derive(Debug)]
pub(crate) struct Tests {
    tests: Vec<Test>,
    /// Which of them are about a key.
    keys: HashMap<String, usize>,
    /// Which are about a pattern.
    patterns: Vec<usize>,
    /// All events below are covered by what was looked up.
    known_below: Seq,
    /// Where the append goes to be looked up again.
    back: Option<oneshot::Sender<Box<Append>>>,
}

#[derive(Debug)]
struct Test {
    condition: Condition,
    /// The greatest seq above the expected one that was found to match, else [`NONE`].
    last: Seq,
}

/// Events that no look-up covers: what the lane's task sees and nobody else.
#[derive(Debug)]
pub(crate) struct Recent<'a> {
    /// Decided, and not known to be in the table.
    pub(crate) tail: TailSnapshot,
    /// Sequenced, and not decided; in their order, of this topic.
    pub(crate) in_flight: Vec<&'a PlacedRows>,
}

/// How conditions turned out.
#[derive(Debug)]
pub(crate) enum Tested {
    /// All of them hold.
    Hold,
    /// One does not, says the error.
    Fail(IngestError),
    /// Too much has happened since they were looked up.
    Stale,
}

impl Default for Tests {
    fn default() -> Self {
        Self { tests: Vec::new(), keys: HashMap::new(), patterns: Vec::new(), known_below: NONE, back: None }
    }
}

impl Tests {
    /// Errors: `Invalid` for a condition that cannot be meant, or too many of them.
    pub(crate) fn new(def: &TopicDef, conditions: impl IntoIterator<Item = Condition>) -> Result<Self> {
        let mut tests = Self::default();
        for condition in conditions {
            check(def, &condition)?;
            tests.add(condition);
            if tests.tests.len() > CONDITIONS_MAX {
                return Err(invalid(format!(
                    "expected at most {CONDITIONS_MAX} conditions, found more: split the batch"
                )));
            }
        }
        Ok(tests)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    fn add(&mut self, condition: Condition) {
        let at = self.tests.len();
        match &condition.of {
            Matching::Key(key) => match self.keys.entry(key.clone()) {
                // Two of one key: the stricter one says it all.
                Entry::Occupied(there) => {
                    let expected = &mut self.tests[*there.get()].condition.expected_last_seq;
                    *expected = condition.expected_last_seq.min(*expected);
                    return;
                }
                Entry::Vacant(vacant) => drop(vacant.insert(at)),
            },
            Matching::Pattern(_) => self.patterns.push(at),
            Matching::Topic => {}
        }
        self.tests.push(Test { condition, last: NONE });
    }

    /// Looks into the tail, frozen just before, and for what lies below it into the table.
    ///
    /// Errors: those of [`LastSeqs`].
    pub(crate) async fn look_up(&mut self, tail: TailSnapshot, def: &TopicDef, table: &dyn LastSeqs) -> Result<()> {
        self.tests.iter_mut().for_each(|test| test.last = NONE);
        for chunk in tail.chunks.iter().rev() {
            for (number, test) in self.tests.iter_mut().enumerate() {
                if test.last == NONE && test.is_about(chunk.end_seq()) {
                    let found = match &test.condition.of {
                        Matching::Key(key) => chunk.rows_of(key).last().map(|row| *row as usize),
                        Matching::Pattern(pattern) => {
                            let paths = chunk.batch().column(column::PATH).as_string::<i32>();
                            (0..paths.len()).rev().find(|row| pattern.matches(paths.value(*row)))
                        }
                        Matching::Topic => None,
                    };
                    test.found(found.map(|row| chunk.first_seq().plus(row)));
                }
                if number % SEARCHES_AT_ONCE == SEARCHES_AT_ONCE - 1 {
                    yield_now().await;
                }
            }
            yield_now().await;
        }
        self.known_below = tail.end;
        self.look_into_table(tail.start, def, table).await
    }

    /// Only for what could lie below the tail, and was not found in it.
    async fn look_into_table(&mut self, tail_start: Seq, def: &TopicDef, table: &dyn LastSeqs) -> Result<()> {
        let may_lie_below =
            |test: &&mut Test| test.last == NONE && test.condition.of != Matching::Topic && test.is_about(tail_start);
        let open: Vec<_> = self.tests.iter_mut().filter(may_lie_below).collect();
        if open.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = open
            .iter()
            .map(|test| Asked { of: test.condition.of.clone(), above: test.condition.expected_last_seq })
            .collect();
        let found = table.last_seqs(def, &asked).await?;
        open.into_iter().zip(found.last).for_each(|(test, last)| test.found(last));
        if found.watermark.0 < tail_start {
            // Neither the table nor the tail was seen between: the lane finds it stale, whatever it has.
            self.known_below = found.watermark.0;
        }
        Ok(())
    }

    /// Tests them at a place in the order: `next_seq` is that of the batch's first event, and events below `retained` are gone, wherever they were found.
    pub(crate) fn test<'a>(
        &mut self,
        next_seq: Seq,
        retained: Seq,
        recent: impl FnOnce() -> Option<Recent<'a>>,
    ) -> Tested {
        if !(self.keys.is_empty() && self.patterns.is_empty()) {
            match recent().filter(|recent| recent.tail.start <= self.known_below || planted(Bug::StaleFact)) {
                Some(recent) => self.add_recent(&recent),
                None => return Tested::Stale,
            }
        }
        let topic_last = Seq(next_seq.0 - 1);
        let last = |test: &Test| match test.condition.of {
            Matching::Topic => topic_last,
            _ if test.last < retained => NONE,
            _ => test.last,
        };
        let failed = self.tests.iter().find(|test| last(test) > test.condition.expected_last_seq);
        failed.map_or(Tested::Hold, |test| Tested::Fail(failure(&test.condition, last(test))))
    }

    fn add_recent(&mut self, recent: &Recent<'_>) {
        let known_below = self.known_below;
        for chunk in recent.tail.chunks.iter().filter(|chunk| chunk.end_seq() > known_below) {
            let texts = |column| chunk.batch().column(column).as_string::<i32>();
            self.add_rows(chunk.first_seq(), texts(column::KEY), texts(column::PATH));
        }
        for placed in &recent.in_flight {
            self.add_rows(placed.first_seq, &placed.rows.keys, &placed.rows.paths);
        }
    }

    /// Rows that come after all that were added before.
    fn add_rows(&mut self, first_seq: Seq, keys: &StringArray, paths: &StringArray) {
        let skip = usize::try_from(self.known_below.0 - first_seq.0).unwrap_or(0);
        let rows = skip..keys.len();
        if let Some(only) = self.keys.iter().next().filter(|_| self.keys.len() == 1) {
            let found = rows.clone().rev().find(|row| keys.value(*row) == only.0);
            self.tests[*only.1].found(found.map(|row| first_seq.plus(row)));
        } else if !self.keys.is_empty() {
            for row in rows.clone() {
                if let Some(at) = self.keys.get(keys.value(row)) {
                    self.tests[*at].found(Some(first_seq.plus(row)));
                }
            }
        }
        for at in &self.patterns {
            let test = &mut self.tests[*at];
            let Matching::Pattern(pattern) = &test.condition.of else { continue };
            let found = rows.clone().rev().find(|row| pattern.matches(paths.value(*row)));
            test.found(found.map(|row| first_seq.plus(row)));
        }
    }

    /// Where the append comes back by if it must be looked up again. It will not if this is dropped.
    pub(crate) fn way_back(&mut self) -> oneshot::Receiver<Box<Append>> {
        let (back, again) = oneshot::channel();
        self.back = Some(back);
        again
    }

    /// Nobody needs to wait for it to come back.
    pub(crate) fn take_way_back(&mut self) -> Option<oneshot::Sender<Box<Append>>> {
        self.back.take()
    }
}

impl Test {
    /// True if there are events below `end` that it is about, whatever its number is: a hostile one must not overflow.
    fn is_about(&self, end: Seq) -> bool {
        self.condition.expected_last_seq.0 < end.0 - 1
    }

    fn found(&mut self, seq: Option<Seq>) {
        // What lies at or below the expected one does not matter.
        self.last = seq.filter(|seq| *seq > self.condition.expected_last_seq).unwrap_or(NONE).max(self.last);
    }
}

fn check(def: &TopicDef, condition: &Condition) -> Result<()> {
    if condition.expected_last_seq < NONE {
        let found = condition.expected_last_seq;
        return Err(invalid(format!("expected_last_seq: expected 0 or a seq, found {found}")));
    }
    match &condition.of {
        Matching::Key(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
            Err(invalid(format!("key: expected 1 to {KEY_BYTES_MAX} bytes, found {}", key.len())))
        }
        Matching::Pattern(pattern) if !pattern.may_match(&def.name) => {
            Err(invalid(format!("pattern {pattern}: expected one that events of topic {} can match", def.name)))
        }
        _ => Ok(()),
    }
}

fn invalid(what: String) -> IngestError {
    IngestError::new(ErrorKind::Invalid, format!("condition: {what}"))
}

fn failure(condition: &Condition, last_seq: Seq) -> IngestError {
    let of = match &condition.of {
        Matching::Key(key) => format!("key {key:?}"),
        Matching::Pattern(pattern) => format!("pattern {pattern}"),
        Matching::Topic => "the topic".to_owned(),
    };
    let expected = condition.expected_last_seq;
    let message = format!("nothing was appended: expected the last seq of {of} to be {expected}, found {last_seq}");
    let detail = Detail::ConditionFailed { condition: condition.clone(), last_seq };
    IngestError::new(ErrorKind::Conflict, message).with_detail(detail)
}

#[cfg(test)]
mod tests;
