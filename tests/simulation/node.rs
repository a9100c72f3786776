//! A node: the real engine over the simulated store, and a thin way to ask it things.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use async_trait::async_trait;
use catalog::storage::StoreConfig;
use catalog::table::{TableState, Tables};
use catalog::topics::Topics;
use catalog::view::{Asked, LastSeqs, LastSeqsFound, Matching, ReadView};
use catalog::{Env, Store};
use ingest::engine::{AppendOptions, Condition, Detail, Ownership, Parts, ProducerIdentity, Receipt, Resume, Terms};
use ingest::{Engine, IngestError, Settings};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::check::{Check, CheckCompiler};
use schemas::{ErrorKind, SchemaError, Seq, TenantName, TopicDef, TopicName, TopicSpec};
use serde_json::json;
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::network::Simulated;
use crate::wire::{self, Ask, Batch, Expects, Row, Said, link};
use crate::world::World;
use crate::{TOPICS, server};

/// Longest the store tries a conditional write, milliseconds.
const DEADLINE_MS: u64 = 5_000;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A node's process.
#[derive(Debug)]
struct Process {
    engine: Engine,
    topics: Topics,
    tables: Tables,
    reader: Arc<Reader>,
}

/// Reads data files, which never change, once.
#[derive(Debug)]
struct Reader {
    tables: Tables,
    files: Mutex<BTreeMap<String, Arc<Vec<Row>>>>,
}

/// One life of a node: ends with a crash.
pub(crate) async fn live(world: Arc<World>, me: usize) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", wire::PORT)).await?;
    let seat: Arc<Mutex<Option<Arc<Process>>>> = Arc::default();
    tokio::spawn(lead(Arc::clone(&world), me, Arc::clone(&seat)));
    loop {
        let (stream, _) = listener.accept().await?;
        let (world, process) = (Arc::clone(&world), seat.lock().clone());
        tokio::spawn(async move {
            // Whoever asked may have gone.
            drop(serve(stream, &world, process).await);
        });
    }
}

