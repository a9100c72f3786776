//! The register of a tenant's names: which namespaces there are, and which tables and views are in them.
//!
//! ```text
//! {root}/tenants/{tenant}/catalog.json    {"format":1,"version":7,"namespaces":{"sales":{"properties":{…},"tables":{"eu":{"id","location"}},"views":{}}},…}
//! ```
//!
//! One register, so that making, dropping and renaming are one swap each: a name is never in two places, nor in none, whatever crashes. It changes when names
//! do; a commit to a table changes that table's own register ([`super::head`]) alone. Topics are not in it: their names are registers of their own.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use object_store::path::Path;
use schemas::{ErrorKind, TenantName, limits};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RestCatalog;
use super::names::{Ident, Namespace};
use super::pace::Pause;
use super::reply::{Refusal, Result};
use crate::error::CatalogError;
use crate::storage::{RevisionTag, Swap};

/// Version of the document that this code writes.
const FORMAT: u32 = 1;
/// Changes that a register remembers having had: a request that was sent again finds itself among them.
pub(super) const RECENT_MAX: usize = 64;

/// `tenants/{tenant}/catalog.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Directory {
    format: u32,
    /// Counts the changes of this register.
    pub(super) version: u64,
    /// By their levels, with a unit separator between.
    pub(super) namespaces: BTreeMap<String, Held>,
    /// Tables that were dropped, whose files are still to be removed.
    #[serde(default)]
    pub(super) purging: Vec<Purging>,
    /// The newest changes by the identity of their requests.
    #[serde(default)]
    recent: VecDeque<Uuid>,
    /// What a newer version of Firn added.
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) tables: BTreeMap<String, Entry>,
    #[serde(default)]
    pub(super) views: BTreeMap<String, Entry>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Names its register, and the folder of its metadata. Never given out twice: a table that is registered again has another.
    pub(super) id: Uuid,
}

/// Files to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Purging {
    pub(super) id: Uuid,
    /// Full URI of the last metadata.
    pub(super) metadata: String,
}

/// Which of the two kinds a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
}

impl Default for Directory {
    fn default() -> Self {
        let (namespaces, purging, recent, unknown) = Default::default();
        Self { format: FORMAT, version: 0, namespaces, purging, recent, unknown }
    }
}

impl Held {
    fn names(&self, kind: Kind) -> &BTreeMap<String, Entry> {
        match kind {
            Kind::Table => &self.tables,
            Kind::View => &self.views,
        }
    }

    fn names_mut(&mut self, kind: Kind) -> &mut BTreeMap<String, Entry> {
        match kind {
            Kind::Table => &mut self.tables,
            Kind::View => &mut self.views,
        }
    }
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "Table",
            Self::View => "View",
        }
    }

    pub(super) fn absent(self, ident: &Ident) -> Refusal {
        match self {
            Self::Table => Refusal::no_table(ident),
            Self::View => Refusal::no_view(ident),
        }
    }
}

impl Directory {
    pub(super) fn path(tenant: &TenantName) -> Path {
        Path::from_iter(["tenants", tenant.as_str(), "catalog.json"])
    }

    /// Errors: 404.
    pub(super) fn namespace(&self, namespace: &Namespace) -> Result<&Held> {
        self.namespaces.get(&namespace.key()).ok_or_else(|| Refusal::no_namespace(namespace))
    }

    /// Errors: 404.
    pub(super) fn namespace_mut(&mut self, namespace: &Namespace) -> Result<&mut Held> {
        self.namespaces.get_mut(&namespace.key()).ok_or_else(|| Refusal::no_namespace(namespace))
    }

    /// Errors: 404 for the namespace or the name.
    pub(super) fn entry(&self, kind: Kind, ident: &Ident) -> Result<Entry> {
        let found = self.namespaces.get(&ident.namespace.key()).and_then(|held| held.names(kind).get(&ident.name));
        found.copied().ok_or_else(|| kind.absent(ident))
    }

    /// What has a name, if anything. Errors: 404 for the namespace.
    pub(super) fn holder(&self, ident: &Ident) -> Result<Option<Kind>> {
        let held = self.namespace(&ident.namespace)?;
        Ok([Kind::Table, Kind::View].into_iter().find(|kind| held.names(*kind).contains_key(&ident.name)))
    }

