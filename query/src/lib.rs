//! SQL, replay and subscription over read views. Knows nothing about sequencing or the wire; the only crate that plans with DataFusion.

pub mod engine;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod settings;

pub mod at;
pub mod checks;
pub mod lastseq;
pub mod replay;
pub mod subscribe;

mod reader;
mod sql;
mod table;

mod parquet;
mod shape;
mod stream;

#[cfg(test)]
mod testing;

pub use engine::QueryEngine;
pub use error::{QueryError, Result};
pub use lastseq::TableLastSeqs;
pub use reader::ReadStats;
pub use settings::Settings;
