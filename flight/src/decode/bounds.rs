//! What a message may claim. A claim over these bounds is refused before anything is allocated for it.
//!
//! A few kilobytes can claim terabytes in three ways: a row count over columns that need no bytes, a compressed buffer, and an array whose
//! rows share their bytes (dictionary, view). Each has its bound here.

use arrow::array::{AnyDictionaryArray, Array, AsArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_ipc::CompressionType;
use schemas::limits;

use crate::error::{Result, WireError};

/// Refuses the types whose rows may share bytes without limit and that no topic has.
pub(super) fn check_schema(schema: &Schema) -> Result<()> {
    if schema.fields().len() > 2 * limits::FIELDS_MAX {
        let message =
            format!("Arrow schema: expected at most {} columns, found {}", limits::FIELDS_MAX, schema.fields().len());
        return Err(WireError::invalid(message));
    }
    schema.fields().iter().try_for_each(|field| check_field(field, field.name()))
}

fn check_field(field: &Field, column: &str) -> Result<()> {
    match field.data_type() {
        DataType::ListView(_) | DataType::LargeListView(_) | DataType::RunEndEncoded(_, _) | DataType::Union(_, _) => {
            let message = format!(
                "column {column:?}: no topic has values of type {}; send plain lists and values",
                field.data_type()
            );
            Err(WireError::invalid(message))
        }
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_field(field, column)),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => check_field(field, column),
        DataType::Dictionary(_, values) if values.is_nested() => {
            Err(WireError::invalid(format!("column {column:?}: expected a dictionary of plain values, found {values}")))
        }
        _ => Ok(()),
    }
}

/// Checks a batch's row count and every buffer's place and claimed size.
pub(super) fn check_body(batch: &arrow_ipc::RecordBatch<'_>, body: &[u8]) -> Result<()> {
    let rows = batch.length();
    if usize::try_from(rows).map_or(true, |rows| rows > limits::BATCH_ROWS_MAX) {
        let message = format!("Arrow batch: expected at most {} rows, found {rows}", limits::BATCH_ROWS_MAX);
        return Err(WireError::invalid(message));
    }
    let codec = batch.compression().map(|compression| compression.codec());
    let mut decoded: u64 = 0;
    for buffer in batch.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = range.and_then(|(at, length)| body.get(at..at.checked_add(length)?)).ok_or_else(|| {
            let (at, length, found) = (buffer.offset(), buffer.length(), body.len());
            WireError::invalid(format!(
                "Arrow batch: expected {length} bytes at {at} of its body, found a body of {found}"
            ))
        })?;
        let size = match codec {
            Some(codec) if !bytes.is_empty() => decompressed_size(codec, bytes)?,
            _ => bytes.len() as u64,
        };
        decoded = decoded.saturating_add(size);
    }
    check_size(decoded)
}

fn check_size(bytes: u64) -> Result<()> {
    if bytes > limits::BATCH_BYTES_MAX as u64 {
        let message = format!(
            "Arrow batch: expected at most {} bytes decoded, found {bytes}; send smaller batches",
            limits::BATCH_BYTES_MAX
        );
        return Err(WireError::invalid(message));
    }
    Ok(())
}

/// What a compressed buffer claims to become: a length, then a frame that cannot become more (-1: the rest is not compressed).
fn decompressed_size(codec: CompressionType, bytes: &[u8]) -> Result<u64> {
    let short = || WireError::invalid("Arrow batch: expected the length before a compressed buffer, found the end");
    let (prefix, frame) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let claimed = i64::from_le_bytes(*prefix);
    if claimed == -1 {
        return Ok(frame.len() as u64);
    }
    let wrong = || {
        WireError::invalid(format!(
            "Arrow batch: a compressed buffer claims {claimed} bytes and its frame another size"
        ))
    };
    let claimed = u64::try_from(claimed).map_err(|_| wrong())?;
    let fits = claimed == 0 || codec != CompressionType::LZ4_FRAME || lz4_frame_fits(frame, claimed).unwrap_or(false);
    if fits { Ok(claimed) } else { Err(wrong()) }
}

