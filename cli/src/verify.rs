//! `firn verify`: opens the store itself, for reading; no server is asked, none is disturbed.

use std::io::Write;
use std::time::{Duration, Instant};

use catalog::storage::{Meter, StoreConfig};
use catalog::{Env, Store};
use ingest::verify::{Cut, Report, Subject, Verdict, Verifier};
use schemas::{ErrorKind, TenantName, TopicName};
use serde_json::json;

use crate::args::Verify;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::render::{bytes, count, json_line};

/// How often the progress line follows the meter.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What came of all that was looked at.
#[derive(Debug, Default)]
struct Outcome {
    proven: usize,
    /// The first fault that was met.
    fault: Option<String>,
    unseen: Option<(ErrorKind, String)>,
}

/// Proves a topic, or all of them.
pub(crate) async fn run(verify: Verify, store: StoreConfig, as_json: bool) -> Result<(), Failure> {
    if store.url.is_empty() {
        return Err(Failure::usage("verify: where is the data? --data DIR or --data s3://bucket/prefix"));
    }
    let (meter, begun) = (Meter::default(), Instant::now());
    let opened = Store::open_read_only(&store, Env::system(), meter.clone()).await;
    let store = opened.map_err(|error| Failure::unseen(error.kind(), error))?;
    let verifier = Verifier::new(store, Env::system(), meter.clone());
    let progress = Progress::through(Some(0));
    let (following, shown) = (progress.clone(), meter.clone());
    let follower = tokio::spawn(async move {
        loop {
            following.expect(shown.expected());
            following.read(shown.read());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    });
    let mut outcome = Outcome::default();
    let mut told = |report: Report| progress.aside(|| outcome.take(&report, as_json));
    match (verify.topic, verify.all) {
        (Some(name), false) => {
            let name = TopicName::new(name).map_err(Failure::usage)?;
            let tenant = TenantName::new(verify.tenant).map_err(Failure::usage)?;
            told(verifier.topic(&tenant, &name).await);
        }
        _ => verifier.all(&mut told).await,
    }
    follower.abort();
    progress.done();
    outcome.end(&meter, begun.elapsed(), as_json)
}

impl Outcome {
    /// Notes and prints what became of one topic.
    fn take(&mut self, report: &Report, as_json: bool) {
        match &report.verdict {
            Verdict::Proven => self.proven += 1,
            Verdict::Fault(fault) => self.fault = self.fault.take().or_else(|| Some(fault.to_string())),
            Verdict::Unseen { kind, reason } => {
                self.unseen = self.unseen.take().or_else(|| Some((*kind, reason.clone())))
            }
        }
        // Nobody may be reading any more; the exit code still says it.
        let _ = match as_json {
            true => json_line(report).map_err(|failure| std::io::Error::other(failure.to_string())),
            false => print(report),
        };
    }

    fn end(self, meter: &Meter, took: Duration, as_json: bool) -> Result<(), Failure> {
        let (read, seconds) = (meter.read(), took.as_secs_f64());
        let rate = read as f64 / seconds.max(0.001) / 1e6;
        match as_json {
            true => json_line(&json!({
                "proven": self.proven, "read_bytes": read, "seconds": seconds, "megabytes_per_second": rate,
            }))?,
            false => println!("read {} in {seconds:.1} s, {rate:.0} MB/s", bytes(read)),
        }
        match (self.fault, self.unseen) {
            (Some(fault), _) => Err(Failure::fault(fault)),
            (None, Some((kind, reason))) => Err(Failure::unseen(kind, reason)),
            (None, None) => Ok(()),
        }
    }
}

fn print(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let subject = match &report.subject {
        Subject::Topic { tenant, name, .. } => format!("topic {tenant}.{name}"),
        Subject::Lane(lane) => format!("lane {lane}"),
        Subject::Names => "the names of topics and lanes".to_owned(),
    };
    match &report.verdict {
        Verdict::Proven => writeln!(out, "{subject}: proven")?,
        Verdict::Fault(fault) => writeln!(out, "{subject}: WRONG: {fault}")?,
        Verdict::Unseen { reason, .. } => writeln!(out, "{subject}: could not look: {reason}")?,
    }
    if let Some(cut) = &report.cut {
        let Cut { next, watermark, table_rows, table_files, table_bytes, tail_rows, .. } = cut;
        let (rows, files, size) = (count(*table_rows), count(*table_files), bytes(*table_bytes));
        writeln!(
            out,
            "  up to seq {next}, which nobody has yet: {rows} events in {files} files of the table, {size}, below seq {watermark},"
        )?;
        writeln!(
            out,
            "  and {} outside of it; lane {}, epoch {}, slot {}",
            count(*tail_rows),
            cut.lane,
            cut.epoch,
            cut.slot
        )?;
    }
    for check in report.checks.iter().filter(|check| check.count > 0) {
        writeln!(out, "  {:>14}  {} ({})", count(check.count), check.what, check.law.name)?;
    }
    report.notes.iter().try_for_each(|note| writeln!(out, "  note: {note}"))
}
