//! The other process: a server started from this very program, and the client's way to it.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightClient, FlightData, FlightDescriptor, PutResult, Ticket};
use catalog::Env;
use flight::server::{Server, ServerConfig};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use schemas::limits;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use crate::events::TOPIC;

/// A server in another process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    channel: Channel,
    /// Where its metrics are; empty for a server that has none.
    http: String,
}

/// Runs a Firn server until it is killed, after printing its two addresses.
pub(crate) async fn serve_firn(data: String, ingest: &str) -> Result<()> {
    let mut config = ServerConfig::default();
    config.store.url = data;
    config.ingest = serde_json::from_str(ingest)?;
    config.server.flight.set_port(0);
    config.server.http.set_port(0);
    let server = Server::start(config, Env::system()).await?;
    println!("{} {}", server.flight_addr(), server.http_addr());
    let error = server.stopped().await;
    bail!("the server stopped: {error}")
}

impl Process {
    /// A Firn server over `data`, with these settings of the write path.
    pub(crate) async fn firn(data: &Path, ingest: &Value) -> Result<Self> {
        Self::firn_at(data.to_str().context("a folder with a plain name")?, ingest).await
    }

    /// A Firn server over the store at this URL; S3 by the usual `AWS_*` variables.
    pub(crate) async fn firn_at(url: &str, ingest: &Value) -> Result<Self> {
        Self::start(&["firn", url, &ingest.to_string()]).await
    }

    /// A Flight server that keeps nothing.
    pub(crate) async fn nothing() -> Result<Self> {
        Self::start(&["nothing"]).await
    }

    async fn start(args: &[&str]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program).args(args).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let out = child.stdout.take().context("its standard output")?;
        let said = BufReader::new(out).lines().next_line().await?.context("the server said no address")?;
        let (address, http) = said.split_once(' ').unwrap_or((&said, ""));
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(Self { child, channel: endpoint.connect().await?, http: http.to_owned() })
    }

    /// A stock Flight client.
    pub(crate) fn client(&self) -> FlightClient {
        let inner = FlightServiceClient::new(self.channel.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        FlightClient::new_from_inner(inner)
    }

    /// The connection itself.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Does an action that has one JSON result.
    pub(crate) async fn action(&self, name: &str, body: Value) -> Result<Value> {
        let mut results = self.client().do_action(Action::new(name, body.to_string())).await?;
        let first = results.try_next().await?.context("a result")?;
        Ok(serde_json::from_slice(&first)?)
    }

    /// Appends batches as they come; an answer for each.
    pub(crate) async fn append(
        &self,
        batches: impl Stream<Item = RecordBatch> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<PutResult, FlightError>>> {
        self.append_to(TOPIC, batches).await
    }

    /// The same to another topic.
    pub(crate) async fn append_to(
        &self,
        topic: &str,
        batches: impl Stream<Item = RecordBatch> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<PutResult, FlightError>>> {
        let command = json!({"append": {"topic": topic}}).to_string();
        let data = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
            .with_max_flight_data_size(limits::MESSAGE_BYTES_MAX)
            .build(batches.map(Ok));
        self.put(data).await
    }

    /// Appends one batch if the last seq of the topic is as expected; an error if it is not.
    pub(crate) async fn append_if(&self, topic: &str, batch: RecordBatch, expected_last_seq: i64) -> Result<()> {
        let command = json!({"append": {"topic": topic}}).to_string();
        let condition = json!({"conditions": [{"expected_last_seq": expected_last_seq}]}).to_string();
        let messages = FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(FlightDescriptor::new_cmd(command)))
            .build(futures::stream::iter([Ok(batch)]));
        // The schema comes first, then the batch.
        let messages = messages.enumerate().map(move |(place, message)| {
            let mut message = message?;
            if place == 1 {
                message.app_metadata = condition.clone().into();
            }
            Ok(message)
        });
        self.put(messages).await?.try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Puts encoded messages.
    pub(crate) async fn put(
        &self,
        data: impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static,
    ) -> Result<BoxStream<'static, Result<PutResult, FlightError>>> {
        Ok(self.client().do_put(data).await?)
    }

    /// Appends all of these and waits for every answer.
    pub(crate) async fn load(&self, batches: impl Iterator<Item = RecordBatch> + Send + 'static) -> Result<()> {
        let answers = self.append(futures::stream::iter(batches)).await?;
        answers.try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Reads a ticket to its end: rows, and the time that it took.
    pub(crate) async fn read(&self, ticket: Value) -> Result<(u64, Duration)> {
        let started = Instant::now();
        let mut batches = self.client().do_get(Ticket::new(ticket.to_string())).await?;
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows() as u64;
        }
        Ok((rows, started.elapsed()))
    }

    /// All that it counts, as Prometheus reads it.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.http).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// One of its counters; 0 if it has not counted yet.
    pub(crate) async fn counter(&self, name: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0.0), str::parse)?)
    }

    /// The most memory that it has had resident so far, MiB.
    pub(crate) fn peak_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().context("it runs")?))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib / 1024)
    }

    /// Processor time that it has used so far, seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        cpu_s_of(&self.child.id().context("it runs")?.to_string())
    }
}

/// Processor time that a process, by its number or `self`, has used so far, seconds: what others do on the machine does not count.
pub(crate) fn cpu_s_of(process: &str) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: VecDeque<&str> = stat.rsplit_once(')').context("a command name")?.1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}
