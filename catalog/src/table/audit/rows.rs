//! The rows of one data file: each where it may be, once, with what follows from its payload, and all of them hashed.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int8Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use iceberg::spec::SchemaRef as TableSchema;
use schemas::conform::{absent, conform_batch};
use schemas::envelope::{KIND_EVENT, KIND_TOMBSTONE, column};
use schemas::key::KeyRule;
use schemas::path::PathRule;
use schemas::{SchemaError, Seq, TopicDef};

use super::super::create::buckets_of;
use super::super::files::Partition;
use super::super::rowhash::RowHash;
use super::ranges::{Flushed, Found, Ranges, Recorded};
use super::seen::Seen;
use super::times::Times;
use crate::audit::{Audited, Law, Stop, laws};

/// What the rows of a topic must be: made once an audit.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) def: Arc<TopicDef>,
    event: SchemaRef,
    key: KeyRule,
    path: PathRule,
    /// Every schema that the table has had: what a manifest says of a file is in the terms of one of them.
    pub(super) schemas: Vec<TableSchema>,
    /// The first seq that the hash of all rows is of.
    pub(super) hash_base: Seq,
    /// What flushes recorded from there on.
    pub(super) flushed: Ranges,
    /// What they recorded before, when the table had columns that it no longer has: as far as files still have them.
    pub(super) early: Ranges,
    /// Which seqs those are, and the ids of the columns that each was recorded with.
    early_columns: Vec<(Range<Seq>, HashSet<i32>)>,
    /// What the log still has of the table's rows.
    pub(super) logged: Ranges,
    /// First seq that retention has left.
    retained: Seq,
}

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) count: u64,
    /// Those of them that retention could have taken.
    pub(super) left_over: u64,
    pub(super) hash: RowHash,
    pub(super) seen: Seen,
    pub(super) times: Times,
    pub(super) prefixes: BTreeSet<String>,
    pub(super) flushed: Found,
    pub(super) early: Found,
    pub(super) logged: Found,
    /// Prefix, key and seq of the last row, if the file says that it is sorted.
    last: Option<(String, String, i64)>,
}

/// Which rows a file may have, and in what order.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) object: String,
    pub(super) seqs: Range<Seq>,
    pub(super) is_sorted: bool,
    pub(super) partition: Partition,
    /// It has all columns that its rows were flushed with, some of which the table no longer has.
    pub(super) is_early: bool,
}

impl Rules {
    pub(super) fn new(
        def: Arc<TopicDef>,
        schemas: Vec<TableSchema>,
        hash_base: Seq,
        flushes: Vec<Flushed>,
        logged: Vec<Recorded>,
        retained: Seq,
    ) -> Result<Self, SchemaError> {
        let (event, key, path) = (def.event_schema(), def.key_rule()?, def.path_rule()?);
        let (early, flushed): (Vec<_>, Vec<_>) = flushes.into_iter().partition(|flush| flush.rows.to <= hash_base);
        let columns = |flush: &Flushed| {
            let schema = schemas.iter().find(|schema| Some(schema.schema_id()) == flush.schema_id)?;
            let ids = schema.field_id_to_name_map().keys().copied().collect();
            Some((flush.rows.from..flush.rows.to, ids))
        };
        let early_columns = early.iter().filter_map(columns).collect();
        let rows = |flushes: Vec<Flushed>| Ranges::new(flushes.into_iter().map(|flush| flush.rows).collect());
        let (flushed, early, logged) = (rows(flushed), rows(early), Ranges::new(logged));
        Ok(Self { def, event, key, path, schemas, hash_base, flushed, early, early_columns, logged, retained })
    }

    /// True if a file of these seqs and columns has all that its rows were flushed with, when the table had columns that it no longer has.
    pub(super) fn is_early(&self, seqs: &Range<Seq>, columns: &HashSet<i32>) -> bool {
        let flushes = self.early_columns.iter().filter(|(range, _)| range.start < seqs.end && seqs.start < range.end);
        let mut flushes = flushes.peekable();
        flushes.peek().is_some() && flushes.all(|(_, ids)| ids.is_subset(columns))
    }
}

