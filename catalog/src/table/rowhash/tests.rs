use std::sync::Arc;

use arrow::array::{
    Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapBuilder, StringArray, StringBuilder, StructArray,
    UInt32Array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::Schema;
use proptest::prelude::*;
use schemas::envelope::{LIST_ELEMENT, MAP_KEY, MAP_VALUE, field, map_type};

use super::*;

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns fit their fields")
}

fn longs(id: i32, values: impl IntoIterator<Item = Option<i64>>) -> (Field, ArrayRef) {
    (field(id, "n", DataType::Int64, true), Arc::new(Int64Array::from_iter(values)))
}

fn texts(id: i32, values: &[Option<&str>]) -> (Field, ArrayRef) {
    (field(id, "s", DataType::Utf8, true), Arc::new(StringArray::from(values.to_vec())))
}

fn hash(columns: Vec<(Field, ArrayRef)>) -> RowHash {
    RowHash::of(&batch(columns)).expect("every type has a hash")
}

#[test]
fn the_format_never_changes() {
    let columns = vec![longs(101, [Some(1), None]), texts(102, &[Some("a"), Some("")])];
    assert_eq!(hash(columns).to_string(), GOLDEN);
}

const GOLDEN: &str = "c1ab582e623c73e1b083110f88958a90";

#[test]
fn column_order_and_null_columns_do_not_matter() {
    let expected = hash(vec![longs(1, [Some(7)]), texts(2, &[Some("x")])]);
    assert_eq!(hash(vec![texts(2, &[Some("x")]), longs(1, [Some(7)])]), expected);
    assert_eq!(hash(vec![texts(2, &[Some("x")]), longs(1, [Some(7)]), longs(3, [None])]), expected);
    assert_ne!(hash(vec![texts(1, &[Some("x")]), longs(2, [Some(7)])]), expected, "fields count");
}

#[test]
fn a_value_widened_is_the_same_value() {
    let narrow: (Field, ArrayRef) = (field(1, "n", DataType::Int32, true), Arc::new(Int32Array::from(vec![-5, 6])));
    assert_eq!(hash(vec![narrow]), hash(vec![longs(1, [Some(-5), Some(6)])]));
    let single: (Field, ArrayRef) =
        (field(1, "x", DataType::Float32, true), Arc::new(Float32Array::from(vec![1.5, -f32::NAN])));
    let double: (Field, ArrayRef) =
        (field(1, "x", DataType::Float64, true), Arc::new(Float64Array::from(vec![1.5, f64::NAN])));
    assert_eq!(hash(vec![single]), hash(vec![double]));
}

#[test]
fn values_do_not_move_between_rows_unseen() {
    let straight = hash(vec![longs(1, [Some(1), Some(2)]), longs(2, [Some(3), Some(4)])]);
    let crossed = hash(vec![longs(1, [Some(1), Some(2)]), longs(2, [Some(4), Some(3)])]);
    assert_ne!(straight, crossed);
}

#[test]
fn nested_values_count_by_shape_and_content() {
    let list = |rows: Vec<Option<Vec<Option<i32>>>>| -> (Field, ArrayRef) {
        let element = Arc::new(field(5, LIST_ELEMENT, DataType::Int32, true));
        let plain = ListArray::from_iter_primitive::<Int32Type, _, _>(rows);
        let (_, offsets, values, nulls) = plain.into_parts();
        let list = ListArray::new(Arc::clone(&element), offsets, values, nulls);
        (field(4, "l", DataType::List(element), true), Arc::new(list))
    };
    let shapes = [
        list(vec![None]),
        list(vec![Some(vec![])]),
        list(vec![Some(vec![None])]),
        list(vec![Some(vec![Some(1), Some(2)])]),
        list(vec![Some(vec![Some(2), Some(1)])]),
    ];
    let hashes: Vec<_> = shapes.into_iter().map(|shape| hash(vec![shape])).collect();
    for (index, one) in hashes.iter().enumerate() {
        assert!(hashes[index + 1..].iter().all(|other| one != other), "shape {index} looks like another");
    }

    let record = |value: Option<i64>, valid: bool| -> (Field, ArrayRef) {
        let member = longs(8, [value]);
        let members = Fields::from(vec![member.0]);
        let nulls = (!valid).then(|| vec![false].into());
        let values = StructArray::new(members.clone(), vec![member.1], nulls);
        (field(7, "r", DataType::Struct(members), true), Arc::new(values))
    };
    assert_ne!(hash(vec![record(None, true)]), hash(vec![record(None, false)]));
    assert_eq!(hash(vec![record(Some(1), false)]), hash(vec![record(None, false)]), "what a null hides does not count");
}

