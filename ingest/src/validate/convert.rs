//! Columns of any order and kind into the topic's: names matched, types converted, left-out values filled in, required ones insisted on.
//!
//! Buffers that are right already are shared, not copied, nested ones too.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, Scalar, StructArray, make_array, new_null_array};
use arrow::compute::{cast, is_null, kernels::zip::zip};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use schemas::envelope::{LIST_ELEMENT, MAP_KEY, MAP_VALUE};
use schemas::payload::{PayloadField, PayloadType};
use schemas::topic::Nanos;
use schemas::{SchemaError, limits};

use super::place::{Faults, Place, Slots};
use super::{fill, scalar, size};

/// Longest value shown in a reason, characters.
const SHOWN_CHARS_MAX: usize = 64;
/// Most names listed in a message.
const NAMES_SHOWN_MAX: usize = 20;

/// One pass over one batch.
#[derive(Debug)]
pub(super) struct Converter {
    nanos: Nanos,
    /// Bytes that may still be made: a batch of few bytes must not become one of many.
    room: usize,
    /// Rows that have a value which does not fit.
    pub(super) faults: Faults,
}

impl Converter {
    pub(super) fn new(nanos: Nanos) -> Self {
        Self { nanos, room: limits::BATCH_BYTES_MAX, faults: Faults::default() }
    }

    /// Matches columns, or members of a struct, with what is wanted, by name. `None` if a visible value does not fit; the faults say where.
    ///
    /// Errors: [`SchemaError::Batch`] for an unknown or missing column or one of a wrong type, whatever its values; for a batch that grows too large.
    pub(super) fn members(
        &mut self,
        (names, columns): (&[&str], &[ArrayRef]),
        length: usize,
        wanted: &[PayloadField],
        (parent, slots): (Option<&Place<'_>>, Slots<'_>),
    ) -> Result<Option<Vec<ArrayRef>>, SchemaError> {
        let mut found = 0;
        let mut converted = Vec::with_capacity(wanted.len());
        for (at, field) in wanted.iter().enumerate() {
            let place = Place::new(&field.name, parent, slots);
            // Mostly the columns are in order.
            let in_order = names.get(at).is_some_and(|name| *name == field.name).then_some(at);
            converted.push(match in_order.or_else(|| names.iter().position(|name| *name == field.name)) {
                Some(column) => {
                    found += 1;
                    self.field(&columns[column], field, &place)?
                }
                None => Some(self.left_out(field, length, &place)?),
            });
        }
        if found < names.len() {
            return Err(surplus(names, wanted, parent));
        }
        Ok(converted.into_iter().collect())
    }

    fn left_out(&mut self, field: &PayloadField, length: usize, place: &Place<'_>) -> Result<ArrayRef, SchemaError> {
        let Some(row) = fill::default_row(field) else {
            let kind = scalar::expected(&field.kind);
            return Err(
                place.error(format!("expected {kind}, found no such column; it is required and has no default"))
            );
        };
        self.charge(&row, length)?;
        fill::repeat(&row, length).map_err(|error| place.error(error.to_string()))
    }

