//! Appends on a condition: many writers of one key, and conditions on keys that lie only in the table.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use flight::append::BatchResult;
use flight::detail::Facts;
use flight::terms::{BatchTerms, LastSeqCondition};
use futures::{StreamExt, TryStreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::process::Process;
use crate::report::{Report, rate};

const CLIENTS: usize = 64;
/// Increments by each.
const EACH: i64 = 50;
const KEY: &str = "counter";
/// Flushes that bring the cold keys to the table.
const FLUSHES: i64 = 4;
/// Rows of a batch with a condition each.
const BATCH_ROWS: usize = 8_192;
/// Keys of each kind that are asked for alone.
const ONE_BY_ONE: usize = 2_000;

fn spec(topic: &str) -> Value {
    let fields = json!([{"name": "id", "type": "string"}, {"name": "value", "type": "long"}]);
    json!({"name": topic, "schema": {"type": "record", "name": "r", "fields": fields}, "key": ["id"]})
}

fn rows(ids: impl Iterator<Item = String>, values: Vec<i64>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(StringArray::from_iter_values(ids))), ("value", Arc::new(Int64Array::from(values)))];
    RecordBatch::try_from_iter(columns).expect("two columns of one length")
}

/// `CLIENTS` add one to the counter, each as often, by read, expect, append; and one client that has it for itself.
pub(crate) async fn counter(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Process::firn(&folder.path().join("store"), &json!({})).await?;
    let alone = count(&server, "alone", 1, EACH * 10).await?;
    let shared = count(&server, "shared", CLIENTS, EACH).await?;
    let what = format!("increments of one key by {CLIENTS} clients, by read, expect, append");
    let ratio = shared.per_second() / alone.per_second();
    let its = format!("{:.0}/s", alone.per_second());
    report.add(&what, format!("{:.0}/s", shared.per_second()), "by one client", its, Some(ratio));
    report.note(
        "tries for each increment: mean, most by one client",
        format!("{:.1}, {:.1}", shared.tries, shared.tries_most),
    );
    Ok(())
}

struct Counted {
    increments: i64,
    seconds: f64,
    tries: f64,
    tries_most: f64,
}

impl Counted {
    fn per_second(&self) -> f64 {
        self.increments as f64 / self.seconds
    }
}

async fn count(server: &Process, topic: &'static str, clients: usize, each: i64) -> Result<Counted> {
    server.action("create-topic", spec(topic)).await?;
    let begun = Instant::now();
    let streams: Vec<_> = (0..clients).map(|_| increment(server, topic, each)).collect();
    let tries = futures::future::try_join_all(streams).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let increments = clients as i64 * each;
    let described = server.action("describe-topic", json!({"topic": topic})).await?;
    ensure!(described["next_seq"]["0"] == increments + 1, "expected {increments} increments, found {described}");
    let most = tries.iter().max().copied().unwrap_or_default();
    let sum: u64 = tries.iter().sum();
    Ok(Counted { increments, seconds, tries: sum as f64 / increments as f64, tries_most: most as f64 / each as f64 })
}

/// One client, one stream: what stands in its way is the answer to a batch, and the next one expects that. Returns how often it tried.
async fn increment(server: &Process, topic: &str, each: i64) -> Result<u64> {
    let (batches, source) = mpsc::channel::<i64>(1);
    let command = json!({"append": {"topic": topic, "on_condition": "answer"}}).to_string();
    let (expected, told) = std::sync::mpsc::channel::<Bytes>();
    let sent = ReceiverStream::new(source).map(move |last| {
        let condition = LastSeqCondition { key: Some(KEY.into()), pattern: None, expected_last_seq: last };
        // It is taken when the batch's own message is made, which is next.
        drop(expected.send(BatchTerms { conditions: vec![condition], ..BatchTerms::default() }.to_json()));
        Ok(rows(std::iter::once(KEY.to_owned()), vec![last + 1]))
    });
    let messages = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
        .build(sent)
        .enumerate()
        .map(move |(place, message)| match place {
            0 => message,
            _ => Ok(FlightData { app_metadata: told.try_recv().unwrap_or_default(), ..message? }),
        });
    let mut answers = None;
    let (mut last, mut done, mut tries) = (0, 0, 0);
    batches.send(last).await?;
    let mut messages = Some(messages);
    while done < each {
        let answers = match &mut answers {
            Some(answers) => answers,
            none => none.insert(server.put(messages.take().context("one stream")?).await?),
        };
        let answer = answers.try_next().await?.context("an answer")?;
        let answer: BatchResult = serde_json::from_slice(&answer.app_metadata)?;
        tries += 1;
        last = match (answer.last_seq, answer.refused_by.and_then(|refused| refused.facts)) {
            (Some(seq), _) => {
                done += 1;
                seq.0
            }
            (None, Some(Facts::ConditionFailed { last_seq, .. })) => last_seq,
            other => bail!("expected a seq or a refusal, found {other:?}"),
        };
        if done < each {
            batches.send(last).await?;
        }
    }
    Ok(tries)
}

