mod crash;
mod retained;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::RecordBatch;
use proptest::prelude::*;
use schemas::{LaneId, TenantId, TopicId, TopicSpec, Watermark};
use serde_json::json;
use uuid::Uuid;

use super::super::audit::TableAudit;
use super::super::expire::Expired;
use super::super::files::Partition;
use super::super::testing::{events, flush, tenant};
use super::*;
use crate::audit::{Checks, Stop};
use crate::env::{Env, Source};
use crate::storage::faults::Shared;
use crate::storage::{Meter, Store};

/// Small numbers, so that little data shows everything.
const SMALL: Compaction = Compaction {
    enabled: true,
    file_bytes: 16 << 10,
    level1_bytes_min: 6 << 10,
    range_bytes_max: 4 << 30,
    bucket_bytes: 1 << 30,
    bytes_per_second_max: 0,
};

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Clock(AtomicI64);

impl Source for Clock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        Env::system().nonce()
    }

    /// Else a runtime whose time stands still would stand still with it while a job sleeps on another thread.
    fn computes_inline(&self) -> bool {
        true
    }
}

/// A store in memory that many processes share, some of which die; and one topic.
struct World {
    objects: Shared,
    clock: Arc<Clock>,
    def: Arc<TopicDef>,
    tables: Tables,
    end: i64,
}

impl World {
    async fn new() -> Self {
        let fields = json!([
            {"name": "id", "type": "string"},
            {"name": "region", "type": ["null", "string"]},
            {"name": "amount", "type": ["null", "double"]},
        ]);
        let spec = json!({
            "name": "orders", "schema": {"type": "record", "name": "order", "fields": fields}, "key": ["id"], "path": "orders/{region}",
        });
        let spec: TopicSpec = serde_json::from_value(spec).unwrap();
        let topic = TopicId(Env::system().uuid());
        let def = Arc::new(spec.resolve(topic, TenantId(Uuid::from_u128(1)), LaneId(0)).unwrap());
        let (objects, clock) = (Shared::default(), Arc::new(Clock(AtomicI64::new(1_700_000_000_000_000))));
        let tables = Tables::new(objects.store(), Env::from_source(Arc::<Clock>::clone(&clock)));
        let world = Self { objects, clock, def, tables, end: 1 };
        world.tables.ensure(&tenant(), &world.def).await.unwrap();
        world
    }

    /// The same world, which goes its own way from now on.
    async fn fork(&self) -> Self {
        let (objects, clock) = (self.objects.fork(), Arc::new(Clock(AtomicI64::new(self.clock.now_micros()))));
        let tables = Tables::new(objects.store(), Env::from_source(Arc::<Clock>::clone(&clock)));
        let world = Self { objects, clock, def: Arc::clone(&self.def), tables, end: self.end };
        world.tables.ensure(&tenant(), &world.def).await.unwrap();
        world
    }

    /// Another process.
    async fn process(&self, store: Store) -> Result<Tables> {
        let tables = Tables::new(store, Env::from_source(Arc::<Clock>::clone(&self.clock)));
        tables.ensure(&tenant(), &self.def).await.map(|_| tables)
    }

    fn rows(&mut self, rows: usize, key: impl Fn(usize) -> (String, &'static str)) -> RecordBatch {
        let rows: Vec<_> = (self.end as usize..self.end as usize + rows).map(key).collect();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(key, region)| (key.as_str(), *region)).collect();
        let batch = events(&self.def, self.end, &rows);
        self.end += rows.len() as i64;
        batch
    }

    /// So many rows more: most of them in `eu`, some in `us`, one in a thousand in `jp`.
    async fn flush(&mut self, rows: usize) {
        let from = self.end;
        let batch = self.rows(rows, |row| {
            let region = if row % 1_000 == 0 {
                "jp"
            } else if row % 5 == 0 {
                "us"
            } else {
                "eu"
            };
            (format!("o-{:05}", row.wrapping_mul(2_654_435_761) % 300), region)
        });
        flush(&self.tables, &self.def, from, &[batch]).await.unwrap();
    }

    async fn compact(&self, settings: &Compaction) -> Compacted {
        let mut all = Compacted::default();
        while let Some(done) = self.tables.compact(&self.def, settings, false).await.unwrap() {
            all += done;
        }
        all
    }

