//! `DoAction`: control. Bodies and results are JSON.
//!
//! | action | body | results |
//! | --- | --- | --- |
//! | `create-topic` | [`TopicSpec`]: `{"name","schema","key",…}` | one [`TopicSummary`] |
//! | `alter-topic` | [`AlterTopic`]: `{"topic":"orders","schema":{…},"renames":[{"from":"a","to":"b"}],"expected_version":1}` | one [`AlteredTopic`] |
//! | `describe-topic` | `{"topic":"orders"}` | one [`TopicDescription`] |
//! | `list-topics` | empty or `{}` | one [`TopicSummary`] a topic |
//! | `drop-topic` | `{"topic":"orders"}` | one, `{"dropped":"orders"}` |
//! | `resume-topic` | `{"topic":"orders"}` | one, `{"resumed":"orders","had_stopped":true}` |
//! | `sweep-topic` | `{"topic":"orders"}` | one, `{"swept":"orders","generation":3,"removed_files":2,"removed_bytes":4096}` |
//! | `tag-topic` | `{"topic":"orders","tag":"audit"}` | one, `{"tagged":"orders","tag":"audit","snapshot_id":123}` |
//! | `topic-files` | `{"topic":"orders"}` | one [`TableReport`](catalog::table::TableReport) |
//! | `compact-topic` | `{"topic":"orders","whole":true}` | one, `{"compacted":"orders","jobs":1,"rows":80,"files_in":4,…}` |
//! | `retain-topic` | `{"topic":"orders","age_ms":86400000,"bytes":null,"events":null}` | one, `{"retained":"orders"}` |
//! | `producer` | [`BeginProducer`]: `{"topic":"orders","producer":"loader","resume":true}` | one, `{"producer_epoch":3,"next_producer_seq":18}` |
//! | `fence` | [`SetFence`]: `{"topic":"orders","key_prefix":"o-","token":5}` | one, `{"token":5}`; null if it was never set |
//! | `flush` | empty, `{}` or `{"topic":"orders"}` | one, `{"flushed":"orders"}`, null for all |
//! | `take-over` | empty, `{}` or `{"lane":0}` | one, `{"taken_over":0}`, null for all |
//! | `health` | empty or `{}` | one, `{"status":"serving","version","role","lanes":[{"lane","role","epoch","owner","lag_ms"}],"nodes":["grpc://…"]}` |

mod producers;

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow_flight::{Action, ActionType};
use bytes::Bytes;
use catalog::table::{Compacted, Retention, Swept, TableState};
use ingest::engine::{Alter, Altered, TopicStatus};
use schemas::evolve::Rename;
use schemas::{LaneId, Seq, ShardSeqs, TenantName, TopicDef, TopicId, TopicName, TopicSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::producers::{BeginProducer, SetFence};
use crate::error::{Result, WireError};
use crate::read::slice_bytes;
use crate::shared::Shared;
use crate::ticket::parse_json;

/// Names and purposes of Firn's own actions.
const ACTIONS: [(&str, &str); 16] = [
    ("create-topic", "Makes a topic. Body: {\"name\",\"schema\",\"key\",\"path\"?,\"checks\"?,…}. Result: the topic."),
    (
        "alter-topic",
        "Gives a topic another schema. Body: {\"topic\",\"schema\",\"renames\"?,\"expected_version\"?}. Result: its version and what is different.",
    ),
    ("describe-topic", "Definition, positions, tail and table of a topic. Body: {\"topic\"}."),
    ("list-topics", "The tenant's topics, one result each. Body: empty."),
    ("drop-topic", "Drops a topic. Body: {\"topic\"}."),
    ("resume-topic", "Takes a topic up again that has stopped. Body: {\"topic\"}."),
    ("sweep-topic", "Removes files of a topic's table that nothing names any more. Body: {\"topic\"}."),
    ("tag-topic", "Gives the current snapshot of a topic's table a name. Body: {\"topic\",\"tag\"}."),
    ("topic-files", "The files of a topic's table by seq range, and what would be compacted next. Body: {\"topic\"}."),
    ("compact-topic", "Compacts a topic's table now: what is due, or all. Body: {\"topic\",\"whole\"?}."),
    (
        "retain-topic",
        "Sets how much of a topic is kept: what is older, or beyond so many bytes or events, goes. Body: {\"topic\",\"age_ms\"?,\"bytes\"?,\"events\"?}; none: all is kept.",
    ),
    (
        "producer",
        "Issues a producer an epoch, so that what it sends twice is appended once. Body: {\"topic\",\"producer\",\"resume\"?}.",
    ),
    (
        "fence",
        "Reads the token of a topic's fence, or of a key prefix's; sets it to a higher one. Body: {\"topic\",\"key_prefix\"?,\"token\"?}.",
    ),
    ("flush", "Moves what is acknowledged into the table and waits for it. Body: {\"topic\"?}."),
    ("take-over", "Makes this server the owner of a lane, or of all, whoever has it. Body: {\"lane\"?}."),
    ("health", "What this server is to each lane, and how far behind. Body: empty."),
];

/// The body of `alter-topic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlterTopic {
    /// Its name.
    pub topic: TopicName,
    /// The whole new Avro record schema.
    pub schema: serde_json::Value,
    /// Fields that have another name there, where their `aliases` do not say so; dotted paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renames: Vec<Rename>,
    /// The version that the schema was made for; refused if the topic has another by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<u32>,
}

