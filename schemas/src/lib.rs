//! What an event is: names, positions, topics, keys, paths, the envelope. No I/O, no async, no clock.
//!
//! Everything here is a pure function of its arguments, and everything above (`catalog`, `ingest`, `query`, `flight`)
//! speaks in these types. A value of one of them has been checked once, where it was made, and is not checked again.

pub mod error;
pub mod ids;
pub mod limits;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod payload;

pub mod avro;
pub mod conform;
pub mod envelope;
pub mod key;
pub mod path;
pub mod pattern;
mod text;

pub mod check;
pub mod topic;

pub mod evolve;

pub mod planted;
#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("defects can be planted in debug builds alone: build without tests, or without `--release`");

pub use error::{ErrorKind, SchemaError};
pub use ids::{Epoch, LaneId, Seq, Shard, ShardSeqs, Slot, TenantId, TenantName, TopicId, TopicName, Watermark};
pub use topic::{TopicDef, TopicSpec};
