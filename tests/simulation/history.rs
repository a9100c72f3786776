//! What clients asked and were told, and whether one order explains it.
//!
//! A topic is a log, and every answer says where in it the operation took place: an append by its seqs, a read by where it ended and by the hash of
//! all before. So no search is needed to judge a history: the operations are linearizable if and only if each has its place in the one final log and
//! none has an earlier place than another that had ended before it began. The state is one number and one hash a topic. A refusal names the seq that
//! stood in its way: its place is anywhere from there up to the next event that matches.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::{Expects, Row, link};

/// Everything that clients did.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    /// Ids of topics that were dropped, and when that was known.
    pub(crate) dropped: Vec<(String, u64)>,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) topic: String,
    /// The id of the topic that had the name then, if the answer says so.
    pub(crate) of: String,
    pub(crate) asked: Asked,
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) told: Told,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// These ids, in one batch, under a condition perhaps.
    Append {
        ids: Vec<String>,
        expects: Option<Expects>,
    },
    Read,
    /// As far as the node sees.
    Glance,
}

/// What the answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Appended {
        first: i64,
        last: i64,
    },
    Cut {
        end: i64,
        hash: u64,
    },
    /// The condition did not hold: this seq lies above, and is the last.
    ConditionFailed {
        last: i64,
    },
    /// It did not happen.
    Refused,
    /// It may have happened.
    Unclear,
}

impl History {
    pub(crate) fn count(&self, is: impl Fn(&Operation) -> bool) -> usize {
        self.operations.iter().filter(|operation| is(operation)).count()
    }

    /// What of the history the final log of `topic`, whose id is `of`, does not explain.
    pub(crate) fn judge(&self, topic: &str, of: &str, log: &[Row]) -> Vec<String> {
        let mut faults = judge_log(log);
        let seqs: BTreeMap<&str, i64> = log.iter().map(|row| (row.id.as_str(), row.seq)).collect();
        let mut hashes = vec![0];
        hashes.extend(log.iter().scan(0, |hash, row| {
            *hash = link(*hash, row);
            Some(*hash)
        }));
        let (operations, past): (Vec<_>, Vec<_>) = self
            .operations
            .iter()
            .filter(|operation| operation.topic == topic)
            .partition(|operation| operation.of == of || operation.of.is_empty());
        faults.extend(self.judge_past(&past));
        faults.extend(self.revived(&operations));
        for operation in &operations {
            faults.extend(operation.misplaced(&seqs, &hashes));
            faults.extend(operation.misjudged(&seqs, log));
        }
        faults.extend(disordered(&operations, |operation| operation.place(&seqs, log)));
        faults.extend(strange(&operations, log));
        faults
    }

    /// Of topics that had the name before: their logs are gone, but what was told of each must fit one.
    fn judge_past(&self, operations: &[&Operation]) -> Vec<String> {
        let mut by_id: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        operations.iter().for_each(|operation| by_id.entry(&operation.of).or_default().push(operation));
        let mut faults = Vec::new();
        for (of, operations) in by_id {
            let mut ids: BTreeMap<i64, &str> = BTreeMap::new();
            for operation in &operations {
                let (Asked::Append { ids: asked, .. }, Told::Appended { first, last }) =
                    (&operation.asked, operation.told)
                else {
                    continue;
                };
                let given =
                    (first..=last).zip(asked).filter_map(|(seq, id)| ids.insert(seq, id).map(|other| (seq, other)));
                faults.extend(given.map(|(seq, other)| format!("I4: {of}: seq {seq} was {other}'s already")));
                if last - first + 1 != asked.len() as i64 {
                    faults.push(format!("I2: {of}: {asked:?} acknowledged as {first}..={last}"));
                }
            }
            faults.extend(disordered(&operations, Operation::place_told));
            faults.extend(self.revived(&operations));
        }
        faults
    }

    /// Operations that began after their topic was known to be dropped.
    fn revived(&self, operations: &[&Operation]) -> Vec<String> {
        let is_late = |operation: &&&Operation| {
            operation.asked != Asked::Glance
                && self.dropped.iter().any(|(of, ended)| *of == operation.of && *ended < operation.begun)
        };
        let late = operations.iter().filter(is_late);
        late.map(|operation| format!("I2: told of a topic that had been dropped: {operation:?}")).collect()
    }
}

/// Seqs dense, times not decreasing, no id twice.
fn judge_log(log: &[Row]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for (number, row) in log.iter().enumerate() {
        if row.seq != number as i64 + 1 {
            faults.push(format!("I4: row {number} has seq {}", row.seq));
            break;
        }
        if number > 0 && log[number - 1].time > row.time {
            faults.push(format!("I4: time decreases at seq {}", row.seq));
        }
        if !ids.insert(&row.id) {
            faults.push(format!("I3: {} is there twice, once at seq {}", row.id, row.seq));
        }
    }
    faults
}

/// I3, I14: rows that nobody appended to this topic, as far as whoever tried was told.
fn strange(operations: &[&Operation], log: &[Row]) -> Option<String> {
    let asked = |operation: &&Operation| match &operation.asked {
        Asked::Append { ids, .. } => ids.clone(),
        Asked::Read | Asked::Glance => Vec::new(),
    };
    let known: BTreeSet<String> = operations.iter().flat_map(asked).collect();
    let strange = log.iter().find(|row| !known.contains(&row.id))?;
    Some(format!("I14: {} at seq {} was appended to another topic, or refused", strange.id, strange.seq))
}

