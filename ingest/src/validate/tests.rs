use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Int8Type};
use proptest::prelude::*;
use schemas::envelope::{HEADERS, KIND};
use schemas::{ErrorKind, limits};
use serde_json::{Value, json};

use super::*;
use crate::testing::{TestChecks, batch, orders, resolve, topic};

mod dead;
mod kinds;

fn validator(def: Arc<TopicDef>) -> Validator {
    Validator::new(def, &TestChecks).unwrap()
}

/// A topic keyed by `id`, with further fields.
fn with_fields(fields: Value) -> Validator {
    let mut all = vec![json!({"name": "id", "type": "string"})];
    all.extend(fields.as_array().unwrap().iter().cloned());
    validator(topic("things", Value::from(all), &["id"], None, 3))
}

fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Keys for so many rows.
fn ids(rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("k{row}"))))
}

fn refused(validated: &Validated) -> Vec<(u64, &str)> {
    validated.refused.iter().map(|refusal| (refusal.row, refusal.reason.as_str())).collect()
}

fn message(result: Result<Validated>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.to_string()
}

/// Where the buffers of all columns begin, nested ones too.
fn buffers(columns: &[ArrayRef]) -> Vec<*const u8> {
    fn add(data: &arrow::array::ArrayData, into: &mut Vec<*const u8>) {
        into.extend(data.buffers().iter().map(|buffer| buffer.as_ptr()));
        data.child_data().iter().for_each(|child| add(child, into));
    }
    let mut found = Vec::new();
    columns.iter().for_each(|column| add(&column.to_data(), &mut found));
    found
}

fn tags(rows: usize) -> ArrayRef {
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in 0..rows {
        tags.values().append_value(format!("tag {row}"));
        tags.append(true);
    }
    Arc::new(tags.finish())
}

#[test]
fn columns_that_fit_are_shared_and_not_copied() {
    let things = with_fields(json!([
        {"name": "n", "type": "long"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ]));
    let at = TimestampMicrosecondArray::from_iter_values(0..100).with_timezone("UTC");
    let n = Arc::new(Int64Array::from_iter_values(0..100));
    let sent = batch(vec![("id", ids(100)), ("n", n), ("tags", tags(100)), ("at", Arc::new(at))]);
    let good = things.validate(&sent).unwrap().good.unwrap();
    assert_eq!(buffers(good.body.columns()), buffers(sent.columns()));
    assert_eq!(good.keys.value_data().as_ptr(), sent.column(0).as_string::<i32>().value_data().as_ptr());
}

#[test]
fn columns_are_matched_by_name_in_any_order() {
    let sent = batch(vec![
        ("amount", Arc::new(Int64Array::from(vec![5])) as ArrayRef),
        ("region", strings(&["eu"])),
        ("id", strings(&["o-1"])),
    ]);
    let good = validator(orders(1)).validate(&sent).unwrap().good.unwrap();
    assert_eq!((good.keys.value(0), good.paths.value(0)), ("o-1", "orders/eu"));
    assert_eq!(good.body.column(2).as_primitive::<arrow::datatypes::Int32Type>().value(0), 5);
}

#[test]
fn a_batch_whose_columns_cannot_be_the_topics_is_refused_by_name() {
    let orders = validator(orders(1));
    let amount = || Arc::new(Int32Array::from(vec![5])) as ArrayRef;
    let check = |columns: Vec<(&str, ArrayRef)>, expected: &str| {
        let found = message(orders.validate(&batch(columns)));
        assert!(found.contains(expected), "expected {expected:?} in {found:?}");
    };
    let id = || ("id", strings(&["o"]));
    let region = || ("region", strings(&["eu"]));
    check(
        vec![id(), region(), ("amount", amount()), ("colour", amount())],
        "column colour: the topic has no such column",
    );
    check(vec![id(), ("amount", amount())], "column region: expected string, found no such column");
    check(
        vec![id(), region(), ("amount", Arc::new(BooleanArray::from(vec![true])))],
        "column amount: expected int, found Arrow type Boolean",
    );
    check(vec![id(), region(), ("amount", amount()), ("amount", amount())], "column amount: stands twice");
    check(
        vec![id(), region(), ("amount", amount()), ("_seq", amount())],
        "column _seq: names that begin with _ belong to Firn",
    );
}

#[test]
fn left_out_columns_get_their_default_or_null() {
    let fields = json!([
        {"name": "id", "type": "string"},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "state", "type": "string", "default": "new"},
        {"name": "where", "type": {"type": "record", "name": "W", "fields": [{"name": "x", "type": "int", "default": 3}]}, "default": {}},
        {"name": "tags", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
        {"name": "more", "type": {"type": "map", "values": "long"}, "default": {"a": 1}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "raw", "type": {"type": "fixed", "name": "F", "size": 2}, "default": "\u{0000}\u{00ff}"},
    ]);
    let mut def = (*topic("things", fields, &["id"], None, 3)).clone();
    // Two's complement of -123.
    def.payload.fields[6].default = Some(json!("\u{00ff}\u{0085}"));
    let things = validator(Arc::new(def));
    let good = things.validate(&batch(vec![("id", ids(2))])).unwrap().good.unwrap();
    let shown = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, 1).unwrap();
    let row: Vec<_> = good.body.columns().iter().map(shown).collect();
    assert_eq!(row, ["k1", "", "new", "{x: 3}", "[1, 2]", "{a: 1}", "-1.23", "00ff"]);
}

