//! Replay of one key out of many: ten level-0 files, a million events in the tail.

use std::time::Instant;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::events::{Events, TOPIC, topic};
use crate::process::Process;
use crate::report::{Durations, Report};

const FILES: usize = 10;
const BATCH_ROWS: usize = 16_384;
const LOOKUPS: usize = 1_000;

/// The same number of events over 100 K and over 1 M keys.
pub(crate) async fn by_key(report: &mut Report, millions: u64) -> Result<()> {
    let few = measure(report, millions, 100_000).await?;
    let many = measure(report, millions, 1_000_000).await?;
    report.note("  cost of 1 M keys over 100 K, p50", format!("{:.2} ×", many / few));
    Ok(())
}

/// Returns the p50, milliseconds.
async fn measure(report: &mut Report, millions: u64, keys: u64) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let settings = json!({"flush_interval_ms": 3_600_000, "flush_bytes": 1u64 << 40, "tail_bytes_max": 2u64 << 30});
    let server = Process::firn(&folder.path().join("store"), &settings).await?;
    server.action("create-topic", topic()).await?;
    let rows_in_tail = 1_000_000.min(millions as usize * 100_000);
    let batches_a_file = (millions as usize * 1_000_000 - rows_in_tail) / FILES / BATCH_ROWS;
    let mut events = Events::new(keys);
    for _ in 0..FILES {
        let batches: Vec<_> = (0..batches_a_file).map(|_| events.batch(BATCH_ROWS)).collect();
        server.load(batches.into_iter()).await?;
        server.action("flush", json!({ "topic": TOPIC })).await?;
    }
    let batches: Vec<_> = (0..rows_in_tail / BATCH_ROWS).map(|_| events.batch(BATCH_ROWS)).collect();
    server.load(batches.into_iter()).await?;

    let mut rng = StdRng::seed_from_u64(7);
    let mut replay = async |rounds: usize| -> Result<(Durations, u64)> {
        let (mut durations, mut found) = (Durations::default(), 0);
        for _ in 0..rounds {
            let key = Events::key(rng.random_range(0..keys));
            let started = Instant::now();
            let (rows, _) = server.read(json!({"replay": {"topic": TOPIC, "key": key}})).await?;
            durations.add(started.elapsed());
            found += rows;
        }
        Ok((durations, found))
    };
    replay(LOOKUPS / 5).await?;
    let before = touched(&server).await?;
    let (mut warm, found) = replay(LOOKUPS).await?;
    let after = touched(&server).await?;
    let [files, pages, bytes] = [0, 1, 2].map(|at| (after[at] - before[at]) / LOOKUPS as f64);
    let what = format!("replay of a key, {} K keys, {millions} M events, p50 / p99", keys / 1000);
    report.note(&what, warm.both());
    report.note("  events a key", format!("{:.1}", found as f64 / LOOKUPS as f64));
    report.note("  touched a key", format!("{files:.1} files, {pages:.0} pages, {:.0} KiB", bytes / 1024.0));
    let description: Value = server.action("describe-topic", json!({ "topic": TOPIC })).await?;
    report.note("  files, tail events", format!("{}, {}", description["table"]["files"], description["tail"]["rows"]));
    report.note("  resident, peak", format!("{} MiB", server.peak_mib()?));
    Ok(warm.percentile(50.0))
}

/// Files opened, pages decoded and bytes fetched so far.
async fn touched(server: &Process) -> Result<[f64; 3]> {
    Ok([
        server.counter("firn_read_files_opened_total").await?,
        server.counter("firn_read_pages_total").await?,
        server.counter("firn_read_file_bytes_total").await?,
    ])
}
