//! What the figures stand beside: stock parts doing the least that the same job needs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use arrow::record_batch::RecordBatch;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use futures::StreamExt;
use futures::stream::BoxStream;
use schemas::limits;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// Answers every message of a put, and keeps nothing.
struct Nothing;

type Answers<T> = BoxStream<'static, Result<T, Status>>;
type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Nothing {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Reply<Self::DoPutStream> {
        let answers = request.into_inner().skip(1).map(|message| message.map(|_| PutResult::default()));
        Ok(Response::new(answers.boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Reply<Self::HandshakeStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Reply<Self::ListFlightsStream> {
        Err(Status::unimplemented(""))
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Reply<FlightInfo> {
        Err(Status::unimplemented(""))
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Reply<PollInfo> {
        Err(Status::unimplemented(""))
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Reply<SchemaResult> {
        Err(Status::unimplemented(""))
    }

    async fn do_get(&self, _: Request<Ticket>) -> Reply<Self::DoGetStream> {
        Err(Status::unimplemented(""))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Reply<Self::DoExchangeStream> {
        Err(Status::unimplemented(""))
    }

    async fn do_action(&self, _: Request<Action>) -> Reply<Self::DoActionStream> {
        Err(Status::unimplemented(""))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Reply<Self::ListActionsStream> {
        Err(Status::unimplemented(""))
    }
}

/// Serves [`Nothing`] until killed, after printing its address.
pub(crate) async fn serve_nothing() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let service = FlightServiceServer::new(Nothing).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

/// Encodes batches as LZ4 Arrow IPC and writes them, with an fsync every `sync_bytes`. Returns the seconds that it took.
pub(crate) fn write_lz4(folder: &Path, batches: &[RecordBatch], sync_bytes: u64) -> Result<f64> {
    let started = Instant::now();
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let file = File::create(folder.join("baseline.arrows"))?;
    let mut writer = StreamWriter::try_new_with_options(file, &batches[0].schema(), options)?;
    let mut synced = 0;
    for batch in batches {
        writer.write(batch)?;
        let written = writer.get_ref().metadata()?.len();
        if written - synced >= sync_bytes {
            writer.get_ref().sync_data()?;
            synced = written;
        }
    }
    writer.finish()?;
    writer.get_ref().sync_all()?;
    Ok(started.elapsed().as_secs_f64())
}

/// The least that a durable append to a folder costs: create, fsync, link, fsync of the folder.
pub(crate) fn durable_create(folder: &Path, number: usize, bytes: &[u8]) -> Result<Duration> {
    let started = Instant::now();
    let (temporary, place) = (folder.join(format!("t{number}")), folder.join(format!("s{number}")));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::hard_link(&temporary, place)?;
    File::open(folder)?.sync_all()?;
    let took = started.elapsed();
    std::fs::remove_file(temporary)?;
    Ok(took)
}
