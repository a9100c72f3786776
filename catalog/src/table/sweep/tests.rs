use std::sync::Arc;

use object_store::ObjectStoreExt;
use schemas::{Seq, Watermark};

use super::super::testing::{events, flush, orders, tenant};
use super::*;
use crate::env::Env;
use crate::storage::Store;
use crate::storage::faults::{Fault, gated, store};

/// Puts of one flush that nobody overtakes: data file, manifest, manifest list, metadata, pointer.
const PUTS: usize = 5;

async fn table(store: &Store, def: &TopicDef) -> Tables {
    let tables = Tables::new(store.clone(), Env::system());
    tables.ensure(&tenant(), def).await.unwrap();
    tables
}

/// Every object under the table's location.
async fn objects(state: &TableState) -> HashSet<Path> {
    let store = &state.shared().store;
    let root = store.path(state.metadata().location()).unwrap();
    store.objects().list(Some(&root)).map_ok(|object| object.location).try_collect().await.unwrap()
}

/// Everything that the table's metadata names is there, and its files tile `[1, watermark)`.
async fn check_whole(state: &TableState) {
    let there: HashSet<u128> = objects(state).await.iter().map(fingerprint).collect();
    let missing = referenced(state).await.unwrap().difference(&there).count();
    // Metadata files that a commit let go of are removed by that commit, and stand in the log of the one before.
    assert_eq!(missing, 0, "files that the table names are gone");
    let mut end = 1;
    for file in state.files().await.unwrap().files() {
        assert_eq!((file.seqs.0.0, file.rows as i64), (end, file.seqs.1.0 - end + 1), "a gap or an overlap");
        end = file.seqs.1.0 + 1;
        state.shared().store.objects().head(&file.path).await.unwrap();
    }
    assert_eq!(state.watermark(), Watermark(Seq(end)));
}

#[test]
fn only_names_of_a_generation_before_the_last_are_past() {
    let data = |generation: u64| format!("0f8a-1-9-g{generation}-5c0ffee-abc.parquet");
    assert!(is_past(&data(3), 5, 0) && is_past("g3-5c0f-m0-abc.avro", 5, 0));
    assert!(is_past("snap-17-g3-5c0f-abc.avro", 5, 0));
    assert!(!is_past(&data(4), 5, 0), "a flush that slept through one sweep may commit it");
    assert!(!is_past(&data(5), 5, 0));
    assert!(is_past("00006-5c0f.metadata.json", 5, 7) && !is_past("00007-5c0f.metadata.json", 5, 7));
    for theirs in ["00000-0-5c0f-00001.parquet", "theirs-m.avro", "gold-1.parquet", "stats.puffin", "x.metadata.json"] {
        assert!(!is_past(theirs, 1_000, 1_000), "{theirs}");
    }
}

/// A flush of seqs 3 and 4 sleeps before its `put`-th put through `sweeps` sweeps, and through a flush of the first of them if it is `overtaken`.
async fn a_flush_that_sleeps(put: usize, sweeps: usize, overtaken: bool) {
    let (slow, store, gate) = gated();
    let def = Arc::new(orders());
    let tables = table(&store, &def).await;
    flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu"), ("b", "eu")])]).await.unwrap();
    let sleeper = table(&slow, &def).await;
    let rows = [events(&def, 3, &[("c", "eu"), ("d", "eu")])];
    let task = tokio::spawn({
        let def = Arc::clone(&def);
        async move { flush(&sleeper, &def, 3, &rows).await }
    });
    gate.open(put - 1);
    gate.arrived(put).await;
    for _ in 0..sweeps {
        tables.sweep(&def).await.unwrap();
    }
    if overtaken {
        flush(&tables, &def, 3, &[events(&def, 3, &[("c", "eu")])]).await.unwrap();
        tables.sweep(&def).await.unwrap();
    }
    gate.open(100);
    let woken = task.await.unwrap().unwrap();
    assert!(woken.watermark().0 > Seq(3));
    let state = tables.load(&def).await.unwrap();
    check_whole(&state).await;
    assert_eq!(state.watermark(), Watermark(Seq(if overtaken { 4 } else { 5 })));

    tables.sweep(&def).await.unwrap();
    tables.sweep(&def).await.unwrap();
    let state = tables.load(&def).await.unwrap();
    check_whole(&state).await;
    let named = referenced(&state).await.unwrap();
    let litter: Vec<_> = objects(&state).await.into_iter().filter(|path| !named.contains(&fingerprint(path))).collect();
    assert!(litter.is_empty(), "what it left behind is gone after two sweeps: {litter:?}");
}

