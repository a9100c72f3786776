//! What an audit says of a store: which law it found broken, where, and how often the others held. Shared by the audit of tables
//! ([`crate::table::audit`]) and that of the log, which `ingest` does.

use std::collections::BTreeMap;
use std::fmt;

use schemas::ErrorKind;
use serde::Serialize;

use crate::error::CatalogError;

/// What must hold: an invariant of the protocol, by its number there, or a promise that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Law {
    /// Its number, or a word.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
}

/// The laws that an audit can see kept or broken.
pub mod laws {
    use super::Law;

    /// I2
    pub const KEPT: Law =
        Law { name: "I2", says: "every acknowledged event is in the log, in a parked object, or in the table" };
    /// I3
    pub const ONCE: Law = Law { name: "I3", says: "no event twice" };
    /// I4
    pub const DENSE: Law = Law { name: "I4", says: "seqs are dense and times never fall along them" };
    /// I6
    pub const LINKED: Law = Law { name: "I6", says: "epochs and revisions only grow, and hashes link" };
    /// I7
    pub const FLOOR: Law =
        Law { name: "I7", says: "the floor passes no checkpoint and nothing that is not safe elsewhere" };
    /// I8
    pub const TILED: Law = Law { name: "I8", says: "flushes tile: each begins at its parent's watermark" };
    /// I9
    pub const AGREED: Law = Law { name: "I9", says: "the table's properties are what its last flush left" };
    /// I10
    pub const INTACT: Law = Law { name: "I10", says: "no referenced file is missing or altered" };
    /// I11
    pub const SAME: Law = Law { name: "I11", says: "the rows' hash in the table is that from the log" };
    /// I13
    pub const UNBROKEN: Law = Law { name: "I13", says: "every missing slot is below the floor" };
    /// Identity
    pub const IDENTITY: Law = Law { name: "identity", says: "register, lane and table are of one topic" };
    /// What follows from the payload.
    pub const DERIVED: Law = Law { name: "derived", says: "key, path and prefix follow from the payload" };
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which law is broken.
    pub law: Law,
    /// The object that it shows in: a path in the store.
    pub object: String,
    /// Where in it; empty for all of it.
    pub place: String,
    /// What was expected there.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { law, object, place, expected, found } = self;
        let comma = if place.is_empty() { "" } else { ", " };
        write!(f, "{object}{comma}{place}: expected {expected}, found {found} ({}: {})", law.name, law.says)
    }
}

/// Why an audit ended early.
#[derive(Debug)]
pub enum Stop {
    /// Something is wrong.
    Fault(Box<Fault>),
    /// It could not look: this proves nothing, either way.
    Unseen(CatalogError),
}

/// Shorthand of audits.
pub type Audited<T> = std::result::Result<T, Stop>;

impl Stop {
    /// A fault in an object as a whole.
    pub fn fault(law: Law, object: impl fmt::Display, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::fault_at(law, object, "", expected, found)
    }

    /// A fault somewhere in an object.
    pub fn fault_at(
        law: Law,
        object: impl fmt::Display,
        place: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        let [object, place, expected, found] =
            [object.to_string(), place.to_string(), expected.to_string(), found.to_string()];
        Self::Fault(Box::new(Fault { law, object, place, expected, found }))
    }

    /// An error met on reading `object`: a fault if what is there is not what was written, else only a failure to look.
    pub fn of(law: Law, object: impl fmt::Display, error: CatalogError) -> Self {
        match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Conflict => Self::fault(law, object, "what Firn wrote there", error),
            ErrorKind::NotFound => Self::fault(law, object, "an object", "none"),
            _ => Self::Unseen(error),
        }
    }
}

/// Ends an audit unless `found` is what was `expected`.
pub fn agree<T: PartialEq + fmt::Display>(
    law: Law,
    object: impl fmt::Display,
    place: impl fmt::Display,
    expected: T,
    found: T,
) -> Audited<()> {
    match expected == found {
        true => Ok(()),
        false => Err(Stop::fault_at(law, object, place, expected, found)),
    }
}

/// What was checked, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks(BTreeMap<(Law, &'static str), u64>);

/// One kind of check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The law that it is about.
    pub law: Law,
    /// What was checked.
    pub what: &'static str,
    /// How often; every time it held.
    pub count: u64,
}

impl Checks {
    /// `what` held `count` more times.
    pub fn held(&mut self, law: Law, what: &'static str, count: u64) {
        *self.0.entry((law, what)).or_default() += count;
    }

    /// Adds what another has checked.
    pub fn add(&mut self, other: &Self) {
        other.list().for_each(|check| self.held(check.law, check.what, check.count));
    }

    /// All of them, by law.
    pub fn list(&self) -> impl Iterator<Item = Check> {
        self.0.iter().map(|((law, what), count)| Check { law: *law, what, count: *count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_where_and_against_which_law() {
        let Err(Stop::Fault(fault)) = agree(laws::INTACT, "a/b.parquet", "bytes", 5, 4) else { panic!("it is one") };
        assert_eq!(
            fault.to_string(),
            "a/b.parquet, bytes: expected 5, found 4 (I10: no referenced file is missing or altered)"
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_proof_of_a_fault() {
        let away = CatalogError::new(ErrorKind::Unavailable, "no answer");
        assert!(matches!(Stop::of(laws::INTACT, "x", away), Stop::Unseen(_)));
        let rotten = CatalogError::new(ErrorKind::Corrupt, "rot");
        assert!(matches!(Stop::of(laws::INTACT, "x", rotten), Stop::Fault(_)));
    }
}
