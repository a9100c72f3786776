//! Events of 130 Arrow bytes, made up but not all alike: keys drawn at random, a skewed region, a note that compresses as text does.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// The topic that they are appended to.
pub(crate) const TOPIC: &str = "orders";
const REGIONS: usize = 16;
/// Makes an event 130 Arrow bytes: 16 + 9 of text, 8 + 8 of numbers, this, and three offsets.
const NOTE_BYTES: usize = 77;
const WORDS: [&str; 16] = [
    "accepted",
    "returned",
    "priority",
    "fragile",
    "warehouse",
    "customer",
    "invoice",
    "parcel",
    "delayed",
    "express",
    "pending",
    "confirmed",
    "shipment",
    "standard",
    "exchange",
    "delivery",
];

/// What `create-topic` is told.
pub(crate) fn topic() -> Value {
    json!({
        "name": TOPIC,
        "schema": {"type": "record", "name": "order", "fields": [
            {"name": "id", "type": "string"},
            {"name": "region", "type": "string"},
            {"name": "amount", "type": "double"},
            {"name": "placed_ms", "type": "long"},
            {"name": "note", "type": "string"},
        ]},
        "key": ["id"],
        "path": "orders/{region}",
    })
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("region", DataType::Utf8, false),
        Field::new("amount", DataType::Float64, false),
        Field::new("placed_ms", DataType::Int64, false),
        Field::new("note", DataType::Utf8, false),
    ]))
}

/// A source of batches.
#[derive(Debug)]
pub(crate) struct Events {
    rng: StdRng,
    keys: u64,
    next: i64,
}

impl Events {
    /// Keys `0..keys`, at random.
    pub(crate) fn new(keys: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(42), keys, next: 0 }
    }

    /// The text of a key.
    pub(crate) fn key(number: u64) -> String {
        format!("order-{number:010}")
    }

    /// The next `rows` events. A key keeps to three of the sixteen regions.
    pub(crate) fn batch(&mut self, rows: usize) -> RecordBatch {
        let keys: Vec<u64> = (0..rows).map(|_| self.rng.random_range(0..self.keys)).collect();
        let ids = StringArray::from_iter_values(keys.iter().map(|key| Self::key(*key)));
        let regions: Vec<String> = keys
            .iter()
            .map(|key| format!("region-{:02}", (*key as usize + 5 * self.rng.random_range(0..3)) % REGIONS))
            .collect();
        let notes = StringArray::from_iter_values((0..rows).map(|_| {
            let mut note = String::with_capacity(NOTE_BYTES + 16);
            while note.len() < NOTE_BYTES {
                note.push_str(WORDS[self.rng.random_range(0..WORDS.len())]);
                note.push(' ');
            }
            note.truncate(NOTE_BYTES);
            note
        }));
        let amounts =
            Float64Array::from_iter_values((0..rows).map(|_| f64::from(self.rng.random_range(1..100_000)) / 100.0));
        let first = self.next;
        self.next += rows as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids),
            Arc::new(StringArray::from_iter_values(regions)),
            Arc::new(amounts),
            Arc::new(Int64Array::from_iter_values(first..self.next)),
            Arc::new(notes),
        ];
        RecordBatch::try_new(schema(), columns).expect("the columns are the schema's")
    }
}