/// Opens the engine, does what it is told, and gives up when a lane has stopped for good: then an operator would start the process again.
async fn lead(world: Arc<World>, me: usize, seat: Arc<Mutex<Option<Arc<Process>>>>) {
    let process = loop {
        match Box::pin(Process::open(&world, me)).await {
            Ok(process) => break Arc::new(process),
            Err(error) => world.note(format_args!("node-{me} cannot open: {error}")),
        }
        sleep(Duration::from_millis(100)).await;
    };
    *seat.lock() = Some(Arc::clone(&process));
    let mut known = Vec::new();
    loop {
        let lanes: Vec<_> = process.engine.lanes().into_iter().map(|status| status.ownership).collect();
        if lanes != known {
            world.note(format_args!("node-{me} is {lanes:?}"));
            known = lanes;
        }
        let is_over = |lane: &Ownership| matches!(lane, Ownership::Stopped(reason) if !reason.kind().is_retryable());
        if known.iter().any(is_over) {
            world.ended[me].store(true, Ordering::Relaxed);
            return;
        }
        if world.rivals[me].swap(false, Ordering::Relaxed) {
            let taken = process.engine.take_over(None).await;
            world.note(format_args!("node-{me} takes over: {taken:?}"));
        }
        process.make_topics(&world, me).await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn serve(mut stream: TcpStream, world: &World, process: Option<Arc<Process>>) -> Result<(), Failure> {
    let ask: Ask = wire::receive(&mut stream).await?;
    let said = match process {
        None => Said::NotOwner,
        Some(process) => process.answer(world, ask).await,
    };
    Ok(wire::send(&mut stream, &said).await?)
}

/// The store, for whoever has a clock and randomness.
pub(crate) async fn open_store(env: &Env) -> catalog::Result<Store> {
    let options = [("aws_endpoint", format!("http://{}", server::HOST)), ("aws_skip_signature", "true".into())];
    let config = StoreConfig {
        url: format!("s3://{}", server::BUCKET),
        options: options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        deadline_ms: DEADLINE_MS,
    };
    Store::open_over(&config, env.clone(), Arc::new(Simulated)).await
}

impl Process {
    async fn open(world: &Arc<World>, me: usize) -> Result<Self, Failure> {
        let env = world.env(me);
        let store = open_store(&env).await?;
        let topics = Topics::new(store.clone(), env.clone());
        let tables = Tables::new(store.clone(), env.clone());
        let reader = Arc::new(Reader { tables: tables.clone(), files: Mutex::default() });
        let advertise = Some(format!("grpc://node-{me}:{}", wire::PORT));
        let parts = Parts {
            store,
            topics: topics.clone(),
            tables: tables.clone(),
            last_seqs: Arc::clone(&reader) as _,
            checks: Arc::new(NoChecks),
            env,
            settings: Settings { advertise, ..world.plan.settings.clone() },
        };
        Ok(Self { engine: Engine::open(parts).await?, topics, tables, reader })
    }

    /// Whoever owns a topic's lane makes it, unless it is there.
    async fn make_topics(&self, world: &World, me: usize) {
        for topic in TOPICS {
            if self.def(topic).is_ok() {
                continue;
            }
            let made = match named(topic) {
                Ok((tenant, spec)) => self.engine.create_topic(&tenant, spec).await.map(drop),
                Err(error) => return world.failed(format!("the topic's definition: {error}")),
            };
            world.note(format_args!("node-{me} makes {topic}: {made:?}"));
        }
    }

    fn def(&self, topic: &str) -> Result<Arc<TopicDef>, Failure> {
        let (tenant, name) = names(topic)?;
        Ok(self.topics.get(&tenant, &name).ok_or("no such topic")?)
    }

    async fn answer(&self, world: &World, ask: Ask) -> Said {
        let refused = |error: Failure| Said::Refused(error.to_string());
        match ask {
            Ask::Append(batch) => self.append(batch).await,
            Ask::Producer { topic, name } => self.epoch(&topic, &name).await.unwrap_or_else(|error| told(&error)),
            Ask::Flush { topic } => self.flush(&topic).await.map_or_else(|error| told(&error), |()| Said::Done),
            Ask::Resume { topic } => self.resume(&topic).await.map_or_else(|error| told(&error), |()| Said::Done),
            Ask::Drop { topic } => self.drop_topic(&topic).await,
            Ask::Sweep { topic } => self.sweep(&topic).await.map_or_else(|error| told(&error), |()| Said::Done),
            Ask::TakeOver => match self.engine.take_over(None).await {
                Ok(()) => Said::Done,
                Err(error) => Said::Refused(error.to_string()),
            },
            Ask::Look { topic, is_fresh } => match self.read(world, &topic, is_fresh).await {
                Ok((of, rows)) => Said::Cut { of, end: rows.len() as i64 + 1, hash: rows.iter().fold(0, link) },
                Err(error) => refused(error),
            },
            Ask::Dump { topic } => {
                self.read(world, &topic, true).await.map_or_else(refused, |(of, rows)| Said::Rows { of, rows })
            }
        }
    }

    async fn flush(&self, topic: &str) -> Result<(), IngestError> {
        let (tenant, name) = names(topic)?;
        self.engine.flush(&tenant, Some(&name)).await
    }

    async fn resume(&self, topic: &str) -> Result<(), IngestError> {
        let (tenant, name) = names(topic)?;
        self.engine.resume_topic(&tenant, &name).await.map(drop)
    }

    async fn sweep(&self, topic: &str) -> Result<(), IngestError> {
        let (tenant, name) = names(topic)?;
        self.engine.sweep_topic(&tenant, &name).await.map(drop)
    }

    async fn drop_topic(&self, topic: &str) -> Said {
        let (Ok(def), Ok((tenant, name))) = (self.def(topic), names(topic)) else {
            return Said::Refused("no such topic".into());
        };
        match self.engine.drop_topic(&tenant, &name).await {
            Ok(()) => Said::Dropped { of: def.id.to_string() },
            Err(error) => told(&error),
        }
    }

    async fn epoch(&self, topic: &str, name: &str) -> Result<Said, IngestError> {
        let (tenant, of) = names(topic)?;
        let issued = self.engine.producer_epoch(&tenant, &of, name, Resume::No).await?;
        Ok(Said::Epoch { epoch: issued.producer_epoch, next: issued.next_producer_seq })
    }

    async fn append(&self, batch: Batch) -> Said {
        // The appender looks its topic up before it awaits anything, so it is this one.
        let Ok(def) = self.def(&batch.topic) else { return Said::Refused("no such topic".into()) };
        let of = def.id.to_string();
        match self.submit(batch).await {
            Ok(Receipt { first_seq: Some(Seq(first)), last_seq: Some(Seq(last)), duplicate, .. }) => {
                Said::Appended { of, first, last, duplicate }
            }
            Ok(Receipt { refused, .. }) => Said::Refused(format!("{refused:?}")),
            Err(error) => match error.detail() {
                Some(Detail::ConditionFailed { last_seq, .. }) => Said::ConditionFailed { of, last: last_seq.0 },
                _ => told(&error),
            },
        }
    }

    async fn submit(&self, batch: Batch) -> Result<Receipt, IngestError> {
        let Batch { topic, rows, expects, producer } = batch;
        let producer_seq = producer.as_ref().map(|(_, _, seq)| *seq);
        let identity = producer.map(|(name, epoch, _)| ProducerIdentity { name, epoch });
        let conditions = expects.into_iter().map(|Expects { key, last }| Condition {
            of: key.map_or(Matching::Topic, Matching::Key),
            expected_last_seq: Seq(last),
        });
        let terms = Terms { producer_seq, conditions: conditions.collect(), fence: None };
        let options = AppendOptions { identity, ..AppendOptions::default() };
        let (tenant, name) = names(&topic)?;
        let mut appender = self.engine.appender(&tenant, &name, options).await?;
        appender.submit(record_batch(&rows), terms).await?.await
    }

    /// All events of a topic that this node sees; if it is to be fresh, everything among them that was acknowledged before the call. A standby reads too.
    async fn read(&self, world: &World, topic: &str, is_fresh: bool) -> Result<(String, Vec<Row>), Failure> {
        if is_fresh {
            self.engine.catch_up().await?;
        }
        let def = self.def(topic)?;
        let of = def.id.to_string();
        let view = match ReadView::open(&*self.engine.tail(), &self.tables, def).await {
            Ok(view) => view,
            Err(error) => {
                if error.kind() == ErrorKind::Internal {
                    world.violated(format!("I12: {error}"));
                }
                return Err(error.into());
            }
        };
        let mut rows = self.reader.rows(view.table()).await?;
        let in_table = view.watermark().0.0 - 1;
        if rows.iter().map(|row| row.seq).ne(1..=in_table) {
            world.violated(format!("I8: {topic}: the table should hold 1..={in_table}, found {} rows", rows.len()));
        }
        for batch in view.tail() {
            rows.extend(rows_of(batch)?);
        }
        let end = view.end().0;
        if rows.iter().map(|row| row.seq).ne(1..end) {
            let tail = rows.len() as i64 - in_table;
            world
                .violated(format!("I3: {topic}: a view up to {end} has {in_table} rows in the table and {tail} after"));
        }
        Ok((of, rows))
    }
}

/// An error as a client is told of it.
fn told(error: &IngestError) -> Said {
    match error.detail() {
        Some(Detail::NotOwner { .. }) => return Said::NotOwner,
        Some(detail) => return Said::ProducerRefused(format!("{detail:?}")),
        None => {}
    }
    match error.kind() {
        ErrorKind::Indeterminate => Said::Unclear(error.to_string()),
        ErrorKind::Fenced => Said::NotOwner,
        _ => Said::Refused(error.to_string()),
    }
}

impl Reader {
    /// What is in a table's state, by seq.
    async fn rows(&self, state: &TableState) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for file in state.files().await?.files() {
            rows.extend(self.file(&file.path).await?.iter().cloned());
        }
        rows.sort_by_key(|row| row.seq);
        Ok(rows)
    }

    async fn file(&self, path: &Path) -> Result<Arc<Vec<Row>>, Failure> {
        let known = self.files.lock().get(path.as_ref()).cloned();
        if let Some(rows) = known {
            return Ok(rows);
        }
        let bytes = self.tables.store().objects().get(path).await?.bytes().await?;
        let mut rows = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
            rows.extend(rows_of(&batch?)?);
        }
        let rows = Arc::new(rows);
        self.files.lock().insert(path.to_string(), Arc::clone(&rows));
        Ok(rows)
    }
}

