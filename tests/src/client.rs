//! A stock Flight client: `arrow-flight` and JSON documents, nothing of Firn's.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, PutResult, Ticket};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Largest message this client takes, bytes: as large as a server may send.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// A connection to a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

/// The metadata of a `PutResult`: what became of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Receipt {
    /// Seq of the first accepted row.
    pub first_seq: Option<i64>,
    /// Seq of the last accepted row.
    pub last_seq: Option<i64>,
    /// Rows accepted.
    pub accepted: u64,
    /// Rows refused, each with its reason.
    #[serde(default)]
    pub refused: Vec<Refusal>,
    /// It was appended before.
    #[serde(default)]
    pub duplicate: bool,
    /// The condition or fence for which nothing of it was appended.
    #[serde(default)]
    pub refused_by: Option<Value>,
}

/// Why one row was refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Refusal {
    /// Row of the batch, from 0.
    pub row: u64,
    /// The reason.
    pub reason: String,
}

impl Receipt {
    /// Reads a `PutResult`.
    pub fn parse(result: &PutResult) -> Result<Self, FlightError> {
        serde_json::from_slice(&result.app_metadata).map_err(|error| FlightError::ExternalError(Box::new(error)))
    }
}

/// `["orders"]`: the descriptor of a plain append.
pub fn to_topic(topic: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![topic.to_owned()])
}

/// A JSON document as a descriptor's command.
pub fn command(document: &Value) -> FlightDescriptor {
    FlightDescriptor::new_cmd(document.to_string())
}

/// The append of a producer that lives with refused rows: `reject-row`, `dead-letter`.
pub fn append_with(topic: &str, on_error: &str) -> FlightDescriptor {
    command(&json!({"append": {"topic": topic, "on_error": on_error}}))
}

impl Client {
    /// Connects. Errors: nobody listens there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(Duration::from_secs(5));
        let endpoint = endpoint.tcp_nodelay(true).initial_stream_window_size(16 << 20);
        Ok(Self { channel: endpoint.connect().await.with_context(|| format!("nobody listens on {address}"))? })
    }

    /// The stock client itself.
    pub fn flight(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The stock Flight SQL client.
    pub fn flight_sql(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new_from_inner(self.flight())
    }

    /// One action with a JSON body; the JSON of its results, `null` if there is none, an array if there are several.
    pub async fn action(&self, name: &str, body: &Value) -> Result<Value, Status> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let results = self.flight().do_action(Action::new(name, body)).await?.into_inner();
        let mut values: Vec<Value> = results
            .map_ok(|result| {
                serde_json::from_slice(&result.body).unwrap_or_else(|_| Value::from(format!("{:?}", result.body)))
            })
            .try_collect()
            .await?;
        Ok(if values.len() == 1 {
            values.remove(0)
        } else if values.is_empty() {
            Value::Null
        } else {
            Value::Array(values)
        })
    }

    /// Makes a topic.
    pub async fn create(&self, spec: &Value) -> Result<Value, Status> {
        self.action("create-topic", spec).await
    }

    /// What the server says of a topic.
    pub async fn describe(&self, topic: &str) -> Result<Value, Status> {
        self.action("describe-topic", &json!({"topic": topic})).await
    }

    /// Moves everything acknowledged so far into the topic's table.
    pub async fn flush(&self, topic: &str) -> Result<(), Status> {
        self.action("flush", &json!({"topic": topic})).await.map(drop)
    }

    /// The batches of an append, sent one after the other without waiting; the answers as they come, one a batch.
    pub async fn append_stream(
        &self,
        to: FlightDescriptor,
        batches: impl futures::Stream<Item = RecordBatch> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<Receipt, FlightError>>, Status> {
        // One message a batch, however large, so that answers and batches correspond.
        let encoder =
            FlightDataEncoderBuilder::new().with_flight_descriptor(Some(to)).with_max_flight_data_size(usize::MAX);
        let data = encoder.build(batches.map(Ok)).filter_map(async |data| data.ok());
        let answers = self.flight().do_put(data).await?.into_inner();
        Ok(answers.map_err(FlightError::from).and_then(async |result| Receipt::parse(&result)).boxed())
    }

    /// Appends batches and waits for all answers.
    pub async fn append(&self, to: FlightDescriptor, batches: Vec<RecordBatch>) -> Result<Vec<Receipt>, FlightError> {
        let answers = self.append_stream(to, futures::stream::iter(batches)).await?;
        answers.try_collect().await
    }

    /// Appends batches, each with what is said of it in its `app_metadata`, and waits for all answers.
    pub async fn append_with_terms(
        &self,
        to: FlightDescriptor,
        batches: Vec<(RecordBatch, Bytes)>,
    ) -> Result<Vec<Receipt>, FlightError> {
        let (batches, mut said): (Vec<_>, VecDeque<_>) = batches.into_iter().unzip();
        let encoder =
            FlightDataEncoderBuilder::new().with_flight_descriptor(Some(to)).with_max_flight_data_size(usize::MAX);
        let encoded = encoder.build(futures::stream::iter(batches.into_iter().map(Ok)));
        let mut messages: Vec<FlightData> = encoded.try_collect().await?;
        // The first is the schema; without dictionaries all others are batches.
        messages.iter_mut().skip(1).for_each(|message| message.app_metadata = said.pop_front().unwrap_or_default());
        let answers = self.flight().do_put(futures::stream::iter(messages)).await?.into_inner();
        let results: Vec<PutResult> = answers.try_collect().await?;
        results.iter().map(Receipt::parse).collect()
    }

    /// The batches behind a JSON ticket as they come.
    pub async fn stream(&self, ticket: &Value) -> Result<FlightRecordBatchStream, FlightError> {
        self.stream_ticket(Ticket::new(ticket.to_string())).await
    }

    async fn stream_ticket(&self, ticket: Ticket) -> Result<FlightRecordBatchStream, FlightError> {
        let data = self.flight().do_get(ticket).await?.into_inner();
        Ok(FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from)))
    }

    /// All batches behind a JSON ticket, which must end by itself.
    pub async fn get(&self, ticket: &Value) -> Result<Vec<RecordBatch>, FlightError> {
        self.stream(ticket).await?.try_collect().await
    }

    /// One key's events, in order.
    pub async fn replay(&self, topic: &str, key: &str) -> Result<Vec<RecordBatch>, FlightError> {
        self.get(&json!({"replay": {"topic": topic, "key": key}})).await
    }

    /// The result of a query, over Flight SQL.
    pub async fn sql(&self, query: &str) -> Result<Vec<RecordBatch>, FlightError> {
        let info = self.flight_sql().execute(query.to_owned(), None).await?;
        self.fetch(info).await
    }

    /// What a Flight SQL answer points at.
    pub async fn fetch(&self, info: FlightInfo) -> Result<Vec<RecordBatch>, FlightError> {
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.ok_or_else(|| FlightError::protocol("an endpoint without a ticket"))?;
            let stream = self.stream_ticket(ticket).await?;
            batches.extend(stream.try_collect::<Vec<_>>().await?);
        }
        Ok(batches)
    }

    /// The one integer that a query answers with.
    pub async fn number(&self, query: &str) -> Result<i64> {
        let batches = self.sql(query).await?;
        let column = batches.first().context("an answer without a batch")?.schema().field(0).name().clone();
        crate::rows::integers(&batches, &column).first().copied().context("an answer without a row")
    }

    /// The schema of what a descriptor names.
    pub async fn schema(&self, of: FlightDescriptor) -> Result<Schema> {
        let result = self.flight().get_schema(of).await?.into_inner();
        Ok(Schema::try_from(&result)?)
    }
}
