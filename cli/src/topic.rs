//! `firn topic`, `firn flush`, `firn health`.

mod files;

use std::path::Path;

use catalog::table::Retention;
use flight::actions::{AlterTopic, AlteredTopic, TopicDescription, TopicSummary};
use ingest::engine::Standing;
use schemas::evolve::Rename;
use schemas::topic::{FlushSpec, Nanos};
use schemas::{ShardSeqs, TopicName, TopicSpec};
use serde_json::{Value, json};

use crate::args::{Topic, TopicAlter, TopicCreate};
use crate::client::Client;
use crate::exit::Failure;
use crate::render::{bytes, count, json_line, table};

/// Runs one of them.
pub(crate) async fn run(client: Client, command: Topic, as_json: bool) -> Result<(), Failure> {
    match command {
        Topic::Create(create) => {
            let summary: TopicSummary = client.action_one("create-topic", &spec(*create)?).await?;
            match as_json {
                true => json_line(&summary),
                false => {
                    println!("topic {} is there: key {}, path {}", summary.topic, summary.key.join(":"), summary.path);
                    Ok(())
                }
            }
        }
        Topic::Alter(args) => alter(client, args, as_json).await,
        Topic::List => list(&client.topics().await?, as_json),
        Topic::Describe { name } => {
            let description = client.describe(&name).await?;
            match as_json {
                true => json_line(&description),
                false => {
                    describe(&description);
                    Ok(())
                }
            }
        }
        Topic::Drop { name } => {
            let dropped: Value = client.action_one("drop-topic", &json!({ "topic": name })).await?;
            match as_json {
                true => json_line(&dropped),
                false => {
                    println!("topic {name} is dropped");
                    Ok(())
                }
            }
        }
        Topic::Resume { name } => resume(&client, &name, as_json).await,
        Topic::Tag { name, tag } => {
            let tagged: Value = client.action_one("tag-topic", &json!({ "topic": name, "tag": tag })).await?;
            match as_json {
                true => json_line(&tagged),
                false => {
                    println!("{tag} is snapshot {} of topic {name}", tagged["snapshot_id"]);
                    Ok(())
                }
            }
        }
        Topic::Sweep { name } => sweep(&client, &name, as_json).await,
        Topic::Retain { name, hours, bytes, events } => {
            let age_ms = hours.map(|hours| hours.saturating_mul(3_600_000));
            retain(&client, &name, Retention { age_ms, bytes, events }, as_json).await
        }
        Topic::Files { name } => files::list(&client, &name, as_json).await,
        Topic::Compact { name, whole } => files::compact(&client, &name, whole, as_json).await,
    }
}

async fn alter(client: Client, args: TopicAlter, as_json: bool) -> Result<(), Failure> {
    let rename = |text: &String| {
        let (from, to) = text.split_once('=').ok_or_else(|| {
            Failure::usage(format!(
                "--rename: expected OLD=NEW, the field's name now and in the new schema, found {text:?}"
            ))
        })?;
        Ok(Rename { from: from.to_owned(), to: to.to_owned() })
    };
    let renames = args.rename.iter().map(rename).collect::<Result<_, Failure>>()?;
    let schema = read_schema(&args.schema)?;
    let topic = TopicName::new(args.name).map_err(Failure::usage)?;
    let client = client.at_owner_of(&topic).await?;
    // What stands now is what the change was made for.
    let expected_version = Some(client.describe(topic.as_str()).await?.topic.version);
    let body = AlterTopic { topic, schema, renames, expected_version };
    let altered: AlteredTopic = client.action_one("alter-topic", &body).await?;
    if as_json {
        return json_line(&altered);
    }
    let AlteredTopic { topic, version, changes } = altered;
    match changes.is_empty() {
        true => println!("topic {topic} has this schema already, as version {version}"),
        false => println!("topic {topic} has schema version {version}"),
    }
    changes.iter().for_each(|change| println!("  {change}"));
    Ok(())
}

async fn resume(client: &Client, name: &str, as_json: bool) -> Result<(), Failure> {
    let resumed: Value = client.action_one("resume-topic", &json!({ "topic": name })).await?;
    match (as_json, resumed["had_stopped"].as_bool()) {
        (true, _) => return json_line(&resumed),
        (false, Some(true)) => println!("topic {name} takes appends again; all that it holds is in its table"),
        (false, _) => println!("topic {name} had not stopped"),
    }
    Ok(())
}

async fn sweep(client: &Client, name: &str, as_json: bool) -> Result<(), Failure> {
    let swept: Value = client.action_one("sweep-topic", &json!({ "topic": name })).await?;
    if as_json {
        return json_line(&swept);
    }
    let number = |field: &str| swept[field].as_u64().unwrap_or_default();
    println!("{} files removed, {}", count(number("removed_files")), bytes(number("removed_bytes")));
    Ok(())
}

async fn retain(client: &Client, name: &str, retention: Retention, as_json: bool) -> Result<(), Failure> {
    let Retention { age_ms, bytes, events } = retention;
    let body = json!({ "topic": name, "age_ms": age_ms, "bytes": bytes, "events": events });
    let done: Value = client.action_one("retain-topic", &body).await?;
    match as_json {
        true => return json_line(&done),
        false if retention == Retention::default() => println!("all of {name} is kept from now on"),
        false => println!(
            "what {name} keeps no longer will be gone soon; `firn topic describe {name}` says from which seq on it is kept"
        ),
    }
    Ok(())
}

