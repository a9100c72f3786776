use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int32Array, Int64Array,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;

use super::*;
use crate::payload::PayloadField;

fn field(name: &str, kind: PayloadType) -> PayloadField {
    PayloadField { id: 101, name: name.into(), kind, required: false, doc: None, default: None, filled: false }
}

fn check(kind: PayloadType, array: ArrayRef, expected: &[Option<&str>]) {
    let payload = PayloadSchema { fields: vec![field("f", kind)], last_field_id: 101 };
    let texts = TextField::new(&payload, "f", "key").expect("has a text").texts(&[array]).expect("renders");
    assert_eq!(texts.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn the_table_of_canonical_texts_is_what_the_code_does() {
    check(PayloadType::Boolean, Arc::new(BooleanArray::from(vec![true, false])), &[Some("true"), Some("false")]);
    check(PayloadType::Int, Arc::new(Int32Array::from(vec![Some(-7), None])), &[Some("-7"), None]);
    check(PayloadType::Long, Arc::new(Int64Array::from(vec![i64::MIN])), &[Some("-9223372036854775808")]);
    let decimals = Decimal128Array::from(vec![150, -5]).with_precision_and_scale(9, 2).expect("fits");
    check(PayloadType::Decimal { precision: 9, scale: 2 }, Arc::new(decimals), &[Some("1.50"), Some("-0.05")]);
    check(PayloadType::String, Arc::new(StringArray::from(vec![Some("a:b"), None])), &[Some("a:b"), None]);
    check(PayloadType::Binary, Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])), &[Some("00ff")]);
    let id = FixedSizeBinaryArray::try_from_iter([[0xABu8; 16]].iter()).expect("one size");
    check(PayloadType::Fixed(16), Arc::new(id.clone()), &[Some("abababababababababababababababab")]);
    check(PayloadType::Uuid, Arc::new(id), &[Some("abababab-abab-abab-abab-abababababab")]);
    check(PayloadType::Date, Arc::new(Date32Array::from(vec![0, -1])), &[Some("1970-01-01"), Some("1969-12-31")]);
    let times = Time64MicrosecondArray::from(vec![18_900_000_000, 18_900_500_000, 18_900_000_001]);
    let texts = [Some("05:15:00"), Some("05:15:00.500"), Some("05:15:00.000001")];
    check(PayloadType::Time, Arc::new(times), &texts);
    let stamps = TimestampMicrosecondArray::from(vec![1_356_998_400_000_000, 1_356_998_400_000_001]);
    let texts = [Some("2013-01-01T00:00:00"), Some("2013-01-01T00:00:00.000001")];
    check(PayloadType::Timestamp, Arc::new(stamps.clone()), &texts);
    let texts = [Some("2013-01-01T00:00:00Z"), Some("2013-01-01T00:00:00.000001Z")];
    check(PayloadType::TimestampTz, Arc::new(stamps.with_timezone(crate::envelope::UTC)), &texts);
}

#[test]
fn a_member_of_a_null_struct_is_null() {
    let member = field("m", PayloadType::Int);
    let members = vec![member.arrow_field()].into();
    let payload = PayloadSchema { fields: vec![field("s", PayloadType::Struct(vec![member]))], last_field_id: 102 };
    let nulls = NullBuffer::from(vec![true, false]);
    let structs = StructArray::new(members, vec![Arc::new(Int32Array::from(vec![1, 2]))], Some(nulls));
    let texts = TextField::new(&payload, "s.m", "key").expect("resolves").texts(&[Arc::new(structs)]).expect("renders");
    assert_eq!(texts.iter().collect::<Vec<_>>(), [Some("1"), None]);
}

#[test]
fn a_field_without_a_canonical_text_is_refused_by_name() {
    let payload = PayloadSchema { fields: vec![field("price", PayloadType::Double)], last_field_id: 101 };
    let error = TextField::new(&payload, "price", "key").expect_err("floating");
    assert!(error.to_string().contains("\"price\" is a double"), "{error}");
    let error = TextField::new(&payload, "prise", "key").expect_err("unknown");
    assert!(error.to_string().contains("it has price"), "{error}");
}
