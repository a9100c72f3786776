//! What a seed decides before anything happens.

use std::collections::BTreeMap;

use catalog::table::Compaction;
use ingest::Settings;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::faults::Fault;

/// How often each kind of fault strikes: a share of the requests that it can strike, or strokes a minute for those of hosts and links.
pub(crate) type Rates = BTreeMap<Fault, f64>;

/// One run's set-up.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) clients: usize,
    /// Operations of each client.
    pub(crate) operations: usize,
    /// Of ten operations, how many read.
    pub(crate) reads: usize,
    pub(crate) rates: Rates,
    pub(crate) settings: Settings,
    /// Milliseconds between two strokes of the nemesis, on average.
    pub(crate) strike_interval_ms: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, clients: usize, operations: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut rates = Rates::new();
        for fault in Fault::ALL {
            // Most runs meet most kinds; some meet few, which lets them get further.
            if random.random_bool(0.75) {
                rates.insert(fault, fault.rate() * random.random_range(0.5..2.0));
            }
        }
        let silence_ms = random.random_range(800..3_000);
        let settings = Settings {
            lanes: random.random_range(1..3),
            heartbeat_ms: silence_ms / 4,
            silence_ms,
            flush_interval_ms: random.random_range(200..3_000),
            put_deadline_ms: random.random_range(1_500..6_000),
            room_deadline_ms: 5_000,
            linger_ms: Some(random.random_range(0..10)),
            puts_in_flight_max: random.random_range(1..6),
            checkpoint_bytes: random.random_range(2_000..40_000),
            sweep_interval_ms: random.random_range(1_000..20_000),
            ..Settings::default()
        };
        let strike_interval_ms = random.random_range(1_500..6_000);
        let (nodes, reads) = (random.random_range(2..4), random.random_range(2..6));
        // A taker, an owner, and one who follows.
        let nodes = if rates.contains_key(&Fault::StaleTaker) { 3 } else { nodes };
        // Files so small that what little is appended fills some of level 1, and buckets.
        let settings = Settings {
            maintenance_interval_ms: random.random_range(50..1_000),
            compaction: Compaction {
                file_bytes: 16 << 10,
                level1_bytes_min: random.random_range(1_000..20_000),
                bucket_bytes: random.random_range(4_000..80_000),
                ..Compaction::default()
            },
            ..settings
        };
        Self { seed, nodes, clients, operations, reads, rates, settings, strike_interval_ms }
    }
}
