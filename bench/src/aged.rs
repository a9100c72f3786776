//! A table after a day of flushes, one every three seconds unless told otherwise, beside the same rows written at once and perfectly sorted.
//!
//! The clock is driven: the code is that of the server (flush, compaction, expiry, sweep), the day takes as long as its work. Both tables are read in this process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::array::{
    Array, ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use catalog::env::{Env, Source};
use catalog::storage::{Store, StoreConfig};
use catalog::table::{Compacted, Compaction, FlushRows, TableState, Tables};
use catalog::topics::Topics;
use catalog::view::{Tail, TailSnapshot};
use futures::TryStreamExt;
use query::engine::{BatchStream, Parts, QueryEngine};
use query::replay::Replay;
use query::{Settings, TableLastSeqs};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use schemas::envelope::{self, KIND_EVENT};
use schemas::{Epoch, LaneId, Seq, TenantId, TenantName, TopicDef, TopicId, TopicName, TopicSpec};

use crate::events::{Events, TOPIC, topic};
use crate::process::cpu_s_of;
use crate::report::{Durations, Report, rate};

/// Keys of the topic.
const KEYS: u64 = 200_000;
/// A day, microseconds.
const DAY: usize = 86_400_000_000;
/// Rows of the flushes that the sorted table is made from.
const SORTED_FLUSH_ROWS: usize = 500_000;
/// Look-ups.
const LOOKUPS: usize = 2_000;
/// Scans, of which the best counts.
const SCANS: usize = 5;

/// A clock that stands still until it is moved.
#[derive(Debug)]
struct Clock(AtomicI64, Env);

impl Source for Clock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        self.1.nonce()
    }
}

/// The tail of a topic that has nothing in it.
#[derive(Debug)]
struct Flushed(Arc<TopicDef>, Seq);

impl Tail for Flushed {
    fn snapshot(&self, _: &TopicId) -> Option<TailSnapshot> {
        Some(TailSnapshot { def: Arc::clone(&self.0), start: self.1, end: self.1, chunks: Vec::new() })
    }

    fn watch(&self, _: &TopicId) -> Option<tokio::sync::watch::Receiver<Seq>> {
        None
    }
}

/// One topic in a folder of its own.
struct Site {
    tables: Tables,
    topics: Topics,
    def: Arc<TopicDef>,
    clock: Arc<Clock>,
    end: Seq,
    /// Processor seconds of flushing, and of compacting.
    took: (f64, f64),
    arrow_bytes: u64,
}

impl Site {
    async fn new(folder: &Path) -> Result<Self> {
        let clock = Arc::new(Clock(AtomicI64::new(1_700_000_000_000_000), Env::system()));
        let env = Env::from_source(Arc::<Clock>::clone(&clock));
        let config = StoreConfig { url: folder.display().to_string(), ..StoreConfig::default() };
        let store = Store::open(&config, Env::system()).await?;
        let (tables, topics) = (Tables::new(store.clone(), env.clone()), Topics::new(store, env.clone()));
        let spec: TopicSpec = serde_json::from_value(topic())?;
        let def = Arc::new(spec.resolve(TopicId(env.uuid()), TenantId(env.uuid()), LaneId(0))?);
        tables.ensure(&TenantName::default(), &def).await?;
        topics.publish(&TenantName::default(), Arc::clone(&def));
        Ok(Self { tables, topics, def, clock, end: Seq::FIRST, took: (0.0, 0.0), arrow_bytes: 0 })
    }

    async fn flush(&mut self, events: &mut Events, rows: usize) -> Result<Arc<TableState>> {
        let batch = envelope(&self.def, self.end, self.clock.now_micros(), &events.batch(rows))?;
        self.arrow_bytes += batch.get_array_memory_size() as u64;
        let (from, to) = (self.end, self.end.plus(rows));
        let batches = [batch];
        let started = cpu_s_of("self")?;
        let rows = FlushRows { from, to, batches: &batches, lane: LaneId(0), epoch: Epoch(1) };
        let state = self.tables.flush(&self.def, rows).await?;
        self.took.0 += cpu_s_of("self")? - started;
        self.end = to;
        Ok(state)
    }

    async fn compact(&mut self, settings: &Compaction, whole: bool) -> Result<Compacted> {
        let started = cpu_s_of("self")?;
        let mut all = Compacted::default();
        while let Some(done) = self.tables.compact(&self.def, settings, whole).await? {
            all += done;
        }
        self.took.1 += cpu_s_of("self")? - started;
        Ok(all)
    }

    fn engine(&self) -> Result<QueryEngine> {
        let settings = Settings::default();
        Ok(QueryEngine::new(Parts {
            topics: self.topics.clone(),
            tables: self.tables.clone(),
            tail: Arc::new(Flushed(Arc::clone(&self.def), self.end)),
            last_seqs: TableLastSeqs::new(&self.tables, &settings),
            settings,
        })?)
    }
}

