use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;

use crate::settings::Settings;
use crate::testing::{Row, World, collect};

/// Event `n` of a topic: fifty keys, four regions, three states.
fn row(n: i64) -> Row {
    let region = ["eu", "us", "jp", "br"][(n % 4) as usize];
    let status = ["new", "paid", "sent"][(n % 3) as usize];
    Row::new(&format!("o-{:02}", n % 50), region, status, n)
}

async fn sql(world: &World, sql: &str) -> RecordBatch {
    let stream = world.engine.sql(&world.tenant, sql, None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    collect(stream).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn number(world: &World, text: &str) -> i64 {
    sql(world, text).await.column(0).as_primitive::<Int64Type>().value(0)
}

/// The physical plan, as EXPLAIN (ANALYZE) prints it.
async fn plan(world: &World, how: &str, text: &str) -> String {
    let explained = sql(world, &format!("{how} {text}")).await;
    let texts = explained.column(1).as_string::<i32>();
    texts.value(texts.len() - 1).to_owned()
}

/// 1,000 events: three flushes of 200, then 400 in the tail in two chunks.
async fn thousand() -> World {
    let world = World::new(Settings::default()).await;
    let orders = world.topic("orders").await;
    for (from, to) in [(1, 200), (201, 400), (401, 600)] {
        world.append(&orders, &(from..=to).map(row).collect::<Vec<_>>());
        world.flush(&orders, 1).await;
    }
    for (from, to) in [(601, 900), (901, 1000)] {
        world.append(&orders, &(from..=to).map(row).collect::<Vec<_>>());
    }
    world
}

#[tokio::test]
async fn an_empty_topic_has_no_rows() {
    let world = World::new(Settings::default()).await;
    world.topic("orders").await;
    assert_eq!(number(&world, "SELECT count(*) FROM orders").await, 0);
    assert_eq!(sql(&world, "SELECT _key, amount FROM orders WHERE amount > 1 ORDER BY _seq").await.num_rows(), 0);
}

#[tokio::test]
async fn table_and_tail_are_one() {
    let world = thousand().await;
    assert_eq!(number(&world, "SELECT count(*) FROM orders").await, 1_000);
    assert_eq!(number(&world, "SELECT max(_seq) FROM orders").await, 1_000);
    assert_eq!(number(&world, "SELECT count(DISTINCT _seq) FROM orders").await, 1_000);
    assert_eq!(number(&world, "SELECT sum(amount) FROM orders").await, 500_500);
    let condition = |n: &i64| n % 50 == 7 && n % 3 != 0;
    let expected: Vec<i64> = (1..=1_000).filter(condition).collect();
    let found = sql(&world, "SELECT amount FROM orders WHERE _key = 'o-07' AND status <> 'new' ORDER BY _seq").await;
    assert_eq!(found.column(0).as_primitive::<Int64Type>().values(), &expected[..]);

    let mut expected = BTreeMap::new();
    for row in (1..=1_000).map(row) {
        *expected.entry(row.region).or_insert(0) += row.amount;
    }
    let found = sql(&world, "SELECT region, sum(amount) FROM orders GROUP BY region ORDER BY region").await;
    let regions = found.column(0).as_string::<i32>().iter().map(|region| region.unwrap().to_owned());
    let sums = found.column(1).as_primitive::<Int64Type>().values().iter().copied();
    assert_eq!(regions.zip(sums).collect::<BTreeMap<_, _>>(), expected);
}

#[tokio::test]
async fn every_column_comes_back_the_same_from_table_and_tail() {
    let world = World::new(Settings::default()).await;
    let (kept, moved) = (world.topic("kept").await, world.topic("moved").await);
    let rows: Vec<_> = (1..=300).map(row).collect();
    world.append(&kept, &rows);
    world.append(&moved, &rows);
    world.flush(&moved, 1).await;
    let columns = "_seq, _time, _key, _kind, _headers, id, region, status, amount, note, tags";
    let [kept, moved] = ["kept", "moved"].map(|topic| format!("SELECT {columns} FROM {topic} ORDER BY _seq"));
    assert_eq!(sql(&world, &kept).await, sql(&world, &moved).await);
    let tags = "SELECT count(*) FROM moved WHERE array_length(tags) = 2 AND _kind = 0";
    assert_eq!(number(&world, tags).await, (1..=300).filter(|n| n % 3 == 2).count() as i64);
}

#[tokio::test]
async fn topics_can_be_joined_with_each_other_and_themselves() {
    let world = thousand().await;
    let parcels = world.topic("parcels").await;
    world.append(
        &parcels,
        &[Row::new("o-07", "eu", "sent", 1), Row::new("o-08", "eu", "sent", 2), Row::new("none", "eu", "sent", 3)],
    );
    let joined = "SELECT count(*) FROM orders o JOIN parcels p ON o._key = p._key WHERE p.amount < 3";
    assert_eq!(number(&world, joined).await, 40);
    let outer = "SELECT count(*) FROM parcels p LEFT JOIN orders o ON o._key = p._key WHERE o._key IS NULL";
    assert_eq!(number(&world, outer).await, 1);
    let own = "SELECT count(*) FROM orders a JOIN orders b ON a._seq = b._seq";
    assert_eq!(number(&world, own).await, 1_000);
    let within = "SELECT count(*) FROM orders WHERE _key IN (SELECT _key FROM parcels)";
    assert_eq!(number(&world, within).await, 40);
}

#[tokio::test]
async fn a_query_keeps_its_cut_while_the_seam_moves() {
    let world = thousand().await;
    let orders = world.topics.get(&world.tenant, &World::name("orders")).unwrap();
    let mut early = world.engine.sql(&world.tenant, "SELECT _seq FROM orders", None).await.unwrap();
    let first = early.batches.try_next().await.unwrap().unwrap();
    world.flush(&orders, 1).await;
    let late = world.engine.sql(&world.tenant, "SELECT _seq FROM orders", None).await.unwrap();
    world.append(&orders, &(1_001..=1_100).map(row).collect::<Vec<_>>());
    world.flush(&orders, 2).await;
    let mut seqs = first.column(0).as_primitive::<Int64Type>().values().to_vec();
    for batch in early.batches.try_collect::<Vec<_>>().await.unwrap() {
        seqs.extend(batch.column(0).as_primitive::<Int64Type>().values());
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=1_000).collect::<Vec<_>>());
    assert_eq!(collect(late).await.unwrap().num_rows(), 1_000);
    assert_eq!(number(&world, "SELECT count(DISTINCT _seq) FROM orders").await, 1_100);
}

#[tokio::test]
async fn counting_all_rows_reads_no_file() {
    let world = thousand().await;
    let plan = plan(&world, "EXPLAIN", "SELECT count(*) FROM orders").await;
    assert!(plan.contains("PlaceholderRowExec") && !plan.contains("DataSourceExec"), "{plan}");
}

#[tokio::test]
async fn files_are_left_out_by_what_the_manifests_say() {
    let world = thousand().await;
    let [first, second, third] = [3, 2, 1];
    for (condition, left_out, rows) in [
        ("_seq > 450", 2, 550),
        ("_seq BETWEEN 210 AND 390", 2, 181),
        ("_seq <= 200", 2, 200),
        ("amount = 17", 2, 1),
        ("_key = 'o-07'", 0, 20),
        ("_key = 'zzz'", first, 0),
        ("_prefix = 'orders/xx'", first, 0),
        ("_time < cast('1970-01-01T00:00:00.010Z' as timestamp)", second, 29),
        ("_time >= cast('1970-01-01T00:00:00.090Z' as timestamp)", second - third, 731),
    ] {
        let query = format!("SELECT _seq, _time, _prefix, amount FROM orders WHERE {condition}");
        assert_eq!(sql(&world, &query).await.num_rows(), rows, "{condition}");
        let plan = plan(&world, "EXPLAIN ANALYZE", &query).await;
        match left_out {
            3 => assert!(!plan.contains(".parquet"), "{condition}: {plan}"),
            _ => assert!(plan.contains(&format!("files_pruned_by_manifest={left_out}")), "{condition}: {plan}"),
        }
    }
}

#[tokio::test]
async fn filters_are_applied_inside_the_parquet_reader_and_above_the_tail() {
    let world = thousand().await;
    let plan = plan(&world, "EXPLAIN", "SELECT amount FROM orders WHERE region = 'eu' AND amount > 5").await;
    let union = plan.find("UnionExec").unwrap_or_else(|| panic!("{plan}"));
    assert!(!plan[..union].contains("FilterExec"), "{plan}");
    assert!(plan.contains("predicate=region@8 = eu AND amount@10 > 5"), "{plan}");
    assert_eq!(plan.matches("FilterExec").count(), 1, "{plan}");
}

#[tokio::test]
async fn a_limit_ends_the_scan() {
    let world = thousand().await;
    assert_eq!(sql(&world, "SELECT * FROM orders LIMIT 7").await.num_rows(), 7);
    let newest = sql(&world, "SELECT _seq FROM orders ORDER BY _seq DESC LIMIT 3").await;
    assert_eq!(newest.column(0).as_primitive::<Int64Type>().values(), &[1_000, 999, 998]);
    let oldest = sql(&world, "SELECT _seq FROM orders WHERE region = 'us' ORDER BY _seq LIMIT 2").await;
    assert_eq!(oldest.column(0).as_primitive::<Int64Type>().values(), &[1, 5]);
}

#[tokio::test]
async fn text_comes_out_as_it_went_in_however_it_was_computed() {
    let world = thousand().await;
    let mixed = "SELECT id, upper(region), array_agg(status), struct(note) FROM orders GROUP BY id, region, note";
    for column in sql(&world, mixed).await.schema().fields() {
        assert!(!column.data_type().to_string().contains("View"), "{column}");
    }
    let described = sql(&world, "SELECT data_type FROM information_schema.columns WHERE column_name = 'id'").await;
    assert_eq!(described.column(0).as_string::<i32>().value(0), "Utf8");
    let described = sql(&world, "DESCRIBE orders").await;
    assert!(described.column(1).as_string::<i32>().iter().all(|kind| !kind.unwrap().contains("View")));
}

#[tokio::test]
async fn what_the_files_keep_in_order_is_not_sorted_again() {
    let world = World::new(Settings::default()).await;
    let orders = world.topic("orders").await;
    world.append(&orders, &(1..=500).map(row).collect::<Vec<_>>());
    world.flush(&orders, 1).await;
    let ordered = "SELECT _key, _seq FROM orders ORDER BY _prefix, _key, _seq";
    let explained = plan(&world, "EXPLAIN", ordered).await;
    assert!(!explained.contains("SortExec"), "{explained}");
    let sorted_anyway = "SELECT _key, _seq FROM (SELECT *, _prefix || '' AS p FROM orders) ORDER BY p, _key, _seq";
    assert!(plan(&world, "EXPLAIN", sorted_anyway).await.contains("SortExec"));
    assert_eq!(sql(&world, ordered).await, sql(&world, sorted_anyway).await);
    world.append(&orders, &(501..=600).map(row).collect::<Vec<_>>());
    assert_eq!(sql(&world, ordered).await, sql(&world, sorted_anyway).await);
    world.flush(&orders, 1).await;
    assert_eq!(sql(&world, ordered).await, sql(&world, sorted_anyway).await);
}