/// The result of `alter-topic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlteredTopic {
    /// Its name.
    pub topic: TopicName,
    /// The version that it has now.
    pub version: u32,
    /// What is different, a sentence each; nothing if it had this schema already.
    pub changes: Vec<String>,
}

/// A topic in a few words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// Its name.
    pub topic: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// Version of its schema.
    pub version: u32,
    /// The payload fields that make the key.
    pub key: Vec<String>,
    /// Its path template.
    pub path: String,
    /// The seq that the next event gets: one more than there are events.
    pub next_seq: ShardSeqs,
    /// Whether it takes appends, and why not.
    pub status: TopicStatus,
}

/// All that is known of a topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicDescription {
    /// Its definition.
    pub topic: TopicDef,
    /// Its columns as readers see them: envelope, then payload.
    pub columns: Vec<ColumnDescription>,
    /// The seq that the next event gets.
    pub next_seq: ShardSeqs,
    /// First seq that is not in the table.
    pub watermark: ShardSeqs,
    /// Whether it takes appends, and why not.
    pub status: TopicStatus,
    /// What is acknowledged and held in memory.
    pub tail: TailDescription,
    /// What other engines can open; null if this server cannot open it, as the status says.
    pub table: Option<TableDescription>,
}

/// A column as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as text: `Utf8`, `List<Int32>`, `Map<Utf8, Utf8>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// True if null is allowed.
    pub nullable: bool,
}

/// The part of a topic that is in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailDescription {
    /// Events, those that a flush has moved but not yet let go included.
    pub rows: u64,
    /// Arrow bytes.
    pub bytes: u64,
}

