//! Replay: what was asked for, and the ways to answer it.

mod feed;
mod groups;
mod key;
mod piece;
mod spill;
mod table;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use schemas::payload::PayloadType;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, TopicName};
use serde::{Deserialize, Serialize};

pub(crate) use self::feed::{Feed, check_retained, dropped};
pub(crate) use self::groups::groups;
pub(crate) use self::table::prefixes_of;

use self::key::KeyReplay;
use self::table::{Scan, prefixes};
use crate::at::At;
use crate::engine::BatchStream;
use crate::error::{QueryError, Result};
use crate::reader::Reader;
use crate::shape::Shape;
use crate::stream::produce;

/// What to replay. The body of the `replay` ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Of this topic.
    pub topic: TopicName,
    /// Only this key; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// First seq, inclusive; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Seq to stop before, exclusive; the topic's end at the call if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
    /// Only these columns, in this order; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// As the topic was then; as it is now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// Only rows for which this SQL expression is true.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

impl Replay {
    /// All of a topic.
    pub fn of(topic: TopicName) -> Self {
        Self { topic, key: None, from: None, to: None, columns: None, at: None, filter: None }
    }
}

/// Answers a replay: events that are acknowledged at the call, in seq order.
///
/// Errors: `NotFound` for an unknown topic or column, or seqs that retention has dropped; `Invalid` for a condition that does not compile or seqs that are none; in the stream also
/// `Overloaded` (memory or spill used up), `Unavailable` (deadline, store away), `Corrupt`.
pub(crate) async fn run(reader: &Reader, tenant: &TenantName, replay: Replay) -> Result<BatchStream> {
    let def = reader.topic(tenant, &replay.topic)?;
    let view = match &replay.at {
        Some(at) => reader.view_at(&def, at).await?,
        None => reader.view(&def).await?,
    };
    let def = Arc::clone(view.def());
    let shape = Shape::new(def.event_schema(), replay.columns.as_deref(), replay.filter.as_deref(), None)?;
    let seqs = seqs(replay.from, replay.to, view.end())?;
    check_retained(&def, view.table().retained(), seqs.start)?;
    let output = Arc::clone(shape.output());
    let reader = reader.clone();
    Ok(match replay.key {
        Some(key) => produce(output, move |out| {
            let deadline = reader.settings.deadline();
            let key_field = key_field(&def);
            in_time(deadline, KeyReplay { reader, shape, key, key_field, seqs }.run(view, out))
        }),
        // One snapshot, whatever comes after it: it must be read before its files may go (P7).
        None if replay.at.as_ref().is_some_and(At::is_of_table) => produce(output, move |out| {
            let (deadline, shape) = (reader.settings.deadline(), Arc::new(shape));
            in_time(deadline, async move {
                let files = view.table().files().await?;
                let scan = Scan { prefixes: prefixes(&def, &shape), reader, shape, seqs };
                scan.run(files.files(), &out, || true).await.map(drop)
            })
        }),
        // No deadline: it moves from snapshot to snapshot, and holds none for long.
        None => produce(output, move |out| async move {
            drop(view);
            Feed::new(reader, def, Arc::new(shape), seqs.start).run_to(Some(seqs.end), &out).await
        }),
    })
}

/// The seqs asked for, cut at the topic's `end`. Errors: `Invalid` below 1.
fn seqs(from: Option<i64>, to: Option<i64>, end: Seq) -> Result<Range<Seq>> {
    if let Some(below) = from.into_iter().chain(to).find(|seq| *seq < 1) {
        return Err(QueryError::new(ErrorKind::Invalid, format!("from, to: expected seqs from 1 on, found {below}")));
    }
    Ok(from.map_or(Seq::FIRST, Seq)..to.map_or(end, |to| end.min(Seq(to))))
}

/// Field id of the payload's column that equals `_key`: the only key field, if it is a string.
fn key_field(def: &TopicDef) -> Option<i32> {
    let [only] = def.key.as_slice() else { return None };
    let (_, field) = def.payload.field(only)?;
    (field.kind == PayloadType::String).then_some(field.id)
}

async fn in_time(deadline: Duration, work: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |_| {
        let message = format!("replay: not done within deadline_ms = {}", deadline.as_millis());
        QueryError::new(ErrorKind::Unavailable, message)
    };
    tokio::time::timeout(deadline, work).await.map_err(late)?
}

#[cfg(test)]
mod tests;
