use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::payload::{PayloadField, PayloadType};

fn rule(template: &str, prefix_levels: usize) -> Result<PathRule, SchemaError> {
    let field = |id, name: &str| PayloadField {
        id,
        name: name.into(),
        kind: PayloadType::String,
        required: false,
        doc: None,
        default: None,
        filled: false,
    };
    let payload = PayloadSchema { fields: vec![field(101, "a"), field(102, "b")], last_field_id: 102 };
    PathRule::new(&payload, &PathTemplate::parse(template)?, prefix_levels)
}

fn columns(rows: &[(Option<&str>, Option<&str>)]) -> [ArrayRef; 2] {
    let (a, b): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
    [Arc::new(StringArray::from(a)), Arc::new(StringArray::from(b))]
}

#[test]
fn levels_are_encoded_and_empty_ones_are_dashes() {
    let rule = rule("orders/{a}/x/{b}", 2).expect("a good rule");
    let rows = [(Some("eu"), Some("new")), (None, Some("")), (Some("-"), Some("a/b*c>d!e%"))];
    let derived = rule.derive(&columns(&rows), rows.len()).expect("derives");
    let paths: Vec<_> = derived.paths.values.iter().flatten().collect();
    assert_eq!(paths, ["orders/eu/x/new", "orders/-/x/-", "orders/%2D/x/a%2Fb%2Ac%3Ed%21e%25"]);
    let prefixes: Vec<_> = derived.prefixes.iter().flatten().collect();
    assert_eq!(prefixes, ["orders/eu", "orders/-", "orders/%2D"]);
}

#[test]
fn a_prefix_that_is_the_whole_path_takes_no_bytes_of_its_own() {
    let rows = [(Some("eu"), None), (Some("a/b"), None), (None, None)];
    let derived = rule("orders/{a}", 2).expect("a good rule").derive(&columns(&rows), rows.len()).expect("derives");
    assert_eq!(derived.prefixes, derived.paths.values);
    assert_eq!(derived.prefixes.value_data().as_ptr(), derived.paths.values.value_data().as_ptr());
}

#[test]
fn a_path_that_is_too_long_refuses_its_row() {
    let long = "x".repeat(limits::PATH_BYTES_MAX);
    let rows = [(Some("ok"), None), (Some(long.as_str()), None)];
    let derived = rule("t/{a}", 1).expect("a good rule").derive(&columns(&rows), 2).expect("derives");
    assert_eq!(derived.paths.faults.iter().map(|fault| fault.row).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_template_that_cannot_be_is_refused() {
    for bad in ["", "t/", "t//x", "t/{", "t/{}", "t/a{b}", "t/*", "t/>", "t/-", "t/a%2F", "t/{a}}"] {
        assert!(PathTemplate::parse(bad).is_err(), "{bad:?} passed");
    }
    assert!(PathTemplate::parse(&vec!["t"; 17].join("/")).is_err());
    assert!(rule("t/{nope}", 1).is_err());
    assert!(rule("t/{a}", 0).is_err());
    assert!(rule("t/{a}", 3).is_err());
}

proptest! {
    #[test]
    fn a_template_survives_its_text(levels in proptest::collection::vec("[a-z]{1,4}|\\{[a-z.]{1,4}\\}", 1..8)) {
        let text = levels.join("/");
        let template = PathTemplate::parse(&text).expect("well formed");
        prop_assert_eq!(template.to_string(), text);
    }

    #[test]
    fn different_values_never_share_a_path(rows in proptest::collection::vec(("[a/%*>!-]{0,3}", "[a/%*>!-]{0,3}"), 1..40)) {
        let borrowed: Vec<_> = rows.iter().map(|(a, b)| (Some(a.as_str()), Some(b.as_str()))).collect();
        let derived = rule("t/{a}/{b}", 2).expect("good").derive(&columns(&borrowed), rows.len()).expect("derives");
        let mut seen = HashMap::new();
        for (row, path) in rows.iter().zip(derived.paths.values.iter().flatten()) {
            prop_assert_eq!(path.split('/').count(), 3);
            prop_assert_eq!(*seen.entry(path.to_owned()).or_insert(row), row);
        }
    }
}
