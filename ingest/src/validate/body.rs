//! The columns of a batch in the topic's order and types: what is logged, if every row has a key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int8Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int32Type;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use schemas::envelope::{HEADERS, KIND, KIND_EVENT, KIND_TOMBSTONE, MAP_VALUE, field_id};
use schemas::payload::{PayloadField, PayloadType};
use schemas::{SchemaError, limits};

use super::convert::Converter;
use super::place::{Faults, Place, Slots};
use super::size;
use crate::memory::Held;
use crate::rows::Shape;

/// Bytes that a batch may keep alive beside its own before it is copied out of what it was cut from.
const PINNED_BYTES_MAX: usize = 64 << 10;

/// Converts a batch to a body of the topic. `None` if some rows do not fit; the faults say which and why.
///
/// Errors: [`SchemaError::Batch`] for columns that cannot be the topic's, and for a batch over a limit.
pub(super) fn convert(shape: &Shape, batch: &RecordBatch) -> Result<(Option<RecordBatch>, Faults), SchemaError> {
    let def = shape.def();
    let mut converter = Converter::new(def.nanos);
    for (row, bytes) in size::oversized(batch)? {
        let max = limits::EVENT_BYTES_MAX;
        converter.faults.add(row, || format!("event: expected at most {max} bytes, found {bytes}"));
    }
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    let (mut kinds, mut headers) = (None, None);
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        match field.name().as_str() {
            KIND if kinds.is_none() => kinds = Some(convert_kinds(&mut converter, column)?),
            HEADERS if headers.is_none() => headers = Some(convert_headers(&mut converter, column)?),
            name if name.starts_with('_') => return Err(reserved(name)),
            name => {
                names.push(name);
                columns.push(Arc::clone(column));
            }
        }
    }
    let place = (None, Slots::Rows);
    let payload = converter.members((&names, &columns), batch.num_rows(), &def.payload.fields, place)?;
    let faults = converter.faults;
    let (Some(payload), Some(kinds), Some(headers), true) =
        (payload, kinds.unwrap_or(Some(None)), headers.unwrap_or(Some(None)), faults.is_empty())
    else {
        return Ok((None, faults));
    };
    let schema = shape.body_schema(kinds.is_some(), headers.is_some());
    let columns = kinds.into_iter().chain(headers).chain(payload).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let body = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| SchemaError::Batch(error.to_string()))?;
    Ok((Some(unpinned(body)?), faults))
}

fn reserved(name: &str) -> SchemaError {
    let reason = match name {
        KIND | HEADERS => "stands twice in the batch".to_owned(),
        _ => format!("names that begin with _ belong to Firn; only {KIND} and {HEADERS} may be sent"),
    };
    Place::new(name, None, Slots::Rows).error(reason)
}

/// A column: `None` if it does not fit, `Some(None)` if it says nothing and is left out.
type Optional = Option<Option<ArrayRef>>;

fn convert_kinds(converter: &mut Converter, column: &ArrayRef) -> Result<Optional, SchemaError> {
    let field = envelope_field(KIND, PayloadType::Int);
    let Some(kinds) = converter.field(column, &field, &Place::new(KIND, None, Slots::Rows))? else { return Ok(None) };
    let kinds = kinds.as_primitive::<Int32Type>();
    let legal = i32::from(KIND_EVENT)..=i32::from(KIND_TOMBSTONE);
    let mut fits = true;
    for row in (0..kinds.len()).filter(|row| kinds.is_valid(*row) && !legal.contains(&kinds.value(*row))) {
        fits = false;
        let found = kinds.value(row);
        converter.faults.add(row, || format!("column {KIND}: expected 0, 1 or 2, found {found}"));
    }
    let says_something = kinds.iter().flatten().any(|kind| kind != i32::from(KIND_EVENT));
    let small = || Int8Array::from_iter_values(kinds.iter().map(|kind| kind.map_or(KIND_EVENT, |kind| kind as i8)));
    Ok(fits.then(|| says_something.then(|| Arc::new(small()) as ArrayRef)))
}

fn convert_headers(converter: &mut Converter, column: &ArrayRef) -> Result<Optional, SchemaError> {
    let value = PayloadField { id: field_id::HEADERS_VALUE, ..envelope_field(MAP_VALUE, PayloadType::String) };
    let kind = PayloadType::Map { key_id: field_id::HEADERS_KEY, value: Box::new(value) };
    let place = Place::new(HEADERS, None, Slots::Rows);
    let Some(headers) = converter.field(column, &envelope_field(HEADERS, kind), &place)? else { return Ok(None) };
    let map = headers.as_map();
    let mut fits = true;
    for (row, count) in map.offsets().lengths().enumerate().filter(|(row, _)| map.is_valid(*row)) {
        if count > limits::HEADERS_MAX {
            fits = false;
            let max = limits::HEADERS_MAX;
            converter.faults.add(row, || format!("column {HEADERS}: expected at most {max} entries, found {count}"));
        }
    }
    let says_something = map.null_count() < map.len();
    Ok(fits.then(|| says_something.then(|| Arc::clone(&headers))))
}

fn envelope_field(name: &str, kind: PayloadType) -> PayloadField {
    PayloadField { id: 0, name: name.to_owned(), kind, required: false, doc: None, default: None, filled: false }
}

/// A small piece of something large would keep all of it in memory for as long as it is in the tail: copied out.
fn unpinned(body: RecordBatch) -> Result<RecordBatch, SchemaError> {
    let own = size::bytes(body.columns(), 0..body.num_rows())?;
    size::check_bytes(own)?;
    if Held::buffers_of(body.columns()) <= 2 * own as usize + PINNED_BYTES_MAX {
        return Ok(body);
    }
    let all = UInt32Array::from_iter_values(0..body.num_rows() as u32);
    take_record_batch(&body, &all).map_err(|error| SchemaError::Batch(error.to_string()))
}