impl Operation {
    /// Why the log does not agree with what was told.
    fn misplaced(&self, seqs: &BTreeMap<&str, i64>, hashes: &[u64]) -> Option<String> {
        let ids = match (&self.asked, self.told) {
            (Asked::Append { ids, .. }, _) => ids,
            (Asked::Read | Asked::Glance, Told::Cut { end, hash }) => {
                let expected = hashes.get((end - 1) as usize).copied();
                let what = || {
                    format!(
                        "I2: a read by client {} up to {end} had hash {hash:x}, the log has {expected:x?}",
                        self.client
                    )
                };
                return (expected != Some(hash)).then(what);
            }
            (Asked::Read | Asked::Glance, _) => return None,
        };
        let found: Vec<_> = ids.iter().map(|id| seqs.get(id.as_str()).copied()).collect();
        let is_there = found.iter().any(Option::is_some);
        match self.told {
            Told::Appended { first, last } => {
                let expected: Vec<_> = (first..=last).map(Some).collect();
                let what = || format!("I2: {ids:?} acknowledged as {first}..={last}, but the log has {found:?}");
                (found != expected).then(what)
            }
            Told::Refused | Told::ConditionFailed { .. } => {
                is_there.then(|| format!("I3: {ids:?} refused ({:?}), but the log has {found:?}", self.told))
            }
            Told::Unclear | Told::Cut { .. } => {
                let follows = |pair: &[Option<i64>]| matches!(pair, [Some(a), Some(b)] if a + 1 == *b);
                let is_whole = !is_there || found[0].is_some() && found.windows(2).all(follows);
                (!is_whole).then(|| format!("I4: a batch is not whole: {ids:?} at {found:?}"))
            }
        }
    }

    /// I5: why its condition should have been judged otherwise, going by the log alone.
    fn misjudged(&self, seqs: &BTreeMap<&str, i64>, log: &[Row]) -> Option<String> {
        let Asked::Append { ids, expects: Some(expects) } = &self.asked else { return None };
        if let Told::ConditionFailed { last } = self.told {
            let is_match = log.get(usize::try_from(last - 1).ok()?).is_some_and(|row| expects.matches(row));
            let what =
                || format!("I5: {ids:?} expected {expects:?}, and was refused for seq {last}, which does not match");
            return (!is_match || last <= expects.last).then(what);
        }
        let first = *seqs.get(ids.first()?.as_str())?;
        let between = log.get(usize::try_from(expects.last).ok()?..usize::try_from(first - 1).ok()?)?;
        let broken = between.iter().find(|row| expects.matches(row))?;
        Some(format!(
            "I5: {ids:?} was appended at {first} although it expected {expects:?} and {} stood there",
            broken.seq
        ))
    }

    /// The greatest length that the log may have had when it took place, its own rows apart; and the last seq that it made or saw.
    fn place(&self, seqs: &BTreeMap<&str, i64>, log: &[Row]) -> Option<(i64, i64)> {
        match (&self.asked, self.told) {
            (Asked::Append { ids, .. }, Told::Appended { .. } | Told::Unclear) => {
                let first = seqs.get(ids.first()?.as_str())?;
                Some((first - 1, first + ids.len() as i64 - 1))
            }
            (Asked::Append { expects: Some(expects), .. }, Told::ConditionFailed { last }) => {
                let after = log.get(usize::try_from(last).ok()?..)?;
                let next = after.iter().find(|row| expects.matches(row)).map_or(i64::MAX, |row| row.seq - 1);
                Some((next, last))
            }
            (Asked::Read, Told::Cut { end, .. }) => Some((end - 1, end - 1)),
            _ => None,
        }
    }

    /// The same, by the answer alone.
    fn place_told(&self) -> Option<(i64, i64)> {
        match (&self.asked, self.told) {
            (_, Told::Appended { first, last }) => Some((first - 1, last)),
            (Asked::Read, Told::Cut { end, .. }) => Some((end - 1, end - 1)),
            _ => None,
        }
    }
}

impl Expects {
    fn matches(&self, row: &Row) -> bool {
        self.key.as_ref().is_none_or(|key| *key == row.key)
    }
}

/// Operations whose last possible place lies before what was known when they began.
fn disordered(operations: &[&Operation], place: impl Fn(&Operation) -> Option<(i64, i64)>) -> Vec<String> {
    let mut moments: Vec<(u64, Option<&Operation>, i64)> = Vec::new();
    for operation in operations {
        moments.push((operation.begun, Some(operation), 0));
        // Of what was never answered nobody knew when it had happened.
        if let Some((_, last)) = place(operation).filter(|_| operation.told != Told::Unclear) {
            moments.push((operation.ended, None, last));
        }
    }
    moments.sort_unstable_by_key(|(at, ..)| *at);
    let (mut known, mut faults) = (0, Vec::new());
    for (_, begins, last) in moments {
        let Some(operation) = begins else {
            known = known.max(last);
            continue;
        };
        if let Some((greatest, _)) = place(operation).filter(|(greatest, _)| *greatest < known) {
            faults.push(format!(
                "I4: {:?} by client {} was told {:?}: it took place at {greatest} at the latest, but {known} was known when it began",
                operation.asked, operation.client, operation.told
            ));
        }
    }
    faults
}
