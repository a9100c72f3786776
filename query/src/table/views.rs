//! Text and bytes inside a query and outside of it. Inside they are views, which the Parquet reader makes without copying and grouping compares
//! by their first bytes; outside, stock clients (JDBC, ODBC) know only plain ones.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

/// The schema with its text and bytes as views; what lies inside other types stays.
pub(super) fn viewed(schema: &Schema) -> SchemaRef {
    let view = |field: &FieldRef| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        DataType::Binary => Arc::new(field.as_ref().clone().with_data_type(DataType::BinaryView)),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(view).collect::<Fields>(), schema.metadata().clone()))
}

/// The schema without views, however deep they lie.
pub(crate) fn plain(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The batch in the schema that [`plain`] made of its own. Columns without views are shared.
pub(crate) fn plain_batch(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| match column.data_type() {
        same if same == field.data_type() => Ok(Arc::clone(column)),
        _ => cast(column, field.data_type()),
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}

fn plain_field(field: &FieldRef) -> FieldRef {
    match plain_type(field.data_type()) {
        Some(data_type) => Arc::new(Field::clone(field).with_data_type(data_type)),
        None => Arc::clone(field),
    }
}

/// `None` if there is no view in it.
fn plain_type(data_type: &DataType) -> Option<DataType> {
    let inner = |field: &FieldRef| plain_type(field.data_type()).map(|_| plain_field(field));
    match data_type {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        DataType::List(element) => inner(element).map(DataType::List),
        DataType::LargeList(element) => inner(element).map(DataType::LargeList),
        DataType::FixedSizeList(element, length) => {
            inner(element).map(|element| DataType::FixedSizeList(element, *length))
        }
        DataType::Map(entries, sorted) => inner(entries).map(|entries| DataType::Map(entries, *sorted)),
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| inner(field).is_some())
            .then(|| DataType::Struct(fields.iter().map(plain_field).collect())),
        _ => None,
    }
}
