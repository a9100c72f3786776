//! The `firn` command as a person and a script meet it: every format of `produce`, its exit codes, settings, and what it prints.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::record_batch::RecordBatch;
use serde_json::Value;
use tests::process::{Launch, Process, firn};

const SCHEMA: &str = r#"{"type":"record","name":"r","fields":[{"name":"k","type":"string"},{"name":"n","type":["null","int"],"default":null}]}"#;

/// A running server, and a folder for files.
struct World {
    folder: tempfile::TempDir,
    server: Process,
}

impl World {
    async fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("store").display().to_string();
        let mut server = Process::start(&Launch { data, ..Launch::default() })?;
        server.client().await?;
        let world = Self { folder, server };
        let schema = world.file("t.avsc", SCHEMA.as_bytes())?;
        for topic in ["t", "u"] {
            let made = world.firn(&["topic", "create", topic, "--schema", &schema, "--key", "k"], b"")?;
            assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        }
        Ok(world)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<String> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes)?;
        Ok(path.display().to_string())
    }

    fn firn(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let mut child = Command::new(firn()?)
            .args(arguments)
            .env("FIRN_SERVER", format!("grpc://{}", self.server.address()))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().expect("it is piped").write_all(input)?;
        Ok(child.wait_with_output()?)
    }

    /// What a command that prints one JSON document a line printed.
    fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let output = self.firn(arguments, b"")?;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        Ok(text(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn rows() -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
    RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).expect("two columns")
}

fn parquet() -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, rows().schema(), None)?;
    writer.write(&rows())?;
    writer.close()?;
    Ok(file)
}

fn ipc(stream: bool) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    if stream {
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut file, &rows().schema())?;
        writer.write(&rows())?;
        writer.finish()?;
    } else {
        let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut file, &rows().schema())?;
        writer.write(&rows())?;
        writer.finish()?;
    }
    Ok(file)
}

