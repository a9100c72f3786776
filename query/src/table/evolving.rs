//! Files and tail rows of earlier schema versions, read under the newest: SQL, replay and look-ups, with everything that prunes turned on.

mod chains;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float32Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use schemas::{ErrorKind, Seq, TopicDef};
use serde_json::{Value, json};

use crate::replay::Replay;
use crate::settings::Settings;
use crate::subscribe::{From, Subscribe};
use crate::testing::{World, collect, sealed};

const ROWS: i32 = 5_000;

async fn sql(world: &World, sql: &str) -> RecordBatch {
    let stream = world.engine.sql(&world.tenant, sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    collect(stream).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn count(world: &World, condition: &str) -> i64 {
    let text = format!("SELECT count(*) FROM t WHERE {condition}");
    sql(world, &text).await.column(0).as_primitive::<Int64Type>().value(0)
}

async fn replay(world: &World, key: Option<&str>, filter: Option<&str>, columns: &[&str]) -> RecordBatch {
    let replay = Replay {
        key: key.map(str::to_owned),
        filter: filter.map(str::to_owned),
        columns: Some(columns.iter().map(|column| (*column).to_owned()).collect()),
        ..Replay::of(World::name("t"))
    };
    collect(world.engine.replay(&world.tenant, replay).await.unwrap()).await.unwrap()
}

fn ids(rows: std::ops::Range<i32>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.map(|row| format!("k{row:05}"))))
}

fn texts(rows: std::ops::Range<i32>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.map(|row| format!("s{row}"))))
}

/// No UTF-8.
fn bytes(rows: std::ops::Range<i32>) -> ArrayRef {
    Arc::new(BinaryArray::from_iter_values(rows.map(|row| [&[0xff][..], &row.to_be_bytes()].concat())))
}

fn numbers(rows: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(rows))
}

fn pairs(kinds: [&str; 4]) -> Value {
    let [a, b, s, y] = kinds;
    json!([
        {"name": "id", "type": "string"}, {"name": "a", "type": a}, {"name": "b", "type": b}, {"name": "s", "type": s}, {"name": "y", "type": y},
    ])
}

/// A file in which `a` is below a thousand-odd and `b` beyond a million; then the names of both, and of text and bytes, change places.
async fn swapped() -> (World, Arc<TopicDef>) {
    let world = World::new(Settings::default()).await;
    let first = world.topic_with("t", pairs(["int", "int", "string", "bytes"])).await;
    let payload =
        vec![ids(0..ROWS), numbers(0..ROWS), numbers(1_000_000..1_000_000 + ROWS), texts(0..ROWS), bytes(0..ROWS)];
    world.append_events(&first, sealed(&first, Seq(1), payload));
    world.flush(&first, 1).await;
    let second = world.alter(
        &first,
        pairs(["int", "int", "bytes", "string"]),
        &[("a", "b"), ("b", "a"), ("s", "y"), ("y", "s")],
    );
    let tail = ROWS..ROWS + 10;
    let payload = vec![
        ids(tail.clone()),
        numbers(tail.clone().map(|row| 1_000_000 + row)),
        numbers(tail.clone()),
        bytes(tail.clone()),
        texts(tail),
    ];
    world.append_events(&second, sealed(&second, Seq(i64::from(ROWS) + 1), payload));
    (world, second)
}

