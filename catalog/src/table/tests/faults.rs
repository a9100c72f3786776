//! What a flush does when its puts are lost, late, refused or doubled, and others commit meanwhile.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::storage::faults::{Fault, store};

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
