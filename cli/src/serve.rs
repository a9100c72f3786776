//! `firn serve`.

use catalog::Env;
use flight::server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::Serve;
use crate::config::Config;
use crate::exit::Failure;

/// Runs a server until it is told to stop, or can no longer do its work.
pub(crate) async fn run(_: Serve, config: Config) -> Result<(), Failure> {
    log_to_stderr();
    let config = config.into_server();
    if config.store.url.is_empty() {
        return Err(Failure::usage("serve: where is the data? --data DIR or --data s3://bucket/prefix"));
    }
    let store = config.store.url.clone();
    // Signals count from here on: a stop during the take-over is a stop.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = tokio::select! {
        started = Server::start(config, Env::system()) => started.map_err(|error| Failure::of_kind(error.kind(), error))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    println!(
        "firn serves {store} at grpc://{} (health and metrics at http://{})",
        server.flight_addr(),
        server.http_addr()
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        error = server.stopped() => {
            let failure = Failure::of_kind(error.kind(), format!("this server has stopped: {error}"));
            server.shutdown().await;
            return Err(failure);
        }
    }
    eprintln!("firn drains; once more to stop at once");
    tokio::select! {
        () = server.shutdown() => Ok(()),
        _ = terminate.recv() => Err(Failure::other("stopped before it was drained; what was acknowledged is in the log")),
        _ = interrupt.recv() => Err(Failure::other("stopped before it was drained; what was acknowledged is in the log")),
    }
}

/// `FIRN_LOG` filters (`info` if absent), e.g. `FIRN_LOG=ingest=debug,info`; `FIRN_LOG_JSON=1` for machines; `FIRN_LOG_SPANS=1` tells when puts, commits, trims and take-overs begin and end.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("FIRN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let spans = std::env::var_os("FIRN_LOG_SPANS").map_or(FmtSpan::NONE, |_| FmtSpan::NEW | FmtSpan::CLOSE);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(spans);
    match std::env::var_os("FIRN_LOG_JSON") {
        Some(_) => builder.json().init(),
        None => builder.with_ansi(false).init(),
    }
}
