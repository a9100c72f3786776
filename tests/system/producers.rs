//! Producers that send again, loads that are interrupted, and appends on a condition: over the wire, with kills in between.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_flight::error::FlightError;
use flight::detail::{ErrorDetail, Facts};
use flight::terms::{BatchTerms, LastSeqCondition};
use futures::{StreamExt, TryStreamExt};
use schemas::limits::PRODUCERS_MAX;
use serde_json::{Value, json};
use tests::client::Client;
use tests::judge;
use tests::process::{Launch, Process, firn};
use tests::serve::{local, serve};

const SCHEMA: &str =
    r#"{"type":"record","name":"r","fields":[{"name":"k","type":"string"},{"name":"n","type":"long"}]}"#;
/// Rows of a load that is interrupted.
const ROWS: u64 = 60_000;

fn topic() -> Value {
    json!({"name": "t", "schema": serde_json::from_str::<Value>(SCHEMA).unwrap(), "key": ["k"]})
}

fn batch(rows: &[(&str, i64)]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(rows.iter().map(|(key, _)| Some(*key)).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number)));
    RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).unwrap()
}

fn of_key(key: &str, expected_last_seq: i64) -> BatchTerms {
    let condition = LastSeqCondition { key: Some(key.to_owned()), pattern: None, expected_last_seq };
    BatchTerms { conditions: vec![condition], ..BatchTerms::default() }
}

