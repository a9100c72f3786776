//! Making and dropping topics: the name's register, the lane's record, the table, the register again.
//!
//! Whatever the process survives of it, the lane's record decides: with it, recovery finishes the rest; without it, the name can be taken again.

use std::sync::Arc;

use catalog::CatalogError;
use schemas::{ErrorKind, LaneId, TenantName, TopicDef, TopicId, TopicName, TopicSpec};
use tokio::sync::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64;

use super::Engine;
use crate::error::{IngestError, Result};
use crate::lane::state::Dropped;
use crate::rows::Shape;
use crate::sequence::Command;
use crate::sequence::lane::leaving;
use crate::validate::Validator;

impl Engine {
    /// Makes a topic: register, lane record, table, confirmation. The same definition again is answered with the topic that is there.
    ///
    /// Errors: `Invalid` naming field or option; `Conflict` if another definition has the name; those of an append.
    pub async fn create_topic(&self, tenant: &TenantName, spec: TopicSpec) -> Result<Arc<TopicDef>> {
        let (engine, tenant) = (self.clone(), tenant.clone());
        to_its_end(async move { engine.create(&tenant, spec, None).await }).await
    }

    /// The topic of a topic's dead letters: in the same lane, so that both are in one segment.
    pub(super) async fn create_beside(
        &self,
        tenant: &TenantName,
        spec: TopicSpec,
        lane: LaneId,
    ) -> Result<Arc<TopicDef>> {
        let (engine, tenant) = (self.clone(), tenant.clone());
        let made = to_its_end(async move { engine.create(&tenant, spec, Some(lane)).await }).await?;
        if made.lane == lane {
            return Ok(made);
        }
        let message = format!(
            "topic {} is in lane {}, expected it in {lane}, beside its topic: drop it first",
            made.name, made.lane
        );
        Err(IngestError::new(ErrorKind::Conflict, message))
    }

    /// Drops a topic: its name is free, its events are gone for readers.
    ///
    /// Errors: `NotFound`; those of an append; `Indeterminate` if it is dropped and its name could not be set free yet.
    pub async fn drop_topic(&self, tenant: &TenantName, name: &TopicName) -> Result<()> {
        let (engine, tenant, name) = (self.clone(), tenant.clone(), name.clone());
        to_its_end(async move {
            let mut turn = engine.turn(&tenant, &name).await?;
            let def = engine.topic(&tenant, &name)?;
            engine.end(&mut turn, &tenant, &def).await?;
            tracing::info!(topic = %name, id = %def.id, "topic dropped");
            Ok(())
        })
        .await
    }

