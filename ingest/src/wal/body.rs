//! The rows of an events frame: one Arrow IPC record-batch message, LZ4, without its schema.
//!
//! Only the *body* is logged: what the producer sent (`_kind` and `_headers` if given, then the payload). `_seq` follows from the frame's first
//! seq, `_time` stands in its header, and `_key`, `_path`, `_prefix` are a pure function of the payload under the frame's schema version, so they
//! are derived anew on recovery.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteOptions, write_message};
use arrow_ipc::{CompressionType, MetadataVersion, root_as_message};
use schemas::ErrorKind;
use schemas::envelope;

use super::frame::{Payload, columns};
use crate::error::{IngestError, Result};
use crate::rows::Shape;

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
    let data = Buffer::from(data);
    let schema = Arc::clone(shape.body_schema(present & columns::KIND != 0, present & columns::HEADERS != 0));
    arrow_ipc::reader::read_record_batch(&data, batch, schema, &HashMap::new(), None, &message.version())
        .map_err(|error| error.to_string())
}

fn optional_columns(schema: &Schema) -> u16 {
    let bit =
        |name: &str, bit: u16| if schema.fields().iter().take(2).any(|field| field.name() == name) { bit } else { 0 };
    bit(envelope::KIND, columns::KIND) | bit(envelope::HEADERS, columns::HEADERS)
}

#[cfg(test)]
mod tests;
