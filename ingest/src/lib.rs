//! From an untrusted batch to a durable, ordered event: validate → sequence → segment → tail → flush.
//!
//! Knows nothing about plans or the wire. One task owns a lane's state ([`engine::Engine`] is the handle to it).

pub mod engine;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod settings;

mod validate;

mod rows;

mod content;

mod tail;

mod flush;

mod memory;

#[cfg(test)]
mod testing;

mod wal;

mod lane;

mod sequence;

pub mod verify;

pub use engine::{Appender, Engine};
pub use error::{IngestError, Result};
pub use settings::Settings;
