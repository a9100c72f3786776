//! `firn demo`: the main job on real events, embedded, in a fresh folder.
//!
//! The events are the first 40,000 of Apache Kafka's own history: every file touched by every commit.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use arrow_flight::FlightDescriptor;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use catalog::Env;
use flate2::read::GzDecoder;
use flight::actions::{TopicDescription, TopicSummary};
use flight::append::BatchResult;
use flight::server::Server;
use flight::ticket::{Append, Request, Ticket};
use futures::TryStreamExt;
use query::replay::Replay;
use query::subscribe::{From, Subscribe};
use schemas::{TopicName, TopicSpec};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::args::Demo;
use crate::client::Client;
use crate::config::{ClientConfig, Config};
use crate::exit::Failure;
use crate::produce::Lines;
use crate::render::{batch_table, count};

const EVENTS: &[u8] = include_bytes!("../demo/kafka.ndjson.gz");
const SCHEMA: &str = include_str!("../demo/kafka.avsc");
const OPEN_TABLE: &str = include_str!("../demo/open_table.py");
const TOPIC: &str = "kafka";
const KEY: &str = "build.gradle";
const PATTERN: &str = "kafka/core/>";
/// Long enough that nothing is flushed but where the demo says so.
const FLUSH_INTERVAL_MS: u64 = 3_600_000;
const BATCH_ROWS: usize = 2_000;

const QUERIES: [(&str, &str); 3] = [
    ("how many events, and is one missing?", "select count(*) as events, max(_seq) as last_seq from kafka"),
    (
        "which modules change most?",
        "select module, count(*) as changes, count(distinct file) as files from kafka group by module order by changes desc limit 5",
    ),
    (
        "the newest change, acknowledged a moment ago and in no file yet",
        "select _seq, file, change, committed_at from kafka order by _seq desc limit 1",
    ),
];

/// `firn demo`
pub(crate) async fn run(args: Demo, config: Config) -> Result<(), Failure> {
    let folder = fresh_folder(args.data)?;
    let mut settings = config.into_server();
    settings.store.url = folder.display().to_string();
    settings.ingest.flush_interval_ms = FLUSH_INTERVAL_MS;
    settings.server.flight.set_port(0);
    settings.server.http.set_port(0);
    let server = Server::start(settings, Env::system()).await.map_err(|error| Failure::of_kind(error.kind(), error))?;
    println!("a server on grpc://{}, its store in {}", server.flight_addr(), folder.display());
    let client = Client::connect(&ClientConfig { server: format!("grpc://{}", server.flight_addr()) }).await?;
    let shown = show(&client, args.python.as_deref()).await;
    server.shutdown().await;
    shown
}

async fn show(client: &Client, python: Option<&Path>) -> Result<(), Failure> {
    let mut events = Events::unpack(client).await?;
    let first: Vec<_> = events.batches.drain(..events.batches.len() / 2).collect();
    let expected = events.matching;
    println!("topic kafka: key file, path kafka/{{module}}/{{kind}}");

    let follower = follow(client, expected).await;
    let started = Instant::now();
    append(client, first).await?;
    let _: Value = client.action_one("flush", &json!({ "topic": TOPIC })).await?;
    append(client, events.batches).await?;
    let seconds = started.elapsed().as_secs_f64();
    let description = client.describe(TOPIC).await?;
    println!("\nappended {} events in {seconds:.1} s, each batch acknowledged once durable", count(events.rows));
    println!(
        "{} of them are in the Iceberg table, {} in the tail only",
        count(description.table.as_ref().map_or(0, |table| table.rows)),
        count(in_tail(&description))
    );

    let followed = follower.await.map_err(Failure::other)??;
    println!("\na subscription to {PATTERN} that ran beside it got {} events, each once, in order", count(followed));
    replay_one(client).await?;
    for (question, statement) in QUERIES {
        println!("\n{question}\n  {statement}");
        print_table(client.sql(statement).await?).await?;
    }
    open_elsewhere(client, python).await
}

/// The events that ship with this command, typed by the topic's schema.
struct Events {
    batches: Vec<arrow::record_batch::RecordBatch>,
    rows: u64,
    /// How many of them the subscription's pattern matches.
    matching: u64,
}

impl Events {
    /// Makes the topic, then reads the events by its schema.
    async fn unpack(client: &Client) -> Result<Self, Failure> {
        let spec = TopicSpec {
            name: TopicName::new(TOPIC).map_err(Failure::other)?,
            schema: serde_json::from_str(SCHEMA)?,
            key: vec!["file".into()],
            path: Some("kafka/{module}/{kind}".into()),
            prefix_levels: None,
            checks: vec!["change in ('added', 'modified', 'deleted')".into()],
            flush: Default::default(),
            nanos: Default::default(),
        };
        let _: TopicSummary = client.action_one("create-topic", &spec).await?;
        let def = client.describe(TOPIC).await?.topic;
        let mut text = Vec::new();
        GzDecoder::new(EVENTS).read_to_end(&mut text)?;
        let core = b"\"module\":\"core\"";
        let matching =
            text.split(|byte| *byte == b'\n').filter(|line| line.windows(core.len()).any(|part| part == core));
        let matching = matching.count() as u64;
        let lines = Lines::new(Box::new(std::io::Cursor::new(text)), &def, BATCH_ROWS);
        let batches: Vec<_> = lines.map(|piece| piece.map(|piece| piece.batch)).collect::<Result<_, _>>()?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Ok(Self { batches, rows, matching })
    }
}

