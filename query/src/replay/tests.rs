mod compacted;
mod retained;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::Int64Type;
use futures::StreamExt;
use proptest::prelude::*;
use schemas::envelope::column;
use schemas::{ErrorKind, TopicDef};

use super::*;
use crate::settings::Settings;
use crate::testing::{Row, World, collect, events, seqs};

const REGIONS: [&str; 4] = ["eu", "us", "apac", "a/b"];

fn row(key: u32, region: usize, amount: i64) -> Row {
    Row::new(
        &format!("k-{key}"),
        REGIONS[region].replace('/', "%2F").as_str(),
        if amount % 5 == 0 { "returned" } else { "new" },
        amount,
    )
}

fn replay() -> Replay {
    Replay { topic: World::name("orders"), key: None, from: None, to: None, columns: None, at: None, filter: None }
}

async fn run(world: &World, replay: Replay) -> Result<RecordBatch> {
    collect(world.engine.replay(&world.tenant, replay).await?).await
}

/// Appends `batches`, and flushes the first `flushes` of them in so many steps.
async fn filled(settings: Settings, batches: &[Vec<Row>], flushes: &[usize]) -> (World, Arc<TopicDef>, RecordBatch) {
    let world = World::new(settings).await;
    let def = world.topic("orders").await;
    for rows in batches {
        world.append(&def, rows);
    }
    for chunks in flushes {
        world.flush(&def, *chunks).await;
    }
    let all = events(&def, Seq::FIRST, &batches.concat());
    (world, def, all)
}

/// Bytes that spill files take.
fn spilled_now(world: &World) -> u64 {
    world.engine.reader().runtime.disk_manager.used_disk_space()
}

