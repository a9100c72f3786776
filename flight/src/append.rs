//! `DoPut`: batches in, acknowledgements out, in order and pipelined.
//!
//! ```text
//! gRPC stream ──▶ read: decode, submit ──(batches_in_flight_max)──▶ acknowledge: await receipts ──(bytes)──▶ gRPC stream
//! ```
//!
//! Back-pressure: `submit` waits while the lane has no room and the first channel while too many batches await their receipt; nothing is
//! read from the client meanwhile, so HTTP/2 flow control slows it down. Answers that a client does not read wait in memory up to
//! [`limits::ANSWERS_UNREAD_BYTES_MAX`], so that one which writes everything before it reads anything is served too.
//!
//! A batch with refused rows is answered like any other, and the stream goes on. So is one whose condition does not hold if the descriptor says
//! `"on_condition":"answer"`. Else that, and what makes the stream itself useless (bytes that do not decode, columns that cannot be the topic's, a lane
//! that has stopped) ends it with a status, after the answers to all batches before; no batch after it is appended.

use std::sync::Arc;
use std::time::Instant;

use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{FutureExt, StreamExt};
use ingest::engine::{AppendOptions, ProducerIdentity, Receipt, Refusal, Terms};
use ingest::{Appender, IngestError};
use schemas::{ErrorKind, Seq, TenantName, limits};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::decode::Decoder;
use crate::detail::{ErrorDetail, Facts};
use crate::error::{Result, WireError};
use crate::shared::{Shared, draining};
use crate::terms::BatchTerms;
use crate::ticket::{Append, OnCondition};
use crate::{guard, metrics};

/// Answers waiting for a client that does not read; their bytes have the tighter bound.
const ANSWERS_UNREAD_MAX: usize = 1 << 16;

/// The metadata of one `PutResult`: the answer to one batch. It is durable, and visible to every reader, when this is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResult {
    /// Seq of the first accepted row; null if none was accepted.
    pub first_seq: Option<Seq>,
    /// Seq of the last accepted row.
    pub last_seq: Option<Seq>,
    /// Rows accepted.
    pub accepted: u64,
    /// Rows refused, ascending, by their number in this batch, from 0. Under `reject-batch` any of them means that nothing was accepted.
    pub refused: Vec<Refusal>,
    /// Rows refused beyond those listed: a list has at most [`limits::REPORT_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused_unlisted: u64,
    /// It was appended before, and this is the answer that it had then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// The condition or fence for which nothing of it was appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<ErrorDetail>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<Receipt> for BatchResult {
    fn from(receipt: Receipt) -> Self {
        let Receipt { first_seq, last_seq, accepted, mut refused, duplicate } = receipt;
        // `{"row":…,"reason":"…"},` with every byte of the reason escaped at worst.
        let bytes = refused.iter().map(|refusal| 48 + 6 * refusal.reason.len());
        let sums = bytes.scan(0, |sum, bytes| {
            *sum += bytes;
            Some(*sum)
        });
        let listed = sums.take_while(|sum| *sum <= limits::REPORT_BYTES_MAX).count();
        let refused_unlisted = (refused.len() - listed) as u64;
        refused.truncate(listed);
        Self { first_seq, last_seq, accepted, refused, refused_unlisted, duplicate, refused_by: None }
    }
}

impl BatchResult {
    /// A condition or a fence of a stream that goes on all the same. Gives any other error back.
    fn of_refusal(error: WireError) -> Result<Self> {
        match error.facts() {
            Some(facts @ (Facts::ConditionFailed { .. } | Facts::FenceFailed { .. })) => {
                let refused_by = Some(ErrorDetail::new(error.kind(), &error.to_string(), Some(facts)));
                Ok(Self { refused_by, ..Receipt::default().into() })
            }
            _ => Err(error),
        }
    }

    /// The JSON that travels.
    fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain data is always JSON").into()
    }
}

