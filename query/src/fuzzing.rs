//! Entry points for the fuzzer: SQL that a client sends.

use crate::sql::guard;

/// A name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// By name, as `make fuzz TARGET=…` takes them.
pub const TARGETS: &[Target] = &[("sql", sql)];

/// A statement, and likewise an expression: parsing ends, and what passes is refused neither for its size nor its depth when it is written out and dropped.
fn sql(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(statement) = guard::statement(text) {
        let _ = statement.to_string();
    }
    if let Ok(expression) = guard::expression(text) {
        let _ = expression.to_string();
    }
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod kept;

#[test]
fn what_the_fuzzer_has_kept_is_survived() {
    kept::replay(TARGETS);
}
