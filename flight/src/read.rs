//! `DoGet`: from a stream of batches to Flight messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::IpcWriteOptions;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use query::engine::BatchStream;
use schemas::{TenantName, limits};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::error::{Result, WireError};
use crate::shared::{Shared, draining};
use crate::ticket::{Compression, Request, Ticket};
use crate::{guard, metrics};

/// The metadata (header) key of a call that wants everything that was acknowledged before it, whoever answers: `true` or `false`.
const LINEARIZABLE_KEY: &str = "firn-linearizable";

/// Whether the answer must show everything that was acknowledged before the call. At the owner that is so anyway, unless it has been fenced and does
/// not know it yet; a standby may lag.
///
/// Errors: `Invalid` for a value that is neither.
pub(crate) fn is_linearizable(metadata: &MetadataMap) -> Result<bool> {
    match metadata.get(LINEARIZABLE_KEY).map(|value| value.as_bytes()) {
        None | Some(b"false") => Ok(false),
        Some(b"true") => Ok(true),
        Some(_) => Err(WireError::invalid(format!("header {LINEARIZABLE_KEY}: expected true or false"))),
    }
}

/// Opens what a ticket asks for.
///
/// Errors: `Invalid` for an append, which is for `DoPut`; those of the query engine.
pub(crate) async fn open(shared: &Arc<Shared>, tenant: &TenantName, request: Request) -> Result<BatchStream> {
    match request {
        Request::Replay(replay) => {
            shared.topic(tenant, &replay.topic)?;
            Ok(shared.queries.replay(tenant, replay).await?)
        }
        Request::Subscribe(subscribe) => {
            let stream = shared.queries.subscribe(tenant, subscribe).await?;
            let live = Live::new(stream.batches, shared.drain.clone());
            Ok(BatchStream { schema: stream.schema, batches: live.boxed() })
        }
        Request::Append(_) => {
            Err(WireError::invalid("ticket: expected replay or subscribe; append is a descriptor for DoPut"))
        }
    }
}

/// Opens a JSON ticket and encodes the answer.
pub(crate) async fn get(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    ticket: &[u8],
) -> Result<BoxStream<'static, std::result::Result<FlightData, Status>>> {
    let Ticket { request, compress } = Ticket::parse(ticket)?;
    encode(open(shared, tenant, request).await?, compress)
}

/// Encodes batches: the schema at once, so that a client sees that the stream is up, then batches of about
/// [`limits::READ_MESSAGE_BYTES`]. Dictionaries travel as plain values.
pub(crate) fn encode(
    stream: BatchStream,
    compress: Option<Compression>,
) -> Result<BoxStream<'static, std::result::Result<FlightData, Status>>> {
    let codec = compress.map(|Compression::Lz4| CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::default().try_with_compression(codec);
    let options = options.map_err(|error| WireError::invalid(format!("compress: {error}")))?;
    let pieces = stream.batches.flat_map(|batch| match batch {
        Ok(batch) => {
            ::metrics::counter!(metrics::READ_ROWS).increment(batch.num_rows() as u64);
            futures::stream::iter(Pieces::of(batch)).map(Ok).left_stream()
        }
        Err(error) => {
            let status = Status::from(WireError::from(error));
            futures::stream::iter([Err(FlightError::Tonic(Box::new(status)))]).right_stream()
        }
    });
    let encoded = FlightDataEncoderBuilder::new()
        .with_schema(stream.schema)
        .with_options(options)
        // Its own splitting takes a slice for as large as all that the slice was cut from.
        .with_max_flight_data_size(usize::MAX)
        .build(pieces);
    Ok(guard::stream("do_get", encoded.map(finish)))
}