    /// Keeps so many snapshots, however old.
    async fn keep(&self, snapshots: usize) {
        let base = self.tables.load(&self.def).await.unwrap();
        let property = ("history.expire.min-snapshots-to-keep".to_owned(), snapshots.to_string());
        let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
        let built = builder.set_properties([property].into()).unwrap().build().unwrap();
        self.tables.publish(&self.def, "keep", &base, built).await.unwrap().unwrap();
    }

    fn pass(&self, minutes: i64) {
        self.clock.0.fetch_add(minutes * 60_000_000, Ordering::Relaxed);
    }

    /// Everything that was flushed is there once and unaltered, proven by a process that knows nothing yet: seqs, hashes, order, places, files.
    async fn check(&self) {
        let tables = self.process(self.objects.store()).await.unwrap();
        let state = tables.load(&self.def).await.unwrap();
        assert_eq!(state.watermark(), Watermark(schemas::Seq(self.end)));
        for path in state.files().await.unwrap().files().iter().map(|file| &file.path) {
            assert!(
                object_store::ObjectStoreExt::head(tables.store().objects().as_ref(), path).await.is_ok(),
                "{path} is missing"
            );
        }
        let mut checks = Checks::default();
        let looked = async {
            let audit = TableAudit::open(&tables, &tenant(), &self.def, &mut checks).await?;
            audit.rows(Vec::new(), &Meter::default(), &mut checks).await
        };
        match looked.await {
            Ok(facts) => {
                let removed = state.metadata().properties().get(properties::REMOVED_ROWS);
                let removed: i64 = removed.map_or(0, |rows| rows.parse().unwrap());
                assert_eq!(facts.rows as i64, self.end - 1 - removed);
            }
            Err(Stop::Fault(fault)) => panic!("{fault}"),
            Err(Stop::Unseen(error)) => panic!("{error}"),
        }
    }

    async fn report(&self, settings: &Compaction) -> TableReport {
        self.tables.current(&self.def).await.unwrap().report(&self.def, settings).await.unwrap()
    }
}

#[tokio::test]
async fn ranges_become_one_and_rows_lie_by_prefix_where_they_fill_a_file() {
    let mut world = World::new().await;
    for _ in 0..12 {
        world.flush(500).await;
    }
    let before = world.report(&SMALL).await;
    assert!(before.ranges.len() == 12 && before.next[0].reason.contains("neighbours of tier 2"), "{before:?}");
    let done = world.compact(&SMALL).await;
    assert!(done.jobs >= 1 && done.rows >= 6_000 && done.files_in >= 12, "{done:?}");
    world.check().await;

    let after = world.report(&SMALL).await;
    assert!(after.next.is_empty() && after.ranges.len() < 4, "{after:?}");
    let files: Vec<_> = after.ranges.iter().flat_map(|range| &range.files).collect();
    let level1: Vec<_> = files.iter().filter(|file| file.level == 1).collect();
    assert!(level1.iter().any(|file| file.prefix.as_deref() == Some("orders/eu")), "{files:?}");
    assert!(
        level1
            .iter()
            .all(|file| file.bytes >= SMALL.level1_bytes_min && file.sorted && file.bucket.as_deref() == Some("0/1"))
    );
    assert!(files.iter().any(|file| file.level == 0), "what is rare has no file of its own");

    world.flush(10).await;
    world.check().await;
}

#[tokio::test]
async fn the_snapshot_says_what_it_did_and_carries_what_flushes_left() {
    let mut world = World::new().await;
    for _ in 0..4 {
        world.flush(300).await;
    }
    let before = world.tables.load(&world.def).await.unwrap();
    let done = world.compact(&SMALL).await;
    let state = world.tables.load(&world.def).await.unwrap();
    let main = state.metadata().current_snapshot().unwrap();
    let said = |name: &str| main.summary().additional_properties.get(name).cloned().unwrap_or_default();
    assert_eq!(main.summary().operation, iceberg::spec::Operation::Replace);
    assert_eq!((said("added-records"), said("deleted-records")), ("1200".into(), "1200".into()));
    assert_eq!((said("total-records"), said("total-data-files")), ("1200".into(), done.files_out.to_string()));
    for name in [properties::WATERMARK, properties::TOTAL_ROW_HASH] {
        assert_eq!(Some(&said(name)), before.metadata().properties().get(name));
        assert_eq!(state.metadata().properties().get(name), before.metadata().properties().get(name));
    }
    assert!(!main.summary().additional_properties.contains_key(properties::FROM), "it is no flush");
    assert_eq!(
        state.metadata().properties().get(properties::WATERMARK_SEQUENCE),
        before.metadata().properties().get(properties::WATERMARK_SEQUENCE)
    );
}