    /// Converts one column. `None` if a visible value does not fit.
    pub(super) fn field(
        &mut self,
        array: &ArrayRef,
        field: &PayloadField,
        place: &Place<'_>,
    ) -> Result<Option<ArrayRef>, SchemaError> {
        let fault = |error: ArrowError| place.error(error.to_string());
        let array = scalar::plain(array).map_err(fault)?;
        let complete = self.is_complete(&array, field, place);
        let converted = match (&field.kind, array.data_type()) {
            (kind, DataType::Null) => {
                self.charge_width(&kind.arrow_type(), array.len())?;
                Some(new_null_array(&kind.arrow_type(), array.len()))
            }
            (PayloadType::Struct(members), DataType::Struct(given)) => {
                self.structs(array.as_struct(), given, members, field, place)?
            }
            (
                PayloadType::List(element),
                DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _),
            ) => self.lists(&array, element, field, place)?,
            (PayloadType::Map { value, .. }, DataType::Map(_, _)) => self.maps(array.as_map(), value, field, place)?,
            (PayloadType::Struct(_) | PayloadType::List(_) | PayloadType::Map { .. }, found) => {
                return Err(wrong_type(field, found, place));
            }
            _ => self.scalars(&array, field, place)?,
        };
        match converted {
            _ if !complete => Ok(None),
            Some(array) if (field.required || field.filled) && array.null_count() > 0 => {
                self.without_nulls(array, field, place).map(Some)
            }
            converted => Ok(converted),
        }
    }

    fn scalars(
        &mut self,
        array: &ArrayRef,
        field: &PayloadField,
        place: &Place<'_>,
    ) -> Result<Option<ArrayRef>, SchemaError> {
        let target = field.kind.arrow_type();
        if *array.data_type() != target {
            self.charge_width(&target, array.len())?;
        }
        let converted =
            scalar::convert(array, &field.kind, self.nanos).map_err(|error| place.error(error.to_string()))?;
        let Some(converted) = converted else { return Err(wrong_type(field, array.data_type(), place)) };
        let mut fits = true;
        for slot in converted.misfits.into_iter().filter(|slot| array.is_valid(*slot)) {
            if let Some(row) = place.row_of(slot) {
                fits = false;
                self.faults.add(row, || misfit(array, slot, field, place));
            }
        }
        Ok(fits.then_some(converted.array))
    }

    fn structs(
        &mut self,
        array: &StructArray,
        given: &Fields,
        members: &[PayloadField],
        field: &PayloadField,
        place: &Place<'_>,
    ) -> Result<Option<ArrayRef>, SchemaError> {
        let names: Vec<_> = given.iter().map(|field| field.name().as_str()).collect();
        let inside = (Some(place), Slots::Members(array.nulls()));
        let columns = self.members((&names, array.columns()), array.len(), members, inside)?;
        let DataType::Struct(fields) = field.kind.arrow_type() else {
            return Err(wrong_type(field, array.data_type(), place));
        };
        let made = columns.map(|columns| StructArray::try_new(fields, columns, array.nulls().cloned()));
        finish(made, place)
    }

    fn lists(
        &mut self,
        array: &ArrayRef,
        element: &PayloadField,
        field: &PayloadField,
        place: &Place<'_>,
    ) -> Result<Option<ArrayRef>, SchemaError> {
        let array = match array.data_type() {
            DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
                cast(array, &DataType::List(Arc::clone(of))).map_err(|error| place.error(error.to_string()))?
            }
            _ => Arc::clone(array),
        };
        let list = array.as_list::<i32>();
        let slots = Slots::Elements(list.offsets(), list.nulls());
        let elements = self.field(list.values(), element, &Place::new(LIST_ELEMENT, Some(place), slots))?;
        let DataType::List(of) = field.kind.arrow_type() else {
            return Err(wrong_type(field, array.data_type(), place));
        };
        let made =
            elements.map(|elements| ListArray::try_new(of, list.offsets().clone(), elements, list.nulls().cloned()));
        finish(made, place)
    }

    fn maps(
        &mut self,
        map: &MapArray,
        value: &PayloadField,
        field: &PayloadField,
        place: &Place<'_>,
    ) -> Result<Option<ArrayRef>, SchemaError> {
        let key = PayloadField {
            id: 0,
            name: MAP_KEY.to_owned(),
            kind: PayloadType::String,
            required: true,
            doc: None,
            default: None,
            filled: false,
        };
        let inside = |name| Place::new(name, Some(place), Slots::Elements(map.offsets(), map.nulls()));
        let keys = self.field(map.keys(), &key, &inside(MAP_KEY))?;
        let values = self.field(map.values(), value, &inside(MAP_VALUE))?;
        let (Some(keys), Some(values)) = (keys, values) else { return Ok(None) };
        let DataType::Map(entries, sorted) = field.kind.arrow_type() else {
            return Err(wrong_type(field, map.data_type(), place));
        };
        let DataType::Struct(pair) = entries.data_type() else { return Err(wrong_type(field, map.data_type(), place)) };
        let made = StructArray::try_new(pair.clone(), vec![keys, values], None).and_then(|pairs| {
            MapArray::try_new(Arc::clone(&entries), map.offsets().clone(), pairs, map.nulls().cloned(), sorted)
        });
        finish(Some(made), place)
    }

    /// False if a required column shows a null and has no default to stand in for it.
    fn is_complete(&mut self, array: &ArrayRef, field: &PayloadField, place: &Place<'_>) -> bool {
        let nulls = array.logical_nulls().filter(|nulls| field.required && nulls.null_count() > 0);
        let Some(nulls) = nulls.filter(|_| fill::default_row(field).is_none()) else { return true };
        let mut complete = true;
        for slot in (0..array.len()).filter(|slot| nulls.is_null(*slot)) {
            if let Some(row) = place.row_of(slot) {
                complete = false;
                let kind = || scalar::expected(&field.kind);
                self.faults.add(row, || format!("column {place}: expected {}, found null", kind()));
            }
        }
        complete
    }

    /// A required column whose nulls the default stands in for, or nobody sees.
    fn without_nulls(
        &mut self,
        array: ArrayRef,
        field: &PayloadField,
        place: &Place<'_>,
    ) -> Result<ArrayRef, SchemaError> {
        let fault = |error: ArrowError| place.error(error.to_string());
        if let Some(default) = fill::default_row(field) {
            self.charge(&default, array.len())?;
            return zip(&is_null(&array).map_err(fault)?, &Scalar::new(default), &array).map_err(fault);
        }
        // Whatever stands in the place of a null that nobody sees; Arrow does not allow it to be null in a required column.
        let data = array.to_data().into_builder().nulls(None).build().map_err(fault)?;
        Ok(make_array(data))
    }

    fn charge(&mut self, row: &ArrayRef, times: usize) -> Result<(), SchemaError> {
        let each = size::bytes(std::slice::from_ref(row), 0..1)? as usize;
        self.spend(each.saturating_mul(times))
    }

    fn charge_width(&mut self, kind: &DataType, slots: usize) -> Result<(), SchemaError> {
        self.spend(fill::width(kind).saturating_mul(slots))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), SchemaError> {
        match self.room.checked_sub(bytes) {
            Some(room) => self.room = room,
            None => size::check_bytes((limits::BATCH_BYTES_MAX - self.room).saturating_add(bytes) as u64)?,
        }
        Ok(())
    }
}

