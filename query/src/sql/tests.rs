use std::time::Duration;

use arrow::array::{AsArray, Float64Array, Int32Array, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use schemas::{ErrorKind, TenantName};

use crate::error::QueryError;

use super::*;
use crate::at::At;
use crate::replay::Replay;
use crate::settings::Settings;
use crate::testing::{Row, World, collect};

async fn world() -> World {
    with(Settings::default()).await
}

/// A topic `orders` of six events: four in its table, two in its tail.
async fn with(settings: Settings) -> World {
    let world = World::new(settings).await;
    let orders = world.topic("orders").await;
    let row = |n: i64| Row::new(&format!("o-{n}"), if n % 2 == 0 { "eu" } else { "us" }, "new", n * 10);
    world.append(&orders, &[row(1), row(2), row(3), row(4)]);
    world.flush(&orders, 1).await;
    world.append(&orders, &[row(5), row(6)]);
    world
}

async fn answer(world: &World, sql: &str, row: Option<RecordBatch>) -> Result<RecordBatch> {
    collect(world.engine.sql(&world.tenant, sql, row).await?).await
}

async fn number(world: &World, sql: &str) -> i64 {
    let batch = answer(world, sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    batch.column(0).as_primitive::<Int64Type>().value(0)
}

async fn texts(world: &World, sql: &str) -> Vec<String> {
    let batch = answer(world, sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    batch.column(0).as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
}

async fn failure(world: &World, sql: &str) -> QueryError {
    match answer(world, sql, None).await {
        Ok(batch) => panic!("{sql} answered {batch:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_topic_is_found_by_its_short_and_its_full_name() {
    let world = world().await;
    for name in ["orders", "ORDERS", "\"orders\"", "default.orders", "firn.default.orders"] {
        assert_eq!(number(&world, &format!("SELECT count(*) FROM {name}")).await, 6, "{name}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_those_that_come_near() {
    let world = world().await;
    world.topic("parcels").await;
    let error = failure(&world, "SELECT * FROM ordres").await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "there is no topic \"ordres\"; topics: orders, parcels");
    let error = failure(&world, "SELECT amuont FROM orders").await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("there is no column amuont; columns: _seq, _time, _key"), "{error}");
    let error = failure(&world, "SELECT\n  nosuch(1)").await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("nosuch") && error.to_string().contains("Line: 2, Column: 3"), "{error}");
}

#[tokio::test]
async fn a_tenant_sees_its_own_topics_and_nothing_of_others() {
    let world = world().await;
    let other = TenantName::new("other").unwrap();
    for name in ["orders", "default.orders", "firn.default.orders", "other.orders"] {
        let refused = world.engine.sql(&other, &format!("SELECT * FROM {name}"), None).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{name}: {refused}");
        assert!(world.engine.prepare(&other, &format!("SELECT * FROM {name}")).await.is_err());
    }
    let listed = world.engine.sql(
        &other,
        "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema'",
        None,
    );
    assert_eq!(collect(listed.await.unwrap()).await.unwrap().num_rows(), 0);
    let columns =
        world.engine.sql(&other, "SELECT * FROM information_schema.columns WHERE column_name = 'amount'", None);
    assert_eq!(collect(columns.await.unwrap()).await.unwrap().num_rows(), 0);
}

#[tokio::test]
async fn topics_and_columns_are_listed() {
    let world = world().await;
    world.topic("parcels").await;
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'default' ORDER BY 1";
    assert_eq!(texts(&world, tables).await, ["orders", "parcels"]);
    let columns =
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'parcels' ORDER BY ordinal_position";
    assert_eq!(texts(&world, columns).await[..4], ["_seq", "_time", "_key", "_path"]);
    assert!(answer(&world, "SHOW TABLES", None).await.unwrap().num_rows() >= 2);
    assert_eq!(answer(&world, "DESCRIBE orders", None).await.unwrap().num_rows(), 13);
    assert_eq!(answer(&world, "SHOW COLUMNS FROM orders", None).await.unwrap().num_rows(), 13);
}

#[tokio::test]
async fn nothing_but_topics_can_be_reached() {
    let world = world().await;
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM \"s3://bucket/key.parquet\"",
        "SELECT * FROM 'https://example.com/x.csv'",
        "SELECT * FROM orders.parquet",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM datafusion.public.orders",
        "SELECT * FROM firn.other.orders",
        "SELECT * FROM pg_catalog.pg_tables",
        "SELECT * FROM information_schema.nosuch",
        "SELECT * INTO stolen FROM orders",
        "WITH w AS (INSERT INTO orders VALUES (1)) SELECT * FROM w",
        "WITH w AS (DELETE FROM orders) SELECT 1",
        "SELECT * FROM (INSERT INTO orders SELECT * FROM orders)",
        "EXPLAIN INSERT INTO orders SELECT * FROM orders",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "SELECT @@version",
        "SELECT @x",
        "TABLE '/etc/passwd'",
    ] {
        let error = failure(&world, sql).await;
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound), "{sql}: {:?}: {error}", error.kind());
        assert!(world.engine.prepare(&world.tenant, sql).await.is_err(), "{sql} was prepared");
    }
    assert_eq!(number(&world, "SELECT count(*) FROM orders").await, 6);
}

#[tokio::test]
async fn the_deepest_statement_that_passes_runs() {
    let world = world().await;
    let terms = schemas::limits::SQL_OPERATORS_MAX - 10;
    assert_eq!(number(&world, &format!("SELECT 1{}", " + 1".repeat(terms))).await, terms as i64 + 1);
    let in_tasks =
        format!("SELECT max(amount{}) AS m FROM orders GROUP BY region ORDER BY m DESC", " + 1".repeat(terms));
    assert_eq!(number(&world, &in_tasks).await, 60 + terms as i64);
    let condition = format!("SELECT count(*) FROM orders WHERE amount = 10{}", " OR amount = 20".repeat(terms / 2));
    assert_eq!(number(&world, &condition).await, 2);
    let deep = 20;
    let nested = format!("SELECT count(*) FROM {}orders{}", "(SELECT * FROM ".repeat(deep), ")".repeat(deep));
    assert_eq!(number(&world, &nested).await, 6);
}

#[tokio::test]
async fn parameters_are_typed_by_where_they_stand_and_cast_to_that() {
    let world = world().await;
    for sql in [
        "SELECT amount FROM orders WHERE _key = ? AND amount > ? LIMIT 1",
        "SELECT amount FROM orders WHERE _key = $1 AND amount > $2 LIMIT 1",
    ] {
        let prepared = world.engine.prepare(&world.tenant, sql).await.unwrap();
        let types: Vec<_> = prepared.parameters.fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [DataType::Utf8, DataType::Int64]);
        assert_eq!(prepared.schema.field(0).name(), "amount");
        let key: arrow::array::ArrayRef = Arc::new(StringArray::from(vec!["o-5"]));
        let row =
            RecordBatch::try_from_iter([("a", Arc::clone(&key)), ("b", Arc::new(Int32Array::from(vec![7])) as _)])
                .unwrap();
        let found = answer(&world, &prepared.sql, Some(row)).await.unwrap();
        assert_eq!(found.column(0).as_primitive::<Int64Type>().values(), &[50]);

        let few = RecordBatch::try_from_iter([("a", Arc::clone(&key))]).unwrap();
        for wrong in [None, Some(few)] {
            let error = answer(&world, sql, wrong).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("expected one row of 2 parameters"), "{error}");
        }
        let odd = RecordBatch::try_from_iter([("a", Arc::clone(&key)), ("b", Arc::clone(&key))]).unwrap();
        let error = answer(&world, sql, Some(odd)).await.unwrap_err();
        assert!(error.to_string().starts_with("parameter $2: expected Int64, found Utf8"), "{error}");
    }
    for name in [":name", "$name", "$0"] {
        let error = world
            .engine
            .prepare(&world.tenant, &format!("SELECT * FROM orders WHERE amount = {name}"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error}");
    }
}

