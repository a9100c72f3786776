//! What the store is asked, since on an object store requests are what costs: under the same load spread over few and many topics, and for a refusal.
//!
//! The store is a local folder with the linger of an object store, so the requests are those that S3 would bill, but for its client's own retries; or, if one is named,
//! an object store.

use std::time::{Duration, Instant};

use anyhow::Result;
use arrow::record_batch::RecordBatch;
use arrow_flight::Ticket;
use futures::stream::{self, StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::interval;

use crate::events::{Events, topic};
use crate::process::Process;
use crate::report::{Durations, Report};

const KEYS: u64 = 100_000;
const BATCH_ROWS: usize = 200;
/// Appends under way at once.
const AT_ONCE: usize = 64;
/// Topics made at once.
const MAKERS: usize = 16;
/// Conditional appends measured of each kind.
const REFUSALS: usize = 500;
/// Reads measured of each kind.
const READS: usize = 500;

/// What an object store would make the server wait.
fn settings() -> Value {
    json!({"linger_ms": 5})
}

fn name(number: usize) -> String {
    format!("t{number}")
}

fn spec(name: &str) -> Value {
    let mut spec = topic();
    spec["name"] = name.into();
    spec["path"] = format!("{name}/{{region}}").into();
    spec
}

/// Requests and bytes counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    log_puts: f64,
    log_bytes: f64,
    lane_gets: f64,
    table: f64,
    register: f64,
    commits: f64,
    /// Seconds that the oldest events of each commit had waited for it, all together.
    waited: f64,
    /// Since the server's start.
    checkpoints: f64,
    checkpoint_seconds: f64,
}

impl Counted {
    async fn by(server: &Process) -> Result<Self> {
        let text = server.metrics().await?;
        let sum = |name: &str, labels: &[&str]| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(name));
            let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
            // The sum of nothing is -0.
            0.0 + lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
        };
        let requests = |labels: &[&str]| sum(catalog::storage::metrics::REQUESTS, labels);
        Ok(Self {
            log_puts: requests(&["kind=\"put\"", "about=\"log\""]),
            log_bytes: sum(catalog::storage::metrics::PUT_BYTES, &["about=\"log\""]),
            lane_gets: requests(&["kind=\"get\"", "about=\"lane\""]),
            table: requests(&["about=\"table\""]),
            register: requests(&["about=\"register\""]),
            commits: sum("firn_flush_seconds_count", &[]),
            waited: sum("firn_flush_age_seconds_sum", &[]),
            checkpoints: sum("firn_checkpoint_seconds_count", &[]),
            checkpoint_seconds: sum("firn_checkpoint_seconds_sum", &[]),
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            log_puts: self.log_puts - before.log_puts,
            log_bytes: self.log_bytes - before.log_bytes,
            lane_gets: self.lane_gets - before.lane_gets,
            table: self.table - before.table,
            register: self.register - before.register,
            commits: self.commits - before.commits,
            waited: self.waited - before.waited,
            ..self
        }
    }
}

/// What is offered, whatever the number of topics.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) batches_per_second: u64,
    pub(crate) lasts: Duration,
}

/// Where the stores are made.
pub(crate) struct Place {
    folder: TempDir,
    url: Option<String>,
}

impl Place {
    /// Under this URL, or in a folder of its own.
    pub(crate) fn new(url: Option<&str>) -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, url: url.map(str::to_owned) })
    }

    /// A server over a fresh store.
    async fn serve(&self, name: &str) -> Result<Process> {
        match &self.url {
            Some(url) => Process::firn_at(&format!("{url}/{name}-{}", std::process::id()), &settings()).await,
            None => Process::firn(&self.folder.path().join(name), &settings()).await,
        }
    }
}

/// One batch in a stream of its own.
async fn append(server: &Process, topic: &str, batch: RecordBatch) -> Result<()> {
    let answers = server.append_to(topic, stream::iter([batch])).await?;
    answers.try_for_each(|_| async { Ok(()) }).await?;
    Ok(())
}

/// The same load over each of these numbers of topics.
pub(crate) async fn by_topics(report: &mut Report, place: &Place, numbers: &[usize], load: &Load) -> Result<()> {
    for &topics in numbers {
        let server = place.serve(&format!("{topics}-topics")).await?;
        let making = Instant::now();
        let made = stream::iter(0..topics).map(|number| server.action("create-topic", spec(&name(number))));
        made.buffer_unordered(MAKERS).try_for_each(|_| async { Ok(()) }).await?;
        report.note(&format!("making {topics} topics"), format!("{:.1} s", making.elapsed().as_secs_f64()));
        let before = Counted::by(&server).await?;
        let began = Instant::now();
        let mean = spread(&server, topics, load).await?;
        let seconds = began.elapsed().as_secs_f64();
        let after = Counted::by(&server).await?;
        report_load(report, topics, load.batches_per_second, seconds, after.since(before), mean);
        let bytes = server.counter("firn_checkpoint_bytes").await?;
        let each = 1e3 * after.checkpoint_seconds / after.checkpoints.max(1.0);
        let figure = format!("{} of at most {:.2} MB, {each:.0} ms each", after.checkpoints, bytes / 1e6);
        report.note(
            &format!("  checkpoints for {:.1} MB of log, topics' records included", after.log_bytes / 1e6),
            figure,
        );
    }
    Ok(())
}

