//! What an operator can set of the wire.

use std::fmt;
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

/// Settings of the Iceberg REST catalog, which is served on the HTTP port under `/iceberg`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IcebergSettings {
    /// What clients must present as their bearer token, or as the secret of their `credential`. Absent: everybody is answered, as on the Flight port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Whether clients are given the server's own keys to the object store. Who has them can do whatever the server can.
    pub hand_out_keys: bool,
}

/// A secret that is not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The secret.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