/// A batch on its way, and the receipt to come.
struct InFlight {
    receipt: BoxFuture<'static, std::result::Result<Receipt, IngestError>>,
    since: Instant,
}

/// An answer, and the room that it takes while unread.
type Answer = (std::result::Result<PutResult, Status>, Option<OwnedSemaphorePermit>);

/// Begins an append stream.
///
/// Errors: `NotFound` for an unknown topic; those of [`ingest::Engine::appender`].
pub(crate) async fn open(
    tenant: &TenantName,
    append: Append,
    source: Source,
) -> Result<BoxStream<'static, std::result::Result<PutResult, Status>>> {
    let shared = Arc::clone(&source.shared);
    let on_condition = append.on_condition;
    let appender = appender(&shared, tenant, append).await?;
    let (submitted, receipts) = mpsc::channel(shared.settings.batches_in_flight_max.max(1));
    let (answers, answered) = mpsc::channel(ANSWERS_UNREAD_MAX);
    tokio::spawn(async move {
        if let Err(error) = guard::task(Box::pin(submit_all(source, appender, &submitted))).await {
            // Fails only if the client is gone, and with it everyone who would want to know.
            let _ = submitted.send(Err(error)).await;
        }
    });
    tokio::spawn(acknowledge(receipts, answers, on_condition));
    Ok(ReceiverStream::new(answered).map(|(answer, _room)| answer).boxed())
}

/// The way into a topic that exists.
pub(crate) async fn appender(shared: &Shared, tenant: &TenantName, append: Append) -> Result<Appender> {
    shared.topic(tenant, &append.topic)?;
    let Append { topic, on_error, producer, producer_epoch, on_condition, schema_version } = append;
    let identity = producer.clone().zip(producer_epoch).map(|(name, epoch)| ProducerIdentity { name, epoch });
    let outlives_refusals = on_condition == OnCondition::Answer;
    let options = AppendOptions { on_error, producer, identity, outlives_refusals, schema_version };
    Ok(shared.engine.appender(tenant, &topic, options).await?)
}

/// The messages of one `DoPut`.
pub(crate) struct Source {
    shared: Arc<Shared>,
    first: Option<FlightData>,
    rest: Streaming<FlightData>,
}

impl Source {
    /// Takes the descriptor off the first message, which [`Self::next`] still gives.
    ///
    /// Errors: `Invalid` if there is no message or no descriptor with it; those of `next`.
    pub(crate) async fn open(shared: &Arc<Shared>, rest: Streaming<FlightData>) -> Result<(FlightDescriptor, Self)> {
        let missing =
            || WireError::invalid(r#"DoPut: expected a descriptor such as the path ["orders"] with the first message"#);
        let mut source = Self { shared: Arc::clone(shared), first: None, rest };
        let mut first = source.next().await?.ok_or_else(missing)?;
        let descriptor = first.flight_descriptor.take().ok_or_else(missing)?;
        source.first = Some(first);
        Ok((descriptor, source))
    }

    /// The next message; `None` at the end. Errors: `Unavailable` if the server drains; what gRPC met.
    pub(crate) async fn next(&mut self) -> Result<Option<FlightData>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        tokio::select! {
            biased;
            () = self.shared.drain.cancelled() => Err(draining()),
            message = self.rest.message() => message.map_err(crate::status::of_transport),
        }
    }
}

