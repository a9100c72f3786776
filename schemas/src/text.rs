//! The canonical text of scalar columns, for keys and paths.
//!
//! | type | text |
//! | --- | --- |
//! | boolean | `true`, `false` |
//! | int, long | decimal, no leading zeros or plus |
//! | decimal | all digits of its scale: `1.50` |
//! | string, enum | itself |
//! | uuid | lower case with hyphens |
//! | bytes, fixed | lower-case hexadecimal |
//! | date | `2013-01-01` |
//! | time | `05:15:00`, then `.` and 3 or 6 digits if there is a fraction |
//! | timestamp | `2013-01-01T05:15:00`, fraction as for time, then `Z` if it has a zone |
//!
//! Keys are derived anew from logged payloads, so this table is part of the log's format: tests pin every row of it.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, StringArray, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::SchemaError;
use crate::payload::{PayloadSchema, PayloadType};

/// A field inside a payload that has a canonical text.
#[derive(Clone, Debug)]
pub(crate) struct TextField {
    /// Dotted name, for messages.
    pub(crate) name: String,
    /// Child numbers from the payload's columns down.
    steps: Vec<usize>,
    is_uuid: bool,
}

impl TextField {
    /// Errors: [`SchemaError::Option`] naming `option` if there is no such field, or its type has no canonical text.
    pub(crate) fn new(payload: &PayloadSchema, dotted: &str, option: &'static str) -> Result<Self, SchemaError> {
        let fault = |reason: String| SchemaError::Option { option, reason };
        let Some((steps, field)) = payload.resolve(dotted) else {
            let known: Vec<_> = payload.fields.iter().map(|field| field.name.as_str()).collect();
            return Err(fault(format!(
                "expected a field of the schema, found {dotted:?}; it has {}",
                known.join(", ")
            )));
        };
        if !field.kind.has_canonical_text() {
            let kind = field.kind.name();
            return Err(fault(format!(
                "field {dotted:?} is a {kind}, which has no canonical text: choose a scalar that is not floating"
            )));
        }
        Ok(Self { name: dotted.to_owned(), steps, is_uuid: field.kind == PayloadType::Uuid })
    }

    /// The field's text, a row each; null where the field or a struct around it is. A string column is shared, not copied.
    pub(crate) fn texts(&self, payload: &[ArrayRef]) -> Result<StringArray, SchemaError> {
        let array = self.select(payload)?;
        match array.data_type() {
            DataType::Utf8 => Ok(array.as_string::<i32>().clone()),
            DataType::Binary => Ok(hex(array.as_binary::<i32>().iter())),
            DataType::FixedSizeBinary(_) if self.is_uuid => Ok(uuids(array.as_fixed_size_binary())),
            DataType::FixedSizeBinary(_) => Ok(hex(array.as_fixed_size_binary().iter())),
            DataType::Int32 | DataType::Int64 | DataType::Boolean => {
                let texts = cast(&array, &DataType::Utf8).map_err(|error| SchemaError::Batch(error.to_string()))?;
                Ok(texts.as_string::<i32>().clone())
            }
            _ => self.formatted(&array),
        }
    }

    fn select(&self, payload: &[ArrayRef]) -> Result<ArrayRef, SchemaError> {
        let missing = || SchemaError::Batch(format!("column of {:?} is missing", self.name));
        let (first, rest) = self.steps.split_first().ok_or_else(missing)?;
        let mut array = Arc::clone(payload.get(*first).ok_or_else(missing)?);
        for step in rest {
            let parent = array.as_struct_opt().ok_or_else(missing)?;
            let child = parent.columns().get(*step).ok_or_else(missing)?;
            let nulls = NullBuffer::union(parent.nulls(), child.nulls());
            let data = child.to_data().into_builder().nulls(nulls).build();
            array = arrow::array::make_array(data.map_err(|error| SchemaError::Batch(error.to_string()))?);
        }
        Ok(array)
    }

    fn formatted(&self, array: &ArrayRef) -> Result<StringArray, SchemaError> {
        let fault = |error: arrow::error::ArrowError| SchemaError::Batch(format!("{}: {error}", self.name));
        let options = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(array, &options).map_err(fault)?;
        let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 24);
        for row in 0..array.len() {
            if array.is_null(row) {
                texts.append_null();
            } else {
                write!(texts, "{}", formatter.value(row))
                    .map_err(|_| SchemaError::Batch(format!("{}: row {row} cannot be written as text", self.name)))?;
                texts.append_value("");
            }
        }
        Ok(texts.finish())
    }
}

fn hex<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> StringArray {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut texts = StringBuilder::new();
    let mut text = String::new();
    for value in values {
        let Some(value) = value else {
            texts.append_null();
            continue;
        };
        text.clear();
        for byte in value {
            text.push(DIGITS[usize::from(byte >> 4)].into());
            text.push(DIGITS[usize::from(byte & 15)].into());
        }
        texts.append_value(&text);
    }
    texts.finish()
}

fn uuids(values: &FixedSizeBinaryArray) -> StringArray {
    let mut texts = StringBuilder::with_capacity(values.len(), values.len() * 36);
    for value in values.iter() {
        match value.and_then(|bytes| uuid::Uuid::from_slice(bytes).ok()) {
            Some(uuid) => texts.append_value(uuid.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())),
            None => texts.append_null(),
        }
    }
    texts.finish()
}

#[cfg(test)]
mod tests;
