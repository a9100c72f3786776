//! What becomes of a command that asks for something which the lane's state may forbid.

use std::sync::Arc;

use catalog::view::Tail;
use schemas::{ErrorKind, Seq, TopicId};

use super::super::admit::{Judged, admit, other_version, recognise, topic_gone};
use super::super::conditions::Recent;
use super::super::group::Waiter;
use super::super::verdict::{Reply, Verdict};
use super::super::{Answer, Append, Command};
use super::Lane;
use crate::engine::{Fence, ProducerEpoch, Resume};
use crate::error::IngestError;
use crate::rows::Shape;

impl Lane {
    /// Appends a batch, or has it answered why not.
    pub(super) fn take_append(&mut self, mut append: Box<Append>) {
        if let Err(reason) = append.order.check() {
            return Command::Append(append).refuse(&reason);
        }
        // A retry is known even if its topic takes no more appends.
        let judged = match recognise(&self.head, &append) {
            Some(judged) => judged,
            None => {
                if let Some(reason) = self.halted.refusal(&append) {
                    return Command::Append(append).refuse(reason);
                }
                self.admit(&mut append)
            }
        };
        match judged {
            Judged::Fits { sets_fence } => self.append(*append, sets_fence),
            Judged::Known(receipt) => self.settle(Waiter::Known(Reply::Receipt(receipt, append.answer))),
            Judged::Refused(refusal) => {
                self.settle(Waiter::Verdict(Verdict::refuse(refusal, append.answer, &append.order)));
            }
            Judged::Stale => {
                let back = append.basis.as_mut().and_then(|basis| basis.tests.take_way_back());
                // If nobody waits for it there, whoever sent it has gone.
                drop(back.map(|back| back.send(append)));
            }
        }
    }

    fn admit(&self, append: &mut Append) -> Judged {
        let topic = append.basis.as_ref().map(|basis| basis.shape.def().id);
        let recent = || {
            let topic = topic?;
            let entries = self.in_flight.iter().flat_map(|segment| &segment.entries).chain(&self.group.entries);
            let placed = entries.filter_map(|entry| entry.rows.as_ref().map(|(placed, _)| placed));
            let tail = self.core.tails.snapshot(&topic)?;
            Some(Recent { tail, in_flight: placed.filter(|placed| placed.topic == topic).collect() })
        };
        admit(&self.head, append, recent)
    }

    fn append(&mut self, append: Append, sets_fence: bool) {
        let is_numbered = append.basis.as_ref().is_some_and(|basis| basis.numbered.is_some());
        let writes = append.rows.is_some() || append.dead.is_some() || is_numbered || sets_fence;
        if writes {
            let now = self.core.parts.env.now_micros();
            self.group.append(&mut self.head, append, sets_fence, now);
        } else {
            let Append { receipt, answer, .. } = append;
            self.settle(Waiter::Verdict(Verdict { outcome: Ok(()), reply: Reply::Receipt(receipt, answer) }));
        }
    }

    /// Gives a topic the next version of its schema, in the order of its appends. That it has this very version already, or cannot have it, is a verdict.
    pub(super) fn change(&mut self, shape: Arc<Shape>, answer: Answer<()>) {
        let wanted = shape.def();
        let outcome = match self.head.topics.get(&wanted.id) {
            None => Err(topic_gone(&wanted.id, wanted.name.as_str())),
            Some(topic) if topic.shape().def() == wanted => Ok(()),
            Some(_) if self.halted.contains(&wanted.id) => {
                let message = format!("topic {} has stopped: resume it before its schema is changed", wanted.name);
                Err(IngestError::new(ErrorKind::Conflict, message))
            }
            Some(topic) if topic.shape().def().version + 1 == wanted.version => {
                let tenant = topic.tenant.clone();
                self.group.change(&mut self.head, tenant, shape);
                return self.settle(Waiter::Other(answer));
            }
            Some(topic) => Err(other_version(&wanted.name, topic.shape().def().version, wanted.version - 1)),
        };
        self.settle(Waiter::Verdict(Verdict { outcome, reply: Reply::Done(answer) }));
    }

