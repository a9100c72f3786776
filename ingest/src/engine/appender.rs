//! A producer's way in: validate and encode in the producer's own task, find room, queue up.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::Either;
use schemas::{ErrorKind, TenantName, TopicName};
use tokio::sync::oneshot;

use super::{AppendOptions, Engine, OnError, Receipt, Refusal, Shared, Terms, unanswered};
use crate::error::{IngestError, Result};
use crate::rows::ValidRows;
use crate::sequence::group::Part;
use crate::sequence::{APPEND_BYTES_MAX, Append, Command, Order};
use crate::validate::{Validated, Validator, dead_letter_spec};

impl Engine {
    /// A producer's way in. One appender keeps the order of its batches.
    ///
    /// Errors: `NotFound` if there is no such topic; with `DeadLetter`, those of making `{topic}_dead`.
    pub async fn appender(&self, tenant: &TenantName, topic: &TopicName, options: AppendOptions) -> Result<Appender> {
        let checks = &*self.shared.core.parts.checks;
        let validator = Validator::new(self.topic(tenant, topic)?, checks)?;
        let dead = match options.on_error {
            OnError::DeadLetter => {
                let dead = self.create_topic(tenant, dead_letter_spec(topic)?).await?;
                Some(Validator::new(dead, checks)?)
            }
            OnError::RejectBatch | OnError::RejectRow => None,
        };
        Ok(Appender { shared: Arc::clone(&self.shared), validator, dead, options, order: Order::default() })
    }
}

/// A producer's way in. Batches submitted one after the other are sequenced in that order.
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    validator: Validator,
    dead: Option<Validator>,
    options: AppendOptions,
    order: Order,
}

impl Appender {
    /// Validates a batch (any columns in any order, matched to the topic's by name; `_headers` and `_kind` allowed) and hands it to the lane.
    ///
    /// Returns once the batch has its place in the queue, waiting while there is no room: that is the back-pressure. The future it returns
    /// resolves when the batch is durable and all before it are; dropping it does not take the batch back.
    /// Errors, nothing having happened: `Invalid` for a batch whose columns cannot be the topic's or that is over a limit; `Overloaded` past the
    /// deadline for room; `Fenced`, `Unavailable` if the lane has stopped. The future's errors: `Indeterminate` if the lane stopped with it in
    /// flight; once one has failed, no later batch of this appender is appended.
    pub async fn submit(
        &mut self,
        batch: RecordBatch,
        terms: Terms,
    ) -> Result<impl Future<Output = Result<Receipt>> + Send + 'static + use<>> {
        self.shared.check_running()?;
        let Validated { good, refused } = self.validator.validate(&batch)?;
        if self.options.on_error == OnError::RejectBatch && !refused.is_empty() {
            return Ok(Either::Left(ready(Ok(Receipt { refused, ..Receipt::default() }))));
        }
        let dead = self.dead_letters(&batch, &refused)?;
        drop(batch);
        let accepted = good.as_ref().map_or(0, ValidRows::len) as u64;
        let receipt = Receipt { accepted, refused, ..Receipt::default() };
        if good.is_none() && dead.is_none() {
            return Ok(Either::Left(ready(Ok(receipt))));
        }
        let answered = self.queue(good, dead, receipt).await?;
        Ok(Either::Right(async move { answered.await.map_err(|_| unanswered())? }))
    }

    async fn queue(
        &self,
        good: Option<ValidRows>,
        dead: Option<ValidRows>,
        receipt: Receipt,
    ) -> Result<oneshot::Receiver<Result<Receipt>>> {
        self.check_topic(&self.validator)?;
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
        self.shared.send(Command::Append(Box::new(Append { rows, dead, permit, receipt, answer, order }))).await?;
        Ok(answered)
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
        match self.shared.core.tails.stopped(&validator.shape().def().id) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}
