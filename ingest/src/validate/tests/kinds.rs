//! Which Arrow types and values become which payload type.

use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Field, Fields, Int32Type, TimeUnit};
use schemas::topic::Nanos;

use super::*;

/// Validates one column of this Avro type and gives its values as text, `!` for a refused row, or the batch's error.
fn taken(avro: Value, column: ArrayRef) -> Result<Vec<String>, String> {
    taken_with(avro, Nanos::Refuse, column)
}

fn taken_with(avro: Value, nanos: Nanos, column: ArrayRef) -> Result<Vec<String>, String> {
    let spec = serde_json::from_value(json!({
        "name": "things",
        "schema": {"type": "record", "name": "Event", "fields": [{"name": "id", "type": "string"}, {"name": "v", "type": ["null", avro]}]},
        "key": ["id"],
        "nanos": nanos,
    }));
    let things = validator(resolve(spec.unwrap(), 3));
    let rows = column.len();
    let validated =
        things.validate(&batch(vec![("id", ids(rows)), ("v", column)])).map_err(|error| error.to_string())?;
    let mut texts = vec!["!".to_owned(); rows];
    if let Some(good) = validated.good {
        assert_eq!(good.body.schema_ref(), things.shape().body_schema(false, false));
        for row in 0..good.len() {
            let at: usize = good.keys.value(row)[1..].parse().unwrap();
            texts[at] = arrow::util::display::array_value_to_string(good.body.column(1), row).unwrap();
        }
    }
    assert_eq!(validated.refused.len(), texts.iter().filter(|text| *text == "!").count());
    Ok(texts)
}

fn check(avro: Value, column: impl Array + 'static, expected: &[&str]) {
    let found = taken(avro.clone(), Arc::new(column));
    assert_eq!(found, Ok(expected.iter().map(|text| (*text).to_owned()).collect()), "{avro}");
}

fn check_type_refused(avro: Value, column: impl Array + 'static) {
    let kind = column.data_type().clone();
    let found = taken(avro.clone(), Arc::new(column));
    assert!(found.as_ref().is_err_and(|error| error.contains("column v: expected")), "{avro} from {kind}: {found:?}");
}

fn decimal(precision: u8, scale: u8) -> Value {
    json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
}

fn logical(base: &str, logical: &str) -> Value {
    json!({"type": base, "logicalType": logical})
}

#[test]
fn integers_widen_and_narrow_within_their_range() {
    check(json!("int"), Int64Array::from(vec![1, i64::MAX, -5]), &["1", "!", "-5"]);
    check(json!("int"), UInt32Array::from(vec![1, u32::MAX]), &["1", "!"]);
    check(json!("long"), UInt64Array::from(vec![1, u64::MAX]), &["1", "!"]);
    check(json!("long"), Int8Array::from(vec![Some(-1), None]), &["-1", ""]);
    check(
        json!("long"),
        StringArray::from(vec!["12", "1.5", "", "-9223372036854775808"]),
        &["12", "!", "!", "-9223372036854775808"],
    );
    check(json!("int"), Float64Array::from(vec![3.0, 3.5, f64::NAN, 1e10]), &["3", "!", "!", "!"]);
    check_type_refused(json!("int"), BooleanArray::from(vec![true]));
    check_type_refused(json!("long"), TimestampSecondArray::from(vec![1]));
}

#[test]
fn floats_take_what_they_can_hold() {
    check(json!("double"), Float64Array::from(vec![f64::NAN, f64::INFINITY, 0.1]), &["NaN", "inf", "0.1"]);
    check(json!("float"), Float64Array::from(vec![0.1, 1e300, f64::NEG_INFINITY]), &["0.1", "!", "-inf"]);
    check(json!("double"), Int64Array::from(vec![1 << 53, (1 << 53) + 1]), &["9007199254740992.0", "!"]);
    check(json!("double"), StringArray::from(vec!["1e3", "x"]), &["1000.0", "!"]);
    check(json!("boolean"), StringArray::from(vec!["true", "false", "maybe"]), &["true", "false", "!"]);
}

#[test]
fn decimals_fit_exactly_or_are_refused() {
    check(decimal(5, 2), StringArray::from(vec!["123.45", "1.234", "1234.5", "-0.5"]), &["123.45", "!", "!", "-0.50"]);
    check(decimal(5, 2), Float64Array::from(vec![0.1, 0.123, 12.35]), &["0.10", "!", "12.35"]);
    check(decimal(5, 2), Int64Array::from(vec![7, 1000]), &["7.00", "!"]);
    let wide = Decimal128Array::from(vec![12_300, 12_345]).with_precision_and_scale(20, 4).unwrap();
    check(decimal(5, 2), wide, &["1.23", "!"]);
    let huge =
        Decimal256Array::from(vec![Some(arrow::datatypes::i256::from_i128(5)), Some(arrow::datatypes::i256::MAX)]);
    check(decimal(5, 2), huge.with_precision_and_scale(76, 0).unwrap(), &["5.00", "!"]);
    // The type states five digits; the value has six.
    let lying = Decimal128Array::from(vec![12_345, 999_999]).with_data_type(DataType::Decimal128(5, 2));
    check(decimal(5, 2), lying, &["123.45", "!"]);
}

