//! The register of one table of a user's, or of a view: which metadata is current, and what a transaction over several tables intends.
//!
//! ```text
//! {root}/tenants/{tenant}/tables/{id}.json    {"format":1,"version":3,"metadata":"file:///…","recent":["…"]}
//! {root}/tenants/{tenant}/views/{id}.json     the same
//! ```
//!
//! A transaction is written into the registers of its tables. The first in order of their ids, its *leader*, holds the transaction and its state; the others hold an
//! [`Intent`] that names the leader. The transaction is true from the swap that makes its leader's state `committed`, for all its tables at once: whoever meets an
//! intent asks the leader. A leader keeps a committed transaction until none of the others holds its intent any more, so an intent that its leader does not know was
//! never committed.

use std::collections::VecDeque;

use bytes::Bytes;
use object_store::path::Path;
use schemas::{ErrorKind, TenantName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RestCatalog;
use super::directory::{Kind, RECENT_MAX, remember};
use super::pace::Pause;
use super::reply::{Refusal, Result};
use crate::error::CatalogError;
use crate::storage::{RevisionTag, Swap};

/// Version of the document that this code writes.
const FORMAT: u32 = 1;
/// Looks at a transaction that is under way before it is called off: whoever runs it has about this many waits to end it.
const LOOKS_AT_OPEN: u32 = 10;

/// `tenants/{tenant}/tables/{id}.json`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    /// Counts the changes of this register, from 1.
    pub(super) version: u64,
    /// Full URI of the current metadata, transactions apart.
    pub(super) metadata: String,
    /// The newest commits by the identity of their requests.
    recent: VecDeque<Uuid>,
    /// A transaction that this table leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) leads: Option<Transaction>,
    /// A transaction that another table leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<Intent>,
    /// What a newer version of Firn added.
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// A transaction, in its leader's register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Transaction {
    pub(super) id: Uuid,
    pub(super) state: State,
    /// What becomes of the leader.
    pub(super) metadata: String,
    /// The other tables.
    pub(super) others: Vec<Uuid>,
}

/// Moves once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Open,
    Committed,
    Aborted,
}

/// What becomes of a table if a transaction is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) transaction: Uuid,
    pub(super) leader: Uuid,
    pub(super) metadata: String,
}

/// A head and what a swap of exactly it must present.
#[derive(Clone, Debug)]
pub(super) struct PinnedHead {
    pub(super) head: Head,
    pub(super) tag: RevisionTag,
}

impl Head {
    /// The first.
    pub(super) fn first(metadata: String, change: Uuid) -> Self {
        let recent = VecDeque::from([change]);
        Self { format: FORMAT, version: 1, metadata, recent, leads: None, intent: None, unknown: Default::default() }
    }

    /// The one after it, that a commit with this identity leaves.
    pub(super) fn committed(&self, metadata: String, change: Uuid) -> Self {
        let mut next = self.changed();
        next.metadata = metadata;
        remember(&mut next.recent, change);
        next
    }

    /// The one after it.
    fn changed(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }

    pub(super) fn with_leads(&self, leads: Option<Transaction>) -> Self {
        Self { leads, ..self.changed() }
    }

    pub(super) fn with_intent(&self, intent: Option<Intent>) -> Self {
        Self { intent, ..self.changed() }
    }

    pub(super) fn has_had(&self, change: Uuid) -> bool {
        self.recent.contains(&change)
    }

    /// Whether so much has changed since `version` that what was done then may be forgotten.
    pub(super) fn may_have_forgotten(&self, version: u64) -> bool {
        self.version.saturating_sub(version) >= RECENT_MAX as u64
    }

    /// The state of a transaction, if this table leads it.
    fn state_of(&self, transaction: Uuid) -> Option<State> {
        self.leads.as_ref().filter(|leads| leads.id == transaction).map(|leads| leads.state)
    }

    fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("a head is JSON"))
    }
}

fn path(tenant: &TenantName, kind: Kind, id: Uuid) -> Path {
    let folder = match kind {
        Kind::Table => "tables",
        Kind::View => "views",
    };
    Path::from_iter(["tenants", tenant.as_str(), folder, &format!("{id}.json")])
}

impl RestCatalog {
    /// Reads a head as it is, intents and all. Errors: 500 if it is missing: a name leads to it.
    pub(super) async fn read_head(&self, tenant: &TenantName, kind: Kind, id: Uuid) -> Result<PinnedHead> {
        let path = path(tenant, kind, id);
        let corrupt =
            || CatalogError::new(ErrorKind::Corrupt, format!("register {path} should name a table's metadata"));
        let revision = self.store().read_register(&path).await?.ok_or_else(corrupt)?;
        let head = serde_json::from_slice(&revision.content).map_err(|error| corrupt().caused_by(error))?;
        Ok(PinnedHead { head, tag: revision.tag })
    }

    /// Makes the first head of a new id. Errors: 409 if there is one.
    pub(super) async fn make_head(&self, tenant: &TenantName, kind: Kind, id: Uuid, head: &Head) -> Result<()> {
        match self.store().swap_register(&path(tenant, kind, id), None, head.encode()).await? {
            Swap::Won(_) => Ok(()),
            Swap::Lost => Err(Refusal::commit_failed(format!("a table was made of {id} already: stage it anew"))),
        }
    }