/// A condition on each of so many keys that lie in the table alone, in random order, and on as many between them that are nowhere.
pub(crate) async fn cold(report: &mut Report, cold_keys: i64) -> Result<()> {
    ensure!(cold_keys > ONE_BY_ONE as i64, "expected more than {ONE_BY_ONE} cold keys");
    let cold = Cold(cold_keys);
    let folder = tempfile::tempdir()?;
    let server = Process::firn(&folder.path().join("store"), &json!({})).await?;
    server.action("create-topic", spec("cold")).await?;
    for flush in 0..FLUSHES {
        let keys: Vec<i64> = (flush * cold_keys / FLUSHES..(flush + 1) * cold_keys / FLUSHES).collect();
        cold.append(&server, &keys, false, BATCH_ROWS).await?;
        server.action("flush", json!({"topic": "cold"})).await?;
    }
    let mut there: Vec<i64> = (0..cold_keys).collect();
    there.shuffle(&mut StdRng::seed_from_u64(42));
    let new: Vec<i64> = (cold_keys..2 * cold_keys).collect();
    for (what, keys) in [("in the table", there), ("nowhere", new)] {
        let (one_by_one, rest) = keys.split_at(ONE_BY_ONE);
        for (keys, batch_rows) in [(one_by_one, 1), (rest, BATCH_ROWS)] {
            let figure = cold.looked_up(&server, keys, batch_rows).await?;
            report.note(&format!("conditions on {} keys {what}, {batch_rows} a batch", keys.len()), figure);
        }
    }
    Ok(())
}

/// So many keys lie in the table: those below this number. The key after each of them is one that does not: no bound tells them apart.
struct Cold(i64);

impl Cold {
    fn text(&self, key: &i64) -> String {
        if *key < self.0 { format!("k-{key:09}") } else { format!("k-{:09}+", key - self.0) }
    }

    /// How fast appends on conditions on these keys are, and what was read of files for each key.
    async fn looked_up(&self, server: &Process, keys: &[i64], batch_rows: usize) -> Result<String> {
        let read = async || -> Result<(f64, f64)> {
            Ok((server.counter("firn_read_files_opened_total").await?, server.counter("firn_read_pages_total").await?))
        };
        let (before, begun) = (read().await?, Instant::now());
        self.append(server, keys, true, batch_rows).await?;
        let (seconds, after, count) = (begun.elapsed().as_secs_f64(), read().await?, keys.len() as f64);
        let (files, pages) = ((after.0 - before.0) / count, (after.1 - before.1) / count);
        Ok(format!("{}, {files:.4} files, {pages:.3} pages a key", rate(keys.len() as u64, seconds)))
    }

    /// Events of these keys; if `has_conditions`, each on the condition that its key is where the load put it, or nowhere.
    async fn append(&self, server: &Process, keys: &[i64], has_conditions: bool, batch_rows: usize) -> Result<()> {
        let batch = |keys: &[i64]| {
            let events = rows(keys.iter().map(|key| self.text(key)), keys.to_vec());
            if !has_conditions {
                return Ok(events);
            }
            let expected = keys.iter().map(|key| if *key < self.0 { key + 1 } else { 0 });
            let expected: ArrayRef = Arc::new(Int64Array::from_iter_values(expected));
            let schema = events.schema();
            let names = schema.fields().iter().map(|field| field.name().as_str()).chain(["_expected_last_seq"]);
            RecordBatch::try_from_iter(names.zip(events.columns().iter().cloned().chain([expected])))
        };
        let batches: Vec<RecordBatch> = keys.chunks(batch_rows).map(batch).collect::<Result<_, _>>()?;
        let answers = server.append_to("cold", futures::stream::iter(batches)).await?;
        let answers: Vec<_> = answers.try_collect().await.map_err(|error: FlightError| anyhow::anyhow!("{error}"))?;
        ensure!(answers.len() == keys.len().div_ceil(batch_rows), "expected an answer a batch");
        Ok(())
    }
}