#[test]
fn dates_times_and_timestamps_arrive_as_text_or_in_other_units() {
    check(
        logical("int", "date"),
        StringArray::from(vec!["2013-01-01", "2013-02-30", "2013-01-01T05:00:00"]),
        &["2013-01-01", "!", "!"],
    );
    check(logical("int", "date"), Date64Array::from(vec![86_400_000, 86_400_001]), &["1970-01-02", "!"]);
    check(
        logical("int", "time-millis"),
        StringArray::from(vec!["05:15:00", "05:15:00.0000001", "25:00:00", "123"]),
        &["05:15:00", "!", "!", "!"],
    );
    check(logical("long", "time-micros"), Time32SecondArray::from(vec![60]), &["00:01:00"]);
    let outside = Time64MicrosecondArray::from(vec![-1, 86_399_999_999, 86_400_000_000]);
    check(logical("long", "time-micros"), outside, &["!", "23:59:59.999999", "!"]);
    let instant = || logical("long", "timestamp-millis");
    let wall = || logical("long", "local-timestamp-micros");
    check(instant(), StringArray::from(vec!["2011-08-01T23:41:24Z", "soon"]), &["2011-08-01T23:41:24Z", "!"]);
    check(
        wall(),
        StringArray::from(vec!["2013-01-01T05:15:00", "2013-01-01T05:15:00Z"]),
        &["2013-01-01T05:15:00", "!"],
    );
    check(instant(), TimestampSecondArray::from(vec![0, i64::MAX]), &["1970-01-01T00:00:00Z", "!"]);
    let new_york = TimestampMillisecondArray::from(vec![1_500]).with_timezone("America/New_York");
    check(instant(), new_york.clone(), &["1970-01-01T00:00:01.500Z"]);
    check_type_refused(wall(), new_york);
    check_type_refused(instant(), Int64Array::from(vec![0]));
    check_type_refused(instant(), Date32Array::from(vec![0]));
}

#[test]
fn nanoseconds_follow_the_topics_rule() {
    let column = || Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001, -1])) as ArrayRef;
    let instant = || logical("long", "timestamp-micros");
    let refuse = taken_with(instant(), Nanos::Refuse, column()).unwrap();
    assert_eq!(refuse, ["1970-01-01T00:00:00.000001Z", "!", "!"]);
    let truncate = taken_with(instant(), Nanos::Truncate, column()).unwrap();
    assert_eq!(truncate, ["1970-01-01T00:00:00.000001Z", "1970-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"]);
}

#[test]
fn text_and_bytes_arrive_in_every_layout_but_are_not_mixed_up() {
    let words = ["one", "two"];
    check(json!("string"), LargeStringArray::from(words.to_vec()), &words);
    check(json!("string"), StringViewArray::from(words.to_vec()), &words);
    check(json!("string"), words.into_iter().collect::<DictionaryArray<Int32Type>>(), &words);
    check(json!("bytes"), BinaryViewArray::from(vec![&b"\x01\xff"[..]]), &["01ff"]);
    check(json!("bytes"), LargeBinaryArray::from(vec![&b"\x01\xff"[..]]), &["01ff"]);
    let fixed = json!({"type": "fixed", "name": "F", "size": 2});
    check(fixed.clone(), BinaryArray::from(vec![&b"ab"[..], b"abc"]), &["6162", "!"]);
    check_type_refused(fixed, StringArray::from(vec!["ab"]));
    check_type_refused(json!("bytes"), StringArray::from(vec!["ab"]));
    check_type_refused(json!("string"), Int32Array::from(vec![1]));
    check_type_refused(json!("string"), BinaryArray::from(vec![&b"ab"[..]]));
    let uuid = "0192f0e1-2c3d-7e4f-8a5b-6c7d8e9f0a1b";
    let hex = uuid.replace('-', "");
    check(logical("string", "uuid"), StringArray::from(vec![uuid, &hex, "x"]), &[&hex, &hex, "!"]);
    let colour = json!({"type": "enum", "name": "C", "symbols": ["RED", "BLUE"]});
    check(colour, StringArray::from(vec![Some("RED"), Some("red"), None]), &["RED", "!", ""]);
    check(json!("double"), NullArray::new(2), &["", ""]);
}

