//! What a producer, or a writer, asks for before it appends.

use bytes::Bytes;
use ingest::engine::Resume;
use schemas::{TenantName, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::one;
use crate::error::Result;
use crate::shared::Shared;
use crate::ticket::parse_json;

/// The body of the action `producer`, which issues an epoch that fences all older ones of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginProducer {
    /// Of this topic.
    pub topic: TopicName,
    /// The producer's name.
    pub producer: String,
    /// Whether its batches are numbered on from where the epoch before stopped; else from 1.
    #[serde(default = "yes")]
    pub resume: bool,
    /// It did not exist before that time, milliseconds since 1970: a server that no longer knows the names of all producers that it has forgotten then refuses
    /// one that may be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
}

/// The body of the action `fence`, which reads a fence's token, or sets it to a higher one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetFence {
    /// Of this topic.
    pub topic: TopicName,
    /// Of the keys that begin so; absent: of the whole topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<String>,
    /// Set it to this; absent: leave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
}

fn yes() -> bool {
    true
}

pub(super) async fn begin(shared: &Shared, tenant: &TenantName, body: &[u8]) -> Result<Vec<Bytes>> {
    let BeginProducer { topic, producer, resume, since_ms } = parse_json("producer", body)?;
    let since_micros = since_ms.map(|ms| ms.saturating_mul(1_000));
    let resume = if resume { Resume::Yes { since_micros } } else { Resume::No };
    shared.topic(tenant, &topic)?;
    one(&shared.engine.producer_epoch(tenant, &topic, &producer, resume).await?)
}

pub(super) async fn fence(shared: &Shared, tenant: &TenantName, body: &[u8]) -> Result<Vec<Bytes>> {
    let SetFence { topic, key_prefix, token } = parse_json("fence", body)?;
    shared.topic(tenant, &topic)?;
    let token = shared.engine.fence(tenant, &topic, key_prefix, token).await?;
    one(&json!({ "token": token }))
}
