//! SQL, replay and subscription over read views. Knows nothing about sequencing or the wire; the only crate that plans with DataFusion.

pub mod engine;
pub mod error;
pub mod settings;

pub mod checks;
pub mod replay;
pub mod subscribe;

pub use engine::QueryEngine;
pub use error::{QueryError, Result};
pub use settings::Settings;
