//! Where a server stands in its life; what health checks, `/ready` and the `health` action report.

use ingest::Engine;
use ingest::engine::{LaneStatus, Ownership};
use serde_json::{Value, json};

use crate::error::WireError;

/// Where a server stands in its life.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Taking lanes over, or beginning to follow them.
    Starting,
    /// It answers: reads of every lane, appends to those that it owns.
    Serving(Engine),
    /// It takes no new call.
    Draining,
    /// It can no longer do its work, and says why.
    Stopped(WireError),
}

impl Phase {
    /// True while reads are answered, and appends to the lanes that are owned here.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self, Self::Serving(_))
    }

    /// `{"status":"serving","version":"0.1.0","role":"owner","lanes":[{"lane":0,"role":"owner","epoch":3,"lag_ms":0,"owner":"grpc://…"}],"nodes":["grpc://…"]}`; a
    /// stopped server has `kind` and `message` instead. A server's role is that of its lanes, `mixed` if they differ.
    pub(crate) fn report(&self) -> Value {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Self::Starting => json!({"status": "starting", "version": version}),
            Self::Serving(engine) => {
                let lanes: Vec<_> = engine.lanes().iter().map(|lane| report(engine, lane)).collect();
                let role = match lanes.first().map(|first| &first["role"]) {
                    Some(first) if lanes.iter().all(|lane| &lane["role"] == first) => first.clone(),
                    _ => json!("mixed"),
                };
                json!({"status": "serving", "version": version, "role": role, "lanes": lanes, "nodes": engine.nodes()})
            }
            Self::Draining => json!({"status": "draining", "version": version}),
            Self::Stopped(error) => {
                let (kind, message) = (error.kind().name(), error.to_string());
                json!({"status": "stopped", "version": version, "kind": kind, "message": message})
            }
        }
    }
}

/// One lane of it.
fn report(engine: &Engine, status: &LaneStatus) -> Value {
    let lane = status.lane;
    let lag_ms = status.lag.map(|lag| lag.as_millis() as u64);
    match &status.ownership {
        Ownership::Open { epoch, .. } => {
            json!({"lane": lane, "role": "owner", "epoch": epoch, "lag_ms": lag_ms, "owner": engine.address()})
        }
        Ownership::Standby { epoch, owner, .. } => {
            json!({"lane": lane, "role": "standby", "epoch": epoch, "lag_ms": lag_ms, "owner": owner})
        }
        Ownership::Stopped(error) => {
            let (kind, message) = (error.kind().name(), error.to_string());
            json!({"lane": lane, "role": "stopped", "lag_ms": lag_ms, "kind": kind, "message": message})
        }
    }
}