/// The part of a topic that is in its table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDescription {
    /// Full URI of the current Iceberg metadata file.
    pub metadata_uri: String,
    /// The current snapshot; null before the first flush.
    pub snapshot_id: Option<i64>,
    /// Data files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// First seq that retention has left: events below are gone.
    #[serde(default)]
    pub retained: ShardSeqs,
    /// How much is kept.
    #[serde(default)]
    pub retention: Retention,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneTopic {
    topic: TopicName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagTopic {
    topic: TopicName,
    tag: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompactTopic {
    topic: TopicName,
    #[serde(default)]
    whole: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetainTopic {
    topic: TopicName,
    #[serde(default)]
    age_ms: Option<u64>,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    events: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyTopic {
    #[serde(default)]
    topic: Option<TopicName>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyLane {
    #[serde(default)]
    lane: Option<LaneId>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What `ListActions` says of them.
pub(crate) fn list() -> Vec<ActionType> {
    let action =
        |(name, description): (&str, &str)| ActionType { r#type: name.into(), description: description.into() };
    ACTIONS.into_iter().map(action).collect()
}

/// True for Firn's own actions.
pub(crate) fn is_ours(action: &str) -> bool {
    ACTIONS.iter().any(|(name, _)| *name == action)
}

/// Does one of Firn's own actions; the bodies of its results.
///
/// Errors: `Invalid` for a body that is not the action's; those of the engine.
pub(crate) async fn run(shared: &Arc<Shared>, tenant: &TenantName, action: &Action) -> Result<Vec<Bytes>> {
    let (name, body) = (action.r#type.as_str(), action.body.as_ref());
    match name {
        "create-topic" => {
            let spec: TopicSpec = parse_json("create-topic", body)?;
            let topic = shared.engine.create_topic(tenant, spec).await?;
            one(&summary(shared, &topic))
        }
        "alter-topic" => {
            let AlterTopic { topic, schema, renames, expected_version } = parse_json("alter-topic", body)?;
            shared.topic(tenant, &topic)?;
            let alter = Alter { schema, renames, expected_version };
            let Altered { def, changes } = shared.engine.alter_topic(tenant, &topic, alter).await?;
            one(&AlteredTopic { topic, version: def.version, changes })
        }
        "describe-topic" => {
            let OneTopic { topic } = parse_json("describe-topic", body)?;
            one(&describe(shared, tenant, &topic).await?)
        }
        "list-topics" => {
            let Nothing {} = or_empty(name, body)?;
            shared.topics.list(tenant).iter().map(|topic| to_json(&summary(shared, topic))).collect()
        }
        "drop-topic" => {
            let OneTopic { topic } = parse_json("drop-topic", body)?;
            shared.topic(tenant, &topic)?;
            shared.engine.drop_topic(tenant, &topic).await?;
            one(&json!({ "dropped": topic }))
        }
        "resume-topic" => {
            let OneTopic { topic } = parse_json("resume-topic", body)?;
            shared.topic(tenant, &topic)?;
            let had_stopped = shared.engine.resume_topic(tenant, &topic).await?;
            one(&json!({ "resumed": topic, "had_stopped": had_stopped }))
        }
        "sweep-topic" => {
            let OneTopic { topic } = parse_json("sweep-topic", body)?;
            shared.topic(tenant, &topic)?;
            let Swept { generation, removed_files, removed_bytes } = shared.engine.sweep_topic(tenant, &topic).await?;
            one(&json!({
                "swept": topic, "generation": generation, "removed_files": removed_files, "removed_bytes": removed_bytes,
            }))
        }
        "tag-topic" => {
            let TagTopic { topic, tag } = parse_json("tag-topic", body)?;
            let def = shared.topic(tenant, &topic)?;
            let snapshot_id = shared.tables.tag(&def, &tag).await?;
            one(&json!({ "tagged": topic, "tag": tag, "snapshot_id": snapshot_id }))
        }
        "topic-files" => {
            let OneTopic { topic } = parse_json("topic-files", body)?;
            shared.topic(tenant, &topic)?;
            one(&shared.engine.topic_files(tenant, &topic).await?)
        }
        "compact-topic" => {
            let CompactTopic { topic, whole } = parse_json("compact-topic", body)?;
            shared.topic(tenant, &topic)?;
            let Compacted { jobs, rows, files_in, bytes_in, files_out, bytes_out } =
                shared.engine.compact_topic(tenant, &topic, whole).await?;
            one(&json!({
                "compacted": topic, "jobs": jobs, "rows": rows, "files_in": files_in, "bytes_in": bytes_in,
                "files_out": files_out, "bytes_out": bytes_out,
            }))
        }
        "retain-topic" => {
            let RetainTopic { topic, age_ms, bytes, events } = parse_json("retain-topic", body)?;
            shared.topic(tenant, &topic)?;
            shared.engine.retain_topic(tenant, &topic, Retention { age_ms, bytes, events }).await?;
            one(&json!({ "retained": topic }))
        }
        "producer" => producers::begin(shared, tenant, body).await,
        "fence" => producers::fence(shared, tenant, body).await,
        "flush" => {
            let AnyTopic { topic } = or_empty(name, body)?;
            if let Some(topic) = &topic {
                shared.topic(tenant, topic)?;
            }
            shared.engine.flush(tenant, topic.as_ref()).await?;
            one(&json!({ "flushed": topic }))
        }
        "take-over" => {
            let AnyLane { lane } = or_empty(name, body)?;
            shared.engine.take_over(lane).await?;
            one(&json!({ "taken_over": lane }))
        }
        "health" => {
            let Nothing {} = or_empty(name, body)?;
            let report = shared.phase.borrow().report();
            one(&report)
        }
        _ => Err(WireError::invalid(format!("no action {name:?}; ListActions names those that there are"))),
    }
}

fn summary(shared: &Shared, topic: &TopicDef) -> TopicSummary {
    let end = shared.engine.tail().snapshot(&topic.id).map_or(Seq::FIRST, |tail| tail.end);
    TopicSummary {
        topic: topic.name.clone(),
        id: topic.id,
        version: topic.version,
        key: topic.key.clone(),
        path: topic.path.clone().into(),
        next_seq: ShardSeqs::single(end),
        status: shared.engine.topic_status(topic),
    }
}

async fn describe(shared: &Shared, tenant: &TenantName, name: &TopicName) -> Result<TopicDescription> {
    let topic = shared.topic(tenant, name)?;
    // The tail first, then the table (P6): in the other order a flush between the two would leave a gap.
    let tail = shared.engine.tail().snapshot(&topic.id);
    let status = shared.engine.topic_status(&topic);
    let (table, watermark) = match shared.tables.current(&topic).await {
        Ok(table) => (Some(describe_table(&table).await?), table.watermark().0),
        // What is known of it is said all the same.
        Err(_) if status.unreadable.is_some() => (None, tail.as_ref().map_or(Seq::FIRST, |tail| tail.start)),
        Err(error) => return Err(error.into()),
    };
    let batches = || tail.iter().flat_map(|tail| &tail.chunks).map(|chunk| chunk.batch());
    let schema = topic.event_schema();
    let columns = schema.fields().iter().map(|field| ColumnDescription {
        name: field.name().clone(),
        kind: type_name(field.data_type()),
        nullable: field.is_nullable(),
    });
    Ok(TopicDescription {
        columns: columns.collect(),
        next_seq: ShardSeqs::single(tail.as_ref().map_or(watermark, |tail| tail.end.max(watermark))),
        watermark: ShardSeqs::single(watermark),
        status,
        tail: TailDescription {
            rows: batches().map(|batch| batch.num_rows() as u64).sum(),
            bytes: batches().map(|batch| slice_bytes(batch) as u64).sum(),
        },
        table,
        topic: topic.as_ref().clone(),
    })
}

async fn describe_table(table: &TableState) -> Result<TableDescription> {
    let files = table.files().await?;
    Ok(TableDescription {
        metadata_uri: table.metadata_uri().to_owned(),
        snapshot_id: table.snapshot_id(),
        files: files.files().len() as u64,
        rows: files.files().iter().map(|file| file.rows).sum(),
        bytes: files.files().iter().map(|file| file.size).sum(),
        retained: ShardSeqs::single(table.retained()),
        retention: table.retention()?,
    })
}

/// A type without the names and field ids of what is nested in it.
fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::List(element) => format!("List<{}>", type_name(element.data_type())),
        DataType::Struct(members) => {
            let members = members.iter().map(|member| format!("{}: {}", member.name(), type_name(member.data_type())));
            format!("Struct<{}>", members.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                format!("Map<{}, {}>", type_name(pair[0].data_type()), type_name(pair[1].data_type()))
            }
            other => format!("Map<{}>", type_name(other)),
        },
        other => other.to_string(),
    }
}

fn or_empty<'a, T: Default + Deserialize<'a>>(what: &str, body: &'a [u8]) -> Result<T> {
    if body.is_empty() { Ok(T::default()) } else { parse_json(what, body) }
}

fn one(result: &impl Serialize) -> Result<Vec<Bytes>> {
    Ok(vec![to_json(result)?])
}

fn to_json(result: &impl Serialize) -> Result<Bytes> {
    let json = serde_json::to_vec(result);
    json.map(Bytes::from).map_err(|error| WireError::new(schemas::ErrorKind::Internal, format!("result: {error}")))
}
