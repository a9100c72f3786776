//! One scalar column into the topic's type: which types may become it, and which values do without loss.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options, kernels::cmp};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Decimal128Type, DecimalType, Float32Type, Float64Type, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::error::ArrowError;
use schemas::envelope;
use schemas::payload::PayloadType;
use schemas::topic::Nanos;

use super::text;

/// Microseconds of a day: a time of day is below.
const DAY_MICROS: i64 = 86_400_000_000;
/// What cannot be cast becomes null, and is found by that.
const SAFE: CastOptions<'_> = CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };

/// A column in the topic's type.
#[derive(Debug)]
pub(super) struct Converted {
    /// The very same array if nothing had to be done.
    pub(super) array: ArrayRef,
    /// Slots whose value is none of the type; they mean nothing in `array`.
    pub(super) misfits: Vec<usize>,
}

type Outcome = Result<Option<Converted>, ArrowError>;

/// Gives dictionaries, views and 64-bit offsets their plain form. Their size was checked before.
pub(super) fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => plain(&cast(array, values)?),
        DataType::LargeUtf8 | DataType::Utf8View => cast(array, &DataType::Utf8),
        DataType::LargeBinary | DataType::BinaryView => cast(array, &DataType::Binary),
        _ => Ok(Arc::clone(array)),
    }
}

/// Converts a plain array to a scalar type; `None` if values of its type can never be that.
pub(super) fn convert(array: &ArrayRef, kind: &PayloadType, nanos: Nanos) -> Outcome {
    let target = kind.arrow_type();
    let from = array.data_type();
    match kind {
        PayloadType::Boolean if *from == DataType::Boolean => same(array),
        PayloadType::Boolean if *from == DataType::Utf8 => cast_checked(array, &target),
        PayloadType::Int | PayloadType::Long | PayloadType::Float | PayloadType::Double => number(array, &target),
        PayloadType::Decimal { precision, scale } => decimal(array, &target, *precision, *scale),
        PayloadType::Date => date(array),
        PayloadType::Time => time(array, nanos),
        PayloadType::Timestamp => timestamp(array, None, nanos),
        PayloadType::TimestampTz => timestamp(array, Some(envelope::UTC), nanos),
        PayloadType::String if *from == DataType::Utf8 => same(array),
        PayloadType::Enum(symbols) if *from == DataType::Utf8 => Ok(Some(symbol(array, symbols))),
        PayloadType::Uuid if *from == DataType::Utf8 => {
            Ok(Some(checked(array, Arc::new(text::uuids(array.as_string())))))
        }
        PayloadType::Uuid | PayloadType::Fixed(_) if *from == target => same(array),
        PayloadType::Uuid | PayloadType::Fixed(_) if *from == DataType::Binary => cast_checked(array, &target),
        PayloadType::Binary if *from == DataType::Binary => same(array),
        PayloadType::Binary if matches!(from, DataType::FixedSizeBinary(_)) => cast_checked(array, &target),
        _ => Ok(None),
    }
}

/// What messages call the type.
pub(super) fn expected(kind: &PayloadType) -> String {
    match kind {
        PayloadType::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        PayloadType::Fixed(length) => format!("fixed({length})"),
        PayloadType::Enum(symbols) if symbols.len() <= 12 => format!("one of {}", symbols.join(", ")),
        PayloadType::Enum(symbols) => format!("one of {} symbols", symbols.len()),
        other => other.name().to_owned(),
    }
}

fn same(array: &ArrayRef) -> Outcome {
    Ok(Some(Converted { array: Arc::clone(array), misfits: Vec::new() }))
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &SAFE)
}

fn cast_checked(array: &ArrayRef, to: &DataType) -> Outcome {
    Ok(Some(checked(array, cast(array, to)?)))
}

/// `after` was made of `before` by a conversion that makes null of what it cannot convert.
fn checked(before: &ArrayRef, after: ArrayRef) -> Converted {
    let misfits = match after.null_count() == before.null_count() {
        true => Vec::new(),
        false => (0..after.len()).filter(|slot| after.is_null(*slot) && before.is_valid(*slot)).collect(),
    };
    Converted { array: after, misfits }
}

/// Conversions that may round: only values that come back as they were are taken.
fn round_trip(array: &ArrayRef, to: &DataType) -> Outcome {
    let after = cast(array, to)?;
    let back = cast(&after, array.data_type())?;
    let misfits = set_slots(&cmp::distinct(array, &back)?);
    Ok(Some(Converted { array: after, misfits }))
}

fn set_slots(mask: &BooleanArray) -> Vec<usize> {
    mask.values().set_indices().collect()
}

fn number(array: &ArrayRef, target: &DataType) -> Outcome {
    let from = array.data_type();
    if from == target {
        return same(array);
    }
    let widens = from.is_integer() && target.is_integer() || from.is_floating() && *target == DataType::Float64;
    match (from, target) {
        (DataType::Utf8, _) => cast_checked(array, target),
        // Rounded to the nearest: that is what a float is. Only what becomes infinite is lost.
        (DataType::Float64, DataType::Float32) => Ok(Some(to_float(array)?)),
        _ if widens => cast_checked(array, target),
        _ if from.is_numeric() => round_trip(array, target),
        _ => Ok(None),
    }
}

fn to_float(array: &ArrayRef) -> Result<Converted, ArrowError> {
    let after = cast(array, &DataType::Float32)?;
    let (doubles, floats) =
        (array.as_primitive::<Float64Type>().values(), after.as_primitive::<Float32Type>().values());
    let overflows = |slot: &usize| floats[*slot].is_infinite() && doubles[*slot].is_finite();
    let misfits = (0..array.len()).filter(overflows).collect();
    Ok(Converted { array: after, misfits })
}