/// Events as they are in a table.
fn envelope(def: &TopicDef, first: Seq, now: i64, payload: &RecordBatch) -> Result<RecordBatch> {
    let (schema, rows) = (def.event_schema(), payload.num_rows());
    let text =
        |name: &str| payload.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<StringArray>());
    let (ids, regions) = (text("id").context("id")?, text("region").context("region")?);
    let paths: ArrayRef =
        Arc::new(StringArray::from_iter_values(regions.iter().flatten().map(|region| format!("{TOPIC}/{region}"))));
    let column = |name: &str| -> Result<ArrayRef> {
        Ok(match name {
            envelope::SEQ => Arc::new(Int64Array::from_iter_values(first.0..first.0 + rows as i64)),
            envelope::TIME => Arc::new(TimestampMicrosecondArray::from_value(now, rows).with_timezone(envelope::UTC)),
            envelope::KEY => Arc::new(ids.clone()),
            envelope::PATH | envelope::PREFIX => Arc::clone(&paths),
            envelope::KIND => Arc::new(Int8Array::from_value(KIND_EVENT, rows)),
            envelope::HEADERS => new_null_array(schema.field_with_name(name)?.data_type(), rows),
            name => Arc::clone(payload.column_by_name(name).context("a column of the payload")?),
        })
    };
    let columns = schema.fields().iter().map(|field| column(field.name())).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// What was measured of one table.
struct Figures {
    files: usize,
    ranges: usize,
    bytes: u64,
    planning_ms: f64,
    lookups: Durations,
    files_a_key: f64,
    scan_s: f64,
    replay_s: f64,
}

