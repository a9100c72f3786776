//! `firn-bench`: Firn's figures, each beside a baseline from the same run.
//!
//! Server and client are separate processes on one machine, as a user would run them; the store is a fresh local folder. Every figure is printed
//! with what it is measured against, so that a slow machine slows both. Build with `--release`.

mod aged;
mod baseline;
mod counter;
mod events;
mod ingest;
mod latency;
mod lookup;
mod process;
mod report;
mod requests;
mod scan;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::report::Report;

/// Firn's figures beside their baselines.
#[derive(Debug, Parser)]
#[command(name = "firn-bench")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Seconds of the sustained load (the stated target is for 300).
    #[arg(long, default_value_t = 30)]
    sustain_s: u64,
    /// Millions of events of the look-up table; the stated target is for 10.
    #[arg(long, default_value_t = 10)]
    lookup_millions: u64,
    /// Keys in the table in `cold`.
    #[arg(long, default_value_t = 1_000_000)]
    cold_keys: i64,
    /// Millions of events of the table that is aged by a day; the stated target is for 10.
    #[arg(long, default_value_t = 10)]
    aged_millions: u64,
    /// Flushes of that day; 28,800 are one every three seconds.
    #[arg(long, default_value_t = 28_800)]
    aged_flushes: usize,
    /// How many topics share the load in `requests`.
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000")]
    request_topics: Vec<usize>,
    /// Batches offered a second in `requests`.
    #[arg(long, default_value_t = 100)]
    request_batches_per_s: u64,
    /// Seconds for which each number of topics is loaded in `requests`.
    #[arg(long, default_value_t = 20)]
    request_load_s: u64,
    /// Where the stores of `requests` are made: a URL such as s3://bucket/prefix, with the usual AWS_* variables; temporary folders if absent.
    #[arg(long)]
    request_store: Option<String>,
    /// Only these groups, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "burst,sustain,latency,live,replay,lookup,sql,aged,requests,counter,cold"
    )]
    only: Vec<String>,
    /// Settings of the write path that differ in `burst` and `sustain`, as JSON.
    #[arg(long, default_value = "{}", value_parser = json)]
    ingest: serde_json::Value,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A Firn server, for this program's own use.
    #[command(hide = true)]
    Firn {
        /// Its store.
        data: String,
        /// Settings of the write path that differ, as JSON.
        ingest: String,
    },
    /// A Flight server that takes everything and keeps nothing, for this program's own use.
    #[command(hide = true)]
    Nothing,
}

fn json(text: &str) -> serde_json::Result<serde_json::Value> {
    serde_json::from_str(text)
}

/// The allocator that `firn` has: the servers here are this program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match args.command {
            Some(Command::Firn { data, ingest }) => process::serve_firn(data, &ingest).await,
            Some(Command::Nothing) => baseline::serve_nothing().await,
            None => measure(&args).await,
        }
    })
}

async fn measure(args: &Args) -> Result<()> {
    let mut report = Report::default();
    let wanted = |group: &str| args.only.iter().any(|only| only == group);
    if wanted("burst") {
        ingest::burst(&mut report, &args.ingest).await?;
    }
    if wanted("sustain") {
        ingest::sustained(&mut report, args.sustain_s, &args.ingest).await?;
    }
    if wanted("latency") {
        latency::one_by_one(&mut report).await?;
    }
    if wanted("live") {
        latency::live(&mut report).await?;
    }
    if wanted("replay") || wanted("sql") {
        scan::whole_topic(&mut report).await?;
    }
    if wanted("lookup") {
        lookup::by_key(&mut report, args.lookup_millions).await?;
    }
    if wanted("aged") {
        aged::day(&mut report, args.aged_millions, args.aged_flushes).await?;
    }
    if wanted("requests") {
        let place = requests::Place::new(args.request_store.as_deref())?;
        let lasts = std::time::Duration::from_secs(args.request_load_s);
        let load = requests::Load { batches_per_second: args.request_batches_per_s, lasts };
        requests::by_topics(&mut report, &place, &args.request_topics, &load).await?;
        requests::of_refusals(&mut report, &place).await?;
        requests::of_reads(&mut report, &place).await?;
    }
    if wanted("counter") {
        counter::counter(&mut report).await?;
    }
    if wanted("cold") {
        counter::cold(&mut report, args.cold_keys).await?;
    }
    report.print();
    Ok(())
}
