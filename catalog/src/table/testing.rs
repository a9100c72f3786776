//! Topics, events and stores for the tests of this module.

use std::path::Path as FsPath;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use schemas::envelope::{self, HEADERS};
use schemas::{Epoch, LaneId, Seq, TenantId, TenantName, TopicDef, TopicId, TopicSpec};
use serde_json::json;
use uuid::Uuid;

use super::{FlushRows, TableState, Tables};
use crate::env::Env;
use crate::error::Result;
use crate::storage::{Store, StoreConfig};

pub(crate) fn tenant() -> TenantName {
    TenantName::new("default").expect("a name")
}

/// `orders` with an id of its own, keyed by `id`, with a nullable `region` and a nullable `amount`.
pub(crate) fn orders() -> TopicDef {
    let fields = json!([
        {"name": "id", "type": "string"},
        {"name": "region", "type": ["null", "string"]},
        {"name": "amount", "type": ["null", "double"]},
    ]);
    topic("orders", fields, "id")
}

pub(crate) fn topic(name: &str, fields: serde_json::Value, key: &str) -> TopicDef {
    let spec = json!({"name": name, "schema": {"type": "record", "name": name, "fields": fields}, "key": [key]});
    let spec: TopicSpec = serde_json::from_value(spec).expect("a topic");
    let uuid = || Env::system().uuid();
    spec.resolve(TopicId(uuid()), TenantId(Uuid::from_u128(1)), LaneId(0)).expect("a topic")
}

/// Events of [`orders`] from a seq on: key and region of each, the amount being the seq.
pub(crate) fn events(def: &TopicDef, from: i64, rows: &[(&str, &str)]) -> RecordBatch {
    let schema = def.event_schema();
    let seqs = || from..from + rows.len() as i64;
    let keys = || rows.iter().map(|row| row.0);
    let column = |name: &str| -> ArrayRef {
        match name {
            envelope::SEQ => Arc::new(Int64Array::from_iter_values(seqs())),
            envelope::TIME => {
                let times = TimestampMicrosecondArray::from_iter_values(seqs().map(|seq| seq * 1_000_000));
                Arc::new(times.with_timezone(envelope::UTC))
            }
            envelope::KEY | "id" => Arc::new(StringArray::from_iter_values(keys())),
            envelope::PATH | envelope::PREFIX => {
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| format!("orders/{}", row.1))))
            }
            envelope::KIND => Arc::new(Int8Array::from_iter_values(seqs().map(|_| 0))),
            "region" => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
            "amount" => Arc::new(arrow::array::Float64Array::from_iter_values(seqs().map(|seq| seq as f64))),
            _ => new_null_array(schema.field_with_name(name).expect("a column").data_type(), rows.len()),
        }
    };
    let columns = schema.fields().iter().map(|field| column(field.name())).collect();
    debug_assert!(schema.column_with_name(HEADERS).is_some());
    RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns fit the schema")
}

pub(crate) async fn open(folder: &FsPath) -> Tables {
    let config = StoreConfig { url: folder.display().to_string(), ..StoreConfig::default() };
    let store = Store::open(&config, Env::system()).await.expect("a store");
    Tables::new(store, Env::system())
}

/// Flushes batches that begin at `from`.
pub(crate) async fn flush(
    tables: &Tables,
    def: &TopicDef,
    from: i64,
    batches: &[RecordBatch],
) -> Result<Arc<TableState>> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let from = Seq(from);
    let rows = FlushRows { from, to: from.plus(rows), batches, lane: LaneId(0), epoch: Epoch(1) };
    tables.flush(def, rows).await
}
