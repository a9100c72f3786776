//! A stock Flight client, with Firn's tickets and errors.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{Action, FlightClient, FlightDescriptor, Ticket as FlightTicket};
use flight::actions::{TopicDescription, TopicSummary};
use flight::ticket::Ticket;
use futures::{Stream, StreamExt, TryStreamExt};
use schemas::{TopicName, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::transport::{Channel, Endpoint};

use crate::config::ClientConfig;
use crate::exit::Failure;

/// A server that is silent for so long during a call is asked whether it is there; if it does not answer within as long again, the call has failed.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The header of a call that wants everything that was acknowledged before it.
const LINEARIZABLE_KEY: &str = "firn-linearizable";

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    channel: Channel,
    /// Where it is.
    server: String,
}

/// Batches from the server, with the schema that they have even if there are none.
pub(crate) struct Batches {
    /// Their schema.
    pub(crate) schema: SchemaRef,
    /// The batches.
    pub(crate) stream: Pin<Box<dyn Stream<Item = Result<RecordBatch, Failure>> + Send>>,
}

impl Client {
    /// Connects to the first server that answers. Errors: usage for an address that is none, away if nobody answers.
    pub(crate) async fn connect(config: &ClientConfig) -> Result<Self, Failure> {
        for server in config.server.split(',') {
            if let Some(client) = Self::to(server).await? {
                return Ok(client);
            }
        }
        Err(Failure::away(format!(
            "no server answers at {}; start one with `firn serve --data DIR`, or name another with --server",
            config.server
        )))
    }

    /// Connects to one server. `None` if it cannot be reached. Errors: usage.
    pub(crate) async fn to(server: &str) -> Result<Option<Self>, Failure> {
        let connected = endpoint(server)?.connect().await.ok();
        Ok(connected.map(|channel| Self { channel, server: server.to_owned() }))
    }

    /// Where the server is, as it was named.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// A client of the server that owns the topic, which is this one's where nobody knows or nobody answers: that one says what is the matter.
    pub(crate) async fn at_owner_of(self, topic: &TopicName) -> Result<Self, Failure> {
        let descriptor = FlightDescriptor::new_path(vec![topic.to_string()]);
        self.at_owner(descriptor).await
    }

    /// A client of the server that owns what is asked for, as [`Self::at_owner_of`].
    pub(crate) async fn at_owner_of_asked(self, ticket: &Ticket) -> Result<Self, Failure> {
        self.at_owner(FlightDescriptor::new_cmd(ticket.to_json())).await
    }

    async fn at_owner(self, descriptor: FlightDescriptor) -> Result<Self, Failure> {
        let info = self.flight().get_flight_info(descriptor).await?;
        let location = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.location.into_iter().next());
        let Some(location) = location else { return Ok(self) };
        match endpoint(&location.uri)?.connect().await {
            Ok(channel) => Ok(Self { channel, server: location.uri }),
            Err(error) => {
                eprintln!("firn: the topic's owner does not answer at {}: {error}", location.uri);
                Ok(self)
            }
        }
    }

    /// A Flight client over this connection.
    pub(crate) fn flight(&self) -> FlightClient {
        let inner = FlightServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        FlightClient::new_from_inner(inner)
    }

    /// Does an action and parses its results.
    pub(crate) async fn action<B: Serialize, R: DeserializeOwned>(
        &self,
        name: &str,
        body: &B,
    ) -> Result<Vec<R>, Failure> {
        let results = self.flight().do_action(Action::new(name, serde_json::to_vec(body)?)).await?;
        let results: Vec<_> = results.try_collect().await?;
        Ok(results.iter().map(|result| serde_json::from_slice(result)).collect::<Result<_, _>>()?)
    }

    /// Does an action that has one result.
    pub(crate) async fn action_one<B: Serialize, R: DeserializeOwned>(
        &self,
        name: &str,
        body: &B,
    ) -> Result<R, Failure> {
        let result = self.action(name, body).await?.pop();
        result.ok_or_else(|| Failure::other(format!("action {name}: the server answered nothing")))
    }

    /// All that is known of a topic.
    pub(crate) async fn describe(&self, topic: &str) -> Result<TopicDescription, Failure> {
        self.action_one("describe-topic", &serde_json::json!({ "topic": topic })).await
    }

    /// The topics.
    pub(crate) async fn topics(&self) -> Result<Vec<TopicSummary>, Failure> {
        self.action("list-topics", &serde_json::json!({})).await
    }

    /// Replays or subscribes.
    pub(crate) async fn get(&self, ticket: Ticket) -> Result<Batches, Failure> {
        let stream = self.flight().do_get(FlightTicket::new(ticket.to_json())).await?;
        Batches::of(stream).await
    }

    /// Replays or subscribes; waits for no batch. `is_linearizable`: everything that was acknowledged before, by whomever, is there.
    pub(crate) async fn get_stream(
        &self,
        ticket: Ticket,
        is_linearizable: bool,
    ) -> Result<FlightRecordBatchStream, Failure> {
        let mut flight = self.flight();
        if is_linearizable {
            flight.add_header(LINEARIZABLE_KEY, "true")?;
        }
        Ok(flight.do_get(FlightTicket::new(ticket.to_json())).await?)
    }

    /// Replays or subscribes; the future can be awaited elsewhere, and does not wait for a first batch.
    pub(crate) fn get_later(
        &self,
        ticket: Ticket,
    ) -> impl Future<Output = Result<FlightRecordBatchStream, Failure>> + Send + 'static {
        let mut flight = self.flight();
        async move { Ok(flight.do_get(FlightTicket::new(ticket.to_json())).await?) }
    }

    /// Runs a SQL statement.
    pub(crate) async fn sql(&self, statement: &str) -> Result<Batches, Failure> {
        let inner = FlightServiceClient::new(self.channel.clone()).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
        let mut client = FlightSqlServiceClient::new_from_inner(inner);
        let info = client.execute(statement.to_owned(), None).await?;
        let ticket = info.endpoint.into_iter().next().and_then(|endpoint| endpoint.ticket);
        let ticket = ticket.ok_or_else(|| Failure::other("the server planned the statement and gave no ticket"))?;
        Batches::of(client.do_get(ticket).await?).await
    }
}

/// An address, as users and servers write it. Errors: usage.
fn endpoint(url: &str) -> Result<Endpoint, Failure> {
    let address = match url.split_once("://") {
        Some(("grpc" | "grpc+tcp" | "http", rest)) => format!("http://{rest}"),
        None => format!("http://{url}"),
        Some((scheme, _)) => {
            return Err(Failure::usage(format!("server {url}: expected grpc://HOST:PORT, found the scheme {scheme}")));
        }
    };
    let endpoint = Endpoint::from_shared(address)
        .map_err(|error| Failure::usage(format!("server {url}: expected grpc://HOST:PORT ({error})")))?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        // A server that was stopped, or whose machine is gone, closes no connection.
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20))
}

impl Batches {
    /// Waits for the schema, which comes first.
    async fn of(mut stream: FlightRecordBatchStream) -> Result<Self, Failure> {
        let first = stream.try_next().await?;
        let schema = match (&first, stream.schema()) {
            (Some(batch), _) => batch.schema(),
            (None, Some(schema)) => Arc::clone(schema),
            (None, None) => return Err(Failure::other("the server sent no schema")),
        };
        let first = futures::stream::iter(first.map(Ok));
        Ok(Self { schema, stream: Box::pin(first.chain(stream.map_err(Failure::from))) })
    }
}
