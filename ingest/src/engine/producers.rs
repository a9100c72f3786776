//! What a producer, or a writer, asks for before it appends.

use std::sync::Arc;

use schemas::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX};
use schemas::{ErrorKind, TenantName, TopicDef, TopicName};

use super::{Engine, ProducerEpoch, Resume, Shared};
use crate::error::{IngestError, Result};
use crate::sequence::Command;

impl Engine {
    /// Issues a new epoch to a producer of a topic: it fences all older ones.
    ///
    /// Errors: `Invalid` for a name that is empty or too long; `NotFound`; `Conflict` with [`super::Detail::ProducerForgotten`] if it is to go on and
    /// nobody knows where; those of an append.
    pub async fn producer_epoch(
        &self,
        tenant: &TenantName,
        topic: &TopicName,
        producer: &str,
        resume: Resume,
    ) -> Result<ProducerEpoch> {
        let name = producer_name(producer)?;
        let (def, shared) = self.owned(tenant, topic)?;
        shared.ask(|answer| Command::Producer { topic: def.id, name, resume, answer }).await
    }

    /// The token of a topic's fence, or of that of a key prefix; `None` if it was never set. With `set`, it is set to that first.
    ///
    /// Errors: `Conflict` with [`super::Detail::FenceFailed`] if a higher one stands; `NotFound`; those of an append.
    pub async fn fence(
        &self,
        tenant: &TenantName,
        topic: &TopicName,
        key_prefix: Option<String>,
        set: Option<u64>,
    ) -> Result<Option<u64>> {
        check_prefix(key_prefix.as_deref())?;
        let (def, shared) = self.owned(tenant, topic)?;
        shared.ask(|answer| Command::Fence { topic: def.id, key_prefix, set, answer }).await
    }

    /// A topic and the way to its lane, which this process must own.
    fn owned(&self, tenant: &TenantName, topic: &TopicName) -> Result<(Arc<TopicDef>, Arc<Shared>)> {
        let def = self.topic(tenant, topic)?;
        let shared = self.host.lane(def.lane)?;
        shared.check_running()?;
        shared.check_owner()?;
        Ok((def, shared))
    }
}

/// Errors: `Invalid` unless it has 1 to [`NAME_BYTES_MAX`] bytes.
pub(super) fn producer_name(name: &str) -> Result<Arc<str>> {
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(name.into()),
        found => {
            let message = format!("producer name: expected 1 to {NAME_BYTES_MAX} bytes, found {found}");
            Err(IngestError::new(ErrorKind::Invalid, message))
        }
    }
}

/// Errors: `Invalid` for a key prefix that no key can have.
pub(super) fn check_prefix(key_prefix: Option<&str>) -> Result<()> {
    match key_prefix.map(str::len) {
        Some(found) if !(1..=KEY_BYTES_MAX).contains(&found) => {
            let message = format!("fence: expected a key prefix of 1 to {KEY_BYTES_MAX} bytes, found {found}");
            Err(IngestError::new(ErrorKind::Invalid, message))
        }
        _ => Ok(()),
    }
}
