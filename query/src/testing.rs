//! A small world for this crate's tests: a real store in a temporary folder, real tables, and a tail that is filled by hand.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use catalog::storage::StoreConfig;
use catalog::table::{Compaction, FlushRows, Tables};
use catalog::topics::Topics;
use catalog::view::{Tail, TailChunk, TailSnapshot};
use catalog::{Env, Store};
use futures::TryStreamExt;
use parking_lot::Mutex;
use schemas::conform::{absent, conform_batch};
use schemas::envelope::{self, column};
use schemas::evolve::Rename;
use schemas::{Epoch, LaneId, Seq, TenantId, TenantName, TopicDef, TopicId, TopicName, TopicSpec};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::engine::{BatchStream, Parts, QueryEngine};
use crate::error::Result;
use crate::lastseq::TableLastSeqs;
use crate::settings::Settings;

/// A store with topics, and an engine over it.
#[derive(Debug)]
pub(crate) struct World {
    _folder: TempDir,
    pub(crate) topics: Topics,
    pub(crate) tables: Tables,
    pub(crate) tail: Arc<TestTail>,
    pub(crate) last_seqs: TableLastSeqs,
    pub(crate) engine: QueryEngine,
    pub(crate) tenant: TenantName,
    env: Env,
}

/// One event's payload: topics made by [`World::topic`] have the key `id` and the path `{topic}/{region}/{status}`, prefixed by its first two levels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) status: String,
    pub(crate) amount: i64,
}

impl Row {
    pub(crate) fn new(id: &str, region: &str, status: &str, amount: i64) -> Self {
        Self { id: id.into(), region: region.into(), status: status.into(), amount }
    }
}

impl World {
    pub(crate) async fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::system();
        let config = StoreConfig { url: folder.path().to_str().unwrap().into(), ..StoreConfig::default() };
        let store = Store::open(&config, env.clone()).await.unwrap();
        let topics = Topics::new(store.clone(), env.clone());
        let tables = Tables::new(store, env.clone());
        let tail = Arc::new(TestTail::default());
        let last_seqs = TableLastSeqs::new(&tables, &settings);
        let parts = Parts {
            topics: topics.clone(),
            tables: tables.clone(),
            tail: Arc::<TestTail>::clone(&tail),
            last_seqs: last_seqs.clone(),
            settings,
        };
        let engine = QueryEngine::new(parts).unwrap();
        Self { _folder: folder, topics, tables, tail, last_seqs, engine, tenant: TenantName::default(), env }
    }

    /// Makes a topic with these fields, whose key is `id` and whose path is its name.
    pub(crate) async fn topic_with(&self, name: &str, fields: serde_json::Value) -> Arc<TopicDef> {
        let schema = serde_json::json!({"type": "record", "name": "Order", "fields": fields});
        let spec = serde_json::json!({"name": name, "schema": schema, "key": ["id"]});
        self.make(serde_json::from_value(spec).unwrap()).await
    }

    /// Makes a topic.
    pub(crate) async fn topic(&self, name: &str) -> Arc<TopicDef> {
        let schema = serde_json::json!({
            "type": "record", "name": "Order", "fields": [
                {"name": "id", "type": "string"},
                {"name": "region", "type": "string"},
                {"name": "status", "type": "string"},
                {"name": "amount", "type": "long"},
                {"name": "note", "type": ["null", "string"]},
                {"name": "tags", "type": {"type": "array", "items": "string"}},
            ]
        });
        let spec: TopicSpec = serde_json::from_value(serde_json::json!({
            "name": name, "schema": schema, "key": ["id"], "path": format!("{name}/{{region}}/{{status}}"),
        }))
        .unwrap();
        self.make(spec).await
    }

    async fn make(&self, spec: TopicSpec) -> Arc<TopicDef> {
        let def = spec.resolve(TopicId(self.env.uuid()), TenantId(self.env.uuid()), LaneId(0)).unwrap();
        let def = Arc::new(def);
        self.tables.ensure(&self.tenant, &def).await.unwrap();
        self.tail.add(Arc::clone(&def));
        self.topics.publish(&self.tenant, Arc::clone(&def));
        def
    }

    /// Gives a topic the schema with these fields, decided at once.
    pub(crate) fn alter(&self, def: &TopicDef, fields: serde_json::Value, renames: &[(&str, &str)]) -> Arc<TopicDef> {
        let schema = serde_json::json!({"type": "record", "name": "Order", "fields": fields});
        let rename = |(from, to): &(&str, &str)| Rename { from: (*from).into(), to: (*to).into() };
        let renames: Vec<_> = renames.iter().map(rename).collect();
        let (next, _) = def.altered(schema, &renames).unwrap().expect("something changes");
        let next = Arc::new(next);
        self.become_version(&next);
        next
    }

    /// A topic has this version of its schema, decided at once.
    pub(crate) fn become_version(&self, def: &Arc<TopicDef>) {
        self.tail.evolve(def);
        self.topics.publish(&self.tenant, Arc::clone(def));
    }

    /// Appends events as one batch, decided at once.
    pub(crate) fn append_events(&self, def: &TopicDef, events: RecordBatch) {
        self.tail.push(def.id, events);
    }

    /// Appends rows as one batch, decided at once.
    pub(crate) fn append(&self, def: &TopicDef, rows: &[Row]) {
        let first = self.tail.snapshot(&def.id).unwrap().end;
        self.tail.push(def.id, events(def, first, rows));
    }

    /// Moves the oldest `chunks` chunks of the tail to the table, and drops them from the tail.
    pub(crate) async fn flush(&self, def: &TopicDef, chunks: usize) {
        let held = self.tail.snapshot(&def.id).unwrap();
        let batches: Vec<_> = held.chunks.iter().take(chunks).map(|chunk| chunk.batch().clone()).collect();
        let Some(last) = held.chunks.iter().take(chunks).next_back() else { return };
        let (from, to) = (held.start, last.end_seq());
        let rows = FlushRows { from, to, batches: &batches, lane: LaneId(0), epoch: Epoch(1) };
        self.tables.flush(def, rows).await.unwrap();
        self.tail.trim(def.id, to);
    }

    /// Compacts the topic's table until nothing more can be merged.
    pub(crate) async fn compact(&self, def: &Arc<TopicDef>, settings: &Compaction) {
        while self.tables.compact(def, settings, true).await.unwrap().is_some() {}
    }

    /// The name of a topic.
    pub(crate) fn name(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }
}

