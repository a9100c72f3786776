//! A topic whose schema changes four times under load: files of five versions, and files that span versions, are read alike by SQL, by replay, by PyIceberg
//! and by Spark, with conditions that every engine prunes by.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};
use tests::client::{Client, command, to_topic};
use tests::judge;
use tests::process::{Launch, Process, firn};
use tests::rows::lines;

/// Rows of each version that are flushed, and those that wait for the next flush while the schema changes.
const FLUSHED: i64 = 120;
const WAITING: i64 = 7;

struct World {
    folder: tempfile::TempDir,
    server: Process,
    client: Client,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("store").display().to_string();
        // Flushed and compacted when asked for, so that each file has the versions that it is meant to have.
        let settings = [("FLUSH_INTERVAL_MS", "3600000"), ("COMPACTION__ENABLED", "false")];
        let environment = settings.map(|(name, value)| (format!("FIRN_INGEST__{name}"), value.to_owned())).into();
        let mut server = Process::start(&Launch { data, environment, ..Launch::default() }).unwrap();
        let client = server.client().await.unwrap();
        Self { folder, server, client }
    }

    fn firn(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(firn().unwrap())
            .args(arguments)
            .env("FIRN_SERVER", format!("grpc://{}", self.server.address()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn done(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.firn(arguments, input);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// An `.avsc` file with these fields.
    fn avsc(&self, fields: &Value) -> String {
        let path = self.folder.path().join("schema.avsc");
        let schema = json!({"type": "record", "name": "reading", "fields": fields});
        std::fs::write(&path, schema.to_string()).unwrap();
        path.display().to_string()
    }

    fn alter(&self, fields: &Value, renames: &[&str]) -> String {
        let mut arguments = vec!["topic", "alter", "readings", "--schema"];
        let schema = self.avsc(fields);
        arguments.push(&schema);
        renames.iter().for_each(|rename| arguments.extend(["--rename", rename]));
        self.done(&arguments, b"")
    }

    fn produce(&self, rows: impl Iterator<Item = Value>) {
        let text: String = rows.map(|row| format!("{row}\n")).collect();
        self.done(&["produce", "readings", "-", "--format", "ndjson"], text.as_bytes());
    }

    /// Names of the payload's columns now.
    async fn columns(&self) -> Vec<String> {
        let schema = self.client.schema(to_topic("readings")).await.unwrap();
        schema.fields().iter().map(|field| field.name().clone()).filter(|name| !name.starts_with('_')).collect()
    }

    async fn sql(&self, columns: &str) -> Vec<Value> {
        values(&self.client.sql(&format!("select _seq, {columns} from readings order by _seq")).await.unwrap())
    }

    async fn replay(&self, columns: &str) -> Vec<Value> {
        let columns: Vec<_> = std::iter::once("_seq").chain(columns.split(',')).collect();
        values(&self.client.get(&json!({"replay": {"topic": "readings", "columns": columns}})).await.unwrap())
    }

    async fn metadata(&self) -> String {
        self.client.describe("readings").await.unwrap()["table"]["metadata_uri"].as_str().unwrap().to_owned()
    }
}

/// Rows as JSON, members of maps and records by name.
fn values(batches: &[RecordBatch]) -> Vec<Value> {
    let schema = batches[0].schema();
    lines(batches, &schema).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record(name: &str, fields: Value) -> Value {
    json!({"type": "record", "name": name, "fields": fields})
}

fn optional(kind: Value) -> Value {
    json!(["null", kind])
}

fn decimal(precision: u8) -> Value {
    json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": 2})
}

fn grade(symbols: &[&str]) -> Value {
    json!({"type": "enum", "name": "grade", "symbols": symbols})
}

fn field(name: &str, kind: Value) -> Value {
    json!({"name": name, "type": kind})
}

fn renamed(name: &str, kind: Value, alias: &str) -> Value {
    json!({"name": name, "type": kind, "aliases": [alias]})
}

fn first() -> Value {
    let items = record("item", json!([field("x", json!("int")), field("y", json!("string"))]));
    json!([
        field("id", json!("string")),
        field("region", json!("string")),
        field("a", json!("int")),
        field("b", json!("int")),
        field("rate", json!("float")),
        field("price", decimal(9)),
        field("grade", grade(&["A", "B"])),
        field("gone", json!("string")),
        field("must", json!("string")),
        field("place", record("place", json!([field("lat", json!("int")), field("name", json!("string"))]))),
        field("items", json!({"type": "array", "items": items})),
        field("tags", json!({"type": "map", "values": record("tag", json!([field("n", json!("int"))]))})),
    ])
}

/// Widened, and two fields added.
fn second() -> Value {
    let mut fields = first();
    let all = fields.as_array_mut().unwrap();
    all[2]["type"] = json!("long");
    all[4]["type"] = json!("double");
    all[5]["type"] = decimal(18);
    all.push(field("note", optional(json!("string"))));
    all.push(json!({"name": "channel", "type": "string", "default": "web"}));
    fields
}

/// One dropped, one renamed, and changes inside records, arrays and maps.
fn third() -> Value {
    let mut fields = second();
    let all = fields.as_array_mut().unwrap();
    let items = record(
        "item",
        json!([field("x", json!("int")), field("y", json!("string")), field("z", optional(json!("double")))]),
    );
    all[8] = renamed("text", json!("string"), "must");
    all[9] = field(
        "place",
        record("place", json!([renamed("latitude", json!("long"), "lat"), field("name", json!("string"))])),
    );
    all[10] = field("items", json!({"type": "array", "items": items}));
    all[11] = field("tags", json!({"type": "map", "values": record("tag", json!([field("n", json!("long"))]))}));
    all.remove(7);
    fields
}

/// Two names swapped, another order, one optional, one symbol more.
fn fourth() -> Value {
    let mut fields = third();
    let all = fields.as_array_mut().unwrap();
    all[2] = field("b", json!("long"));
    all[3] = field("a", json!("int"));
    all[6]["type"] = grade(&["A", "B", "C"]);
    all[7] = field("text", optional(json!("string")));
    all.swap(4, 5);
    fields
}

/// A dropped name comes back as another field, one more goes, an enum is text, members of a list's elements swap names.
fn fifth() -> Value {
    let mut fields = fourth();
    let all = fields.as_array_mut().unwrap();
    let items = record(
        "item",
        json!([field("y", json!("int")), field("x", json!("string")), field("z", optional(json!("double")))]),
    );
    all[6] = field("grade", json!("string"));
    all[9] = field("items", json!({"type": "array", "items": items}));
    let last = all.len() - 1;
    all[last] = field("gone", optional(json!("long")));
    fields
}

/// Event `n` as a producer of a version sends it.
fn event(version: u8, n: i64) -> Value {
    let (small, large) = (n, 1_000_000 + n);
    let mut row = json!({
        "id": format!("k{:02}", n % 40), "region": if n % 2 == 0 { "eu" } else { "us" },
        "rate": n as f64 / 4.0, "price": format!("{n}.37"), "tags": {"t": {"n": n}},
    });
    let row_of = row.as_object_mut().unwrap();
    let mut put = |name: &str, value: Value| drop(row_of.insert(name.to_owned(), value));
    let (a, b) = if version >= 4 { ("b", "a") } else { ("a", "b") };
    put(a, json!(if version >= 2 { small + (1 << 40) } else { small }));
    put(b, json!(large));
    put("grade", json!(["A", "B", if version >= 4 { "C" } else { "A" }][(n % 3) as usize]));
    put(
        if version >= 3 { "text" } else { "must" },
        if version >= 4 && n % 5 == 0 { Value::Null } else { json!(format!("t{n}")) },
    );
    put(
        "place",
        match version {
            1 | 2 => json!({"lat": n, "name": "p"}),
            _ => json!({"latitude": n + (1 << 40), "name": "p"}),
        },
    );
    let (x, y) = if version >= 5 { ("y", "x") } else { ("x", "y") };
    let mut item = Map::new();
    item.insert(x.into(), json!(n));
    item.insert(y.into(), json!(format!("i{n}")));
    if version >= 3 && n % 2 == 0 {
        item.insert("z".into(), json!(0.5));
    }
    put("items", json!([item]));
    match version {
        1 | 2 => put("gone", json!("soon")),
        5 => put("gone", if n % 2 == 0 { json!(n) } else { Value::Null }),
        _ => {}
    }
    if (2..=4).contains(&version) && n % 2 == 0 {
        put("channel", json!("shop"));
    }
    row
}

/// What the newest version says of the payload of event `n` that was sent under a version.
fn expected(version: u8, n: i64) -> Value {
    let sent = event(version, n);
    let of = |name: &str| sent.get(name).cloned().unwrap_or(Value::Null);
    let item = &sent["items"][0];
    let (x, y) = if version >= 5 { ("y", "x") } else { ("x", "y") };
    json!({
        "id": of("id"), "region": of("region"),
        "b": of(if version >= 4 { "b" } else { "a" }), "a": of(if version >= 4 { "a" } else { "b" }),
        "rate": of("rate"), "price": sent["price"].as_str().unwrap().parse::<f64>().unwrap(), "grade": of("grade"),
        "text": of(if version >= 3 { "text" } else { "must" }),
        "place": {"latitude": if version >= 3 { sent["place"]["latitude"].clone() } else { sent["place"]["lat"].clone() }, "name": "p"},
        "items": [{"y": item[x], "x": item[y], "z": item.get("z").cloned().unwrap_or(Value::Null)}],
        "tags": {"t": {"n": n}}, "note": null, "gone": if version == 5 { of("gone") } else { Value::Null },
    })
}

/// A batch of the first version's columns, as a producer sends it that was built against them.
fn batch_of(schema: &Schema, rows: impl Iterator<Item = Value>) -> RecordBatch {
    let payload: SchemaRef = std::sync::Arc::new(Schema::new(
        schema.fields().iter().filter(|field| !field.name().starts_with('_')).cloned().collect::<Vec<_>>(),
    ));
    let text: String = rows.map(|row| format!("{row}\n")).collect();
    let mut reader = arrow_json::ReaderBuilder::new(payload).build(std::io::Cursor::new(text)).unwrap();
    reader.next().unwrap().unwrap()
}

/// Numbers alike, however they were written.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), Value::from),
        Value::Array(all) => all.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        // Firn's JSON has decimals as text or as numbers.
        Value::String(text) => text.parse::<f64>().map_or_else(|_| value.clone(), Value::from),
        _ => value.clone(),
    }
}

fn assert_same(who: &str, found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len(), "{who}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(plain(found), plain(expected), "{who}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_schema_versions_are_read_alike_by_sql_replay_pyiceberg_and_spark() {
    let world = World::new().await;
    let schema = world.avsc(&first());
    world
        .done(&["topic", "create", "readings", "--schema", &schema, "--key", "id", "--path", "readings/{region}"], b"");
    let of_first = world.client.schema(to_topic("readings")).await.unwrap();

    let mut sent: Vec<Value> = Vec::new();
    let renames: [&[&str]; 4] =
        [&[], &[], &["a=b", "b=a"], &["items.element.x=items.element.y", "items.element.y=items.element.x"]];
    for version in 1..=5u8 {
        if version > 1 {
            let fields = [second, third, fourth, fifth][usize::from(version) - 2]();
            let said = world.alter(&fields, renames[usize::from(version) - 2]);
            assert!(said.starts_with(&format!("topic readings has schema version {version}\n")), "{said}");
        }
        let n = sent.len() as i64;
        world.produce((n..n + FLUSHED).map(|n| event(version, n)));
        world.client.flush("readings").await.unwrap();
        world.produce((n + FLUSHED..n + FLUSHED + WAITING).map(|n| event(version, n)));
        sent.extend((n..n + FLUSHED + WAITING).map(|n| expected(version, n)));
    }
    // A producer that still sends the first version's columns.
    let n = sent.len() as i64;
    let old = command(&json!({"append": {"topic": "readings", "schema_version": 1}}));
    let batch = batch_of(&of_first, (n..n + 3).map(|n| event(1, n)));
    world.client.append(old, vec![batch]).await.unwrap();
    sent.extend((n..n + 3).map(|n| expected(1, n)));
    for (row, seq) in sent.iter_mut().zip(1..) {
        row["_seq"] = json!(seq);
    }

    let columns = world.columns().await.join(",");
    assert_eq!(columns, "id,region,b,a,price,rate,grade,text,place,items,tags,note,gone");
    assert_same("SQL over table and tail", &world.sql(&columns).await, &sent);
    assert_same("replay over table and tail", &world.replay(&columns).await, &sent);
    world.client.flush("readings").await.unwrap();
    assert_same("SQL", &world.sql(&columns).await, &sent);
    assert_same("replay", &world.replay(&columns).await, &sent);
    let of_key = values(&world.client.replay("readings", "k17").await.unwrap());
    let seqs = |rows: &[Value]| rows.iter().map(|row| row["_seq"].as_i64().unwrap()).collect::<Vec<_>>();
    let of_k17: Vec<_> = sent.iter().filter(|row| row["id"] == "k17").cloned().collect();
    assert_eq!(seqs(&of_key), seqs(&of_k17));

    let conditions = [
        "b = 17",
        "b < 100",
        "a = 17",
        "a >= 1000000",
        "a = 1000130",
        "b >= 1099511627776",
        "rate > 100.0",
        "gone = 600",
        "gone is null",
        "text = 't300'",
        "text is null",
        "grade = 'C'",
        "_seq > 500 and b > 1099511628200",
    ];
    judged(&world, &columns, &sent, &conditions).await;
    proven(&world);

    let done = world.client.action("compact-topic", &json!({"topic": "readings", "whole": true})).await.unwrap();
    assert_eq!(done["files_out"], 1, "{done}");
    assert_same("SQL over a compacted table", &world.sql(&columns).await, &sent);
    assert_same("replay over a compacted table", &world.replay(&columns).await, &sent);
    judged(&world, &columns, &sent, &conditions).await;
    proven(&world);
}

/// Other engines read the same rows, and find as many by each condition as Firn does.
async fn judged(world: &World, columns: &str, sent: &[Value], conditions: &[&str]) {
    let metadata = world.metadata().await;
    let arguments = [&[metadata.as_str(), columns][..], conditions].concat();
    for engine in ["iceberg", "spark"] {
        let judged = judge::python("evolution", &[&[engine][..], &arguments].concat()).await.unwrap();
        assert_same(engine, judged["rows"].as_array().unwrap(), sent);
        for condition in conditions {
            let own = world.client.number(&format!("select count(*) from readings where {condition}")).await.unwrap();
            assert_eq!(judged["counts"][*condition], own, "{engine}: {condition}");
            let filter = json!({"replay": {"topic": "readings", "where": condition, "columns": ["_seq"]}});
            assert_eq!(
                tests::rows::count(&world.client.get(&filter).await.unwrap()) as i64,
                own,
                "replay: {condition}"
            );
        }
    }
}

fn proven(world: &World) {
    let verdict = Command::new(firn().unwrap())
        .args(["verify", "readings", "--data", world.folder.path().join("store").to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(verdict.status.code(), Some(0), "{}", String::from_utf8_lossy(&verdict.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_cannot_be_is_refused_with_every_reason_and_a_killed_server_keeps_the_one_that_could() {
    let mut world = World::new().await;
    let schema = world.avsc(&first());
    world
        .done(&["topic", "create", "readings", "--schema", &schema, "--key", "id", "--path", "readings/{region}"], b"");
    world.produce((0..10).map(|n| event(1, n)));
    let mut wrong = first();
    wrong[2]["type"] = json!("string");
    wrong[3] = field("c", json!("int"));
    let schema = world.avsc(&wrong);
    let refused = world.firn(&["topic", "alter", "readings", "--schema", &schema], b"");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_ne!(refused.status.code(), Some(0));
    assert!(said.contains("cannot change from int to string") && said.contains("is new and required"), "{said}");

    world.alter(&second(), &[]);
    world.produce((10..20).map(|n| event(2, n)));
    let launch = Launch { data: world.folder.path().join("store").display().to_string(), ..Launch::default() };
    world.server.kill_now().unwrap();
    world.server = Process::start(&launch).unwrap();
    world.client = world.server.client().await.unwrap();
    assert_eq!(world.client.describe("readings").await.unwrap()["topic"]["version"], 2);
    world.produce((20..30).map(|n| event(2, n)));
    assert_eq!(world.client.number("select count(*) from readings where channel is null").await.unwrap(), 10);
    assert_eq!(world.client.number("select count(*) from readings where channel = 'web'").await.unwrap(), 10);
    assert_eq!(world.client.number("select max(_seq) from readings").await.unwrap(), 30);
}
