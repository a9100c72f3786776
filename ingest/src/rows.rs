//! Rows that passed validation, on their way to become events.
//!
//! What is logged is their *body*: `_kind` and `_headers` if there is anything to say in them, then the payload. Key, path and prefix follow from
//! the body, so they are derived and not logged: after a restart [`ValidRows::derive`] gives the same again.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array, Int64Array, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use schemas::envelope::{self, column};
use schemas::key::{Fault, KeyRule};
use schemas::path::PathRule;
use schemas::{SchemaError, Seq, TopicDef};
use xxhash_rust::xxh3::xxh3_64;

use crate::memory::Held;

/// Bytes of `_seq`, `_time`, `_kind` and an absent `_headers` of one event.
const SEALED_BYTES: usize = 8 + 8 + 1 + 4;

/// What the batches of one topic look like, and how keys and paths follow from them. Made once a schema version.
#[derive(Debug)]
pub(crate) struct Shape {
    def: Arc<TopicDef>,
    event: SchemaRef,
    /// By `_kind` there or not, then `_headers` there or not.
    bodies: [[SchemaRef; 2]; 2],
    key: KeyRule,
    path: PathRule,
}

/// Rows that passed validation, with what was derived from them. Columns are as long as one another.
#[derive(Clone, Debug)]
pub(crate) struct ValidRows {
    /// `_kind` (Int8) and `_headers` if the batch has them, then all payload columns in the topic's order.
    pub(crate) body: RecordBatch,
    /// `_key`; shares the payload's column where the key is one string field.
    pub(crate) keys: StringArray,
    /// `_path`.
    pub(crate) paths: StringArray,
    /// `_prefix`.
    pub(crate) prefixes: StringArray,
    /// The values of `prefixes`, each once, in order of appearance.
    pub(crate) distinct_prefixes: Vec<String>,
    shape: Arc<Shape>,
}

impl Shape {
    /// Errors: none for a definition that `TopicSpec::resolve` made.
    pub(crate) fn new(def: Arc<TopicDef>) -> Result<Self, SchemaError> {
        let envelope = envelope::fields();
        let payload = def.payload.arrow_fields();
        let body = |kind: bool, headers: bool| {
            let kind = kind.then(|| Arc::new(envelope[column::KIND].clone()));
            let headers = headers.then(|| Arc::new(envelope[column::HEADERS].clone()));
            let fields: Vec<_> = kind.into_iter().chain(headers).chain(payload.iter().cloned()).collect();
            Arc::new(Schema::new(fields))
        };
        Ok(Self {
            event: def.event_schema(),
            bodies: [[body(false, false), body(false, true)], [body(true, false), body(true, true)]],
            key: def.key_rule()?,
            path: def.path_rule()?,
            def,
        })
    }

    /// The topic.
    pub(crate) fn def(&self) -> &Arc<TopicDef> {
        &self.def
    }

    /// The schema of a body, with or without `_kind` and `_headers`.
    pub(crate) fn body_schema(&self, has_kind: bool, has_headers: bool) -> &SchemaRef {
        &self.bodies[usize::from(has_kind)][usize::from(has_headers)]
    }
}

impl ValidRows {
    /// Derives keys, paths and prefixes of a body that has one of the topic's body schemas and was validated once.
    ///
    /// Errors: [`SchemaError::Batch`] if it is not such a body.
    pub(crate) fn derive(shape: &Arc<Shape>, body: RecordBatch) -> Result<Self, SchemaError> {
        let (rows, faults) = Self::derive_with_faults(shape, body)?;
        match faults.first() {
            None => Ok(rows),
            Some(fault) => Err(SchemaError::Batch(format!("row {}: {}", fault.row, fault.reason))),
        }
    }

