//! NDJSON, typed by the topic's schema; a line that cannot be read is refused by itself.

use std::io::{BufRead, Read};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_json::reader::ReaderBuilder;
use ingest::engine::Refusal;
use schemas::envelope;
use schemas::payload::{PayloadField, PayloadType};
use schemas::{TopicDef, limits};

use super::input::Piece;
use crate::exit::Failure;

/// Text bytes after which a piece ends even if it has not all its rows.
const PIECE_BYTES: usize = 4 << 20;
/// Longest line: an event in JSON takes more room than in Arrow.
const LINE_BYTES_MAX: u64 = 4 * limits::EVENT_BYTES_MAX as u64;

/// Pieces of an NDJSON text. Blank lines are passed over, and not counted as rows.
pub(crate) struct Lines {
    text: Box<dyn BufRead + Send>,
    schema: SchemaRef,
    rows_max: usize,
    next_row: u64,
}

impl Lines {
    /// Pieces of at most `rows_max` rows.
    pub(crate) fn new(text: Box<dyn BufRead + Send>, def: &TopicDef, rows_max: usize) -> Self {
        let fields: Vec<FieldRef> = def.payload.fields.iter().map(|field| Arc::new(json_field(field))).collect();
        Self { text, schema: Arc::new(Schema::new(fields)), rows_max, next_row: 0 }
    }

    /// The schema of every piece.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The next lines, one after the other, and where each ends.
    fn read_lines(&mut self) -> Result<(Vec<u8>, Vec<usize>), Failure> {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        while ends.len() < self.rows_max && text.len() < PIECE_BYTES {
            let start = text.len();
            let read = self.text.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text)?;
            if read == 0 {
                break;
            }
            if read as u64 == LINE_BYTES_MAX && text.last() != Some(&b'\n') {
                let row = self.next_row + ends.len() as u64;
                return Err(Failure::usage(format!("row {row}: expected a line of at most {LINE_BYTES_MAX} bytes")));
            }
            match text[start..].iter().all(u8::is_ascii_whitespace) {
                true => text.truncate(start),
                false => ends.push(text.len()),
            }
        }
        Ok((text, ends))
    }

    fn decode(&self, text: &[u8], rows: usize) -> Result<RecordBatch, ArrowError> {
        let builder = ReaderBuilder::new(self.schema()).with_batch_size(rows.max(1)).with_strict_mode(true);
        let mut decoder = builder.build_decoder()?;
        let mut at = 0;
        while at < text.len() {
            match decoder.decode(&text[at..])? {
                0 => break,
                read => at += read,
            }
        }
        if at < text.len() {
            return Err(ArrowError::JsonError("expected one JSON object a line, found several".into()));
        }
        Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(self.schema())))
    }

    /// Decodes all lines at once; if that fails, each by itself to find the bad ones.
    fn piece(&mut self, text: &[u8], ends: &[usize]) -> Result<Piece, Failure> {
        let first = self.next_row;
        self.next_row += ends.len() as u64;
        if let Ok(batch) = self.decode(text, ends.len())
            && batch.num_rows() == ends.len()
        {
            return Ok(Piece { batch, rows: (first..self.next_row).collect(), unreadable: Vec::new() });
        }
        let (mut good, mut rows, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for (row, end) in (first..).zip(ends) {
            let line = &text[std::mem::replace(&mut start, *end)..*end];
            match self.decode(line, 1) {
                Ok(batch) if batch.num_rows() == 1 => {
                    good.extend_from_slice(line);
                    rows.push(row);
                }
                Ok(_) => unreadable.push(Refusal { row, reason: "expected a JSON object".into() }),
                Err(error) => unreadable.push(Refusal { row, reason: error.to_string() }),
            }
        }
        Ok(Piece { batch: self.decode(&good, rows.len())?, rows, unreadable })
    }
}

impl Iterator for Lines {
    type Item = Result<Piece, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_lines() {
            Err(failure) => Some(Err(failure)),
            Ok((_, ends)) if ends.is_empty() => None,
            Ok((text, ends)) => Some(self.piece(&text, &ends)),
        }
    }
}

/// The type that a JSON value of this field is read as. Everything may be null here: refusing a null is the server's, with its reason.
fn json_field(field: &PayloadField) -> Field {
    let kind = match &field.kind {
        PayloadType::Uuid => DataType::Utf8,
        PayloadType::Struct(members) => DataType::Struct(members.iter().map(json_field).collect()),
        PayloadType::List(element) => DataType::List(Arc::new(json_field(element))),
        PayloadType::Map { key_id, value } => envelope::map_type(*key_id, json_field(value)),
        other => other.arrow_type(),
    };
    Field::new(&field.name, kind, true)
}

#[cfg(test)]
mod tests;
