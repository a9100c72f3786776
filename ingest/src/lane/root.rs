//! A lane's root register: who owns it, which epochs are closed, where the log begins, which checkpoint holds.

use catalog::storage::{RevisionTag, Swap};
use catalog::{Env, Store};
use schemas::{Epoch, ErrorKind, LaneId, Slot};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::heartbeat::Node;
use super::{Position, root_path};
use crate::error::{IngestError, Result};
use crate::wal::LinkHash;

/// The version of everything a lane persists that this code reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// The document. Fields that this code does not know are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Root {
    pub(crate) format: Format,
    pub(crate) lane: LaneId,
    pub(crate) epoch: Epoch,
    /// Drawn anew at each start of a process.
    pub(crate) owner: Uuid,
    /// Where clients find the owner, if it told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    pub(crate) state: State,
    /// To whom the owner gave the lane when it closed it, if to anybody: others leave it to that one for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heir: Option<Uuid>,
    /// Ascending. Sheds what lies wholly below the floor, but never its last.
    pub(crate) closed: Vec<Closed>,
    /// Where the log begins that is still needed.
    pub(crate) floor: Position,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<CheckpointRef>,
    /// Of this revision: tells a writer its own from another's.
    pub(crate) nonce: Uuid,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

/// The least version of Firn's formats that a reader and a writer must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) reader: u32,
    pub(crate) writer: u32,
}

/// How far the owner has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It may not write segments yet: earlier epochs are not all closed.
    Opening,
    /// It appends.
    Open,
    /// It appends no more, and everything that it acknowledged is decided: whoever comes need not wait.
    Closed,
}

/// On what condition a lane is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Whoever has it.
    Any,
    /// Only if the claimant has it already, in whatever epoch: its store was away.
    Mine,
    /// Only if this epoch is still the newest (0: nobody ever claimed it). Its owner fell silent, or gave the lane away: of all who saw that, one
    /// goes on, and does not have the next one at its throat.
    After(Epoch),
}

/// An epoch that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    pub(crate) epoch: Epoch,
    pub(crate) seal_slot: Slot,
    /// Link hash of the SEAL: what the first segment of the next epoch names.
    pub(crate) hash: LinkHash,
}

/// Where the state of the lane at one place of its log is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointRef {
    pub(crate) name: String,
    /// BLAKE3 of the object, hexadecimal.
    pub(crate) hash: String,
    /// Everything before is in it, nothing after.
    pub(crate) at: Position,
}

impl Root {
    /// What the next owner writes to claim the lane: ownership changes with it.
    pub(crate) fn claimed(before: Option<&Self>, lane: LaneId, by: &Node, env: &Env) -> Self {
        let (owner, address) = (by.id, by.address.clone());
        match before {
            Some(root) => Self {
                epoch: root.epoch.next(),
                owner,
                address,
                state: State::Opening,
                heir: None,
                nonce: env.uuid(),
                ..root.clone()
            },
            None => Self {
                format: Format { reader: FORMAT_VERSION, writer: FORMAT_VERSION },
                lane,
                epoch: Epoch(1),
                owner,
                address,
                state: State::Opening,
                heir: None,
                closed: Vec::new(),
                floor: Position::START,
                checkpoint: None,
                nonce: env.uuid(),
                unknown: Map::new(),
            },
        }
    }

    /// The first epoch that must be sealed before this one opens. Those after it, up to this one, must be as well.
    pub(crate) fn first_unclosed(&self) -> Epoch {
        self.closed.last().map_or(self.floor.epoch, |closed| closed.epoch.next())
    }

    /// Where `epoch` ended, if it is closed.
    pub(crate) fn closed(&self, epoch: Epoch) -> Option<&Closed> {
        self.closed.iter().find(|closed| closed.epoch == epoch)
    }

    /// Forgets closed epochs wholly below the floor, but never the last.
    pub(crate) fn shed_closed(&mut self) {
        let Some(last) = self.closed.last().copied() else { return };
        let floor = self.floor.epoch;
        self.closed.retain(|closed| closed.epoch >= floor || closed.epoch == last.epoch);
    }
}

/// The root register as this process last saw it, and the way to change it. One owner at a time holds it, so that a swap presents what it has seen.
#[derive(Debug)]
pub(crate) struct RootRegister {
    store: Store,
    env: Env,
    root: Root,
    tag: RevisionTag,
}

