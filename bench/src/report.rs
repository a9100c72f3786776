//! The table of figures.

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

/// Figures, in the order in which they were measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<[String; 5]>,
}

impl Report {
    /// A rate or a ratio to its baseline: `ratio` is Firn over baseline.
    pub(crate) fn add(&mut self, what: &str, firn: String, baseline: &str, its: String, ratio: Option<f64>) {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        eprintln!("{what}: {firn} ({baseline}: {its}) {ratio}");
        self.rows.push([what.into(), firn, baseline.into(), its, ratio]);
    }

    /// A figure without a baseline of its own.
    pub(crate) fn note(&mut self, what: &str, firn: String) {
        self.add(what, firn, "", String::new(), None);
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(["what", "Firn", "baseline", "baseline's", "ratio"]);
        self.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        println!("{table}");
    }
}

/// Durations, for percentiles.
#[derive(Debug, Default)]
pub(crate) struct Durations(pub(crate) Vec<f64>);

impl Durations {
    /// Adds one, in milliseconds.
    pub(crate) fn add(&mut self, duration: std::time::Duration) {
        self.0.push(duration.as_secs_f64() * 1e3);
    }

    /// The duration that `percent` of them do not exceed, milliseconds.
    pub(crate) fn percentile(&mut self, percent: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let at = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// `p50 / p99 ms`
    pub(crate) fn both(&mut self) -> String {
        format!("{:.2} / {:.2} ms", self.percentile(50.0), self.percentile(99.0))
    }
}

/// `1.23 M/s`
pub(crate) fn rate(events: u64, seconds: f64) -> String {
    format!("{:.2} M/s", events as f64 / seconds / 1e6)
}