/// One conditional append: the seq that it got, or the last seq that stood in its way.
async fn append_if(client: &Client, rows: &[(&str, i64)], terms: BatchTerms) -> Result<Result<i64, i64>> {
    let answers = client.append_with_terms(tests::client::to_topic("t"), vec![(batch(rows), terms.to_json())]).await;
    match answers {
        Ok(answers) => Ok(Ok(answers[0].last_seq.context("it was appended")?)),
        Err(FlightError::Tonic(status)) => match ErrorDetail::of(&status).and_then(|detail| detail.facts) {
            Some(Facts::ConditionFailed { last_seq, .. }) => Ok(Err(last_seq)),
            _ => Err(status.into()),
        },
        Err(other) => Err(other.into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_pyarrow_client_retries_safely_and_reads_what_a_refusal_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (server, client) = serve(local(folder.path())).await?;
    client.create(&topic()).await?;
    let verdict = judge::python("producer", &[&format!("grpc://{}", server.flight_addr()), "t"]).await?;
    assert_eq!(verdict["begun"]["next_producer_seq"], 1);
    for (first, again) in verdict["answers"].as_array().unwrap().iter().zip(verdict["again"].as_array().unwrap()) {
        assert_eq!((&first["first_seq"], &first["last_seq"]), (&again["first_seq"], &again["last_seq"]));
        assert_eq!((first.get("duplicate"), &again["duplicate"]), (None, &json!(true)));
    }
    assert_eq!(verdict["gap"]["reason"], "producer-seq");
    assert_eq!(verdict["gap"]["next_producer_seq"], 3);
    assert_eq!(verdict["other"]["reason"], "producer-content");
    assert_eq!(
        (&verdict["condition"]["reason"], &verdict["condition"]["last_seq"]),
        (&json!("condition-failed"), &json!(3))
    );
    assert_eq!(verdict["condition"]["condition"], json!({"key": "a", "expected_last_seq": 1}));
    assert_eq!(verdict["decided_again"][0]["first_seq"], 4);
    let pipelined = &verdict["pipelined"];
    assert_eq!((&pipelined[0]["first_seq"], &pipelined[1]["refused_by"]["last_seq"]), (&json!(5), &json!(5)));
    assert_eq!((&pipelined[1]["accepted"], &pipelined[2]["first_seq"]), (&json!(0), &json!(6)));
    assert_eq!(client.number("select count(*) as c from t").await?, 6);
    Ok(())
}

/// Each of many clients adds one to a counter by read, expect, append, until it did so often enough.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_count_together_and_none_starves() -> Result<()> {
    const CLIENTS: usize = 64;
    const EACH: i64 = 5;
    let folder = tempfile::tempdir()?;
    let (server, client) = serve(local(folder.path())).await?;
    client.create(&topic()).await?;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let address = server.flight_addr();
            tokio::spawn(async move {
                let client = Client::connect(address).await?;
                let (mut last, mut tries) = (0, 0u64);
                for _ in 0..EACH {
                    loop {
                        tries += 1;
                        // The counter's value is the number of its events: of a topic that has no others, its last seq.
                        match append_if(&client, &[("counter", last + 1)], of_key("counter", last)).await? {
                            Ok(seq) => break last = seq,
                            Err(seen) => last = seen,
                        }
                    }
                }
                Ok::<_, anyhow::Error>(tries)
            })
        })
        .collect();
    let mut tries = Vec::new();
    for task in tasks {
        tries.push(task.await??);
    }
    let total = CLIENTS as i64 * EACH;
    assert_eq!(client.number("select max(n) as c from t").await?, total);
    assert_eq!(client.number("select count(distinct n) as c from t").await?, total, "no increment was lost");
    let seconds = begun.elapsed().as_secs_f64();
    let most = tries.iter().max().unwrap();
    println!(
        "{total} increments by {CLIENTS} clients: {:.0}/s, {} tries, {most} at most by one",
        total as f64 / seconds,
        tries.iter().sum::<u64>()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_a_cold_key_is_as_true_as_one_on_a_warm_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, client) = serve(local(folder.path())).await?;
    client.create(&topic()).await?;
    assert_eq!(append_if(&client, &[("a", 1), ("b", 1)], of_key("a", 0)).await?, Ok(2));
    client.flush("t").await?;
    assert_eq!(append_if(&client, &[("a", 2)], of_key("a", 0)).await?, Err(1), "in the table");
    assert_eq!(append_if(&client, &[("a", 2)], of_key("a", 1)).await?, Ok(3));
    assert_eq!(
        append_if(&client, &[("c", 1)], of_key("a", 1)).await?,
        Err(3),
        "in the tail, and of a key that it does not write"
    );
    client.flush("t").await?;
    assert_eq!(append_if(&client, &[("c", 1)], of_key("c", 0)).await?, Ok(4));
    let pattern = LastSeqCondition { key: None, pattern: Some("t/>".into()), expected_last_seq: 3 };
    let of_topic = LastSeqCondition { key: None, pattern: None, expected_last_seq: 4 };
    let both = BatchTerms { conditions: vec![of_topic.clone(), pattern], ..BatchTerms::default() };
    assert_eq!(append_if(&client, &[("d", 1)], both).await?, Ok(5), "no path is below t/");
    let one = BatchTerms { conditions: vec![of_topic], ..BatchTerms::default() };
    assert_eq!(append_if(&client, &[("d", 2)], one).await?, Err(5));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_fence_token_is_refused_and_told_which_one_stands() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (_server, client) = serve(local(folder.path())).await?;
    client.create(&topic()).await?;
    let asked = |token: Value| json!({"topic": "t", "key_prefix": "a", "token": token});
    assert_eq!(client.action("fence", &asked(Value::Null)).await?["token"], Value::Null);
    assert_eq!(client.action("fence", &asked(json!(7))).await?["token"], 7);
    assert_eq!(client.action("fence", &asked(Value::Null)).await?["token"], 7);
    let status = client.action("fence", &asked(json!(6))).await.unwrap_err();
    assert!(matches!(ErrorDetail::of(&status).unwrap().facts, Some(Facts::FenceFailed { token: 7, .. })), "{status:?}");
    let said = |token: u64| json!({"fence": {"key_prefix": "a", "token": token}}).to_string().into_bytes();
    let append = async |token| {
        client.append_with_terms(tests::client::to_topic("t"), vec![(batch(&[("a", 1)]), said(token).into())]).await
    };
    assert!(append(6).await.is_err());
    assert_eq!(append(8).await?[0].last_seq, Some(1));
    assert!(append(7).await.is_err(), "a higher token was set by the append");
    Ok(())
}

/// `firn produce` of a file that a kill may interrupt.
struct Loader {
    folder: tempfile::TempDir,
    file: String,
}

