//! The real event streams under `tests/data`, as a producer would send them.

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::tools::repository;

/// One stream: how its topic is made, and its lines in the order in which they happened.
#[derive(Debug)]
pub struct Stream {
    /// The topic's name.
    pub topic: &'static str,
    /// The field that is its key.
    pub key: &'static str,
    /// Its path template.
    pub path: &'static str,
    /// Arrow schema of the payload as this producer sends it.
    pub schema: SchemaRef,
    /// NDJSON, one event a line.
    pub lines: Vec<String>,
    /// The topic's Avro schema.
    pub avro: Value,
}

/// Every file that every commit of Apache Kafka's own history touched: 101,229 events.
pub static KAFKA: LazyLock<Stream> = LazyLock::new(|| {
    let columns = [
        ("file", DataType::Utf8, false),
        ("module", DataType::Utf8, false),
        ("kind", DataType::Utf8, false),
        ("change", DataType::Utf8, false),
        ("commit", DataType::Utf8, false),
        ("ticket", DataType::Utf8, true),
        ("blob", DataType::Utf8, true),
        ("committed_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
    ];
    Stream::load("kafka", "file", "kafka/{module}/{kind}", &columns, ["kafka-history.ndjson.gz", "kafka.avsc"])
});

/// Every flight that left New York City in 2013: 336,776 events, 2,512 of them without a tail number.
pub static FLIGHTS: LazyLock<Stream> = LazyLock::new(|| {
    let columns = [
        ("tail_number", DataType::Utf8, true),
        ("carrier", DataType::Utf8, false),
        ("flight", DataType::Int32, false),
        ("origin", DataType::Utf8, false),
        ("dest", DataType::Utf8, false),
        ("scheduled_at", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        ("dep_delay_min", DataType::Int32, true),
        ("arr_delay_min", DataType::Int32, true),
        ("air_time_min", DataType::Int32, true),
        ("distance_mi", DataType::Int32, false),
    ];
    Stream::load(
        "flights",
        "tail_number",
        "flights/{origin}/{carrier}",
        &columns,
        ["flights.ndjson.gz", "flights.avsc"],
    )
});

impl Stream {
    fn load(
        topic: &'static str,
        key: &'static str,
        path: &'static str,
        columns: &[(&str, DataType, bool)],
        [lines, avro]: [&str; 2],
    ) -> Self {
        let folder = repository().join("tests/data");
        let file = std::fs::File::open(folder.join(lines)).expect("the stream is in the repository");
        let lines = BufReader::new(GzDecoder::new(file)).lines().map(|line| line.expect("the stream is gzipped UTF-8"));
        let avro = std::fs::read(folder.join(avro)).expect("its schema is in the repository");
        let fields: Vec<_> =
            columns.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable)).collect();
        Self {
            topic,
            key,
            path,
            schema: Arc::new(Schema::new(fields)),
            lines: lines.collect(),
            avro: serde_json::from_slice(&avro).expect("an .avsc file is JSON"),
        }
    }

    /// The body of `create-topic`, flushed only when told to: the tests say what is in the table and what in the tail.
    pub fn spec(&self) -> Value {
        json!({
            "name": self.topic, "schema": self.avro, "key": [self.key], "path": self.path,
            "flush": {"interval_ms": 3_600_000, "bytes": 4_u64 << 30},
        })
    }

    /// Some of the events, as batches of at most `rows` rows.
    pub fn batches(&self, events: Range<usize>, rows: usize) -> Vec<RecordBatch> {
        self.lines[events].chunks(rows).map(|lines| self.batch(lines)).collect()
    }

    /// All events, as batches of at most `rows` rows.
    pub fn all(&self, rows: usize) -> Vec<RecordBatch> {
        self.batches(0..self.lines.len(), rows)
    }

    fn batch(&self, lines: &[String]) -> RecordBatch {
        let mut decoder = arrow_json::ReaderBuilder::new(Arc::clone(&self.schema))
            .with_batch_size(lines.len())
            .build_decoder()
            .expect("every column type can be read from JSON");
        for line in lines {
            decoder.decode(line.as_bytes()).expect("a line is an event");
        }
        decoder.flush().expect("the events fit the schema").expect("a chunk is not empty")
    }

    /// The lines whose key is `key`, in order.
    pub fn of_key<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a String> {
        let needle = format!("\"{}\":{}", self.key, Value::from(key));
        self.lines.iter().filter(move |line| line.starts_with(&format!("{{{needle}")))
    }
}
