//! Values that arrive as text (NDJSON, CSV): parsed strictly, nothing rounded, nothing dropped.

use arrow::array::{
    Array, Date32Array, Decimal128Array, FixedSizeBinaryArray, FixedSizeBinaryBuilder, StringArray,
    Time64NanosecondArray, TimestampMicrosecondArray,
};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, DecimalType};
use chrono::Utc;
use schemas::topic::Nanos;
use uuid::Uuid;

/// Parses decimals of this precision and scale; what is none, or has more digits, becomes null.
pub(super) fn decimals(texts: &StringArray, precision: u8, scale: i8) -> Decimal128Array {
    let fits = |value: &i128| Decimal128Type::is_valid_decimal_precision(*value, precision);
    let values: Decimal128Array = texts.iter().map(|text| decimal(text?, scale).filter(fits)).collect();
    values.with_data_type(DataType::Decimal128(precision, scale))
}

/// `[-+]digits[.digits][e[-+]digits]` as a number of `10^-scale`; `None` if it is not exactly one.
fn decimal(text: &str, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = char::from(digit).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(i128::from(digit))?;
    }
    let mut shift = i64::from(exponent) + i64::from(scale) - fraction.len() as i64;
    while shift > 0 && value != 0 {
        value = value.checked_mul(10)?;
        shift -= 1;
    }
    while shift < 0 && value != 0 {
        // A digit past the scale would be lost, unless it is zero.
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
        shift += 1;
    }
    Some(if negative { -value } else { value })
}

/// Parses ISO 8601 timestamps into microseconds; what is none becomes null.
///
/// With `zoned`, text without a zone is UTC; without, text with a zone is refused: there would be no telling what its wall clock showed.
pub(super) fn timestamps(texts: &StringArray, zoned: bool, nanos: Nanos) -> TimestampMicrosecondArray {
    let parse = |text: &str| {
        if !zoned && has_zone(text) {
            return None;
        }
        let time = string_to_datetime(&Utc, text).ok()?;
        let exact = time.timestamp_subsec_nanos() % 1_000 == 0 && !has_digits_past_nanos(text);
        (exact || nanos == Nanos::Truncate).then(|| time.timestamp_micros())
    };
    texts.iter().map(|text| text.and_then(parse)).collect()
}

fn has_zone(text: &str) -> bool {
    // After the date, which is ten characters and has hyphens of its own.
    let marks_zone = |c: char| matches!(c, '+' | '-') || c.is_ascii_alphabetic() && !matches!(c, 'T' | 't');
    text.get(10..).is_some_and(|rest| rest.contains(marks_zone))
}

/// Parses ISO 8601 dates; what is none, a timestamp among others, becomes null.
pub(super) fn dates(texts: &StringArray) -> Date32Array {
    let parse = |text: &str| if text.contains(':') { None } else { Date32Type::parse(text) };
    texts.iter().map(|text| text.and_then(parse)).collect()
}

/// Parses times of day; what is none becomes null.
pub(super) fn times(texts: &StringArray) -> Time64NanosecondArray {
    let parse = |text: &str| string_to_time_nanoseconds(text).ok().filter(|_| !has_digits_past_nanos(text));
    texts.iter().map(|text| text.and_then(parse)).collect()
}

/// The parser passes over further digits: `…00.0000000001`.
fn has_digits_past_nanos(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).skip(9).any(|digit| digit != b'0')
}

/// Parses UUIDs in their usual forms; what is none becomes null.
pub(super) fn uuids(texts: &StringArray) -> FixedSizeBinaryArray {
    let mut uuids = FixedSizeBinaryBuilder::with_capacity(texts.len(), 16);
    for text in texts {
        match text.and_then(|text| Uuid::parse_str(text).ok()) {
            Some(uuid) => uuids.append_value(uuid.as_bytes()).expect("a UUID has 16 bytes"),
            None => uuids.append_null(),
        }
    }
    uuids.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_exact_or_nothing() {
        for (text, expected) in [
            ("12.5", Some(1250)),
            ("-0.01", Some(-1)),
            ("+7", Some(700)),
            (".5", Some(50)),
            ("1.500", Some(150)),
            ("1.505", None),
            ("1e3", Some(100_000)),
            ("12E-2", Some(12)),
            ("12E-3", None),
            ("0e-999999999", Some(0)),
            ("1e999999999", None),
            ("", None),
            (".", None),
            ("-", None),
            ("1.2.3", None),
            ("1 ", None),
            ("NaN", None),
            ("9".repeat(39).as_str(), None),
        ] {
            assert_eq!(decimal(text, 2), expected, "{text:?}");
        }
    }

    #[test]
    fn a_timestamp_keeps_its_microseconds_and_its_kind_of_clock() {
        let parse = |text: &str, zoned, nanos| {
            let parsed = timestamps(&StringArray::from(vec![text]), zoned, nanos);
            parsed.is_valid(0).then(|| parsed.value(0))
        };
        let micros = 1_357_017_300_000_000;
        assert_eq!(parse("2013-01-01T05:15:00Z", true, Nanos::Refuse), Some(micros));
        assert_eq!(parse("2013-01-01 05:15:00", true, Nanos::Refuse), Some(micros));
        assert_eq!(parse("2013-01-01T06:15:00.000001+01:00", true, Nanos::Refuse), Some(micros + 1));
        assert_eq!(parse("2013-01-01T05:15:00", false, Nanos::Refuse), Some(micros));
        assert_eq!(parse("2013-01-01T05:15:00Z", false, Nanos::Refuse), None);
        assert_eq!(parse("2013-01-01T05:15:00-05:00", false, Nanos::Refuse), None);
        assert_eq!(parse("2013-01-01T05:15:00.000000001Z", true, Nanos::Refuse), None);
        assert_eq!(parse("2013-01-01T05:15:00.0000000001Z", true, Nanos::Refuse), None);
        assert_eq!(parse("2013-01-01T05:15:00.000001999Z", true, Nanos::Truncate), Some(micros + 1));
        assert_eq!(parse("1969-12-31T23:59:59.999999999Z", true, Nanos::Truncate), Some(-1));
        assert_eq!(parse("9999-12-31T23:59:59Z", true, Nanos::Refuse), Some(253_402_300_799_000_000));
        assert_eq!(parse("yesterday", true, Nanos::Refuse), None);
    }
}
