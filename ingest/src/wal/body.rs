//! The rows of an events frame: one Arrow IPC record-batch message, LZ4, without its schema.
//!
//! Only the *body* is logged: what the producer sent (`_kind` and `_headers` if given, then the payload). `_seq` follows from the frame's first
//! seq, `_time` stands in its header, and `_key`, `_path`, `_prefix` are a pure function of the payload under the frame's schema version, so they
//! are derived anew on recovery.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions, write_message};
use arrow_ipc::{CompressionType, MetadataVersion, root_as_message};
use schemas::{ErrorKind, envelope, limits};

use super::frame::{Payload, columns};
use crate::error::{IngestError, Result};
use crate::rows::Shape;

/// Far above what a batch can have become by the time it is logged: a bound on damage, not on batches.
const DECODED_BYTES_MAX: u64 = 4 * limits::BATCH_BYTES_MAX as u64;

/// Encodes and checksums a body. Returns the payload and which optional columns it has ([`columns`]).
///
/// Errors: `Internal` if Arrow cannot write it, which no topic's schema gives cause for.
pub(crate) fn encode_body(body: &RecordBatch) -> Result<(Payload, u16)> {
    let fault = |error| IngestError::new(ErrorKind::Internal, format!("a batch cannot be written to the log: {error}"));
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(fault)?;
    let mut dictionaries = DictionaryTracker::new(true);
    let (_, encoded) = IpcDataGenerator::default()
        .encode(body, &mut dictionaries, &options, &mut Default::default())
        .map_err(fault)?;
    let EncodedData { ipc_message, arrow_data } = &encoded;
    let mut message = Vec::with_capacity(ipc_message.len() + arrow_data.len() + 192);
    write_message(&mut message, encoded, &options).map_err(fault)?;
    Ok((Payload::new(message), optional_columns(&body.schema())))
}

/// Reads a body back: optional columns as `present` says ([`columns`]), then the payload's columns.
///
/// Errors: what is wrong with the message; the caller knows where it lies.
pub(crate) fn decode_body(payload: &Payload, present: u16, shape: &Shape) -> Result<RecordBatch, String> {
    const CONTINUATION: [u8; 4] = [0xff; 4];
    let bytes = payload.bytes();
    let prefix = bytes.get(..8).filter(|prefix| prefix[..4] == CONTINUATION).ok_or("expected an Arrow IPC message")?;
    let metadata_bytes = u32::from_le_bytes(prefix[4..].try_into().expect("4 bytes")) as usize;
    let metadata = bytes.get(8..8 + metadata_bytes).ok_or("an Arrow IPC message is cut short")?;
    let message = root_as_message(metadata).map_err(|error| error.to_string())?;
    let batch = message.header_as_record_batch().ok_or("expected an Arrow record batch")?;
    if message.version() != MetadataVersion::V5 {
        return Err(format!("expected Arrow metadata version 5, found {:?}", message.version()));
    }
    let data = bytes.slice(8 + metadata_bytes..);
    if usize::try_from(message.bodyLength()) != Ok(data.len()) {
        return Err(format!("expected {} bytes of Arrow buffers, found {}", message.bodyLength(), data.len()));
    }
    check_claims(&batch, &data)?;
    let data = Buffer::from(data);
    let schema = Arc::clone(shape.body_schema(present & columns::KIND != 0, present & columns::HEADERS != 0));
    // Where the parts of a message contradict each other, Arrow may panic: that is no more than an unreadable message.
    let version = message.version();
    let read = || arrow_ipc::reader::read_record_batch(&data, batch, schema, &HashMap::new(), None, &version);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("an Arrow record batch whose parts contradict each other".to_owned()),
    }
}

/// Refuses compressed buffers that claim to become more than any batch may hold, before memory is taken for them.
fn check_claims(batch: &arrow_ipc::RecordBatch<'_>, data: &[u8]) -> Result<(), String> {
    if batch.compression().is_none() {
        return Ok(());
    }
    let mut claimed: u64 = 0;
    for buffer in batch.buffers().into_iter().flatten().filter(|buffer| buffer.length() > 0) {
        let at = usize::try_from(buffer.offset()).map_err(|_| "an Arrow buffer lies before its message")?;
        let prefix = data.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let prefix = prefix.ok_or("an Arrow buffer lies beyond its message")?;
        // -1: it is not compressed after all.
        claimed = claimed.saturating_add(i64::from_le_bytes(*prefix).max(0).unsigned_abs());
    }
    let max = DECODED_BYTES_MAX;
    if claimed > max { Err(format!("expected Arrow buffers of at most {max} bytes, found {claimed}")) } else { Ok(()) }
}

fn optional_columns(schema: &Schema) -> u16 {
    let bit =
        |name: &str, bit: u16| if schema.fields().iter().take(2).any(|field| field.name() == name) { bit } else { 0 };
    bit(envelope::KIND, columns::KIND) | bit(envelope::HEADERS, columns::HEADERS)
}

#[cfg(test)]
mod tests;
