//! Bounds from manifests as Arrow arrays, in the types that events have.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryBuilder, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, PrimitiveArray, StringArray,
};
use arrow::datatypes::{DataType, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType};
use iceberg::spec::{Datum, PrimitiveLiteral, PrimitiveType};

use super::schema::bound_type;

/// One value a file, null where `bounds` has none. `None` for a type that no event has.
pub(super) fn bounds_array<'a>(
    field_id: i32,
    kind: &PrimitiveType,
    bounds: impl ExactSizeIterator<Item = Option<&'a Datum>>,
) -> Option<ArrayRef> {
    let bounds = bounds.map(|bound| bound.map(Datum::literal));
    let integer = |bound: Option<&PrimitiveLiteral>| match bound {
        Some(PrimitiveLiteral::Int(value)) => Some(i64::from(*value)),
        Some(PrimitiveLiteral::Long(value)) => Some(*value),
        _ => None,
    };
    let float = |bound: Option<&PrimitiveLiteral>| match bound {
        Some(PrimitiveLiteral::Float(value)) => Some(f64::from(value.0)),
        Some(PrimitiveLiteral::Double(value)) => Some(value.0),
        _ => None,
    };
    Some(match bound_type(field_id, kind) {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(bounds.map(|bound| match bound {
            Some(PrimitiveLiteral::Boolean(value)) => Some(*value),
            _ => None,
        }))),
        DataType::Int8 => Arc::new(Int8Array::from_iter(bounds.map(|bound| integer(bound).map(|value| value as i8)))),
        DataType::Int32 => {
            Arc::new(Int32Array::from_iter(bounds.map(|bound| integer(bound).map(|value| value as i32))))
        }
        DataType::Date32 => {
            Arc::new(Date32Array::from_iter(bounds.map(|bound| integer(bound).map(|value| value as i32))))
        }
        DataType::Int64 => Arc::new(Int64Array::from_iter(bounds.map(integer))),
        DataType::Time64(TimeUnit::Microsecond) => {
            Arc::new(PrimitiveArray::<Time64MicrosecondType>::from_iter(bounds.map(integer)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let values = PrimitiveArray::<TimestampMicrosecondType>::from_iter(bounds.map(integer));
            Arc::new(values.with_timezone_opt(zone))
        }
        DataType::Float32 => {
            Arc::new(Float32Array::from_iter(bounds.map(|bound| float(bound).map(|value| value as f32))))
        }
        DataType::Float64 => Arc::new(Float64Array::from_iter(bounds.map(float))),
        DataType::Decimal128(precision, scale) => {
            let values = Decimal128Array::from_iter(bounds.map(|bound| match bound {
                Some(PrimitiveLiteral::Int128(value)) => Some(*value),
                _ => None,
            }));
            Arc::new(values.with_precision_and_scale(precision, scale).ok()?)
        }
        DataType::Utf8 => Arc::new(StringArray::from_iter(bounds.map(|bound| match bound {
            Some(PrimitiveLiteral::String(value)) => Some(value),
            _ => None,
        }))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(bounds.map(|bound| match bound {
            Some(PrimitiveLiteral::Binary(value)) => Some(value),
            _ => None,
        }))),
        DataType::FixedSizeBinary(width) => fixed_array(width, bounds),
        _ => return None,
    })
}

/// A bound that is not `width` bytes long was cut short by its writer and is no value of the type: unknown.
fn fixed_array<'a>(width: i32, bounds: impl ExactSizeIterator<Item = Option<&'a PrimitiveLiteral>>) -> ArrayRef {
    let mut values = FixedSizeBinaryBuilder::with_capacity(bounds.len(), width);
    for bound in bounds {
        let appended = match bound {
            Some(PrimitiveLiteral::Binary(value)) => values.append_value(value),
            Some(PrimitiveLiteral::UInt128(value)) => values.append_value(value.to_be_bytes()),
            _ => {
                values.append_null();
                Ok(())
            }
        };
        if appended.is_err() {
            values.append_null();
        }
    }
    Arc::new(values.finish())
}
