//! What is committed, where it lies, and how the next commit becomes true.
//!
//! The only crate that knows Iceberg, and the door to every object store ([`Store`]). It knows nothing about sequencing (that is `ingest`) or plans (that is `query`);
//! the seam between those two is [`view`].

pub mod audit;
pub mod env;
pub mod error;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod rest;
pub mod storage;
pub mod table;
pub mod topics;

pub mod view;

pub use env::Env;
pub use error::{CatalogError, Result};
pub use storage::Store;
