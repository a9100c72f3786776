//! Whether what others have committed since the last flush only rearranged the table's rows (P8), told by the manifests and not by the label.
//!
//! External engines may compact and expire. A snapshot of theirs on top of the last flush is taken if, file by file, it removes only files that were live,
//! and as many records as it adds; and the table as a whole has as many as were flushed, less what retention took. That the records are the *same* cannot
//! be told without reading them: `firn verify` does.

use std::collections::BTreeMap;

use iceberg::spec::{ManifestContentType, Snapshot};
use schemas::ErrorKind;

use super::properties;
use super::state::TableState;
use super::verify::{ancestors, number};
use crate::error::{CatalogError, Result};

/// The live data files of a snapshot by their paths, and their records.
type Live = BTreeMap<String, u64>;

impl TableState {
    /// Errors: `Conflict`, saying what, if another engine has appended, deleted or overwritten; those of reading manifests. Looks at most once, and not at all
    /// if the newest snapshot is a flush's.
    pub(super) async fn check_foreign(&self) -> Result<()> {
        self.foreign_checked.get_or_try_init(|| self.compare_foreign()).await.copied()
    }

    async fn compare_foreign(&self) -> Result<()> {
        let Some(newest) = self.metadata().current_snapshot().filter(|newest| !is_flush(newest)) else { return Ok(()) };
        let mut chain = ancestors(self.metadata());
        let (mut child, first) = (chain.next().unwrap_or(newest), self.live(newest).await?);
        let total: u64 = first.values().sum();
        let mut after = first;
        for parent in chain {
            let before = self.live(parent).await?;
            replaces(&before, &after).map_err(|what| self.not_a_replace(child, &what))?;
            if is_flush(parent) {
                break;
            }
            (child, after) = (parent, before);
        }
        let removed = match self.metadata().properties().contains_key(properties::REMOVED_ROWS) {
            true => number(self.metadata(), properties::REMOVED_ROWS, self.name())?,
            false => 0,
        };
        let expected = self.watermark().0.0 - 1 - removed;
        match u64::try_from(expected) == Ok(total) {
            true => Ok(()),
            false => Err(self.not_a_replace(newest, &format!("expected {expected} records in all, found {total}"))),
        }
    }

    /// Whether `next`, a snapshot of another engine that is to follow the current one, only rearranges its rows. Returns how many there are.
    ///
    /// Errors: `Conflict`, saying what, if it does more; those of reading manifests.
    pub(super) async fn check_replace(&self, next: &Snapshot) -> Result<u64> {
        let before = match self.metadata().current_snapshot() {
            Some(current) => self.live(current).await?,
            None => Live::new(),
        };
        let after = self.live(next).await?;
        replaces(&before, &after).map_err(|what| self.not_a_replace(next, &what))?;
        Ok(after.values().sum())
    }

    /// Errors: `Conflict` if there are delete files among them.
    async fn live(&self, snapshot: &Snapshot) -> Result<Live> {
        let mut live = Live::new();
        for manifest in &self.manifests_of(snapshot).await? {
            if !manifest.has_added_files() && !manifest.has_existing_files() {
                continue;
            }
            if manifest.content == ManifestContentType::Deletes {
                let what = format!("manifest {} lists delete files", manifest.manifest_path);
                return Err(self.not_a_replace(snapshot, &what));
            }
            let entries = self.shared().entries(manifest).await?;
            for file in entries.iter().filter(|entry| entry.is_alive()).map(|entry| entry.data_file()) {
                if live.insert(file.file_path().to_owned(), file.record_count()).is_some() {
                    let what = format!("file {} is listed twice", file.file_path());
                    return Err(self.not_a_replace(snapshot, &what));
                }
            }
        }
        Ok(live)
    }

    fn not_a_replace(&self, snapshot: &Snapshot, what: &str) -> CatalogError {
        let message = format!(
            "table {}: snapshot {} of another engine does more than rearrange the rows: {what}; others may compact and expire, the way in is Firn",
            self.name(),
            snapshot.snapshot_id()
        );
        CatalogError::new(ErrorKind::Conflict, message)
    }
}

fn is_flush(snapshot: &Snapshot) -> bool {
    snapshot.summary().additional_properties.contains_key(properties::COMMIT)
}

/// What a snapshot made of its parent, `before`: as many records added as removed, no file that it keeps altered. Errors: what is not so, in words.
fn replaces(before: &Live, after: &Live) -> std::result::Result<(), String> {
    if let Some((path, records)) =
        after.iter().find(|(path, records)| before.get(*path).is_some_and(|had| had != *records))
    {
        return Err(format!("file {path} had other than its {records} records before"));
    }
    let missing_from = |other: &Live, live: &Live| -> u64 {
        live.iter().filter(|(path, _)| !other.contains_key(*path)).map(|(_, records)| records).sum()
    };
    let (removed, added) = (missing_from(after, before), missing_from(before, after));
    match removed == added {
        true => Ok(()),
        false => Err(format!("it removes {removed} records and adds {added}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn live(files: &[(&str, u64)]) -> Live {
        files.iter().map(|(path, records)| ((*path).to_owned(), *records)).collect()
    }

    #[test]
    fn a_compaction_is_taken_and_anything_else_is_named() {
        let before = live(&[("a", 3), ("b", 4), ("c", 5)]);
        assert_eq!(replaces(&before, &live(&[("ab", 7), ("c", 5)])), Ok(()));
        assert_eq!(replaces(&before, &before), Ok(()));
        let told = |after: &[(&str, u64)]| replaces(&before, &live(after)).unwrap_err();
        assert_eq!(told(&[("ab", 8), ("c", 5)]), "it removes 7 records and adds 8");
        assert_eq!(told(&[("b", 4), ("c", 5)]), "it removes 3 records and adds 0");
        assert_eq!(told(&[("a", 3), ("b", 4), ("c", 5), ("d", 1)]), "it removes 0 records and adds 1");
        assert_eq!(told(&[("a", 4), ("b", 3), ("c", 5)]), "file a had other than its 4 records before");
    }

    proptest! {
        #[test]
        fn what_is_taken_keeps_the_number_of_records(
            before in prop::collection::btree_map("[a-d]", 0..4u64, 0..4), after in prop::collection::btree_map("[a-d]", 0..4u64, 0..4)
        ) {
            if replaces(&before, &after).is_ok() {
                prop_assert_eq!(before.values().sum::<u64>(), after.values().sum::<u64>());
            }
        }
    }
}