#[tokio::test]
async fn a_flush_that_sleeps_through_sweeps_at_any_step_loses_no_file() {
    for put in 1..=PUTS {
        for sweeps in 0..=3 {
            a_flush_that_sleeps(put, sweeps, false).await;
            a_flush_that_sleeps(put, sweeps, true).await;
        }
    }
}

#[tokio::test]
async fn a_twins_late_put_of_a_data_file_alters_nothing_and_is_swept() {
    let (slow, store, gate) = gated();
    let def = Arc::new(orders());
    let tables = table(&store, &def).await;
    let twin = table(&slow, &def).await;
    let rows = [events(&def, 1, &[("a", "eu"), ("b", "eu")])];
    let task = tokio::spawn({
        let (def, rows) = (Arc::clone(&def), rows.clone());
        async move { flush(&twin, &def, 1, &rows).await }
    });
    gate.arrived(1).await;
    let done = flush(&tables, &def, 1, &rows).await.unwrap();
    let before = objects(&done).await;
    gate.open(100);
    let seen = task.await.unwrap().unwrap();
    assert_eq!(seen.metadata_uri(), done.metadata_uri(), "the twin finds its rows there");
    let late: Vec<_> = objects(&done).await.difference(&before).cloned().collect();
    assert!(late.iter().any(|path| path.as_ref().ends_with(".parquet")), "under a name of its own: {late:?}");
    for _ in 0..3 {
        tables.sweep(&def).await.unwrap();
    }
    let state = tables.load(&def).await.unwrap();
    check_whole(&state).await;
    assert!(
        late.iter().all(|path| !path.as_ref().ends_with(".parquet"))
            || objects(&state).await.is_disjoint(&late.into_iter().collect())
    );
}

#[tokio::test]
async fn manifest_lists_of_forgotten_snapshots_are_removed() {
    let store = store([], std::time::Duration::from_secs(1));
    let def = orders();
    let tables = table(&store, &def).await;
    let base = tables.load(&def).await.unwrap();
    let kept = [("history.expire.max-snapshot-age-ms", "0"), ("history.expire.min-snapshots-to-keep", "1")];
    let kept = kept.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
    let built = builder.set_properties(HashMap::from(kept)).unwrap().build().unwrap();
    tables.publish(&def, "kept", &base, built).await.unwrap().unwrap();
    for seq in 1..=40 {
        flush(&tables, &def, seq, &[events(&def, seq, &[("a", "eu")])]).await.unwrap();
    }
    let lists = |paths: &HashSet<Path>| paths.iter().filter(|path| path.as_ref().contains("/snap-")).count();
    assert_eq!(lists(&objects(&tables.load(&def).await.unwrap()).await), 40);
    let mut removed = 0;
    for generation in 1..=3 {
        let swept = tables.sweep(&def).await.unwrap();
        assert_eq!(swept.generation, generation);
        removed += swept.removed_files;
    }
    let state = tables.load(&def).await.unwrap();
    check_whole(&state).await;
    let left = lists(&objects(&state).await);
    assert_eq!(left, state.metadata().snapshots().len());
    assert!(left < 40 && removed >= 40 - left as u64, "{left} lists are left, {removed} files were removed");
}

#[tokio::test]
async fn a_sweep_whose_answer_is_lost_begins_a_generation_all_the_same() {
    let plan = [Fault::None, Fault::None, Fault::None, Fault::After, Fault::None];
    let store = store(plan, std::time::Duration::ZERO);
    let def = orders();
    let tables = table(&store, &def).await;
    let swept = tables.sweep(&def).await.unwrap();
    assert!(swept.generation >= 1);
    let state = flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();
    assert_eq!(state.generation().unwrap(), swept.generation);
    check_whole(&state).await;
}

/// A clock that a test sets.
#[derive(Debug, Default)]
struct Clock(std::sync::atomic::AtomicI64);

impl crate::env::Source for Clock {
    fn now_micros(&self) -> i64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        Env::system().nonce()
    }
}

#[tokio::test]
async fn a_sweep_of_a_new_table_after_the_clock_was_set_back_leaves_it_readable() {
    let store = store([], std::time::Duration::from_secs(1));
    let def = orders();
    let clock = Arc::new(Clock::default());
    // Ahead of the machine's by a day.
    clock.0.store(Env::system().now_micros() + 86_400_000_000, std::sync::atomic::Ordering::Relaxed);
    let tables = Tables::new(store.clone(), Env::from_source(Arc::clone(&clock) as _));
    tables.ensure(&tenant(), &def).await.unwrap();
    clock.0.store(Env::system().now_micros(), std::sync::atomic::Ordering::Relaxed);
    tables.sweep(&def).await.unwrap();
    flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu")])]).await.unwrap();
    let state = table(&store, &def).await.load(&def).await.unwrap();
    assert_eq!(state.watermark(), Watermark(Seq(2)));
}
