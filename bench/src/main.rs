//! `firn-bench`: Firn's figures, each beside a baseline from the same run.
//!
//! Server and client are separate processes on one machine, as a user would run them; the store is a fresh local folder. Every figure is printed
//! with what it is measured against, so that a slow machine slows both. Build with `--release`.

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
    /// How many topics share the load in `requests`.
    #[arg(long, value_delimiter = ',', default_value = "1,100,10000")]
    request_topics: Vec<usize>,
    /// Only these groups, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "burst,sustain,latency,live,replay,lookup,sql,requests,counter,cold"
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
    if wanted("requests") {
        requests::by_topics(&mut report, &args.request_topics).await?;
        requests::of_refusals(&mut report).await?;
        requests::of_reads(&mut report).await?;
    }
    if wanted("counter") {
        counter::counter(&mut report).await?;
    }
    if wanted("cold") {
        counter::cold(&mut report).await?;
    }
    report.print();
    Ok(())
}
