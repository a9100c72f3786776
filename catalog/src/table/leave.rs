//! Removing the files of a table whose topic was dropped (P7).
//!
//! Nothing under the folder of a topic's identity can ever be wanted again: identities are not given out twice, and a flush that slept since before the
//! drop finds a pointer that has moved on. What it still puts there is litter, which the next look finds.

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use schemas::{ErrorKind, TenantName, TopicDef};

use super::Tables;
use super::pointer::Pointer;
use crate::error::{CatalogError, Result};

/// Most files that one step removes: a page of a listing, and one request that deletes.
pub const REMOVED_AT_ONCE_MAX: usize = 1_000;

impl Tables {
    /// Removes up to [`REMOVED_AT_ONCE_MAX`] files of a dropped topic's table, and says how many; 0: none was left. For who knows that the topic is durably
    /// dropped, and that nobody can be reading its files any more. Idempotent; safe by anyone, however late.
    ///
    /// Errors: `Conflict` if the table's register still names it: nothing is removed; those of the store.
    pub async fn remove_dropped(&self, tenant: &TenantName, def: &TopicDef) -> Result<usize> {
        let store = self.store();
        let pinned = self.shared.read_pointer(&Pointer::path(tenant, &def.name)).await?;
        if pinned.is_some_and(|pinned| pinned.pointer.topic == def.id && pinned.pointer.metadata.is_some()) {
            let message =
                format!("topic {} ({}): its table's register still names it, so its files stay", def.name, def.id);
            return Err(CatalogError::new(ErrorKind::Conflict, message));
        }
        let folder = Path::from(format!("warehouse/{}/{}", def.tenant, def.id));
        let failed = |error: object_store::Error| {
            let message = format!("files under {folder} cannot be removed yet");
            CatalogError::new(ErrorKind::Unavailable, message).caused_by(error)
        };
        let listed = store.objects().list(Some(&folder)).take(REMOVED_AT_ONCE_MAX);
        let found: Vec<Path> = listed.map_ok(|object| object.location).try_collect().await.map_err(failed)?;
        let count = found.len();
        if count == 0 {
            store.remove_empty(&folder).await.map_err(failed)?;
            return Ok(0);
        }
        let mut removed = store.objects().delete_stream(futures::stream::iter(found).map(Ok).boxed());
        while let Some(answer) = removed.next().await {
            match answer {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::{Seq, Watermark};

    use super::super::testing::{events, flush, open, orders, tenant};
    use super::*;
    use crate::env::Env;
    use crate::storage::Store;
    use crate::storage::faults::gated;

    /// Puts of one flush: data file, manifest, manifest list, metadata, pointer.
    const PUTS: usize = 5;

    async fn made(store: &Store, def: &TopicDef) -> Tables {
        let tables = Tables::new(store.clone(), Env::system());
        tables.ensure(&tenant(), def).await.unwrap();
        tables
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_dropped_table_on_a_local_folder_and_a_live_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new, tables) = (orders(), orders(), open(folder.path()).await);
        tables.ensure(&tenant(), &old).await.unwrap();
        flush(&tables, &old, 1, &[events(&old, 1, &[("a", "eu")])]).await.unwrap();
        assert_eq!(tables.remove_dropped(&tenant(), &old).await.unwrap_err().kind(), ErrorKind::Conflict);
        tables.load(&old).await.unwrap();
        tables.drop_table(&tenant(), &old).await.unwrap();
        tables.ensure(&tenant(), &new).await.unwrap();
        flush(&tables, &new, 1, &[events(&new, 1, &[("a", "eu")])]).await.unwrap();

        let place = |def: &TopicDef| folder.path().join(format!("warehouse/{}/{}", def.tenant, def.id));
        assert!(tables.remove_dropped(&tenant(), &old).await.unwrap() >= PUTS - 1);
        assert_eq!(tables.remove_dropped(&tenant(), &old).await.unwrap(), 0);
        assert_eq!(tables.remove_dropped(&tenant(), &old).await.unwrap(), 0, "and again");
        assert!(!place(&old).exists() && place(&new).exists());
        assert_eq!(tables.load(&new).await.unwrap().files().await.unwrap().files().len(), 1);
    }

    #[tokio::test]
    async fn a_flush_that_slept_through_the_drop_and_the_removal_commits_nothing_and_its_litter_is_found() {
        for put in 1..=PUTS {
            let (slow, store, gate) = gated();
            let (old, new) = (Arc::new(orders()), orders());
            let tables = made(&store, &old).await;
            flush(&tables, &old, 1, &[events(&old, 1, &[("a", "eu")])]).await.unwrap();
            let sleeper = made(&slow, &old).await;
            let rows = [events(&old, 2, &[("c", "eu")])];
            let task = tokio::spawn({
                let old = Arc::clone(&old);
                async move { flush(&sleeper, &old, 2, &rows).await }
            });
            gate.open(put - 1);
            gate.arrived(put).await;
            tables.drop_table(&tenant(), &old).await.unwrap();
            tables.ensure(&tenant(), &new).await.unwrap();
            while tables.remove_dropped(&tenant(), &old).await.unwrap() > 0 {}

            gate.open(100);
            task.await.unwrap().unwrap_err();
            let litter = tables.remove_dropped(&tenant(), &old).await.unwrap();
            assert_eq!(litter > 0, put < PUTS, "what was put late");
            assert_eq!(tables.remove_dropped(&tenant(), &old).await.unwrap(), 0);
            assert_eq!(tables.load(&new).await.unwrap().watermark(), Watermark(Seq(1)), "the new table is untouched");
        }
    }
}
