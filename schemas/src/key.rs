//! `_key`: the entity an event belongs to, derived from the declared key fields.
//!
//! One field gives its canonical text (`text`); several are joined by `:`, with `%` and `:` inside a part written `%25` and `%3A`, so that
//! different values never give the same key.

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};

use crate::error::SchemaError;
use crate::limits;
use crate::payload::PayloadSchema;
use crate::text::TextField;

/// How to derive the key of a topic's events. Made once a schema version.
#[derive(Clone, Debug)]
pub struct KeyRule {
    fields: Vec<TextField>,
}

/// A derived column.
#[derive(Clone, Debug)]
pub struct Derived {
    /// One value a row; at rows that are in `faults` it means nothing and may be null.
    pub values: StringArray,
    /// Rows without a valid value, ascending, each with its reason.
    pub faults: Vec<Fault>,
}

/// Why one row has no valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Row of the batch, from 0.
    pub row: usize,
    /// Which field, what was expected, what was found.
    pub reason: String,
}

impl KeyRule {
    /// Errors: [`SchemaError::Option`] naming `key` if there is none, there are too many, one stands twice, is unknown, or has no canonical text.
    pub fn new(payload: &PayloadSchema, key: &[String]) -> Result<Self, SchemaError> {
        let fault = |reason: String| Err(SchemaError::Option { option: "key", reason });
        if key.is_empty() || key.len() > limits::KEY_FIELDS_MAX {
            return fault(format!("expected 1 to {} fields, found {}", limits::KEY_FIELDS_MAX, key.len()));
        }
        if let Some((_, twice)) = key.iter().enumerate().find(|(at, name)| key[..*at].contains(name)) {
            return fault(format!("field {twice:?} stands twice"));
        }
        let fields = key.iter().map(|name| TextField::new(payload, name, "key")).collect::<Result<_, _>>()?;
        Ok(Self { fields })
    }

    /// Derives the keys of payload columns (all of them, in the schema's order). A key that is one string field shares its column.
    ///
    /// Errors: [`SchemaError::Batch`] if the columns are not the payload's.
    pub fn derive(&self, payload: &[ArrayRef]) -> Result<Derived, SchemaError> {
        let texts: Vec<_> = self.fields.iter().map(|field| field.texts(payload)).collect::<Result<_, _>>()?;
        let mut faults = Vec::new();
        let values = match texts.as_slice() {
            [single] => single.clone(),
            several => join(several)?,
        };
        let has_nulls = texts.iter().any(|text| text.null_count() > 0);
        for row in 0..values.len() {
            let length = values.value_length(row);
            if (has_nulls && texts.iter().any(|text| text.is_null(row)))
                || length == 0
                || length as usize > limits::KEY_BYTES_MAX
            {
                faults.push(Fault { row, reason: self.reason(&texts, row, length) });
            }
        }
        Ok(Derived { values, faults })
    }

    fn reason(&self, texts: &[StringArray], row: usize, length: i32) -> String {
        let null = self.fields.iter().zip(texts).find(|(_, text)| text.is_null(row));
        match null {
            Some((field, _)) => format!("key field {:?}: expected a value, found null", field.name),
            None if length == 0 => format!("key field {:?}: expected a value, found an empty one", self.fields[0].name),
            None => format!("key: expected at most {} bytes, found {length}", limits::KEY_BYTES_MAX),
        }
    }
}

fn join(parts: &[StringArray]) -> Result<StringArray, SchemaError> {
    let rows = parts.first().map_or(0, |part| part.len());
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.value_data().len() + rows).sum());
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0i32);
    for row in 0..rows {
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                bytes.push(b':');
            }
            if part.is_valid(row) {
                escape(part.value(row), b"%:", &mut bytes);
            }
        }
        offsets.push(offset(bytes.len())?);
    }
    column(bytes, offsets)
}

/// Appends `text` with every byte of `special` (ASCII) as `%XX`.
pub(crate) fn escape(text: &str, special: &[u8], into: &mut Vec<u8>) {
    if !text.bytes().any(|byte| special.contains(&byte)) {
        return into.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        if special.contains(&byte) {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            into.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        } else {
            into.push(byte);
        }
    }
}

pub(crate) fn offset(length: usize) -> Result<i32, SchemaError> {
    i32::try_from(length).map_err(|_| SchemaError::Batch("derived column: expected less than 2 GiB".into()))
}

pub(crate) fn column(bytes: Vec<u8>, offsets: Vec<i32>) -> Result<StringArray, SchemaError> {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, bytes.into(), None).map_err(|error| SchemaError::Batch(error.to_string()))
}

#[cfg(test)]
mod tests;