fn avro() -> Result<Vec<u8>> {
    let mut writer = arrow_avro::writer::AvroWriter::new(Vec::new(), rows().schema().as_ref().clone())?;
    writer.write(&rows())?;
    writer.finish()?;
    Ok(writer.into_inner())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_reads_every_format_plain_and_compressed_and_all_give_the_same_events() -> Result<()> {
    let world = World::new().await?;
    let ndjson = b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\"}\n\n{\"k\":\"a\",\"n\":3}\n";
    let files = [
        ("a.ndjson", ndjson.to_vec()),
        ("a.ndjson.gz", gzip(ndjson)?),
        ("a.csv", b"k,n\na,1\nb,\na,3\n".to_vec()),
        ("a.csv.gz", gzip(b"k,n\na,1\nb,\na,3\n")?),
        ("a.parquet", parquet()?),
        ("a.parquet.gz", gzip(&parquet()?)?),
        ("a.arrow", ipc(false)?),
        ("a.arrows", ipc(true)?),
        ("a.avro", avro()?),
    ];
    for (name, bytes) in &files {
        let path = world.file(name, bytes)?;
        let report = world.json(&["produce", "t", &path, "--json"])?;
        assert_eq!((&report[0]["accepted"], &report[0]["refused"]), (&3.into(), &0.into()), "{name}");
    }
    let piped = world.firn(&["produce", "t", "-", "--json"], ndjson)?;
    assert_eq!(piped.status.code(), Some(0), "{}", text(&piped.stderr));
    let loads = files.len() + 1;
    let statement = "select k, n, count(*) as c from t group by k, n order by k, n";
    let counts = world.json(&["sql", statement, "--json"])?;
    let expected = [("a", Some(1)), ("a", Some(3)), ("b", None)];
    let expected: Vec<_> = expected.map(|(k, n)| serde_json::json!({"k": k, "n": n, "c": loads})).into();
    assert_eq!(counts, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_a_script_what_happened() -> Result<()> {
    let world = World::new().await?;
    let bad = world.file("bad.ndjson", b"{\"k\":\"a\"}\n{\"k\":\nx\n{\"k\":null}\n{\"k\":\"b\",\"m\":1}\n")?;
    let rows = world.folder.path().join("refused.ndjson").display().to_string();
    let code = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = world.firn(arguments, b"")?;
        Ok((output.status.code(), text(&output.stderr)))
    };
    let (refused, _) = code(&["produce", "t", &bad, "--on-error", "reject-row", "--refusals", &rows])?;
    assert_eq!(refused, Some(4));
    let mut refused: Vec<u64> = std::fs::read_to_string(&rows)?
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).map(|refusal| refusal["row"].as_u64().expect("a row")))
        .collect::<Result<_, _>>()?;
    refused.sort_unstable();
    assert_eq!(refused, [1, 2, 3, 4]);
    assert_eq!(world.json(&["sql", "select count(*) as c from t", "--json"])?[0]["c"], 1);

    let (whole, _) = code(&["produce", "u", &bad])?;
    assert_eq!(whole, Some(4), "one bad row refuses its batch");
    assert_eq!(world.json(&["sql", "select count(*) as c from u", "--json"])?[0]["c"], 0);

    for (arguments, expected) in [
        (&["replay", "nope"][..], 3),
        (&["sql", "select * from nope"], 3),
        (&["sql", "select * fro t"], 1),
        (&["produce", "t", "nope.ndjson"], 2),
        (&["produce", "t", "nope.txt"], 2),
        (&["topic", "create", "Bad", "--schema", "t.avsc", "--key", "k"], 2),
        (&["topic", "create", "v", "--schema", "t.avsc", "--key", "nope"], 1),
        (&["health", "--server", "grpc://127.0.0.1:1"], 5),
        (&["health", "--server", "ftp://127.0.0.1"], 2),
        (&["serve"], 2),
        (&["serve", "--data", "x", "--set", "ingest.nope=1"], 2),
        (&["nonsense"], 2),
    ] {
        let (found, said) = code(arguments)?;
        assert_eq!(found, Some(expected), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_listed_described_and_dropped() -> Result<()> {
    let world = World::new().await?;
    world.json(&["produce", "t", &world.file("one.ndjson", b"{\"k\":\"a\"}\n")?, "--json"])?;
    assert_eq!(world.json(&["topic", "list", "--json"])?.len(), 2);
    let described = &world.json(&["topic", "describe", "t", "--json"])?[0];
    assert_eq!(described["next_seq"]["0"], 2);
    assert_eq!(
        world.json(&["replay", "t", "--key", "a", "--columns", "_seq,k", "--json"])?,
        [serde_json::json!({"_seq": 1, "k": "a"})]
    );
    assert_eq!(
        world.json(&["tail", "t", "--from", "beginning", "--limit", "1", "--columns", "k"])?,
        [serde_json::json!({"k": "a"})]
    );
    world.json(&["flush", "t", "--json"])?;
    let described = &world.json(&["topic", "describe", "t", "--json"])?[0];
    assert_eq!((&described["watermark"]["0"], &described["table"]["rows"]), (&2.into(), &1.into()));
    let metadata = described["table"]["metadata_uri"].as_str().expect("a URI").trim_start_matches("file://").to_owned();
    assert!(Path::new(&metadata).is_file(), "{metadata}");
    world.json(&["topic", "drop", "t", "--json"])?;
    assert_eq!(world.json(&["topic", "list", "--json"])?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_where_a_topics_rows_lie_and_has_them_compacted() -> Result<()> {
    let world = World::new().await?;
    for number in 0..3 {
        let row = format!("{{\"k\":\"a\",\"n\":{number}}}\n");
        let path = world.file(&format!("{number}.ndjson"), row.as_bytes())?;
        world.json(&["produce", "t", &path, "--json"])?;
        world.json(&["flush", "t", "--json"])?;
    }
    let report = world.json(&["topic", "files", "t", "--json"])?;
    assert_eq!(report[0]["ranges"].as_array().map(Vec::len), Some(3), "{report:?}");
    let shown = text(&world.firn(&["topic", "files", "t"], b"")?.stdout);
    assert!(shown.contains("3 ranges") && shown.contains("nothing is due"), "{shown}");
    let nothing = text(&world.firn(&["topic", "compact", "t"], b"")?.stdout);
    assert!(nothing.contains("nothing of t was due"), "{nothing}");
    let done = world.json(&["topic", "compact", "t", "--whole", "--json"])?;
    assert_eq!(
        (&done[0]["rows"], &done[0]["files_in"], &done[0]["files_out"]),
        (&3.into(), &3.into(), &1.into()),
        "{done:?}"
    );
    assert_eq!(world.json(&["topic", "files", "t", "--json"])?[0]["ranges"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.firn(&["topic", "files", "none"], b"")?.status.code(), Some(3), "there is no such topic");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_how_much_of_a_topic_is_kept_and_readers_are_told_what_is_gone() -> Result<()> {
    let world = World::new().await?;
    for number in 0..4 {
        let row = format!("{{\"k\":\"a\",\"n\":{number}}}\n");
        let path = world.file(&format!("{number}.ndjson"), row.as_bytes())?;
        world.json(&["produce", "t", &path, "--json"])?;
        world.json(&["flush", "t", "--json"])?;
    }
    let nothing = world.firn(&["topic", "retain", "t", "--events", "0"], b"")?;
    assert_ne!(nothing.status.code(), Some(0), "{}", text(&nothing.stdout));
    world.json(&["topic", "retain", "t", "--events", "2", "--json"])?;
    let kept = || -> Result<i64> {
        let described = world.json(&["topic", "describe", "t", "--json"])?;
        Ok(described[0]["table"]["retained"]["0"].as_i64().unwrap_or_default())
    };
    while kept()? < 3 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let described = text(&world.firn(&["topic", "describe", "t"], b"")?.stdout);
    assert!(described.contains("from seq 3 on; older events were dropped"), "{described}");
    assert_eq!(world.json(&["replay", "t", "--json"])?.len(), 2);
    let told = world.firn(&["replay", "t", "--from", "2"], b"")?;
    assert!(text(&told.stderr).contains("dropped those below 3"), "{}", text(&told.stderr));
    let store = world.folder.path().join("store").display().to_string();
    let verified = Command::new(firn()?).args(["verify", "t", "--data", &store]).output()?;
    assert!(verified.status.success(), "{}", text(&verified.stdout));
    Ok(())
}
