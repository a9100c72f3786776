//! What a flush does when its puts are lost, late, refused or doubled, and others commit meanwhile.

use std::time::Duration;

use proptest::prelude::*;
use schemas::path::PathTemplate;

use super::*;
use crate::audit::Checks;
use crate::storage::Meter;
use crate::storage::faults::{Fault, gated, store};
use crate::table::audit::TableAudit;

/// Puts that make a table: its metadata and its pointer.
const PUTS_OF_A_TABLE: usize = 2;
/// Puts of a flush before the one that moves the table's pointer: data file, manifest, manifest list, metadata.
const PUTS_BEFORE_THE_COMMIT: usize = 4;

/// Flushes by turns from two processes, in pieces of two and three rows, until `end` rows are in; tries again whatever can be tried again.
async fn flush_all(tables: [&Tables; 2], def: &TopicDef, end: i64) -> Arc<TableState> {
    for turn in 0..200 {
        let tables = tables[turn % 2];
        let from = match tables.load(def).await {
            Ok(state) if state.watermark().0.0 > end => return state,
            Ok(state) => state.watermark().0.0,
            Err(error) => panic!("reading meets no faults: {error}"),
        };
        let keys = vec![("k", "eu"); (2 + turn as i64 % 2).min(end + 1 - from) as usize];
        match flush(tables, def, from, &[events(def, from, &keys)]).await {
            Ok(state) => assert!(state.watermark().0.0 > from),
            Err(error) => assert!(error.kind().is_retryable(), "{error}"),
        }
    }
    panic!("200 turns are enough");
}

fn fault() -> impl Strategy<Value = Fault> {
    prop::sample::select(vec![
        Fault::None,
        Fault::Before,
        Fault::After,
        Fault::Late,
        Fault::Conflict,
        Fault::OwnConflict,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_befalls_the_puts_every_row_is_in_once(
        plan in prop::collection::vec(fault(), 0..60), deadline_ms in prop::sample::select(vec![0_u64, 2, 1_000])
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store([Fault::None; 2].into_iter().chain(plan), Duration::from_millis(deadline_ms));
            let (one, other) = (Tables::new(store.clone(), Env::system()), Tables::new(store, Env::system()));
            let def = orders();
            one.ensure(&tenant(), &def).await.unwrap();
            other.ensure(&tenant(), &def).await.unwrap();
            let state = flush_all([&one, &other], &def, 20).await;
            let mut end = 1;
            for file in state.files().await.unwrap().files() {
                assert_eq!((file.seqs.0.0, file.rows as i64), (end, file.seqs.1.0 - end + 1));
                assert!(one.store().objects().head(&file.path).await.is_ok(), "a file of the table is there");
                end = file.seqs.1.0 + 1;
            }
            assert_eq!(end, 21);
        });
    }
}

/// A topic as it was made, with a field more, and without one.
fn versions() -> [TopicDef; 3] {
    let mut first = orders();
    (first.path, first.prefix_levels) = (PathTemplate::parse("orders/{region}").unwrap(), 2);
    let mut schema = first.schema.clone();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.push(serde_json::json!({"name": "channel", "type": ["null", "string"]}));
    let (second, _) = first.altered(schema.clone(), &[]).unwrap().unwrap();
    schema["fields"].as_array_mut().unwrap().remove(2);
    let (third, _) = second.altered(schema, &[]).unwrap().unwrap();
    [first, second, third]
}

