use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Int64Array;
use proptest::prelude::*;

use super::*;
use crate::payload::{PayloadField, PayloadType};

fn payload(kinds: &[(&str, PayloadType)]) -> PayloadSchema {
    let field = |(at, (name, kind)): (usize, &(&str, PayloadType))| PayloadField {
        id: 101 + at as i32,
        name: (*name).into(),
        kind: kind.clone(),
        required: false,
        doc: None,
        default: None,
        filled: false,
    };
    PayloadSchema { fields: kinds.iter().enumerate().map(field).collect(), last_field_id: 100 + kinds.len() as i32 }
}

fn two_strings() -> KeyRule {
    let payload = payload(&[("a", PayloadType::String), ("b", PayloadType::String)]);
    KeyRule::new(&payload, &["a".into(), "b".into()]).expect("two strings")
}

#[test]
fn one_string_field_is_shared_and_its_bad_rows_are_named() {
    let rule = KeyRule::new(&payload(&[("file", PayloadType::String)]), &["file".into()]).expect("one string");
    let long = "x".repeat(limits::KEY_BYTES_MAX + 1);
    let files: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some(&long)]));
    let derived = rule.derive(std::slice::from_ref(&files)).expect("derives");
    assert_eq!(derived.values.values().as_ptr(), files.to_data().buffers()[1].as_ptr(), "no copy");
    let faults: Vec<_> = derived.faults.iter().map(|fault| (fault.row, fault.reason.as_str())).collect();
    assert_eq!(faults[0], (1, "key field \"file\": expected a value, found null"));
    assert_eq!(faults[1], (2, "key field \"file\": expected a value, found an empty one"));
    assert_eq!(faults[2], (3, "key: expected at most 1024 bytes, found 1025"));
}

#[test]
fn several_fields_are_joined() {
    let payload = payload(&[("region", PayloadType::String), ("n", PayloadType::Long)]);
    let rule = KeyRule::new(&payload, &["region".into(), "n".into()]).expect("two fields");
    let columns: [ArrayRef; 2] =
        [Arc::new(StringArray::from(vec!["eu:west", "50%"])), Arc::new(Int64Array::from(vec![1, -2]))];
    let derived = rule.derive(&columns).expect("derives");
    assert_eq!(derived.values.iter().flatten().collect::<Vec<_>>(), ["eu%3Awest:1", "50%25:-2"]);
    assert!(derived.faults.is_empty());
}

#[test]
fn what_cannot_be_a_key_is_refused() {
    let payload = payload(&[("a", PayloadType::String), ("x", PayloadType::Float)]);
    for key in [&[][..], &["a", "a"], &["b"], &["x"], &["a.b"]] {
        let key: Vec<_> = key.iter().map(|name| (*name).to_owned()).collect();
        assert!(KeyRule::new(&payload, &key).is_err(), "{key:?} passed");
    }
}

proptest! {
    #[test]
    fn different_values_never_share_a_key(rows in proptest::collection::vec(("[ab:%]{0,4}", "[ab:%]{0,4}"), 1..40)) {
        let column = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
        let (a, b): (Vec<_>, Vec<_>) = rows.iter().map(|(a, b)| (a.as_str(), b.as_str())).unzip();
        let derived = two_strings().derive(&[column(a), column(b)]).expect("derives");
        let mut seen = HashMap::new();
        for (row, key) in rows.iter().zip(derived.values.iter()) {
            prop_assert_eq!(seen.entry(key).or_insert(row), &row);
        }
    }
}
