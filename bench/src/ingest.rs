//! Durable ingest over Flight: a burst, and a sustained load with flushes under way.

use std::time::{Duration, Instant};

use anyhow::Result;
use arrow::array::Array;
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::baseline::write_lz4;
use crate::events::{Events, TOPIC, topic};
use crate::process::Process;
use crate::report::{Report, rate};

const KEYS: u64 = 200_000;
const BATCH_ROWS: usize = 16_384;
/// Batches made before the clock starts, and sent again and again.
const BATCHES: usize = 64;
const STREAMS: usize = 2;
const BURST: Duration = Duration::from_secs(2);

fn batches() -> Vec<RecordBatch> {
    let mut events = Events::new(KEYS);
    (0..BATCHES).map(|_| events.batch(BATCH_ROWS)).collect()
}

/// Sends for `how_long`, waits for every answer. Returns events and seconds.
async fn send(server: &Process, batches: &[RecordBatch], how_long: Duration) -> Result<(u64, f64)> {
    let started = Instant::now();
    let streams = (0..STREAMS).map(|_| {
        let batches = batches.to_vec();
        let source = futures::stream::iter(batches.into_iter().cycle());
        server.append(source.take_while(move |_| std::future::ready(started.elapsed() < how_long)))
    });
    let answers = futures::future::try_join_all(streams).await?;
    let counts = answers.into_iter().map(|answers| answers.try_fold(0u64, |count, _| async move { Ok(count + 1) }));
    let answered: u64 = futures::future::try_join_all(counts).await?.into_iter().sum();
    Ok((answered * BATCH_ROWS as u64, started.elapsed().as_secs_f64()))
}

/// Bytes that the rows themselves have, whatever their buffers could hold.
fn arrow_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum()
}

/// Two seconds as fast as it goes. `ingest`: settings of the write path that differ.
pub(crate) async fn burst(report: &mut Report, ingest: &Value) -> Result<()> {
    let batches = batches();
    let bytes: usize = batches.iter().map(arrow_bytes).sum();
    report.note("Arrow bytes an event", format!("{}", bytes / (BATCHES * BATCH_ROWS)));
    let folder = tempfile::tempdir()?;

    let nothing = Process::nothing().await?;
    let (events, seconds) = send(&nothing, &batches, BURST).await?;
    let into_nothing = events as f64 / seconds;
    drop(nothing);

    let repeated: Vec<_> = batches.iter().cycle().take(4 * BATCHES).cloned().collect();
    let seconds = write_lz4(folder.path(), &repeated, 8 << 20)?;
    let written = (repeated.len() * BATCH_ROWS) as f64 / seconds;

    let server = Process::firn(&folder.path().join("store"), ingest).await?;
    server.action("create-topic", topic()).await?;
    let (events, seconds) = send(&server, &batches, BURST).await?;
    let firn = events as f64 / seconds;
    let what = "durable ingest, burst of 2 s";
    report.add(
        what,
        rate(events, seconds),
        "Flight into nothing",
        rate(into_nothing as u64, 1.0),
        Some(firn / into_nothing),
    );
    report.add(
        what,
        rate(events, seconds),
        "LZ4 IPC + fsync, no wire",
        rate(written as u64, 1.0),
        Some(firn / written),
    );
    cost(report, &server, events)
}

/// What the server took for it.
fn cost(report: &mut Report, server: &Process, events: u64) -> Result<()> {
    report.note("  resident, peak", format!("{} MiB", server.peak_mib()?));
    report.note("  processor, flushes included", format!("{:.2} µs an event", server.cpu_s()? * 1e6 / events as f64));
    Ok(())
}

/// A load with flushes under way; lag is what the tail holds. `ingest`: settings of the write path that differ.
pub(crate) async fn sustained(report: &mut Report, seconds: u64, ingest: &Value) -> Result<()> {
    let batches = batches();
    let folder = tempfile::tempdir()?;
    let server = Process::firn(&folder.path().join("store"), ingest).await?;
    server.action("create-topic", topic()).await?;
    let load = send(&server, &batches, Duration::from_secs(seconds));
    let mut lag = 0;
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Ok(description) = server.action("describe-topic", json!({ "topic": TOPIC })).await {
                lag = lag.max(description["tail"]["rows"].as_u64().unwrap_or_default());
            }
        }
    };
    let (events, took) = tokio::select! {
        sent = load => sent?,
        () = watch => unreachable!("it watches for ever"),
    };
    let what = format!("durable ingest, {seconds} s with flushes");
    report.note(&what, rate(events, took));
    report.note("  most events in the tail", format!("{:.2} M", lag as f64 / 1e6));
    cost(report, &server, events)
}
