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
}

/// Makes the register unless it is there; refuses a store that needs a newer Firn. Idempotent.
pub(super) async fn claim(store: &Store) -> Result<()> {
    let path = Path::from(FIRN_JSON);
    let initial = Format { least_reader: FORMAT, least_writer: FORMAT };
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

fn check(store: &Store, content: &[u8]) -> Result<()> {
    let place = store.uri(&Path::from(FIRN_JSON));
    let format: Format = serde_json::from_slice(content).map_err(|error| {
        let message = format!("{place}: expected the store's least reader and writer versions");
        CatalogError::new(ErrorKind::Corrupt, message).caused_by(error)
    })?;
    let needed = format.least_reader.max(format.least_writer);
    if needed <= FORMAT {
        return Ok(());
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

    let message = format!(
        "{place}: the store needs a Firn that knows format {needed}, this one knows {FORMAT}: use a newer Firn"
    );
    Err(CatalogError::new(ErrorKind::Invalid, message))
}
