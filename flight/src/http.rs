//! The HTTP port: is it alive, is it ready, what does it count.
//!
//! | path | answer |
//! | --- | --- |
//! | `/health` | 200 while the process runs: liveness |
//! | `/ready` | 200 while appends and reads are answered, 503 otherwise; the same JSON as the action `health` |
//! | `/metrics` | Prometheus text |
//! | `/version` | `{"name":"firn","version":"…"}` |
//! | `/iceberg` | the Iceberg REST catalog ([`crate::rest`]) |

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::phase::Phase;
use crate::rest::{self, Rest};

/// What the handlers know.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) rest: Rest,
}

/// Serves until `stop` is cancelled.
pub(crate) async fn serve(listener: TcpListener, http: Http, stop: CancellationToken) -> std::io::Result<()> {
    let catalog = rest::router(http.rest.clone());
    let router = Router::new()
        .route("/health", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { Json(json!({"name": "firn", "version": env!("CARGO_PKG_VERSION")})) }))
        .with_state(http)
        .nest("/iceberg", catalog);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(http): State<Http>) -> Response {
    let phase = http.phase.borrow().clone();
    let status = if phase.is_serving() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(phase.report())).into_response()
}

async fn metrics(State(http): State<Http>) -> Response {
    match http.metrics {
        Some(handle) => {
            // Folds what histograms have gathered; once a scrape is often enough.
            handle.run_upkeep();
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render()).into_response()
        }
        None => (StatusCode::NOT_IMPLEMENTED, "this process records its metrics elsewhere\n").into_response(),
    }
}