/// Like [`flush_all`], while the topic's schema changes twice; the second process hears of each change late.
async fn flush_versions(tables: [&Tables; 2], versions: &[TopicDef; 3], end: i64) {
    for turn in 0..200 {
        let from = tables[turn % 2].load(&versions[0]).await.expect("reading meets no faults").watermark().0.0;
        if from > end {
            return;
        }
        let newest = usize::from(from > 6) + usize::from(from > 13);
        let def = &versions[newest.saturating_sub(turn % 2)];
        let keys = vec![("k", "eu"); (2 + turn as i64 % 2).min(end + 1 - from) as usize];
        if let Err(error) = flush(tables[turn % 2], def, from, &[events(def, from, &keys)]).await {
            assert!(error.kind().is_retryable(), "{error}");
        }
    }
    panic!("200 turns are enough");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_befalls_the_puts_a_change_of_the_schema_comes_with_its_rows_and_every_hash_is_right(
        plan in prop::collection::vec(fault(), 0..60), deadline_ms in prop::sample::select(vec![0_u64, 2, 1_000])
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store([Fault::None; 2].into_iter().chain(plan), Duration::from_millis(deadline_ms));
            let (one, other) = (Tables::new(store.clone(), Env::system()), Tables::new(store, Env::system()));
            let versions = versions();
            one.ensure(&tenant(), &versions[0]).await.unwrap();
            other.ensure(&tenant(), &versions[0]).await.unwrap();
            flush_versions([&one, &other], &versions, 20).await;
            let mut checks = Checks::default();
            let def = Arc::new(versions[2].clone());
            let audit = TableAudit::open(&one, &tenant(), &def, &mut checks).await.expect("a table");
            assert_eq!(audit.schema_version().unwrap(), 3);
            let facts = audit.rows(Vec::new(), &Meter::default(), &mut checks).await.expect("all is right");
            assert_eq!(facts.rows, 20);
            let table = one.load(&def).await.unwrap();
            let fields = &table.metadata().current_schema().as_struct().fields()[column::PAYLOAD..];
            let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
            assert_eq!(names, ["id", "region", "channel"]);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_takes_before_and_after_a_column_is_dropped_is_proven() {
    let tables = Tables::new(store([], Duration::from_secs(1)), Env::system());
    let versions = versions().map(Arc::new);
    tables.ensure(&tenant(), &versions[0]).await.unwrap();
    let flush_two = async |version: usize, from: i64| {
        let def = &versions[version];
        flush(&tables, def, from, &[events(def, from, &[("a", "eu"), ("b", "eu")])]).await.unwrap();
    };
    let rows_proven = async |version: usize| {
        let mut checks = Checks::default();
        let audit = TableAudit::open(&tables, &tenant(), &versions[version], &mut checks).await.expect("a table");
        audit.rows(Vec::new(), &Meter::default(), &mut checks).await.expect("all is right").rows
    };
    flush_two(0, 1).await;
    flush_two(1, 3).await;
    tables.drop_below(&versions[1], Seq(3)).await.unwrap();
    assert_eq!(rows_proven(1).await, 2);
    let early = tables.drop_below(&versions[2], Seq(5)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Unavailable, "the table still has the column: {early}");
    flush_two(2, 5).await;
    assert_eq!(rows_proven(2).await, 4);
    flush_two(2, 7).await;
    // Of these the first two are not in the sum, which began anew with the third.
    tables.drop_below(&versions[2], Seq(7)).await.unwrap();
    assert_eq!(rows_proven(2).await, 2);
}

/// What the files of a table hold.
async fn seqs(state: &TableState) -> Vec<(i64, i64)> {
    state.files().await.unwrap().files().iter().map(|file| (file.seqs.0.0, file.seqs.1.0)).collect()
}

/// A library that applies an append again after a lost reply has it in twice.
#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_found_and_not_made_again() {
    for fault in [Fault::After, Fault::Late, Fault::OwnConflict] {
        for deadline_ms in [0, 1_000] {
            let plan = [Fault::None; PUTS_OF_A_TABLE + PUTS_BEFORE_THE_COMMIT].into_iter().chain([fault]);
            let tables = Tables::new(store(plan, Duration::from_millis(deadline_ms)), Env::system());
            let def = orders();
            tables.ensure(&tenant(), &def).await.unwrap();
            let rows = [events(&def, 1, &[("a", "eu"), ("b", "eu")])];
            while let Err(error) = flush(&tables, &def, 1, &rows).await {
                assert!(error.kind().is_retryable(), "{fault:?}: {error}");
            }
            // What was late has landed by now.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let state = tables.load(&def).await.unwrap();
            assert_eq!(seqs(&state).await, [(1, 2)], "{fault:?}");
            assert_eq!(state.metadata().snapshots().count(), 1, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_competitor_that_took_a_strict_prefix_is_cut_around() {
    let (slow, store, gate) = gated();
    let (tables, twin) = (Tables::new(store, Env::system()), Tables::new(slow, Env::system()));
    let def = Arc::new(orders());
    tables.ensure(&tenant(), &def).await.unwrap();
    twin.ensure(&tenant(), &def).await.unwrap();
    let rows =
        [events(&def, 1, &[("a", "eu"), ("b", "eu"), ("c", "eu")]), events(&def, 4, &[("d", "eu"), ("e", "eu")])];
    let task = tokio::spawn({
        let (def, twin, rows) = (Arc::clone(&def), twin.clone(), rows.clone());
        async move { flush(&twin, &def, 1, &rows).await }
    });
    gate.open(PUTS_BEFORE_THE_COMMIT);
    gate.arrived(PUTS_BEFORE_THE_COMMIT + 1).await;
    let theirs = flush(&tables, &def, 1, &rows[..1]).await.unwrap();
    gate.open(100);
    let seen = task.await.unwrap().unwrap();
    assert_eq!((seen.metadata_uri(), seen.watermark()), (theirs.metadata_uri(), Watermark(Seq(4))), "its own is void");
    let state = flush(&twin, &def, 4, &rows[1..]).await.unwrap();
    assert_eq!(seqs(&state).await, [(1, 3), (4, 5)]);
}
