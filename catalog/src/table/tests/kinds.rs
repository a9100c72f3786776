//! Every type that a column can have: written, bounded, and read back.

use arrow::array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryArray, Float32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::util::display::array_value_to_string;
use serde_json::{Value, json};

use super::super::testing::topic;
use super::*;

fn nullable(kind: Value) -> Value {
    json!(["null", kind])
}

fn decimal(precision: u8) -> Value {
    json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": 2})
}

fn with_columns(plain: &RecordBatch, def: &TopicDef, columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let schema = def.event_schema();
    let find = |name: &str| columns.iter().find(|column| column.0 == name).map(|column| Arc::clone(&column.1));
    let column = |name: &str| find(name).or_else(|| plain.column_by_name(name).cloned());
    let filled = schema
        .fields()
        .iter()
        .map(|field| column(field.name()).unwrap_or_else(|| new_null_array(field.data_type(), plain.num_rows())));
    RecordBatch::try_new(Arc::clone(&schema), filled.collect()).unwrap()
}

#[tokio::test]
async fn bounds_are_right_for_every_way_that_parquet_keeps_a_type() {
    let folder = tempdir().unwrap();
    let tables = open(folder.path()).await;
    let uuid = json!({"type": "string", "logicalType": "uuid"});
    let fields = json!([
        {"name": "id", "type": "string"},
        {"name": "small", "type": nullable(decimal(9))},
        {"name": "middle", "type": nullable(decimal(18))},
        {"name": "large", "type": nullable(decimal(38))},
        {"name": "uuid", "type": nullable(uuid)},
        {"name": "float", "type": nullable(json!("float"))},
        {"name": "long_text", "type": nullable(json!("string"))},
        {"name": "local", "type": nullable(json!({"type": "long", "logicalType": "local-timestamp-micros"}))},
        {"name": "absent", "type": nullable(json!("int"))},
    ]);
    let def = topic("kinds", fields, "id");
    tables.ensure(&tenant(), &def).await.unwrap();

    let plain = events(&orders(), 1, &[("a", "eu"), ("b", "eu"), ("c", "eu")]);
    let amounts = |precision| -> ArrayRef {
        let values = Decimal128Array::from(vec![Some(-130), None, Some(70_000)]);
        Arc::new(values.with_precision_and_scale(precision, 2).unwrap())
    };
    let long = ["x".repeat(5_000), "\u{10FFFF}".repeat(2_000), "m".to_owned()];
    let uuids = [[0xEE; 16], [0x11; 16], [0x7F; 16]];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("small", amounts(9)),
        ("middle", amounts(18)),
        ("large", amounts(38)),
        ("uuid", Arc::new(FixedSizeBinaryArray::try_from_iter(uuids.iter()).unwrap())),
        ("float", Arc::new(Float32Array::from(vec![f32::NAN, -1.5, 2.5]))),
        ("long_text", Arc::new(StringArray::from_iter_values(&long))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(-5), None, Some(5)]))),
    ];
    let state = flush(&tables, &def, 1, &[with_columns(&plain, &def, columns)]).await.unwrap();
    let set = state.files().await.unwrap();
    let bounds = |name: &str| {
        let (lower, upper) = set.bounds(def.payload.field(name).unwrap().1.id).unwrap();
        assert_eq!(lower.data_type(), def.event_schema().field_with_name(name).unwrap().data_type());
        [lower, upper].map(|bound| array_value_to_string(&bound, 0).unwrap())
    };
    for name in ["small", "middle", "large"] {
        assert_eq!(bounds(name), ["-1.30", "700.00"], "{name}");
    }
    assert_eq!(bounds("uuid"), ["11".repeat(16), "ee".repeat(16)]);
    assert_eq!(bounds("float"), ["-1.5", "2.5"]);
    assert_eq!(bounds("local"), ["1969-12-31T23:59:59.999995", "1970-01-01T00:00:00.000005"]);
    assert_eq!(bounds("absent"), ["", ""]);
    let (lower, upper) = set.bounds(def.payload.field("long_text").unwrap().1.id).unwrap();
    assert_eq!(lower.as_string::<i32>().value(0), "m");
    assert!(
        upper.as_string::<i32>().value(0) >= long[1].as_str(),
        "nothing is above the highest character but more of it"
    );
    let nulls = set.null_counts(def.payload.field("absent").unwrap().1.id).unwrap();
    assert_eq!(array_value_to_string(&nulls, 0).unwrap(), "3");
}

#[tokio::test]
async fn a_newer_schema_enters_the_table_with_its_first_rows_and_older_rows_still_fit() {
    let folder = tempdir().unwrap();
    let (old, tables) = (orders(), open(folder.path()).await);
    tables.ensure(&tenant(), &old).await.unwrap();
    flush(&tables, &old, 1, &[events(&old, 1, &[("a", "eu")])]).await.unwrap();

    let mut new = old.clone();
    new.version = 2;
    let mut added = new.payload.fields[1].clone();
    (added.id, added.name) = (new.payload.last_field_id + 1, "channel".to_owned());
    new.payload.last_field_id = added.id;
    new.payload.fields.push(added.clone());
    let state = flush(&tables, &new, 2, &[events(&new, 2, &[("a", "eu")])]).await.unwrap();
    let metadata = state.metadata();
    assert_eq!((metadata.current_schema_id(), metadata.last_column_id()), (1, added.id));
    assert_eq!(metadata.current_snapshot().unwrap().schema_id(), Some(1));

    let state = flush(&tables, &old, 3, &[events(&old, 3, &[("a", "eu")])]).await.unwrap();
    assert_eq!(state.metadata().current_schema_id(), 1, "rows that were under way do not take the schema back");
    let (lower, _) = state.files().await.unwrap().bounds(added.id).unwrap();
    assert_eq!(lower.len(), 3);

    // Without the region: the hash of all rows begins anew, and rows that still have one are not taken.
    let mut less = new.clone();
    less.version = 3;
    less.payload.fields.remove(1);
    let state = flush(&tables, &less, 4, &[events(&less, 4, &[("a", "eu")])]).await.unwrap();
    let of_main =
        |name: &str| state.metadata().current_snapshot().unwrap().summary().additional_properties[name].clone();
    assert_eq!(state.metadata().properties()["firn.row-hash-base"], r#"{"0":4}"#);
    assert_eq!(of_main("firn.total-row-hash"), of_main("firn.row-hash"));
    let error = flush(&tables, &new, 5, &[events(&new, 5, &[("a", "eu")])]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("cut them again"), "{error}");
    let state = flush(&tables, &less, 5, &[events(&new, 5, &[("a", "eu")])]).await.unwrap();
    assert_eq!(
        state.metadata().properties()["firn.row-hash-base"],
        r#"{"0":4}"#,
        "it stays for as long as nothing more is dropped"
    );
}