fn decimal(array: &ArrayRef, target: &DataType, precision: u8, scale: i8) -> Outcome {
    let from = array.data_type();
    let mut converted = match from {
        DataType::Utf8 => {
            return Ok(Some(checked(array, Arc::new(text::decimals(array.as_string(), precision, scale)))));
        }
        _ if from == target => Converted { array: Arc::clone(array), misfits: Vec::new() },
        _ if from.is_integer() => checked(array, cast(array, target)?),
        _ if from.is_numeric() => match round_trip(array, target)? {
            Some(converted) => converted,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    // Nothing on the wire enforces the digits that a decimal type states.
    let values = converted.array.as_primitive::<Decimal128Type>();
    if values.validate_decimal_precision(precision).is_err() {
        let fits = |slot: usize| Decimal128Type::is_valid_decimal_precision(values.value(slot), precision);
        converted.misfits.extend((0..values.len()).filter(|slot| values.is_valid(*slot) && !fits(*slot)));
    }
    Ok(Some(converted))
}

fn date(array: &ArrayRef) -> Outcome {
    match array.data_type() {
        DataType::Date32 => same(array),
        DataType::Date64 => round_trip(array, &DataType::Date32),
        DataType::Utf8 => Ok(Some(checked(array, Arc::new(text::dates(array.as_string()))))),
        _ => Ok(None),
    }
}

fn time(array: &ArrayRef, nanos: Nanos) -> Outcome {
    let target = DataType::Time64(TimeUnit::Microsecond);
    let mut converted = match array.data_type() {
        DataType::Time64(TimeUnit::Microsecond) => Converted { array: Arc::clone(array), misfits: Vec::new() },
        DataType::Time32(_) => checked(array, cast(array, &target)?),
        DataType::Time64(_) => micros_of_time(array.as_primitive(), nanos),
        DataType::Utf8 => {
            let times = text::times(array.as_string());
            let mut converted = micros_of_time(&times, nanos);
            converted.misfits.extend(checked(array, Arc::new(times)).misfits);
            converted
        }
        _ => return Ok(None),
    };
    // Nothing on the wire keeps a time of day within its day.
    let values = converted.array.as_primitive::<Time64MicrosecondType>();
    if values.values().iter().any(|value| !(0..DAY_MICROS).contains(value)) {
        let outside = |slot: &usize| values.is_valid(*slot) && !(0..DAY_MICROS).contains(&values.value(*slot));
        converted.misfits.extend((0..values.len()).filter(outside));
    }
    Ok(Some(converted))
}

fn micros_of_time(nanoseconds: &PrimitiveArray<Time64NanosecondType>, nanos: Nanos) -> Converted {
    let misfits = past_micros(nanoseconds.values(), nanos);
    let array = nanoseconds.unary::<_, Time64MicrosecondType>(|value| value.div_euclid(1_000));
    Converted { array: Arc::new(array), misfits }
}

/// Slots that say more than microseconds can, unless the topic has it cut off. Null slots may be among them; they are passed over later.
fn past_micros(nanoseconds: &[i64], nanos: Nanos) -> Vec<usize> {
    let mut misfits = Vec::new();
    if nanos == Nanos::Refuse {
        misfits.extend((0..nanoseconds.len()).filter(|slot| nanoseconds[*slot].rem_euclid(1_000) != 0));
    }
    misfits
}

/// `zone`: of the topic's type. A column without one is UTC where the topic has one; the other way only UTC's wall clock is known.
fn timestamp(array: &ArrayRef, zone: Option<&str>, nanos: Nanos) -> Outcome {
    let converted = match array.data_type() {
        DataType::Timestamp(_, Some(from)) if zone.is_none() && !is_utc(from) => return Ok(None),
        DataType::Timestamp(TimeUnit::Second, _) => widen::<TimestampSecondType>(array, 1_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => widen::<TimestampMillisecondType>(array, 1_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Converted { array: Arc::clone(array), misfits: Vec::new() },
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let values = array.as_primitive::<TimestampNanosecondType>();
            let cut = values.unary::<_, TimestampMicrosecondType>(|value| value.div_euclid(1_000));
            Converted { array: Arc::new(cut), misfits: past_micros(values.values(), nanos) }
        }
        DataType::Utf8 => checked(array, Arc::new(text::timestamps(array.as_string(), zone.is_some(), nanos))),
        _ => return Ok(None),
    };
    let relabelled = converted.array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(zone);
    Ok(Some(Converted { array: Arc::new(relabelled), misfits: converted.misfits }))
}

fn widen<T: ArrowTimestampType>(array: &ArrayRef, micros: i64) -> Converted {
    let values = array.as_primitive::<T>();
    let widened = values.unary_opt::<_, TimestampMicrosecondType>(|value| value.checked_mul(micros));
    checked(array, Arc::new(widened))
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "utc" | "Z" | "+00:00" | "-00:00" | "+00" | "+0000" | "GMT" | "Etc/UTC")
}

fn symbol(array: &ArrayRef, symbols: &[String]) -> Converted {
    let values: &StringArray = array.as_string();
    let mut last = None;
    let mut known = |value| {
        // Neighbours are often alike.
        let is_known = last == Some(value) || symbols.iter().any(|symbol| symbol == value);
        last = is_known.then_some(value).or(last);
        is_known
    };
    let misfits = (0..values.len()).filter(|slot| values.is_valid(*slot) && !known(values.value(*slot))).collect();
    Converted { array: Arc::clone(array), misfits }
}
