//! What stands in for a value that the producer left out: the field's default, or null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt32Array, new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;
use schemas::SchemaError;
use schemas::envelope;
use schemas::payload::{PayloadField, PayloadSchema, PayloadType};
use serde_json::Value;
use uuid::Uuid;

/// Bytes that a slot of a type has at least.
pub(super) fn width(kind: &DataType) -> usize {
    match kind {
        DataType::FixedSizeBinary(width) => *width as usize,
        DataType::Utf8 | DataType::Binary | DataType::List(_) | DataType::Map(_, _) => 4,
        DataType::Struct(members) => members.iter().map(|member| width(member.data_type())).sum(),
        other => other.primitive_width().unwrap_or(0),
    }
}

/// Checks that every default in a schema fits its field.
///
/// Errors: [`SchemaError::Field`] naming the field.
pub(super) fn check_defaults(payload: &PayloadSchema) -> Result<(), SchemaError> {
    payload.fields.iter().try_for_each(|field| check_default(field, &field.name))
}

fn check_default(field: &PayloadField, path: &str) -> Result<(), SchemaError> {
    if let Some(default) = &field.default {
        one(field, default).map_err(|reason| SchemaError::Field { field: path.to_owned(), reason })?;
    }
    let inner: &[PayloadField] = match &field.kind {
        PayloadType::Struct(members) => members,
        PayloadType::List(inner) | PayloadType::Map { value: inner, .. } => std::slice::from_ref(inner),
        _ => &[],
    };
    inner.iter().try_for_each(|inner| check_default(inner, &format!("{path}.{}", inner.name)))
}

/// The default of a field as one row; `None` if it has none, or it is null and the field is required.
pub(super) fn default_row(field: &PayloadField) -> Option<ArrayRef> {
    match &field.default {
        Some(default) => one(field, default).ok(),
        None if !field.required => Some(new_null_array(&field.kind.arrow_type(), 1)),
        None => None,
    }
}

/// `rows` times the same row.
pub(super) fn repeat(row: &ArrayRef, rows: usize) -> Result<ArrayRef, ArrowError> {
    if row.is_null(0) {
        Ok(new_null_array(row.data_type(), rows))
    } else {
        take(row, &UInt32Array::from_value(0, rows), None)
    }
}

/// One row of a field's type from JSON as Avro writes defaults: bytes are text whose characters are their values, times are microseconds.
fn one(field: &PayloadField, json: &Value) -> Result<ArrayRef, String> {
    if json.is_null() && !field.required {
        return Ok(new_null_array(&field.kind.arrow_type(), 1));
    }
    let misfit = || format!("default: expected {}, found {json}", super::scalar::expected(&field.kind));
    scalar(&field.kind, json).or_else(|| nested(&field.kind, json).transpose()).ok_or_else(misfit)?
}

fn scalar(kind: &PayloadType, json: &Value) -> Option<Result<ArrayRef, String>> {
    let int = || json.as_i64().and_then(|value| i32::try_from(value).ok());
    let array: ArrayRef = match kind {
        PayloadType::Boolean => Arc::new(BooleanArray::from(vec![json.as_bool()?])),
        PayloadType::Int => Arc::new(Int32Array::from(vec![int()?])),
        PayloadType::Long => Arc::new(Int64Array::from(vec![json.as_i64()?])),
        PayloadType::Float => Arc::new(Float32Array::from(vec![json.as_f64()? as f32])),
        PayloadType::Double => Arc::new(Float64Array::from(vec![json.as_f64()?])),
        PayloadType::Date => Arc::new(Date32Array::from(vec![int()?])),
        PayloadType::Time => Arc::new(Time64MicrosecondArray::from(vec![json.as_i64()?])),
        PayloadType::Timestamp => Arc::new(TimestampMicrosecondArray::from(vec![json.as_i64()?])),
        PayloadType::TimestampTz => {
            Arc::new(TimestampMicrosecondArray::from(vec![json.as_i64()?]).with_timezone(envelope::UTC))
        }
        PayloadType::String => Arc::new(StringArray::from(vec![json.as_str()?])),
        PayloadType::Enum(symbols) => {
            let symbol = json.as_str()?;
            Arc::new(StringArray::from(vec![symbols.iter().find(|known| *known == symbol)?.as_str()]))
        }
        PayloadType::Uuid => fixed(16, Uuid::parse_str(json.as_str()?).ok()?.as_bytes())?,
        PayloadType::Fixed(length) => fixed(*length, &bytes(json)?)?,
        PayloadType::Binary => Arc::new(BinaryArray::from(vec![bytes(json)?.as_slice()])),
        PayloadType::Decimal { precision, scale } => {
            let values = Decimal128Array::from(vec![unscaled(&bytes(json)?)?]);
            let values = values.with_precision_and_scale(*precision, *scale).ok()?;
            values.validate_decimal_precision(*precision).ok()?;
            Arc::new(values)
        }
        PayloadType::Struct(_) | PayloadType::List(_) | PayloadType::Map { .. } => return None,
    };
    Some(Ok(array))
}

