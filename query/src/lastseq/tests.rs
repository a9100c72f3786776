use std::collections::HashMap;

use catalog::view::{Asked, LastSeqs, LastSeqsFound, Matching};
use proptest::prelude::*;
use schemas::pattern::Pattern;
use schemas::{Seq, TopicDef, Watermark};

use crate::reader::ReadStats;
use crate::settings::Settings;
use crate::testing::{Row, World};

const REGIONS: [&str; 3] = ["eu", "us", "apac"];

fn row(key: u32, region: usize) -> Row {
    Row::new(
        &format!("k-{key}"),
        REGIONS[region],
        if key.is_multiple_of(5) { "returned" } else { "new" },
        i64::from(key),
    )
}

fn key(key: u32, above: i64) -> Asked {
    Asked { of: Matching::Key(format!("k-{key}")), above: Seq(above) }
}

fn pattern(text: &str, above: i64) -> Asked {
    Asked { of: Matching::Pattern(Pattern::parse(text).unwrap()), above: Seq(above) }
}

/// What one flushed history says by itself.
fn expected(rows: &[Row], asked: &Asked) -> Option<Seq> {
    let matches = |row: &Row| match &asked.of {
        Matching::Key(key) => row.id == *key,
        Matching::Pattern(pattern) => pattern.matches(&format!("orders/{}/{}", row.region, row.status)),
        Matching::Topic => true,
    };
    let last = (1..).zip(rows).filter(|(_, row)| matches(row)).map(|(seq, _)| Seq(seq)).last();
    last.filter(|last| *last > asked.above)
}

async fn ask(world: &World, def: &TopicDef, asked: &[Asked]) -> LastSeqsFound {
    world.last_seqs.last_seqs(def, asked).await.unwrap()
}