/// Ages one table by a day, sorts the other, and reads both.
pub(crate) async fn day(report: &mut Report, millions: u64, flushes: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let flushes = flushes.max(24);
    let rows = (millions as usize * 1_000_000) / flushes;
    let settings = Compaction { bytes_per_second_max: 0, ..Compaction::default() };
    let (mut aged, done) = age(&folder.path().join("aged"), rows, flushes, &settings).await?;
    let written = done.rows as f64 / (aged.end.0 - 1) as f64;
    let mut sorted = sort(&folder.path().join("sorted"), rows * flushes).await?;
    let (ours, ideal) = (read(&mut aged).await?, read(&mut sorted).await?);

    let events = (aged.end.0 - 1) as u64;
    report.note("a day of flushes: written anew, times", format!("{written:.2} in {} jobs", done.jobs));
    let add = |report: &mut Report, what: &str, ours: f64, ideal: f64, unit: &str| {
        report.add(
            what,
            format!("{ours:.2} {unit}"),
            "sorted at once",
            format!("{ideal:.2} {unit}"),
            Some(ours / ideal),
        );
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.add(
        "  live files (ranges)",
        format!("{} ({})", ours.files, ours.ranges),
        "sorted at once",
        format!("{} ({})", ideal.files, ideal.ranges),
        None,
    );
    add(report, "  bytes", mib(ours.bytes), mib(ideal.bytes), "MiB");
    add(report, "  files looked into for a key", ours.files_a_key, ideal.files_a_key, "");
    add(report, "  planning, cold", ours.planning_ms, ideal.planning_ms, "ms");
    let (mut our_lookups, mut ideal_lookups) = (ours.lookups, ideal.lookups);
    for percent in [50.0, 99.0] {
        add(
            report,
            &format!("  replay of a key, p{percent}"),
            our_lookups.percentile(percent),
            ideal_lookups.percentile(percent),
            "ms",
        );
    }
    add(report, "  full scan, all columns", ours.scan_s, ideal.scan_s, "s");
    report.add(
        "  whole replay in seq order",
        rate(events, ours.replay_s),
        "plain scan of the same files",
        rate(events, ours.scan_s),
        Some(ours.scan_s / ours.replay_s),
    );
    let (flushing, compacting) = aged.took;
    report.note(
        "  topic to table, small flushes",
        format!(
            "{:.1} MiB/s of Arrow a core ({flushing:.0} s flushing, {compacting:.0} s compacting)",
            mib(aged.arrow_bytes) / (flushing + compacting)
        ),
    );
    throughput(report, &folder.path().join("busy"), millions).await
}

/// Large flushes, as a busy topic has them, with the compaction that they make due.
async fn throughput(report: &mut Report, folder: &Path, millions: u64) -> Result<()> {
    let mut site = Site::new(folder).await?;
    let settings = Compaction { bytes_per_second_max: 0, ..Compaction::default() };
    let mut events = Events::new(KEYS);
    let mut done = Compacted::default();
    for _ in 0..(millions as usize * 1_000_000).div_ceil(SORTED_FLUSH_ROWS) {
        site.flush(&mut events, SORTED_FLUSH_ROWS).await?;
        done += site.compact(&settings, false).await?;
    }
    let (flushing, compacting) = site.took;
    let mib = site.arrow_bytes as f64 / f64::from(1 << 20);
    report.note(
        "topic to table with compaction, Arrow",
        format!(
            "{:.1} MiB/s a core ({flushing:.1} s flushing, {compacting:.1} s compacting, {:.2} times written anew)",
            mib / (flushing + compacting),
            done.rows as f64 / (site.end.0 - 1) as f64
        ),
    );
    Ok(())
}

/// A day of flushes, and what the server does beside.
async fn age(folder: &Path, rows: usize, flushes: usize, settings: &Compaction) -> Result<(Site, Compacted)> {
    let mut site = Site::new(folder).await?;
    let mut events = Events::new(KEYS);
    let mut done = Compacted::default();
    for flush in 0..flushes {
        let state = site.flush(&mut events, rows).await?;
        if !state.plan(&site.def, settings, false).await?.is_empty() {
            done += site.compact(settings, false).await?;
        }
        if state.is_expirable() {
            site.tables.expire(&site.def).await?;
        }
        if flush % (flushes / 4) == flushes / 8 {
            site.tables.sweep(&site.def).await?;
        }
        site.clock.0.fetch_add((DAY / flushes) as i64, Ordering::Relaxed);
        if flush % (flushes / 24) == 0 {
            let report = site.tables.current(&site.def).await?.report(&site.def, settings).await?;
            eprintln!(
                "  hour {}: {} ranges, {} manifests, {} snapshots",
                flush / (flushes / 24),
                report.ranges.len(),
                report.manifests,
                report.snapshots
            );
        }
    }
    Ok((site, done))
}

/// The same rows in one range.
async fn sort(folder: &Path, rows: usize) -> Result<Site> {
    let mut site = Site::new(folder).await?;
    let mut events = Events::new(KEYS);
    let mut left = rows;
    while left > 0 {
        let now = left.min(SORTED_FLUSH_ROWS);
        site.flush(&mut events, now).await?;
        left -= now;
    }
    let settings = Compaction { bytes_per_second_max: 0, range_bytes_max: u64::MAX, ..Compaction::default() };
    site.compact(&settings, true).await?;
    Ok(site)
}

async fn read(site: &mut Site) -> Result<Figures> {
    let state = site.tables.current(&site.def).await?;
    let report = state.report(&site.def, &Compaction::default()).await?;
    let files: Vec<_> = report.ranges.iter().flat_map(|range| &range.files).collect();
    let planning_ms = planning(site).await?;
    let engine = site.engine()?;
    let tenant = TenantName::default();
    let replay = |key: Option<String>| Replay { key, ..Replay::of(TopicName::new(TOPIC).expect("a name")) };
    let mut rng = StdRng::seed_from_u64(7);
    let (mut lookups, mut opened) = (Durations::default(), 0);
    for round in 0..LOOKUPS + LOOKUPS / 4 {
        let key = Events::key(rng.random_range(0..KEYS));
        let (before, started) = (engine.read_stats().files_opened, Instant::now());
        drain(engine.replay(&tenant, replay(Some(key))).await?).await?;
        // The first ones fill the caches.
        if round >= LOOKUPS / 4 {
            lookups.add(started.elapsed());
            opened += engine.read_stats().files_opened - before;
        }
    }
    let (mut scan, mut whole) = (Duration::MAX, Duration::MAX);
    for _ in 0..SCANS {
        let started = Instant::now();
        drain(engine.sql(&tenant, &format!("select * from {TOPIC}"), None).await?).await?;
        scan = scan.min(started.elapsed());
        let started = Instant::now();
        let found = drain(engine.replay(&tenant, replay(None)).await?).await?;
        whole = whole.min(started.elapsed());
        anyhow::ensure!(found == (site.end.0 - 1) as usize, "replayed {found} events");
    }
    Ok(Figures {
        files: files.len(),
        ranges: report.ranges.len(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        planning_ms,
        lookups,
        files_a_key: opened as f64 / LOOKUPS as f64,
        scan_s: scan.as_secs_f64(),
        replay_s: whole.as_secs_f64(),
    })
}

/// Pointer, metadata and manifests, by a process that knows nothing yet.
async fn planning(site: &Site) -> Result<f64> {
    let mut best = f64::MAX;
    for _ in 0..SCANS {
        let tables = Tables::new(site.tables.store().clone(), Env::system());
        let started = Instant::now();
        let state = tables.ensure(&TenantName::default(), &site.def).await?;
        state.files().await?;
        best = best.min(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}

async fn drain(stream: BatchStream) -> Result<usize> {
    Ok(stream.batches.try_fold(0, |rows, batch| async move { Ok(rows + batch.num_rows()) }).await?)
}
