//! The `firn` command.
//!
//! `serve`, `demo` and `verify` open a store themselves; everything else is a client over the wire and finds its server by `--server`.

mod args;
mod config;
mod exit;

mod client;
mod render;
mod retry;
mod servers;

mod demo;
mod produce;
mod progress;
mod read;
mod reading;
mod serve;
mod sql;
mod topic;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::client::Client;
use crate::exit::Failure;

/// Batches come and go by the megabyte on many threads: the system's allocator keeps what each thread once held, this one gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let config = config::load(&args)?;
    match args.command {
        Command::Serve(serve) => serve::run(serve, config).await,
        Command::Verify(verify) => Box::pin(verify::run(verify, config.into_server().store, args.json)).await,
        Command::Demo(demo) => demo::run(demo, config).await,
        Command::Topic(command) => topic::run(Client::connect(&config.client).await?, command, args.json).await,
        Command::Produce(produce) => produce::run(&config.client, produce, args.json).await,
        Command::Replay(replay) => read::replay(&config.client, replay, args.json).await,
        Command::Tail(tail) => read::tail(&config.client, tail).await,
        Command::Sql(statement) => sql::run(Client::connect(&config.client).await?, statement, args.json).await,
        Command::Flush { topic } => topic::flush(Client::connect(&config.client).await?, topic, args.json).await,
        Command::Health => topic::health(Client::connect(&config.client).await?, args.json).await,
    }
}