impl Rows {
    /// Takes the next rows of the file.
    pub(super) fn add(&mut self, rules: &Rules, bounds: &Bounds, batch: &RecordBatch) -> Audited<()> {
        let before = self.count;
        let at = |row: usize| format!("row {}", before + row as u64);
        let fault = |law: Law, row: usize, expected: &str, found: String| {
            Err(Stop::fault_at(law, &bounds.object, at(row), expected, found))
        };
        let events = conform_batch(batch, &rules.event, &absent).map_err(|error| {
            Stop::fault_at(laws::INTACT, &bounds.object, at(0), "rows of the topic's schema", error)
        })?;
        let seqs = events.column(column::SEQ).as_primitive::<Int64Type>();
        for (row, seq) in seqs.values().iter().map(|seq| Seq(*seq)).enumerate() {
            if !bounds.seqs.contains(&seq) {
                let expected = format!("a seq from {} to before {}", bounds.seqs.start, bounds.seqs.end);
                return fault(laws::ONCE, row, &expected, format!("seq {seq}"));
            }
            if !self.seen.insert(seq) {
                return fault(laws::ONCE, row, "each seq once", format!("seq {seq} a second time"));
            }
        }
        let kinds = events.column(column::KIND).as_primitive::<Int8Type>();
        let known = KIND_EVENT..=KIND_TOMBSTONE;
        if let Some(row) = kinds.values().iter().position(|kind| !known.contains(kind)) {
            return fault(laws::INTACT, row, "a kind from 0 to 2", format!("{}", kinds.value(row)));
        }
        if let Some((row, expected, found)) = self.underived(rules, &events)? {
            let place = format!("{}, seq {}", at(row), seqs.value(row));
            return Err(Stop::fault_at(laws::DERIVED, &bounds.object, place, expected, found));
        }
        let misplaced = misplaced(&events, &bounds.partition).map_err(Stop::Unseen)?;
        if let Some((row, found)) = misplaced {
            return fault(
                laws::INTACT,
                row,
                "the prefix and the bucket of the key that the file's partition is of",
                found,
            );
        }
        if bounds.is_sorted
            && let Some(row) = self.unsorted(&events, seqs)
        {
            return fault(laws::INTACT, row, "rows in order of prefix, key and seq", "another order".to_owned());
        }
        self.count_in(rules, &events, seqs, bounds.is_early.then_some(batch))
            .map_err(|error| Stop::fault_at(laws::INTACT, &bounds.object, "", "rows with a hash", error))
    }

    /// Times and hashes. `early`: the rows as they were flushed, with columns that the table no longer has.
    fn count_in(
        &mut self,
        rules: &Rules,
        events: &RecordBatch,
        seqs: &Int64Array,
        early: Option<&RecordBatch>,
    ) -> crate::Result<()> {
        let times = events.column(column::TIME).as_primitive::<TimestampMicrosecondType>();
        seqs.values().iter().zip(times.values()).for_each(|(seq, time)| self.times.add(*time, Seq(*seq)));
        let digests: Vec<RowHash> = RowHash::of_each(events)?.collect();
        let counted = seqs.values().iter().zip(&digests).filter(|(seq, _)| **seq >= rules.hash_base.0);
        self.hash = counted.fold(self.hash, |sum, (_, digest)| sum + *digest);
        if let Some(batch) = early {
            let seqs = seqs.values().iter().map(|seq| Seq(*seq));
            rules.early.add(&mut self.early, seqs.zip(RowHash::of_each(batch)?));
        }
        let rows = || seqs.values().iter().map(|seq| Seq(*seq)).zip(digests.iter().copied());
        rules.flushed.add(&mut self.flushed, rows());
        rules.logged.add(&mut self.logged, rows());
        self.count += events.num_rows() as u64;
        self.left_over += seqs.values().iter().filter(|seq| **seq < rules.retained.0).count() as u64;
        Ok(())
    }

