//! Subscription: what was asked for, and how history hands over to live events.

use serde::{Deserialize, Serialize};

/// What to follow. The body of the `subscribe` ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Over `_path`: `kafka/core/>`, `*/eu/>`.
    pub pattern: String,
    /// Where to begin.
    #[serde(default)]
    pub from: From,
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
