//! The files of a sorted run, one after the other, as batches of events in the order of (`_prefix`, `_key`, `_seq`).

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::file::metadata::ParquetMetaData;
use schemas::ErrorKind;
use schemas::conform::{absent, conform_batch};
use schemas::envelope::{self, column};
use tokio::sync::Mutex;

use super::super::arrow_error;
use super::super::create::buckets_of;
use super::super::files::DataFile;
use super::super::naming::{claimed_id, content_id};
use super::Throttle;
use crate::error::{CatalogError, Result};
use crate::storage::Store;

/// Files up to this size are read by one request, and their content is compared with what their name says.
const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Decoded bytes of a batch, about.
const BATCH_BYTES: i64 = 2 << 20;
/// Rows of a batch, at most.
const BATCH_ROWS_MAX: i64 = 8_192;
/// Columns that rows are sorted by.
pub(super) const SORTED_BY: [usize; 3] = [column::PREFIX, column::KEY, column::SEQ];

type Rows = BoxStream<'static, parquet::errors::Result<RecordBatch>>;

/// How many rows each prefix and bucket has.
pub(super) type Shares = BTreeMap<(String, u32), u64>;

/// Where the files of one job are read from. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    store: Store,
    event: SchemaRef,
    throttle: Arc<Mutex<Throttle>>,
}

/// Files whose rows follow each other.
pub(crate) struct Run {
    inputs: Inputs,
    files: VecDeque<Arc<DataFile>>,
    open: Option<(Arc<DataFile>, Rows)>,
}

impl Inputs {
    /// `event`: the schema that batches have, whatever files have.
    pub(crate) fn new(store: Store, event: SchemaRef, bytes_per_second: u64) -> Self {
        Self { store, event, throttle: Arc::new(Mutex::new(Throttle::new(bytes_per_second))) }
    }

    pub(crate) fn run(&self, files: Vec<Arc<DataFile>>) -> Run {
        Run { inputs: self.clone(), files: files.into(), open: None }
    }

    /// Counts the rows of each prefix and bucket. Reads the columns that tell, and those only where the manifest does not.
    pub(super) async fn shares(&self, files: impl Iterator<Item = &Arc<DataFile>>, buckets: u32) -> Result<Shares> {
        let mut shares = Shares::new();
        for file in files {
            if buckets == 1 && file.prefixes.0 == file.prefixes.1 {
                *shares.entry((file.prefixes.0.clone(), 0)).or_default() += file.rows;
                continue;
            }
            let wanted = if buckets == 1 { &[envelope::PREFIX][..] } else { &[envelope::PREFIX, envelope::KEY][..] };
            let mut rows = self.open(file, Some(wanted)).await?;
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(|error| unreadable(file, error))?;
                count(&mut shares, &batch, buckets)?;
                tokio::task::yield_now().await;
            }
        }
        Ok(shares)
    }

    /// The rows of a file in file order and file schema; only some columns, if they are named.
    async fn open(&self, file: &Arc<DataFile>, columns: Option<&[&str]>) -> Result<Rows> {
        if columns.is_none() {
            self.throttle.lock().await.take(file.size).await;
        }
        let builder = ParquetRecordBatchStreamBuilder::new(self.reader(file).await?).await;
        let mut builder = builder.map_err(|error| unreadable(file, error))?;
        let rows = batch_rows(builder.metadata());
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        Ok(builder.with_batch_size(rows).build().map_err(|error| unreadable(file, error))?.boxed())
    }

    async fn reader(&self, file: &DataFile) -> Result<Box<dyn AsyncFileReader>> {
        if file.size > WHOLE_BYTES_MAX {
            let objects: Arc<dyn ObjectStore> = Arc::clone(self.store.objects());
            return Ok(Box::new(ParquetObjectReader::new(objects, file.path.clone()).with_file_size(file.size)));
        }
        let read = async { self.store.objects().get(&file.path).await?.bytes().await };
        let content = read.await.map_err(|error| super::super::object_error(file.path.as_ref(), error))?;
        match claimed_id(file.path.as_ref()).is_none_or(|claimed| claimed == content_id(&content)) {
            true => Ok(Box::new(Cursor::new(content))),
            false => Err(unreadable(file, "its content is not the one that its name tells of")),
        }
    }

    /// All rows of a file that another engine wrote, put in order. It is small: the plan sees to it.
    async fn sorted(&self, file: &Arc<DataFile>) -> Result<Option<RecordBatch>> {
        let mut batches = Vec::new();
        let mut rows = self.open(file, None).await?;
        while let Some(batch) = rows.next().await {
            batches.push(self.conform(&batch.map_err(|error| unreadable(file, error))?)?);
        }
        let batch = concat_batches(&self.event, &batches).map_err(arrow_error)?;
        let keys = converter(&self.event)?
            .convert_columns(&SORTED_BY.map(|index| Arc::clone(batch.column(index))))
            .map_err(arrow_error)?;
        let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
        order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        let sorted = take_record_batch(&batch, &UInt32Array::from(order)).map_err(arrow_error)?;
        Ok((sorted.num_rows() > 0).then_some(sorted))
    }

    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        conform_batch(batch, &self.event, &absent).map_err(arrow_error)
    }
}

