//! A whole server in one call: store, write path, read path, both ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_flight::flight_service_server::FlightServiceServer;
use catalog::rest::RestCatalog;
use catalog::storage::StoreConfig;
use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::{Env, Store};
use ingest::Engine;
use ingest::engine::{LaneStatus, Ownership};
use query::checks::SqlChecks;
use query::{QueryEngine, TableLastSeqs};
use schemas::{ErrorKind, limits};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::advertise;
use crate::error::{Result, WireError};
use crate::guard;
use crate::http::{self, Http};
use crate::metrics;
use crate::phase::Phase;
use crate::rest::Rest;
use crate::service::Service;
use crate::settings::{IcebergSettings, Settings};
use crate::shared::Shared;
use crate::sql::prepared::PreparedStatements;

/// Bytes of one call that may be under way unread: a large batch does not wait for round trips.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of one connection that may be under way unread.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Largest HTTP/2 frame that clients may send: a batch in few of them costs less than one in many.
const FRAME_BYTES: u32 = 1 << 20;
/// A connection that is silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// And given up if it does not answer within this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often what histograms have gathered is folded, scraped or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything that `firn serve` can be told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Where everything lies.
    pub store: StoreConfig,
    /// The write path.
    pub ingest: ingest::Settings,
    /// The read path.
    pub query: query::Settings,
    /// The ports.
    pub server: Settings,
    /// The Iceberg REST catalog.
    pub iceberg: IcebergSettings,
}

/// A running server. Dropped without [`Server::shutdown`] it stops at once, as if killed: what was acknowledged is in the log.
#[derive(Debug)]
pub struct Server {
    flight_addr: SocketAddr,
    http_addr: SocketAddr,
    engine: Engine,
    phase: watch::Sender<Phase>,
    drain: CancellationToken,
    drain_time: Duration,
    grpc: JoinHandle<()>,
    /// HTTP, health, upkeep: they last until the engine has stopped.
    tasks: JoinSet<()>,
}

