//! Names of the metrics that the wire counts, and the recorder that Prometheus reads.

use std::sync::OnceLock;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Calls begun, by `call`.
pub const CALLS: &str = "firn_calls_total";
/// Calls that ended with an error, by `call` and `code`.
pub const CALLS_FAILED: &str = "firn_calls_failed_total";
/// Batches acknowledged.
pub const APPEND_BATCHES: &str = "firn_append_batches_total";
/// Events acknowledged.
pub const APPEND_EVENTS: &str = "firn_append_events_total";
/// Rows refused.
pub const APPEND_REFUSED: &str = "firn_append_refused_rows_total";
/// From the arrival of a batch to its acknowledgement.
pub const APPEND_SECONDS: &str = "firn_append_seconds";
/// Rows sent to readers.
pub const READ_ROWS: &str = "firn_read_rows_total";
/// Bytes sent to readers, encoded.
pub const READ_BYTES: &str = "firn_read_bytes_total";
/// Subscriptions open.
pub const SUBSCRIPTIONS: &str = "firn_subscriptions";

/// Bounds of the histogram of seconds: from a local append to one that waited for room.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Installs the recorder, once a process; later calls answer with the same one.
///
/// `None` if the process had another recorder already: metrics then go there, and `/metrics` says so.
pub(crate) fn install() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let handle = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?.install_recorder().ok()?;
        describe();
        Some(handle)
    };
    HANDLE.get_or_init(install).clone()
}

fn describe() {
    describe_counter!(CALLS, "Calls begun");
    describe_counter!(CALLS_FAILED, "Calls that ended with an error");
    describe_counter!(APPEND_BATCHES, "Batches acknowledged");
    describe_counter!(APPEND_EVENTS, "Events acknowledged");
    describe_counter!(APPEND_REFUSED, "Rows refused");
    describe_histogram!(APPEND_SECONDS, Unit::Seconds, "From the arrival of a batch to its acknowledgement");
    describe_counter!(READ_ROWS, "Rows sent to readers");
    describe_counter!(READ_BYTES, Unit::Bytes, "Bytes sent to readers, encoded");
    describe_gauge!(SUBSCRIPTIONS, "Subscriptions open");
}
