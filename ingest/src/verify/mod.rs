//! Proving a store from what lies in it alone: nothing of a topic is missing, doubled or altered; or naming the first thing that is wrong.
//!
//! [`Verifier`] needs no server and changes nothing: the store is opened for reading, no lane is claimed, nothing is sealed. Owners may run meanwhile: the log
//! is read first, to an end that is frozen there, then the table, which may have moved on, then once more the log's end if it has. What an owner trims or
//! replaces under the reader's feet looks like a fault, so one counts only if a second look finds the same.
//!
//! * [`root`] and [`log`]: the lane; [`catalog::table::audit`]: the table; [`topic`]: both together, with the topic's register;
//! * what it cannot see: segments that were removed from the *end* of an epoch that nobody has closed yet, and of which neither checkpoint nor table knows. An
//!   empty slot there is what a log that ends looks like. The next take-over's SEAL fixes the end.

mod log;
mod report;
mod root;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;

use catalog::audit::{Audited, Checks, Fault, Stop};
use catalog::storage::Meter;
use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::{CatalogError, Env, Store};
use futures::TryStreamExt;
use object_store::path::Path;
use schemas::{ErrorKind, LaneId, TenantName, TopicDef, TopicId, TopicName};

pub use report::{Cut, Report, Subject, Verdict};

use log::LogAudit;

/// Looks at one thing before what they differ in is given back: owners that never rest could go on for ever.
const LOOKS_MAX: usize = 4;

/// A topic as a register or a lane has it, and whose it is.
type Registered = (TenantName, Arc<TopicDef>);

/// Looks at a store.
#[derive(Clone, Debug)]
pub struct Verifier {
    store: Store,
    topics: Topics,
    tables: Tables,
    meter: Meter,
}

impl Verifier {
    /// Of a store, best one that was opened with [`Store::open_read_only`] and this meter.
    pub fn new(store: Store, env: Env, meter: Meter) -> Self {
        let (topics, tables) = (Topics::new(store.clone(), env.clone()), Tables::new(store.clone(), env));
        Self { store, topics, tables, meter }
    }

    /// Proves one topic.
    pub async fn topic(&self, tenant: &TenantName, name: &TopicName) -> Report {
        let mut report = self.look_at_topic(tenant, name).await;
        for _ in 1..LOOKS_MAX {
            if !report.verdict.may_be_haste() {
                break;
            }
            let again = self.look_at_topic(tenant, name).await;
            let is_same = again.verdict == report.verdict;
            report = again;
            if is_same {
                break;
            }
        }
        report
    }

    /// Proves every lane and every topic that a register or a lane knows; `told` hears of each as soon as it is done.
    pub async fn all(&self, mut told: impl FnMut(Report)) {
        let lanes = match self.lanes(&mut told).await {
            Ok(lanes) => lanes,
            Err(stop) => return told(Report::new(Subject::Names, Err(stop), &Checks::default(), Vec::new())),
        };
        for (lane, defs) in lanes {
            match self.look_at_lane(lane).await {
                Err((stop, checks)) => told(Report::new(Subject::Lane(lane), Err(stop), &checks, Vec::new())),
                Ok(log) => self.topics_of(log, defs, &mut told).await,
            }
        }
    }

    /// Each topic against one reading of their lane's log. What seems wrong is looked at again, by itself.
    async fn topics_of(&self, mut log: LogAudit, defs: Vec<Registered>, told: &mut impl FnMut(Report)) {
        let registered: BTreeSet<TopicId> = defs.iter().map(|(_, def)| def.id).collect();
        for (tenant, def) in defs {
            let mut checks = log.checks.clone();
            let proven = topic::prove(&mut log, &self.tables, &self.meter, &tenant, &def, &mut checks).await;
            let subject = Subject::Topic { tenant: tenant.clone(), name: def.name.clone(), id: Some(def.id) };
            told(match proven {
                Ok(cut) => Report::new(subject, Ok(cut), &checks, log.notes.clone()),
                Err(_) => self.topic(&tenant, &def.name).await,
            });
        }
        // Dropping begins in the lane, so what is there must have a register; unless it was made, or dropped, since the registers were read: look again.
        if log.state().topics.keys().all(|topic| registered.contains(topic)) {
            return;
        }
        let lane = log.root.lane;
        let log = match self.look_at_lane(lane).await {
            Ok(log) => log,
            Err((stop, checks)) => return told(Report::new(Subject::Lane(lane), Err(stop), &checks, Vec::new())),
        };
        for topic in log.state().topics.values().filter(|topic| !registered.contains(&topic.shape().def().id)) {
            let (tenant, def) = (topic.tenant.clone(), topic.shape().def());
            let known = topic::registered(&self.topics, &tenant, &def.name).await;
            if !known.is_ok_and(|known| known.id == def.id) {
                let stop = topic::unknown(format!("tenants/{tenant}/topics/{}.json", def.name), def);
                let subject = Subject::Topic { tenant, name: def.name.clone(), id: Some(def.id) };
                told(Report::new(subject, Err(stop), &log.checks, Vec::new()));
            }
        }
    }