/// Reads, decodes and submits until the client is done, it is gone, or something is wrong.
async fn submit_all(
    mut source: Source,
    mut appender: Appender,
    submitted: &mpsc::Sender<Result<InFlight>>,
) -> Result<()> {
    let mut decoder = Decoder::default();
    while let Some(message) = source.next().await? {
        let said = message.app_metadata.clone();
        let has_header = !message.data_header.is_empty();
        let Some(batch) = decoder.decode(message)? else {
            check_unsaid(&said, has_header)?;
            continue;
        };
        let terms = BatchTerms::parse(&said)?;
        let since = Instant::now();
        let receipt = Box::pin(appender.submit(batch, terms).await?);
        if submitted.send(Ok(InFlight { receipt, since })).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// What was said beside no batch would go unheard. Errors: `Invalid` if something was; a schema may have metadata of its own.
fn check_unsaid(app_metadata: &[u8], has_header: bool) -> Result<()> {
    match has_header || app_metadata.is_empty() {
        true => Ok(()),
        false => Err(WireError::invalid("app_metadata: expected it with a record batch, found it alone")),
    }
}

/// Awaits the receipts in order and passes on the answers; stops after the first error.
async fn acknowledge(
    mut receipts: mpsc::Receiver<Result<InFlight>>,
    answers: mpsc::Sender<Answer>,
    on_condition: OnCondition,
) {
    let room = Arc::new(Semaphore::new(limits::ANSWERS_UNREAD_BYTES_MAX));
    while let Some(next) = receipts.recv().await {
        let outcome = match next {
            Ok(in_flight) => guard::task(receive(in_flight)).await,
            Err(error) => Err(error),
        };
        let outcome = match on_condition {
            OnCondition::Fail => outcome,
            OnCondition::Answer => outcome.or_else(BatchResult::of_refusal),
        };
        let failed = outcome.is_err();
        let answer = match outcome {
            Ok(result) => {
                let app_metadata = result.to_json();
                let bytes = app_metadata.len().min(limits::ANSWERS_UNREAD_BYTES_MAX) as u32;
                let permit = Arc::clone(&room).acquire_many_owned(bytes).await.ok();
                (Ok(PutResult { app_metadata }), permit)
            }
            Err(error) => (Err(error.into()), None),
        };
        if answers.send(answer).await.is_err() || failed {
            break;
        }
    }
}

async fn receive(in_flight: InFlight) -> Result<BatchResult> {
    let receipt = in_flight.receipt.await?;
    ::metrics::counter!(metrics::APPEND_BATCHES).increment(1);
    ::metrics::counter!(metrics::APPEND_EVENTS).increment(receipt.accepted);
    ::metrics::counter!(metrics::APPEND_REFUSED).increment(receipt.refused.len() as u64);
    ::metrics::histogram!(metrics::APPEND_SECONDS).record(in_flight.since.elapsed());
    Ok(receipt.into())
}

/// Appends everything that `source` brings and answers once, at the end: Flight SQL's bulk ingest.
///
/// Errors: `Invalid` at the first batch with a refused row; those of an append, but `Indeterminate` instead of any that says that nothing
/// happened, if something has. All say how many rows were appended.
pub(crate) async fn append_all(mut source: Source, mut appender: Appender) -> Result<u64> {
    let window = source.shared.settings.batches_in_flight_max.max(1);
    let mut in_flight = FuturesOrdered::new();
    let mut tally = Tally::default();
    if let Err(error) = submit_in_turn(&mut source, &mut appender, window, &mut in_flight, &mut tally).await {
        tally.failed(error);
    }
    // What was under way when something failed is appended all the same, and counts.
    while let Some(result) = in_flight.next().await {
        tally.add(result);
    }
    tally.outcome()
}

type Receipts = FuturesOrdered<BoxFuture<'static, Result<BatchResult>>>;

/// Reads, decodes and submits until the client is done or something is wrong. Errors: those that no receipt tells of.
async fn submit_in_turn(
    source: &mut Source,
    appender: &mut Appender,
    window: usize,
    in_flight: &mut Receipts,
    tally: &mut Tally,
) -> Result<()> {
    let mut decoder = Decoder::default();
    while tally.error.is_none()
        && let Some(message) = source.next().await?
    {
        let Some(batch) = decoder.decode(message)? else { continue };
        let receipt = Box::pin(appender.submit(batch, Terms::default()).await?);
        in_flight.push_back(receive(InFlight { receipt, since: Instant::now() }).boxed());
        if in_flight.len() >= window
            && let Some(result) = in_flight.next().await
        {
            tally.add(result);
        }
    }
    Ok(())
}

/// What has become of the batches of one bulk ingest.
#[derive(Debug, Default)]
struct Tally {
    appended: u64,
    /// The first.
    error: Option<WireError>,
}

impl Tally {
    fn add(&mut self, result: Result<BatchResult>) {
        match result {
            Err(error) => self.failed(error),
            Ok(result) => {
                self.appended += result.accepted;
                if let Some(Refusal { row, reason }) = result.refused.first() {
                    self.failed(WireError::invalid(format!(
                        "row {row} of a batch is refused, and with it its batch: {reason}"
                    )));
                }
            }
        }
    }

    fn failed(&mut self, error: WireError) {
        self.error.get_or_insert(error);
    }

    fn outcome(self) -> Result<u64> {
        let Self { appended, error } = self;
        let Some(error) = error else { return Ok(appended) };
        let kind = match error.kind() {
            // A client would take it that all can be sent again.
            ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Fenced if appended > 0 => {
                ErrorKind::Indeterminate
            }
            kind => kind,
        };
        Err(WireError::new(kind, format!("{error}; {appended} rows of other batches were appended")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(reasons: Vec<String>) -> Receipt {
        let refused = reasons.into_iter().zip(0..).map(|(reason, row)| Refusal { row, reason }).collect();
        Receipt { first_seq: Some(Seq(4)), last_seq: Some(Seq(6)), accepted: 3, refused, duplicate: false }
    }

    #[test]
    fn an_answer_reads_as_it_is_documented() {
        let json = BatchResult::from(receipt(vec!["key is null".into()])).to_json();
        assert_eq!(json, r#"{"first_seq":4,"last_seq":6,"accepted":3,"refused":[{"row":0,"reason":"key is null"}]}"#);
    }

    #[test]
    fn a_batch_refused_by_a_condition_can_be_an_answer_and_anything_else_cannot() {
        let facts = Facts::ConditionFailed { condition: None, last_seq: 17 };
        let refused =
            BatchResult::of_refusal(WireError::new(ErrorKind::Conflict, "no").with_facts(facts)).expect("answers");
        assert_eq!(
            refused.to_json(),
            r#"{"first_seq":null,"last_seq":null,"accepted":0,"refused":[],"refused_by":{"kind":"conflict","retryable":false,"message":"no","reason":"condition-failed","last_seq":17}}"#
        );
        assert_eq!(serde_json::from_slice::<BatchResult>(&refused.to_json()).expect("reads back"), refused);
        for error in [WireError::invalid("no"), WireError::invalid("no").with_facts(Facts::ProducerForgotten)] {
            assert_eq!(BatchResult::of_refusal(error.clone()), Err(error));
        }
    }

    #[test]
    fn refusals_beyond_the_bound_are_counted() {
        let result = BatchResult::from(receipt(vec!["\u{1}".repeat(1000); 5000]));
        assert!(!result.refused.is_empty() && result.refused_unlisted > 0);
        assert_eq!(result.refused.len() as u64 + result.refused_unlisted, 5000);
        assert!(result.to_json().len() <= limits::REPORT_BYTES_MAX + 200);
    }

    #[test]
    fn a_bulk_ingest_that_failed_says_what_it_appended() {
        let tally = |results: Vec<Result<BatchResult>>| {
            let mut tally = Tally::default();
            results.into_iter().for_each(|result| tally.add(result));
            tally.outcome()
        };
        let good = || Ok(BatchResult::from(receipt(vec![])));
        let away = || Err(WireError::new(ErrorKind::Unavailable, "the store is away"));
        assert_eq!(tally(vec![good(), good()]), Ok(6));
        assert_eq!(tally(vec![away(), away()]).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(tally(vec![good(), away()]).unwrap_err().kind(), ErrorKind::Indeterminate);
        let refused = Ok(BatchResult { accepted: 0, ..receipt(vec!["key is null".into()]).into() });
        let error = tally(vec![good(), refused, good(), away()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().ends_with("key is null; 6 rows of other batches were appended"), "{error}");
    }
}