/// By looking at every row: what conditions ask for is little here.
#[async_trait]
impl LastSeqs for Reader {
    async fn last_seqs(&self, topic: &TopicDef, asked: &[Asked]) -> catalog::Result<LastSeqsFound> {
        let table = self.tables.current(topic).await?;
        let rows = self.rows(&table).await.map_err(|error| {
            catalog::CatalogError::new(ErrorKind::Unavailable, format!("a data file of {}: {error}", topic.name))
        })?;
        let last = |Asked { of, above }: &Asked| {
            let matches = |row: &&Row| match of {
                Matching::Key(key) => row.key == *key,
                Matching::Pattern(_) | Matching::Topic => true,
            };
            rows.iter().rev().find(matches).map(|row| Seq(row.seq)).filter(|last| last > above)
        };
        Ok(LastSeqsFound { last: asked.iter().map(last).collect(), watermark: table.watermark() })
    }
}

/// `tenant/topic`, or a topic of the usual tenant.
pub(crate) fn names(topic: &str) -> Result<(TenantName, TopicName), SchemaError> {
    match topic.split_once('/') {
        Some((tenant, topic)) => Ok((TenantName::new(tenant)?, TopicName::new(topic)?)),
        None => Ok((TenantName::default(), TopicName::new(topic)?)),
    }
}