fn finish<A: Array + 'static>(
    made: Option<Result<A, ArrowError>>,
    place: &Place<'_>,
) -> Result<Option<ArrayRef>, SchemaError> {
    let array = made.transpose().map_err(|error| place.error(error.to_string()))?;
    Ok(array.map(|array| Arc::new(array) as ArrayRef))
}

/// Some column was not asked for, or stands twice.
fn surplus(names: &[&str], wanted: &[PayloadField], parent: Option<&Place<'_>>) -> SchemaError {
    let unknown = names.iter().find(|name| !wanted.iter().any(|field| field.name == **name));
    if let Some(unknown) = unknown {
        let mut known: Vec<_> = wanted.iter().take(NAMES_SHOWN_MAX).map(|field| field.name.as_str()).collect();
        if wanted.len() > NAMES_SHOWN_MAX {
            known.push("…");
        }
        let reason = format!("the topic has no such column; it has {}", known.join(", "));
        return Place::new(unknown, parent, Slots::Rows).error(reason);
    }
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    Place::new(twice.map_or("", |(_, name)| name), parent, Slots::Rows).error("stands twice in the batch")
}

fn wrong_type(field: &PayloadField, found: &DataType, place: &Place<'_>) -> SchemaError {
    let hint = match (&field.kind, found) {
        (PayloadType::Timestamp | PayloadType::TimestampTz, found) if found.is_integer() => {
            "; an integer does not say its unit: send a timestamp or ISO 8601 text"
        }
        (PayloadType::Timestamp, DataType::Timestamp(_, Some(_))) => "; send the local wall clock, without a zone",
        (PayloadType::Binary | PayloadType::Fixed(_), DataType::Utf8) => {
            "; text does not say its encoding: send binary"
        }
        _ => "",
    };
    place.error(format!("expected {}, found Arrow type {found}{hint}", scalar::expected(&field.kind)))
}

fn misfit(array: &ArrayRef, slot: usize, field: &PayloadField, place: &Place<'_>) -> String {
    format!("column {place}: expected {}, found {}", scalar::expected(&field.kind), shown(array, slot))
}

/// A value for people, cut to a bearable length.
fn shown(array: &ArrayRef, slot: usize) -> String {
    let options = FormatOptions::new().with_null("null");
    let Ok(formatter) = ArrayFormatter::try_new(array, &options) else {
        return format!("a value of {}", array.data_type());
    };
    let Ok(text) = formatter.value(slot).try_to_string() else { return format!("a value of {}", array.data_type()) };
    let mut short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    if *array.data_type() == DataType::Utf8 { format!("{short:?}") } else { short }
}
