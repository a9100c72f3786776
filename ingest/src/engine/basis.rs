//! From a batch's terms to what the lane's task judges it by.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use catalog::view::Matching;
use schemas::{ErrorKind, Seq};

use super::producers::{check_prefix, producer_name};
use super::{Condition, EXPECTED_LAST_SEQ, ProducerIdentity, Refusal, Terms};
use crate::content;
use crate::error::{IngestError, Result};
use crate::lane::producers::Numbered;
use crate::rows::{Shape, ValidRows};
use crate::sequence::admit::Basis;
use crate::sequence::conditions::Tests;

/// An appender's identity, checked once.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    name: Arc<str>,
    epoch: u64,
}

impl Identity {
    /// Errors: `Invalid` for a name that no producer can have.
    pub(super) fn new(identity: &ProducerIdentity) -> Result<Self> {
        Ok(Self { name: producer_name(&identity.name)?, epoch: identity.epoch })
    }
}

/// A batch as it was sent, with what it is to be judged by.
#[derive(Debug)]
pub(super) struct Sent {
    /// Without the column that is none of the event's.
    pub(super) batch: RecordBatch,
    /// By row, as sent.
    expected: Option<Int64Array>,
    pub(super) numbered: Option<Numbered>,
    terms: Terms,
}

impl Sent {
    /// `policy`: what else decides the answer to the batch.
    ///
    /// Errors: `Invalid` for terms that cannot be meant.
    pub(super) fn new(batch: RecordBatch, terms: Terms, identity: Option<&Identity>, policy: u8) -> Result<Self> {
        check_prefix(terms.fence.as_ref().and_then(|fence| fence.key_prefix.as_deref()))?;
        let (batch, expected) = take_expected(batch)?;
        let numbered = match (identity, terms.producer_seq) {
            (None, None) => None,
            (Some(Identity { name, epoch }), Some(seq)) => {
                let (name, epoch, content) = (Arc::clone(name), *epoch, content::hash(&batch, policy)?);
                Some(Numbered { name, epoch, seq, content })
            }
            (Some(_), None) => {
                return Err(invalid("expected a producer_seq with each batch of a producer with an epoch"));
            }
            (None, Some(_)) => return Err(invalid("a batch has a producer_seq, but its stream has no producer epoch")),
        };
        Ok(Self { batch, expected, numbered, terms })
    }

    /// What it rests on if some of it is appended: `good` are its rows but for the `refused`. `None`: on nothing.
    ///
    /// Errors: `Invalid` for conditions that cannot be meant.
    pub(super) fn basis(
        self,
        shape: &Arc<Shape>,
        good: Option<&ValidRows>,
        refused: &[Refusal],
    ) -> Result<Option<Box<Basis>>> {
        let Terms { conditions, fence, .. } = self.terms;
        if self.numbered.is_none() && self.expected.is_none() && conditions.is_empty() && fence.is_none() {
            return Ok(None);
        }
        let of_rows = match (&self.expected, good) {
            (Some(expected), Some(good)) => of_rows(expected, good, refused),
            _ => Vec::new(),
        };
        let tests = Tests::new(shape.def(), conditions.into_iter().chain(of_rows))?;
        Ok(Some(Box::new(Basis { shape: Arc::clone(shape), numbered: self.numbered, fence, tests })))
    }

    /// What it rests on if all of it is refused: nobody but its producer's next batch asks for it.
    pub(super) fn basis_of_refused(self, shape: &Arc<Shape>) -> Option<Box<Basis>> {
        let basis = |numbered| Basis {
            shape: Arc::clone(shape),
            numbered: Some(numbered),
            fence: None,
            tests: Tests::default(),
        };
        self.numbered.map(basis).map(Box::new)
    }
}

fn take_expected(mut batch: RecordBatch) -> Result<(RecordBatch, Option<Int64Array>)> {
    let Some((at, _)) = batch.schema_ref().column_with_name(EXPECTED_LAST_SEQ) else { return Ok((batch, None)) };
    let column = batch.remove_column(at);
    match column.data_type() {
        DataType::Int64 => Ok((batch, Some(column.as_primitive::<Int64Type>().clone()))),
        other => Err(invalid(&format!("column {EXPECTED_LAST_SEQ}: expected Int64, found {other}"))),
    }
}

/// The conditions on the keys of accepted rows.
fn of_rows(expected: &Int64Array, good: &ValidRows, refused: &[Refusal]) -> Vec<Condition> {
    let mut refused = refused.iter().map(|refusal| refusal.row as usize).peekable();
    let accepted = (0..expected.len()).filter(|row| refused.next_if_eq(row).is_none());
    let of_row = |(row, key): (usize, Option<&str>)| {
        let expected_last_seq = expected.is_valid(row).then(|| Seq(expected.value(row)))?;
        Some(Condition { of: Matching::Key(key?.to_owned()), expected_last_seq })
    };
    accepted.zip(&good.keys).filter_map(of_row).collect()
}

fn invalid(what: &str) -> IngestError {
    IngestError::new(ErrorKind::Invalid, what)
}
