//! `CHECK` expressions: no event may make one false.

use std::fmt;
use std::sync::Arc;

use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use schemas::check::{Check, CheckCompiler};
use schemas::{SchemaError, TopicDef};

use super::place::Faults;
use crate::rows::Shape;

/// A topic's checks, compiled.
pub(super) struct Checks {
    checks: Vec<(String, Arc<dyn Check>)>,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.checks.iter().map(|(expression, _)| expression)).finish()
    }
}

impl Checks {
    /// Errors: those of the compiler.
    pub(super) fn new(def: &TopicDef, shape: &Shape, compiler: &dyn CheckCompiler) -> Result<Self, SchemaError> {
        let payload = shape.body_schema(false, false);
        let compile = |expression: &String| Ok((expression.clone(), compiler.compile(expression, payload)?));
        Ok(Self { checks: def.checks.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Each check, and the columns that it asks about.
    pub(super) fn columns(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        self.checks.iter().map(|(expression, check)| (expression.as_str(), check.columns()))
    }

    /// Notes the rows that make a check false, or that it cannot be asked about. `payload`: the payload columns alone.
    pub(super) fn ask(&self, payload: &RecordBatch, faults: &mut Faults) {
        for (expression, check) in &self.checks {
            ask(expression, check.as_ref(), payload, 0, faults);
        }
    }
}

/// `first`: row number of the batch's first row.
fn ask(expression: &str, check: &dyn Check, batch: &RecordBatch, first: usize, faults: &mut Faults) {
    let rows = batch.num_rows();
    match check.evaluate(batch) {
        Ok(answers) if answers.true_count() + answers.null_count() == rows => {}
        Ok(answers) => {
            for row in (0..rows).filter(|row| answers.is_valid(*row) && !answers.value(*row)) {
                faults.add(first + row, || format!("check {expression:?} is false"));
            }
        }
        Err(error) if rows <= 1 => {
            faults.add(first, || format!("check {expression:?} cannot be answered: {error}"));
        }
        // One row that divides by zero must not take the others with it: halve until it is found.
        Err(_) => {
            let half = rows / 2;
            ask(expression, check, &batch.slice(0, half), first, faults);
            ask(expression, check, &batch.slice(half, rows - half), first + half, faults);
        }
    }
}