fn fixed(length: i32, value: &[u8]) -> Option<ArrayRef> {
    let fits = usize::try_from(length).is_ok_and(|length| length == value.len());
    let array = fits.then(|| FixedSizeBinaryArray::try_from_iter(std::iter::once(value)))?.ok()?;
    Some(Arc::new(array))
}

/// Avro writes bytes as text with one character a byte, U+0000 to U+00FF.
fn bytes(json: &Value) -> Option<Vec<u8>> {
    json.as_str()?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// Two's complement, the most significant byte first.
fn unscaled(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let padding = if first & 0x80 == 0 { 0 } else { 0xff };
    let mut value = [padding; 16];
    value.get_mut(16usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(value))
}

fn nested(kind: &PayloadType, json: &Value) -> Result<Option<ArrayRef>, String> {
    let arrow = |error: ArrowError| error.to_string();
    Ok(match (kind, json, kind.arrow_type()) {
        (PayloadType::Struct(members), Value::Object(given), DataType::Struct(fields)) => {
            let member = |member: &PayloadField| match given.get(&member.name) {
                Some(json) => one(member, json),
                None => default_row(member).ok_or_else(|| format!("default: field {:?} is missing", member.name)),
            };
            let columns = members.iter().map(member).collect::<Result<_, _>>()?;
            Some(Arc::new(StructArray::try_new(fields, columns, None).map_err(arrow)?))
        }
        (PayloadType::List(element), Value::Array(given), DataType::List(field)) => {
            let elements = given.iter().map(|json| one(element, json)).collect::<Result<Vec<_>, _>>()?;
            let elements = join(&elements, field.data_type())?;
            let offsets = OffsetBuffer::from_lengths([elements.len()]);
            Some(Arc::new(ListArray::try_new(field, offsets, elements, None).map_err(arrow)?))
        }
        (PayloadType::Map { value, .. }, Value::Object(given), DataType::Map(entries, sorted)) => {
            Some(map(value, given, entries.as_ref(), sorted)?)
        }
        _ => None,
    })
}

fn map(
    value: &PayloadField,
    given: &serde_json::Map<String, Value>,
    entries: &Field,
    sorted: bool,
) -> Result<ArrayRef, String> {
    let arrow = |error: ArrowError| error.to_string();
    let values = given.values().map(|json| one(value, json)).collect::<Result<Vec<_>, _>>()?;
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(given.keys()));
    let members: Fields = match entries.data_type() {
        DataType::Struct(members) => members.clone(),
        other => return Err(format!("default: expected a map's entries, found {other}")),
    };
    let values = join(&values, members[1].data_type())?;
    let offsets = OffsetBuffer::from_lengths([keys.len()]);
    let pairs = StructArray::try_new(members, vec![keys, values], None).map_err(arrow)?;
    Ok(Arc::new(MapArray::try_new(Arc::new(entries.clone()), offsets, pairs, None, sorted).map_err(arrow)?))
}

fn join(rows: &[ArrayRef], kind: &DataType) -> Result<ArrayRef, String> {
    let rows: Vec<&dyn Array> = rows.iter().map(|row| row.as_ref()).collect();
    if rows.is_empty() { Ok(new_empty_array(kind)) } else { concat(&rows).map_err(|error| error.to_string()) }
}