#[tokio::test]
async fn an_untyped_parameter_takes_the_type_of_its_value() {
    let world = world().await;
    let prepared = world.engine.prepare(&world.tenant, "SELECT ? AS x").await.unwrap();
    assert_eq!(prepared.parameters.field(0).data_type(), &DataType::Null);
    let row = RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(vec![0.5])) as _)]).unwrap();
    let found = answer(&world, "SELECT ? AS x", Some(row)).await.unwrap();
    assert_eq!(found.schema().field(0).data_type(), &DataType::Float64);
}

#[tokio::test]
async fn what_prepare_says_of_the_result_is_what_comes() {
    let world = world().await;
    for sql in [
        "SELECT * FROM orders",
        "SELECT count(*), max(_seq), avg(amount) FROM orders",
        "SELECT region, substr(id, 1, 2) AS s, amount / 2 FROM orders WHERE note IS NOT NULL ORDER BY amount",
        "SELECT a._key, b.tags FROM orders a LEFT JOIN orders b ON a._key = b.region",
        "SELECT _time, date_trunc('day', _time), upper(region) || 'x' FROM orders",
        "SELECT 1 AS a UNION ALL SELECT 2.5",
        "SHOW TABLES",
        "EXPLAIN SELECT 1",
    ] {
        let prepared = world.engine.prepare(&world.tenant, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let stream = world.engine.sql(&world.tenant, sql, None).await.unwrap();
        let types = |schema: &arrow::datatypes::SchemaRef| -> Vec<_> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        assert_eq!(types(&prepared.schema), types(&stream.schema), "{sql}");
        let views = |data_type: &DataType| matches!(data_type, DataType::Utf8View | DataType::BinaryView);
        assert!(!stream.schema.fields().iter().any(|field| views(field.data_type())), "{sql}: {}", stream.schema);
        collect(stream).await.unwrap();
    }
}

#[tokio::test]
async fn a_failure_on_a_value_is_the_callers() {
    let world = world().await;
    for sql in ["SELECT 1 / (amount - 10) FROM orders", "SELECT cast(id AS int) FROM orders"] {
        let error = failure(&world, sql).await;
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error}");
    }
}

