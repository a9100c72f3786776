//! A producer's way in: validate and encode in the producer's own task, find room, queue up.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use catalog::view::Tail;
use futures::future::Either;
use schemas::{ErrorKind, TenantName, TopicName};
use tokio::sync::oneshot;

use super::basis::{Identity, Sent};
use super::{AppendOptions, Engine, OnError, Receipt, Refusal, Shared, Terms, unanswered};
use crate::error::{IngestError, Result};
use crate::rows::ValidRows;
use crate::sequence::admit::Basis;
use crate::sequence::group::Part;
use crate::sequence::{APPEND_BYTES_MAX, Append, Command, Order};
use crate::validate::{Validated, Validator, dead_letter_spec};

impl Engine {
    /// A producer's way in. One appender keeps the order of its batches.
    ///
    /// Errors: `NotFound` if there is no such topic; `Fenced`, naming the owner, if another process owns its lane; with `DeadLetter`, those of making
    /// `{topic}_dead`.
    pub async fn appender(&self, tenant: &TenantName, topic: &TopicName, options: AppendOptions) -> Result<Appender> {
        let identity = options.identity.as_ref().map(Identity::new).transpose()?;
        let checks = &*self.host.parts.checks;
        let def = self.topic(tenant, topic)?;
        let shared = self.host.lane(def.lane)?;
        shared.check_owner()?;
        let validator = match options.schema_version {
            Some(version) if version != def.version => {
                let earlier = self.topic_version(tenant, &def, version).await?;
                Validator::of_version(earlier, Arc::clone(&def), checks)?
            }
            _ => Validator::new(Arc::clone(&def), checks)?,
        };
        let dead = match options.on_error {
            OnError::DeadLetter => {
                let dead = self.create_beside(tenant, dead_letter_spec(topic)?, def.lane).await?;
                Some(Validator::new(dead, checks)?)
            }
            OnError::RejectBatch | OnError::RejectRow => None,
        };
        let order = Order::new(options.outlives_refusals);
        Ok(Appender { shared, tenant: tenant.clone(), validator, dead, options, identity, order })
    }
}

/// How often the conditions of one append are looked up: a table changes every few seconds, a look-up takes milliseconds.
const LOOK_UPS_MAX: usize = 8;

/// A producer's way in. Batches submitted one after the other are sequenced in that order.
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    tenant: TenantName,
    validator: Validator,
    dead: Option<Validator>,
    options: AppendOptions,
    identity: Option<Identity>,
    order: Order,
}

