//! `firn produce`: a file, batch by batch, into a topic; acknowledgements counted as they come.

mod input;
mod ndjson;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use flight::append::BatchResult;
use flight::ticket::{Append, Request, Ticket};
use futures::{Stream, StreamExt, TryStreamExt};
use ingest::engine::{OnError, Refusal};
use schemas::{TopicName, limits};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::args::Produce;
use crate::client::Client;
use crate::exit::Failure;
use crate::progress::Progress;
use crate::render::{count, json_line};
use input::{Input, Piece};

pub(crate) use ndjson::Lines;

/// Batches read ahead of the connection.
const PIECES_AHEAD: usize = 4;
/// Refused rows named on standard error; `--refusals` has them all.
const REFUSALS_SHOWN: usize = 5;

/// What was done.
#[derive(Debug, Default, Serialize)]
struct Report {
    accepted: u64,
    refused: u64,
    first_seq: Option<i64>,
    last_seq: Option<i64>,
    seconds: f64,
}

/// `firn produce`
pub(crate) async fn run(client: Client, args: Produce, as_json: bool) -> Result<(), Failure> {
    let topic = TopicName::new(args.topic.clone()).map_err(Failure::usage)?;
    let def = client.describe(topic.as_str()).await?.topic;
    let progress = Progress::through(input::size(&args.file));
    let input = Input::open(&args, &def, progress.clone())?;
    let refusals = Refusals::into_file(args.refusals.as_deref())?;
    let append = Append { topic: topic.clone(), on_error: args.on_error.into(), producer: args.producer.clone() };
    let started = Instant::now();
    let mut load = Load { report: Report::default(), refusals, progress, sent: Arc::default() };
    let outcome = load.run(&client, append, input).await;
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

/// What the answering side has to know of what was sent.
#[derive(Debug, Default)]
struct Sent {
    /// Rows of batches that are on their way, oldest first: what a row number in an answer means.
    rows: VecDeque<Vec<u64>>,
    /// Rows that never became part of a batch, not yet told of.
    unreadable: Vec<Refusal>,
}

struct Load {
    report: Report,
    refusals: Refusals,
    progress: Progress,
    sent: Arc<Mutex<Sent>>,
}

impl Load {
    async fn run(&mut self, client: &Client, append: Append, input: Input) -> Result<(), Failure> {
        let whole_batches = append.on_error == OnError::RejectBatch;
        let interrupted = Arc::new(AtomicBool::new(false));
        tokio::spawn(stop_at_interrupt(Arc::clone(&interrupted)));
        let schema = input.schema();
        let (pieces, read) = mpsc::channel(PIECES_AHEAD);
        let stop = Arc::clone(&interrupted);
        let reader = tokio::task::spawn_blocking(move || read_all(input, whole_batches, &stop, &pieces));
        let data = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(Ticket::from(Request::Append(append)).to_json())))
            // One message a batch: each message is appended whole and answered by itself.
            .with_max_flight_data_size(limits::MESSAGE_BYTES_MAX)
            .build(batches(read, Arc::clone(&self.sent)));
        let mut answers = client.flight().do_put(data).await?;
        let outcome = async {
            while let Some(answer) = answers.try_next().await? {
                self.answered(&serde_json::from_slice(&answer.app_metadata)?)?;
            }
            Ok::<_, Failure>(())
        }
        .await;
        drop(answers);
        self.unreadable()?;
        outcome?;
        reader.await.map_err(Failure::other)??;
        match interrupted.load(Ordering::Relaxed) {
            true => Err(Failure::other("interrupted; what is counted above is acknowledged, the rest was not sent")),
            false => Ok(()),
        }
    }

    fn answered(&mut self, result: &BatchResult) -> Result<(), Failure> {
        self.unreadable()?;
        let rows = self.sent.lock().map_err(Failure::other)?.rows.pop_front().unwrap_or_default();
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
    fn unreadable(&mut self) -> Result<(), Failure> {
        let unreadable = std::mem::take(&mut self.sent.lock().map_err(Failure::other)?.unreadable);
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

/// The batches to send; what else the pieces hold is noted in `sent`.
fn batches(
    read: mpsc::Receiver<Piece>,
    sent: Arc<Mutex<Sent>>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
    let pieces = futures::stream::unfold(read, |mut read| async { read.recv().await.map(|piece| (piece, read)) });
    pieces.filter_map(move |piece| std::future::ready(note(&sent, piece).transpose()))
}

fn note(sent: &Mutex<Sent>, piece: Piece) -> Result<Option<RecordBatch>, FlightError> {
    let mut sent = sent.lock().map_err(|error| FlightError::ProtocolError(error.to_string()))?;
    sent.unreadable.extend(piece.unreadable);
    if piece.batch.num_rows() == 0 {
        return Ok(None);
    }
    sent.rows.push_back(piece.rows);
    Ok(Some(piece.batch))
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
    text + &format!(", {:.1} s, {} events/s", took.as_secs_f64(), count(rate as u64))
}

/// Where refused rows are told of: in a file, all of them; else the first few at the end, clear of the progress.
struct Refusals {
    file: Option<BufWriter<File>>,
    first: Vec<Refusal>,
    count: usize,
}

impl Refusals {
    fn into_file(path: Option<&Path>) -> Result<Self, Failure> {
        let create =
            |path: &Path| File::create(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())));
        Ok(Self { file: path.map(create).transpose()?.map(BufWriter::new), first: Vec::new(), count: 0 })
    }

    fn add(&mut self, refusal: Refusal) -> Result<(), Failure> {
        self.count += 1;
        if let Some(file) = &mut self.file {
            serde_json::to_writer(&mut *file, &refusal)?;
            file.write_all(b"\n")?;
        } else if self.first.len() < REFUSALS_SHOWN {
            self.first.push(refusal);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if let Some(file) = &mut self.file {
            return Ok(file.flush()?);
        }
        for Refusal { row, reason } in &self.first {
            eprintln!("row {row}: {reason}");
        }
        if self.count > self.first.len() {
            eprintln!("… and {} more; --refusals FILE keeps them all", count((self.count - self.first.len()) as u64));
        }
        Ok(())
    }
}
