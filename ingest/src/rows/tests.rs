use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use super::*;
use crate::testing::{orders, valid_orders};

#[test]
fn sealed_rows_are_events_of_the_topic() {
    let def = orders(7);
    let rows = valid_orders(&def, 0..5);
    let events = rows.seal(Seq(100), 17);
    assert_eq!(events.schema(), def.event_schema());
    let seqs = events.column(column::SEQ).as_primitive::<Int64Type>();
    assert_eq!(seqs.values(), &[100, 101, 102, 103, 104]);
    let times = events.column(column::TIME).as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values(), &[17; 5]);
    let texts = |at: usize| -> Vec<_> { events.column(at).as_string::<i32>().iter().flatten().collect() };
    assert_eq!(texts(column::KEY), ["o-0", "o-1", "o-2", "o-3", "o-4"]);
    assert_eq!(texts(column::PATH), ["orders/r0", "orders/r1", "orders/r2", "orders/r0", "orders/r1"]);
    assert_eq!(texts(column::PREFIX), texts(column::PATH));
    assert_eq!(events.column(column::KIND).as_primitive::<arrow::datatypes::Int8Type>().values(), &[0; 5]);
    assert_eq!(events.column(column::HEADERS).null_count(), 5);
}

#[test]
fn a_key_that_is_one_string_column_is_held_once() {
    let rows = valid_orders(&orders(7), 0..1_000);
    let column = rows.body.column(0).as_string::<i32>();
    assert_eq!(column.value_data().as_ptr(), rows.keys.value_data().as_ptr());
    let events = rows.clone().seal(Seq::FIRST, 0);
    assert_eq!(events.column(column::KEY).as_string::<i32>().value_data().as_ptr(), column.value_data().as_ptr());
    let [estimate, held] = [rows.bytes(), Held::of(events.columns())];
    assert!(estimate.abs_diff(held) < held / 4, "estimated {estimate}, held {held}");
}

#[test]
fn what_is_derived_again_from_the_body_is_the_same() {
    let rows = valid_orders(&orders(7), 0..10);
    let again = ValidRows::derive(&rows.shape, rows.body.clone()).unwrap();
    assert_eq!(again.seal(Seq::FIRST, 5), rows.seal(Seq::FIRST, 5));
}

#[test]
fn prefixes_that_are_not_admitted_share_the_topics_name() {
    let mut rows = valid_orders(&orders(7), 0..4);
    assert_eq!(rows.distinct_prefixes, ["orders/r0", "orders/r1", "orders/r2"]);
    rows.share_prefixes(&|prefix| prefix == "orders/r1", "orders");
    assert_eq!(rows.prefixes.iter().flatten().collect::<Vec<_>>(), ["orders", "orders/r1", "orders", "orders"]);
    assert_eq!(rows.distinct_prefixes, ["orders", "orders/r1"]);
    assert_eq!(rows.paths.value(0), "orders/r0", "the path stays what it is");
}

#[test]
fn distinct_values_are_found_once_each_however_they_take_turns() {
    let values = StringArray::from_iter_values((0..3_000).map(|row| format!("p{}", row * 7 % 300)));
    let expected: Vec<_> = (0..300).map(|row| format!("p{}", row * 7 % 300)).collect();
    assert_eq!(distinct(&values), expected);
}

#[test]
fn a_body_of_another_topic_is_refused() {
    let rows = valid_orders(&orders(7), 0..4);
    let narrow = rows.body.project(&[0, 1]).unwrap();
    assert!(ValidRows::derive(&rows.shape, narrow).unwrap_err().to_string().contains("3 payload columns"));
}
