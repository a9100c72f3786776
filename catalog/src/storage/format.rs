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
    let message = format!(
        "{place}: the store needs a Firn that knows format {needed}, this one knows {FORMAT}: use a newer Firn"
    );
    Err(CatalogError::new(ErrorKind::Invalid, message))
}