/// How a topic stands, in a word.
fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Open => "open",
        Standing::HeldUp => "held up",
        Standing::Stopped => "stopped",
        Standing::Parked => "parked",
    }
}

/// `firn flush`
pub(crate) async fn flush(client: Client, topic: Option<String>, as_json: bool) -> Result<(), Failure> {
    let body = topic.as_ref().map_or_else(|| json!({}), |topic| json!({ "topic": topic }));
    let flushed: Value = client.action_one("flush", &body).await?;
    match (as_json, topic) {
        (true, _) => return json_line(&flushed),
        (false, Some(topic)) => println!("all that was acknowledged of {topic} is in its table"),
        (false, None) => println!("all that was acknowledged is in the tables"),
    }
    Ok(())
}

/// `firn health`
pub(crate) async fn health(client: Client, as_json: bool) -> Result<(), Failure> {
    let report: Value = client.action_one("health", &json!({})).await?;
    let status = report["status"].as_str().unwrap_or("unknown").to_owned();
    match as_json {
        true => json_line(&report)?,
        false => {
            println!("{status}");
            report["lanes"].as_array().into_iter().flatten().for_each(print_lane);
        }
    }
    match status.as_str() {
        "serving" => Ok(()),
        other => Err(Failure::away(format!("the server is {other}"))),
    }
}

/// `lane 0: standby in epoch 3 of grpc://10.0.0.7:8815, 40 ms behind`
fn print_lane(lane: &Value) {
    let text = |name: &str| lane[name].as_str().unwrap_or("unknown");
    let (number, epoch, behind) = (&lane["lane"], &lane["epoch"], &lane["lag_ms"]);
    match text("role") {
        "owner" => println!("lane {number}: owner in epoch {epoch}"),
        "standby" => println!("lane {number}: standby in epoch {epoch} of {}, {behind} ms behind", text("owner")),
        role => println!("lane {number}: {role}: {}", text("message")),
    }
}

fn spec(create: TopicCreate) -> Result<TopicSpec, Failure> {
    let schema = read_schema(&create.schema)?;
    Ok(TopicSpec {
        name: TopicName::new(create.name).map_err(Failure::usage)?,
        schema,
        key: create.key,
        path: create.path,
        prefix_levels: create.prefix_levels,
        checks: create.check,
        flush: FlushSpec { interval_ms: create.flush_interval_ms, bytes: create.flush_bytes },
        nanos: if create.truncate_nanos { Nanos::Truncate } else { Nanos::Refuse },
    })
}

fn read_schema(path: &Path) -> Result<Value, Failure> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{file}: {error}")))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{file}: expected an Avro schema in JSON: {error}")))
}

/// Events below an exclusive bound.
fn below(seqs: &ShardSeqs) -> u64 {
    seqs.0.values().map(|seq| (seq.0 - 1).max(0) as u64).sum()
}

fn list(topics: &[TopicSummary], as_json: bool) -> Result<(), Failure> {
    if as_json {
        return topics.iter().try_for_each(json_line);
    }
    if topics.is_empty() {
        println!("no topics yet; make one with `firn topic create`");
        return Ok(());
    }
    let row = |topic: &TopicSummary| {
        let reads = if topic.status.unreadable.is_some() { ", not readable here" } else { "" };
        let stands = format!("{}{reads}", standing(topic.status.standing));
        vec![topic.topic.to_string(), count(below(&topic.next_seq)), topic.key.join(":"), topic.path.clone(), stands]
    };
    println!("{}", table(&["topic", "events", "key", "path", "stands"], topics.iter().map(row)));
    Ok(())
}

fn describe(description: &TopicDescription) {
    let TopicDescription { topic, columns, next_seq, watermark, status, tail, table: lake } = description;
    println!("topic    {} ({})", topic.name, topic.id);
    println!("key      {}", topic.key.join(":"));
    println!("schema   version {}", topic.version);
    println!("path     {}, partitioned by {} of its levels", topic.path, topic.prefix_levels);
    for check in &topic.checks {
        println!("check    {check}");
    }
    println!("stands   {}", standing(status.standing));
    if let Some(reason) = &status.reason {
        println!("         {reason}");
    }
    if let Some(reason) = &status.unreadable {
        println!("reads    refused: {reason}");
    }
    println!("events   {}, of which {} in the table", count(below(next_seq)), count(below(watermark)));
    println!("tail     {} events, {}", count(tail.rows), bytes(tail.bytes));
    match lake {
        Some(lake) => {
            println!("table    {} rows in {} files, {}", count(lake.rows), count(lake.files), bytes(lake.bytes));
            println!("         {}", lake.metadata_uri);
            if below(&lake.retained) > 0 {
                println!("kept     from seq {} on; older events were dropped", below(&lake.retained) + 1);
            }
        }
        None => println!("table    not open at this server"),
    }
    let row = |column: &flight::actions::ColumnDescription| {
        let null = if column.nullable { "yes" } else { "no" };
        vec![column.name.clone(), column.kind.clone(), null.into()]
    };
    println!("{}", table(&["column", "type", "null"], columns.iter().map(row)));
}
