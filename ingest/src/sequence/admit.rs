//! Whether a batch may be appended, at its place in the order (P2): recognise a retry, then the topic, then the writer, then the conditions.
//!
//! Pure: the head's state and what is in flight go in, a judgement comes out.

use std::sync::Arc;

use schemas::{ErrorKind, Seq, TopicId, TopicName};

use super::Append;
use super::conditions::{Recent, Tested, Tests};
use super::group::Part;
use crate::engine::{Fence, Receipt};
use crate::error::{IngestError, Result};
use crate::lane::producers::{Answered, Judgement, Numbered};
use crate::lane::state::LaneState;
use crate::rows::Shape;

/// What an append rests on beyond its rows. Most appends rest on nothing.
#[derive(Debug)]
pub(crate) struct Basis {
    /// The topic's, by which the batch was validated.
    pub(crate) shape: Arc<Shape>,
    /// Whose batch it is, and which.
    pub(crate) numbered: Option<Numbered>,
    /// The fence that its writer must not be behind.
    pub(crate) fence: Option<Fence>,
    /// The conditions that must hold.
    pub(crate) tests: Tests,
}

/// What is to be done with an append.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Append it. `sets_fence`: and its fence's token with it.
    Fits { sets_fence: bool },
    /// It was appended before.
    Known(Receipt),
    /// Nothing of it.
    Refused(IngestError),
    /// Have its conditions looked up again.
    Stale,
}

/// What was answered to a batch before, or why it cannot be its producer's next. `None`: it is new.
pub(crate) fn recognise(head: &LaneState, append: &Append) -> Option<Judged> {
    let basis = append.basis.as_ref()?;
    let numbered = basis.numbered.as_ref()?;
    let def = basis.shape.def();
    if !head.topics.contains_key(&def.id) {
        return Some(Judged::Refused(topic_gone(&def.id, def.name.as_str())));
    }
    match head.producers.judge(&def.id, numbered) {
        Judgement::Next => None,
        Judgement::Refused(refusal) => Some(Judged::Refused(refusal)),
        Judgement::Answered(answer) => Some(match answered(&answer, &append.receipt, def.version) {
            Ok(receipt) => Judged::Known(receipt),
            Err(error) => Judged::Refused(error),
        }),
    }
}

/// Whether a batch that is new may be appended.
pub(crate) fn admit<'a>(head: &LaneState, append: &mut Append, recent: impl FnOnce() -> Option<Recent<'a>>) -> Judged {
    let Append { rows, dead, basis, .. } = append;
    if let Err(refusal) = rows.iter().chain(&*dead).try_for_each(|part| admissible(head, part)) {
        return Judged::Refused(refusal);
    }
    let Some(basis) = basis else { return Judged::Fits { sets_fence: false } };
    let def = basis.shape.def();
    let Some(topic) = head.topics.get(&def.id) else {
        return Judged::Refused(topic_gone(&def.id, def.name.as_str()));
    };
    let sets_fence = match basis.fence.as_ref().map(|fence| head.fences.judge(&def.id, fence)).transpose() {
        Ok(sets) => sets.unwrap_or(false),
        Err(refusal) => return Judged::Refused(refusal),
    };
    match basis.tests.test(topic.next_seq, topic.retained, recent) {
        Tested::Hold => Judged::Fits { sets_fence },
        Tested::Fail(refusal) => Judged::Refused(refusal),
        Tested::Stale => Judged::Stale,
    }
}

/// The answer that a batch had: what is remembered, with the refused rows that validation found again.
fn answered(answer: &Answered, again: &Receipt, version: u32) -> Result<Receipt> {
    let Answered { first_seq, accepted, refused, schema_version, .. } = *answer;
    let last_seq = first_seq.map(|first| Seq(first.plus(accepted as usize).0 - 1));
    // A later version refuses none that an earlier one took: as many refused rows are the same ones.
    if refused as usize != again.refused.len() {
        let message = format!(
            "the batch was answered before, by schema version {schema_version}: {accepted} rows accepted, from seq {first_seq:?} to {last_seq:?}, {refused} refused; which ones cannot be said by version {version}"
        );
        return Err(IngestError::new(ErrorKind::Conflict, message));
    }
    Ok(Receipt { first_seq, last_seq, accepted: accepted.into(), refused: again.refused.clone(), duplicate: true })
}

fn admissible(head: &LaneState, part: &Part) -> Result<()> {
    let def = part.shape().def();
    let Some(topic) = head.topics.get(&def.id) else {
        return Err(topic_gone(&def.id, def.name.as_str()));
    };
    match topic.shape_of(def.version) {
        Some(_) => Ok(()),
        None => {
            let message = format!("topic {} no longer takes schema version {}: open it anew", def.name, def.version);
            Err(IngestError::new(ErrorKind::Conflict, message))
        }
    }
}

/// What is said of a topic that the lane does not have.
pub(crate) fn topic_gone(id: &TopicId, name: &str) -> IngestError {
    IngestError::new(ErrorKind::NotFound, format!("topic {name} ({id}) was dropped"))
}

/// A change that was made for another version than the topic has.
pub(crate) fn other_version(name: &TopicName, version: u32, expected: u32) -> IngestError {
    let message =
        format!("topic {name} has schema version {version}, expected {expected}: look at it, then decide again");
    IngestError::new(ErrorKind::Conflict, message)
}