/// True if an LZ4 frame has no more blocks than `claimed` bytes fill: the decoder reads to the end of the frame whatever was claimed.
///
/// Walks block headers only (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>); `None` if the frame is broken.
fn lz4_frame_fits(frame: &[u8], claimed: u64) -> Option<bool> {
    let (magic, rest) = frame.split_first_chunk::<4>()?;
    let (&[flags, descriptor], mut rest) = rest.split_first_chunk::<2>()?;
    if *magic != 0x184D_2204_u32.to_le_bytes() {
        return None;
    }
    let block_bytes: u64 = match (descriptor >> 4) & 7 {
        size @ 4..=7 => 1 << (8 + 2 * u32::from(size)),
        _ => return None,
    };
    let content_size = if flags & 0b1000 == 0 { 0 } else { 8 };
    let dictionary_id = if flags & 1 == 0 { 0 } else { 4 };
    let checksum = if flags & 0b1_0000 == 0 { 0 } else { 4 };
    rest = rest.get(content_size + dictionary_id + 1..)?;
    let allowed = claimed.div_ceil(block_bytes);
    let mut blocks = 0;
    while let Some((header, tail)) = rest.split_first_chunk::<4>() {
        let header = u32::from_le_bytes(*header);
        if header == 0 {
            return Some(true);
        }
        blocks += 1;
        if blocks > allowed {
            return Some(false);
        }
        rest = tail.get((header & 0x7FFF_FFFF) as usize + checksum..)?;
    }
    Some(true)
}

/// Checks what a batch would be if no two rows shared bytes, which is what a topic makes of it.
pub(super) fn check_expanded(batch: &RecordBatch) -> Result<()> {
    check_size(batch.columns().iter().map(|column| shared_bytes(column.as_ref())).fold(0, u64::saturating_add))
}

/// Bytes of the values of an array whose rows may share them; 0 for the rest, which are as large as their buffers.
fn shared_bytes(array: &dyn Array) -> u64 {
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().views().iter().map(|view| u64::from(*view as u32)).sum(),
        DataType::BinaryView => array.as_binary_view().views().iter().map(|view| u64::from(*view as u32)).sum(),
        DataType::Dictionary(_, _) => dictionary_bytes(array.as_any_dictionary()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| shared_bytes(column.as_ref())).sum(),
        DataType::List(_) => shared_bytes(array.as_list::<i32>().values().as_ref()),
        DataType::LargeList(_) => shared_bytes(array.as_list::<i64>().values().as_ref()),
        DataType::FixedSizeList(_, _) => shared_bytes(array.as_fixed_size_list().values().as_ref()),
        DataType::Map(_, _) => shared_bytes(array.as_map().entries()),
        _ => 0,
    }
}

fn dictionary_bytes(array: &dyn AnyDictionaryArray) -> u64 {
    let values = array.values();
    if values.is_empty() {
        return 0;
    }
    let size: Box<dyn Fn(usize) -> u64> = match values.data_type() {
        DataType::Utf8 => size_by(values.as_string::<i32>().offsets()),
        DataType::LargeUtf8 => size_by(values.as_string::<i64>().offsets()),
        DataType::Binary => size_by(values.as_binary::<i32>().offsets()),
        DataType::LargeBinary => size_by(values.as_binary::<i64>().offsets()),
        _ => {
            let each = (values.get_array_memory_size() / values.len()) as u64;
            Box::new(move |_| each)
        }
    };
    array.normalized_keys().into_iter().map(size).fold(0, u64::saturating_add)
}

fn size_by<O: arrow::array::OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> Box<dyn Fn(usize) -> u64 + '_> {
    Box::new(|value| (offsets[value + 1] - offsets[value]).as_usize() as u64)
}
