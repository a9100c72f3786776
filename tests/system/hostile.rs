//! Whatever a client sends: a clear error, no panic, no leak, and the server goes on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::Field;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::client::{Client, to_topic};
use tests::data::KAFKA;
use tests::process::{Launch, Process};
use tonic::{Code, Status};

/// A server of its own process, with a topic of 1,000 events.
async fn victim(folder: &Path) -> (Process, Client) {
    let launch = Launch { data: folder.to_str().unwrap().to_owned(), ..Launch::default() };
    let mut process = Process::start(&launch).unwrap();
    let client = process.client().await.unwrap();
    client.create(&KAFKA.spec()).await.unwrap();
    client.append(to_topic("kafka"), KAFKA.batches(0..1_000, 100)).await.unwrap();
    (process, client)
}

/// The server took no harm: nobody panicked, nothing was lost, appends and reads go on.
async fn assert_unharmed(process: &Process, client: &Client, accepted: u64) {
    // Arrow's own decoder panics at some nonsense; the server catches that and says to the client what it is.
    let panics = |line: &&String| line.contains("panicked at") && !line.contains("/arrow-");
    let said = process.said();
    assert_eq!(said.iter().filter(panics).collect::<Vec<_>>(), Vec::<&String>::new());
    let more = client.append(to_topic("kafka"), KAFKA.batches(0..10, 10)).await.unwrap();
    assert_eq!(more[0].accepted, 10);
    let expected = i64::try_from(1_000 + accepted + 10).unwrap();
    assert_eq!(client.number("select count(*) from kafka").await.unwrap(), expected);
    assert_eq!(client.number("select max(_seq) from kafka").await.unwrap(), expected);
}

/// Open files and resident memory (bytes) of a process.
fn usage(pid: u32) -> (usize, u64) {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    (files, pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096)
}

/// What a well-behaved client would send for this batch.
async fn messages(to: FlightDescriptor, batch: RecordBatch) -> Vec<FlightData> {
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(to));
    encoder.build(futures::stream::iter([Ok(batch)])).try_collect().await.unwrap()
}

/// Sends messages as they are; rows accepted, or the refusal.
async fn put(client: &Client, messages: Vec<FlightData>) -> Result<u64, Status> {
    let answers = client.flight().do_put(futures::stream::iter(messages)).await?.into_inner();
    let answers: Vec<_> = answers.try_collect().await?;
    let receipts = answers.iter().map(|answer| serde_json::from_slice::<Value>(&answer.app_metadata).unwrap());
    Ok(receipts.map(|receipt| receipt["accepted"].as_u64().unwrap()).sum())
}

/// Asserts that a call was refused for being wrong, in words that help.
fn assert_refused<T: std::fmt::Debug>(what: &str, outcome: Result<T, Status>, words: &[&str]) {
    let status = outcome.expect_err(what);
    let wrong = [Code::InvalidArgument, Code::NotFound, Code::OutOfRange, Code::ResourceExhausted, Code::Unimplemented];
    assert!(wrong.contains(&status.code()), "{what}: {status:?}");
    assert!(words.iter().all(|word| status.message().contains(word)), "{what}: {status:?} should name {words:?}");
}

