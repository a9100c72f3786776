//! What an operator asks of one topic: how it stands, to be taken up again after it stopped, what lies in its table, to have that
//! compacted and its litter removed.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use catalog::table::{Compacted, FlushRows, Retention, Swept, TableReport};
use schemas::envelope::column;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, TopicName, Watermark};
use serde::{Deserialize, Serialize};

use super::{Engine, Ownership, Shared};
use crate::error::{IngestError, Result};
use crate::lane::parked::{self, Parked};
use crate::sequence::{Command, Core};
use crate::tail::TopicLoad;

/// Whether a topic takes appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does.
    #[default]
    Open,
    /// Not for now: its table cannot be written, and it holds too much. It goes on by itself.
    HeldUp,
    /// Not any more, until an operator resumes it; its events are in the log.
    Stopped,
    /// Not any more, until an operator resumes it; its events that are in no table have been copied out of the log.
    Parked,
}

/// How a topic stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicStatus {
    /// Whether it takes appends.
    pub standing: Standing,
    /// Why not, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it cannot be read at this server, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl Engine {
    /// How a topic stands, as far as this process knows.
    pub fn topic_status(&self, def: &TopicDef) -> TopicStatus {
        let lane = self.host.lane(def.lane).ok();
        let status = lane.and_then(|lane| lane.core.tails.status(&def.id)).unwrap_or_default();
        let closed = self.host.parts.tables.closed(&def.id);
        TopicStatus { unreadable: closed.map(|reason| reason.to_string()), ..status }
    }

    /// Takes a topic up again that has stopped: looks whether its table is what the lane left there (P4.1), moves there what is not in it, and lets appends in.
    /// False if it had not stopped.
    ///
    /// Errors: `NotFound`; `Fenced` if another process owns the lane; what still is wrong with the table: then the topic stays as it was.
    pub async fn resume_topic(&self, tenant: &TenantName, name: &TopicName) -> Result<bool> {
        let def = self.topic(tenant, name)?;
        let lane = self.host.lane(def.lane)?;
        lane.check_owner()?;
        let tenant = tenant.clone();
        // To its end, even if whoever asked goes away: half of it would leave a topic that neither has stopped nor goes on.
        let resumed = tokio::spawn(async move { resume(&lane, &tenant, &def).await }).await;
        resumed.unwrap_or_else(|error| {
            let message = format!("a topic was being resumed when the server ended: {error}; look, then try again");
            Err(IngestError::new(ErrorKind::Indeterminate, message))
        })
    }

    /// Begins a new sweep generation of a topic's table and removes its files of earlier generations that nothing names any more (P7).
    ///
    /// Errors: `NotFound`; `Fenced` if another process owns the lane; those of [`catalog::table::Tables::sweep`].
    pub async fn sweep_topic(&self, tenant: &TenantName, name: &TopicName) -> Result<Swept> {
        let def = self.topic(tenant, name)?;
        self.host.lane(def.lane)?.check_owner()?;
        Ok(self.host.parts.tables.sweep(&def).await?)
    }
}

impl Engine {
    /// The files of a topic's table by seq range, and what would be compacted next and why.
    ///
    /// Errors: `NotFound`; those of reading its manifests.
    pub async fn topic_files(&self, tenant: &TenantName, name: &TopicName) -> Result<TableReport> {
        let def = self.topic(tenant, name)?;
        let parts = &self.host.parts;
        Ok(parts.tables.load(&def).await?.report(&def, &parts.settings.compaction).await?)
    }

    /// Sets how much of a topic is kept; what is not is dropped soon after, by itself, in whole seq ranges from the oldest on.
    ///
    /// Errors: `NotFound`; `Fenced` if another process owns the lane; those of [`catalog::table::Tables::set_retention`].
    pub async fn retain_topic(&self, tenant: &TenantName, name: &TopicName, retention: Retention) -> Result<()> {
        let def = self.topic(tenant, name)?;
        self.host.lane(def.lane)?.check_owner()?;
        self.host.parts.tables.set_retention(&def, retention).await?;
        tracing::info!(topic = %name, ?retention, "retention set");
        Ok(())
    }

