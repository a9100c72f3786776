//! One binary for all fuzz targets: `FIRN_FUZZ` names the one to run. `make fuzz` builds and calls it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Target = (&'static str, fn(&[u8]));

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

/// Every crate keeps its own list, beside what it tests.
fn targets() -> impl Iterator<Item = &'static Target> {
    let lists = [schemas::fuzzing::TARGETS, catalog::fuzzing::TARGETS, ingest::fuzzing::TARGETS];
    lists.into_iter().chain([query::fuzzing::TARGETS, flight::fuzzing::TARGETS]).flatten()
}

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("FIRN_FUZZ").unwrap_or_default();
    let names: Vec<_> = targets().map(|(name, _)| *name).collect();
    let found = targets().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("FIRN_FUZZ: expected one of {names:?}, found {name:?}")).1
}

// What the code under test catches itself is no find, and need not be printed: a panic that reaches the end of this stops the fuzzer.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |data: &[u8]| TARGET.get_or_init(chosen)(data));