    /// Waits for its turn at a name, and does what the one before left half done.
    pub(super) async fn turn(
        &self,
        tenant: &TenantName,
        name: &TopicName,
    ) -> Result<MutexGuard<'_, Option<HalfDropped>>> {
        self.host.check_running()?;
        let mut turn = self.host.naming.of(tenant, name).lock().await;
        match self.finish_drop(&mut turn).await {
            Err(error) if turn.is_some() => {
                Err(IngestError::new(ErrorKind::Unavailable, format!("nothing has been done: {error}")))
            }
            _ => Ok(turn),
        }
    }

    async fn create(&self, tenant: &TenantName, spec: TopicSpec, lane: Option<LaneId>) -> Result<Arc<TopicDef>> {
        let parts = &self.host.parts;
        let mut turn = self.turn(tenant, &spec.name).await?;
        let tenant_id = parts.topics.ensure_tenant(tenant).await?;
        let lane = lane.unwrap_or_else(|| self.host.lane_for(tenant, &spec.name));
        let wanted = spec.resolve(TopicId(parts.env.uuid()), tenant_id, lane)?;
        let validator = Validator::new(Arc::new(wanted.clone()), &*parts.checks)?;
        if let Some(there) = parts.topics.get(tenant, &wanted.name) {
            agree(&there, &wanted)?;
            // An earlier attempt may have ended just before this.
            parts.topics.confirm(tenant, &there).await?;
            return Ok(there);
        }
        // The name is taken only where its lane can be written to.
        self.host.lane(lane)?.check_owner()?;
        let reserved = self.reserve(&mut turn, tenant, &wanted).await?;
        let shape = match reserved.id == wanted.id {
            true => Arc::clone(validator.shape()),
            false => Arc::clone(Validator::new(Arc::new(reserved), &*parts.checks)?.shape()),
        };
        let def = Arc::clone(shape.def());
        let lane = self.host.lane(def.lane)?;
        lane.ask(|answer| Command::Create { tenant: tenant.clone(), shape, answer }).await?;
        let half_done = |error| half_done(&def, "made, but its table or its name's register is not", error);
        parts.tables.ensure(tenant, &def).await.map_err(half_done)?;
        parts.topics.publish(tenant, Arc::clone(&def));
        parts.topics.confirm(tenant, &def).await.map_err(half_done)?;
        self.followed(&def).await;
        tracing::info!(topic = %def.name, id = %def.id, lane = %def.lane, "topic created");
        Ok(def)
    }

    /// Reserves the name. An earlier attempt that went no further is taken up if it wanted the same, with the identity that stands in the
    /// register; else it is ended first: only this lane's owner could have gone on with it.
    async fn reserve(
        &self,
        turn: &mut Option<HalfDropped>,
        tenant: &TenantName,
        wanted: &TopicDef,
    ) -> Result<TopicDef> {
        let topics = &self.host.parts.topics;
        let reserved = topics.reserve(tenant, wanted.clone()).await?;
        if reserved.says_the_same_as(wanted) {
            return Ok(reserved);
        }
        let lane = self.host.lane(reserved.lane)?;
        let shape = Arc::new(Shape::new(Arc::new(reserved))?);
        let def = Arc::clone(shape.def());
        // Its record first, lest there be nothing to end: an owner that was fenced, and does not know what became of the topic since, must
        // fail at the lane before it touches a register.
        lane.ask(|answer| Command::Create { tenant: tenant.clone(), shape, answer }).await?;
        self.end(turn, tenant, &def).await?;
        let reserved = topics.reserve(tenant, wanted.clone()).await?;
        agree(&reserved, wanted)?;
        Ok(reserved)
    }

    /// Ends a topic, however far it has come: the lane's record first, then all that follows it.
    async fn end(&self, turn: &mut Option<HalfDropped>, tenant: &TenantName, def: &Arc<TopicDef>) -> Result<()> {
        self.host.lane(def.lane)?.ask(|answer| Command::Drop { topic: def.id, answer }).await?;
        self.host.parts.topics.retract(tenant, &def.id);
        *turn = Some(HalfDropped { tenant: tenant.clone(), def: Arc::clone(def) });
        self.finish_drop(turn).await
    }

    /// What follows the lane's record of a drop: table and register let go of the name. While the store is away it stays to be done, since nobody
    /// can ask for the topic again by its name; what cannot be done at all is left to the next start.
    async fn finish_drop(&self, turn: &mut Option<HalfDropped>) -> Result<()> {
        let Some(HalfDropped { tenant, def }) = turn.take() else { return Ok(()) };
        let dropped = Dropped { tenant, def, since_micros: None };
        let finished = leaving::let_go_of_name(&self.host.parts, &dropped).await;
        let Dropped { tenant, def, .. } = dropped;
        let Err(error) = finished else {
            self.followed(&def).await;
            return Ok(());
        };
        let failed = half_done(&def, "dropped, but its name is not free", error);
        match failed.kind().is_retryable() {
            true => *turn = Some(HalfDropped { tenant, def }),
            false => tracing::error!(topic = %def.name, %failed, "a dropped topic's registers cannot be read"),
        }
        Err(failed)
    }

    /// Tells the lane that it need not remember. If it cannot be told, the next start finds out by itself.
    pub(super) async fn followed(&self, def: &TopicDef) {
        let Ok(lane) = self.host.lane(def.lane) else { return };
        if let Err(error) = lane.send(Command::Followed { topic: def.id }).await {
            tracing::debug!(topic = %def.name, %error, "the lane could not be told that the topic's register follows");
        }
    }
}

/// How many names can be made or dropped at a time.
const TURNS: usize = 64;

/// Turns at names: making and dropping one name looks first, and acts on what it saw. Names that share a turn by chance wait for each other.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<Option<HalfDropped>>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    /// A name's turn. Holds the drop that the one before left half done.
    fn of(&self, tenant: &TenantName, name: &TopicName) -> &Mutex<Option<HalfDropped>> {
        &self.0[xxh3_64(format!("{tenant}/{name}").as_bytes()) as usize % TURNS]
    }
}

/// A topic that the lane has dropped, and whose table and register may not say so yet.
#[derive(Debug)]
pub(super) struct HalfDropped {
    tenant: TenantName,
    def: Arc<TopicDef>,
}

/// The lane's record is durable: whatever failed after it, it would be a lie that nothing happened.
pub(super) fn half_done(def: &TopicDef, what: &str, error: CatalogError) -> IngestError {
    let kind = if error.kind().is_retryable() { ErrorKind::Indeterminate } else { error.kind() };
    IngestError::new(kind, format!("topic {} is {what} yet: {error}; try again", def.name))
}

/// Does it even if whoever asked goes away: half of it would wait for the next start.
pub(super) async fn to_its_end<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        Err(IngestError::new(
            ErrorKind::Indeterminate,
            format!("a topic was being made, changed or dropped when the server ended: {error}"),
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
