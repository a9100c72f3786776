//! Rows that were made under one version of a schema as another version has them: matched by field id, never by name.
//!
//! A column keeps its values whatever it is called and wherever it stands; one that is gone is left out, one that is new is absent. Types are widened
//! without loss, structs, lists and maps on every level. Buffers that are right already are shared.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::envelope::FIELD_ID_KEY;

/// What stands in for a field that the rows have not: so many values of it.
pub type Missing<'m> = &'m dyn Fn(&Field, usize) -> Result<ArrayRef, ArrowError>;

/// The field's Iceberg id, if it carries one.
pub fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(FIELD_ID_KEY)?.parse().ok()
}

/// True if `after` lacks a field of `before`, nested ones included.
pub fn loses(before: &Fields, after: &Fields) -> bool {
    before.iter().any(|field| match after.iter().find(|found| field_id(found) == field_id(field)) {
        None => true,
        Some(found) => loses_within(field.data_type(), found.data_type()),
    })
}

fn loses_within(before: &DataType, after: &DataType) -> bool {
    match (before, after) {
        (DataType::Struct(before), DataType::Struct(after)) => loses(before, after),
        (DataType::List(before), DataType::List(after)) | (DataType::Map(before, _), DataType::Map(after, _)) => {
            loses_within(before.data_type(), after.data_type())
        }
        _ => false,
    }
}

/// Nulls.
pub fn absent(field: &Field, length: usize) -> Result<ArrayRef, ArrowError> {
    Ok(new_null_array(field.data_type(), length))
}

