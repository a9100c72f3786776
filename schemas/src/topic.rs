//! A topic: what its user asks for ([`TopicSpec`]) and what Firn makes of it ([`TopicDef`]).

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::SchemaError;
use crate::ids::{LaneId, TenantId, TopicId, TopicName};
use crate::key::KeyRule;
use crate::path::{PathRule, PathTemplate};
use crate::payload::PayloadSchema;
use crate::{avro, envelope, limits};

/// What a user says of a topic: the body of `create-topic`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSpec {
    /// Unique within the tenant.
    pub name: TopicName,
    /// The payload's Avro record schema, as in an `.avsc` file.
    pub schema: serde_json::Value,
    /// Payload fields that make the key, in order; nested ones by dotted path. At least one.
    pub key: Vec<String>,
    /// Path template, e.g. `orders/{region}/{status}`; its first level is the topic's name. Default: the name alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many leading levels of the path the table partitions by. Default: 2, or 1 if the template has one level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_levels: Option<usize>,
    /// SQL expressions over the payload's columns that no event may make false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// When acknowledged events move to the table.
    #[serde(default)]
    pub flush: FlushSpec,
    /// What to do with timestamps in nanoseconds, which Iceberg v2 cannot hold.
    #[serde(default)]
    pub nanos: Nanos,
}

/// When a topic's tail is flushed to its table: whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlushSpec {
    /// Age of the oldest unflushed event, milliseconds. Default: the server's `flush_interval_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Unflushed Arrow bytes. Default: the server's `flush_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The rule for `timestamp-nanos` and `local-timestamp-nanos`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nanos {
    /// A schema that has them is refused.
    #[default]
    Refuse,
    /// They are cut to microseconds (rounded towards minus infinity).
    Truncate,
}

/// A topic as Firn keeps it: parsed, checked, with its identity and field ids. Persisted as JSON in the topic's register and in lane records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopicDef {
    /// Its identity.
    pub id: TopicId,
    /// Its owner.
    pub tenant: TenantId,
    /// Its name.
    pub name: TopicName,
    /// The lane that sequences it.
    pub lane: LaneId,
    /// Number of this schema version, from 1.
    pub version: u32,
    /// The Avro schema as the user gave it.
    pub schema: serde_json::Value,
    /// The payload's columns, with ids.
    pub payload: PayloadSchema,
    /// Payload fields that make the key: non-empty, each resolvable in `payload` to a type that has a canonical text.
    pub key: Vec<String>,
    /// The path template, parsed; its text form in JSON.
    pub path: PathTemplate,
    /// Leading levels of the path in `_prefix`: from 1 to the template's levels.
    pub prefix_levels: usize,
    /// Checks, not yet compiled.
    pub checks: Vec<String>,
    /// Flush settings.
    pub flush: FlushSpec,
    /// Rule for nanoseconds.
    pub nanos: Nanos,
    /// What a newer version of Firn added: kept wherever the definition is written again.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl TopicSpec {
    /// Makes the first version of a topic out of what its user said.
    ///
    /// Errors: [`SchemaError::Field`] for a payload field that cannot be mapped, [`SchemaError::Option`] for any other option; nothing is clipped
    /// or guessed. `checks` are only counted and measured here: compiling them needs a [`crate::check::CheckCompiler`].
    pub fn resolve(self, id: TopicId, tenant: TenantId, lane: LaneId) -> Result<TopicDef, SchemaError> {
        let payload = avro::payload(&self.schema, self.nanos)?;
        KeyRule::new(&payload, &self.key)?;
        let path = match &self.path {
            Some(text) => PathTemplate::parse(text)?,
            None => PathTemplate::of_name(&self.name),
        };
        if !path.begins_with(&self.name) {
            let reason = format!("expected {:?} as its first level, found {path}", self.name.as_str());
            return Err(SchemaError::Option { option: "path", reason });
        }
        let prefix_levels = self.prefix_levels.unwrap_or(path.len().min(2));
        PathRule::new(&payload, &path, prefix_levels)?;
        measure_checks(&self.checks)?;
        Ok(TopicDef {
            id,
            tenant,
            name: self.name,
            lane,
            version: 1,
            schema: self.schema,
            payload,
            key: self.key,
            path,
            prefix_levels,
            checks: self.checks,
            flush: self.flush,
            nanos: self.nanos,
            unknown: Default::default(),
        })
    }
}

impl TopicDef {
    /// Envelope and payload: the schema of the topic's events in the tail, in SQL, in replay.
    pub fn event_schema(&self) -> SchemaRef {
        envelope::event_schema(&self.payload)
    }

    /// How to derive `_key`. Errors: none for a definition that [`TopicSpec::resolve`] made.
    pub fn key_rule(&self) -> Result<KeyRule, SchemaError> {
        KeyRule::new(&self.payload, &self.key)
    }

    /// How to derive `_path` and `_prefix`. Errors: none for a definition that [`TopicSpec::resolve`] made.
    pub fn path_rule(&self) -> Result<PathRule, SchemaError> {
        PathRule::new(&self.payload, &self.path, self.prefix_levels)
    }

    /// True if both say the same to a user, whatever their identities: what makes creating a topic twice harmless.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let identified =
            Self { id: self.id, tenant: self.tenant, lane: self.lane, version: self.version, ..other.clone() };
        *self == identified
    }
}

fn measure_checks(checks: &[String]) -> Result<(), SchemaError> {
    let fault = |reason: String| Err(SchemaError::Option { option: "check", reason });
    if checks.len() > limits::CHECKS_MAX {
        return fault(format!("expected at most {}, found {}", limits::CHECKS_MAX, checks.len()));
    }
    match checks.iter().find(|check| check.len() > limits::EXPRESSION_BYTES_MAX) {
        Some(long) => fault(format!("expected at most {} bytes, found {}", limits::EXPRESSION_BYTES_MAX, long.len())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
