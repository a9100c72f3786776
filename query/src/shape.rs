//! What a replay or subscription hands out: which columns, of which rows.
//!
//! Three sets of columns: those *read* (everything that is needed), those *kept* once rows have been chosen (`_seq` and the output), and the
//! *output* in the caller's order. Columns are shared between the sets, never copied.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use schemas::conform::field_id;
use schemas::envelope::{self, column};
use schemas::pattern::Pattern;
use schemas::{ErrorKind, Seq};

use crate::checks::compile_predicate;
use crate::error::{QueryError, Result};
use crate::parquet::projection::{Wanted, conform_to};

/// Columns and conditions of one reader over one topic, compiled once.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    event: SchemaRef,
    read: Wanted,
    read_of_event: Vec<usize>,
    kept: SchemaRef,
    kept_of_read: Vec<usize>,
    output: SchemaRef,
    output_of_kept: Vec<usize>,
    pattern: Option<PathFilter>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

#[derive(Clone, Debug)]
struct PathFilter {
    pattern: Pattern,
    /// Number of `_path` among the columns read.
    path: usize,
}

impl Shape {
    /// `event`: the topic's event schema. `columns`: those to hand out, in order; all if `None`. `filter`: an SQL condition over `event`.
    ///
    /// Errors: `NotFound` for an unknown column, naming those that exist; `Invalid` for none, one twice, or a condition that does not compile.
    pub(crate) fn new(
        event: SchemaRef,
        columns: Option<&[String]>,
        filter: Option<&str>,
        pattern: Option<Pattern>,
    ) -> Result<Self> {
        let wanted = match columns {
            Some(names) => resolve(&event, names)?,
            None => (0..event.fields().len()).collect(),
        };
        let filter = filter.map(|text| compile_predicate(text, &event)).transpose()?;
        let mut read: Vec<usize> = wanted.clone();
        read.push(column::SEQ);
        read.extend(pattern.iter().map(|_| column::PATH));
        read.extend(filter.iter().flat_map(collect_columns).map(|column| column.index()));
        read.sort_unstable();
        read.dedup();
        let place = |event: &usize| read.binary_search(event).expect("every column that is kept is read");

        let read_schema = Arc::new(event.project(&read).map_err(internal)?);
        let filter = filter.map(|filter| reassign_expr_columns(filter, &read_schema)).transpose();
        let filter = filter.map_err(|error| QueryError::new(ErrorKind::Internal, error.to_string()))?;
        let pattern = pattern.map(|pattern| PathFilter { pattern, path: place(&column::PATH) });

        let mut kept = vec![column::SEQ];
        kept.extend(wanted.iter().filter(|column| **column != column::SEQ));
        let output_of_kept = wanted.iter().map(|wanted| kept.iter().position(|kept| kept == wanted));
        let output_of_kept = output_of_kept.map(|at| at.expect("every column that is handed out is kept")).collect();
        Ok(Self {
            kept: Arc::new(event.project(&kept).map_err(internal)?),
            kept_of_read: kept.iter().map(place).collect(),
            output: Arc::new(event.project(&wanted).map_err(internal)?),
            output_of_kept,
            read: Wanted::new(read_schema),
            read_of_event: read,
            pattern,
            filter,
            event,
        })
    }

    /// What to decode of a file.
    pub(crate) fn read(&self) -> &Wanted {
        &self.read
    }

    /// Schema of kept batches: `_seq`, then the rest of the output.
    pub(crate) fn kept(&self) -> &SchemaRef {
        &self.kept
    }

