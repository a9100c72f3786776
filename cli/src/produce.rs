//! `firn produce`: a file, batch by batch, into a topic; acknowledgements counted as they come.
//!
//! The load has a name and its batches have numbers ([`identity`]), so one that is sent again is appended once: whatever fails on the way is tried
//! again, and a load that was interrupted goes on where it stopped when it is run again.

mod attempt;
mod identity;
mod input;
mod ndjson;
mod outbox;
mod refusals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flight::append::BatchResult;
use flight::ticket::{Append, OnCondition};
use ingest::engine::{OnError, Refusal};
use schemas::{TopicDef, TopicName};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::args::Produce;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::render::{count, json_line};
use crate::retry::{Patience, Retry};
use crate::servers::Servers;
use attempt::Attempt;
use identity::Identity;
use input::{Input, Piece};
use outbox::{Outbox, Settled};
use refusals::Refusals;

pub(crate) use ndjson::Lines;

/// Batches read ahead of the connection.
const PIECES_AHEAD: usize = 4;

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    accepted: u64,
    refused: u64,
    /// Rows of batches that an earlier run had appended.
    already: u64,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    seconds: f64,
    producer: Option<String>,
}

/// `firn produce`
pub(crate) async fn run(servers: &ClientConfig, args: Produce, as_json: bool) -> Result<(), Failure> {
    let topic = TopicName::new(args.topic.clone()).map_err(Failure::usage)?;
    let mut servers = Servers::named(servers);
    let client = servers.connect_to_owner(&topic).await?;
    let def = client.describe(topic.as_str()).await?.topic;
    let progress = Progress::through(input::size(&args.file));
    let input = Input::open(&args, &def, progress.clone())?;
    let refusals = Refusals::into_file(args.refusals.as_deref())?;
    let identity = Identity::take(&client, &topic, &args).await?;
    let started = Instant::now();
    let mut load = Load::new(servers, client, &args, &def, identity, refusals, progress);
    let outcome = load.run(input).await;
    load.progress.done();
    load.report.seconds = started.elapsed().as_secs_f64();
    load.refusals.finish()?;
    match as_json {
        true => json_line(&load.report)?,
        false => println!("{}", summary(&topic, &load.report, started.elapsed())),
    }
    outcome?;
    match load.report.refused {
        0 => Ok(()),
        refused => Err(Failure::refused(format!("{} rows were refused", count(refused)))),
    }
}

struct Load {
    /// Where to look for an owner when the one there was is gone.
    servers: Servers,
    client: Client,
    append: Append,
    identity: Option<Identity>,
    expect_last_seq: Option<i64>,
    expect_new_keys: bool,
    patience: Duration,
    report: Report,
    refusals: Refusals,
    progress: Progress,
}

impl Load {
    fn new(
        servers: Servers,
        client: Client,
        args: &Produce,
        def: &TopicDef,
        identity: Option<Identity>,
        refusals: Refusals,
        progress: Progress,
    ) -> Self {
        let producer = identity.as_ref().map(|identity| identity.name.clone());
        let append = Append {
            topic: def.name.clone(),
            on_error: args.on_error.into(),
            producer: producer.clone().or_else(|| args.producer.clone()),
            producer_epoch: identity.as_ref().map(|identity| identity.epoch),
            on_condition: OnCondition::Fail,
            // The columns that the input was read for, however often the stream is begun again.
            schema_version: Some(def.version),
        };
        Self {
            servers,
            client,
            append,
            identity,
            expect_last_seq: args.expect_last_seq,
            expect_new_keys: args.expect_new_keys,
            patience: Duration::from_secs(args.retry_s),
            report: Report { producer, ..Report::default() },
            refusals,
            progress,
        }
    }

    /// The whole load, in as many attempts as it takes.
    async fn run(&mut self, input: Input) -> Result<(), Failure> {
        let whole_batches = self.append.on_error == OnError::RejectBatch;
        let interrupted = Arc::new(AtomicBool::new(false));
        tokio::spawn(stop_at_interrupt(Arc::clone(&interrupted)));
        let schema = input.schema();
        let (pieces, read) = mpsc::channel(PIECES_AHEAD);
        let stop = Arc::clone(&interrupted);
        let reader = tokio::task::spawn_blocking(move || read_all(input, whole_batches, &stop, &pieces));
        let outbox = Arc::new(Outbox::new(read, self.identity.as_ref().map_or(1, Identity::from)));
        let attempt = Attempt {
            append: self.append.clone(),
            schema,
            is_numbered: self.identity.is_some(),
            expect_last_seq: self.expect_last_seq,
            expect_new_keys: self.expect_new_keys,
        };
        let outcome = self.attempts(&attempt, &outbox).await;
        self.unreadable(&outbox)?;
        let (batches, passed_over) = outbox.read();
        self.report.already += passed_over;
        drop(outbox);
        outcome?;
        reader.await.map_err(Failure::other)??;
        if interrupted.load(Ordering::Relaxed) {
            let hint = if self.identity.is_some() { "; run it again, and it goes on there" } else { "" };
            let message = format!("interrupted; what is counted above is acknowledged, the rest was not sent{hint}");
            return Err(Failure::other(message));
        }
        self.check_input(batches)
    }

