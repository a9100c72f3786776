//! Which topics there are: their registers, and what this process knows of them.
//!
//! ```text
//! {root}/tenants/{tenant}/tenant.json            {"id","name","quotas"}
//! {root}/tenants/{tenant}/topics/{topic}.json    {"state":"creating"|"live"|"dropped","versions":[definition, …]}
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parking_lot::RwLock;
use schemas::{ErrorKind, TenantId, TenantName, TopicDef, TopicId, TopicName, limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::env::Env;
use crate::error::{CatalogError, Result};
use crate::storage::{RevisionTag, Store, Swap};

/// The topics of every tenant as this process knows them, and their registers. Cheap to clone.
///
/// The lane's records are the truth (they come first); this is what follows them, and where readers look names up.
#[derive(Clone, Debug)]
pub struct Topics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    env: Env,
    known: RwLock<HashMap<TenantName, BTreeMap<TopicName, Arc<TopicDef>>>>,
    generation: watch::Sender<u64>,
}

/// A tenant's register.
#[derive(Debug, Serialize, Deserialize)]
struct TenantDocument {
    id: TenantId,
    name: TenantName,
    /// Limits by name; none is set yet, and unknown ones are kept.
    #[serde(default)]
    quotas: serde_json::Map<String, serde_json::Value>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// A topic's register.
#[derive(Debug, Serialize, Deserialize)]
struct TopicDocument {
    state: State,
    /// The definition by schema version, the newest last; never empty.
    versions: Vec<TopicDef>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// What a topic's register says of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The name is taken; the lane may not have its record yet.
    Creating,
    /// The lane has its record.
    Live,
    /// The name is free.
    Dropped,
}

impl Topics {
    /// Knows nothing yet.
    pub fn new(store: Store, env: Env) -> Self {
        let (known, generation) = (RwLock::default(), watch::Sender::new(0));
        Self { inner: Arc::new(Inner { store, env, known, generation }) }
    }

    /// The tenant of this name, made if it is absent: one register, one put.
    ///
    /// Errors: those of the store's registers; `Corrupt` if the register is not a tenant's.
    pub async fn ensure_tenant(&self, name: &TenantName) -> Result<TenantId> {
        let path = tenant_path(name);
        loop {
            if let Some((document, _)) = self.read::<TenantDocument>(&path).await? {
                return Ok(document.id);
            }
            let id = TenantId(self.inner.env.uuid());
            let (quotas, unknown) = Default::default();
            let document = TenantDocument { id, name: name.clone(), quotas, unknown };
            if self.swap(&path, None, &document).await? {
                return Ok(id);
            }
        }
    }

    /// A topic by name, from memory.
    pub fn get(&self, tenant: &TenantName, name: &TopicName) -> Option<Arc<TopicDef>> {
        self.inner.known.read().get(tenant)?.get(name).cloned()
    }

    /// All topics of a tenant by name, from memory.
    pub fn list(&self, tenant: &TenantName) -> Vec<Arc<TopicDef>> {
        let known = self.inner.known.read();
        known.get(tenant).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Changes whenever a topic is made, changed or dropped.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.generation.subscribe()
    }

    /// Step 1 of making a topic: the name's register says `creating` with this definition, unless another holds the name.
    ///
    /// Returns the definition that holds the name now: the caller's if it won (or had won before), else that of another who is making it
    /// too, or died at it: whoever comes goes on with that one. Errors: `Conflict` if a live topic has the name; `Overloaded` if
    /// the tenant has as many topics as it may.
    pub async fn reserve(&self, tenant: &TenantName, def: TopicDef) -> Result<TopicDef> {
        let path = topic_path(tenant, &def.name);
        loop {
            let tag = match self.read::<TopicDocument>(&path).await? {
                None => None,
                Some((document, tag)) => match document.state {
                    State::Dropped => Some(tag),
                    State::Creating => return newest(&path, document),
                    State::Live => {
                        let holder = newest(&path, document)?;
                        return if holder.id == def.id { Ok(holder) } else { Err(name_taken(tenant, &holder)) };
                    }
                },
            };
            self.check_count(tenant)?;
            let document = TopicDocument::new(State::Creating, def.clone());
            if self.swap(&path, tag.as_ref(), &document).await? {
                return Ok(def);
            }
        }
    }