impl Appender {
    /// Validates a batch (any columns in any order, matched by name to those that the topic had when this was made; `_headers`, `_kind` and [`super::EXPECTED_LAST_SEQ`] allowed)
    /// and hands it to the lane.
    ///
    /// Returns once the batch has its place in the queue, waiting while there is no room: that is the back-pressure. The future it returns
    /// resolves when the batch is durable and all before it are; dropping it does not take the batch back.
    /// Errors, nothing having happened: `Invalid` for a batch whose columns cannot be the topic's or that is over a limit; `Overloaded` past the
    /// deadline for room; `Fenced`, `Unavailable` if the lane has stopped. The future's errors: `Indeterminate` if the lane stopped with it in
    /// flight; `Conflict` with a [`super::Detail`] if its terms do not hold; once one has failed, no later batch of this appender is appended.
    pub async fn submit(
        &mut self,
        batch: RecordBatch,
        terms: Terms,
    ) -> Result<impl Future<Output = Result<Receipt>> + Send + 'static + use<>> {
        self.shared.check_running()?;
        self.follow()?;
        let sent = Sent::new(batch, terms, self.identity.as_ref(), self.options.on_error as u8)?;
        let Validated { good, refused } = self.validator.validate(&sent.batch)?;
        let accepts_none = self.options.on_error == OnError::RejectBatch && !refused.is_empty();
        let dead = self.dead_letters(&sent.batch, &refused)?;
        let good = good.filter(|_| !accepts_none);
        let basis = match accepts_none {
            true => sent.basis_of_refused(self.validator.shape()),
            false => sent.basis(self.validator.shape(), good.as_ref(), &refused)?,
        };
        let accepted = good.as_ref().map_or(0, ValidRows::len) as u64;
        let receipt = Receipt { accepted, refused, ..Receipt::default() };
        if good.is_none() && dead.is_none() && basis.is_none() {
            return Ok(Either::Left(ready(Ok(receipt))));
        }
        let answered = self.queue(good, dead, receipt, basis).await?;
        Ok(Either::Right(async move { answered.await.map_err(|_| unanswered())? }))
    }

    /// The topic may have a newer schema by now: what is sent goes on having the columns that it had, and becomes what they are there.
    fn follow(&mut self) -> Result<()> {
        let (parts, def) = (&self.shared.core.parts, self.validator.shape().def());
        let newest = parts.topics.get(&self.tenant, &def.name);
        if let Some(newest) = newest.filter(|newest| newest.id == def.id && newest.version > def.version) {
            self.validator = self.validator.follow(newest, &*parts.checks)?;
        }
        Ok(())
    }

    async fn queue(
        &self,
        good: Option<ValidRows>,
        dead: Option<ValidRows>,
        receipt: Receipt,
        basis: Option<Box<Basis>>,
    ) -> Result<oneshot::Receiver<Result<Receipt>>> {
        // The lane finds out: it may have been appended before the topic stopped.
        let may_be_known = basis.as_ref().is_some_and(|basis| basis.numbered.is_some());
        if !may_be_known {
            self.check_topic(&self.validator)?;
        }
        let bytes: usize = good.iter().chain(&dead).map(ValidRows::bytes).sum();
        let encode = |validator: &Validator, rows| Part::encode(Arc::clone(validator.shape()), rows);
        let rows = good.map(|rows| encode(&self.validator, rows)).transpose()?;
        let dead = match (&self.dead, dead) {
            (Some(validator), Some(rows)) => {
                self.check_topic(validator)?;
                Some(encode(validator, rows)?)
            }
            _ => None,
        };
        let encoded: usize = rows.iter().chain(&dead).map(Part::encoded_bytes).sum();
        if encoded > APPEND_BYTES_MAX {
            let message = format!(
                "a batch and its dead letters take {encoded} bytes in the log, at most {APPEND_BYTES_MAX} are allowed: split it"
            );
            return Err(IngestError::new(ErrorKind::Invalid, message));
        }
        let limit = Duration::from_millis(self.shared.core.parts.settings.room_deadline_ms);
        // The encoded rows are in memory as well until the segment has landed.
        let permit = self.shared.core.tails.reserve(bytes + encoded, limit).await?;
        let (answer, answered) = oneshot::channel();
        let order = self.order.clone();
        self.hand_over(Box::new(Append { rows, dead, permit, receipt, answer, order, basis })).await?;
        Ok(answered)
    }

    /// Hands an append to the lane; one with conditions has them looked up before, and again as often as the lane finds that too old.
    async fn hand_over(&self, mut append: Box<Append>) -> Result<()> {
        let core = &self.shared.core;
        for _ in 0..LOOK_UPS_MAX {
            let Some(basis) = append.basis.as_mut().filter(|basis| !basis.tests.is_empty()) else {
                return self.shared.send(Command::Append(append)).await;
            };
            let def = self.validator.shape().def();
            // Without a tail there is no topic, which is for the lane to say.
            if let Some(tail) = core.tails.snapshot(&def.id) {
                basis.tests.look_up(tail, def, &*core.parts.last_seqs).await?;
            }
            let way_back = basis.tests.way_back();
            self.shared.send(Command::Append(append)).await?;
            match way_back.await {
                Ok(stale) => append = stale,
                // It has its place, or its answer.
                Err(_) => return Ok(()),
            }
        }
        let message = "nothing was appended: the table changed each time that a condition was looked up: retry";
        Err(IngestError::new(ErrorKind::Unavailable, message))
    }

    /// The refused rows as rows of the dead-letter topic, if that is wanted.
    fn dead_letters(&self, batch: &RecordBatch, refused: &[Refusal]) -> Result<Option<ValidRows>> {
        let Some(dead) = self.dead.as_ref().filter(|_| !refused.is_empty()) else { return Ok(None) };
        let id = self.shared.core.parts.env.uuid().to_string();
        let producer = self.options.producer.as_deref();
        let letters = self.validator.dead_letters(batch, refused, producer, &id)?;
        let validated = dead.validate(&letters)?;
        match validated.refused.first() {
            None => Ok(validated.good),
            Some(refusal) => {
                let message = format!("dead letter {} does not fit its own topic: {}", refusal.row, refusal.reason);
                Err(IngestError::new(ErrorKind::Internal, message))
            }
        }
    }

    /// Errors: why the topic takes no appends, if it does not.
    fn check_topic(&self, validator: &Validator) -> Result<()> {
        match self.shared.core.tails.refusal(&validator.shape().def().id) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}