fn named(topic: &str) -> Result<(TenantName, TopicSpec), Failure> {
    let (tenant, name) = names(topic)?;
    Ok((tenant, spec(&name)?))
}

/// Key `k`, and an `id` that no other event has.
fn spec(topic: &TopicName) -> Result<TopicSpec, Failure> {
    Ok(serde_json::from_value(json!({
        "name": topic,
        "schema": {"type": "record", "name": "Event", "fields": [
            {"name": "k", "type": "string"},
            {"name": "id", "type": "string"},
        ]},
        "key": ["k"],
    }))?)
}

fn record_batch(rows: &[(String, String)]) -> RecordBatch {
    let text =
        |column: fn(&(String, String)) -> &String| Arc::new(StringArray::from_iter_values(rows.iter().map(column)));
    let fields = ["k", "id"].map(|name| Field::new(name, arrow::datatypes::DataType::Utf8, false));
    let columns = vec![text(|row| &row.0) as _, text(|row| &row.1) as _];
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).expect("two columns of one length")
}

fn rows_of(batch: &RecordBatch) -> Result<Vec<Row>, Failure> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column {name}"));
    let keys = arrow::compute::cast(column("_key")?, &arrow::datatypes::DataType::Utf8)?;
    let ids = arrow::compute::cast(column("id")?, &arrow::datatypes::DataType::Utf8)?;
    let (keys, ids) = (keys.as_string::<i32>(), ids.as_string::<i32>());
    let seqs = column("_seq")?.as_primitive::<Int64Type>();
    let times = column("_time")?.as_primitive::<TimestampMicrosecondType>();
    let row = |at: usize| Row {
        seq: seqs.value(at),
        time: times.value(at),
        key: keys.value(at).to_owned(),
        id: ids.value(at).to_owned(),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

/// The topics here have no checks.
#[derive(Debug)]
struct NoChecks;

impl CheckCompiler for NoChecks {
    fn compile(&self, _: &str, _: &SchemaRef) -> Result<Arc<dyn Check>, SchemaError> {
        Err(SchemaError::Option { option: "check", reason: "there are none here".into() })
    }
}