impl Server {
    /// Opens and probes the store, binds both ports, takes over the lanes that nobody has, follows the others, begins to serve.
    ///
    /// The ports come first, so that a server that cannot have them fences nobody. HTTP answers from then on (`/ready` with 503), gRPC once every
    /// lane is open.
    ///
    /// Errors: `Invalid` for settings or a store that cannot serve, `Unavailable` if a port is taken or the store is away; those of
    /// [`Engine::open`].
    pub async fn start(mut config: ServerConfig, env: Env) -> Result<Self> {
        guard::keep_quiet();
        let recorder = metrics::install();
        let (flight, flight_addr) = bind("gRPC", config.server.flight).await?;
        let (http, http_addr) = bind("HTTP", config.server.http).await?;
        match &config.ingest.advertise {
            Some(address) => advertise::check(address)?,
            None => config.ingest.advertise = Some(advertise::found_at(flight_addr).await),
        }
        let (phase, watching) = watch::channel(Phase::Starting);
        let mut tasks = JoinSet::new();
        let rest = Rest::new(config.iceberg.token.take());
        let page = Http { phase: watching.clone(), metrics: recorder.clone(), rest: rest.clone() };
        let stop = CancellationToken::new();
        tasks.spawn(async move {
            if let Err(error) = http::serve(http, page, stop).await {
                tracing::error!(%error, "the HTTP port has failed");
            }
        });
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                recorder.iter().for_each(|recorder| recorder.run_upkeep());
            }
        });

        let drain = CancellationToken::new();
        let drain_time = Duration::from_millis(config.server.drain_ms);
        let hand_out_keys = config.iceberg.hand_out_keys;
        let shared = Box::pin(open(config, env, watching.clone(), drain.clone())).await?;
        rest.open(RestCatalog::new(shared.tables.clone(), shared.topics.clone(), shared.env.clone(), hand_out_keys));
        let engine = shared.engine.clone();
        tasks.spawn(follow(engine.clone(), phase.clone()));
        let reporter = HealthReporter::new();
        tasks.spawn(report(watching, reporter.clone()));
        let grpc = tokio::spawn(serve(flight, shared, reporter, phase.clone(), drain.clone()));
        tracing::info!(%flight_addr, %http_addr, "serving");
        Ok(Self { flight_addr, http_addr, engine, phase, drain, drain_time, grpc, tasks })
    }

    /// Where gRPC listens, the port resolved.
    pub fn flight_addr(&self) -> SocketAddr {
        self.flight_addr
    }

    /// Where HTTP listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Drains: takes no new call, lets those under way end, acknowledges what is in flight, flushes, stops. Bounded by `drain_ms`.
    ///
    /// Subscriptions and append streams, which know no end of their own, are ended with `UNAVAILABLE`, the latter after their last
    /// acknowledgement; calls have half of the time, the flush what is left.
    pub async fn shutdown(mut self) {
        let begun = Instant::now();
        change(&self.phase, Phase::Draining);
        self.drain.cancel();
        if tokio::time::timeout(self.drain_time / 2, &mut self.grpc).await.is_err() {
            tracing::warn!("calls are still under way at half of the time to drain: they are cut off");
            self.grpc.abort();
        }
        self.engine.shutdown(self.drain_time.saturating_sub(begun.elapsed())).await;
        self.tasks.shutdown().await;
    }

    /// Resolves, with the reason, when the server can no longer do its work (the log is damaged).
    pub async fn stopped(&self) -> WireError {
        let mut phase = self.phase.subscribe();
        loop {
            if let Phase::Stopped(error) = &*phase.borrow_and_update()
                && !error.kind().is_retryable()
            {
                return error.clone();
            }
            if phase.changed().await.is_err() {
                return WireError::new(ErrorKind::Unavailable, "the server has shut down");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.grpc.abort();
    }
}

async fn bind(what: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |error: std::io::Error| {
        let message = format!("the {what} address {address} cannot be had: {error}; is another server there?");
        WireError::new(ErrorKind::Unavailable, message)
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Store, write path, read path. From here on every earlier owner of the lanes that it owns is fenced.
async fn open(
    config: ServerConfig,
    env: Env,
    phase: watch::Receiver<Phase>,
    drain: CancellationToken,
) -> Result<Arc<Shared>> {
    let (grace, deadline) = (config.ingest.dropped_grace_ms, config.query.deadline_ms);
    if grace < deadline {
        let message = format!(
            "ingest.dropped_grace_ms: expected at least query.deadline_ms, {deadline}, found {grace}: a query may still read what was dropped"
        );
        return Err(WireError::invalid(message));
    }
    let store = Store::open(&config.store, env.clone()).await?;
    store.probe().await?;
    let topics = Topics::new(store.clone(), env.clone());
    let tables = Tables::new(store.clone(), env.clone());
    let last_seqs = TableLastSeqs::new(&tables, &config.query);
    let parts = ingest::engine::Parts {
        store,
        topics: topics.clone(),
        tables: tables.clone(),
        checks: Arc::new(SqlChecks),
        last_seqs: Arc::new(last_seqs.clone()),
        env: env.clone(),
        settings: config.ingest,
    };
    let engine = Engine::open(parts).await?;
    let parts = query::engine::Parts {
        topics: topics.clone(),
        tables: tables.clone(),
        tail: engine.tail(),
        last_seqs,
        settings: config.query,
    };
    let queries = QueryEngine::new(parts)?;
    let prepared = PreparedStatements::new();
    Ok(Arc::new(Shared { engine, queries, topics, tables, env, settings: config.server, prepared, phase, drain }))
}

/// Serves gRPC until the server drains and its last call has ended.
async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    reporter: HealthReporter,
    phase: watch::Sender<Phase>,
    drain: CancellationToken,
) {
    let flight = FlightServiceServer::new(Service::new(shared))
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let served = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(limits::CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(HealthServer::new(HealthService::from_health_reporter(reporter)))
        .add_service(flight)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), drain.cancelled_owned())
        .await;
    if let Err(error) = served {
        change(
            &phase,
            Phase::Stopped(WireError::new(ErrorKind::Internal, format!("the gRPC port has failed: {error}"))),
        );
    }
}

/// Takes over what the lanes say of themselves.
async fn follow(engine: Engine, phase: watch::Sender<Phase>) {
    let mut changes = engine.changes();
    loop {
        changes.mark_unchanged();
        let next = match stopped(&engine.lanes()) {
            None => Phase::Serving(engine.clone()),
            Some(error) => Phase::Stopped(error),
        };
        change(&phase, next);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Why none of the lanes can be served: if one can, so can the server. A reason that passes comes before one that does not.
fn stopped(lanes: &[LaneStatus]) -> Option<WireError> {
    let reason = |lane: &LaneStatus| match &lane.ownership {
        Ownership::Stopped(error) => Some(WireError::from(error.clone())),
        Ownership::Open { .. } | Ownership::Standby { .. } => None,
    };
    let reasons: Vec<_> = lanes.iter().map(reason).collect::<Option<_>>()?;
    reasons.iter().find(|reason| reason.kind().is_retryable()).or(reasons.first()).cloned()
}

/// Moves on to `next`. A server that drains does not serve again; one that has stopped has stopped, unless it is for a reason that passes:
/// then its lane is taken back as soon as it can be.
fn change(phase: &watch::Sender<Phase>, next: Phase) {
    phase.send_if_modified(|phase| {
        let moves = match (&*phase, &next) {
            (Phase::Stopped(error), _) if !error.kind().is_retryable() => false,
            (Phase::Stopped(_), _) => true,
            (Phase::Draining, next) => matches!(next, Phase::Stopped(error) if !error.kind().is_retryable()),
            (Phase::Serving(_) | Phase::Starting, _) => true,
        };
        if moves {
            *phase = next;
        }
        moves
    });
}

/// Tells the gRPC health service.
async fn report(mut phase: watch::Receiver<Phase>, reporter: HealthReporter) {
    loop {
        let serving = phase.borrow_and_update().is_serving();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", "arrow.flight.protocol.FlightService"] {
            reporter.set_service_status(service, status).await;
        }
        if phase.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