#[tokio::test]
async fn two_names_that_were_swapped_are_not_mistaken_for_each_other_by_anything_that_prunes() {
    let (world, def) = swapped().await;
    for flushed in [false, true] {
        if flushed {
            world.flush(&def, 1).await;
        }
        // By bounds in the manifest, row groups, pages and filters, `b` is what was `a`.
        for (condition, expected) in [
            ("b = 17", 1),
            ("a = 17", 0),
            ("a = 1000017", 1),
            ("b >= 1000000", 0),
            ("a < 1000000", 0),
            ("b between 100 and 199", 100),
            ("y = 's17'", 1),
            ("y = 's5003'", 1),
            ("s = X'ff00000011'", 1),
            ("y like 's49%' and b > 4000", 100),
            ("_key = 'k00017' and b = 17", 1),
        ] {
            assert_eq!(count(&world, condition).await, expected, "{condition}");
        }
        let bounds = sql(&world, "SELECT min(a), max(b) FROM t").await;
        assert_eq!(bounds.column(0).as_primitive::<arrow::datatypes::Int32Type>().value(0), 1_000_000);
        assert_eq!(bounds.column(1).as_primitive::<arrow::datatypes::Int32Type>().value(0), ROWS + 9);
        let found = replay(&world, None, Some("b = 17"), &["_seq", "a", "y"]).await;
        assert_eq!((found.num_rows(), found.column(2).as_string::<i32>().value(0)), (1, "s17"));
        let found = replay(&world, Some("k00042"), None, &["b", "a", "y", "s"]).await;
        assert_eq!(found.column(0).as_primitive::<arrow::datatypes::Int32Type>().values(), &[42]);
        assert_eq!(found.column(1).as_primitive::<arrow::datatypes::Int32Type>().values(), &[1_000_042]);
        assert_eq!(found.column(3).as_binary::<i32>().value(0)[0], 0xff);
        let whole = replay(&world, None, None, &["_seq", "a", "b"]).await;
        assert_eq!(whole.num_rows(), ROWS as usize + 10);
    }
}

#[tokio::test]
async fn a_row_is_not_looked_for_where_the_old_name_would_lead() {
    let (world, _) = swapped().await;
    let plan = async |text: &str| {
        let explained = sql(&world, &format!("EXPLAIN ANALYZE {text}")).await;
        explained.column(1).as_string::<i32>().value(0).to_owned()
    };
    let none = plan("SELECT _seq FROM t WHERE a < 1000000").await;
    assert!(!none.contains(".parquet") && none.contains("partition_sizes=[1]"), "only the tail is read: {none}");
    let some = plan("SELECT y FROM t WHERE b = 17").await;
    assert!(some.contains(".parquet") && some.contains("files_pruned_by_manifest=0"), "{some}");
}

fn items(kind: &DataType, members: Vec<ArrayRef>) -> ArrayRef {
    let DataType::List(element) = kind else { unreachable!() };
    let DataType::Struct(fields) = element.data_type() else { unreachable!() };
    let values: ArrayRef = Arc::new(StructArray::new(fields.clone(), members, None));
    let lengths = vec![2; values.len() / 2];
    Arc::new(ListArray::new(Arc::clone(element), OffsetBuffer::from_lengths(lengths), values, None))
}

fn nested(members: Value, rate: &str) -> Value {
    json!([
        {"name": "id", "type": "string"},
        {"name": "rate", "type": rate},
        {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "item", "fields": members}}},
    ])
}

#[tokio::test]
async fn what_lies_inside_lists_is_read_by_id_and_widened() {
    let world = World::new(Settings::default()).await;
    let first = world
        .topic_with("t", nested(json!([{"name": "x", "type": "int"}, {"name": "y", "type": "string"}]), "float"))
        .await;
    let kind = first.event_schema().field_with_name("items").unwrap().data_type().clone();
    let payload = vec![
        ids(0..2),
        Arc::new(Float32Array::from(vec![0.5, 1.5])) as ArrayRef,
        items(&kind, vec![numbers(0..4), texts(0..4)]),
    ];
    world.append_events(&first, sealed(&first, Seq(1), payload.clone()));
    world.flush(&first, 1).await;
    world.append_events(&first, sealed(&first, Seq(3), payload));
    let members = json!([
        {"name": "y", "type": "long"}, {"name": "z", "type": ["null", "string"]}, {"name": "x", "type": "string"},
    ]);
    world.alter(
        &first,
        nested(members, "double"),
        &[("items.element.x", "items.element.y"), ("items.element.y", "items.element.x")],
    );
    let rows = sql(
        &world,
        "SELECT _seq, rate, items[2]['y'] AS y, items[2]['x'] AS x, items[1]['z'] AS z FROM t ORDER BY _seq",
    )
    .await;
    assert_eq!(rows.column(1).as_primitive::<arrow::datatypes::Float64Type>().values(), &[0.5, 1.5, 0.5, 1.5]);
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[1, 3, 1, 3]);
    let texts: Vec<_> = rows.column(3).as_string::<i32>().iter().flatten().collect();
    assert_eq!(texts, ["s1", "s3", "s1", "s3"]);
    assert_eq!(rows.column(4).null_count(), 4);
    let all = sql(&world, "SELECT id, rate, items FROM t ORDER BY _seq").await;
    assert_eq!(all.columns(), replay(&world, None, None, &["id", "rate", "items"]).await.columns());
    assert_eq!(count(&world, "rate > 1").await, 2);
}

