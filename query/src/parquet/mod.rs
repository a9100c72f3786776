//! Data files: their metadata, kept in memory, and reading just the pages that hold what is wanted.
//!
//! Files never change once written, so what is learned of one by its path holds for good.

pub(crate) mod metadata;
mod named;
pub(crate) mod sparse;

pub(crate) mod known;
mod pages;

pub(crate) mod file;
pub(crate) mod projection;

pub(crate) mod factory;
pub(crate) mod lookup;

pub(crate) use metadata::MetadataCache;