    /// Step 3, after the lane's record: the register says `live`. Idempotent. Also after a definition has changed.
    ///
    /// Leaves alone a register that has moved on: a process that slept since the lane's record must not bring a dropped topic back.
    pub async fn confirm(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        self.follow(tenant, &[def]).await
    }

    /// Like [`Self::confirm`] for all versions of a topic that its lane knows, ascending, at least one: those that the register lacks are added to it.
    pub async fn follow(&self, tenant: &TenantName, versions: &[&TopicDef]) -> Result<()> {
        let [first, ..] = versions else { return Ok(()) };
        let path = topic_path(tenant, &first.name);
        loop {
            let (mut document, tag) = match self.read::<TopicDocument>(&path).await? {
                None => (TopicDocument::new(State::Creating, (*first).clone()), None),
                Some((document, tag)) => (document, Some(tag)),
            };
            let mut has_changed = false;
            for def in versions {
                has_changed |= document.confirm(def);
            }
            if !has_changed || self.swap(&path, tag.as_ref(), &document).await? {
                return Ok(());
            }
        }
    }

    /// After the lane's record of a drop: the register says so, and the name is free. Idempotent; leaves a newer topic of the same name alone.
    pub async fn release(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        let path = topic_path(tenant, &def.name);
        while let Some((mut document, tag)) = self.read::<TopicDocument>(&path).await? {
            let released = document.state == State::Dropped || !document.is_of(&def.id);
            document.state = State::Dropped;
            if released || self.swap(&path, Some(&tag), &document).await? {
                break;
            }
        }
        Ok(())
    }

    /// What the lane's records say: readers see it from now on.
    pub fn publish(&self, tenant: &TenantName, def: Arc<TopicDef>) {
        let mut known = self.inner.known.write();
        let topics = known.entry(tenant.clone()).or_default();
        // Who is late with an older version must not take readers back.
        if topics.get(&def.name).is_none_or(|known| known.id != def.id || known.version <= def.version) {
            topics.insert(def.name.clone(), def);
        }
        drop(known);
        self.inner.generation.send_modify(|generation| *generation += 1);
    }

    /// The lane dropped it: readers no longer see it.
    pub fn retract(&self, tenant: &TenantName, topic: &TopicId) {
        if let Some(topics) = self.inner.known.write().get_mut(tenant) {
            topics.retain(|_, def| def.id != *topic);
        }
        self.inner.generation.send_modify(|generation| *generation += 1);
    }

    /// Like [`Self::retract`], of whatever tenant it is.
    pub fn forget(&self, topic: &TopicId) {
        let mut known = self.inner.known.write();
        known.values_mut().for_each(|topics| topics.retain(|_, def| def.id != *topic));
        drop(known);
        self.inner.generation.send_modify(|generation| *generation += 1);
    }

    /// The store they lie in.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What a topic's register says now, and its newest definition. `None` if there never was a topic of this name.
    ///
    /// Errors: `Corrupt` if the register is not a topic's; those of the store.
    pub async fn registered(&self, tenant: &TenantName, name: &TopicName) -> Result<Option<(State, TopicDef)>> {
        let path = topic_path(tenant, name);
        let Some((document, _)) = self.read::<TopicDocument>(&path).await? else { return Ok(None) };
        Ok(Some((document.state, newest(&path, document)?)))
    }

    /// The versions of a topic's schema that its register has, ascending; none if the name is another's by now.
    ///
    /// Errors: as for [`Self::registered`].
    pub async fn versions(&self, tenant: &TenantName, def: &TopicDef) -> Result<Vec<TopicDef>> {
        let found = self.read::<TopicDocument>(&topic_path(tenant, &def.name)).await?;
        let versions = found.map_or_else(Vec::new, |(document, _)| document.versions);
        Ok(versions.into_iter().filter(|known| known.id == def.id).collect())
    }

    /// Names of the topics that have a register, of every tenant: as a listing shows them, so only a hint.
    ///
    /// Errors: `Unavailable`.
    pub async fn names(&self) -> Result<Vec<(TenantName, TopicName)>> {
        let mut found = Vec::new();
        for tenant in self.children(&Path::from("tenants")).await? {
            let Ok(tenant) = TenantName::new(tenant) else { continue };
            for topic in self.children(&Path::from_iter(["tenants", tenant.as_str(), "topics"])).await? {
                let name = topic.strip_suffix(".json").and_then(|name| TopicName::new(name).ok());
                found.extend(name.map(|name| (tenant.clone(), name)));
            }
        }
        Ok(found)
    }

