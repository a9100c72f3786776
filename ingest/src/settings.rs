//! What an operator can set. Plain data with defaults; units last.

use catalog::table::Compaction;
use serde::{Deserialize, Serialize};

/// Settings of the write path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Age of a topic's oldest unflushed event at which it is flushed, milliseconds.
    pub flush_interval_ms: u64,
    /// Table commits a second that this process makes for age alone, over all its topics. Beyond it every topic's interval is stretched by the same
    /// factor; a topic that holds `flush_bytes` is flushed all the same. Compactions and expiries may be a third as many besides.
    pub commits_per_second_max: f64,
    /// Unflushed Arrow bytes of a topic at which it is flushed.
    pub flush_bytes: u64,
    /// Arrow bytes that all tails together may hold; appends wait beyond it.
    pub tail_bytes_max: u64,
    /// Lanes: logs that topics are spread over, and that are spread over the processes of a store. Recorded in the store; it can grow, and never falls.
    pub lanes: u32,
    /// How often this process says that it lives, and listens for others, milliseconds.
    pub heartbeat_ms: u64,
    /// How long an owner may be silent before another takes its lanes over, milliseconds. A pause that is longer costs a take-over, never an event.
    pub silence_ms: u64,
    /// Where clients find this process, e.g. `grpc://10.0.0.7:8815`. `None`: it beats no heart, and takes over whatever it opens.
    pub advertise: Option<String>,
    /// Takes every lane over at the start, whoever has it.
    pub take_over: bool,
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
    /// Log bytes behind the oldest event that is not in a table yet at which its topic is stopped and its events are parked, so that the log can be
    /// trimmed; from half of it on, that topic is flushed before others. It bounds what the next start reads.
    pub log_bytes_max: u64,
    /// How long the files of a dropped topic's table stay for those who still read them, milliseconds: at least as long as a query may run.
    pub dropped_grace_ms: u64,
    /// Arrow bytes of parked topics' events that stay in memory, so that they can be read. A topic that is parked beyond that can be read again once it has
    /// been resumed.
    pub parked_bytes_max: u64,
    /// How often the topics of a lane are looked at for ranges to compact and snapshots to expire, milliseconds.
    pub maintenance_interval_ms: u64,
    /// How tables are compacted.
    pub compaction: Compaction,
    /// How often files that no snapshot needs are looked for and removed, milliseconds.
    pub sweep_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flush_interval_ms: 3_000,
            commits_per_second_max: 10.0,
            flush_bytes: 64 << 20,
            tail_bytes_max: 640 << 20,
            lanes: 1,
            heartbeat_ms: 1_000,
            silence_ms: 5_000,
            advertise: None,
            take_over: false,
            room_deadline_ms: 30_000,
            linger_ms: None,
            segment_bytes: 8 << 20,
            puts_in_flight_max: 4,
            put_deadline_ms: 30_000,
            checkpoint_bytes: 64 << 20,
            log_bytes_max: 2 << 30,
            parked_bytes_max: 256 << 20,
            dropped_grace_ms: 24 * 3_600_000,
            maintenance_interval_ms: 1_000,
            compaction: Compaction::default(),
            sweep_interval_ms: 6 * 3_600_000,
        }
    }
}