    /// Likewise for a body whose keys and paths were not seen yet. The faults are in no order; a row may have two.
    pub(crate) fn derive_with_faults(shape: &Arc<Shape>, body: RecordBatch) -> Result<(Self, Vec<Fault>), SchemaError> {
        let fields = shape.def.payload.fields.len();
        let Some(payload) = body.num_columns().checked_sub(fields).map(|skip| &body.columns()[skip..]) else {
            let found = body.num_columns();
            return Err(SchemaError::Batch(format!("expected {fields} payload columns, found {found} columns")));
        };
        let key = shape.key.derive(payload)?;
        let path = shape.path.derive(payload, body.num_rows())?;
        let mut faults = key.faults;
        faults.extend(path.paths.faults);
        let rows = Self {
            distinct_prefixes: distinct(&path.prefixes),
            keys: key.values,
            paths: path.paths.values,
            prefixes: path.prefixes,
            shape: Arc::clone(shape),
            body,
        };
        Ok((rows, faults))
    }

    /// Gives the rows whose prefix is not admitted the topic's own name as their prefix, so that the table has a bounded number of them.
    pub(crate) fn share_prefixes(&mut self, admit: &dyn Fn(&str) -> bool, topic: &str) {
        let refused: HashSet<String> =
            self.distinct_prefixes.iter().filter(|prefix| *prefix != topic && !admit(prefix)).cloned().collect();
        if refused.is_empty() {
            return;
        }
        let shared = |prefix| if refused.contains(prefix) { topic } else { prefix };
        self.prefixes = StringArray::from_iter_values(self.prefixes.iter().flatten().map(shared));
        self.distinct_prefixes = distinct(&self.prefixes);
    }

    /// Makes events of them: `first_seq` and on, all sequenced at `time_micros`. The columns are moved, not copied.
    pub(crate) fn seal(self, first_seq: Seq, time_micros: i64) -> RecordBatch {
        let rows = self.len();
        let extra = self.body.num_columns() - self.shape.def.payload.fields.len();
        let (extra, payload) = self.body.columns().split_at(extra);
        let given = |name: &str| {
            let fields = self.body.schema_ref().fields();
            extra.iter().zip(fields).find(|(_, field)| field.name() == name).map(|(column, _)| Arc::clone(column))
        };
        let event = &self.shape.event;
        let seqs = Int64Array::from_iter_values(first_seq.0..first_seq.plus(rows).0);
        let times = TimestampMicrosecondArray::from_value(time_micros, rows).with_timezone(envelope::UTC);
        let kinds =
            given(envelope::KIND).unwrap_or_else(|| Arc::new(Int8Array::from_value(envelope::KIND_EVENT, rows)));
        let headers =
            given(envelope::HEADERS).unwrap_or_else(|| new_null_array(event.field(column::HEADERS).data_type(), rows));
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(event.fields().len());
        columns.extend([Arc::new(seqs) as ArrayRef, Arc::new(times)]);
        columns.extend([self.keys, self.paths, self.prefixes].map(|column| Arc::new(column) as ArrayRef));
        columns.extend([kinds, headers]);
        columns.extend(payload.iter().cloned());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(event), columns, &options)
            .expect("derive checked that the body is the topic's, and the rest is made here")
    }

    /// The payload columns alone, shared.
    pub(crate) fn payload(&self) -> RecordBatch {
        let (columns, fields) = (self.body.num_columns(), self.shape.def.payload.fields.len());
        let payload: Vec<_> = (columns - fields..columns).collect();
        self.body.project(&payload).expect("derive checked that the payload is there")
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.body.num_rows()
    }

    /// Bytes that the sealed rows will keep in memory.
    pub(crate) fn bytes(&self) -> usize {
        let derived: [ArrayRef; 3] =
            [&self.keys, &self.paths, &self.prefixes].map(|column| Arc::new(column.clone()) as ArrayRef);
        Held::of(self.body.columns().iter().chain(&derived)) + SEALED_BYTES * self.len()
    }
}

fn distinct(values: &StringArray) -> Vec<String> {
    // There are few, mostly: a place for each, chosen by a quick hash, tells most that came before from those that did not.
    let mut recent = [None; 64];
    let mut seen: HashSet<&str> = HashSet::new();
    let mut found = Vec::new();
    for value in values.iter().flatten() {
        let recent = &mut recent[(xxh3_64(value.as_bytes()) % 64) as usize];
        if *recent != Some(value) && seen.insert(value) {
            found.push(value.to_owned());
        }
        *recent = Some(value);
    }
    found
}

#[cfg(test)]
mod tests;
