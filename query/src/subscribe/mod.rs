//! Subscription: what was asked for, and how history hands over to live events.
//!
//! Each topic that matches is followed by a task with a cursor: what lies at it is handed out, from the table or the tail, and at the end the task
//! waits for the tail to grow. Nothing is queued for a subscriber, so a slow one costs nobody anything: it reads from wherever its cursor stands.

mod start;
mod topics;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use schemas::pattern::Pattern;
use schemas::{ErrorKind, ShardSeqs, TenantName, TopicName};

use self::topics::Following;
use crate::engine::BatchStream;
use crate::error::{QueryError, Result};
use crate::reader::Reader;
use crate::stream::produce;

/// What to follow. The body of the `subscribe` ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Over `_path`: `kafka/core/>`, `*/eu/>`.
    pub pattern: String,
    /// Where to begin.
    #[serde(default)]
    pub from: From,
    /// By topic: the last seq that was seen, e.g. `{"orders":{"0":17}}`. Such a topic begins after it, whatever `from` says: so a subscription goes on
    /// where another one broke off.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub after: BTreeMap<TopicName, ShardSeqs>,
    /// Only these columns, in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Only rows for which this SQL expression is true.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Where a subscription begins: `"beginning"`, `"now"`, `{"seq":17}` or `{"time":"2024-01-01T00:00:00Z"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum From {
    /// With the first event.
    Beginning,
    /// With the first event sequenced after the call.
    #[default]
    Now,
    /// With this seq, in every topic that matches.
    Seq(i64),
    /// With the first event whose `_time` is at or after this (RFC 3339).
    Time(String),
}

/// Answers a subscription: history from its start on, then live events, each once, in order within its topic.
///
/// Errors: `Invalid` for a pattern, condition or start that is none; `NotFound` for an unknown topic or column; in the stream also `NotFound` when
/// its only topic is dropped, `Invalid` when a topic is made that matches and lacks the columns, and those of replay.
pub(crate) async fn run(reader: &Reader, tenant: &TenantName, subscribe: Subscribe) -> Result<BatchStream> {
    let pattern = Pattern::parse(&subscribe.pattern)?;
    let start = start::Starts::parse(&subscribe.from, &subscribe.after)?;
    if let Some(name) = pattern.topic() {
        let name = name.to_owned().try_into().map_err(QueryError::from)?;
        reader.topic(tenant, &name)?;
    }
    let following = Following::begin(reader, tenant, subscribe, pattern, start).await?;
    Ok(produce(following.output(), move |out| following.run(out)))
}

/// A column or condition that one of several topics does not have.
fn in_topic(topic: &schemas::TopicName, error: &QueryError) -> QueryError {
    let kind = match error.kind() {
        ErrorKind::NotFound => ErrorKind::Invalid,
        kind => kind,
    };
    QueryError::new(kind, format!("topic {topic}, which the pattern matches: {error}"))
}

#[cfg(test)]
mod tests;