    /// Does every compaction that is due for a topic, and with `whole` all that can be done; at the pace of the settings.
    ///
    /// Errors: `NotFound`; `Fenced` if another process owns the lane; those of [`catalog::table::Tables::compact`]: what was done by then stays.
    pub async fn compact_topic(&self, tenant: &TenantName, name: &TopicName, whole: bool) -> Result<Compacted> {
        let def = self.topic(tenant, name)?;
        let lane = self.host.lane(def.lane)?;
        let parts = &self.host.parts;
        let mut all = Compacted::default();
        loop {
            lane.check_owner()?;
            match parts.tables.compact(&def, &parts.settings.compaction, whole).await? {
                Some(done) => all += done,
                None => return Ok(all),
            }
        }
    }
}

async fn resume(lane: &Shared, tenant: &TenantName, def: &Arc<TopicDef>) -> Result<bool> {
    let (tails, tables) = (&lane.core.tails, &lane.core.parts.tables);
    let Some(load) = tails.load(&def.id) else { return Ok(false) };
    let Some(reason) = load.stopped.clone() else { return Ok(false) };
    let parked = lane.ask(|answer| Command::Parked { topic: def.id, answer }).await?;
    let watermark = look(lane, tenant, def, &load, parked.as_ref()).await?;
    let watermark = move_parked(lane, def, parked.as_ref(), watermark).await?;
    let flusher = lane.core.flusher.lock().clone().ok_or_else(|| lane.stopped())?;
    tails.resume_topic(&def.id, watermark);
    if let Err(error) = flusher.flush_now(Some(def.id)).await {
        if tails.stopped(&def.id).is_none() {
            tails.stop_topic(&def.id, reason);
        }
        return Err(error);
    }
    tables.show(&def.id);
    let watermark = tables.current(def).await?.watermark();
    lane.ask(|answer| Command::Resume { topic: def.id, watermark, answer }).await?;
    tracing::info!(topic = %def.name, id = %def.id, %watermark, "topic taken up again");
    Ok(true)
}

/// Where the topic's table ends, which may never have been opened here. Errors: what is wrong with it.
async fn look(
    lane: &Shared,
    tenant: &TenantName,
    def: &Arc<TopicDef>,
    load: &TopicLoad,
    parked: Option<&Parked>,
) -> Result<Watermark> {
    let tables = &lane.core.parts.tables;
    tables.ensure(tenant, def).await?;
    let watermark = tables.load_checked(def).await?.watermark();
    let held = parked.map_or(load.watermark.0, |parked| parked.from.min(load.watermark.0));
    fits(load, held, watermark).map(|()| watermark)
}

/// Moves what is not held in memory of a parked topic to its table, an object at a time: together they may be more than there is memory for. What was moved
/// before an error stays moved, and the next attempt goes on there.
async fn move_parked(
    lane: &Shared,
    def: &Arc<TopicDef>,
    parked: Option<&Parked>,
    mut watermark: Watermark,
) -> Result<Watermark> {
    let Core { tails, parts, lane: id, .. } = &*lane.core;
    let Some(parked) =
        parked.filter(|_| tails.as_tail().snapshot(&def.id).is_some_and(|held| held.start > watermark.0))
    else {
        return Ok(watermark);
    };
    let ownership = lane.ownership.borrow().clone();
    let Ownership::Open { epoch, .. } = ownership else { return Err(lane.stopped()) };
    for object in &parked.objects {
        if object.to <= watermark.0 {
            continue;
        }
        let batches = parked::read(&parts.store, *id, def.id, object).await?;
        while watermark.0 < object.to {
            let batches = from(&batches, watermark.0);
            let rows = FlushRows { from: watermark.0, to: object.to, batches: &batches, lane: *id, epoch };
            watermark = parts.tables.flush(def, rows).await?.watermark();
        }
    }
    Ok(watermark)
}

/// The events from a seq on.
fn from(batches: &[RecordBatch], first: Seq) -> Vec<RecordBatch> {
    let cut = |batch: &RecordBatch| {
        let seqs = batch.column(column::SEQ).as_primitive::<Int64Type>();
        let known = seqs.values().partition_point(|seq| *seq < first.0);
        batch.slice(known, batch.num_rows() - known)
    };
    batches.iter().map(cut).filter(|batch| batch.num_rows() > 0).collect()
}

/// Errors: `Conflict` unless what is held, from this seq on, goes on where the table ends.
fn fits(load: &TopicLoad, held: Seq, watermark: Watermark) -> Result<()> {
    if watermark.0 >= held && watermark.0 <= load.next {
        return Ok(());
    }
    let message = format!(
        "topic {}: its table ends before seq {watermark}, expected one that ends between {held} and {}: bring back the snapshot that did",
        load.def.name, load.next
    );
    Err(IngestError::new(ErrorKind::Conflict, message))
}
