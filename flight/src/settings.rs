//! What an operator can set of the wire.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Settings of the server's two ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where gRPC (Flight, Flight SQL, health) listens. Port 0 takes a free one.
    pub flight: SocketAddr,
    /// Where HTTP (metrics, health) listens. Port 0 takes a free one.
    pub http: SocketAddr,
    /// How long a shutdown waits for calls under way and for the last flush, milliseconds.
    pub drain_ms: u64,
    /// Batches of one append stream that may await their acknowledgement at once.
    pub batches_in_flight_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flight: SocketAddr::from(([127, 0, 0, 1], 8815)),
            http: SocketAddr::from(([127, 0, 0, 1], 8816)),
            drain_ms: 30_000,
            batches_in_flight_max: 64,
        }
    }
}