    /// The first row whose key, path or prefix is not what follows from its payload: row, expected, found.
    fn underived(&mut self, rules: &Rules, events: &RecordBatch) -> Audited<Option<(usize, String, String)>> {
        let payload = &events.columns()[column::PAYLOAD..];
        let failed = |error: SchemaError| Stop::Unseen(error.into());
        let keys = rules.key.derive(payload).map_err(failed)?;
        let paths = rules.path.derive(payload, events.num_rows()).map_err(failed)?;
        if let Some(fault) = keys.faults.iter().chain(&paths.paths.faults).min_by_key(|fault| fault.row) {
            return Ok(Some((fault.row, "a valid key and path".to_owned(), fault.reason.clone())));
        }
        let text = |index: usize| events.column(index).as_string::<i32>();
        for (name, derived, stored) in
            [("key", &keys.values, text(column::KEY)), ("path", &paths.paths.values, text(column::PATH))]
        {
            if let Some(row) = first_difference(derived, stored) {
                let say = |values: &StringArray| format!("{name} {:?}", values.value(row));
                return Ok(Some((row, say(derived), say(stored))));
            }
        }
        // Past a bounded number of prefixes, rows have the topic's own name instead.
        let (own, stored) = (rules.def.name.as_str(), text(column::PREFIX));
        let wrong = |row: &usize| stored.value(*row) != paths.prefixes.value(*row) && stored.value(*row) != own;
        if let Some(row) = (0..stored.len()).find(wrong) {
            let expected = format!("prefix {:?} or {own:?}", paths.prefixes.value(row));
            return Ok(Some((row, expected, format!("prefix {:?}", stored.value(row)))));
        }
        let mut last = None;
        for prefix in stored.iter().flatten() {
            if last != Some(prefix) && !self.prefixes.contains(prefix) {
                self.prefixes.insert(prefix.to_owned());
            }
            last = Some(prefix);
        }
        Ok(None)
    }

    /// The first row that stands before one that should stand before it.
    fn unsorted(&mut self, events: &RecordBatch, seqs: &Int64Array) -> Option<usize> {
        let text = |index: usize| events.column(index).as_string::<i32>();
        let (prefixes, keys) = (text(column::PREFIX), text(column::KEY));
        let place = |row: usize| (prefixes.value(row), keys.value(row), seqs.value(row));
        let rows = events.num_rows();
        let follows = |row: &usize| match row.checked_sub(1) {
            Some(before) => place(before) < place(*row),
            None => {
                self.last.as_ref().is_none_or(|(prefix, key, seq)| (prefix.as_str(), key.as_str(), *seq) < place(0))
            }
        };
        if let Some(row) = (0..rows).find(|row| !follows(row)) {
            return Some(row);
        }
        self.last = rows.checked_sub(1).map(place).map(|(prefix, key, seq)| (prefix.to_owned(), key.to_owned(), seq));
        None
    }
}

/// The first row that does not belong into the partition, and what it has.
fn misplaced(events: &RecordBatch, partition: &Partition) -> crate::Result<Option<(usize, String)>> {
    let Partition::Level1 { prefix, bucket, buckets } = partition else { return Ok(None) };
    let found = buckets_of(events.column(column::KEY), *buckets)?;
    let text = |index: usize| events.column(index).as_string::<i32>();
    let (prefixes, keys) = (text(column::PREFIX), text(column::KEY));
    let belongs = |row: &usize| prefixes.value(*row) == prefix && found.value(*row) == *bucket as i32;
    let row = (0..events.num_rows()).find(|row| !belongs(row));
    Ok(row.map(|row| (row, format!("prefix {:?}, key {:?}", prefixes.value(row), keys.value(row)))))
}

fn first_difference(expected: &StringArray, found: &StringArray) -> Option<usize> {
    (0..found.len()).find(|row| expected.value(*row) != found.value(*row))
}