/// A batch of events as `ingest` would make it: `_time` is `_seq / 3` milliseconds, so that neighbours share one.
pub(crate) fn events(def: &TopicDef, first: Seq, rows: &[Row]) -> RecordBatch {
    let schema = def.event_schema();
    let text = |value: &dyn Fn(&Row) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(value(row))).collect::<StringArray>())
    };
    let seqs: Vec<i64> = (first.0..).take(rows.len()).collect();
    let times = TimestampMicrosecondArray::from_iter_values(seqs.iter().map(|seq| seq / 3 * 1_000));
    let headers = new_null_array(schema.field(column::HEADERS).data_type(), rows.len());
    let DataType::List(element) = schema.field_with_name("tags").unwrap().data_type() else { unreachable!() };
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(element));
    for row in rows {
        (0..row.amount.rem_euclid(3)).for_each(|tag| tags.values().append_value(format!("{}{tag}", row.region)));
        tags.append(true);
    }
    let notes = rows.iter().map(|row| (row.amount % 2 == 0).then(|| format!("note {}", row.amount)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(seqs)),
        Arc::new(times.with_timezone(envelope::UTC)),
        text(&|row| row.id.clone()),
        text(&|row| format!("{}/{}/{}", def.name, row.region, row.status)),
        text(&|row| format!("{}/{}", def.name, row.region)),
        Arc::new(Int8Array::from(vec![envelope::KIND_EVENT; rows.len()])),
        headers,
        text(&|row| row.id.clone()),
        text(&|row| row.region.clone()),
        text(&|row| row.status.clone()),
        Arc::new(rows.iter().map(|row| Some(row.amount)).collect::<Int64Array>()),
        Arc::new(notes.collect::<StringArray>()),
        Arc::new(tags.finish()),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Events with this payload: keys are those of its column `id`.
pub(crate) fn sealed(def: &TopicDef, first: Seq, payload: Vec<ArrayRef>) -> RecordBatch {
    let schema = def.event_schema();
    let rows = payload[0].len();
    let seqs: Vec<i64> = (first.0..).take(rows).collect();
    let times = TimestampMicrosecondArray::from_iter_values(seqs.iter().map(|seq| seq / 3 * 1_000));
    let name: ArrayRef = Arc::new(StringArray::from(vec![def.name.as_str(); rows]));
    let id = def.payload.field("id").expect("the key").0;
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(seqs)),
        Arc::new(times.with_timezone(envelope::UTC)),
        Arc::clone(&payload[id]),
        Arc::clone(&name),
        name,
        Arc::new(Int8Array::from(vec![envelope::KIND_EVENT; rows])),
        new_null_array(schema.field(column::HEADERS).data_type(), rows),
    ];
    columns.extend(payload);
    RecordBatch::try_new(schema, columns).unwrap()
}

