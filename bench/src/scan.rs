//! Whole topics: replay in seq order, flush, SQL.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use arrow_flight::sql::client::FlightSqlServiceClient;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use serde_json::json;

use crate::events::{Events, TOPIC, topic};
use crate::process::Process;
use crate::report::{Durations, Report, rate};

const KEYS: u64 = 200_000;
const EVENTS: usize = 2_000_000;
const BATCH_ROWS: usize = 16_384;
const ROUNDS: usize = 7;

const STATEMENTS: [(&str, &str); 4] = [
    ("count and sum by region", "select region, count(*), sum(amount) from orders group by region order by region"),
    ("a filter on a payload column", "select count(*) from orders where amount > 900 and note like '%fragile%'"),
    ("distinct keys", "select count(distinct id) from orders"),
    ("the ten largest", "select id, amount from orders order by amount desc, id limit 10"),
];

/// Loads two million events, flushes them, replays and queries them.
pub(crate) async fn whole_topic(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("store");
    let settings = json!({"flush_interval_ms": 3_600_000, "flush_bytes": 1u64 << 40, "tail_bytes_max": 2u64 << 30});
    let server = Process::firn(&store, &settings).await?;
    server.action("create-topic", topic()).await?;
    let mut events = Events::new(KEYS);
    server.load((0..EVENTS / BATCH_ROWS).map(move |_| events.batch(BATCH_ROWS))).await?;
    flush(report, &server).await?;
    replay(report, &server, &store).await?;
    sql(report, &server, &store).await
}

async fn flush(report: &mut Report, server: &Process) -> Result<()> {
    let description = server.action("describe-topic", json!({ "topic": TOPIC })).await?;
    let mib = description["tail"]["bytes"].as_u64().context("bytes")? as f64 / f64::from(1 << 20);
    let (cpu, started) = (server.cpu_s()?, Instant::now());
    server.action("flush", json!({ "topic": TOPIC })).await?;
    let (took, cpu) = (started.elapsed().as_secs_f64(), server.cpu_s()? - cpu);
    report.note(
        "flush, Arrow a core",
        format!("{:.0} MiB/s ({mib:.0} MiB in {took:.2} s, {cpu:.2} s of processor)", mib / cpu),
    );
    Ok(())
}

async fn replay(report: &mut Report, server: &Process, store: &Path) -> Result<()> {
    let mut best = f64::MAX;
    let mut rows = 0;
    for _ in 0..3 {
        let (read, took) = server.read(json!({"replay": {"topic": TOPIC}})).await?;
        rows = read;
        best = best.min(took.as_secs_f64());
    }
    let started = Instant::now();
    let session = SessionContext::new();
    session.register_parquet(TOPIC, folder_of_files(store)?.as_str(), ParquetReadOptions::default()).await?;
    let mut batches = session.sql("select * from orders").await?.execute_stream().await?;
    let mut scanned = 0;
    while let Some(batch) = batches.try_next().await? {
        scanned += batch.num_rows() as u64;
    }
    let plain = started.elapsed().as_secs_f64();
    let ratio = (rows as f64 / best) / (scanned as f64 / plain);
    report.add(
        "whole replay in seq order over Flight",
        rate(rows, best),
        "plain scan, no order, no wire",
        rate(scanned, plain),
        Some(ratio),
    );
    Ok(())
}

async fn sql(report: &mut Report, server: &Process, store: &Path) -> Result<()> {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    session.register_parquet(TOPIC, folder_of_files(store)?.as_str(), ParquetReadOptions::default()).await?;
    let mut client = FlightSqlServiceClient::new(server.channel());
    for (what, statement) in STATEMENTS {
        let (mut firn, mut listing) = (Durations::default(), Durations::default());
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let info = client.execute(statement.to_owned(), None).await?;
            let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket).context("a ticket")?;
            let ours: Vec<_> = client.do_get(ticket).await?.try_collect().await?;
            firn.add(started.elapsed());
            let started = Instant::now();
            let theirs = session.sql(statement).await?.collect().await?;
            listing.add(started.elapsed());
            let rows = |batches: &[arrow::record_batch::RecordBatch]| {
                batches.iter().map(|batch| batch.num_rows()).sum::<usize>()
            };
            anyhow::ensure!(rows(&ours) == rows(&theirs), "{statement}: the answers differ");
        }
        let (ours, theirs) = (firn.percentile(50.0), listing.percentile(50.0));
        report.add(
            &format!("SQL: {what}, p50"),
            format!("{ours:.1} ms"),
            "DataFusion's listing table",
            format!("{theirs:.1} ms"),
            Some(ours / theirs),
        );
    }
    Ok(())
}

/// The folder that a table's data files lie in.
fn folder_of_files(store: &Path) -> Result<String> {
    fn find(folder: &Path) -> Option<PathBuf> {
        let entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        if entries.iter().any(|path| path.extension().is_some_and(|ending| ending == "parquet")) {
            return Some(folder.to_owned());
        }
        entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path))
    }
    let folder = find(&store.join("warehouse")).context("a data file")?;
    Ok(format!("{}/", folder.display()))
}
