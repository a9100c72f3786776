//! Rows of any data file, whoever wrote it and under whichever of the table's schemas, as events.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, SchemaRef};
use arrow::error::ArrowError;
use schemas::envelope::FIELD_ID_KEY;

/// The event columns of a file's rows, matched by field id, in exactly the types that events have. Errors: a column that is missing, or cannot be one.
pub(super) fn conform(batch: &RecordBatch, event: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let ids: Vec<_> = batch.schema_ref().fields().iter().map(|field| id(field)).collect();
    let strict = CastOptions { safe: false, ..Default::default() };
    let columns = event.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        match ids.iter().position(|found| found.is_some() && *found == id(field)) {
            Some(source) if batch.column(source).data_type() == field.data_type() => {
                Ok(Arc::clone(batch.column(source)))
            }
            Some(source) => cast_with_options(batch.column(source), field.data_type(), &strict),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        }
    });
    RecordBatch::try_new(Arc::clone(event), columns.collect::<Result<_, _>>()?)
}

fn id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}