    /// Schema of what is handed out.
    pub(crate) fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// The pattern over `_path` that rows must match.
    pub(crate) fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_ref().map(|path| &path.pattern)
    }

    /// Whether rows of another version of the topic can be handed out as this says: each column that is read has the type that it had, and a value
    /// wherever it must have one.
    pub(crate) fn takes(&self, event: &SchemaRef) -> bool {
        self.read_of_event.iter().all(|column| takes(self.event.field(*column), event.fields()))
    }

    /// The columns to read of a batch of whole events.
    pub(crate) fn of_events(&self, events: &RecordBatch) -> Result<RecordBatch> {
        let same = Arc::ptr_eq(events.schema_ref(), &self.event) || events.schema_ref() == &self.event;
        let read = if same { events.project(&self.read_of_event) } else { conform_to(events, &self.read) };
        read.map_err(internal)
    }

    /// The rows of a batch as read that are within `seqs`, on a path of the pattern, and fulfil the condition, in order: kept columns.
    ///
    /// Errors: `Invalid` if the condition fails on a value (a division by zero, say).
    pub(crate) fn sift(&self, read: &RecordBatch, seqs: &Range<Seq>) -> Result<RecordBatch> {
        let keep = |batch: &RecordBatch| batch.project(&self.kept_of_read).map_err(internal);
        let mut chosen = self.within(read, seqs);
        if let Some(path) = &self.pattern {
            let on_path = path.matches(read);
            chosen = Some(match chosen {
                Some(chosen) => arrow::compute::and(&chosen, &on_path).map_err(internal)?,
                None => on_path,
            });
        }
        let Some(filter) = &self.filter else {
            return match chosen {
                Some(chosen) if chosen.true_count() < chosen.len() => {
                    filter_record_batch(&keep(read)?, &chosen).map_err(internal)
                }
                _ => keep(read),
            };
        };
        // The condition sees only rows that are wanted otherwise: what it says of others, errors included, is nobody's business.
        let read = match chosen {
            Some(chosen) if chosen.true_count() < chosen.len() => {
                filter_record_batch(read, &chosen).map_err(internal)?
            }
            _ => read.clone(),
        };
        let fault = |error| QueryError::new(ErrorKind::Invalid, format!("where: {error}"));
        let truth = filter.evaluate(&read).and_then(|value| value.into_array(read.num_rows())).map_err(fault)?;
        let truth = truth.as_boolean();
        let truth = if truth.null_count() > 0 { &prep_null_mask_filter(truth) } else { truth };
        if truth.true_count() == truth.len() {
            return keep(&read);
        }
        filter_record_batch(&keep(&read)?, truth).map_err(internal)
    }

    /// The output columns of a kept batch.
    pub(crate) fn hand_out(&self, kept: &RecordBatch) -> Result<RecordBatch> {
        kept.project(&self.output_of_kept).map_err(internal)
    }

    /// `None` if all rows are within `seqs`.
    fn within(&self, read: &RecordBatch, seqs: &Range<Seq>) -> Option<BooleanArray> {
        let at = self.kept_of_read[0];
        let held = read.column(at).as_primitive::<Int64Type>().values();
        let wanted = seqs.start.0..seqs.end.0;
        let all = held.iter().all(|seq| wanted.contains(seq));
        (!all).then(|| held.iter().map(|seq| Some(wanted.contains(seq))).collect())
    }
}

impl PathFilter {
    /// Paths repeat: each distinct one of a batch is matched once.
    fn matches(&self, read: &RecordBatch) -> BooleanArray {
        let paths = read.column(self.path).as_string::<i32>();
        let mut known: HashMap<&str, bool> = HashMap::new();
        let mut last: Option<(&str, bool)> = None;
        let verdicts = (0..paths.len()).map(|row| {
            let path = paths.value(row);
            match last {
                Some((same, verdict)) if same == path => verdict,
                _ => {
                    let verdict = *known.entry(path).or_insert_with(|| self.pattern.matches(path));
                    last = Some((path, verdict));
                    verdict
                }
            }
        });
        BooleanArray::new(verdicts.collect(), None)
    }
}

/// True if `given`, fields of another version, have one that is like `wanted`, or it may be absent.
fn takes(wanted: &Field, given: &Fields) -> bool {
    match given.iter().find(|field| field_id(field).is_some() && field_id(field) == field_id(wanted)) {
        None => wanted.is_nullable(),
        Some(given) => {
            (wanted.is_nullable() || !given.is_nullable()) && takes_type(wanted.data_type(), given.data_type())
        }
    }
}

fn takes_type(wanted: &DataType, given: &DataType) -> bool {
    match (wanted, given) {
        (DataType::Struct(wanted), DataType::Struct(given)) => wanted.iter().all(|member| takes(member, given)),
        (DataType::List(wanted), DataType::List(given)) | (DataType::Map(wanted, _), DataType::Map(given, _)) => {
            (wanted.is_nullable() || !given.is_nullable()) && takes_type(wanted.data_type(), given.data_type())
        }
        (wanted, given) => wanted == given,
    }
}

/// Column numbers of `names`.
fn resolve(event: &SchemaRef, names: &[String]) -> Result<Vec<usize>> {
    if names.is_empty() {
        return Err(QueryError::new(ErrorKind::Invalid, "columns: expected at least one, or none said for all"));
    }
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let Ok(index) = event.index_of(name) else {
            let known: Vec<_> = event.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("there is no column {name:?}; there are {}", known.join(", "));
            return Err(QueryError::new(ErrorKind::NotFound, message));
        };
        if found.contains(&index) {
            return Err(QueryError::new(ErrorKind::Invalid, format!("columns: {name:?} stands twice")));
        }
        found.push(index);
    }
    Ok(found)
}

/// The names of the envelope's columns.
pub(crate) fn envelope_columns() -> Vec<String> {
    envelope::fields().iter().map(|field| field.name().clone()).collect()
}

fn internal(error: ArrowError) -> QueryError {
    QueryError::new(ErrorKind::Internal, error.to_string())
}
