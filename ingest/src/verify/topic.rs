//! One topic: its register, what its lane knows of it, its table and its events are one, and no event is in neither place.

use std::sync::Arc;

use catalog::CatalogError;
use catalog::audit::{Audited, Checks, Stop, agree, laws};
use catalog::storage::Meter;
use catalog::table::Tables;
use catalog::table::audit::TableAudit;
use catalog::topics::{State, Topics};
use schemas::conform::loses;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, TopicName};

use super::log::{Batch, LogAudit, parked};
use super::report::Cut;
use crate::lane::{Position, root_path};

/// How often the end of the log is looked for again, since the table had more than the log a moment before.
const ENDS_MAX: usize = 8;

/// What a topic's register says: its newest definition, if the name is a topic's.
///
/// Errors: `NotFound`, which is no fault, if it is not.
pub(super) async fn registered(topics: &Topics, tenant: &TenantName, name: &TopicName) -> Audited<Arc<TopicDef>> {
    let object = format!("tenants/{tenant}/topics/{name}.json");
    let found = topics.registered(tenant, name).await.map_err(|error| Stop::of(laws::LINKED, &object, error))?;
    match found {
        Some((State::Creating | State::Live, def)) => {
            agree(laws::IDENTITY, &object, "name", name, &def.name)?;
            Ok(Arc::new(def))
        }
        Some((State::Dropped, _)) | None => {
            let message = format!("there is no topic {tenant}.{name}");
            Err(Stop::Unseen(CatalogError::new(ErrorKind::NotFound, message)))
        }
    }
}

/// Proves a topic whose lane was read to its end. Returns how far.
pub(super) async fn prove(
    log: &mut LogAudit,
    tables: &Tables,
    meter: &Meter,
    tenant: &TenantName,
    def: &Arc<TopicDef>,
    checks: &mut Checks,
) -> Audited<Cut> {
    let lane = root_path(log.root.lane).to_string();
    let def = &known_alike(log, tenant, def, checks)?;
    let table = TableAudit::open(tables, tenant, def, checks).await?;
    let version = table.schema_version()?;
    let known = log.state().topics.get(&def.id).and_then(|topic| topic.shape_of(version)).map(|shape| shape.def());
    let Some(of_table) = known.map(Arc::clone) else {
        let expected = format!("a schema version that its lane knows, up to {}", def.version);
        return Err(Stop::fault(laws::IDENTITY, table.object(), expected, version));
    };
    let (event, table) = (of_table.event_schema(), table.under(of_table));
    let watermark = table.watermark();
    let mut ends = 0;
    while log.state().topics.get(&def.id).is_some_and(|topic| topic.next_seq < watermark.0) && ends < ENDS_MAX {
        ends += 1;
        if !log.go_on().await? {
            let message = format!("lane {}: its floor moves faster than its log can be read", log.root.lane);
            return Err(Stop::Unseen(CatalogError::new(ErrorKind::Conflict, message)));
        }
    }
    let Some(next) = log.state().topics.get(&def.id).map(|topic| topic.next_seq) else {
        return Err(unknown(&lane, def));
    };
    if next < watermark.0 {
        let expected = format!("events up to the table's watermark {watermark}");
        return Err(Stop::fault_at(
            laws::KEPT,
            lane,
            format!("topic {}", def.id),
            expected,
            format!("its end before seq {next}"),
        ));
    }
    if let Some(reached) = log.watermarks.get(&def.id).filter(|reached| **reached > watermark) {
        let expected = format!("a watermark of {reached} or above, which the lane has seen");
        return Err(Stop::fault(laws::AGREED, table.object(), expected, watermark));
    }
    let parked = parked(log, &def.id).await?;
    checks.held(laws::KEPT, "parked batches", parked.len() as u64);
    let outside = uncovered(log, &parked, def, watermark.0, next)?;
    checks.held(laws::KEPT, "events outside of the table", (next.0 - watermark.0.0) as u64);

    let logged = log.batches(&def.id);
    let is_logged = |seq: Seq| logged.iter().any(|batch| batch.rows.from <= seq && seq < batch.rows.to);
    let only_parked = parked.iter().filter(|batch| !is_logged(batch.rows.from) && !is_logged(Seq(batch.rows.to.0 - 1)));
    let in_table = logged.iter().chain(only_parked).filter(|batch| batch.rows.to <= watermark.0);
    // The hash of rows with a column that was dropped since says nothing of rows without it.
    let in_table = in_table.filter(|batch| !loses(batch.schema.fields(), event.fields()));
    let facts = table.rows(in_table.map(|batch| batch.rows.clone()).collect(), meter, checks).await?;
    if let (Some(last), Some(first)) = (facts.last_time, outside)
        && first.times.0 < last
    {
        let place = format!("time at seq {}", first.rows.from);
        return Err(Stop::fault_at(laws::DENSE, &first.rows.object, place, format!("{last} or later"), first.times.0));
    }
    let Position { epoch, slot, .. } = log.at;
    let (table_rows, table_files, table_bytes) = (facts.rows, facts.files, facts.bytes);
    let tail_rows = (next.0 - watermark.0.0) as u64;
    Ok(Cut { lane: log.root.lane, epoch, slot, next, watermark, table_rows, table_files, table_bytes, tail_rows })
}

/// Register and lane speak of the same topic. Returns it as the lane has it, which the register may have yet to follow.
fn known_alike(log: &LogAudit, tenant: &TenantName, def: &TopicDef, checks: &mut Checks) -> Audited<Arc<TopicDef>> {
    let object = format!("tenants/{tenant}/topics/{}.json", def.name);
    let Some(topic) = log.state().topics.get(&def.id) else {
        return Err(unknown(&object, def));
    };
    agree(laws::IDENTITY, &object, "lane", log.root.lane, def.lane)?;
    agree(laws::IDENTITY, &object, "tenant", &topic.tenant, tenant)?;
    match topic.shape_of(def.version).map(|shape| shape.def().as_ref()) {
        Some(known) if known == def => checks.held(laws::IDENTITY, "definitions", 1),
        known => {
            let found = known.map_or("no such version", |_| "another definition of it");
            let expected = format!("version {} of the topic as its lane has it", def.version);
            return Err(Stop::fault(laws::IDENTITY, &object, expected, found));
        }
    }
    Ok(Arc::clone(topic.shape().def()))
}

/// A topic that is not where it should be known.
pub(super) fn unknown(object: impl std::fmt::Display, def: &TopicDef) -> Stop {
    Stop::fault(laws::IDENTITY, object, format!("topic {} in lane {}", def.id, def.lane), "none there")
}

/// Every event from the watermark on is in the log or in a parked object. Returns the first such batch.
fn uncovered<'a>(
    log: &'a LogAudit,
    parked: &'a [Batch],
    def: &TopicDef,
    watermark: Seq,
    next: Seq,
) -> Audited<Option<&'a Batch>> {
    let mut batches: Vec<_> =
        log.batches(&def.id).iter().chain(parked).filter(|batch| batch.rows.to > watermark).collect();
    batches.sort_by_key(|batch| batch.rows.from);
    let mut reached = watermark;
    for batch in &batches {
        if batch.rows.from > reached {
            break;
        }
        reached = reached.max(batch.rows.to);
    }
    if reached != next {
        let place = format!("topic {}, seq {reached}", def.id);
        let expected = format!(
            "it at or above the floor, at {}, or parked, since the table ends before {watermark}",
            log.root.floor
        );
        return Err(Stop::fault_at(laws::KEPT, root_path(log.root.lane), place, expected, "it nowhere"));
    }
    Ok(batches.first().copied())
}