/// All of a stream as one batch.
pub(crate) async fn collect(stream: BatchStream) -> Result<RecordBatch> {
    let schema = Arc::clone(&stream.schema);
    let batches: Vec<RecordBatch> = stream.batches.try_collect().await?;
    assert!(batches.iter().all(|batch| batch.schema() == schema), "every batch has the schema of its stream");
    Ok(concat_batches(&schema, &batches).unwrap())
}

/// The `_seq` column.
pub(crate) fn seqs(batch: &RecordBatch) -> Vec<i64> {
    batch.column_by_name(envelope::SEQ).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

/// A tail that tests fill and trim.
#[derive(Debug, Default)]
pub(crate) struct TestTail {
    topics: Mutex<HashMap<TopicId, (TailSnapshot, watch::Sender<Seq>)>>,
}

impl TestTail {
    fn add(&self, def: Arc<TopicDef>) {
        let topic = def.id;
        let empty = TailSnapshot { def, start: Seq::FIRST, end: Seq::FIRST, chunks: Vec::new() };
        self.topics.lock().insert(topic, (empty, watch::Sender::new(Seq::FIRST)));
    }

    /// As the write path does when a topic's schema is changed.
    fn evolve(&self, def: &Arc<TopicDef>) {
        let mut topics = self.topics.lock();
        let (held, _) = topics.get_mut(&def.id).unwrap();
        let event = def.event_schema();
        let conformed = |chunk: &Arc<TailChunk>| conform_batch(chunk.batch(), &event, &absent).unwrap();
        held.chunks = held.chunks.iter().map(|chunk| Arc::new(TailChunk::new(conformed(chunk)))).collect();
        held.def = Arc::clone(def);
    }

    fn push(&self, topic: TopicId, events: RecordBatch) {
        let mut topics = self.topics.lock();
        let (held, next) = topics.get_mut(&topic).unwrap();
        held.end = held.end.plus(events.num_rows());
        held.chunks.push(Arc::new(TailChunk::new(events)));
        next.send_replace(held.end);
    }

    fn trim(&self, topic: TopicId, below: Seq) {
        let mut topics = self.topics.lock();
        let (held, _) = topics.get_mut(&topic).unwrap();
        held.chunks.retain(|chunk| chunk.end_seq() > below);
        held.start = below;
    }

    /// How many wait for the topic to grow.
    pub(crate) fn watchers(&self, topic: TopicId) -> usize {
        self.topics.lock().get(&topic).map_or(0, |(_, next)| next.receiver_count())
    }

    /// As when the topic is dropped.
    pub(crate) fn remove(&self, topic: TopicId) {
        self.topics.lock().remove(&topic);
    }
}

impl Tail for TestTail {
    fn snapshot(&self, topic: &TopicId) -> Option<TailSnapshot> {
        self.topics.lock().get(topic).map(|(held, _)| held.clone())
    }

    fn watch(&self, topic: &TopicId) -> Option<watch::Receiver<Seq>> {
        self.topics.lock().get(topic).map(|(_, next)| next.subscribe())
    }
}