#[tokio::test]
async fn buckets_double_as_the_topic_grows_and_files_of_both_specs_live_together() {
    let mut world = World::new().await;
    let settings = Compaction { bucket_bytes: 20 << 10, level1_bytes_min: 3 << 10, ..SMALL };
    for round in 0..5 {
        for _ in 0..8 {
            world.flush(400).await;
        }
        world.compact(&settings).await;
        world.check().await;
        let state = world.tables.load(&world.def).await.unwrap();
        let set = state.files().await.unwrap();
        let of = |file: &Arc<super::super::DataFile>| match file.partition {
            Partition::Level1 { buckets, .. } => buckets,
            Partition::Level0 => 0,
        };
        let specs: std::collections::BTreeSet<u32> = set.files().iter().map(of).collect();
        assert!(round < 4 || specs.iter().max() >= Some(&2), "{specs:?}");
    }
    let state = world.tables.load(&world.def).await.unwrap();
    let names: Vec<_> = state
        .metadata()
        .partition_specs_iter()
        .flat_map(|spec| spec.fields().iter().map(|field| (field.name.clone(), field.field_id)))
        .collect();
    let distinct: BTreeMap<_, _> = names.iter().cloned().collect();
    assert!(distinct.contains_key("_key_bucket") && distinct.contains_key("_key_bucket_2"), "{names:?}");
    assert!(names.iter().all(|(name, id)| distinct[name] == *id), "a field's name always means the same: {names:?}");
}

#[tokio::test]
async fn manifests_stay_few_however_many_files_come_and_go() {
    let mut world = World::new().await;
    for _ in 0..150 {
        world.flush(20).await;
        world.compact(&SMALL).await;
    }
    let report = world.report(&SMALL).await;
    assert!(
        report.manifests <= 40 && report.ranges.len() <= 24,
        "{} manifests, {} ranges",
        report.manifests,
        report.ranges.len()
    );
    world.check().await;
}

#[tokio::test]
async fn rows_that_a_job_loses_are_noticed_and_nothing_is_committed() {
    let mut world = World::new().await;
    for _ in 0..4 {
        world.flush(200).await;
    }
    let base = world.tables.load(&world.def).await.unwrap();
    let mut job = base.plan(&world.def, &SMALL, true).await.unwrap().remove(0);
    job.files.pop();
    let refused = world.tables.write_anew(&world.def, &base, job, &SMALL).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(refused.to_string().contains("nothing is committed"), "{refused}");
    world.check().await;
}

