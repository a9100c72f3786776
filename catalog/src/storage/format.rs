//! `firn.json`: which versions of Firn may read and write the store.

use object_store::path::Path;
use schemas::ErrorKind;
use serde::{Deserialize, Serialize};

use super::{Store, Swap};
use crate::error::{CatalogError, Result};

/// The store format that this Firn reads and writes.
const FORMAT: u32 = 1;
const FIRN_JSON: &str = "firn.json";

/// The document.
#[derive(Debug, Serialize, Deserialize)]
struct Format {
    /// The lowest format that a process must know to read the store.
    least_reader: u32,
    /// The lowest format that a process must know to write to it.
    least_writer: u32,
    /// How many lanes there are. Never falls: topics stay in the lane that they were made in.
    #[serde(default = "one")]
    lanes: u32,
    /// What a newer Firn added.
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

fn one() -> u32 {
    1
}

/// Makes the register unless it is there; refuses a store that needs a newer Firn. Idempotent.
pub(super) async fn claim(store: &Store) -> Result<()> {
    let path = Path::from(FIRN_JSON);
    let initial = Format { least_reader: FORMAT, least_writer: FORMAT, lanes: 1, unknown: Default::default() };
    loop {
        if let Some(found) = store.read_register(&path).await? {
            return check(store, &found.content);
        }
        let content = serde_json::to_vec(&initial).expect("two numbers are JSON").into();
        if let Swap::Won(_) = store.swap_register(&path, None, content).await? {
            return Ok(());
        }
    }
}

/// How many lanes there are, at least `wanted` from now on.
pub(super) async fn lanes(store: &Store, wanted: u32) -> Result<u32> {
    let path = Path::from(FIRN_JSON);
    loop {
        let Some(found) = store.read_register(&path).await? else {
            let message = format!("{}: it has vanished", store.uri(&path));
            return Err(CatalogError::new(ErrorKind::Unavailable, message));
        };
        let mut format = parse(store, &found.content)?;
        if format.lanes >= wanted {
            return Ok(format.lanes);
        }
        format.lanes = wanted;
        let content = serde_json::to_vec(&format).expect("plain data is JSON").into();
        if let Swap::Won(_) = store.swap_register(&path, Some(&found.tag), content).await? {
            return Ok(wanted);
        }
    }
}

/// Refuses a place where there is no store, or one that needs a newer Firn.
pub(super) async fn look(store: &Store) -> Result<()> {
    let path = Path::from(FIRN_JSON);
    match store.read_register(&path).await? {
        Some(found) => check(store, &found.content),
        None => {
            let message = format!("{}: expected a store of Firn's, found none", store.uri(&path));
            Err(CatalogError::new(ErrorKind::NotFound, message))
        }
    }
}

fn check(store: &Store, content: &[u8]) -> Result<()> {
    let format = parse(store, content)?;
    let needed = format.least_reader.max(format.least_writer);
    if needed <= FORMAT {
        return Ok(());
    }
    let message = format!(
        "{}: the store needs a Firn that knows format {needed}, this one knows {FORMAT}: use a newer Firn",
        store.uri(&Path::from(FIRN_JSON))
    );
    Err(CatalogError::new(ErrorKind::Invalid, message))
}

fn parse(store: &Store, content: &[u8]) -> Result<Format> {
    serde_json::from_slice(content).map_err(|error| {
        let place = store.uri(&Path::from(FIRN_JSON));
        let message = format!("{place}: expected the store's least reader and writer versions");
        CatalogError::new(ErrorKind::Corrupt, message).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::storage::StoreConfig;

    async fn open(root: &tempfile::TempDir) -> Result<Store> {
        Store::open(&StoreConfig::at(root.path().to_str().expect("a path")), Env::system()).await
    }

    async fn swap(store: &Store, content: &'static str) {
        let path = Path::from(FIRN_JSON);
        let revision = store.read_register(&path).await.expect("readable").expect("there");
        let swapped = store.swap_register(&path, Some(&revision.tag), content.into()).await.expect("an answer");
        assert!(matches!(swapped, Swap::Won(_)));
    }

    /// Every Firn that will ever be reads this first: if it cannot, a newer store is written to by an older process.
    #[tokio::test]
    async fn the_document_stays_what_it_is_and_a_newer_one_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let store = open(&root).await.expect("a store");
        let content = async |store: &Store| store.read_register(&Path::from(FIRN_JSON)).await.expect("readable");
        let first = content(&store).await.expect("there");
        assert_eq!(&first.content[..], br#"{"least_reader":1,"least_writer":1,"lanes":1}"#);

        swap(&store, r#"{"least_reader":1,"least_writer":1,"later":[1]}"#).await;
        assert_eq!(lanes(&open(&root).await.expect("a store"), 4).await.expect("an answer"), 4);
        let again = content(&store).await.expect("there");
        assert_eq!(&again.content[..], br#"{"least_reader":1,"least_writer":1,"lanes":4,"later":[1]}"#);

        swap(&store, r#"{"least_reader":1,"least_writer":2}"#).await;
        let error = open(&root).await.expect_err("it needs a newer Firn");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("format 2"), "{error}");
    }
}
