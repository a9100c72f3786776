//! A whole server in one call: store, write path, read path, both ports.

use std::net::SocketAddr;

use catalog::Env;
use catalog::storage::StoreConfig;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

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
}

/// A running server.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// Opens and probes the store, takes the lane over, binds both ports, begins to serve (`ingest::Engine::open`, `query::QueryEngine::new`).
    pub async fn start(config: ServerConfig, env: Env) -> Result<Self, ingest::IngestError> {
        let _ = (config, env);
        unimplemented!()
    }

    /// Where gRPC listens, the port resolved.
    pub fn flight_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Where HTTP listens.
    pub fn http_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Drains: takes no new call, lets those under way end, acknowledges what is in flight, flushes, stops. Bounded by `drain_ms`.
    pub async fn shutdown(self) {
        unimplemented!()
    }

    /// Resolves, with the reason, when the server can no longer do its work (fenced, the log is damaged).
    pub async fn stopped(&self) -> ingest::IngestError {
        unimplemented!()
    }
}
