//! An untrusted Arrow batch becomes rows that fit the topic, and a reason for each row that does not.
//!
//! What is trusted: that the arrays are well-formed (UTF-8, offsets, dictionary keys in range). Arrow's decoders check that for every message
//! and no safe code can make an array that is not; a test here shows it. What is not trusted is everything else: names, types, values that a
//! type does not enforce (digits of a decimal, the range of a time of day), and sizes, which are measured before anything is unpacked.
//!
//! A batch whose columns are the topic's already passes through without a copy of any.

mod body;
mod checks;
mod convert;
mod dead;
mod fill;
mod place;
mod scalar;
mod size;
mod text;
mod upgrade;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use schemas::check::CheckCompiler;
use schemas::{ErrorKind, SchemaError, TopicDef};

pub(crate) use self::dead::spec as dead_letter_spec;

use self::checks::Checks;
use self::place::Faults;
use self::upgrade::Upgrade;
use crate::engine::Refusal;
use crate::error::{IngestError, Result};
use crate::rows::{Shape, ValidRows};

/// Checks batches against one topic. Made once a schema version.
///
/// A batch has the columns of the version that its producer knows; what is appended has those of the newest. So old and new producers append at once.
#[derive(Debug)]
pub(crate) struct Validator {
    /// By which columns are named, required and left out.
    reads: Arc<Shape>,
    /// What becomes of them.
    shape: Arc<Shape>,
    /// From one to the other, if they differ.
    upgrade: Option<Upgrade>,
    checks: Checks,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Validated {
    /// The rows that fit, in their order; `None` if there is none.
    pub(crate) good: Option<ValidRows>,
    /// The others, ascending by row.
    pub(crate) refused: Vec<Refusal>,
}

impl Validator {
    /// Errors: `Invalid` if a check does not compile or a default does not fit its field.
    pub(crate) fn new(def: Arc<TopicDef>, checks: &dyn CheckCompiler) -> Result<Self> {
        fill::check_defaults(&def.payload)?;
        let shape = Arc::new(Shape::new(Arc::clone(&def))?);
        Ok(Self { checks: Checks::new(&def, &shape, checks)?, reads: Arc::clone(&shape), shape, upgrade: None })
    }

    /// Checks batches of an earlier version against the topic's newest.
    pub(crate) fn of_version(earlier: Arc<TopicDef>, def: Arc<TopicDef>, checks: &dyn CheckCompiler) -> Result<Self> {
        let newest = Self::new(def, checks)?;
        Ok(newest.reading(Arc::new(Shape::new(earlier)?)))
    }

    /// Checks batches of the version that this one does against a newer one.
    pub(crate) fn follow(&self, def: Arc<TopicDef>, checks: &dyn CheckCompiler) -> Result<Self> {
        Ok(Self::new(def, checks)?.reading(Arc::clone(&self.reads)))
    }

    fn reading(self, reads: Arc<Shape>) -> Self {
        let differ = reads.def().version != self.shape.def().version;
        let upgrade = differ.then(|| Upgrade::new(&self.shape.def().payload));
        Self { reads, upgrade, ..self }
    }

    /// Each check of the topic, and the columns that it asks about.
    pub(crate) fn check_columns(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        self.checks.columns()
    }

    /// What the topic's batches look like.
    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Errors: `Invalid` for a batch whose columns cannot be the topic's or that is over a limit; nothing of it is accepted then.
    pub(crate) fn validate(&self, batch: &RecordBatch) -> Result<Validated> {
        size::check_batch(batch)?;
        let mut sieve = Sieve::default();
        let mut rest = batch.clone();
        // Mostly one round; a value that cannot be read hides from the first what else is wrong with its column.
        let body = loop {
            let (body, faults) = body::convert(&self.reads, &rest)?;
            match body {
                Some(body) => break body,
                None => rest = sieve.refuse(&rest, faults)?,
            }
        };
        let body = match &self.upgrade {
            Some(upgrade) => upgrade.apply(&body, &self.shape)?,
            None => body,
        };
        let (mut good, faults) = self.derive(body)?;
        if !faults.is_empty() {
            good = ValidRows::derive(&self.shape, sieve.refuse(&good.body, faults)?)?;
        }
        Ok(Validated { good: Some(good).filter(|rows| rows.len() > 0), refused: sieve.into_refusals() })
    }

    /// Derives keys and paths and asks the checks.
    fn derive(&self, body: RecordBatch) -> Result<(ValidRows, Faults)> {
        let (rows, found) = ValidRows::derive_with_faults(&self.shape, body)?;
        let mut faults = Faults::default();
        for fault in found {
            faults.add(fault.row, || fault.reason);
        }
        self.checks.ask(&rows.payload(), &mut faults);
        Ok((rows, faults))
    }

    /// The dead letters of a batch: a payload for the topic `{topic}_dead`, whose validator takes it. `refused` is not empty, `batch_id` neither.
    ///
    /// Errors: `Invalid` if they would be larger than a batch may be.
    pub(crate) fn dead_letters(
        &self,
        batch: &RecordBatch,
        refused: &[Refusal],
        producer: Option<&str>,
        batch_id: &str,
    ) -> Result<RecordBatch> {
        dead::letters(&self.shape.def().name, batch, refused, producer, batch_id)
    }
}

/// What was refused of a batch so far, and which rows are left.
#[derive(Debug, Default)]
struct Sieve {
    refused: BTreeMap<usize, String>,
    /// Numbers in the batch as it was sent of the rows that are left; `None` while all are.
    left: Option<Vec<usize>>,
}

impl Sieve {
    /// Takes the faulty rows, of which there is one at least, out of `batch`, the rows that are left.
    fn refuse(&mut self, batch: &RecordBatch, faults: Faults) -> Result<RecordBatch> {
        if faults.is_empty() {
            let message = "validation: expected a fault for what does not fit, found none";
            return Err(IngestError::new(ErrorKind::Internal, message));
        }
        let number = |row: usize| self.left.as_ref().map_or(row, |left| left[row]);
        let keep: Vec<bool> = (0..batch.num_rows()).map(|row| !faults.contains(row)).collect();
        let left = (0..batch.num_rows()).filter(|row| keep[*row]).map(number).collect();
        self.refused.extend(faults.into_reasons().into_iter().map(|(row, reason)| (number(row), reason)));
        self.left = Some(left);
        Ok(filter_record_batch(batch, &BooleanArray::from(keep))
            .map_err(|error| SchemaError::Batch(error.to_string()))?)
    }

    fn into_refusals(self) -> Vec<Refusal> {
        self.refused.into_iter().map(|(row, reason)| Refusal { row: row as u64, reason }).collect()
    }
}

#[cfg(test)]
mod tests;
