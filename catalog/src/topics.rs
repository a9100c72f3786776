//! Which topics there are: their registers, and what this process knows of them.

use std::sync::Arc;

use schemas::{TenantId, TenantName, TopicDef, TopicId, TopicName};
use tokio::sync::watch;

use crate::env::Env;
use crate::error::Result;
use crate::storage::Store;

/// The topics of every tenant as this process knows them, and their registers. Cheap to clone.
///
/// The lane's records are the truth (they come first); this is what follows them, and where readers look names up.
#[derive(Clone, Debug)]
pub struct Topics {
    store: Store,
}

impl Topics {
    /// Knows nothing yet.
    pub fn new(store: Store, env: Env) -> Self {
        let _ = env;
        Self { store }
    }

    /// The tenant of this name, made if it is absent: one register, one put.
    pub async fn ensure_tenant(&self, name: &TenantName) -> Result<TenantId> {
        let _ = name;
        unimplemented!()
    }

    /// A topic by name, from memory.
    pub fn get(&self, tenant: &TenantName, name: &TopicName) -> Option<Arc<TopicDef>> {
        let _ = (tenant, name);
        unimplemented!()
    }

    /// All topics of a tenant by name, from memory.
    pub fn list(&self, tenant: &TenantName) -> Vec<Arc<TopicDef>> {
        let _ = tenant;
        unimplemented!()
    }

    /// Changes whenever a topic is made, changed or dropped.
    pub fn watch(&self) -> watch::Receiver<u64> {
        unimplemented!()
    }

    /// Step 1 of making a topic: the name's register says `creating` with this definition, unless another holds the name.
    ///
    /// Returns the definition that holds the name now: the caller's if it won (or had won before). Errors: `Conflict` if a live topic has the name.
    pub async fn reserve(&self, tenant: &TenantName, def: TopicDef) -> Result<TopicDef> {
        let _ = (tenant, def);
        unimplemented!()
    }

    /// Step 3, after the lane's record: the register says `live`. Idempotent. Also after a definition has changed.
    pub async fn confirm(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        let _ = (tenant, def);
        unimplemented!()
    }

    /// After the lane's record of a drop: the register says so, and the name is free. Idempotent; leaves a newer topic of the same name alone.
    pub async fn release(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        let _ = (tenant, def);
        unimplemented!()
    }

    /// What the lane's records say: readers see it from now on.
    pub fn publish(&self, tenant: &TenantName, def: Arc<TopicDef>) {
        let _ = (tenant, def);
        unimplemented!()
    }

    /// The lane dropped it: readers no longer see it.
    pub fn retract(&self, tenant: &TenantName, topic: &TopicId) {
        let _ = (tenant, topic);
        unimplemented!()
    }

    /// The store they lie in.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