#[test]
fn a_null_in_a_required_column_gets_the_default_or_refuses_its_row() {
    let things = with_fields(json!([{"name": "a", "type": "int", "default": 7}, {"name": "b", "type": "int"}]));
    let a: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None]));
    let b: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
    let validated = things.validate(&batch(vec![("id", ids(3)), ("a", a), ("b", b)])).unwrap();
    assert_eq!(refused(&validated), [(2, "column b: expected int, found null")]);
    let good = validated.good.unwrap();
    assert_eq!(good.body.column(1).as_primitive::<arrow::datatypes::Int32Type>().values(), &[1, 7]);
}

#[test]
fn a_default_that_does_not_fit_its_field_is_found_when_the_topic_is_made() {
    let fields = json!([{"name": "id", "type": "string"}, {"name": "n", "type": "int", "default": 3}]);
    let mut def = (*topic("things", fields, &["id"], None, 3)).clone();
    def.payload.fields[1].default = Some(json!("three"));
    let error = Validator::new(Arc::new(def), &TestChecks).unwrap_err().to_string();
    assert!(error.contains("\"n\"") && error.contains("expected int, found \"three\""), "{error}");
}

#[test]
fn every_bad_row_is_refused_with_its_own_reason_and_number() {
    let long = "x".repeat(limits::KEY_BYTES_MAX + 1);
    let id: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some(&long), Some("b"), Some("c")]));
    let path = "y".repeat(limits::PATH_BYTES_MAX);
    let region = strings(&["eu", "eu", "eu", "eu", "eu", &path]);
    let amount: ArrayRef = strings(&["1", "2", "3", "4", "many", "6"]);
    let validated =
        validator(orders(1)).validate(&batch(vec![("id", id), ("region", region), ("amount", amount)])).unwrap();
    let reasons = refused(&validated);
    assert_eq!(reasons.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(reasons[0].1, "column id: expected string, found null");
    assert!(reasons[1].1.contains("empty"), "{reasons:?}");
    assert!(reasons[2].1.contains("at most 1024 bytes, found 1025"), "{reasons:?}");
    assert_eq!(reasons[3].1, "column amount: expected int, found \"many\"");
    assert!(reasons[4].1.contains("path"), "{reasons:?}");
    assert_eq!(validated.good.unwrap().keys.value(0), "a");
}

#[test]
fn a_check_refuses_the_rows_that_make_it_false_and_those_it_cannot_be_asked_about() {
    let mut def = (*orders(1)).clone();
    def.checks = vec!["amount > 0".into(), "1 / amount > 0".into()];
    let orders = validator(Arc::new(def));
    let validated = orders.validate(&crate::testing::order_rows([3, -1, 4, 0, 5])).unwrap();
    assert_eq!(refused(&validated).iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(validated.refused[0].reason, "check \"amount > 0\" is false");
    assert_eq!(validated.good.unwrap().len(), 3);
    let mut def = (*crate::testing::orders(1)).clone();
    def.checks = vec!["1 / amount > 0".into()];
    let validated = validator(Arc::new(def)).validate(&crate::testing::order_rows([3, 0, 4, 0, -5])).unwrap();
    assert_eq!(refused(&validated).iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3, 4]);
    assert!(validated.refused[0].reason.contains("cannot be answered: batch: division by zero"));
}