    /// One look at one topic.
    async fn look_at_topic(&self, tenant: &TenantName, name: &TopicName) -> Report {
        let (mut checks, mut notes, mut id) = (Checks::default(), Vec::new(), None);
        let looked: Audited<Cut> = async {
            let def = topic::registered(&self.topics, tenant, name).await?;
            id = Some(def.id);
            self.expect_log(def.lane).await;
            let mut log = LogAudit::begin(&self.store, def.lane).await?;
            let proven = match log.walk().await {
                Ok(()) => topic::prove(&mut log, &self.tables, &self.meter, tenant, &def, &mut checks).await,
                Err(stop) => Err(stop),
            };
            checks.add(&log.checks);
            notes = log.notes;
            proven
        }
        .await;
        let subject = Subject::Topic { tenant: tenant.clone(), name: name.clone(), id };
        Report::new(subject, looked, &checks, notes)
    }

    /// A lane's log, read to its end; twice if it seems wrong.
    async fn look_at_lane(&self, lane: LaneId) -> Result<LogAudit, (Stop, Checks)> {
        let mut last: Option<Fault> = None;
        for _ in 0..LOOKS_MAX {
            self.expect_log(lane).await;
            let mut log = LogAudit::begin(&self.store, lane).await.map_err(|stop| (stop, Checks::default()))?;
            match log.walk().await {
                Ok(()) => return Ok(log),
                Err(Stop::Fault(fault)) if last.as_ref() != Some(&*fault) => last = Some(*fault),
                Err(stop) => return Err((stop, log.checks)),
            }
        }
        let fault = last.expect("nothing else goes on");
        Err((Stop::Fault(Box::new(fault)), Checks::default()))
    }

    /// The lanes that there are, as a listing and the topics' registers name them, each with its topics. Registers that are wrong are told of at once.
    async fn lanes(&self, told: &mut impl FnMut(Report)) -> Audited<BTreeMap<LaneId, Vec<Registered>>> {
        let listed = self.store.objects().list_with_delimiter(Some(&Path::from("lanes"))).await.map_err(|error| {
            Stop::Unseen(CatalogError::new(ErrorKind::Unavailable, "lanes cannot be listed").caused_by(error))
        })?;
        let numbers = listed.common_prefixes.iter().filter_map(|path| path.filename()?.parse().ok());
        let mut lanes: BTreeMap<LaneId, Vec<Registered>> = numbers.map(|lane| (LaneId(lane), Vec::new())).collect();
        for (tenant, name) in self.topics.names().await.map_err(Stop::Unseen)? {
            match topic::registered(&self.topics, &tenant, &name).await {
                Ok(def) => lanes.entry(def.lane).or_default().push((tenant, def)),
                Err(Stop::Unseen(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => told(self.topic(&tenant, &name).await),
            }
        }
        Ok(lanes)
    }

    /// Tells the meter how much log there is, as far as a listing knows.
    async fn expect_log(&self, lane: LaneId) {
        let folder = Path::from(format!("lanes/{lane}/w"));
        let sizes = self.store.objects().list(Some(&folder)).map_ok(|object| object.size);
        let bytes = sizes.try_fold(0, |sum, size| ready(Ok(sum + size))).await;
        self.meter.expect(bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