#[test]
fn the_order_of_a_maps_entries_does_not_matter_and_slices_are_seen_right() {
    let map = |rows: &[&[(&str, &str)]]| -> (Field, ArrayRef) {
        let names = arrow::array::MapFieldNames {
            entry: schemas::envelope::MAP_ENTRIES.into(),
            key: MAP_KEY.into(),
            value: MAP_VALUE.into(),
        };
        let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
            .with_keys_field(field(8, MAP_KEY, DataType::Utf8, false))
            .with_values_field(field(9, MAP_VALUE, DataType::Utf8, true));
        for row in rows {
            for (key, value) in *row {
                builder.keys().append_value(key);
                builder.values().append_value(value);
            }
            builder.append(true).expect("keys and values pair up");
        }
        (field(7, "h", map_type(8, field(9, MAP_VALUE, DataType::Utf8, true)), true), Arc::new(builder.finish()))
    };
    let expected = hash(vec![map(&[&[("a", "1"), ("b", "2")]])]);
    assert_eq!(hash(vec![map(&[&[("b", "2"), ("a", "1")]])]), expected);
    assert_ne!(hash(vec![map(&[&[("a", "2"), ("b", "1")]])]), expected);
    let (kind, values) = map(&[&[("z", "9")], &[("b", "2"), ("a", "1")], &[]]);
    assert_eq!(hash(vec![(kind, values.slice(1, 1))]), expected);
}

#[test]
fn an_unknown_type_and_a_missing_id_are_named() {
    let column: (Field, ArrayRef) = (field(1, "u", DataType::UInt32, true), Arc::new(UInt32Array::from(vec![1])));
    assert!(RowHash::of(&batch(vec![column])).is_err());
    let column: (Field, ArrayRef) = (Field::new("n", DataType::Int64, true), Arc::new(Int64Array::from(vec![1])));
    assert!(RowHash::of(&batch(vec![column])).expect_err("no id").to_string().contains("field id"));
}

proptest! {
    #[test]
    fn the_order_of_rows_and_how_they_are_cut_do_not_matter(
        rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>()), 1..50), cut in 0_usize..50, seed in any::<u32>()
    ) {
        let strings: Vec<_> = rows.iter().map(|row| row.1.as_deref()).collect();
        let whole = batch(vec![longs(1, rows.iter().map(|row| row.0)), texts(2, &strings)]);
        let expected = RowHash::of(&whole).unwrap();
        let cut = cut.min(rows.len());
        let parts = RowHash::of(&whole.slice(0, cut)).unwrap() + RowHash::of(&whole.slice(cut, rows.len() - cut)).unwrap();
        prop_assert_eq!(parts, expected);
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|row| row.wrapping_mul(seed | 1).rotate_left(7));
        let shuffled = take_record_batch(&whole, &UInt32Array::from(order)).unwrap();
        prop_assert_eq!(RowHash::of(&shuffled).unwrap(), expected);
    }

    #[test]
    fn its_text_reads_back(hash: u128) {
        prop_assert_eq!(RowHash(hash).to_string().parse::<RowHash>().unwrap(), RowHash(hash));
    }
}
