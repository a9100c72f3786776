//! A hash of a set of rows that does not depend on their order, on the order of their columns, or on columns that are null.
//!
//! What the log holds and what a table holds can be compared by it, whatever has been sorted, compacted or widened in between (I11).
//!
//! * A value's digest is XXH3-128 of its canonical bytes, seeded with its field id: numbers widened (integers, dates, times and timestamps to
//!   64 bits, floats to `f64` with one NaN, decimals to 128 bits; all little-endian), strings and bytes as they are. A null has the digest 0.
//! * A row's digest is XXH3-128 of the sum of its values' digests: an absent column and a null are the same, and columns commute.
//! * A struct is a row seeded with its own field id; a list hashes its elements' digests in order; a map is the sum over its entries.
//! * The hash of rows is the sum of their digests. All sums are modulo 2^128.
//!
//! Columns are walked one at a time: no row is ever encoded, which keeps this a few per cent of a flush.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int8Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use schemas::ErrorKind;
use schemas::envelope::FIELD_ID_KEY;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::error::{CatalogError, Result};

/// The hash of a set of rows; of none it is zero, and that of a union is the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowHash(pub u128);

impl Add for RowHash {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl fmt::Display for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for RowHash {
    type Err = CatalogError;
    fn from_str(text: &str) -> Result<Self> {
        let digits = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        digits.map(Self).ok_or_else(|| {
            CatalogError::new(ErrorKind::Corrupt, format!("a row hash has 32 hex digits, found {text:?}"))
        })
    }
}

impl RowHash {
    /// Of all rows of a batch, whose fields carry their ids.
    ///
    /// Errors: `Internal` for a field without an id or of a type that no event has.
    pub fn of(batch: &RecordBatch) -> Result<Self> {
        Ok(Self::of_each(batch)?.fold(Self::default(), Self::add))
    }

    /// Of each row of a batch alone. Errors: as for [`Self::of`].
    pub(crate) fn of_each(batch: &RecordBatch) -> Result<impl ExactSizeIterator<Item = Self> + use<>> {
        let mut rows = vec![0; batch.num_rows()];
        add_members(batch.schema_ref().fields(), batch.columns(), &mut rows)?;
        Ok(rows.into_iter().map(|row| Self(seal(0, row))))
    }
}

fn seal(seed: u64, sum: u128) -> u128 {
    xxh3_128_with_seed(&sum.to_le_bytes(), seed)
}

fn add_members(fields: &Fields, columns: &[ArrayRef], rows: &mut [u128]) -> Result<()> {
    fields.iter().zip(columns).try_for_each(|(field, column)| add_column(field, column, rows))
}

/// Adds the digest of each value of `column` to the row it stands in.
fn add_column(field: &Field, column: &ArrayRef, rows: &mut [u128]) -> Result<()> {
    let id = field_id(field)?;
    match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            add_each(id, column, rows, |row| [u8::from(values.value(row))]);
        }
        DataType::Int8 => add_numbers::<Int8Type, 8>(id, column, rows, |value| i64::from(value).to_le_bytes()),
        DataType::Int32 => add_numbers::<Int32Type, 8>(id, column, rows, |value| i64::from(value).to_le_bytes()),
        DataType::Int64 => add_numbers::<Int64Type, 8>(id, column, rows, i64::to_le_bytes),
        DataType::Date32 => add_numbers::<Date32Type, 8>(id, column, rows, |value| i64::from(value).to_le_bytes()),
        DataType::Time64(TimeUnit::Microsecond) => {
            add_numbers::<Time64MicrosecondType, 8>(id, column, rows, i64::to_le_bytes);
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            add_numbers::<TimestampMicrosecondType, 8>(id, column, rows, i64::to_le_bytes);
        }
        DataType::Float32 => add_numbers::<Float32Type, 8>(id, column, rows, |value| float_bytes(f64::from(value))),
        DataType::Float64 => add_numbers::<Float64Type, 8>(id, column, rows, float_bytes),
        DataType::Decimal128(_, _) => add_numbers::<Decimal128Type, 16>(id, column, rows, i128::to_le_bytes),
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            add_each(id, column, rows, |row| values.value(row).as_bytes());
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            add_each(id, column, rows, |row| values.value(row));
        }
        DataType::FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary();
            add_each(id, column, rows, |row| values.value(row));
        }
        DataType::Struct(members) => add_structs(id, members, column, rows)?,
        DataType::List(element) => add_lists(id, element, column, rows)?,
        DataType::Map(entry, _) => add_maps(id, entry, column, rows)?,
        other => {
            let message = format!("column {}: no event has the type {other}, so it has no row hash", field.name());
            return Err(CatalogError::new(ErrorKind::Internal, message));
        }
    }
    Ok(())
}

