//! `CHECK` expressions: the seam through which SQL enters a crate that knows no SQL.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::SchemaError;

/// Turns the text of an expression into something that can be asked about rows. `query` implements it with DataFusion.
pub trait CheckCompiler: Debug + Send + Sync {
    /// Compiles a boolean SQL expression over the columns of `schema`.
    ///
    /// Errors: [`SchemaError::Option`] naming `check` if it does not parse, names an unknown column, is not boolean,
    /// or is not a pure function of its row (no subqueries, aggregates, windows, random or clock functions).
    fn compile(&self, expression: &str, schema: &SchemaRef) -> Result<Arc<dyn Check>, SchemaError>;
}

/// One compiled expression.
pub trait Check: Debug + Send + Sync {
    /// One value a row of `batch` (schema as given to `compile`): true, false or null. As in SQL, a row passes unless it is false.
    ///
    /// Errors: [`SchemaError::Batch`] if evaluation fails, e.g. on a division by zero.
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, SchemaError>;

    /// Names of the columns that it asks about.
    fn columns(&self) -> Vec<String>;
}
