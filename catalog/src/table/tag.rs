//! Naming a snapshot, so that it is kept and can be read by that name whatever comes after it.

use iceberg::spec::{SnapshotReference, SnapshotRetention};
use schemas::{ErrorKind, TopicDef, limits};

use super::outside::references;
use super::{Tables, iceberg_error};
use crate::error::{CatalogError, Result};

/// Commits that others may overtake before a tag is given up for now.
const ATTEMPTS_MAX: u32 = 16;

impl Tables {
    /// Gives the table's current snapshot a name, as Iceberg's tags are. Returns its id. A name that it has already is no error.
    ///
    /// Errors: `Invalid` for a name that none can be; `NotFound` if nothing was flushed yet; `Conflict` if another snapshot has the name; `Overloaded` if there
    /// are as many names as there may be; those of a commit.
    pub async fn tag(&self, def: &TopicDef, name: &str) -> Result<i64> {
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX || name == iceberg::spec::MAIN_BRANCH {
            let message =
                format!("expected a tag of 1 to {} bytes that is not main, found {name:?}", limits::NAME_BYTES_MAX);
            return Err(CatalogError::new(ErrorKind::Invalid, message));
        }
        let commit = self.shared.env.uuid().to_string();
        for _ in 0..ATTEMPTS_MAX {
            let base = self.look(def).await?;
            if let Some(named) = base.metadata().snapshot_for_ref(name) {
                return match Some(named.snapshot_id()) == base.snapshot_id() || base.pinned().pointer.nonce == commit {
                    true => Ok(named.snapshot_id()),
                    false => Err(taken(def, name, named.snapshot_id())),
                };
            }
            let empty = || {
                CatalogError::new(
                    ErrorKind::NotFound,
                    format!("topic {} has no snapshot yet: flush it first", def.name),
                )
            };
            let snapshot_id = base.snapshot_id().ok_or_else(empty)?;
            if references(base.metadata()) >= limits::TOPIC_REFS_MAX {
                return Err(full(def));
            }
            let reference =
                SnapshotReference { snapshot_id, retention: SnapshotRetention::Tag { max_ref_age_ms: None } };
            let builder = base.metadata().as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
            let built = builder.set_ref(name, reference).and_then(|builder| builder.build());
            let built = built.map_err(|error| iceberg_error(base.name(), error))?;
            if self.publish(def, &commit, &base, built).await?.is_some() {
                return Ok(snapshot_id);
            }
        }
        let message = format!("topic {}: {ATTEMPTS_MAX} commits were overtaken by others; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }
}

fn full(def: &TopicDef) -> CatalogError {
    let most = limits::TOPIC_REFS_MAX;
    let message = format!("topic {}: its table has {most} branches and tags, as many as it may: remove some", def.name);
    CatalogError::new(ErrorKind::Overloaded, message)
}

fn taken(def: &TopicDef, name: &str, snapshot: i64) -> CatalogError {
    let message = format!("topic {}: tag {name:?} names snapshot {snapshot} already; choose another name", def.name);
    CatalogError::new(ErrorKind::Conflict, message)
}