/// Offers batches at a steady rate, each to a topic drawn at random. Returns the mean time to an acknowledgement, milliseconds.
async fn spread(server: &Process, topics: usize, &Load { batches_per_second, lasts }: &Load) -> Result<f64> {
    let (mut events, mut random) = (Events::new(KEYS), StdRng::seed_from_u64(9));
    let mut ticks = interval(Duration::from_micros(1_000_000 / batches_per_second.max(1)));
    let began = Instant::now();
    let offered = stream::poll_fn(move |context| ticks.poll_tick(context).map(Some));
    let offered = offered.take_while(move |_| std::future::ready(began.elapsed() < lasts));
    let appends = offered.map(move |_| {
        let (topic, batch) = (name(random.random_range(0..topics)), events.batch(BATCH_ROWS));
        async move {
            let began = Instant::now();
            append(server, &topic, batch).await.map(|()| began.elapsed().as_secs_f64() * 1e3)
        }
    });
    let took: Vec<f64> = appends.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(took.iter().sum::<f64>() / took.len() as f64)
}

fn report_load(report: &mut Report, topics: usize, offered: u64, seconds: f64, counted: Counted, mean: f64) {
    let a_second = |requests: f64| format!("{:.1} a second", requests / seconds);
    let gigabytes = counted.log_bytes / 1e9;
    report.note(&format!("log puts, {topics} topics, {offered} batches/s"), a_second(counted.log_puts));
    report.note("  for a GB of log", format!("{:.0}", counted.log_puts / gigabytes));
    report.note("  lane registers and checkpoints read", a_second(counted.lane_gets));
    report.note("  table commits", a_second(counted.commits));
    let each = (counted.table + counted.register) / counted.commits.max(1.0);
    report.note("  requests about tables and registers for a commit", format!("{each:.1}"));
    let waited = counted.waited / counted.commits.max(1.0);
    report.note("  age of a topic's oldest event at its commit, mean", format!("{waited:.1} s"));
    report.note("  append of one batch, mean", format!("{mean:.2} ms"));
}

/// A conditional append that fails rests on a read of the lane's root, begun after deciding; what that costs beside one that succeeds.
pub(crate) async fn of_refusals(report: &mut Report, place: &Place) -> Result<()> {
    let server = place.serve("refusals").await?;
    server.action("create-topic", spec(&name(0))).await?;
    let mut events = Events::new(KEYS);
    append(&server, &name(0), events.batch(1)).await?;
    let (mut accepted, mut refused) = (Durations::default(), Durations::default());
    let before = Counted::by(&server).await?;
    for round in 0..REFUSALS {
        let last = 1 + round as i64;
        let began = Instant::now();
        let done = server.append_if(&name(0), events.batch(1), last).await;
        anyhow::ensure!(done.is_ok(), "the topic's last seq is {last}: {done:?}");
        accepted.add(began.elapsed());
    }
    let between = Counted::by(&server).await?;
    for _ in 0..REFUSALS {
        let began = Instant::now();
        let done = server.append_if(&name(0), events.batch(1), 0).await;
        anyhow::ensure!(done.is_err(), "the topic is not empty");
        refused.add(began.elapsed());
    }
    let after = Counted::by(&server).await?;
    let reads = |counted: Counted| counted.lane_gets / REFUSALS as f64;
    report.note("conditional append that succeeds, p50 / p99", accepted.both());
    report.note("  reads of the root for it", format!("{:.2}", reads(between.since(before))));
    report.note("conditional append that is refused, p50 / p99", refused.both());
    report.note("  reads of the root for it", format!("{:.2}", reads(after.since(between))));
    Ok(())
}

/// A linearizable read begins with a read of the lane's root; what that costs beside one that does not.
pub(crate) async fn of_reads(report: &mut Report, place: &Place) -> Result<()> {
    let server = place.serve("reads").await?;
    server.action("create-topic", spec(&name(0))).await?;
    append(&server, &name(0), Events::new(KEYS).batch(BATCH_ROWS)).await?;
    for (what, is_linearizable) in [("read of a key", false), ("linearizable read of a key", true)] {
        let mut client = server.client();
        if is_linearizable {
            client.add_header("firn-linearizable", "true")?;
        }
        let ticket = json!({"replay": {"topic": name(0), "key": Events::key(0)}}).to_string();
        let (mut took, before) = (Durations::default(), Counted::by(&server).await?);
        for _ in 0..READS {
            let began = Instant::now();
            client.do_get(Ticket::new(ticket.clone())).await?.try_collect::<Vec<_>>().await?;
            took.add(began.elapsed());
        }
        let counted = Counted::by(&server).await?.since(before);
        report.note(&format!("{what}, p50 / p99"), took.both());
        report.note("  reads of the root for it", format!("{:.2}", counted.lane_gets / READS as f64));
    }
    Ok(())
}
