//! What `produce` reads: NDJSON, CSV, Parquet, Arrow IPC and Avro files, plain, gzipped or zstd-compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use bytes::Bytes;
use ingest::engine::Refusal;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::TopicDef;

use super::ndjson::Lines;
use crate::args::{Format, Produce};
use crate::exit::Failure;
use crate::progress::Progress;

const STDIN: &str = "-";
const BUFFER_BYTES: usize = 1 << 20;

/// Some consecutive rows of the input.
pub(crate) struct Piece {
    /// The rows that could be read.
    pub(crate) batch: RecordBatch,
    /// Their numbers in the input, from 0.
    pub(crate) rows: Vec<u64>,
    /// Rows that could not be read, by their numbers in the input.
    pub(crate) unreadable: Vec<Refusal>,
}

/// An open input: pieces in order.
pub(super) struct Input {
    schema: SchemaRef,
    pieces: Box<dyn Iterator<Item = Result<Piece, Failure>> + Send>,
}

impl Iterator for Input {
    type Item = Result<Piece, Failure>;
    fn next(&mut self) -> Option<Self::Item> {
        self.pieces.next()
    }
}

/// Bytes of a file; `None` for standard input.
pub(super) fn size(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
}

impl Input {
    /// Opens a file or standard input. Errors: usage for one that cannot be opened, or whose format is not known.
    pub(super) fn open(args: &Produce, def: &TopicDef, progress: Progress) -> Result<Self, Failure> {
        let name = args.file.display().to_string();
        let fault = |error: &dyn std::fmt::Display| Failure::usage(format!("{name}: {error}"));
        let format = match args.format {
            Some(format) => format,
            None => format_of(&args.file)?,
        };
        let raw: Box<dyn Read + Send> = match args.file.to_str() {
            Some(STDIN) => Box::new(std::io::stdin()),
            _ => Box::new(File::open(&args.file).map_err(|error| fault(&error))?),
        };
        let plain = decompress(Counting { inner: raw, read: 0, progress }).map_err(|error| fault(&error))?;
        let rows = args.batch_rows as usize;
        match format {
            Format::Ndjson => {
                let lines = Lines::new(plain, def, rows);
                Ok(Self { schema: lines.schema(), pieces: Box::new(lines) })
            }
            Format::Csv => csv(plain, rows).map_err(|error| fault(&error)),
            Format::Parquet => parquet(&args.file, plain, rows).map_err(|error| fault(&error)),
            Format::Arrow => arrow(plain).map_err(|error| fault(&error)),
            Format::Avro => {
                let reader = arrow_avro::reader::ReaderBuilder::new().with_batch_size(rows).build(plain);
                let reader = reader.map_err(|error| fault(&error))?;
                Ok(Self::of_batches(reader.schema(), reader))
            }
        }
    }

    /// The schema of every piece.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn of_batches(
        schema: SchemaRef,
        batches: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
    ) -> Self {
        let pieces = batches.scan(0u64, |next, batch| {
            Some(batch.map_err(Failure::from).map(|batch| {
                let first = std::mem::replace(next, *next + batch.num_rows() as u64);
                Piece { rows: (first..*next).collect(), batch, unreadable: Vec::new() }
            }))
        });
        Self { schema, pieces: Box::new(pieces) }
    }
}

fn format_of(path: &Path) -> Result<Format, Failure> {
    let name = path.to_string_lossy();
    if name == STDIN {
        return Ok(Format::Ndjson);
    }
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    match plain.rsplit_once('.').map(|(_, ending)| ending) {
        Some("ndjson" | "jsonl" | "json") => Ok(Format::Ndjson),
        Some("csv") => Ok(Format::Csv),
        Some("parquet") => Ok(Format::Parquet),
        Some("arrow" | "arrows" | "ipc" | "feather") => Ok(Format::Arrow),
        Some("avro") => Ok(Format::Avro),
        _ => Err(Failure::usage(format!("{name}: its name does not tell its format; say --format"))),
    }
}

/// Tells the progress how far the reading is.
struct Counting {
    inner: Box<dyn Read + Send>,
    read: u64,
    progress: Progress,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        self.progress.read(self.read);
        Ok(read)
    }
}

/// Looks at the first bytes: gzip, zstd, or neither.
fn decompress(raw: Counting) -> std::io::Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, raw);
    let head = raw.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        let plain = flate2::bufread::MultiGzDecoder::new(raw);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, plain)));
    }
    if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let plain = zstd::stream::read::Decoder::with_buffer(raw)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, plain)));
    }
    Ok(Box::new(raw))
}

/// All columns as text: the topic's types are the server's to apply, row by row.
fn csv(mut plain: Box<dyn BufRead + Send>, rows: usize) -> Result<Input, ArrowError> {
    let mut header = Vec::new();
    plain.read_until(b'\n', &mut header)?;
    let (columns, _) =
        arrow_csv::reader::Format::default().with_header(true).infer_schema(header.as_slice(), Some(0))?;
    let text = |field: &Arc<Field>| Field::new(field.name().trim(), DataType::Utf8, true);
    let schema = Arc::new(Schema::new(columns.fields().iter().map(text).collect::<Vec<_>>()));
    let reader = arrow_csv::ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows).build_buffered(plain)?;
    Ok(Input::of_batches(schema, reader))
}

/// A plain file is read in place; anything else has to be held in memory, since the footer comes last.
fn parquet(path: &Path, mut plain: Box<dyn BufRead + Send>, rows: usize) -> Result<Input, ArrowError> {
    let head = plain.fill_buf()?;
    let in_place = head.starts_with(b"PAR1") && path.extension().is_some_and(|ending| ending == "parquet");
    let reader = if in_place {
        ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_batch_size(rows).build()?
    } else {
        ParquetRecordBatchReaderBuilder::try_new(whole(plain)?)?.with_batch_size(rows).build()?
    };
    Ok(Input::of_batches(reader.schema(), reader))
}

fn arrow(mut plain: Box<dyn BufRead + Send>) -> Result<Input, ArrowError> {
    if plain.fill_buf()?.starts_with(b"ARROW1") {
        let mut file = Cursor::new(whole(plain)?);
        file.rewind()?;
        let reader = FileReader::try_new(file, None)?;
        return Ok(Input::of_batches(reader.schema(), reader));
    }
    let reader = StreamReader::try_new(plain, None)?;
    Ok(Input::of_batches(reader.schema(), reader))
}

fn whole(mut plain: Box<dyn BufRead + Send>) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    plain.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}