#[tokio::test]
async fn a_file_that_rots_is_not_compacted() {
    let mut world = World::new().await;
    for _ in 0..8 {
        world.flush(200).await;
    }
    let state = world.tables.load(&world.def).await.unwrap();
    let path = state.files().await.unwrap().files()[2].path.clone();
    let objects = world.tables.store().objects();
    let mut bytes =
        object_store::ObjectStoreExt::get(objects.as_ref(), &path).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[200] ^= 1;
    object_store::ObjectStoreExt::put(objects.as_ref(), &path, bytes.into()).await.unwrap();
    let refused = world.tables.compact(&world.def, &SMALL, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
    assert!(refused.to_string().contains(path.as_ref()), "it says which: {refused}");
    assert_eq!(world.tables.load(&world.def).await.unwrap().metadata_uri(), state.metadata_uri());
}

#[tokio::test]
async fn old_snapshots_go_with_what_only_they_needed_and_young_ones_stay_readable() {
    let mut world = World::new().await;
    for _ in 0..120 {
        world.flush(20).await;
        world.compact(&SMALL).await;
        world.pass(1);
    }
    let count = |tables: &Tables| {
        let objects = Arc::clone(tables.store().objects());
        async move { futures::StreamExt::count(objects.list(None)).await }
    };
    let state = world.tables.load(&world.def).await.unwrap();
    let (before, snapshots) = (count(&world.tables).await, state.metadata().snapshots().len());
    assert!(state.is_expirable());
    let expired = world.tables.expire(&world.def).await.unwrap();
    assert!(
        expired.snapshots >= 32 && expired.removed_files > expired.snapshots && expired.removed_bytes > 0,
        "{expired:?}"
    );
    let state = world.tables.load(&world.def).await.unwrap();
    assert_eq!(state.metadata().snapshots().len() as u64, snapshots as u64 - expired.snapshots);
    assert!(count(&world.tables).await as u64 <= before as u64 - expired.removed_files + 2);
    world.check().await;
    // Whoever reads a snapshot that was current a moment ago finds all of it.
    for snapshot in state.metadata().snapshots() {
        for manifest in state.manifests_of(snapshot).await.unwrap() {
            for entry in state.shared().entries(&manifest).await.unwrap().iter().filter(|entry| entry.is_alive()) {
                let path = world.tables.store().path(entry.file_path()).unwrap();
                assert!(
                    object_store::ObjectStoreExt::head(world.tables.store().objects().as_ref(), &path).await.is_ok()
                );
            }
        }
    }
    assert_eq!(world.tables.expire(&world.def).await.unwrap(), Expired::default(), "nothing more is old enough");
    for _ in 0..3 {
        world.tables.sweep(&world.def).await.unwrap();
    }
    world.check().await;
}

#[tokio::test]
async fn a_tagged_snapshot_keeps_its_files() {
    let mut world = World::new().await;
    for _ in 0..10 {
        world.flush(20).await;
    }
    let base = world.tables.load(&world.def).await.unwrap();
    let tagged = base.snapshot_id().unwrap();
    let retention = iceberg::spec::SnapshotRetention::Tag { max_ref_age_ms: None };
    let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
    let built =
        builder.set_ref("audit", iceberg::spec::SnapshotReference::new(tagged, retention)).unwrap().build().unwrap();
    world.tables.publish(&world.def, "tag", &base, built).await.unwrap().unwrap();
    for _ in 0..150 {
        world.flush(20).await;
        world.compact(&SMALL).await;
        world.pass(1);
    }
    assert!(world.tables.expire(&world.def).await.unwrap().removed_files > 0);
    let state = world.tables.load(&world.def).await.unwrap();
    let snapshot = state.metadata().snapshot_by_id(tagged).expect("it is tagged");
    let mut rows = 0;
    for manifest in state.manifests_of(snapshot).await.unwrap() {
        for entry in state.shared().entries(&manifest).await.unwrap().iter().filter(|entry| entry.is_alive()) {
            let path = world.tables.store().path(entry.file_path()).unwrap();
            assert!(
                object_store::ObjectStoreExt::head(world.tables.store().objects().as_ref(), &path).await.is_ok(),
                "{path}"
            );
            rows += entry.record_count();
        }
    }
    assert_eq!(rows, 200);
    world.check().await;
}

fn settings() -> impl Strategy<Value = Compaction> {
    (1_u64..20, 1_u64..8, 1_u64..40).prop_map(|(file, level1, bucket)| Compaction {
        file_bytes: file << 10,
        level1_bytes_min: level1 << 10,
        bucket_bytes: bucket << 10,
        ..SMALL
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn however_rows_are_flushed_and_compacted_they_stay_the_same(
        flushes in prop::collection::vec((1_usize..600, 1_usize..200, 1_usize..4), 4..24), settings in settings(), whole: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for (rows, keys, regions) in flushes {
                let from = world.end;
                let batch = world.rows(rows, |row| (format!("k{}", row.wrapping_mul(7_919) % keys), ["eu", "us", "jp"][row % regions]));
                flush(&world.tables, &world.def, from, &[batch]).await.unwrap();
                if rows % 3 == 0 {
                    world.tables.compact(&world.def, &settings, whole).await.unwrap();
                }
            }
            world.check().await;
            world.compact(&settings).await;
            world.tables.compact(&world.def, &settings, true).await.unwrap();
            world.check().await;
        });
    }
}

#[test]
fn what_is_taken_is_paid_for_in_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (begun, mut throttle) = (tokio::time::Instant::now(), Throttle::new(1_000));
        for _ in 0..5 {
            throttle.take(500).await;
        }
        assert_eq!(begun.elapsed().as_millis() / 100, 20, "four times half a second, the fifth is owed");
        let mut free = Throttle::new(0);
        free.take(u64::MAX).await;
    });
}