/// What a call has read.
async fn reads(world: &World, def: &TopicDef, asked: &[Asked]) -> (LastSeqsFound, ReadStats) {
    let before = world.engine.read_stats();
    let found = ask(world, def, asked).await;
    let after = world.engine.read_stats();
    let read = ReadStats {
        files_considered: after.files_considered - before.files_considered,
        files_opened: after.files_opened - before.files_opened,
        pages: after.pages - before.pages,
        bytes: after.bytes - before.bytes,
        rows: after.rows - before.rows,
        spilled_bytes: 0,
    };
    (found, read)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn question() -> impl Strategy<Value = Asked> {
    let of = prop_oneof![
        4 => (0u32..24).prop_map(|number| Matching::Key(format!("k-{number}"))),
        2 => prop::sample::select(&["orders/>", "orders/eu/>", "orders/*/returned", "orders/us/new", "flights/>", ">", "orders"][..])
            .prop_map(|text| Matching::Pattern(Pattern::parse(text).unwrap())),
        1 => Just(Matching::Topic),
    ];
    (of, 0i64..40).prop_map(|(of, above)| Asked { of, above: Seq(above) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_answer_is_what_the_table_holds_however_often_it_is_asked_and_flushed(
        batches in prop::collection::vec(prop::collection::vec((0u32..20, 0usize..3), 1..12), 1..5),
        rounds in prop::collection::vec(prop::collection::vec(question(), 1..8), 5),
    ) {
        runtime().block_on(async {
            let world = World::new(Settings::default()).await;
            let def = world.topic("orders").await;
            let mut rows: Vec<Row> = Vec::new();
            for (batch, asked) in batches.iter().map(Some).chain([None]).zip(&rounds) {
                let found = ask(&world, &def, asked).await;
                prop_assert_eq!(found.watermark, Watermark(Seq::FIRST.plus(rows.len())));
                let expected: Vec<_> = asked.iter().map(|asked| expected(&rows, asked)).collect();
                prop_assert_eq!(found.last, expected);
                if let Some(batch) = batch {
                    let batch: Vec<Row> = batch.iter().map(|(key, region)| row(*key, *region)).collect();
                    world.append(&def, &batch);
                    world.flush(&def, 1).await;
                    rows.extend(batch);
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_is_not_flushed_is_not_in_the_answer() {
    let world = World::new(Settings::default()).await;
    let def = world.topic("orders").await;
    world.append(&def, &[row(1, 0), row(2, 0)]);
    world.append(&def, &[row(1, 0)]);
    world.flush(&def, 1).await;
    let asked = [key(1, 0), Asked { of: Matching::Topic, above: Seq(0) }];
    let found = ask(&world, &def, &asked).await;
    assert_eq!(found, LastSeqsFound { last: vec![Some(Seq(1)), Some(Seq(2))], watermark: Watermark(Seq(3)) });
}

#[tokio::test]
async fn files_whose_seqs_are_all_below_the_bound_are_not_looked_into() {
    let world = World::new(Settings::default()).await;
    let def = world.topic("orders").await;
    for _ in 0..4 {
        world.append(&def, &[row(1, 0), row(5, 1)]);
        world.flush(&def, 1).await;
    }
    for asked in [key(1, 8), pattern("orders/>", 8)] {
        let (found, read) = reads(&world, &def, &[asked]).await;
        assert_eq!((found.last, read.files_opened), (vec![None], 0));
    }
    for asked in [key(1, 0), pattern("orders/eu/>", 0)] {
        let (found, read) = reads(&world, &def, &[asked]).await;
        assert_eq!(
            (found.last, read.files_opened),
            (vec![Some(Seq(7))], 1),
            "the newest file has it, no other is read"
        );
    }
}

#[tokio::test]
async fn an_answer_is_kept_and_only_what_was_flushed_since_is_read() {
    let world = World::new(Settings::default()).await;
    let def = world.topic("orders").await;
    world.append(&def, &[row(1, 0), row(5, 1)]);
    world.flush(&def, 1).await;
    let asked = [key(1, 0), key(9, 0), pattern("orders/*/returned", 0)];
    assert_eq!(ask(&world, &def, &asked).await.last, [Some(Seq(1)), None, Some(Seq(2))]);
    let (again, read) = reads(&world, &def, &asked).await;
    assert_eq!((again.last, read), (vec![Some(Seq(1)), None, Some(Seq(2))], ReadStats::default()));

    world.append(&def, &[row(9, 0)]);
    world.flush(&def, 1).await;
    let (later, read) = reads(&world, &def, &asked).await;
    assert_eq!(later.last, [Some(Seq(1)), Some(Seq(3)), Some(Seq(2))]);
    assert!(read.files_opened <= 2, "{read:?}: the new file for the key, and for the pattern");
}

/// A topic of `files` files with `each` keys a file, no key twice.
async fn wide(files: u32, each: u32) -> (World, std::sync::Arc<TopicDef>) {
    let world = World::new(Settings { last_seq_cache_bytes: 1 << 20, ..Settings::default() }).await;
    let def = world.topic("orders").await;
    for file in 0..files {
        let rows: Vec<Row> = (0..each).map(|number| row(file * each + number, (number % 3) as usize)).collect();
        world.append(&def, &rows);
        world.flush(&def, 1).await;
    }
    (world, def)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_costs_one_read_at_most_plus_what_filters_get_wrong_and_a_new_one_nearly_none() {
    let (files, each) = (4, 5_000);
    let (world, def) = wide(files, each).await;
    // A page of `_seq` and one of `_key` for each of the three prefixes, and for each of the two borders between them.
    let pages_max = 2 * (3 + 2);
    let mut reads_of = HashMap::new();
    for (what, from) in [("there", 0), ("new", files * each)] {
        let mut read_of_keys = 0;
        for number in (from..from + files * each).step_by(97) {
            let (found, read) = reads(&world, &def, &[key(number, 0)]).await;
            assert_eq!(found.last, [(what == "there").then(|| Seq(i64::from(number) + 1))]);
            assert!(
                read.files_opened <= u64::from(files) && read.pages <= pages_max * read.files_opened,
                "{number}: {read:?}"
            );
            read_of_keys += read.files_opened;
        }
        reads_of.insert(what, read_of_keys as f64 / f64::from((files * each).div_ceil(97)));
    }
    println!("{reads_of:?} reads a key of {files} files");
    assert!((1.0..1.1).contains(&reads_of["there"]), "{reads_of:?} reads a key");
    assert!(reads_of["new"] < 0.1, "{reads_of:?} reads a key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_at_once_share_the_reads_of_a_file() {
    let (files, each) = (4, 5_000);
    let (world, def) = wide(files, each).await;
    let asked: Vec<_> = (0..files * each).step_by(3).map(|number| key(number, 0)).collect();
    let (found, read) = reads(&world, &def, &asked).await;
    let expected: Vec<_> = (0..files * each).step_by(3).map(|number| Some(Seq(i64::from(number) + 1))).collect();
    assert_eq!(found.last, expected);
    assert!(read.files_opened <= 3 * u64::from(files), "{read:?}");
    assert!(world.last_seqs.cached_bytes() <= 1 << 20, "the cache keeps its bound");
}
