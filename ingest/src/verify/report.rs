//! What is said at the end: proven, or what is wrong, or why nobody could look; and what was checked, how often.

use catalog::audit::{Check, Checks, Fault, Stop};
use schemas::{Epoch, ErrorKind, LaneId, Seq, Slot, TenantName, TopicId, TopicName, Watermark};
use serde::{Serialize, Serializer};

/// What became of one topic, or of a lane whose topics could not be looked at because of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was looked at.
    pub subject: Subject,
    /// What came of it.
    pub verdict: Verdict,
    /// How far: everything before this was looked at, if all was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// What was checked and held.
    pub checks: Vec<Check>,
    /// What is odd and proves nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A topic, by name.
    Topic {
        /// Its tenant.
        tenant: TenantName,
        /// Its name.
        name: TopicName,
        /// Its identity, if its register could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<TopicId>,
    },
    /// A lane.
    Lane(LaneId),
    /// The names of topics and lanes.
    Names,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Nothing is missing, doubled or altered.
    Proven,
    /// The first thing that is wrong.
    Fault(Fault),
    /// It could not be looked at, which proves nothing.
    Unseen {
        /// What could be done about it.
        #[serde(serialize_with = "by_name")]
        kind: ErrorKind,
        /// Why.
        reason: String,
    },
}

/// The frozen cut that a topic was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The topic's lane.
    pub lane: LaneId,
    /// The lane's epoch when its root was read.
    pub epoch: Epoch,
    /// The first slot of it that was empty.
    pub slot: Slot,
    /// The topic's next seq there.
    pub next: Seq,
    /// The first seq that is not in the table.
    pub watermark: Watermark,
    /// Live rows of the table.
    pub table_rows: u64,
    /// Its live files.
    pub table_files: u64,
    /// Bytes of these.
    pub table_bytes: u64,
    /// Events outside of the table, in the log and in parked objects.
    pub tail_rows: u64,
}

impl Report {
    pub(super) fn new(subject: Subject, ended: Result<Cut, Stop>, checks: &Checks, notes: Vec<String>) -> Self {
        let (verdict, cut) = match ended {
            Ok(cut) => (Verdict::Proven, Some(cut)),
            Err(stop) => (Verdict::from(stop), None),
        };
        Self { subject, verdict, cut, checks: checks.list().collect(), notes }
    }
}

impl Verdict {
    /// True if an owner that goes on meanwhile could be the cause: then it is worth a second look.
    pub(super) fn may_be_haste(&self) -> bool {
        matches!(self, Self::Fault(_) | Self::Unseen { kind: ErrorKind::Conflict, .. })
    }
}

impl From<Stop> for Verdict {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) => Self::Fault(*fault),
            Stop::Unseen(error) => Self::Unseen { kind: error.kind(), reason: error.to_string() },
        }
    }
}

fn by_name<S: Serializer>(kind: &ErrorKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}