impl Loader {
    async fn new(client: &Client) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let lines: String = (0..ROWS).map(|n| format!("{{\"k\":\"k-{}\",\"n\":{n}}}\n", n % 97)).collect();
        let path = folder.path().join("load.ndjson");
        std::fs::write(&path, lines)?;
        client.create(&topic()).await?;
        Ok(Self { file: path.display().to_string(), folder })
    }

    fn start(&self, server: &Process, more: &[&str]) -> Result<Child> {
        let mut command = Command::new(firn()?);
        command.args(["produce", "t", &self.file, "--batch-rows", "100", "--json"]).args(more);
        command.env("FIRN_SERVER", format!("grpc://{}", server.address())).current_dir(self.folder.path());
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    fn report(output: &std::process::Output) -> Result<Value> {
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Waits until some rows are there, and not all.
async fn under_way(client: &Client, least: i64) -> Result<i64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let next = client.describe("t").await?["next_seq"]["0"].as_i64().context("a seq")?;
        if next > least {
            return Ok(next - 1);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    anyhow::bail!("nothing was appended within a minute")
}

async fn is_whole(client: &Client) -> Result<()> {
    for (statement, expected) in [
        ("select count(*) as c from t", ROWS as i64),
        ("select max(_seq) as c from t", ROWS as i64),
        ("select count(distinct n) as c from t", ROWS as i64),
        ("select sum(n) as c from t", (ROWS * (ROWS - 1) / 2) as i64),
    ] {
        assert_eq!(client.number(statement).await?, expected, "{statement}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_whose_command_was_killed_goes_on_where_it_stopped_and_ends_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server =
        Process::start(&Launch { data: folder.path().join("s").display().to_string(), ..Launch::default() })?;
    let client = server.client().await?;
    let loader = Loader::new(&client).await?;
    let mut kills = 0;
    for share in [5, 3, 2] {
        let mut child = loader.start(&server, &[])?;
        under_way(&client, ROWS as i64 / share).await?;
        child.kill()?;
        kills += usize::from(!child.wait()?.success());
    }
    assert!(kills > 0, "no load was interrupted");
    let report = Loader::report(&loader.start(&server, &[])?.wait_with_output()?)?;
    assert_eq!(report["accepted"].as_u64().unwrap() + report["already"].as_u64().unwrap(), ROWS);
    is_whole(&client).await?;

    let again = Loader::report(&loader.start(&server, &[])?.wait_with_output()?)?;
    assert_eq!((&again["accepted"], &again["already"]), (&json!(0), &json!(ROWS)), "nothing is appended twice");
    let output = loader.start(&server, &["--producer", "other", "--expect-last-seq", "7"])?.wait_with_output()?;
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let output = loader.start(&server, &["--producer", "other", "--expect-new-keys"])?.wait_with_output()?;
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    is_whole(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_outlives_its_server_and_ends_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = tests::tools::free_port()?;
    let data = folder.path().join("s").display().to_string();
    let (address, launch) = (([127, 0, 0, 1], port).into(), Launch { data, ..Launch::default() });
    let mut server = Process::start_at(address, &launch)?;
    let mut client = server.client().await?;
    let loader = Loader::new(&client).await?;
    let child = loader.start(&server, &[])?;
    for share in [5, 2] {
        under_way(&client, ROWS as i64 / share).await?;
        server.kill()?;
        server = Process::start_at(address, &launch)?;
        client = server.client().await?;
    }
    let report = Loader::report(&child.wait_with_output()?)?;
    assert_eq!((&report["accepted"], &report["already"]), (&json!(ROWS), &json!(0)));
    is_whole(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_has_appended_another_input_is_told_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server =
        Process::start(&Launch { data: folder.path().join("s").display().to_string(), ..Launch::default() })?;
    let client = server.client().await?;
    let loader = Loader::new(&client).await?;
    Loader::report(&loader.start(&server, &["--producer", "x"])?.wait_with_output()?)?;
    for other in ["{\"k\":\"z\",\"n\":1}\n".to_owned(), "{\"k\":\"z\",\"n\":1}\n".repeat(ROWS as usize + 500)] {
        std::fs::write(&loader.file, other)?;
        let output = loader.start(&server, &["--producer", "x"])?.wait_with_output()?;
        assert!(!output.status.success());
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    }
    is_whole(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_is_resumed_after_the_server_forgot_it_is_refused_and_told_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut server =
        Process::start(&Launch { data: folder.path().join("s").display().to_string(), ..Launch::default() })?;
    let client = server.client().await?;
    let loader = Loader::new(&client).await?;
    let mut child = loader.start(&server, &[])?;
    under_way(&client, ROWS as i64 / 10).await?;
    child.kill()?;
    child.wait()?;
    let others = (0..PRODUCERS_MAX).map(|number| {
        let client = client.clone();
        async move { client.action("producer", &json!({"topic": "t", "producer": format!("p{number}")})).await }
    });
    futures::stream::iter(others).buffer_unordered(64).try_for_each(async |_| Ok(())).await?;

    let before = client.number("select count(*) as c from t").await?;
    for _ in 0..2 {
        let output = loader.start(&server, &[])?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(said.contains("is forgotten: look") && said.contains("--start-over"), "{said}");
    }
    assert_eq!(client.number("select count(*) as c from t").await?, before, "nothing is appended unawares");
    let report = Loader::report(&loader.start(&server, &["--start-over"])?.wait_with_output()?)?;
    assert_eq!((&report["accepted"], &report["already"]), (&json!(ROWS), &json!(0)));
    assert_eq!(client.number("select count(*) as c from t").await?, before + ROWS as i64);
    Ok(())
}
