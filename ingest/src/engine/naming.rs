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
        let reserved = parts.topics.reserve(tenant, wanted.clone()).await?;
        agree(&reserved, &wanted)?;
        let shape = match reserved.id == wanted.id {
            true => Arc::clone(validator.shape()),
            // Reserved by an attempt that went no further: its identity stands in the register, so it is taken up.
            false => Arc::clone(Validator::new(Arc::new(reserved), &*parts.checks)?.shape()),
        };
        let def = Arc::clone(shape.def());
        let tenant = tenant.clone();
        let name = tenant.clone();
        shared.ask(|answer| Command::Create { tenant, shape, answer }).await?;
        parts.tables.ensure(&name, &def).await?;
        parts.topics.publish(&name, Arc::clone(&def));
        parts.topics.confirm(&name, &def).await?;
        shared.send(Command::Followed { topic: def.id }).await?;
        tracing::info!(topic = %def.name, id = %def.id, "topic created");
        Ok(def)
    }

    /// Drops a topic: its name is free, its events are gone for readers.
    ///
    /// Errors: `NotFound`; those of an append.
    pub async fn drop_topic(&self, tenant: &TenantName, name: &TopicName) -> Result<()> {
        let shared = &self.shared;
        let parts = &shared.core.parts;
        shared.check_running()?;
        let _turn = shared.naming.lock().await;
        let def = self.topic(tenant, name)?;
        shared.ask(|answer| Command::Drop { topic: def.id, answer }).await?;
        parts.topics.retract(tenant, &def.id);
        parts.tables.drop_table(tenant, &def).await?;
        parts.topics.release(tenant, &def).await?;
        shared.send(Command::Followed { topic: def.id }).await?;
        tracing::info!(topic = %name, id = %def.id, "topic dropped");
        Ok(())
    }
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