/// Subscribes from the beginning and counts until `expected` events have come. Errors if one comes out of order.
async fn follow(client: &Client, expected: u64) -> JoinHandle<Result<u64, Failure>> {
    let columns = Some(vec!["_seq".into()]);
    let subscribe =
        Subscribe { pattern: PATTERN.into(), from: From::Beginning, after: BTreeMap::new(), columns, filter: None };
    let batches = client.get_later(Ticket::from(Request::Subscribe(subscribe)));
    tokio::spawn(async move {
        let mut batches = batches.await?;
        let (mut got, mut last) = (0, 0);
        while got < expected {
            let Some(batch) = batches.try_next().await? else { break };
            let seqs = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(batch.column(0));
            for seq in seqs.values() {
                if *seq <= last {
                    return Err(Failure::other(format!("event {seq} came after event {last}")));
                }
                last = *seq;
            }
            got += batch.num_rows() as u64;
        }
        Ok(got)
    })
}

async fn append(client: &Client, batches: Vec<arrow::record_batch::RecordBatch>) -> Result<(), Failure> {
    let append = Append::to(TopicName::new(TOPIC).map_err(Failure::other)?);
    let batches = futures::stream::iter(batches.into_iter().map(Ok::<_, FlightError>));
    let data = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(Ticket::from(Request::Append(append)).to_json())))
        .build(batches);
    let mut answers = client.flight().do_put(data).await?;
    while let Some(answer) = answers.try_next().await? {
        let result: BatchResult = serde_json::from_slice(&answer.app_metadata)?;
        if let Some(refusal) = result.refused.first() {
            return Err(Failure::refused(format!("row {}: {}", refusal.row, refusal.reason)));
        }
    }
    Ok(())
}

async fn replay_one(client: &Client) -> Result<(), Failure> {
    let replay = Replay {
        key: Some(KEY.into()),
        columns: Some(["_seq", "change", "commit", "committed_at"].map(String::from).to_vec()),
        ..Replay::of(TopicName::new(TOPIC).map_err(Failure::other)?)
    };
    let started = Instant::now();
    let batches = client.get(Ticket::from(Request::Replay(replay))).await?;
    let names: Vec<_> = batches.schema.fields().iter().map(|field| field.name().clone()).collect();
    let batches: Vec<_> = batches.stream.try_collect().await?;
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let took = started.elapsed().as_secs_f64() * 1e3;
    println!("\nreplay of the key {KEY}, out of table and tail: {rows} events in order, {took:.1} ms; the first three");
    let first: Vec<_> = batches.first().map(|batch| batch.slice(0, batch.num_rows().min(3))).into_iter().collect();
    println!("{}", batch_table(&first, &names.iter().map(String::as_str).collect::<Vec<_>>())?);
    Ok(())
}

async fn print_table(batches: crate::client::Batches) -> Result<(), Failure> {
    let names: Vec<_> = batches.schema.fields().iter().map(|field| field.name().clone()).collect();
    let batches: Vec<_> = batches.stream.try_collect().await?;
    println!("{}", batch_table(&batches, &names.iter().map(String::as_str).collect::<Vec<_>>())?);
    Ok(())
}

/// Flushes the rest and opens the table with PyIceberg, which knows nothing of Firn.
async fn open_elsewhere(client: &Client, python: Option<&Path>) -> Result<(), Failure> {
    let _: Value = client.action_one("flush", &json!({ "topic": TOPIC })).await?;
    let table = client.describe(TOPIC).await?.table;
    let uri = table.ok_or_else(|| Failure::other("its table is not open at this server"))?.metadata_uri;
    println!("\nflushed; the Iceberg table is\n  {uri}");
    let Some(python) = python else {
        println!("open it with PyIceberg: StaticTable.from_metadata(\"{uri}\").scan().to_arrow()");
        return Ok(());
    };
    let status = tokio::process::Command::new(python).args(["-c", OPEN_TABLE, &uri, KEY]).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::other(format!("PyIceberg did not open the table: {status}"))),
        Err(error) => Err(Failure::usage(format!("{}: {error}", python.display()))),
    }
}

fn in_tail(description: &TopicDescription) -> u64 {
    let seq = |seqs: &schemas::ShardSeqs| seqs.0.values().map(|seq| seq.0).sum::<i64>();
    (seq(&description.next_seq) - seq(&description.watermark)).max(0) as u64
}

fn fresh_folder(wanted: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let Some(folder) = wanted else {
        return Ok(tempfile::Builder::new().prefix("firn-demo-").tempdir()?.keep());
    };
    std::fs::create_dir_all(&folder)?;
    match std::fs::read_dir(&folder)?.next() {
        None => Ok(folder.canonicalize()?),
        Some(_) => Err(Failure::usage(format!("{}: expected a folder that is empty or not there", folder.display()))),
    }
}