#[test]
fn types_that_no_topic_has_are_refused_by_name() {
    let interval = IntervalDayTimeArray::from(vec![arrow::datatypes::IntervalDayTime::new(1, 1)]);
    check_type_refused(json!("long"), interval);
    let lists = ListViewArray::from(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
    assert!(taken(json!({"type": "array", "items": "int"}), Arc::new(lists)).unwrap_err().contains("ListView"));
}

#[test]
fn lists_and_maps_arrive_in_every_layout_and_are_checked_inside() {
    let array = |items: Value| json!({"type": "array", "items": items});
    let numbers = || [Some(vec![Some(1i64), Some(2)]), None, Some(vec![]), Some(vec![Some(1 << 40)])];
    let list = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(numbers());
    check(array(json!("int")), list, &["[1, 2]", "", "[]", "!"]);
    let large = LargeListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(numbers());
    check(array(json!("int")), large.clone(), &["[1, 2]", "", "[]", "!"]);
    check(array(json!("int")), large.slice(1, 2), &["", "[]"]);
    let pairs = [Some(vec![Some(1), Some(2)]), None, Some(vec![Some(3), None])];
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(pairs, 2);
    check(array(json!("int")), fixed.clone(), &["[1, 2]", "", "!"]);
    check(array(json!(["null", "int"])), fixed, &["[1, 2]", "", "[3, ]"]);

    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for value in [Some(1), None] {
        map.keys().append_value("a");
        map.values().append_option(value);
        map.append(true).unwrap();
    }
    check(json!({"type": "map", "values": "int"}), map.finish(), &["{a: 1}", "!"]);
}

fn point(x: Vec<Option<i32>>, nulls: Option<NullBuffer>) -> StructArray {
    let fields = Fields::from(vec![Field::new("x", DataType::Int32, true)]);
    StructArray::new(fields, vec![Arc::new(Int32Array::from(x))], nulls)
}

fn record(members: Value) -> Value {
    json!({"type": "record", "name": "P", "fields": members})
}

#[test]
fn a_required_member_is_missed_only_where_its_record_is_there() {
    let members = json!([{"name": "x", "type": "int"}]);
    let visible = point(vec![Some(1), None], None);
    check(record(members.clone()), visible, &["{x: 1}", "!"]);
    let hidden = point(vec![Some(1), None], Some(NullBuffer::from(vec![true, false])));
    check(record(members.clone()), hidden, &["{x: 1}", ""]);
    // A list that is null but points at an element without a value.
    let elements: ArrayRef = Arc::new(point(vec![Some(1), None, Some(3)], None));
    let field = Arc::new(Field::new("item", elements.data_type().clone(), true));
    let offsets = OffsetBuffer::new(vec![0, 1, 2, 3].into());
    let list = ListArray::new(field, offsets, elements, Some(NullBuffer::from(vec![true, false, true])));
    check(json!({"type": "array", "items": record(members)}), list, &["[{x: 1}]", "", "[{x: 3}]"]);
}

#[test]
fn members_are_matched_by_name_and_filled_in() {
    let members = json!([{"name": "y", "type": ["null", "string"], "default": null}, {"name": "x", "type": "long"}]);
    check(record(members), point(vec![Some(1)], None), &["{y: , x: 1}"]);
    let error = taken(
        record(json!([{"name": "z", "type": ["null", "int"], "default": null}])),
        Arc::new(point(vec![Some(1)], None)),
    );
    assert!(error.unwrap_err().contains("column v.x: the topic has no such column; it has z"));
    let error = taken(
        record(json!([{"name": "x", "type": "int"}, {"name": "z", "type": "int"}])),
        Arc::new(point(vec![Some(1)], None)),
    );
    assert!(error.unwrap_err().contains("column v.z: expected int, found no such column"));
}

#[test]
fn a_reason_names_the_nested_column_and_shows_the_value_briefly() {
    let colour = json!({"type": "enum", "name": "C", "symbols": ["RED"]});
    let things = with_fields(json!([{"name": "tags", "type": {"type": "array", "items": colour}}]));
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("RED")]);
    tags.append_value([Some("RED"), Some("x".repeat(100).as_str())]);
    let validated = things.validate(&batch(vec![("id", ids(2)), ("tags", Arc::new(tags.finish()))])).unwrap();
    let expected = format!("column tags.element: expected one of RED, found \"{}…\"", "x".repeat(64));
    assert_eq!(refused(&validated), [(1, expected.as_str())]);
}

#[test]
fn a_time_zone_is_only_a_label() {
    let column = TimestampMicrosecondArray::from(vec![5]).with_timezone("+05:30");
    let kind = column.data_type().clone();
    assert_eq!(kind, DataType::Timestamp(TimeUnit::Microsecond, Some("+05:30".into())));
    check(logical("long", "timestamp-micros"), column, &["1970-01-01T00:00:00.000005Z"]);
}