    /// Errors: 404 for the namespace; 409 if a table or a view has the name; 400 if there are too many.
    pub(super) fn check_free(&self, kind: Kind, ident: &Ident) -> Result<()> {
        match self.holder(ident)? {
            Some(holder) if holder == kind => return Err(Refusal::exists(kind.name(), ident)),
            Some(holder) => return Err(Refusal::exists(&format!("{} with same name", holder.name()), ident)),
            None => {}
        }
        let count: usize = self.namespaces.values().map(|held| held.tables.len() + held.views.len()).sum();
        match count < limits::OPEN_TABLES_MAX {
            true => Ok(()),
            false => {
                Err(Refusal::bad_request(format!("there are {count} tables and views, as many as may be: drop one")))
            }
        }
    }

    /// Errors: those of [`Self::check_free`].
    pub(super) fn insert(&mut self, kind: Kind, ident: &Ident, entry: Entry) -> Result<()> {
        self.check_free(kind, ident)?;
        self.namespace_mut(&ident.namespace)?.names_mut(kind).insert(ident.name.clone(), entry);
        Ok(())
    }

    /// Errors: 404.
    pub(super) fn remove(&mut self, kind: Kind, ident: &Ident) -> Result<Entry> {
        let held = self.namespaces.get_mut(&ident.namespace.key());
        held.and_then(|held| held.names_mut(kind).remove(&ident.name)).ok_or_else(|| kind.absent(ident))
    }

    /// Whether the change of this identity is among the newest.
    pub(super) fn has_had(&self, change: Uuid) -> bool {
        self.recent.contains(&change)
    }
}

/// The newest identities, with one more.
pub(super) fn remember(recent: &mut VecDeque<Uuid>, change: Uuid) {
    if recent.len() >= RECENT_MAX {
        recent.pop_front();
    }
    recent.push_back(change);
}

impl RestCatalog {
    /// The names of a tenant now.
    pub(super) async fn directory(&self, tenant: &TenantName) -> Result<Directory> {
        Ok(self.read_directory(tenant).await?.0)
    }

    async fn read_directory(&self, tenant: &TenantName) -> crate::Result<(Directory, Option<RevisionTag>)> {
        let path = Directory::path(tenant);
        let Some(revision) = self.store().read_register(&path).await? else { return Ok((Directory::default(), None)) };
        let document = serde_json::from_slice(&revision.content).map_err(|error| {
            CatalogError::new(ErrorKind::Corrupt, format!("register {path} should hold a tenant's namespaces"))
                .caused_by(error)
        })?;
        Ok((document, Some(revision.tag)))
    }

    /// Changes the names by one swap, deciding anew from every state that is found. `change` is the identity of the request: `None` if it is there already.
    ///
    /// Errors: those of `edit`, after which nothing has happened; 500 if it may have.
    pub(super) async fn change_directory<T>(
        &self,
        tenant: &TenantName,
        change: Uuid,
        edit: impl Fn(&mut Directory) -> Result<T>,
    ) -> Result<Option<T>> {
        let path = Directory::path(tenant);
        let mut pause = Pause::new(self.env());
        let mut tried = None;
        loop {
            let (mut directory, tag) = self.read_directory(tenant).await?;
            if directory.has_had(change) {
                return Ok(None);
            }
            if tried.is_some_and(|tried: u64| directory.version.saturating_sub(tried) >= RECENT_MAX as u64) {
                return Err(Refusal::unknown(
                    "so many names have changed since that it cannot be told whether this one has",
                ));
            }
            let edited = edit(&mut directory)?;
            directory.version += 1;
            remember(&mut directory.recent, change);
            let content = Bytes::from(serde_json::to_vec(&directory).expect("a directory is JSON"));
            if content.len() > limits::DIRECTORY_BYTES_MAX {
                let most = limits::DIRECTORY_BYTES_MAX;
                return Err(Refusal::bad_request(format!(
                    "names and properties of all namespaces take at most {most} bytes"
                )));
            }
            match self.store().swap_register(&path, tag.as_ref(), content).await {
                Ok(Swap::Won(_)) => return Ok(Some(edited)),
                // Lost may be an own success that another change has followed.
                Ok(Swap::Lost) => tried = tried.or(Some(directory.version)),
                Err(error) => return Err(error.into()),
            }
            pause.before_another("the names of a catalog").await?;
        }
    }
}

/// For the fuzzer: the register loses nothing when it is written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_directory(data: &[u8]) {
    if let Ok(directory) = serde_json::from_slice::<Directory>(data) {
        let written = serde_json::to_vec(&directory).expect("a directory is JSON");
        assert_eq!(serde_json::from_slice::<Directory>(&written).ok(), Some(directory));
    }
}
