//! Entry points for the fuzzer: what users write as text about topics.

use uuid::Uuid;

use crate::path::PathTemplate;
use crate::pattern::Pattern;
use crate::topic::Nanos;
use crate::{LaneId, TenantId, TopicDef, TopicId, TopicName, TopicSpec, avro, envelope, limits};

/// A name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// By name, as `make fuzz TARGET=…` takes them.
pub const TARGETS: &[Target] = &[("pattern", pattern), ("topic", topic), ("avro", avro_schema)];

/// A pattern, a line feed, a path: what is read is written back the same, and its promises to scans hold.
fn pattern(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, path) = text.split_once('\n').unwrap_or((text, text));
    let _ = (PathTemplate::parse(text), TopicName::new(text));
    let Ok(pattern) = Pattern::parse(text) else { return };
    assert_eq!(pattern.to_string(), text);
    assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern));
    if pattern.matches(path) {
        assert!(path.starts_with(&pattern.literal_prefix()), "{path:?} is pruned away, but matches {text:?}");
        assert!(pattern.topic().is_none_or(|topic| path.split('/').next() == Some(topic)));
    }
}

/// The body of `create-topic`: what becomes a definition is a definition again after it was stored.
fn topic(data: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<TopicSpec>(data) else { return };
    let Ok(def) = spec.resolve(TopicId(Uuid::nil()), TenantId(Uuid::nil()), LaneId(0)) else { return };
    let stored = serde_json::to_vec(&def).expect("a definition is JSON");
    let read: TopicDef = serde_json::from_slice(&stored).expect("what was stored is read");
    assert_eq!(read, def);
    assert!(def.key_rule().is_ok() && def.path_rule().is_ok(), "resolving has checked both");
    assert_eq!(def.event_schema().fields().len(), envelope::fields().len() + def.payload.fields.len());
}

/// An Avro schema: the types that it maps to, written as Avro again, map to the same.
fn avro_schema(data: &[u8]) {
    let Ok(schema) = serde_json::from_slice(data) else { return };
    for nanos in [Nanos::Refuse, Nanos::Truncate] {
        let Ok(payload) = avro::payload(&schema, nanos) else { continue };
        let written = avro::schema(&payload, "Event");
        if written.to_string().len() <= limits::SCHEMA_BYTES_MAX {
            let again = avro::payload(&written, nanos).expect("what was written is read");
            assert_eq!(again.arrow_fields(), payload.arrow_fields());
        }
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod kept;

#[test]
fn what_the_fuzzer_has_kept_is_survived() {
    kept::replay(TARGETS);
}