    /// Swaps a head. `None`: lost, which may be an own success that another change has followed.
    pub(super) async fn swap_head(
        &self,
        tenant: &TenantName,
        kind: Kind,
        id: Uuid,
        from: &PinnedHead,
        to: Head,
    ) -> Result<Option<PinnedHead>> {
        match self.store().swap_register(&path(tenant, kind, id), Some(&from.tag), to.encode()).await? {
            Swap::Won(tag) => Ok(Some(PinnedHead { head: to, tag })),
            Swap::Lost => Ok(None),
        }
    }

    /// URI of the metadata that is current, transactions included.
    ///
    /// Reads only. A leader that does not know an intent is believed only if the intent is still there afterwards: else the transaction was committed, and all
    /// of it put in place, between the two looks.
    pub(super) async fn current_metadata(&self, tenant: &TenantName, kind: Kind, id: Uuid) -> Result<String> {
        let mut pause = Pause::new(self.env());
        let mut seen = self.read_head(tenant, kind, id).await?;
        loop {
            let Some(intent) = &seen.head.intent else { return Ok(seen.head.metadata) };
            match self.read_head(tenant, kind, intent.leader).await?.head.state_of(intent.transaction) {
                Some(State::Committed) => return Ok(intent.metadata.clone()),
                Some(State::Open | State::Aborted) => return Ok(seen.head.metadata),
                None => {}
            }
            let again = self.read_head(tenant, kind, id).await?;
            if again.tag == seen.tag {
                return Ok(seen.head.metadata);
            }
            seen = again;
            pause.before_another("a table in a transaction").await?;
        }
    }

    /// A head that no transaction has a hold on: what is in the way is put in place if it was committed, and called off if it was not and does not end soon.
    pub(super) async fn settled(&self, tenant: &TenantName, kind: Kind, id: Uuid) -> Result<PinnedHead> {
        let mut pause = Pause::new(self.env());
        loop {
            let found = self.read_head(tenant, kind, id).await?;
            let call_off = pause.tries() >= LOOKS_AT_OPEN;
            if let Some(intent) = &found.head.intent {
                let leader = self.read_head(tenant, kind, intent.leader).await?;
                match leader.head.state_of(intent.transaction) {
                    Some(State::Open) if !call_off => {}
                    Some(State::Open) => self.abort(tenant, intent.leader, &leader).await?,
                    _ => self.resolve(tenant, id, intent.transaction, intent.leader).await?,
                }
            } else if let Some(leads) = &found.head.leads {
                match leads.state {
                    State::Open if !call_off => {}
                    State::Open => self.abort(tenant, id, &found).await?,
                    State::Committed | State::Aborted => self.finish(tenant, id, leads).await?,
                }
            } else {
                return Ok(found);
            }
            pause.before_another("a table in a transaction").await?;
        }
    }

    /// Calls an open transaction off, unless its state has moved meanwhile.
    pub(super) async fn abort(&self, tenant: &TenantName, leader: Uuid, found: &PinnedHead) -> Result<()> {
        let Some(leads) = found.head.leads.clone().filter(|leads| leads.state == State::Open) else { return Ok(()) };
        let aborted = found.head.with_leads(Some(Transaction { state: State::Aborted, ..leads }));
        self.swap_head(tenant, Kind::Table, leader, found, aborted).await?;
        Ok(())
    }

    /// Puts in place, or takes away, what a transaction that is decided intends for one of its other tables. Idempotent.
    async fn resolve(&self, tenant: &TenantName, id: Uuid, transaction: Uuid, leader: Uuid) -> Result<()> {
        let mut pause = Pause::new(self.env());
        loop {
            // Looked at before the leader: if the leader has forgotten the transaction and this is still so, it was never committed.
            let found = self.read_head(tenant, Kind::Table, id).await?;
            let Some(intent) = found.head.intent.clone().filter(|intent| intent.transaction == transaction) else {
                return Ok(());
            };
            let next = match self.read_head(tenant, Kind::Table, leader).await?.head.state_of(transaction) {
                Some(State::Open) => return Ok(()),
                Some(State::Committed) => found.head.committed(intent.metadata, transaction).with_intent(None),
                Some(State::Aborted) | None => found.head.with_intent(None),
            };
            if self.swap_head(tenant, Kind::Table, id, &found, next).await?.is_some() {
                return Ok(());
            }
            pause.before_another("a table in a transaction").await?;
        }
    }

    /// Lets a decided transaction go: first from its other tables, then from its leader. Idempotent.
    pub(super) async fn finish(&self, tenant: &TenantName, leader: Uuid, decided: &Transaction) -> Result<()> {
        for other in &decided.others {
            self.resolve(tenant, *other, decided.id, leader).await?;
        }
        let found = self.read_head(tenant, Kind::Table, leader).await?;
        if found.head.state_of(decided.id).is_some_and(|state| state != State::Open) {
            self.swap_head(tenant, Kind::Table, leader, &found, found.head.with_leads(None)).await?;
        }
        Ok(())
    }
}

/// For the fuzzer: the register loses nothing when it is written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_head(data: &[u8]) {
    if let Ok(head) = serde_json::from_slice::<Head>(data) {
        let written = head.encode();
        assert_eq!(serde_json::from_slice::<Head>(&written).ok(), Some(head));
    }
}
