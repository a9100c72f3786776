//! A topic gets another schema: decided by `schemas::evolve`, recorded in the lane among the topic's appends, followed by the topic's register and, with
//! its next flush, by its table.
//!
//! The lane's record is the change. Before it nothing has happened; after it the owner, whoever that is by then, sees to the rest: the checkpoint says that
//! the register has yet to follow, and rows of the newer version carry the schema into the table (P4.4).

use std::sync::Arc;

use schemas::evolve::{Refusal, Rename, means_the_same};
use schemas::limits::{DEAD_LETTER_SUFFIX, SCHEMA_VERSIONS_BYTES_MAX};
use schemas::{ErrorKind, TenantName, TopicDef, TopicName, TopicSpec};
use serde_json::{Value, json};

use super::Engine;
use super::naming::{half_done, to_its_end};
use crate::error::{IngestError, Result};
use crate::rows::Shape;
use crate::sequence::Command;
use crate::sequence::admit::other_version;
use crate::validate::{Validator, dead_letter_spec};

/// What a topic's schema is to become.
#[derive(Clone, Debug, PartialEq)]
pub struct Alter {
    /// The whole new Avro record schema.
    pub schema: Value,
    /// Fields that have another name there, where its `aliases` do not say so.
    pub renames: Vec<Rename>,
    /// The version that this was made for; refused if the topic has another by now. `None`: whatever it has.
    pub expected_version: Option<u32>,
}

/// What became of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Altered {
    /// As it is now.
    pub def: Arc<TopicDef>,
    /// What is different, a sentence each; nothing if the schema was there already.
    pub changes: Vec<String>,
}

impl Engine {
    /// Gives a topic another schema, in the order of its appends. Appends go on meanwhile: batches of the versions before become rows of the new one.
    ///
    /// Errors: `Invalid`, with every reason, if the schema cannot follow the one there is; `Conflict` if the topic has another version than expected, or
    /// has stopped; `NotFound`; those of an append; `Indeterminate` if it is changed and its register could not be told yet.
    pub async fn alter_topic(&self, tenant: &TenantName, name: &TopicName, alter: Alter) -> Result<Altered> {
        let (engine, tenant, name) = (self.clone(), tenant.clone(), name.clone());
        to_its_end(async move { engine.alter(&tenant, &name, alter).await }).await
    }

    /// An earlier version of a topic's schema. Errors: `NotFound`.
    pub async fn topic_version(&self, tenant: &TenantName, def: &TopicDef, version: u32) -> Result<Arc<TopicDef>> {
        let found = self.host.parts.topics.versions(tenant, def).await?;
        let found = found.into_iter().find(|known| known.version == version && version <= def.version);
        found.map(Arc::new).ok_or_else(|| {
            let message =
                format!("topic {} has no schema version {version}: expected one from 1 to {}", def.name, def.version);
            IngestError::new(ErrorKind::NotFound, message)
        })
    }

    async fn alter(&self, tenant: &TenantName, name: &TopicName, alter: Alter) -> Result<Altered> {
        let _turn = self.turn(tenant, name).await?;
        let parts = &self.host.parts;
        let def = self.topic(tenant, name)?;
        let lane = self.host.lane(def.lane)?;
        lane.check_owner()?;
        // The register gets every version, one after the other: an earlier attempt may have ended just before that.
        let mut versions = parts.topics.versions(tenant, &def).await?;
        if versions.last().is_none_or(|newest| newest.version < def.version) {
            parts.topics.confirm(tenant, &def).await?;
            versions.push(TopicDef::clone(&def));
        }
        let (shape, outcome) = match self.decide(&def, &versions, alter) {
            Ok((shape, changes)) => (shape, Ok(changes)),
            Err(refusal) => (Arc::new(Shape::new(def)?), Err(refusal)),
        };
        // A refusal too is true only of the version that the lane has, and only if its owner says it (P2).
        lane.ask(|answer| Command::Change { shape: Arc::clone(&shape), answer }).await?;
        let (changes, def) = (outcome?, Arc::clone(shape.def()));
        parts.topics.publish(tenant, Arc::clone(&def));
        let told = parts.topics.confirm(tenant, &def).await;
        told.map_err(|error| half_done(&def, "changed, but its name's register is not", error))?;
        self.followed(&def).await;
        if !changes.is_empty() {
            tracing::info!(topic = %name, version = def.version, ?changes, "topic changed");
        }
        Ok(Altered { def, changes })
    }

    /// What the topic becomes, and what is different. `versions`: all that it has had. Errors: why it cannot be.
    fn decide(&self, def: &Arc<TopicDef>, versions: &[TopicDef], alter: Alter) -> Result<(Arc<Shape>, Vec<String>)> {
        let name = &def.name;
        if takes_dead_letters(def) {
            let message = format!("topic {name} takes dead letters: its schema is Firn's");
            return Err(IngestError::new(ErrorKind::Invalid, message));
        }
        if let Some(expected) = alter.expected_version.filter(|expected| *expected != def.version) {
            return Err(other_version(name, def.version, expected));
        }
        let altered = def.altered(alter.schema, &alter.renames).map_err(|refusals| refused(name, &refusals))?;
        let Some((next, changes)) = altered else { return Ok((Arc::new(Shape::new(Arc::clone(def))?), Vec::new())) };
        let bytes: usize = versions.iter().chain([&next]).map(|version| json!(version).to_string().len()).sum();
        if bytes > SCHEMA_VERSIONS_BYTES_MAX {
            let reason =
                format!("all its versions together may have {SCHEMA_VERSIONS_BYTES_MAX} bytes: make a new topic");
            return Err(refused(name, &[Refusal { field: String::new(), reason }]));
        }
        let compiled = Validator::new(Arc::new(next), &*self.host.parts.checks);
        let compiled = compiled.map_err(|error| uncompiled(name, &error))?;
        check_meaning(def, &compiled)?;
        Ok((Arc::clone(compiled.shape()), changes))
    }
}

/// Checks are kept as they were written. Errors: `Invalid` if one would ask about other fields than before.
fn check_meaning(def: &TopicDef, next: &Validator) -> Result<()> {
    let mut refusals = Vec::new();
    for (check, columns) in next.check_columns() {
        let is_other = |column: &&String| !means_the_same(&def.payload, &next.shape().def().payload, column);
        if let Some(column) = columns.iter().find(is_other) {
            let reason = format!("is another field than the one that the check {check:?} asks about: keep its name");
            refusals.push(Refusal { field: column.clone(), reason });
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(refused(&def.name, &refusals)) }
}

/// Its definition is the one that Firn gives to dead letters.
fn takes_dead_letters(def: &TopicDef) -> bool {
    let of = def.name.as_str().strip_suffix(DEAD_LETTER_SUFFIX).and_then(|of| TopicName::new(of).ok());
    let spec: Option<TopicSpec> = of.and_then(|of| dead_letter_spec(&of).ok());
    let made = spec.and_then(|spec| spec.resolve(def.id, def.tenant, def.lane).ok());
    made.is_some_and(|made| made.says_the_same_as(def))
}

fn refused(name: &TopicName, refusals: &[Refusal]) -> IngestError {
    let reasons: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    IngestError::new(ErrorKind::Invalid, format!("topic {name} keeps its schema: {}", reasons.join("; ")))
}

fn uncompiled(name: &TopicName, error: &IngestError) -> IngestError {
    let message = format!("topic {name} keeps its schema, which its checks and defaults rest on: {error}");
    IngestError::new(error.kind(), message)
}
