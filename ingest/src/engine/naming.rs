//! Making and dropping topics: the name's register, the lane's record, the table, the register again.
//!
//! Whatever the process survives of it, the lane's record decides: with it, recovery finishes the rest; without it, the name can be taken again.

use std::sync::Arc;

use schemas::{ErrorKind, TenantName, TopicDef, TopicId, TopicName, TopicSpec};

use super::{Engine, LANE};
use crate::error::{IngestError, Result};
use crate::sequence::Command;
use crate::validate::Validator;

impl Engine {
    /// Makes a topic: register, lane record, table, confirmation. The same definition again is answered with the topic that is there.
    ///
    /// Errors: `Invalid` naming field or option; `Conflict` if another definition has the name; those of an append.
    pub async fn create_topic(&self, tenant: &TenantName, spec: TopicSpec) -> Result<Arc<TopicDef>> {
        let (engine, tenant) = (self.clone(), tenant.clone());
        to_its_end(async move { engine.create(&tenant, spec).await }).await
    }

    /// Drops a topic: its name is free, its events are gone for readers.
    ///
    /// Errors: `NotFound`; those of an append.
    pub async fn drop_topic(&self, tenant: &TenantName, name: &TopicName) -> Result<()> {
        let (engine, tenant, name) = (self.clone(), tenant.clone(), name.clone());
        to_its_end(async move {
            engine.shared.check_running()?;
            let _turn = engine.shared.naming.lock().await;
            let def = engine.topic(&tenant, &name)?;
            engine.end(&tenant, &def).await?;
            tracing::info!(topic = %name, id = %def.id, "topic dropped");
            Ok(())
        })
        .await
    }

    async fn create(&self, tenant: &TenantName, spec: TopicSpec) -> Result<Arc<TopicDef>> {
        let shared = &self.shared;
        let parts = &shared.core.parts;
        shared.check_running()?;
        let _turn = shared.naming.lock().await;
        let tenant_id = parts.topics.ensure_tenant(tenant).await?;
        let wanted = spec.resolve(TopicId(parts.env.uuid()), tenant_id, LANE)?;
        let validator = Validator::new(Arc::new(wanted.clone()), &*parts.checks)?;
        if let Some(there) = parts.topics.get(tenant, &wanted.name) {
            agree(&there, &wanted)?;
            // An earlier attempt may have ended just before this.
            parts.topics.confirm(tenant, &there).await?;
            return Ok(there);
        }
        let reserved = self.reserve(tenant, &wanted).await?;
        let shape = match reserved.id == wanted.id {
            true => Arc::clone(validator.shape()),
            false => Arc::clone(Validator::new(Arc::new(reserved), &*parts.checks)?.shape()),
        };
        let def = Arc::clone(shape.def());
        shared.ask(|answer| Command::Create { tenant: tenant.clone(), shape, answer }).await?;
        parts.tables.ensure(tenant, &def).await?;
        parts.topics.publish(tenant, Arc::clone(&def));
        parts.topics.confirm(tenant, &def).await?;
        shared.send(Command::Followed { topic: def.id }).await?;
        tracing::info!(topic = %def.name, id = %def.id, "topic created");
        Ok(def)
    }

    /// Reserves the name. An earlier attempt that went no further is taken up if it wanted the same, with the identity that stands in the
    /// register; else it is ended first: only this lane's owner could have gone on with it.
    async fn reserve(&self, tenant: &TenantName, wanted: &TopicDef) -> Result<TopicDef> {
        let topics = &self.shared.core.parts.topics;
        let reserved = topics.reserve(tenant, wanted.clone()).await?;
        if reserved.says_the_same_as(wanted) {
            return Ok(reserved);
        }
        if reserved.lane == LANE {
            self.end(tenant, &reserved).await?;
        }
        let reserved = topics.reserve(tenant, wanted.clone()).await?;
        agree(&reserved, wanted)?;
        Ok(reserved)
    }

    /// Ends a topic, however far it has come: the lane's record first, then all that follows it.
    async fn end(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        let parts = &self.shared.core.parts;
        self.shared.ask(|answer| Command::Drop { topic: def.id, answer }).await?;
        parts.topics.retract(tenant, &def.id);
        parts.tables.drop_table(tenant, def).await?;
        parts.topics.release(tenant, def).await?;
        self.shared.send(Command::Followed { topic: def.id }).await
    }
}

/// Does it even if whoever asked goes away: half of it would wait for the next start.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        Err(IngestError::new(
            ErrorKind::Indeterminate,
            format!("a topic was being made or dropped when the server ended: {error}"),
        ))
    })
}

/// Errors: `Conflict` unless both say the same to a user.
fn agree(there: &TopicDef, wanted: &TopicDef) -> Result<()> {
    if there.says_the_same_as(wanted) {
        return Ok(());
    }
    let message = format!(
        "there is a topic {} already, and it is defined otherwise: expected the same definition, or another name",
        there.name
    );
    Err(IngestError::new(ErrorKind::Conflict, message))
}
