//! Dead letters: what was refused, why, and from whom, as events of the topic `{topic}_dead`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray, UInt64Array, new_null_array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::LineDelimitedWriter;
use schemas::topic::{FlushSpec, Nanos};
use schemas::{ErrorKind, SchemaError, TopicName, TopicSpec, limits};
use serde_json::json;

use crate::engine::Refusal;
use crate::error::{IngestError, Result};

/// Rows turned into JSON at once.
const ROWS_AT_ONCE: usize = 1_024;

/// The topic that takes the dead letters of `topic`: keyed by batch, so that a batch's letters lie together.
///
/// Errors: `Invalid` if its name would be too long.
pub(crate) fn spec(topic: &TopicName) -> Result<TopicSpec> {
    let field = |name: &str, kind: &str, doc: &str| json!({"name": name, "type": kind, "doc": doc});
    let schema = json!({
        "type": "record",
        "name": "DeadLetter",
        "doc": "One row that a topic refused.",
        "fields": [
            field("topic", "string", "The topic that refused it."),
            field("row", "long", "Its row in the batch, from 0."),
            field("reason", "string", "Why."),
            field("payload", "string", "The row as it was sent, as JSON."),
            {"name": "producer", "type": ["null", "string"], "default": null, "doc": "Who sent it, if it said so."},
            field("batch", "string", "The batch it came in."),
        ],
    });
    Ok(TopicSpec {
        name: topic.dead_letter()?,
        schema,
        key: vec!["batch".to_owned()],
        path: None,
        prefix_levels: None,
        checks: Vec::new(),
        flush: FlushSpec::default(),
        nanos: Nanos::default(),
    })
}

/// The letters of one batch, in the columns of [`spec`].
///
/// Errors: `Invalid` if they are larger than a batch may be.
pub(super) fn letters(
    topic: &TopicName,
    batch: &RecordBatch,
    refused: &[Refusal],
    producer: Option<&str>,
    batch_id: &str,
) -> Result<RecordBatch> {
    let rows = refused.len();
    let texts = |text: Option<&str>| Arc::new(StringArray::from_iter(std::iter::repeat_n(text, rows))) as ArrayRef;
    let columns: [(&str, ArrayRef); 6] = [
        ("topic", texts(Some(topic.as_str()))),
        ("row", Arc::new(Int64Array::from_iter_values(refused.iter().map(|refusal| refusal.row as i64)))),
        ("reason", Arc::new(StringArray::from_iter_values(refused.iter().map(|refusal| &refusal.reason)))),
        ("payload", Arc::new(payloads(batch, refused)?)),
        ("producer", texts(producer)),
        ("batch", texts(Some(batch_id))),
    ];
    let nullable = |name| name == "producer";
    let columns = columns.map(|(name, column)| (name, column, nullable(name)));
    RecordBatch::try_from_iter_with_nullable(columns).map_err(internal)
}

fn payloads(batch: &RecordBatch, refused: &[Refusal]) -> Result<StringArray> {
    let mut texts = Vec::with_capacity(refused.len());
    let mut bytes = 0;
    for some in refused.chunks(ROWS_AT_ONCE) {
        let rows = UInt64Array::from_iter_values(some.iter().map(|refusal| refusal.row));
        let taken = writable(&take_record_batch(batch, &rows).map_err(internal)?).map_err(internal)?;
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write(&taken).and_then(|()| lines.finish()).map_err(internal)?;
        let lines = String::from_utf8(lines.into_inner()).map_err(|error| internal(error.to_string()))?;
        bytes += lines.len();
        if bytes > limits::BATCH_BYTES_MAX {
            let max = limits::BATCH_BYTES_MAX;
            let message = format!("dead letters: expected at most {max} bytes of JSON in a batch: send smaller ones");
            return Err(SchemaError::Batch(message).into());
        }
        texts.extend(lines.lines().map(str::to_owned));
    }
    if texts.len() != refused.len() {
        return Err(internal(format!("expected {} rows of JSON, found {}", refused.len(), texts.len())));
    }
    Ok(StringArray::from(texts))
}

fn internal(error: impl std::fmt::Display) -> IngestError {
    IngestError::new(ErrorKind::Internal, format!("dead letters: {error}"))
}

/// The batch with those columns as text that JSON cannot hold as they are: what was refused may be of any type.
fn writable(batch: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    let columns: Vec<_> = batch.columns().iter().map(writable_column).collect();
    let fields = batch.schema_ref().fields().iter().zip(&columns);
    let fields: Vec<_> =
        fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn writable_column(column: &ArrayRef) -> ArrayRef {
    // The time as such does not depend on the zone's rules, which are not at hand.
    let column = match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let utc = column.to_data().into_builder().data_type(DataType::Timestamp(*unit, Some("+00:00".into())));
            utc.build().map_or_else(|_| Arc::clone(column), arrow::array::make_array)
        }
        DataType::Dictionary(_, values) => cast(column, values).unwrap_or_else(|_| Arc::clone(column)),
        _ => Arc::clone(column),
    };
    if is_writable(&column) { column } else { as_text(&column) }
}

fn is_writable(column: &ArrayRef) -> bool {
    let field = Field::new("column", column.data_type().clone(), true);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(column)])
        .and_then(|batch| LineDelimitedWriter::new(std::io::sink()).write(&batch))
        .is_ok()
}

fn as_text(column: &ArrayRef) -> ArrayRef {
    let options = FormatOptions::new();
    let Ok(formatter) = ArrayFormatter::try_new(column, &options) else {
        return new_null_array(&DataType::Utf8, column.len());
    };
    let text = |row| column.is_valid(row).then(|| formatter.value(row).try_to_string().ok()).flatten();
    Arc::new((0..column.len()).map(text).collect::<StringArray>())
}