/// Pauses often, and never ends.
const ENDLESS: &str = "SELECT sum(value) FROM generate_series(1, 1000000000000)";
/// Computes for a while without a pause.
const STUBBORN: &str =
    "SELECT count(*) FROM generate_series(1, 8000) a, generate_series(1, 8000) b WHERE a.value + b.value < 0";

#[tokio::test]
async fn a_query_ends_at_its_deadline_even_if_it_never_pauses() {
    let world = with(Settings { deadline_ms: 100, ..Settings::default() }).await;
    for sql in [ENDLESS, STUBBORN] {
        let error = failure(&world, sql).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("deadline of 100ms"), "{error}");
    }
}

#[tokio::test]
async fn a_caller_that_stalls_keeps_its_place_until_its_deadline_only() {
    let world = with(Settings { deadline_ms: 100, ..Settings::default() }).await;
    let all = "SELECT value FROM generate_series(1, 1000000000)";
    let mut stalled = world.engine.sql(&world.tenant, all, None).await.unwrap();
    all_is_given_back(world.engine.sql_side()).await;
    let mut last = None;
    while let Some(batch) = stalled.batches.next().await {
        last = Some(batch);
    }
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_query_waits_for_a_place_until_its_deadline() {
    let world = with(Settings { concurrent_max: 1, deadline_ms: 200, ..Settings::default() }).await;
    let place = Arc::clone(&world.engine.sql_side().places).acquire_owned().await.unwrap();
    let error = failure(&world, "SELECT 1").await;
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    drop(place);
    assert_eq!(number(&world, "SELECT 1").await, 1);
}

/// Tasks end, and give back what they hold, a moment after their stream.
async fn all_is_given_back(sql: &Sql) {
    let reserved = || sql.planner.reader().runtime.memory_pool.reserved();
    let places = sql.planner.reader().settings.concurrent_max;
    for _ in 0..3_000 {
        if reserved() == 0 && sql.places.available_permits() == places {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bytes and {} places are still held", reserved(), places - sql.places.available_permits());
}

#[tokio::test]
async fn dropping_the_stream_gives_memory_and_place_back() {
    let world = world().await;
    let sorted = "SELECT value FROM generate_series(1, 300000) ORDER BY value % 1000";
    let mut stream = world.engine.sql(&world.tenant, sorted, None).await.unwrap();
    stream.batches.next().await.unwrap().unwrap();
    assert!(world.engine.sql_side().planner.reader().runtime.memory_pool.reserved() > 0);
    drop(stream);
    all_is_given_back(world.engine.sql_side()).await;
    let mut endless = world.engine.sql(&world.tenant, ENDLESS, None).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), endless.batches.next()).await;
    assert!(waited.is_err());
    drop(endless);
    all_is_given_back(world.engine.sql_side()).await;
}

const BIG_SORT: &str = "SELECT count(*), sum(n), max(h) FROM (SELECT h, row_number() OVER (ORDER BY h) AS n FROM \
     (SELECT cast(value * 7919 % 200003 AS varchar) || ' and some more text to sort' AS h FROM generate_series(1, 600000)))";

#[tokio::test]
async fn a_sort_beyond_its_memory_spills_and_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let spill_dir = Some(folder.path().join("spill"));
    let world = with(Settings { memory_bytes: 32 << 20, spill_dir, ..Settings::default() }).await;
    assert_eq!(number(&world, BIG_SORT).await, 600_000);
    let explained = answer(&world, &format!("EXPLAIN ANALYZE {BIG_SORT}"), None).await.unwrap();
    let plan = explained.column(1).as_string::<i32>().value(0).to_owned();
    let spills = plan.split("spill_count=").skip(1).any(|rest| !rest.starts_with('0'));
    assert!(spills, "{plan}");
}

