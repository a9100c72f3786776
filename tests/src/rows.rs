//! Batches looked at row by row: as JSON lines, as columns of plain values.

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::{LineDelimited, WriterBuilder};

/// Rows of the columns of `schema`, rendered as the input's own lines are: field by field in its order, nulls written
/// out, instants to the second.
pub fn lines(batches: &[RecordBatch], schema: &Schema) -> Vec<String> {
    let builder = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%SZ".to_owned())
        .with_timestamp_format("%Y-%m-%dT%H:%M:%S".to_owned());
    let mut writer: LineDelimitedWriter<_> = builder.build::<_, LineDelimited>(Vec::new());
    for batch in batches {
        let places: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| batch.schema().index_of(field.name()).expect("the column is there"))
            .collect();
        writer.write(&batch.project(&places).expect("the places are the batch's")).expect("every type can be rendered");
    }
    writer.finish().expect("a vector takes everything");
    let text = String::from_utf8(writer.into_inner()).expect("JSON is UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// The values of a column of 64-bit integers (`_seq`, a count, a sum); null counts as zero.
pub fn integers(batches: &[RecordBatch], column: &str) -> Vec<i64> {
    let values = batches.iter().flat_map(|batch| {
        let array = batch.column_by_name(column).unwrap_or_else(|| panic!("no column {column} in {}", batch.schema()));
        let array = arrow::compute::cast(array, &arrow::datatypes::DataType::Int64).expect("an integer column");
        let array = array.as_primitive::<Int64Type>().clone();
        (0..array.len()).map(move |row| if array.is_null(row) { 0 } else { array.value(row) })
    });
    values.collect()
}

/// The values of a column of text; null counts as empty.
pub fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let values = batches.iter().flat_map(|batch| {
        let array = batch.column_by_name(column).unwrap_or_else(|| panic!("no column {column} in {}", batch.schema()));
        let array = arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8).expect("a text column");
        let array = array.as_string::<i32>().clone();
        (0..array.len()).map(move |row| if array.is_null(row) { String::new() } else { array.value(row).to_owned() })
    });
    values.collect()
}

/// Rows of all batches together.
pub fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// All batches as one. Panics on none.
pub fn joined(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).expect("batches of one stream have one schema")
}
