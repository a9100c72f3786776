//! From the columns of the version that a producer knows to those of the topic's newest: by field id, with the defaults of what was added since.

use std::cell::Cell;
use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use schemas::SchemaError;
use schemas::conform::{conform_batch, field_id};
use schemas::payload::{PayloadField, PayloadSchema, PayloadType};
use schemas::{envelope, limits};

use super::{fill, size};
use crate::rows::Shape;

/// What stands in for each field of a version that an earlier one has not.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// One row, by field id.
    defaults: HashMap<i32, ArrayRef>,
}

impl Upgrade {
    /// To this version.
    pub(super) fn new(payload: &PayloadSchema) -> Self {
        let mut defaults = HashMap::new();
        payload.fields.iter().for_each(|field| note(field, &mut defaults));
        Self { defaults }
    }

    /// A body of an earlier version as one of `shape`.
    ///
    /// Errors: [`SchemaError::Batch`] if defaults would make it larger than a batch may be.
    pub(super) fn apply(&self, body: &RecordBatch, shape: &Shape) -> Result<RecordBatch, SchemaError> {
        let has = |name: &str| body.schema_ref().fields().iter().take(2).any(|field| field.name() == name);
        let schema = shape.body_schema(has(envelope::KIND), has(envelope::HEADERS));
        let room = Cell::new(limits::BATCH_BYTES_MAX);
        let missing = |field: &Field, length: usize| self.stand_in(field, length, &room);
        let upgraded = conform_batch(body, schema, &missing).map_err(|error| SchemaError::Batch(error.to_string()))?;
        size::check_bytes(size::bytes(upgraded.columns(), 0..upgraded.num_rows())?)?;
        Ok(upgraded)
    }

    fn stand_in(&self, field: &Field, length: usize, room: &Cell<usize>) -> Result<ArrayRef, ArrowError> {
        let default = field_id(field).and_then(|id| self.defaults.get(&id));
        let default = default.ok_or_else(|| {
            ArrowError::InvalidArgumentError(format!("column {}: earlier versions have no value for it", field.name()))
        })?;
        let each = size::bytes(std::slice::from_ref(default), 0..1);
        let each = each.map_err(|error| ArrowError::InvalidArgumentError(error.to_string()))?;
        let bytes = usize::try_from(each).unwrap_or(usize::MAX).saturating_mul(length);
        match room.get().checked_sub(bytes) {
            Some(left) => room.set(left),
            None => {
                let message = format!(
                    "its defaults alone take more than {} bytes: send smaller batches",
                    limits::BATCH_BYTES_MAX
                );
                return Err(ArrowError::InvalidArgumentError(message));
            }
        }
        fill::repeat(default, length)
    }
}

fn note(field: &PayloadField, defaults: &mut HashMap<i32, ArrayRef>) {
    if let Some(row) = fill::default_row(field) {
        defaults.insert(field.id, row);
    }
    match &field.kind {
        PayloadType::Struct(members) => members.iter().for_each(|member| note(member, defaults)),
        PayloadType::List(inner) | PayloadType::Map { value: inner, .. } => note(inner, defaults),
        _ => {}
    }
}
