//! One append stream: what the outbox has goes out, answers come back.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor, PutResult};
use bytes::Bytes;
use flight::append::BatchResult;
use flight::terms::{BatchTerms, LastSeqCondition};
use flight::ticket::{Append, Request, Ticket};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use ingest::engine::EXPECTED_LAST_SEQ;
use parking_lot::Mutex;
use schemas::limits;

use super::outbox::Outbox;
use crate::client::Client;
use crate::exit::Failure;

/// What every attempt of a load does alike.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The descriptor.
    pub(super) append: Append,
    /// Of every batch.
    pub(super) schema: SchemaRef,
    /// Batches say their numbers.
    pub(super) is_numbered: bool,
    /// What the topic's last seq must be when the first batch is appended.
    pub(super) expect_last_seq: Option<i64>,
    /// No event's key may have been there before its batch.
    pub(super) expect_new_keys: bool,
}

/// The answers of one attempt, in the order of its batches.
pub(super) struct Answers(BoxStream<'static, Result<PutResult, FlightError>>);

impl Answers {
    /// The next; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<BatchResult>, Failure> {
        let Some(answer) = self.0.try_next().await? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&answer.app_metadata)?))
    }
}

impl Attempt {
    /// Opens a stream and sends what `outbox` has.
    pub(super) async fn begin(&self, client: &Client, outbox: &Arc<Outbox>) -> Result<Answers, Failure> {
        let descriptor = FlightDescriptor::new_cmd(Ticket::from(Request::Append(self.append.clone())).to_json());
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let batches = self.batches(Arc::clone(outbox), Arc::clone(&said));
        let data = FlightDataEncoderBuilder::new()
            .with_schema(self.sent_schema())
            .with_flight_descriptor(Some(descriptor))
            // One message a batch: each message is appended whole and answered by itself.
            .with_max_flight_data_size(limits::MESSAGE_BYTES_MAX)
            .build(batches)
            .map_ok(move |message| with_terms(message, &said));
        Ok(Answers(client.flight().do_put(data).await?.boxed()))
    }

    /// The batches to send; their terms are put into `said`, in the same order.
    fn batches(
        &self,
        outbox: Arc<Outbox>,
        said: Arc<Mutex<VecDeque<Bytes>>>,
    ) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static {
        let (number, schema, is_new) = (outbox.begin(), self.sent_schema(), self.expect_new_keys);
        let (is_numbered, expect_last_seq) = (self.is_numbered, self.expect_last_seq);
        futures::stream::unfold((), move |()| {
            let (outbox, said, schema) = (Arc::clone(&outbox), Arc::clone(&said), Arc::clone(&schema));
            async move {
                let (number, batch) = outbox.next(number).await?;
                let terms = terms(number, is_numbered, expect_last_seq);
                said.lock().push_back(terms);
                let batch = if is_new { expecting_new_keys(&batch, schema) } else { Ok(batch) };
                Some((batch.map_err(FlightError::from), ()))
            }
        })
    }

    fn sent_schema(&self) -> SchemaRef {
        if !self.expect_new_keys {
            return Arc::clone(&self.schema);
        }
        let expected = Arc::new(Field::new(EXPECTED_LAST_SEQ, DataType::Int64, false));
        Arc::new(Schema::new(self.schema.fields().iter().cloned().chain([expected]).collect::<Vec<_>>()))
    }
}

/// What is said of a batch; nothing if there is nothing to say.
fn terms(number: u64, is_numbered: bool, expect_last_seq: Option<i64>) -> Bytes {
    let of_topic = |expected_last_seq| LastSeqCondition { key: None, pattern: None, expected_last_seq };
    let conditions: Vec<_> = expect_last_seq.filter(|_| number == 1).map(of_topic).into_iter().collect();
    if !is_numbered && conditions.is_empty() {
        return Bytes::new();
    }
    BatchTerms { producer_seq: is_numbered.then_some(number), conditions, fence: None }.to_json()
}

fn expecting_new_keys(batch: &RecordBatch, schema: SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let expected: ArrayRef = Arc::new(Int64Array::from(vec![0; batch.num_rows()]));
    RecordBatch::try_new(schema, batch.columns().iter().cloned().chain([expected]).collect())
}

/// Terms go with the messages that hold batches.
fn with_terms(message: FlightData, said: &Mutex<VecDeque<Bytes>>) -> FlightData {
    let header = arrow_ipc::root_as_message(&message.data_header).map(|header| header.header_type());
    match header == Ok(arrow_ipc::MessageHeader::RecordBatch) {
        true => FlightData { app_metadata: said.lock().pop_front().unwrap_or_default(), ..message },
        false => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_says_its_number_and_the_first_what_is_expected_of_the_topic() {
        assert_eq!(terms(1, false, None), "");
        assert_eq!(terms(2, true, Some(7)), r#"{"producer_seq":2}"#);
        assert_eq!(terms(1, true, Some(7)), r#"{"producer_seq":1,"conditions":[{"expected_last_seq":7}]}"#);
        assert_eq!(terms(1, false, Some(0)), r#"{"conditions":[{"expected_last_seq":0}]}"#);
    }
}