#[test]
fn kinds_and_headers_are_taken_checked_and_left_out_when_they_say_nothing() {
    let orders = validator(orders(1));
    let with = |kind: ArrayRef, headers: ArrayRef| {
        let mut columns = vec![(HEADERS, headers), (KIND, kind)];
        let rows = crate::testing::order_rows(0..3);
        columns.extend(["id", "region", "amount"].into_iter().zip(rows.columns().iter().cloned()));
        orders.validate(&batch(columns)).unwrap()
    };
    let headers = |counts: [Option<usize>; 3]| {
        let mut headers = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for count in counts {
            for at in 0..count.unwrap_or(0) {
                headers.keys().append_value(format!("h{at}"));
                headers.values().append_value("v");
            }
            headers.append(count.is_some()).unwrap();
        }
        Arc::new(headers.finish()) as ArrayRef
    };
    let nothing = with(Arc::new(Int8Array::from(vec![Some(0), None, Some(0)])), headers([None; 3])).good.unwrap();
    assert_eq!(nothing.body.num_columns(), 3);

    let something = with(Arc::new(Int64Array::from(vec![0, 2, 1])), headers([None, Some(2), Some(0)])).good.unwrap();
    assert_eq!(something.body.schema_ref(), orders.shape().body_schema(true, true));
    let events = something.seal(schemas::Seq::FIRST, 0);
    assert_eq!(events.column(5).as_primitive::<Int8Type>().values(), &[0, 2, 1]);
    assert_eq!(events.column(6).as_map().value_length(1), 2);

    let many = limits::HEADERS_MAX + 1;
    let bad = with(Arc::new(Int16Array::from(vec![0, 3, 0])), headers([Some(many), None, None]));
    assert_eq!(
        refused(&bad),
        [
            (0, "column _headers: expected at most 64 entries, found 65"),
            (1, "column _kind: expected 0, 1 or 2, found 3")
        ]
    );
}

#[test]
fn a_row_that_is_wrong_in_two_ways_hides_no_other() {
    let rows = crate::testing::order_rows(0..4);
    let mut columns: Vec<_> = ["id", "region"].into_iter().zip(rows.columns().iter().cloned()).collect();
    columns.push((KIND, strings(&["0", "x", "9", "2"])));
    columns.push(("amount", strings(&["1", "y", "3", "4"])));
    let validated = validator(orders(1)).validate(&batch(columns)).unwrap();
    let expected = [(1, "column _kind: expected int, found \"x\""), (2, "column _kind: expected 0, 1 or 2, found 9")];
    assert_eq!(refused(&validated), expected);
    assert_eq!(validated.good.unwrap().len(), 2);
}

#[test]
fn a_batch_over_a_limit_is_refused_whole() {
    let rows = limits::BATCH_ROWS_MAX + 1;
    let null = || new_null_array(&DataType::Null, rows);
    let error =
        message(validator(orders(1)).validate(&batch(vec![("id", null()), ("region", null()), ("amount", null())])));
    assert!(error.contains("at most 1048576 rows, found 1048577"), "{error}");

    let wide = Value::from_iter(
        (0..200).map(|at| json!({"name": format!("c{at}"), "type": ["null", "long"], "default": null})),
    );
    let error = message(with_fields(wide).validate(&batch(vec![("id", ids(100_000))])));
    assert!(error.contains("bytes with every column in the topic's type"), "a batch that grows: {error}");
}

