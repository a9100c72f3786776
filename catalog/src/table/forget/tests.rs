use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use iceberg::spec::{SnapshotReference, SnapshotRetention, TableMetadata};

use super::*;
use crate::env::{Env, Source};
use crate::storage::{Store, StoreConfig};
use crate::table::testing::{events, flush, orders, tenant};
use crate::table::{TableState, Tables};

/// A clock that moves a minute at each look, and the machine's randomness.
#[derive(Debug)]
struct Minutes(AtomicI64, Env);

impl Source for Minutes {
    fn now_micros(&self) -> i64 {
        self.0.fetch_add(60_000_000, Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        self.1.nonce()
    }
}

async fn flushed(folder: &std::path::Path, flushes: i64) -> (Tables, Arc<TableState>) {
    let env = Env::from_source(Arc::new(Minutes(AtomicI64::new(1_700_000_000_000_000), Env::system())));
    let store = Store::open(&StoreConfig::at(folder.display().to_string()), Env::system()).await.expect("a store");
    let (tables, def) = (Tables::new(store, env), orders());
    let mut state = tables.ensure(&tenant(), &def).await.expect("a table");
    for seq in 1..=flushes {
        state = flush(&tables, &def, seq, &[events(&def, seq, &[("a", "eu")])]).await.expect("flushes");
    }
    tables.load(&def).await.expect("it is what its flushes left");
    (tables, state)
}

fn kept(metadata: &TableMetadata) -> usize {
    metadata.snapshots().len()
}

#[tokio::test]
async fn old_snapshots_are_forgotten_and_every_row_and_the_watermark_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let flushes = SNAPSHOTS_KEPT_MIN + FORGOTTEN_BY_FLUSH_MIN + 40;
    let (_, state) = flushed(folder.path(), flushes as i64).await;
    let snapshots = kept(state.metadata());
    assert!((SNAPSHOTS_KEPT_MIN..=SNAPSHOTS_KEPT_MIN + FORGOTTEN_BY_FLUSH_MIN).contains(&snapshots), "{snapshots}");
    assert_eq!(state.watermark().0.0, flushes as i64 + 1);
    let files = state.files().await.expect("manifests");
    assert_eq!(files.files().iter().map(|file| file.rows).sum::<u64>(), flushes as u64);
}

#[tokio::test]
async fn what_is_young_few_or_tagged_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, state) = flushed(folder.path(), 80).await;
    let metadata = state.metadata().as_ref().clone();
    let now_ms = metadata.last_updated_ms() + SNAPSHOT_AGE_MS;
    assert!(forgettable(&metadata, now_ms, FORGOTTEN_AT_ONCE_MIN).is_empty(), "fewer than are kept in any case");

    let few = [(SNAPSHOTS_KEPT.to_owned(), "10".to_owned())].into();
    let builder = metadata.into_builder(None).set_properties(few).expect("properties");
    let metadata = builder.build().expect("metadata").metadata;
    assert_eq!(forgettable(&metadata, now_ms, FORGOTTEN_AT_ONCE_MIN).len(), 70);
    assert!(forgettable(&metadata, 0, 1).is_empty(), "all are young");

    let mut ids: Vec<_> =
        metadata.snapshots().map(|snapshot| (snapshot.sequence_number(), snapshot.snapshot_id())).collect();
    ids.sort_unstable();
    let retention = SnapshotRetention::Tag { max_ref_age_ms: None };
    let tagged =
        metadata.into_builder(None).set_ref("audit", SnapshotReference::new(ids[19].1, retention)).expect("a tag");
    let tagged = tagged.build().expect("metadata").metadata;
    assert_eq!(
        forgettable(&tagged, now_ms, FORGOTTEN_AT_ONCE_MIN).len(),
        50,
        "the tagged one and its 19 ancestors stay"
    );
}