#[tokio::test]
async fn memory_and_spill_used_up_is_overload() {
    let world = with(Settings { memory_bytes: 16 << 20, spill_bytes_max: 1 << 20, ..Settings::default() }).await;
    let error = failure(&world, BIG_SORT).await;
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.to_string().contains("spill_bytes_max") && !error.to_string().contains('\n'), "{error}");
    all_is_given_back(world.engine.sql_side()).await;
    assert_eq!(number(&world, "SELECT count(*) FROM orders").await, 6);
}

#[tokio::test]
async fn a_spill_folder_that_cannot_be_used_is_found_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = Settings { spill_dir: Some(file.path().to_owned()), ..Settings::default() };
    let objects: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let error = runtime::build(&settings, &objects).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().starts_with("spill_dir "), "{error}");
}

async fn amounts(world: &World, of: &str) -> Result<Vec<i64>> {
    let rows = answer(world, &format!("SELECT orders.amount FROM {of} ORDER BY _seq"), None).await?;
    Ok(rows.column(0).as_primitive::<Int64Type>().values().to_vec())
}

#[tokio::test]
async fn a_table_is_read_as_it_was_at_a_seq_a_time_a_snapshot_and_a_tag() {
    let world = world().await;
    let orders = world.topics.get(&world.tenant, &World::name("orders")).unwrap();
    let table = world.tables.current(&orders).await.unwrap();
    let snapshot = table.snapshot_id().unwrap();
    assert_eq!(world.tables.tag(&orders, "four").await.unwrap(), snapshot);
    assert_eq!(world.tables.tag(&orders, "four").await.unwrap(), snapshot, "it has the name already");
    world.flush(&orders, 1).await;
    world.append(&orders, &[Row::new("o-7", "eu", "new", 70)]);
    assert_eq!(world.tables.tag(&orders, "four").await.unwrap_err().kind(), ErrorKind::Conflict);
    let all = [10, 20, 30, 40, 50, 60, 70];
    // `_time` is seq / 3 milliseconds.
    for (of, expected) in [
        ("orders", 7),
        ("orders AT (SEQ => 7)", 7),
        ("orders AT (SEQ => 6)", 6),
        ("ORDERS at (seq => 3)", 3),
        ("orders AT (TIME => '1970-01-01T00:00:00.000999Z')", 2),
        ("orders FOR SYSTEM_TIME AS OF '1970-01-01T00:00:00.001Z'", 5),
        ("orders TIMESTAMP AS OF TIMESTAMP '1970-01-01T00:00:00.002Z'", 7),
        ("orders FOR SYSTEM_TIME AS OF '1969-12-31T23:59:59Z'", 0),
        (&format!("orders VERSION AS OF {snapshot}"), 4),
        (&format!("firn.default.orders AT (SNAPSHOT => {snapshot})"), 4),
        ("orders AT (TAG => 'four')", 4),
        ("(SELECT * FROM orders AT (SEQ => 2)) AS orders", 2),
    ] {
        assert_eq!(amounts(&world, of).await.unwrap(), all[..expected], "{of}");
    }
    let both =
        "SELECT count(*) FROM orders AS a LEFT JOIN orders AT (SEQ => 3) AS b ON a._seq = b._seq WHERE b._seq IS NULL";
    let rows = answer(&world, both, None).await.unwrap();
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 4, "one statement, two moments");
    let described =
        world.engine.prepare(&world.tenant, "SELECT id FROM orders AT (SEQ => 3) WHERE amount > ?").await.unwrap();
    assert_eq!(described.parameters.fields().len(), 1);

    for (of, kind, says) in [
        ("orders AT (SEQ => 8)", ErrorKind::NotFound, "ends at seq 7"),
        ("orders AT (SEQ => 0)", ErrorKind::Invalid, "from 1 on"),
        ("orders AT (TIME => 'yesterday')", ErrorKind::Invalid, "2024-01-01T00:00:00Z"),
        ("orders VERSION AS OF 17", ErrorKind::NotFound, "has expired, or never was; 2 are kept"),
        ("orders AT (TAG => 'none')", ErrorKind::NotFound, "no tag or branch"),
        ("orders AT (SIZE => 3)", ErrorKind::Invalid, "AT (SEQ => 17)"),
        ("orders AT (SEQ => amount)", ErrorKind::Invalid, "AT (SEQ => 17)"),
        ("nothing AT (SEQ => 3)", ErrorKind::NotFound, "\"nothing\""),
    ] {
        let error = amounts(&world, of).await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(says), "{of}: {error}");
    }
}

