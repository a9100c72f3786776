//! Entry points for the fuzzer: registers as the store holds them.

use bytes::Bytes;

use crate::rest;
use crate::storage::fuzz_register;
use crate::table::fuzz_pointer;
use crate::topics::fuzz_documents;

/// A name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// By name, as `make fuzz TARGET=…` takes them.
pub const TARGETS: &[Target] = &[("register", register), ("documents", documents), ("rest", rest::fuzz)];

/// A register's revision as the store holds it, and likewise a document on its way there.
fn register(data: &[u8]) {
    fuzz_register(&Bytes::copy_from_slice(data));
}

/// The documents in registers.
fn documents(data: &[u8]) {
    fuzz_pointer(data);
    fuzz_documents(data);
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod kept;

#[test]
fn what_the_fuzzer_has_kept_is_survived() {
    kept::replay(TARGETS);
}
