//! What an operator can set of the read path. Plain data with defaults; units last.

use std::time::Duration;

use schemas::limits::QUERY_SECONDS_MAX;
use serde::{Deserialize, Serialize};

/// Settings of the read path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Memory that all queries together may reserve before they spill, bytes.
    pub memory_bytes: usize,
    /// Arrow bytes of a seq range that a whole-topic replay puts into order in memory; a wider one goes by way of the spill folder. Up to two at once.
    pub range_bytes_max: usize,
    /// Where queries spill to; the system's temporary folder if absent.
    pub spill_dir: Option<std::path::PathBuf>,
    /// Largest spill, bytes.
    pub spill_bytes_max: u64,
    /// How long a query may run, milliseconds; never longer than 15 minutes: what a query reads is removed from the store some time after.
    pub deadline_ms: u64,
    /// Queries at once; more wait.
    pub concurrent_max: usize,
    /// Cached Parquet footers, page indexes and bloom filters, bytes.
    pub metadata_cache_bytes: usize,
    /// Cached last seqs of keys and patterns in tables, for conditional appends, bytes.
    pub last_seq_cache_bytes: usize,
}

impl Settings {
    /// How long a query may run.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms).min(Duration::from_secs(QUERY_SECONDS_MAX))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            range_bytes_max: 96 << 20,
            spill_dir: None,
            spill_bytes_max: 16 << 30,
            deadline_ms: 600_000,
            concurrent_max: 32,
            metadata_cache_bytes: 128 << 20,
            last_seq_cache_bytes: 16 << 20,
        }
    }
}
