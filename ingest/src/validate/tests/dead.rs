//! Dead letters.

use arrow::datatypes::{Field, Int32Type};

use super::*;
use crate::testing::name;

fn refuse(rows: &[u64]) -> Vec<Refusal> {
    rows.iter().map(|row| Refusal { row: *row, reason: format!("reason {row}") }).collect()
}

#[test]
fn a_dead_letter_says_what_was_refused_why_and_from_whom_and_its_topic_takes_it() {
    let sent = crate::testing::order_rows([10, 20, 30]);
    let letters = validator(orders(1)).dead_letters(&sent, &refuse(&[0, 2]), Some("till 4"), "b-1").unwrap();
    let dead = validator(resolve(dead_letter_spec(&name("orders")).unwrap(), 9));
    assert_eq!(dead.shape().def().name.as_str(), "orders_dead");
    let good = dead.validate(&letters).unwrap().good.unwrap();
    assert_eq!(good.keys.iter().flatten().collect::<Vec<_>>(), ["b-1", "b-1"]);
    assert_eq!(good.paths.value(0), "orders_dead");
    let events = good.body;
    let text =
        |column: usize, row: usize| arrow::util::display::array_value_to_string(events.column(column), row).unwrap();
    let row: Vec<_> = (0..6).map(|column| text(column, 1)).collect();
    let payload = r#"{"id":"o-30","region":"r0","amount":30}"#;
    assert_eq!(row, ["orders", "2", "reason 2", payload, "till 4", "b-1"]);
}

#[test]
fn a_producer_without_a_name_leaves_it_null() {
    let sent = crate::testing::order_rows([10]);
    let letters = validator(orders(1)).dead_letters(&sent, &refuse(&[0]), None, "b-1").unwrap();
    assert!(letters.column_by_name("producer").unwrap().is_null(0));
}

#[test]
fn values_of_any_type_can_be_dead() {
    let words: DictionaryArray<Int32Type> = ["a \"quoted\"\nword", "b"].into_iter().collect();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None]);
    let mut numbered = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
    for _ in 0..2 {
        numbered.keys().append_value(1);
        numbered.values().append_value(2);
        numbered.append(true).unwrap();
    }
    let zoned = TimestampNanosecondArray::from(vec![1, i64::MAX]).with_timezone("America/New_York");
    let interval = arrow::datatypes::IntervalMonthDayNano::new(1, 2, 3);
    let point = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Float64, true)),
        Arc::new(Float64Array::from(vec![f64::NAN, 1.5])) as ArrayRef,
    )]);
    let sent = batch(vec![
        ("words", Arc::new(words) as ArrayRef),
        ("list", Arc::new(list)),
        ("map", Arc::new(numbered.finish())),
        ("zoned", Arc::new(zoned)),
        ("far", Arc::new(TimestampSecondArray::from(vec![i64::MAX, 0]))),
        ("interval", Arc::new(IntervalMonthDayNanoArray::from(vec![interval; 2]))),
        ("decimal", Arc::new(Decimal256Array::from(vec![Some(arrow::datatypes::i256::ONE), None]))),
        ("view", Arc::new(BinaryViewArray::from(vec![&b"\x01"[..], b"\xff"]))),
        ("point", Arc::new(point)),
        ("nothing", Arc::new(NullArray::new(2))),
    ]);
    let letters = validator(orders(1)).dead_letters(&sent, &refuse(&[0, 1]), None, "b").unwrap();
    let payload = letters.column_by_name("payload").unwrap().as_string::<i32>();
    let first: Value = serde_json::from_str(payload.value(0)).unwrap();
    assert_eq!(first["words"], "a \"quoted\"\nword");
    assert_eq!(first["list"], json!([1]));
    assert_eq!(first["map"], "{1: 2}");
    assert_eq!(first["zoned"], "1970-01-01T00:00:00.000000001Z");
    let second: Value = serde_json::from_str(payload.value(1)).unwrap();
    assert_eq!((&second["view"], &second["point"]["x"]), (&json!("ff"), &json!(1.5)));
}

#[test]
fn letters_that_would_not_fit_a_batch_are_refused() {
    let row = "\u{1}".repeat(4 << 20);
    let sent = batch(vec![("a", strings(&[&row, &row, &row]))]);
    let error = validator(orders(1)).dead_letters(&sent, &refuse(&[0, 1, 2]), None, "b").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("bytes of JSON"), "{error}");
}
