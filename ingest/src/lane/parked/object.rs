//! One parked object, format version 1.
//!
//! | byte | size | what (little endian) |
//! | --- | --- | --- |
//! | 0 | 8 | `FIRNPRK` and a line feed |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | 0 |
//! | 12 | 4 | lane |
//! | 16 | 16 | topic id |
//! | 32 | 4 | shard |
//! | 36 | 4 | count of parts |
//! | 40 | 8 | first seq |
//! | 48 | 8 | the seq after the last |
//! | 56 | 16 | nonce |
//! | 72 | 8 | body length |
//! | 80 | 16 | xxh3-128 of the body |
//! | 96 | 4 | crc32c of all above |
//!
//! The body follows, to the end of the object: parts, each its length (8 bytes) and an Arrow IPC stream (LZ4) of one schema: whole events, envelope and
//! payload, in seq order. Unlike a segment it says everything of its rows, derived columns and field ids included, since it may outlive the code that
//! derived them.

use std::io::Cursor;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use schemas::envelope::column;
use schemas::{ErrorKind, LaneId, Seq, Shard, TopicId};

use crate::error::{IngestError, Result};
use crate::wal::LinkHash;

const MAGIC: &[u8; 8] = b"FIRNPRK\n";
const FORMAT_VERSION: u16 = 1;
const HEADER_BYTES: usize = 100;

/// Whose rows, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) lane: LaneId,
    pub(super) topic: TopicId,
    pub(super) from: Seq,
    pub(super) to: Seq,
}

/// Puts rows together. Takes CPU for its whole length: not for an async thread.
///
/// Errors: `Internal` if Arrow cannot write them, which no event gives cause for.
pub(super) fn encode(head: Head, nonce: [u8; 16], batches: &[RecordBatch]) -> Result<Bytes> {
    let mut out = vec![0; HEADER_BYTES];
    let runs: Vec<_> = batches.chunk_by(|a, b| a.schema_ref() == b.schema_ref()).collect();
    for run in &runs {
        let length_at = out.len();
        out.extend_from_slice(&[0; 8]);
        write_stream(&mut out, run).map_err(|error| {
            let message = format!("rows of topic {} cannot be written as Arrow: {error}", head.topic);
            IngestError::new(ErrorKind::Internal, message)
        })?;
        let length = (out.len() - length_at - 8) as u64;
        out[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
    }
    let body = &out[HEADER_BYTES..];
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 2]);
    header.extend_from_slice(&head.lane.0.to_le_bytes());
    header.extend_from_slice(head.topic.0.as_bytes());
    header.extend_from_slice(&Shard(0).0.to_le_bytes());
    header.extend_from_slice(&(runs.len() as u32).to_le_bytes());
    header.extend_from_slice(&head.from.0.to_le_bytes());
    header.extend_from_slice(&head.to.0.to_le_bytes());
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&(body.len() as u64).to_le_bytes());
    header.extend_from_slice(&LinkHash::of(body).0);
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    out[..HEADER_BYTES].copy_from_slice(&header);
    Ok(out.into())
}

fn write_stream(out: &mut Vec<u8>, run: &[RecordBatch]) -> Result<(), ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut writer = StreamWriter::try_new_with_options(out, run[0].schema_ref(), options)?;
    run.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()
}

/// Reads what [`encode`] wrote, and checks that it is what `expected` says. Errors: what is wrong, in words.
pub(super) fn decode(object: &Bytes, expected: Head) -> Result<Vec<RecordBatch>, String> {
    let (parts, body) = check(object, expected)?;
    let mut batches = Vec::new();
    let mut rest = body;
    for part in 0..parts {
        let cut = || format!("part {part} is cut short");
        let (length, after) = rest.split_at_checked(8).ok_or_else(cut)?;
        let length = u64::from_le_bytes(length.try_into().map_err(|_| cut())?);
        let length = usize::try_from(length).map_err(|_| cut())?;
        let (stream, after) = after.split_at_checked(length).ok_or_else(cut)?;
        rest = after;
        let in_part = |error: ArrowError| format!("part {part}: {error}");
        for batch in StreamReader::try_new(Cursor::new(stream), None).map_err(in_part)? {
            batches.push(batch.map_err(in_part)?);
        }
    }
    if !rest.is_empty() {
        return Err(format!("expected the end after {parts} parts, found {} bytes", rest.len()));
    }
    dense(&batches, expected)?;
    Ok(batches)
}

/// The count of parts, and the body, if the header is whole, fits the body, and says what is expected.
fn check(object: &Bytes, expected: Head) -> Result<(u32, &[u8]), String> {
    let (header, body) = object
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(|| format!("expected a header of {HEADER_BYTES} bytes, found {} bytes", object.len()))?;
    if &header[..8] != MAGIC {
        return Err(format!("expected {:?} at its beginning", MAGIC.escape_ascii().to_string()));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    if version != FORMAT_VERSION {
        return Err(format!("expected format version {FORMAT_VERSION}, found {version}"));
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let (found, stored) = (crc32c::crc32c(&header[..96]), word(96));
    if found != stored {
        return Err(format!("the header has checksum {found:08x}, expected {stored:08x}"));
    }
    let topic = uuid::Uuid::from_slice(&header[16..32]).map_err(|error| error.to_string())?;
    let (from, to) = (Seq(long(40) as i64), Seq(long(48) as i64));
    let head = Head { lane: LaneId(word(12)), topic: TopicId(topic), from, to };
    if head != expected || word(32) != 0 {
        return Err(format!("expected {expected:?} of shard 0, found {head:?} of shard {}", word(32)));
    }
    if long(72) != body.len() as u64 || header[80..96] != LinkHash::of(body).0 {
        return Err(format!("the body of {} bytes is not the one of {} that was written", body.len(), long(72)));
    }
    Ok((word(36), body))
}

/// Errors unless the rows have the seqs from `from` to before `to`, each once and in order, going by the ends of each batch.
fn dense(batches: &[RecordBatch], Head { from, to, .. }: Head) -> Result<(), String> {
    let mut next = from;
    for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
        let seqs = batch.columns().get(column::SEQ).and_then(|seqs| seqs.as_primitive_opt::<Int64Type>());
        let seqs = seqs.ok_or("expected a column of seqs")?;
        let after = next.plus(batch.num_rows());
        if seqs.value(0) != next.0 || seqs.value(seqs.len() - 1) != after.0 - 1 {
            return Err(format!("expected seqs {next} to before {after}, found those from {}", seqs.value(0)));
        }
        next = after;
    }
    match next == to {
        true => Ok(()),
        false => Err(format!("expected events up to before seq {to}, found those to before {next}")),
    }
}
