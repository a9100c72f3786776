//! A whole server in this process, asked over the wire by stock clients.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use catalog::Env;
use flight::append::BatchResult;
use flight::server::{Server, ServerConfig};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Status};

mod control;
mod data;
mod hostile;
mod life;
mod sql;

/// A server in a folder of its own, and a client of it.
struct Loop {
    server: Server,
    client: FlightServiceClient<Channel>,
    channel: Channel,
    _folder: TempDir,
}

impl Loop {
    /// With the topic `orders`: keyed by `id`, path `orders/{region}`, and no amount below zero.
    async fn start() -> Self {
        let mut this = Self::empty().await;
        this.act("create-topic", &orders("orders")).await.expect("a topic");
        this
    }

    async fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = ServerConfig::default();
        config.store.url = folder.path().to_str().expect("utf-8").to_owned();
        config.server.flight.set_port(0);
        config.server.http.set_port(0);
        let server = Box::pin(Server::start(config, Env::system())).await.expect("a server");
        let uri = format!("http://{}", server.flight_addr());
        let channel = Channel::from_shared(uri).expect("a uri").connect().await.expect("a connection");
        let client = FlightServiceClient::new(channel.clone());
        Self { server, client, channel, _folder: folder }
    }

    async fn act(&mut self, action: &str, body: &Value) -> Result<Vec<Value>, Status> {
        let results = self.client.do_action(Action::new(action, body.to_string())).await?.into_inner();
        results.map_ok(|result| serde_json::from_slice(&result.body).expect("JSON")).try_collect().await
    }

    async fn get(&mut self, ticket: &str) -> Result<FlightRecordBatchStream, Status> {
        let messages = self.client.do_get(Ticket::new(ticket.to_owned())).await?.into_inner();
        Ok(FlightRecordBatchStream::new_from_flight_data(messages.map_err(FlightError::from)))
    }

    async fn put(
        &mut self,
        descriptor: FlightDescriptor,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<BatchResult>, Status> {
        self.put_messages(encode(descriptor, batches).await).await
    }

    async fn put_messages(&mut self, messages: Vec<FlightData>) -> Result<Vec<BatchResult>, Status> {
        let answers = self.client.do_put(futures::stream::iter(messages)).await?.into_inner();
        answers.map_ok(|answer| serde_json::from_slice(&answer.app_metadata).expect("JSON")).try_collect().await
    }
}

fn orders(name: &str) -> Value {
    json!({
        "name": name,
        "schema": {"type": "record", "name": "order", "fields": [
            {"name": "id", "type": "string"},
            {"name": "region", "type": "string"},
            {"name": "amount", "type": "long"},
        ]},
        "key": ["id"],
        "path": format!("{name}/{{region}}"),
        "checks": ["amount >= 0"],
    })
}

/// `rows` orders of keys `o-0`, `o-1`, `o-2`, regions `eu` and `us`, amounts from `first`.
fn batch(first: i64, rows: i64) -> RecordBatch {
    let each = || first..first + rows;
    let ids = StringArray::from_iter_values(each().map(|row| format!("o-{}", row % 3)));
    let regions = StringArray::from_iter_values(each().map(|row| if row % 2 == 0 { "eu" } else { "us" }));
    let amounts = Int64Array::from_iter_values(each());
    RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("region", Arc::new(regions) as ArrayRef),
        ("amount", Arc::new(amounts) as ArrayRef),
    ])
    .expect("a batch")
}

fn path(topic: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![topic.to_owned()])
}

async fn encode(descriptor: FlightDescriptor, batches: Vec<RecordBatch>) -> Vec<FlightData> {
    let schema = batches[0].schema();
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_flight_descriptor(Some(descriptor))
        .build(futures::stream::iter(batches.into_iter().map(Ok)))
        .try_collect()
        .await
        .expect("encodes")
}

fn longs(batches: &[RecordBatch], column: &str) -> Vec<i64> {
    let values = batches.iter().flat_map(|batch| {
        let column = batch.column_by_name(column).expect("the column");
        column.as_primitive::<Int64Type>().values().to_vec()
    });
    values.collect()
}

fn kind(status: &Status) -> Value {
    let detail = status.metadata().get(flight::status::DETAIL_KEY).expect("a detail").to_str().expect("ascii");
    serde_json::from_str::<Value>(detail).expect("JSON")["kind"].clone()
}
