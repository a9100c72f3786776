//! What an operator can set. Plain data with defaults; units last.

use serde::{Deserialize, Serialize};

/// Settings of the write path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Age of a topic's oldest unflushed event at which it is flushed, milliseconds.
    pub flush_interval_ms: u64,
    /// Unflushed Arrow bytes of a topic at which it is flushed.
    pub flush_bytes: u64,
    /// Arrow bytes that all tails together may hold; appends wait beyond it.
    pub tail_bytes_max: u64,
    /// How long an append waits for room in the tail before it is answered `overloaded`, milliseconds.
    pub room_deadline_ms: u64,
    /// How long a segment waits for company before it is put, milliseconds. `None`: 0 on a local folder, 5 on an object store.
    pub linger_ms: Option<u64>,
    /// Segment bytes at which no more company is waited for.
    pub segment_bytes: u64,
    /// Segments on their way to the store at once.
    pub puts_in_flight_max: usize,
    /// How long a put is retried before its slot counts as unknown and the lane stops, milliseconds.
    pub put_deadline_ms: u64,
    /// Log bytes since the last checkpoint at which a new one is written and the floor moved.
    pub checkpoint_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flush_interval_ms: 3_000,
            flush_bytes: 64 << 20,
            tail_bytes_max: 640 << 20,
            room_deadline_ms: 30_000,
            linger_ms: None,
            segment_bytes: 8 << 20,
            puts_in_flight_max: 4,
            put_deadline_ms: 30_000,
            checkpoint_bytes: 64 << 20,
        }
    }
}