    /// Names of what lies in a folder: objects, folders, registers (which are either).
    async fn children(&self, folder: &Path) -> Result<Vec<String>> {
        let listed = self.inner.store.objects().list_with_delimiter(Some(folder)).await.map_err(|error| {
            CatalogError::new(ErrorKind::Unavailable, format!("{folder} cannot be listed")).caused_by(error)
        })?;
        let objects = listed.objects.into_iter().map(|object| object.location);
        let paths = listed.common_prefixes.into_iter().chain(objects);
        Ok(paths.filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    fn check_count(&self, tenant: &TenantName) -> Result<()> {
        let count = self.inner.known.read().get(tenant).map_or(0, BTreeMap::len);
        if count < limits::TOPICS_MAX {
            return Ok(());
        }
        let message = format!("tenant {tenant} has {count} topics, as many as it may: drop one first");
        Err(CatalogError::new(ErrorKind::Overloaded, message))
    }

    async fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<(T, RevisionTag)>> {
        let Some(revision) = self.inner.store.read_register(path).await? else { return Ok(None) };
        let document = serde_json::from_slice(&revision.content).map_err(|error| corrupt(path).caused_by(error))?;
        Ok(Some((document, revision.tag)))
    }

    /// True if it won.
    async fn swap(&self, path: &Path, expected: Option<&RevisionTag>, document: &impl Serialize) -> Result<bool> {
        let content = serde_json::to_vec(document).map_err(|error| {
            CatalogError::new(ErrorKind::Internal, format!("register {path} cannot be written as JSON"))
                .caused_by(error)
        })?;
        let swap = self.inner.store.swap_register(path, expected, Bytes::from(content)).await?;
        Ok(matches!(swap, Swap::Won(_)))
    }
}

impl TopicDocument {
    fn new(state: State, def: TopicDef) -> Self {
        Self { state, versions: vec![def], unknown: Default::default() }
    }

    fn is_of(&self, topic: &TopicId) -> bool {
        self.versions.last().is_some_and(|def| def.id == *topic)
    }

    /// Makes it say that `def` is live. False if there is nothing to change: it does, or it has moved on.
    fn confirm(&mut self, def: &TopicDef) -> bool {
        let newest = self.versions.last().map_or(0, |newest| newest.version);
        if self.state == State::Dropped || !self.is_of(&def.id) || (self.state == State::Live && newest >= def.version)
        {
            return false;
        }
        self.state = State::Live;
        if newest < def.version {
            self.versions.push(def.clone());
        }
        true
    }
}

/// For the fuzzer: the registers of tenants and topics lose nothing when they are written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_documents(data: &[u8]) {
    fn again<T: Serialize + DeserializeOwned>(data: &[u8]) {
        let Ok(document) = serde_json::from_slice::<T>(data) else { return };
        let written = serde_json::to_value(&document).expect("a document is JSON");
        let read: T = serde_json::from_value(written.clone()).expect("what was written is read");
        assert_eq!(serde_json::to_value(&read).expect("a document is JSON"), written);
    }
    again::<TenantDocument>(data);
    again::<TopicDocument>(data);
}

fn tenant_path(tenant: &TenantName) -> Path {
    Path::from_iter(["tenants", tenant.as_str(), "tenant.json"])
}

fn topic_path(tenant: &TenantName, topic: &TopicName) -> Path {
    Path::from_iter(["tenants", tenant.as_str(), "topics", &format!("{topic}.json")])
}

fn newest(path: &Path, mut document: TopicDocument) -> Result<TopicDef> {
    document.versions.pop().ok_or_else(|| corrupt(path))
}

fn name_taken(tenant: &TenantName, holder: &TopicDef) -> CatalogError {
    let message = format!("topic {}.{} exists already; drop it first, or choose another name", tenant, holder.name);
    CatalogError::new(ErrorKind::Conflict, message)
}

fn corrupt(path: &Path) -> CatalogError {
    CatalogError::new(ErrorKind::Corrupt, format!("register {path} is not what Firn writes there"))
}

#[cfg(test)]
mod tests;