impl Run {
    /// The next rows; none of the batches is empty.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some((file, rows)) = &mut self.open {
                match rows.next().await {
                    Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                    Some(Ok(batch)) => return self.inputs.conform(&batch).map(Some),
                    Some(Err(error)) => return Err(unreadable(file, error)),
                    None => self.open = None,
                }
            }
            let Some(file) = self.files.pop_front() else { return Ok(None) };
            if file.sorted {
                let rows = self.inputs.open(&file, None).await?;
                self.open = Some((file, rows));
            } else if let Some(batch) = self.inputs.sorted(&file).await? {
                return Ok(Some(batch));
            }
        }
    }
}

/// Makes what rows are compared by.
pub(super) fn converter(event: &SchemaRef) -> Result<RowConverter> {
    let fields = SORTED_BY.map(|index| SortField::new(event.field(index).data_type().clone()));
    RowConverter::new(fields.to_vec()).map_err(arrow_error)
}

fn count(shares: &mut Shares, batch: &RecordBatch, buckets: u32) -> Result<()> {
    let column = |name: &str| {
        let found = batch.column_by_name(name).cloned();
        found.ok_or_else(|| CatalogError::new(ErrorKind::Corrupt, format!("a data file without the column {name}")))
    };
    let prefixes = column(envelope::PREFIX)?;
    let numbers = if buckets > 1 { Some(buckets_of(&column(envelope::KEY)?, buckets)?) } else { None };
    let mut last: Option<(&str, u32, u64)> = None;
    for (row, prefix) in prefixes.as_string::<i32>().iter().flatten().enumerate() {
        let bucket = numbers.as_ref().map_or(0, |numbers| numbers.value(row) as u32);
        match &mut last {
            Some((same, of, rows)) if *same == prefix && *of == bucket => *rows += 1,
            _ => {
                add(shares, last.take());
                last = Some((prefix, bucket, 1));
            }
        }
    }
    add(shares, last);
    Ok(())
}

fn add(shares: &mut Shares, counted: Option<(&str, u32, u64)>) {
    if let Some((prefix, bucket, rows)) = counted {
        *shares.entry((prefix.to_owned(), bucket)).or_default() += rows;
    }
}

fn unreadable(file: &DataFile, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CatalogError {
    let error = error.into();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    let mut kind = ErrorKind::Corrupt;
    while let Some(at) = cause {
        match at.downcast_ref::<object_store::Error>() {
            None => {}
            Some(object_store::Error::NotFound { .. }) => kind = ErrorKind::NotFound,
            Some(_) => kind = ErrorKind::Unavailable,
        }
        cause = at.source();
    }
    CatalogError::new(kind, format!("{} cannot be read to be compacted", file.path)).caused_by(error)
}

/// How many rows to decode together, so that wide rows take no more memory than narrow ones.
fn batch_rows(footer: &ParquetMetaData) -> usize {
    let widest = footer.row_groups().iter().map(|group| group.total_byte_size() / group.num_rows().max(1)).max();
    (BATCH_BYTES / widest.unwrap_or(1).max(1)).clamp(1, BATCH_ROWS_MAX) as usize
}
