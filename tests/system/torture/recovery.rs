//! How long a take-over takes for a log of a given size.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde_json::json;
use tests::client::{Client, to_topic};
use tests::process::{Launch, Process};

use super::number;
use crate::crash::strike::Recovery;

const ROWS: usize = 1_000;
/// Take-overs of the same log.
const TIMES: usize = 3;

/// About a megabyte that no compression makes smaller.
fn batch(random: &mut StdRng) -> RecordBatch {
    let text = |_| (0..64).map(|_| format!("{:016x}", random.next_u64())).collect::<String>();
    let values: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(text)));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|key| key.to_string())));
    RecordBatch::try_from_iter([("key", keys), ("value", values)]).unwrap()
}

pub(crate) async fn fill(client: &Client, megabytes: usize) {
    let schema = json!({"type": "record", "name": "Blob", "fields": [
        {"name": "key", "type": "string"}, {"name": "value", "type": "string"}]});
    client.create(&json!({"name": "blobs", "schema": schema, "key": ["key"]})).await.unwrap();
    let mut random = StdRng::seed_from_u64(1);
    // A hexadecimal digit is half a byte of chance, and so it is compressed.
    let batches = std::iter::repeat_with(|| batch(&mut random)).take(2 * megabytes).collect();
    client.append(to_topic("blobs"), batches).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_no_flush_has_touched_is_taken_over_and_all_of_it_is_there() {
    let megabytes = number("FIRN_RECOVERY_MB", 8);
    let data = tempfile::tempdir().unwrap();
    let settings = ["ingest.flush_interval_ms=3600000", "ingest.flush_bytes=1000000000000"];
    let arguments = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    let launch = Launch { data: data.path().to_str().unwrap().to_owned(), environment: BTreeMap::new(), arguments };
    let mut process = Process::start(&launch).unwrap();
    fill(&process.client().await.unwrap(), megabytes).await;
    let mut recoveries = Vec::new();
    for _ in 0..TIMES {
        process.kill().unwrap();
        process = Process::start(&launch).unwrap();
        let client = process.client().await.unwrap();
        let events = 2 * megabytes * ROWS;
        assert_eq!(client.number("select count(*) from blobs").await.unwrap(), events as i64);
        recoveries.extend(Recovery::all(&process.said()));
    }
    println!("recovery: {}", Recovery::summary(&recoveries));
}