    /// An input that ends before the place where an earlier run stopped is another one.
    fn check_input(&self, batches: u64) -> Result<(), Failure> {
        match &self.identity {
            Some(Identity { name, next, .. }) if batches + 1 < *next => Err(Failure::usage(format!(
                "producer {name} has appended {} batches before, and this input has only {batches}: it is another one; give it another --producer",
                next - 1
            ))),
            _ => Ok(()),
        }
    }

    async fn attempts(&mut self, attempt: &Attempt, outbox: &Arc<Outbox>) -> Result<(), Failure> {
        let mut patience = Patience::new(self.patience);
        loop {
            let before = self.answers();
            let Err(failure) = self.attempt(attempt, outbox).await else { return Ok(()) };
            if self.answers() > before {
                patience.renew();
            }
            let is_news = patience.is_fresh();
            let is_hopeful = self.identity.is_some() && *failure.retry() != Retry::Never;
            let Some(pause) = patience.pause().filter(|_| is_hopeful) else { return Err(self.given_up(failure)) };
            if is_news {
                self.progress.say(&format!("{failure}; trying again"));
            }
            tokio::time::sleep(pause).await;
            self.servers.after(&failure);
            // Whoever answers for the topic by now; if nobody does, the next attempt says so.
            if let Ok(client) = self.servers.connect_to_owner(&self.append.topic).await {
                self.client = client;
            }
        }
    }

    async fn attempt(&mut self, attempt: &Attempt, outbox: &Arc<Outbox>) -> Result<(), Failure> {
        let mut answers = attempt.begin(&self.client, outbox).await?;
        while let Some(answer) = answers.next().await? {
            self.answered(&answer, outbox)?;
        }
        match outbox.is_waiting() {
            false => Ok(()),
            // A server that drains may end the stream without a word.
            true => Err(Failure::indeterminate("the server ended the stream before it answered every batch")),
        }
    }

    fn given_up(&self, failure: Failure) -> Failure {
        match &self.identity {
            Some(Identity { name, .. }) if *failure.retry() != Retry::Never => {
                failure.with_hint(&format!("run it again when it can go on: producer {name} goes on where it stopped"))
            }
            _ => failure,
        }
    }

    fn answers(&self) -> u64 {
        self.report.accepted + self.report.refused + self.report.already
    }

    fn answered(&mut self, result: &BatchResult, outbox: &Outbox) -> Result<(), Failure> {
        self.unreadable(outbox)?;
        let unasked = || Failure::other("the server answered a batch that was not sent");
        let Settled { number, rows } = outbox.settle().ok_or_else(unasked)?;
        if self.identity.as_ref().is_some_and(|identity| number < identity.next) {
            self.report.already += rows.len() as u64;
            return Ok(());
        }
        self.report.accepted += result.accepted;
        self.report.first_seq = self.report.first_seq.or(result.first_seq.map(|seq| seq.0));
        self.report.last_seq = result.last_seq.map(|seq| seq.0).or(self.report.last_seq);
        self.report.refused += result.refused.len() as u64 + result.refused_unlisted;
        for Refusal { row, reason } in &result.refused {
            let row = rows.get(*row as usize).copied().unwrap_or(*row);
            self.refusals.add(Refusal { row, reason: reason.clone() })?;
        }
        self.progress.acknowledged(self.report.accepted);
        Ok(())
    }

    /// Tells of rows that never became part of a batch.
    fn unreadable(&mut self, outbox: &Outbox) -> Result<(), Failure> {
        let unreadable = outbox.unreadable();
        self.report.refused += unreadable.len() as u64;
        unreadable.into_iter().try_for_each(|refusal| self.refusals.add(refusal))
    }
}

/// Reads pieces until the end, an error, an interrupt, or nobody wants them any more.
fn read_all(input: Input, whole_batches: bool, stop: &AtomicBool, pieces: &mpsc::Sender<Piece>) -> Result<(), Failure> {
    for piece in input {
        let mut piece = piece?;
        if whole_batches && !piece.unreadable.is_empty() {
            piece.batch = piece.batch.slice(0, 0);
        }
        if stop.load(Ordering::Relaxed) || pieces.blocking_send(piece).is_err() {
            break;
        }
    }
    Ok(())
}

async fn stop_at_interrupt(interrupted: Arc<AtomicBool>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("firn: waiting for what is under way");
        interrupted.store(true, Ordering::Relaxed);
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}

fn summary(topic: &TopicName, report: &Report, took: Duration) -> String {
    let rate = report.accepted as f64 / took.as_secs_f64().max(0.001);
    let mut text = format!("{topic}: {} accepted, {} refused", count(report.accepted), count(report.refused));
    if let (Some(first), Some(last)) = (report.first_seq, report.last_seq) {
        text += &format!(", seq {first} to {last}");
    }
    text += &format!(", {:.1} s, {} events/s", took.as_secs_f64(), count(rate as u64));
    if report.already > 0 {
        let producer = report.producer.as_deref().unwrap_or_default();
        text += &format!("\n{} were there already, from an earlier run of producer {producer}", count(report.already));
    }
    text
}
