//! Positions, identities and names: newtypes that are parsed once and trusted afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::SchemaError;
use crate::limits;

/// An event's position in its topic: dense, from 1, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The first event of every topic.
    pub const FIRST: Self = Self(1);

    /// The position `rows` further on.
    pub fn plus(self, rows: usize) -> Self {
        Self(self.0 + rows as i64)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// First seq *not* yet in the topic's table (exclusive bound).
///
/// Never decreases within a topic; the tail starts here or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watermark(pub Seq);

impl Watermark {
    /// Of a topic whose table is empty.
    pub const START: Self = Self(Seq::FIRST);
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one that follows.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// One ownership of a lane; a newer one fences all older. The first is 1.
    Epoch(u64)
}
counter! {
    /// The number of a segment within its epoch, from 0, without gaps.
    Slot(u64)
}
counter! {
    /// The internal log that a topic is sequenced in.
    LaneId(u32)
}
counter! {
    /// One row of sequence numbers of a topic; a topic in one lane has the one shard 0.
    Shard(u32)
}

/// `shard → seq`, the form in which watermarks, cursors and tokens are written everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardSeqs(pub BTreeMap<Shard, Seq>);

impl ShardSeqs {
    /// Of a topic in one lane.
    pub fn single(seq: Seq) -> Self {
        Self(BTreeMap::from([(Shard(0), seq)]))
    }

    /// The seq of shard 0, if this is the map of a topic in one lane.
    pub fn as_single(&self) -> Option<Seq> {
        (self.0.len() == 1).then(|| self.0.get(&Shard(0)).copied())?
    }
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
    };
}

identity! {
    /// What a tenant is, whatever it is called. Stands in segments, checkpoints and locations.
    TenantId
}
identity! {
    /// What a topic is, whatever it is called: `orders` dropped and made again has another one.
    TopicId
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// ASCII lower-case letters, digits and `_`, beginning with a letter, at most
        /// [`limits::NAME_BYTES_MAX`] bytes: valid unquoted in SQL, in a path level, in a folder name.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a name. Errors: [`SchemaError::Name`].
            pub fn new(name: impl Into<String>) -> Result<Self, SchemaError> {
                let found = name.into();
                match name_fault(&found) {
                    None => Ok(Self(found)),
                    Some(reason) => Err(SchemaError::Name { what: $what, found, reason }),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = SchemaError;
            fn try_from(name: String) -> Result<Self, SchemaError> {
                Self::new(name)
            }
        }

        impl FromStr for $name {
            type Err = SchemaError;
            fn from_str(name: &str) -> Result<Self, SchemaError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A tenant's name.
    TenantName, "tenant"
}
name! {
    /// A topic's name, unique within its tenant; also its table's name and the first level of its paths.
    TopicName, "topic"
}

impl Default for TenantName {
    /// The tenant `default`.
    fn default() -> Self {
        Self("default".into())
    }
}

impl TopicName {
    /// The name of this topic's dead-letter topic, `{topic}_dead`. Errors: [`SchemaError::Name`] if that is too long.
    pub fn dead_letter(&self) -> Result<Self, SchemaError> {
        Self::new(format!("{}{}", self.0, limits::DEAD_LETTER_SUFFIX))
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    match bytes.first() {
        None => return Some("expected at least one character, found none"),
        Some(first) if !first.is_ascii_lowercase() => return Some("expected a lower-case ASCII letter first"),
        Some(_) => {}
    }
    if bytes.len() > limits::NAME_BYTES_MAX {
        return Some("expected at most 128 bytes");
    }
    let legal = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
    (!bytes.iter().all(legal)).then_some("expected only lower-case ASCII letters, digits and _")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_valid_unquoted_in_sql_and_in_a_folder() {
        for good in ["a", "orders", "orders_2024", "default"] {
            assert_eq!(TopicName::new(good).expect(good).as_str(), good);
        }
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        for bad in ["", "_x", "1x", "Orders", "a-b", "a/b", "a.b", "ä", &long] {
            assert!(TopicName::new(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_shard_map_is_written_as_a_json_object() {
        let seqs = ShardSeqs::single(Seq(17));
        let text = serde_json::to_string(&seqs).expect("serialises");
        assert_eq!(text, r#"{"0":17}"#);
        assert_eq!(serde_json::from_str::<ShardSeqs>(&text).expect("parses"), seqs);
        assert_eq!(seqs.as_single(), Some(Seq(17)));
    }
}