/// Flips bits in, or cuts, one part of one message.
fn damage(message: &mut FlightData, random: &mut StdRng) {
    let mut header = message.data_header.to_vec();
    let mut body = message.data_body.to_vec();
    let part = if body.is_empty() || random.random_bool(0.6) { &mut header } else { &mut body };
    if random.random_bool(0.3) {
        part.truncate(random.random_range(0..part.len()));
    } else {
        for _ in 0..random.random_range(1..4) {
            let place = random.random_range(0..part.len());
            part[place] ^= 1 << random.random_range(0..8);
        }
    }
    message.data_header = header.into();
    message.data_body = body.into();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_arrow_messages_are_refused_and_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (process, client) = victim(folder.path()).await;
    let sound = messages(to_topic("kafka"), KAFKA.batches(0..50, 50).remove(0)).await;
    let mut random = StdRng::seed_from_u64(11);
    let mut accepted = 0;
    let mut refused = 0;
    let mut before = (0, 0);
    for round in 0..600 {
        let mut damaged = sound.clone();
        let victim = random.random_range(0..damaged.len());
        damage(&mut damaged[victim], &mut random);
        match put(&client, damaged).await {
            Ok(rows) => accepted += rows,
            Err(status) => {
                refused += 1;
                assert!(!matches!(status.code(), Code::Internal | Code::Unknown), "round {round}: {status:?}");
            }
        }
        if round == 100 {
            before = usage(process.pid());
        }
    }
    let after = usage(process.pid());
    assert!(refused > 100, "the damage is felt: {refused}");
    assert!(after.0 <= before.0 + 8, "open files: {before:?} then {after:?}");
    assert!(after.1 <= before.1 + (64 << 20), "resident memory: {before:?} then {after:?}");
    assert_unharmed(&process, &client, accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_sizes_and_nesting_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (process, client) = victim(folder.path()).await;

    let mut huge = messages(to_topic("kafka"), KAFKA.batches(0..5, 5).remove(0)).await;
    huge[1].data_body = Bytes::from(vec![0; 80 << 20]);
    assert!(put(&client, huge).await.is_err(), "a message over the limit");

    let long = "k".repeat(2_000);
    let line = KAFKA.lines[0].replacen("CONTRIBUTORS", &long, 1);
    let mut decoder = arrow_json::ReaderBuilder::new(Arc::clone(&KAFKA.schema)).build_decoder().unwrap();
    decoder.decode(line.as_bytes()).unwrap();
    let receipts = client.append(to_topic("kafka"), vec![decoder.flush().unwrap().unwrap()]).await.unwrap();
    assert_eq!(receipts[0].accepted, 0, "a key over its limit");
    assert!(receipts[0].refused[0].reason.contains("1024"), "{receipts:?}");

    let mut nested: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for _ in 0..200 {
        let field = Arc::new(Field::new("item", nested.data_type().clone(), true));
        nested = Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1]), nested, None));
    }
    let nested = RecordBatch::try_from_iter([("file", nested)]).unwrap();
    assert!(put(&client, messages(to_topic("kafka"), nested).await).await.is_err(), "200 lists in each other");

    let mut schema = json!("int");
    for _ in 0..100 {
        schema = json!({"type": "array", "items": schema});
    }
    let schema = json!({"type": "record", "name": "R", "fields": [{"name": "id", "type": "int"}, {"name": "deep", "type": schema}]});
    assert_refused(
        "a deep schema",
        client.create(&json!({"name": "deep", "schema": schema, "key": ["id"]})).await,
        &["deep"],
    );

    let brackets = Bytes::from("[".repeat(1 << 20));
    assert_refused("a deep ticket", client.flight().do_get(Ticket::new(brackets)).await, &[]);
    let long_sql = format!("select {} 1", "1 +".repeat(500_000));
    assert!(client.sql(&long_sql).await.is_err(), "a statement over the limit");
    let deep_sql = format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(client.sql(&deep_sql).await.is_err(), "a statement that would overflow a stack");
    assert_unharmed(&process, &client, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_columns_topics_and_tickets_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (process, client) = victim(folder.path()).await;
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let sound = KAFKA.batches(0..1, 1).remove(0);

    let nowhere = put(&client, messages(to_topic("nowhere"), sound.clone()).await).await;
    assert_refused("an unknown topic", nowhere, &["nowhere"]);
    let with = |name: &str, column: ArrayRef| {
        let mut columns: Vec<_> =
            sound.schema().fields().iter().map(|field| field.name().clone()).zip(sound.columns().to_vec()).collect();
        columns.retain(|(present, _)| present != name);
        columns.push((name.to_owned(), column));
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let unknown = put(&client, messages(to_topic("kafka"), with("colour", text("red"))).await).await;
    assert_refused("an unknown column", unknown, &["colour"]);
    let own = put(&client, messages(to_topic("kafka"), with("_seq", number)).await).await;
    assert_refused("a column that is Firn's", own, &["_seq"]);
    let instant = with("committed_at", Arc::new(arrow::array::BooleanArray::from(vec![true])));
    let instant = put(&client, messages(to_topic("kafka"), instant).await).await;
    if let Ok(accepted) = instant {
        assert_eq!(accepted, 0, "true is no instant");
    }

    for ticket in [
        "",
        "{",
        "{}",
        "null",
        "\u{0}\u{1}\u{2}",
        "{\"replay\":{}}",
        "{\"replay\":{\"topic\":\"kafka\",\"colour\":1}}",
        "{\"replay\":{\"topic\":\"no/such\"}}",
        "{\"replay\":{\"topic\":\"nowhere\"}}",
        "{\"v\":99,\"replay\":{\"topic\":\"kafka\"}}",
        "{\"replay\":{\"topic\":\"kafka\",\"columns\":[\"colour\"]}}",
        "{\"replay\":{\"topic\":\"kafka\",\"where\":\"colour = 1\"}}",
        "{\"replay\":{\"topic\":\"kafka\",\"where\":\"1; drop table kafka\"}}",
        "{\"subscribe\":{\"pattern\":\"\"}}",
        "{\"subscribe\":{\"pattern\":\"kafka/>/x\"}}",
        "{\"subscribe\":{\"pattern\":\"kafka/>\",\"from\":{\"time\":\"yesterday\"}}}",
        "{\"append\":{\"topic\":\"kafka\"}}",
    ] {
        let answer = client.flight().do_get(Ticket::new(ticket.to_owned())).await;
        let answer = match answer {
            Ok(stream) => stream.into_inner().try_collect::<Vec<_>>().await.map(|_| ()),
            Err(status) => Err(status),
        };
        assert_refused(ticket, answer, &[]);
    }
    for (action, body) in [
        ("no-such-action", json!({})),
        ("describe-topic", json!({"topic": "nowhere"})),
        ("drop-topic", json!([])),
        ("create-topic", json!({"name": "x"})),
        ("create-topic", json!({"name": "../x", "schema": KAFKA.avro, "key": ["file"]})),
        ("create-topic", json!({"name": "x", "schema": KAFKA.avro, "key": ["colour"]})),
        ("create-topic", json!({"name": "x", "schema": KAFKA.avro, "key": ["file"], "path": "y/{module}"})),
        ("create-topic", json!({"name": "x", "schema": KAFKA.avro, "key": ["file"], "checks": ["length(file) >"]})),
    ] {
        assert_refused(action, client.action(action, &body).await, &[]);
    }
    assert_unharmed(&process, &client, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_reads_topics_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (process, client) = victim(folder.path()).await;
    let secret = folder.path().join("secret.csv");
    std::fs::write(&secret, "a,b\n1,2\n").unwrap();
    let secret = secret.to_str().unwrap();
    for statement in [
        format!("select * from '{secret}'"),
        format!("select * from \"{secret}\""),
        format!("select * from read_csv('{secret}')"),
        format!("select * from parquet_metadata('{secret}')"),
        format!("create external table t stored as csv location '{secret}'"),
        format!("copy kafka to '{secret}'"),
        format!("copy (select 1) to '{secret}.out' stored as csv"),
        "select * from 'http://127.0.0.1:1/x.parquet'".to_owned(),
        "create table t as select 1".to_owned(),
        "create view v as select * from kafka".to_owned(),
        "create schema s".to_owned(),
        "create function f() returns int return 1".to_owned(),
        "drop table kafka".to_owned(),
        "insert into kafka select * from kafka".to_owned(),
        "update kafka set kind = ''".to_owned(),
        "delete from kafka".to_owned(),
        "truncate table kafka".to_owned(),
        "set datafusion.execution.batch_size = 1".to_owned(),
        "prepare p as select 1".to_owned(),
        "begin".to_owned(),
        "select 1; select 2".to_owned(),
        "select * from nowhere".to_owned(),
        "select * from firn.other.kafka".to_owned(),
        "selekt".to_owned(),
        String::new(),
    ] {
        assert!(client.sql(&statement).await.is_err(), "{statement:?} was let through");
    }
    assert!(!Path::new(&format!("{secret}.out")).exists());
    assert_unharmed(&process, &client, 0).await;
}

/// Clients that leave in the middle of everything.
const CLIENTS: u64 = 60;

/// A client with a runtime of its own, whose end closes its sockets as the end of its process would: in the middle of a subscription, of
/// an append and of a replay.
fn leave_in_the_middle(address: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(address).await.unwrap();
        let subscribe = json!({"subscribe": {"pattern": "kafka/>", "from": "beginning"}});
        let mut live = client.stream(&subscribe).await.unwrap();
        live.next().await.unwrap().unwrap();
        let unfinished = futures::stream::iter(KAFKA.batches(0..1, 1)).chain(futures::stream::pending());
        let mut answers = client.append_stream(to_topic("kafka"), unfinished).await.unwrap();
        answers.next().await.unwrap().unwrap();
        let _unread = client.stream(&json!({"replay": {"topic": "kafka"}})).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (process, client) = victim(folder.path()).await;
    let mut before = (0, 0);
    for round in 0..CLIENTS {
        let address = process.address();
        tokio::task::spawn_blocking(move || leave_in_the_middle(address)).await.unwrap();
        if round == 20 {
            before = usage(process.pid());
        }
    }
    // What a client left is let go soon after, not at once: the server is asked until it has.
    let mut after = usage(process.pid());
    for _ in 0..200 {
        if after.0 <= before.0 + 8 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        after = usage(process.pid());
    }
    assert!(after.0 <= before.0 + 8, "open files: {before:?} then {after:?}");
    assert!(after.1 <= before.1 + (64 << 20), "resident memory: {before:?} then {after:?}");
    assert_unharmed(&process, &client, CLIENTS).await;
}