#[test]
fn an_event_over_its_limit_is_refused_alone() {
    let large = "x".repeat(limits::EVENT_BYTES_MAX);
    let sent = batch(vec![
        ("id", strings(&["a", "b", "c"])),
        ("region", strings(&["eu", &large, "eu"])),
        ("amount", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ]);
    let validated = validator(orders(1)).validate(&sent).unwrap();
    assert!(refused(&validated)[0].1.starts_with("event: expected at most 8388608 bytes"));
    assert_eq!(validated.good.unwrap().len(), 2);
}

#[test]
fn a_batch_without_good_rows_or_without_rows_is_no_error() {
    let orders = validator(orders(1));
    let none = orders.validate(&crate::testing::order_rows([])).unwrap();
    assert!(none.good.is_none() && none.refused.is_empty());
    let bad = batch(vec![("id", strings(&[""])), ("region", strings(&["eu"])), ("amount", strings(&["1"]))]);
    let bad = orders.validate(&bad).unwrap();
    assert!(bad.good.is_none() && bad.refused.len() == 1);
}

#[test]
fn a_small_piece_of_a_large_batch_does_not_keep_it_in_memory() {
    let large = crate::testing::order_rows(0..200_000);
    let good = validator(orders(1)).validate(&large.slice(1_000, 10)).unwrap().good.unwrap();
    assert!(good.bytes() < 16 << 10, "{} bytes for ten events", good.bytes());
    assert_eq!(good.keys.value(0), "o-1000");
}

/// Decodes a stream whose bytes are `spoil`ed after it was written.
fn decode_spoiled(sent: &RecordBatch, spoil: impl Fn(&mut Vec<u8>)) -> bool {
    let mut bytes = Vec::new();
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut bytes, sent.schema_ref()).unwrap();
    writer.write(sent).unwrap();
    writer.finish().unwrap();
    drop(writer);
    spoil(&mut bytes);
    let reader = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(bytes), None);
    reader.is_ok_and(|mut reader| matches!(reader.next(), Some(Ok(_))))
}

#[test]
fn arrays_that_are_not_well_formed_do_not_get_past_the_decoder() {
    let sent = batch(vec![("a", strings(&["needle", "in", "hay"]))]);
    assert!(decode_spoiled(&sent, |_| {}));
    let at = |bytes: &[u8], pattern: &[u8]| bytes.windows(pattern.len()).position(|part| part == pattern).unwrap();
    assert!(!decode_spoiled(&sent, |bytes| {
        let needle = at(bytes, b"needle");
        bytes[needle] = 0xff;
    }));
    let offsets: Vec<u8> = [0i32, 6, 8, 11].iter().flat_map(|offset| offset.to_le_bytes()).collect();
    assert!(!decode_spoiled(&sent, |bytes| {
        let offsets = at(bytes, &offsets);
        bytes[offsets + 4] = 200;
    }));
    let keys = Int8Array::from(vec![77, 0, 1]);
    let dictionary =
        DictionaryArray::<Int8Type>::try_new(Int8Array::from(vec![1, 0, 1]), strings(&["x", "y"])).unwrap();
    let dictionary = batch(vec![("a", Arc::new(dictionary))]);
    assert!(decode_spoiled(&dictionary, |_| {}));
    assert!(!decode_spoiled(&dictionary, |bytes| {
        let last = bytes.windows(8).rposition(|part| part == [1, 0, 1, 0, 0, 0, 0, 0]).unwrap();
        bytes[last] = keys.value(0) as u8;
    }));
}

fn amount() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        4 => any::<i32>().prop_map(|n| Some(n.to_string())),
        1 => any::<i64>().prop_map(|n| Some(n.to_string())),
        1 => "[a-z ]{0,4}".prop_map(Some),
        1 => Just(None),
    ]
}

proptest! {
    #[test]
    fn every_row_is_either_good_in_its_order_or_refused_by_its_number(
        rows in prop::collection::vec((prop::option::of("[a-c%:/]{0,3}"), amount()), 0..50),
    ) {
        let id: ArrayRef = Arc::new(rows.iter().map(|(id, _)| id.clone()).collect::<StringArray>());
        let amount: ArrayRef = Arc::new(rows.iter().map(|(_, amount)| amount.clone()).collect::<StringArray>());
        let region: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "eu")));
        let sent = batch(vec![("region", region), ("id", id), ("amount", amount)]);
        let validated = validator(orders(1)).validate(&sent).unwrap();
        let fits = |(id, amount): &(Option<String>, Option<String>)| {
            let amount = amount.as_ref()?.parse::<i32>().ok()?;
            Some((id.clone().filter(|id| !id.is_empty())?, amount))
        };
        let expected: Vec<_> = rows.iter().filter_map(fits).collect();
        let bad: Vec<_> = (0..).zip(&rows).filter(|(_, row)| fits(row).is_none()).map(|(at, _)| at).collect();
        prop_assert_eq!(validated.refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>(), bad);
        let good = match &validated.good {
            None => Vec::new(),
            Some(good) => {
                let amounts = good.body.column(2).as_primitive::<arrow::datatypes::Int32Type>().values().iter();
                good.keys.iter().flatten().map(str::to_owned).zip(amounts.copied()).collect()
            }
        };
        prop_assert_eq!(good, expected);
    }
}
