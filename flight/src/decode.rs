//! From Flight messages of an untrusted client to Arrow batches.
//!
//! 1. Nothing that a message *claims* is believed before it is checked against what is there ([`bounds`]): sizes, offsets, row counts.
//! 2. Arrow then validates what it decodes: offsets, UTF-8, null counts. A batch from here is sound, whatever its meaning.
//! 3. Where the decoder meets bytes that its authors did not foresee it panics; that is caught here and is the client's error.
//!
//! Buffers are slices of the message if it lies as Arrow needs it, and of one aligned copy of its body if it does not.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{Message, MessageHeader};
use bytes::Bytes;
use schemas::limits;

use crate::error::{Result, WireError};
use crate::guard;

mod bounds;

/// What IPC aligns buffers to within a body, at least; and all that plain numbers and offsets need.
const ALIGNMENT: usize = 8;

/// Decodes one stream of Flight messages: a schema, then dictionaries and batches.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    /// The stream's schema, once it has come.
    pub(crate) fn schema(&self) -> Option<&SchemaRef> {
        self.schema.as_ref()
    }

    /// Takes the next message; `None` if it held no batch (schema, dictionary, metadata alone).
    ///
    /// Errors: `Invalid`, for anything that is not a sound message of this stream. The stream is of no use afterwards.
    pub(crate) fn decode(&mut self, data: FlightData) -> Result<Option<RecordBatch>> {
        if data.data_header.is_empty() {
            return Ok(None);
        }
        guard::untrusted(|| self.decode_message(data)).unwrap_or_else(|| {
            Err(WireError::invalid("Arrow message: it cannot be decoded, its parts contradict each other"))
        })
    }

    fn decode_message(&mut self, data: FlightData) -> Result<Option<RecordBatch>> {
        let message = arrow_ipc::root_as_message(&data.data_header)
            .map_err(|error| WireError::invalid(format!("Arrow message: expected an IPC header, found {error}")))?;
        match message.header_type() {
            MessageHeader::NONE => Ok(None),
            MessageHeader::Schema => self.take_schema(&data).map(|()| None),
            MessageHeader::DictionaryBatch => self.take_dictionary(&message, data.data_body.into()).map(|()| None),
            MessageHeader::RecordBatch => self.take_batch(&message, data.data_body).map(Some),
            other => Err(WireError::invalid(format!("Arrow message: expected a schema or a batch, found {other:?}"))),
        }
    }

    fn take_schema(&mut self, data: &FlightData) -> Result<()> {
        if self.schema.is_some() {
            return Err(WireError::invalid("Arrow stream: expected batches after the schema, found a second schema"));
        }
        let schema = Schema::try_from(data).map_err(|error| WireError::invalid(format!("Arrow schema: {error}")))?;
        bounds::check_schema(&schema)?;
        self.schema = Some(Arc::new(schema));
        Ok(())
    }

    fn take_dictionary(&mut self, message: &Message<'_>, body: Buffer) -> Result<()> {
        let schema = self.expect_schema()?;
        let malformed = || WireError::invalid("Arrow dictionary: expected a batch in it, found none");
        let dictionary = message.header_as_dictionary_batch().ok_or_else(malformed)?;
        bounds::check_body(&dictionary.data().ok_or_else(malformed)?, &body)?;
        let read = read_dictionary(&body, dictionary, &schema, &mut self.dictionaries, &message.version());
        read.map_err(|error| WireError::invalid(format!("Arrow dictionary: {error}")))?;
        let held: usize = self.dictionaries.values().map(|values| values.get_array_memory_size()).sum();
        if held > limits::BATCH_BYTES_MAX {
            let max = limits::BATCH_BYTES_MAX;
            return Err(WireError::invalid(format!("Arrow dictionaries: expected at most {max} bytes, found {held}")));
        }
        Ok(())
    }

    fn take_batch(&self, message: &Message<'_>, body: Bytes) -> Result<RecordBatch> {
        let schema = self.expect_schema()?;
        let malformed = || WireError::invalid("Arrow batch: expected a record batch header, found none");
        let header = message.header_as_record_batch().ok_or_else(malformed)?;
        bounds::check_body(&header, &body)?;
        let body = if header.compression().is_some() { Buffer::from(body) } else { aligned(body) };
        let batch = read_record_batch(&body, header, schema, &self.dictionaries, None, &message.version())
            .map_err(|error| WireError::invalid(format!("Arrow batch: {error}")))?;
        bounds::check_expanded(&batch)?;
        Ok(batch)
    }

    fn expect_schema(&self) -> Result<SchemaRef> {
        self.schema.clone().ok_or_else(|| WireError::invalid("Arrow stream: expected the schema first, found a batch"))
    }
}

/// A body whose buffers Arrow can use as they lie, relative to it, in the message.
///
/// gRPC gives no alignment. Left to itself Arrow would copy every column of numbers and offsets and keep the whole message alive for the text
/// beside them: for as long as the rows are in the tail they would be there twice.
fn aligned(body: Bytes) -> Buffer {
    if (body.as_ptr() as usize).is_multiple_of(ALIGNMENT) { Buffer::from(body) } else { Buffer::from(body.as_ref()) }
}

#[cfg(test)]
mod tests;
