//! What every call works with.

use std::sync::Arc;

use catalog::Env;
use catalog::table::Tables;
use catalog::topics::Topics;
use ingest::Engine;
use query::QueryEngine;
use schemas::{ErrorKind, TenantName, TopicDef, TopicName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Result, WireError};
use crate::phase::Phase;
use crate::settings::Settings;
use crate::sql::prepared::PreparedStatements;

/// What every call works with. All of it is cheap to clone; this is shared so that a call holds one pointer.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) queries: QueryEngine,
    pub(crate) topics: Topics,
    pub(crate) tables: Tables,
    pub(crate) env: Env,
    pub(crate) settings: Settings,
    pub(crate) prepared: PreparedStatements,
    pub(crate) phase: watch::Receiver<Phase>,
    /// Cancelled when the server begins to drain.
    pub(crate) drain: CancellationToken,
}

impl Shared {
    /// A topic by name. Errors: `NotFound`, with names that are near.
    pub(crate) fn topic(&self, tenant: &TenantName, name: &TopicName) -> Result<Arc<TopicDef>> {
        self.topics.get(tenant, name).ok_or_else(|| {
            let topics = self.topics.list(tenant);
            let near = near(name.as_str(), topics.iter().map(|topic| topic.name.as_str()));
            let hint = match (near.is_empty(), topics.is_empty()) {
                (false, _) => format!("did you mean {}?", near.join(", ")),
                (true, true) => "there are no topics yet: make one with the action create-topic".to_owned(),
                (true, false) => "the action list-topics names those that are there".to_owned(),
            };
            WireError::new(ErrorKind::NotFound, format!("no topic {name}; {hint}"))
        })
    }
}

/// What calls under way are told when the server drains.
pub(crate) fn draining() -> WireError {
    WireError::new(ErrorKind::Unavailable, "the server is draining: connect again, here or to the lane's next owner")
}

/// Up to three of `names` that `wanted` may have meant, the nearest first.
fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let allowed = 1 + wanted.len() / 4;
    let mut found: Vec<(usize, &str)> = names
        .map(|name| if name.starts_with(wanted) { (0, name) } else { (edits(wanted, name), name) })
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Levenshtein distance in bytes; names are ASCII and at most [`schemas::limits::NAME_BYTES_MAX`] long.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_the_one_that_was_meant() {
        let names = ["orders", "orders_dead", "kafka", "flights"];
        assert_eq!(near("order", names.into_iter()), ["orders", "orders_dead"]);
        assert_eq!(near("kafak", names.into_iter()), ["kafka"]);
        assert_eq!(near("invoices", names.into_iter()), Vec::<&str>::new());
        assert_eq!((edits("", "abc"), edits("abc", "abc"), edits("kitten", "sitting")), (3, 0, 3));
    }
}