impl RootRegister {
    /// Claims the lane for a new owner (P1.1): every earlier owner loses it here.
    ///
    /// Errors: `Fenced` if the condition does not hold; `Unavailable` if others claim it over and over; `Corrupt`, `Invalid` for a document that
    /// this code cannot read.
    pub(crate) async fn claim(store: Store, env: Env, lane: LaneId, by: &Node, claim: Claim) -> Result<Self> {
        const ATTEMPTS_MAX: usize = 32;
        for _ in 0..ATTEMPTS_MAX {
            let before = read(&store, lane).await?;
            match (&before, claim) {
                (Some((root, _)), Claim::Mine) if root.owner != by.id => return Err(fenced(lane, root.epoch)),
                (Some((root, _)), Claim::After(epoch)) if root.epoch != epoch => return Err(fenced(lane, root.epoch)),
                // A folder that is not mounted for the moment looks like a store in which nothing ever was.
                (None, Claim::Mine | Claim::After(Epoch(1..))) => return Err(vanished(lane, ErrorKind::Unavailable)),
                _ => {}
            }
            let claimed = Root::claimed(before.as_ref().map(|(root, _)| root), lane, by, &env);
            let expected = before.as_ref().map(|(_, tag)| tag);
            if let Swap::Won(tag) = store.swap_register(&root_path(lane), expected, encode(&claimed)).await? {
                return Ok(Self { store, env, root: claimed, tag });
            }
        }
        Err(IngestError::new(
            ErrorKind::Unavailable,
            format!("lane {lane}: others claimed it {ATTEMPTS_MAX} times in a row"),
        ))
    }

    /// As last seen: mine.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Changes the document, which must still be as last seen; only an owner that has not been fenced can.
    ///
    /// Errors: `Fenced` if a newer epoch stands there; `Indeterminate` past the store's deadline: [`Self::refresh`] before the next change.
    pub(crate) async fn change(&mut self, change: impl FnOnce(&mut Root)) -> Result<()> {
        let mut next = self.root.clone();
        change(&mut next);
        next.nonce = self.env.uuid();
        debug_assert!(
            next.epoch == self.root.epoch && next.owner == self.root.owner,
            "ownership changes only by a claim"
        );
        match self.store.swap_register(&root_path(self.root.lane), Some(&self.tag), encode(&next)).await? {
            Swap::Won(tag) => {
                (self.root, self.tag) = (next, tag);
                Ok(())
            }
            Swap::Lost => {
                self.refresh().await?;
                let message = format!("lane {}: its root changed although this process owns it", self.root.lane);
                Err(IngestError::new(ErrorKind::Conflict, message))
            }
        }
    }

    /// Reads the register anew. Errors: `Fenced` if it is no longer this owner's.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        let lane = self.root.lane;
        let Some((root, tag)) = read(&self.store, lane).await? else {
            return Err(vanished(lane, ErrorKind::Corrupt));
        };
        if root.epoch != self.root.epoch {
            return Err(fenced(lane, root.epoch));
        }
        (self.root, self.tag) = (root, tag);
        Ok(())
    }
}

/// What a fenced owner says.
pub(crate) fn fenced(lane: LaneId, newer: Epoch) -> IngestError {
    let message = format!(
        "lane {lane}: another process took it over with epoch {newer}; this one has stopped and acknowledges nothing"
    );
    IngestError::new(ErrorKind::Fenced, message)
}

pub(crate) fn vanished(lane: LaneId, kind: ErrorKind) -> IngestError {
    IngestError::new(kind, format!("lane {lane}: its root register has vanished"))
}

/// The register's document. `None` if the lane was never claimed.
pub(crate) async fn read(store: &Store, lane: LaneId) -> Result<Option<(Root, RevisionTag)>> {
    let path = root_path(lane);
    let Some(revision) = store.read_register(&path).await? else { return Ok(None) };
    let root: Root = serde_json::from_slice(&revision.content).map_err(|error| {
        IngestError::new(ErrorKind::Corrupt, format!("{path}: expected a lane's root, found: {error}"))
    })?;
    if root.format.reader > FORMAT_VERSION || root.format.writer > FORMAT_VERSION {
        let needed = root.format.reader.max(root.format.writer);
        let message =
            format!("{path}: needs format version {needed}, this Firn knows {FORMAT_VERSION}; use a newer one");
        return Err(IngestError::new(ErrorKind::Invalid, message));
    }
    if root.lane != lane {
        return Err(IngestError::new(
            ErrorKind::Corrupt,
            format!("{path}: expected lane {lane}, found lane {}", root.lane),
        ));
    }
    Ok(Some((root, revision.tag)))
}

fn encode(root: &Root) -> bytes::Bytes {
    serde_json::to_vec_pretty(root).expect("a root is plain data").into()
}

#[cfg(test)]
mod tests;