fn finish(message: std::result::Result<FlightData, FlightError>) -> std::result::Result<FlightData, Status> {
    match message {
        Ok(data) => {
            ::metrics::counter!(metrics::READ_BYTES).increment((data.data_header.len() + data.data_body.len()) as u64);
            Ok(data)
        }
        Err(FlightError::Tonic(status)) => Err(*status),
        Err(error) => Err(WireError::new(schemas::ErrorKind::Internal, format!("encoding the answer: {error}")).into()),
    }
}

/// Cuts a batch into slices of about [`limits::READ_MESSAGE_BYTES`]; copies nothing.
struct Pieces {
    batch: RecordBatch,
    rows_each: usize,
    at: usize,
}

impl Pieces {
    fn of(batch: RecordBatch) -> Self {
        let bytes = slice_bytes(&batch);
        let pieces = bytes.div_ceil(limits::READ_MESSAGE_BYTES).max(1);
        let rows_each = batch.num_rows().div_ceil(pieces).max(1);
        Self { batch, rows_each, at: 0 }
    }
}

impl Iterator for Pieces {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let rows = self.rows_each.min(self.batch.num_rows() - self.at);
        let piece = (rows > 0).then(|| self.batch.slice(self.at, rows));
        self.at += rows;
        piece
    }
}

/// Bytes of a batch's own rows, whatever larger buffers they are slices of.
pub(crate) fn slice_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    batch.columns().iter().map(|column| bytes(column).unwrap_or_else(|_| column.get_array_memory_size())).sum()
}

/// A subscription's batches, ended with a word of farewell when the server drains; counted while it is open.
struct Live<S> {
    batches: S,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
}

impl<S> Live<S> {
    fn new(batches: S, drain: CancellationToken) -> Self {
        ::metrics::gauge!(metrics::SUBSCRIPTIONS).increment(1);
        Self { batches, drained: Box::pin(drain.cancelled_owned()), ended: false }
    }
}

impl<S> Drop for Live<S> {
    fn drop(&mut self) {
        ::metrics::gauge!(metrics::SUBSCRIPTIONS).decrement(1);
    }
}

impl<S: Stream<Item = query::Result<RecordBatch>> + Unpin> Stream for Live<S> {
    type Item = query::Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.drained.as_mut().poll(cx).is_ready() {
            self.ended = true;
            let farewell = draining();
            return Poll::Ready(Some(Err(query::QueryError::new(farewell.kind(), farewell.to_string()))));
        }
        self.batches.poll_next_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let text = StringArray::from_iter_values((0..rows).map(|row| format!("{row:0100}")));
        let seq = Int64Array::from_iter_values(0..rows as i64);
        RecordBatch::try_from_iter([("seq", Arc::new(seq) as ArrayRef), ("text", Arc::new(text) as ArrayRef)])
            .expect("a batch")
    }

    #[test]
    fn pieces_tile_the_batch_and_keep_near_the_bound() {
        let whole = batch(100_000);
        let pieces: Vec<_> = Pieces::of(whole.clone()).collect();
        assert!((5..=7).contains(&pieces.len()), "{} pieces", pieces.len());
        assert_eq!(arrow::compute::concat_batches(&whole.schema(), &pieces).expect("joins"), whole);
        assert_eq!(Pieces::of(batch(0)).count(), 0);
    }

    #[test]
    fn a_small_slice_of_a_large_batch_is_one_piece() {
        assert_eq!(Pieces::of(batch(100_000).slice(500, 1_000)).count(), 1);
    }

    #[tokio::test]
    async fn a_subscription_without_events_shows_its_schema_and_ends_with_the_server() {
        let schema = batch(0).schema();
        let drain = CancellationToken::new();
        let live = Live::new(futures::stream::pending::<query::Result<RecordBatch>>(), drain.clone());
        let mut messages = encode(BatchStream { schema, batches: live.boxed() }, None).expect("encodes");
        messages.next().await.expect("the schema").expect("no error");
        drain.cancel();
        let status = messages.next().await.expect("a farewell").expect_err("a status");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(messages.next().await.is_none());
    }
}