#[tokio::test]
async fn a_dropped_name_that_comes_back_has_none_of_the_old_values() {
    let world = World::new(Settings::default()).await;
    let with = |kind: Value| json!([{"name": "id", "type": "string"}, {"name": "n", "type": kind}]);
    let first = world.topic_with("t", with(json!("int"))).await;
    world.append_events(&first, sealed(&first, Seq(1), vec![ids(0..3), numbers(0..3)]));
    world.flush(&first, 1).await;
    let second = world.alter(&first, json!([{"name": "id", "type": "string"}]), &[]);
    let third = world.alter(&second, with(json!(["null", "long"])), &[]);
    let payload = vec![ids(3..5), Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef];
    world.append_events(&third, sealed(&third, Seq(4), payload));
    assert_eq!(
        (count(&world, "n IS NULL").await, count(&world, "n = 1").await, count(&world, "n < 1").await),
        (3, 1, 0)
    );
    let rows = replay(&world, None, None, &["_seq", "n"]).await;
    assert_eq!(rows.column(1).null_count(), 3);
    world.flush(&third, 1).await;
    assert_eq!((count(&world, "n IS NULL").await, count(&world, "n = 1").await), (3, 1));
    assert_eq!(replay(&world, Some("k00001"), None, &["n"]).await.column(0).null_count(), 1);
}

#[tokio::test]
async fn a_subscription_goes_on_across_a_change_that_it_does_not_feel_and_says_so_where_it_does() {
    let world = World::new(Settings::default()).await;
    let fields = |rest: Value| {
        let mut all = vec![json!({"name": "id", "type": "string"})];
        all.extend(rest.as_array().unwrap().iter().cloned());
        Value::Array(all)
    };
    let first = world.topic_with("t", fields(json!([{"name": "n", "type": "int"}]))).await;
    let wish = |columns: &[&str]| Subscribe {
        pattern: "t".into(),
        after: Default::default(),
        from: From::Beginning,
        columns: Some(columns.iter().map(|column| (*column).to_owned()).collect()),
        filter: None,
    };
    world.append_events(&first, sealed(&first, Seq(1), vec![ids(0..1), numbers(0..1)]));
    let mut all = world.engine.subscribe(&world.tenant, wish(&["_seq", "n"])).await.unwrap();
    let mut some = world.engine.subscribe(&world.tenant, wish(&["_seq", "id"])).await.unwrap();
    let next = async |stream: &mut crate::engine::BatchStream| {
        use futures::StreamExt;
        stream.batches.next().await.expect("it does not end by itself")
    };
    assert_eq!(next(&mut all).await.unwrap().num_rows(), 1);
    assert_eq!(next(&mut some).await.unwrap().num_rows(), 1);
    let second = world.alter(&first, fields(json!([{"name": "m", "type": ["null", "string"]}])), &[]);
    let payload = vec![ids(1..2), texts(1..2)];
    world.append_events(&second, sealed(&second, Seq(2), payload));
    assert_eq!(next(&mut some).await.unwrap().num_rows(), 1);
    let error = next(&mut all).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("begin again at seq 2"), "{error}");
}