#[tokio::test]
async fn a_replay_is_of_the_topic_as_it_was() {
    let world = world().await;
    let orders = world.topics.get(&world.tenant, &World::name("orders")).unwrap();
    let snapshot = world.tables.current(&orders).await.unwrap().snapshot_id().unwrap();
    world.tables.tag(&orders, "four").await.unwrap();
    world.flush(&orders, 1).await;
    world.append(&orders, &[Row::new("o-2", "eu", "new", 70)]);
    let replay = |at: At, key: Option<&str>| Replay {
        at: Some(at),
        key: key.map(str::to_owned),
        ..Replay::of(World::name("orders"))
    };
    for (at, expected, of_key) in [
        (At::Seq(7), 7, 2),
        (At::Seq(5), 5, 1),
        (At::Time("1970-01-01T00:00:00Z".into()), 2, 1),
        (At::Snapshot(snapshot), 4, 1),
        (At::Tag("four".into()), 4, 1),
    ] {
        let rows = async |key| {
            collect(world.engine.replay(&world.tenant, replay(at.clone(), key)).await.unwrap())
                .await
                .unwrap()
                .num_rows()
        };
        assert_eq!((rows(None).await, rows(Some("o-2")).await), (expected, of_key), "{at:?}");
    }
    let late = replay(At::Seq(8), None);
    assert_eq!(world.engine.replay(&world.tenant, late).await.unwrap_err().kind(), ErrorKind::NotFound);
}
