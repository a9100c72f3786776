//! Progress of long work: on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress through a file: bytes read of bytes there, events acknowledged, rate, time left. Silent where standard error is no terminal.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `size`: bytes in all, if that is known.
    pub(crate) fn through(size: Option<u64>) -> Self {
        let bar = match size {
            Some(size) => ProgressBar::new(size)
                .with_style(style("{elapsed} [{bar:30}] {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left) {msg}")),
            None => ProgressBar::no_length().with_style(style("{elapsed} {spinner} {bytes} ({bytes_per_sec}) {msg}")),
        };
        bar.set_draw_target(match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(8),
            false => ProgressDrawTarget::hidden(),
        });
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar }
    }

    /// Where the reading stands.
    pub(crate) fn read(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// How many bytes there will be in all, as far as is known by now.
    pub(crate) fn expect(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    /// Does something that prints, out of the line's way.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// How many events are acknowledged.
    pub(crate) fn acknowledged(&self, events: u64) {
        let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
        let rate = (events as f64 / seconds) as u64;
        self.bar.set_message(format!("{} events, {}/s", crate::render::count(events), crate::render::count(rate)));
    }

    /// Says something beside the line.
    pub(crate) fn say(&self, what: &str) {
        self.bar.suspend(|| eprintln!("firn: {what}"));
    }

    /// Clears the line.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