/// The rows of `batch` in exactly this schema, both with field ids. Shared whole if they have it already.
///
/// Errors: a value that does not fit; a field that may not be null and that `missing` has no value for.
pub fn conform_batch(batch: &RecordBatch, schema: &SchemaRef, missing: Missing<'_>) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(batch.schema_ref(), schema) || batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = members(batch.schema_ref().fields(), batch.columns(), schema.fields(), batch.num_rows(), missing)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// `array` in exactly the type of `field`.
///
/// Errors: as for [`conform_batch`].
pub fn conform(array: &ArrayRef, field: &Field, missing: Missing<'_>) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == field.data_type() {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), field.data_type()) {
        (DataType::Struct(_), DataType::Struct(fields)) => Ok(Arc::new(structs(array.as_struct(), fields, missing)?)),
        (DataType::List(_), DataType::List(element)) => {
            let list = array.as_list::<i32>();
            let values = conform(list.values(), element, missing)?;
            let list = ListArray::try_new(Arc::clone(element), list.offsets().clone(), values, list.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => maps(array.as_map(), entries, *sorted, missing),
        (_, wanted) => cast_with_options(array, wanted, &CastOptions { safe: false, ..Default::default() }),
    }
}

fn structs(array: &StructArray, fields: &Fields, missing: Missing<'_>) -> Result<StructArray, ArrowError> {
    let columns = members(array.fields(), array.columns(), fields, array.len(), missing)?;
    StructArray::try_new(fields.clone(), columns, array.nulls().cloned())
}

/// Keys and values stand where they stand in every map.
fn maps(map: &MapArray, entries: &FieldRef, sorted: bool, missing: Missing<'_>) -> Result<ArrayRef, ArrowError> {
    let DataType::Struct(pair) = entries.data_type() else {
        return Err(ArrowError::SchemaError(format!("map {}: expected entries of a struct type", entries.name())));
    };
    let inner = map.entries();
    let columns = inner.columns().iter().zip(pair).map(|(column, field)| conform(column, field, missing));
    let inner = StructArray::try_new(pair.clone(), columns.collect::<Result<_, _>>()?, inner.nulls().cloned())?;
    let map = MapArray::try_new(Arc::clone(entries), map.offsets().clone(), inner, map.nulls().cloned(), sorted)?;
    Ok(Arc::new(map))
}

/// Columns, or members of a struct, by id; those without any ids by name.
fn members(
    given: &Fields,
    columns: &[ArrayRef],
    wanted: &Fields,
    length: usize,
    missing: Missing<'_>,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let unnumbered = given.iter().all(|field| field_id(field).is_none());
    let find = |wanted: &FieldRef| {
        given.iter().position(|field| match unnumbered {
            true => field.name() == wanted.name(),
            false => field_id(field).is_some() && field_id(field) == field_id(wanted),
        })
    };
    let member = |field: &FieldRef| match find(field) {
        Some(source) => conform(&columns[source], field, missing),
        None => missing(field, length),
    };
    wanted.iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{Int64Type, Schema};

    use super::*;
    use crate::envelope::{field, map_type};

    fn batch(fields: Vec<Field>, columns: Vec<ArrayRef>) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    #[test]
    fn columns_are_found_by_id_whatever_they_are_called() {
        let rows = batch(
            vec![field(101, "a", DataType::Int32, false), field(102, "b", DataType::Utf8, false)],
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["x", "y"]))],
        );
        let wanted = Arc::new(Schema::new(vec![
            field(102, "a", DataType::Utf8, true),
            field(101, "b", DataType::Int64, false),
            field(103, "c", DataType::Int32, true),
        ]));
        let conformed = conform_batch(&rows, &wanted, &absent).unwrap();
        assert_eq!(conformed.column(0).as_string::<i32>().value(1), "y");
        assert_eq!(conformed.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
        assert_eq!(conformed.column(2).null_count(), 2);
        let insisting = Arc::new(Schema::new(vec![field(104, "d", DataType::Int32, false)]));
        assert!(conform_batch(&rows, &insisting, &absent).is_err(), "nothing stands in for what must be there");
    }

    #[test]
    fn members_are_found_by_id_inside_lists_and_maps() {
        let old = |id| {
            DataType::Struct(
                vec![field(id, "a", DataType::Int32, true), field(id + 1, "b", DataType::Int32, true)].into(),
            )
        };
        let new = |id| {
            DataType::Struct(
                vec![field(id + 1, "a", DataType::Int64, true), field(id + 9, "c", DataType::Utf8, true)].into(),
            )
        };
        let members = |id: i32| -> ArrayRef {
            let DataType::Struct(fields) = old(id) else { unreachable!() };
            Arc::new(StructArray::new(
                fields,
                vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int32Array::from(vec![3, 4]))],
                None,
            ))
        };
        let list_of = |kind: DataType| DataType::List(Arc::new(field(201, "element", kind, true)));
        let DataType::List(element) = list_of(old(210)) else { unreachable!() };
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([2]);
        let list: ArrayRef = Arc::new(ListArray::new(element, offsets.clone(), members(210), None));
        let conformed = conform(&list, &field(200, "l", list_of(new(210)), true), &absent).unwrap();
        let inner = conformed.as_list::<i32>().values().as_struct();
        assert_eq!(inner.column(0).as_primitive::<Int64Type>().values(), &[3, 4]);
        assert_eq!(inner.column(1).null_count(), 2);

        let map_of = |kind: DataType| map_type(301, field(302, "value", kind, true));
        let DataType::Map(entries, _) = map_of(old(310)) else { unreachable!() };
        let DataType::Struct(pair) = entries.data_type() else { unreachable!() };
        let keys: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        let pairs = StructArray::new(pair.clone(), vec![keys, members(310)], None);
        let map: ArrayRef = Arc::new(MapArray::new(entries, offsets, pairs, None, false));
        let conformed = conform(&map, &field(300, "m", map_of(new(310)), true), &absent).unwrap();
        let inner = conformed.as_map().values().as_struct();
        assert_eq!(inner.column(0).as_primitive::<Int64Type>().values(), &[3, 4]);
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_and_what_fits_is_shared() {
        let rows =
            batch(vec![field(101, "a", DataType::Int64, false)], vec![Arc::new(Int64Array::from(vec![1 << 40]))]);
        let narrow = Arc::new(Schema::new(vec![field(101, "a", DataType::Int32, false)]));
        assert!(conform_batch(&rows, &narrow, &absent).is_err());
        let same = conform_batch(&rows, rows.schema_ref(), &absent).unwrap();
        assert!(Arc::ptr_eq(same.column(0), rows.column(0)));
    }
}