fn field_id(field: &Field) -> Result<u64> {
    field
        .metadata()
        .get(FIELD_ID_KEY)
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| CatalogError::new(ErrorKind::Internal, format!("column {} carries no field id", field.name())))
}

fn float_bytes(value: f64) -> [u8; 8] {
    if value.is_nan() { f64::NAN.to_le_bytes() } else { value.to_le_bytes() }
}

fn add_each<B: AsRef<[u8]>>(id: u64, column: &ArrayRef, rows: &mut [u128], value: impl Fn(usize) -> B) {
    if column.null_count() == 0 {
        for (index, row) in rows.iter_mut().enumerate() {
            *row = row.wrapping_add(xxh3_128_with_seed(value(index).as_ref(), id));
        }
        return;
    }
    for (index, row) in rows.iter_mut().enumerate().filter(|(index, _)| column.is_valid(*index)) {
        *row = row.wrapping_add(xxh3_128_with_seed(value(index).as_ref(), id));
    }
}

fn add_numbers<T: ArrowPrimitiveType, const N: usize>(
    id: u64,
    column: &ArrayRef,
    rows: &mut [u128],
    bytes: impl Fn(T::Native) -> [u8; N],
) {
    let values = column.as_primitive::<T>().values();
    add_each(id, column, rows, |row| bytes(values[row]));
}

fn add_structs(id: u64, members: &Fields, column: &ArrayRef, rows: &mut [u128]) -> Result<()> {
    let mut inner = vec![0; column.len()];
    add_members(members, column.as_struct().columns(), &mut inner)?;
    add_each(id, column, rows, |row| inner[row].to_le_bytes());
    Ok(())
}

fn add_lists(id: u64, element: &Field, column: &ArrayRef, rows: &mut [u128]) -> Result<()> {
    let list = column.as_list::<i32>();
    let (first, last) = extent(list.value_offsets());
    let mut digests = vec![0; last - first];
    add_column(element, &list.values().slice(first, last - first), &mut digests)?;
    let bytes: Vec<u8> = digests.iter().flat_map(|digest| digest.to_le_bytes()).collect();
    let offsets = list.value_offsets();
    let start = |row: usize| 16 * (offsets[row] as usize - first);
    add_each(id, column, rows, |row| &bytes[start(row)..start(row + 1)]);
    Ok(())
}

fn add_maps(id: u64, entry: &Field, column: &ArrayRef, rows: &mut [u128]) -> Result<()> {
    let DataType::Struct(members) = entry.data_type() else {
        return Err(CatalogError::new(
            ErrorKind::Internal,
            format!("map entries are structs, not {}", entry.data_type()),
        ));
    };
    let map = column.as_map();
    let (first, last) = extent(map.value_offsets());
    let mut digests = vec![0; last - first];
    add_members(members, map.entries().slice(first, last - first).columns(), &mut digests)?;
    let offsets = map.value_offsets();
    add_each(id, column, rows, |row| {
        let entries = &digests[offsets[row] as usize - first..offsets[row + 1] as usize - first];
        entries.iter().map(|digest| seal(id, *digest)).fold(0, u128::wrapping_add).to_le_bytes()
    });
    Ok(())
}

fn extent(offsets: &[i32]) -> (usize, usize) {
    (offsets[0] as usize, offsets[offsets.len() - 1] as usize)
}

#[cfg(test)]
mod tests;