fn of_key(all: &RecordBatch, key: &str) -> RecordBatch {
    let keys = all.column(column::KEY).as_string::<i32>();
    filter_record_batch(all, &keys.iter().map(|found| Some(found == Some(key))).collect()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn batches() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (0u32..12, 0usize..4, -50i64..50).prop_map(|(key, region, amount)| row(key, region, amount));
    prop::collection::vec(prop::collection::vec(row, 1..60), 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_key_replayed_over_table_and_tail_is_the_filtered_input(
        batches in batches(), flushes in prop::collection::vec(1usize..4, 0..5), from in 1i64..200, length in 0i64..300,
    ) {
        runtime().block_on(async {
            let (world, _, all) = filled(Settings::default(), &batches, &flushes).await;
            for key in 0..13 {
                let key = format!("k-{key}");
                let found = run(&world, Replay { key: Some(key.clone()), ..replay() }).await.unwrap();
                assert_eq!(found, of_key(&all, &key));
            }
            let to = from + length;
            let part = Replay { key: Some("k-3".into()), from: Some(from), to: Some(to), ..replay() };
            let expected: Vec<i64> = seqs(&of_key(&all, "k-3")).into_iter().filter(|seq| (from..to).contains(seq)).collect();
            assert_eq!(seqs(&run(&world, part).await.unwrap()), expected);
        });
    }

    #[test]
    fn a_whole_topic_is_replayed_in_the_order_of_the_input_by_way_of_memory_or_disk(
        batches in batches(), flushes in prop::collection::vec(1usize..4, 0..5), range_bytes_max in 0usize..20_000, from in 1i64..200,
    ) {
        runtime().block_on(async {
            let settings = Settings { range_bytes_max, ..Settings::default() };
            let (world, _, all) = filled(settings, &batches, &flushes).await;
            assert_eq!(run(&world, replay()).await.unwrap(), all);
            let rest = run(&world, Replay { from: Some(from), ..replay() }).await.unwrap();
            assert_eq!(seqs(&rest), (from..=all.num_rows() as i64).collect::<Vec<_>>());
        });
    }
}

#[tokio::test]
async fn a_range_without_room_in_memory_goes_by_way_of_the_disk_and_leaves_nothing_there() {
    let rows: Vec<Row> = (0..5_000).map(|n| row(n % 700, n as usize % 4, i64::from(n))).collect();
    let settings = Settings { range_bytes_max: 64 << 10, ..Settings::default() };
    let (world, _, all) = filled(settings, &[rows.clone(), rows], &[1]).await;
    assert_eq!(run(&world, replay()).await.unwrap(), all);
    assert!(world.engine.read_stats().spilled_bytes > 100_000, "{:?}", world.engine.read_stats());
    assert_eq!(spilled_now(&world), 0);
}

#[tokio::test]
async fn spilling_beyond_what_is_allowed_is_refused_by_name() {
    let rows: Vec<Row> = (0..5_000).map(|n| row(n % 700, 0, i64::from(n))).collect();
    let settings = Settings { range_bytes_max: 64 << 10, spill_bytes_max: 1 << 10, ..Settings::default() };
    let (world, _, _) = filled(settings, &[rows], &[1]).await;
    let error = run(&world, replay()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
    assert!(error.to_string().contains("spill_bytes_max"), "{error}");
    assert_eq!(spilled_now(&world), 0);
}

#[tokio::test]
async fn a_key_with_many_rows_is_handed_out_in_order_and_in_parts() {
    let hot = |n: i64| Row::new("hot", REGIONS[(n % 3) as usize], "new", n);
    let rows: Vec<Row> = (0..40_000).map(|n| if n % 4 == 0 { row(n as u32, 0, n) } else { hot(n) }).collect();
    let (world, _, all) = filled(Settings::default(), &[rows.clone(), rows], &[1]).await;
    let key = Replay { key: Some("hot".into()), ..replay() };
    let stream = world.engine.replay(&world.tenant, key.clone()).await.unwrap();
    assert!(stream.batches.count().await > 2);
    assert_eq!(run(&world, key).await.unwrap(), of_key(&all, "hot"));
}

#[tokio::test]
async fn one_key_decodes_a_few_pages_and_an_absent_one_opens_no_file() {
    let rows: Vec<Row> = (0..30_000).map(|n| row(n % 10_000, n as usize % 3, i64::from(n))).collect();
    let (world, _, all) = filled(Settings::default(), &[rows], &[1]).await;
    let before = world.engine.read_stats();
    let columns = Some(vec!["_seq".into(), "amount".into()]);
    let found = run(&world, Replay { key: Some("k-17".into()), columns: columns.clone(), ..replay() }).await.unwrap();
    assert_eq!(seqs(&found), seqs(&of_key(&all, "k-17")));
    let after = world.engine.read_stats();
    assert_eq!(after.files_opened - before.files_opened, 1);
    // At most a page of `_key` a prefix, and two columns of those that hold the key.
    assert!(after.pages - before.pages <= 3 * (1 + 2) + 3, "{before:?} {after:?}");

    // The filters let one absent key in a hundred through.
    for absent in 0..50 {
        run(&world, Replay { key: Some(format!("k-absent-{absent}")), columns: columns.clone(), ..replay() })
            .await
            .unwrap();
    }
    assert!(world.engine.read_stats().files_opened - after.files_opened <= 5);
}

#[tokio::test]
async fn columns_come_in_the_order_asked_for_and_only_rows_that_fulfil_the_condition() {
    let rows: Vec<Row> = (0..3_000).map(|n| row(n % 10, n as usize % 3, i64::from(n))).collect();
    let (world, _, all) = filled(Settings::default(), &[rows.clone(), rows], &[1]).await;
    for key in [None, Some("k-0".to_owned())] {
        let asked = Replay {
            columns: Some(vec!["note".into(), "_seq".into(), "region".into()]),
            filter: Some("amount > 100 and status = 'returned' and note is not null".into()),
            key: key.clone(),
            ..replay()
        };
        let found = run(&world, asked).await.unwrap();
        let amounts = all.column_by_name("amount").unwrap().as_primitive::<Int64Type>();
        let keys = all.column(column::KEY).as_string::<i32>();
        let wanted = (0..all.num_rows()).map(|row| {
            let amount = amounts.value(row);
            Some(amount > 100 && amount % 10 == 0 && key.as_deref().is_none_or(|key| key == keys.value(row)))
        });
        let expected = filter_record_batch(&all, &wanted.collect()).unwrap();
        let places: Vec<_> = ["note", "_seq", "region"].map(|name| all.schema().index_of(name).unwrap()).into();
        assert!(expected.num_rows() > 20);
        assert_eq!(found, expected.project(&places).unwrap());
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_with_what_would_be_right() {
    let (world, ..) = filled(Settings::default(), &[vec![row(1, 1, 1)]], &[]).await;
    let cases = [
        (Replay { topic: World::name("nothing"), ..replay() }, ErrorKind::NotFound, "orders"),
        (Replay { columns: Some(vec!["colour".into()]), ..replay() }, ErrorKind::NotFound, "region"),
        (Replay { columns: Some(vec![]), ..replay() }, ErrorKind::Invalid, "at least one"),
        (Replay { columns: Some(vec!["id".into(), "id".into()]), ..replay() }, ErrorKind::Invalid, "twice"),
        (Replay { from: Some(0), ..replay() }, ErrorKind::Invalid, "from 1 on"),
        (Replay { filter: Some("amount >".into()), ..replay() }, ErrorKind::Invalid, ""),
        (Replay { filter: Some("1 / (amount - amount) > 0".into()), ..replay() }, ErrorKind::Invalid, "where"),
    ];
    for (asked, kind, says) in cases {
        let error = run(&world, asked.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{asked:?}: {error}");
        assert!(error.to_string().contains(says), "{asked:?}: {error}");
    }
    let empty = run(&world, Replay { from: Some(5), to: Some(3), ..replay() }).await.unwrap();
    assert_eq!(empty.num_rows(), 0);
}

#[tokio::test]
async fn a_replay_ends_with_what_was_acknowledged_at_the_call() {
    let rows: Vec<Row> = (0..100).map(|n| row(n, 0, i64::from(n))).collect();
    let (world, def, all) = filled(Settings::default(), std::slice::from_ref(&rows), &[]).await;
    let stream = world.engine.replay(&world.tenant, replay()).await.unwrap();
    world.append(&def, &rows);
    world.flush(&def, 2).await;
    assert_eq!(collect(stream).await.unwrap(), concat_batches(&all.schema(), [&all]).unwrap());
}

#[tokio::test]
async fn a_page_of_one_text_and_nulls_is_not_taken_for_that_text() {
    let rows = vec![row(1, 0, 2), row(1, 0, 3), row(2, 0, 2)];
    let (world, _, all) = filled(Settings::default(), &[rows], &[1]).await;
    let found = run(&world, Replay { key: Some("k-1".into()), ..replay() }).await.unwrap();
    assert_eq!(found, of_key(&all, "k-1"));
    assert_eq!(found.column_by_name("note").unwrap().null_count(), 1);
}