    /// Issues an epoch to a producer.
    pub(super) fn issue_epoch(
        &mut self,
        topic: &TopicId,
        name: Arc<str>,
        resume: Resume,
        answer: Answer<ProducerEpoch>,
    ) {
        let producers = &self.head.producers;
        let refusal = match (self.head.topics.contains_key(topic), resume) {
            (false, _) => Some(gone(topic)),
            (true, Resume::No) => None,
            (true, Resume::Yes { since_micros }) => producers.forgets(topic, &name, since_micros),
        };
        if let Some(refusal) = refusal {
            let nothing = ProducerEpoch { producer_epoch: 0, next_producer_seq: 0 };
            return self.refuse(refusal, Reply::Epoch(nothing, answer));
        }
        let now = self.core.parts.env.now_micros();
        let issued = self.group.issue_epoch(&mut self.head, topic, name, resume != Resume::No, now);
        self.settle(Waiter::Record(Reply::Epoch(issued, answer)));
    }

    /// Sets a fence, if there is something to set, and says what token it has.
    pub(super) fn fence(
        &mut self,
        topic: &TopicId,
        key_prefix: Option<String>,
        set: Option<u64>,
        answer: Answer<Option<u64>>,
    ) {
        let Some(shape) = self.head.topics.get(topic).map(|topic| Arc::clone(topic.shape())) else {
            return self.refuse(gone(topic), Reply::Token(None, answer));
        };
        let stands = self.head.fences.token(topic, &key_prefix);
        let fence = set.map(|token| Fence { key_prefix, token });
        match fence.as_ref().map(|fence| self.head.fences.judge(topic, fence)).transpose() {
            Err(refusal) => self.refuse(refusal, Reply::Token(None, answer)),
            Ok(Some(true)) => {
                if let Some(fence) = fence {
                    self.group.set_fence(&mut self.head, &shape, fence);
                }
                self.settle(Waiter::Record(Reply::Token(set, answer)));
            }
            Ok(_) => {
                let reply = Reply::Token(stands, answer);
                self.settle(Waiter::Verdict(Verdict { outcome: Ok(()), reply }));
            }
        }
    }

    /// Says in the log that events of a topic below a seq are gone.
    pub(super) fn retain(&mut self, topic: TopicId, below: Seq, answer: Answer<()>) {
        let Some((retained, next)) = self.head.topics.get(&topic).map(|topic| (topic.retained, topic.next_seq)) else {
            return Command::Retain { topic, below, answer }.refuse(&gone(&topic));
        };
        if below > next {
            let message = format!("topic {topic} ends before {next}: events below {below} are not there to go");
            let refusal = IngestError::new(ErrorKind::Internal, message);
            return Command::Retain { topic, below, answer }.refuse(&refusal);
        }
        if below > retained {
            self.group.retain(&mut self.head, topic, below);
        }
        self.settle(Waiter::Other(answer));
    }

    fn refuse(&mut self, refusal: IngestError, reply: Reply) {
        self.settle(Waiter::Verdict(Verdict { outcome: Err(refusal), reply }));
    }

    /// Answers once readers here see all that anybody was told of or shown before this.
    ///
    /// A put whose answer is late may have landed, and a standby may have shown its rows: so what is in flight must be decided first. What still waits to
    /// be put nobody has seen. Then the root must show that nobody else has acknowledged anything.
    pub(in crate::sequence) fn catch_up(&mut self, answer: Answer<()>) {
        let waiter = Waiter::Verdict(Verdict { outcome: Ok(()), reply: Reply::CaughtUp(answer) });
        match self.in_flight.back_mut() {
            Some(last) => last.waiters.push(waiter),
            None => self.decided_for(waiter),
        }
    }

    /// Answers once everything taken so far is decided: what an answer rests on must be durable.
    pub(super) fn settle(&mut self, waiter: Waiter) {
        match self.in_flight.back_mut() {
            _ if !self.group.is_empty() => self.group.waiters.push(waiter),
            Some(last) => last.waiters.push(waiter),
            None => self.decided_for(waiter),
        }
    }

    /// What somebody waited for is decided: they are answered, or wait for a look at the root.
    pub(super) fn decided_for(&mut self, waiter: Waiter) {
        match waiter {
            Waiter::Verdict(verdict) => self.verdicts.push(verdict),
            waiter => waiter.succeed(),
        }
    }
}

fn gone(topic: &TopicId) -> IngestError {
    topic_gone(topic, "")
}
