//! Footers, page indexes and bloom filters, read once a file and kept within a bound.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use ::parquet::arrow::async_reader::MetadataFetch;
use ::parquet::bloom_filter::Sbbf;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use ::parquet::schema::types::BasicTypeInfo;
use arrow::array::ArrayRef;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use moka::future::Cache;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use schemas::ErrorKind;
use schemas::envelope::{self, field_id};

use super::known::fixed_values;
use super::pages::as_uncompressed;
use super::sparse::Sparse;
use crate::error::{QueryError, Result};

/// How much of a file's end is read at first, bytes: the footer and the page index of most files.
const FOOTER_PREFETCH_BYTES: usize = 512 << 10;
/// What a cached entry takes besides what it reports of itself, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 1 << 10;

/// What is known of one data file without reading its rows.
#[derive(Debug)]
pub(crate) struct FileMetadata {
    arrow: ArrowReaderMetadata,
    opened: Option<ArrowReaderMetadata>,
    field_ids: Vec<Option<i32>>,
    fixed: Vec<Vec<Option<ArrayRef>>>,
    key_filters: Vec<Option<Sbbf>>,
    bytes: usize,
}

impl FileMetadata {
    /// Footer, with the column and offset indexes where the file has them.
    pub(crate) fn parquet(&self) -> &Arc<ParquetMetaData> {
        self.arrow.metadata()
    }

    /// The same with the Arrow schema that it decodes to.
    pub(crate) fn arrow(&self) -> &ArrowReaderMetadata {
        &self.arrow
    }

    /// The same as the reader must see it when it is given pages that are decompressed already; `None` if they can't be.
    pub(super) fn opened(&self) -> Option<&ArrowReaderMetadata> {
        self.opened.as_ref()
    }

    /// The one value (a single row) that all rows of a row group have in a top-level column, where that is known.
    pub(super) fn fixed(&self, row_group: usize, root: usize) -> Option<&ArrayRef> {
        self.fixed[row_group][root].as_ref()
    }

    /// Iceberg field ids of the top-level columns, in file order.
    pub(crate) fn field_ids(&self) -> &[Option<i32>] {
        &self.field_ids
    }

    /// Leaf number of a top-level column that is not nested, by field id, or by name in a file without ids. `None` if the file has it not.
    pub(crate) fn leaf(&self, id: i32, name: &str) -> Option<usize> {
        let leaves = self.arrow.parquet_schema();
        let root = match self.field_ids.iter().all(Option::is_none) {
            true => leaves.root_schema().get_fields().iter().position(|root| root.name() == name)?,
            false => self.field_ids.iter().position(|found| *found == Some(id))?,
        };
        (0..leaves.num_columns()).find(|leaf| leaves.get_column_root_idx(*leaf) == root)
    }

    /// False only if the row group certainly holds no row of `key`.
    pub(crate) fn may_hold(&self, row_group: usize, key: &str) -> bool {
        self.key_filters.get(row_group).and_then(Option::as_ref).is_none_or(|filter| filter.check(key))
    }

    fn new(metadata: ParquetMetaData) -> Result<Self, ParquetError> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let opened = as_uncompressed(&metadata).map(Arc::new);
        let opened = opened.map(|opened| ArrowReaderMetadata::try_new(opened, options.clone())).transpose()?;
        let arrow = ArrowReaderMetadata::try_new(Arc::new(metadata), options)?;
        let fixed = fixed_values(arrow.metadata(), arrow.schema());
        let roots = arrow.parquet_schema().root_schema().get_fields();
        let id = |info: &BasicTypeInfo| info.has_id().then(|| info.id());
        let field_ids = roots.iter().map(|root| id(root.get_basic_info())).collect();
        let bytes =
            arrow.metadata().memory_size() + opened.as_ref().map_or(0, |opened| opened.metadata().memory_size());
        Ok(Self { arrow, opened, field_ids, fixed, key_filters: Vec::new(), bytes })
    }
}

/// Metadata of data files by path, bounded in bytes. A file that several readers want at once is loaded once. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MetadataCache {
    objects: Arc<dyn ObjectStore>,
    files: Cache<Path, Arc<FileMetadata>>,
}

impl MetadataCache {
    /// At most about `bytes_max` are kept.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, bytes_max: usize) -> Self {
        let files = Cache::builder()
            .max_capacity(bytes_max as u64)
            .weigher(|path: &Path, file: &Arc<FileMetadata>| {
                u32::try_from(file.bytes + path.as_ref().len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
            })
            .build();
        Self { objects, files }
    }

    /// The store that the files lie in.
    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Metadata of the file at `path`, which has `size` bytes.
    ///
    /// Errors: `Corrupt` if it is missing or not Parquet; `Unavailable` if the store is away.
    pub(crate) async fn get(&self, path: &Path, size: u64) -> Result<Arc<FileMetadata>> {
        if let Some(found) = self.files.get(path).await {
            return Ok(found);
        }
        let loaded = self.files.try_get_with(path.clone(), load(Arc::clone(&self.objects), path.clone(), size)).await;
        loaded.map_err(|error: Arc<QueryError>| QueryError::new(error.kind(), error.to_string()))
    }
}

async fn load(objects: Arc<dyn ObjectStore>, path: Path, size: u64) -> Result<Arc<FileMetadata>> {
    let fetch = Fetch { objects: &objects, path: &path };
    let reader = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_prefetch_hint(Some(FOOTER_PREFETCH_BYTES));
    let read = reader.load_and_finish(fetch, size).await.and_then(FileMetadata::new);
    let mut file = read.map_err(|error| parquet_error(&path, error))?;
    file.key_filters = key_filters(&objects, &path, size, &file).await?;
    let filters: usize = file.key_filters.iter().flatten().map(|filter| filter.num_blocks() * 32).sum();
    file.bytes += filters;
    Ok(Arc::new(file))
}

/// The bloom filters of `_key`, one a row group; `None` where there is none, or none that says how long it is.
async fn key_filters(
    objects: &Arc<dyn ObjectStore>,
    path: &Path,
    size: u64,
    file: &FileMetadata,
) -> Result<Vec<Option<Sbbf>>> {
    let Some(leaf) = file.leaf(field_id::KEY, envelope::KEY) else { return Ok(Vec::new()) };
    let chunks: Vec<_> = file.parquet().row_groups().iter().map(|group| group.column(leaf)).collect();
    let ranges: Vec<Range<u64>> = chunks
        .iter()
        .filter_map(|chunk| {
            let start = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
            Some(start..start + u64::try_from(chunk.bloom_filter_length()?).ok()?)
        })
        .collect();
    let sparse = Sparse::fetch(objects, path, size, ranges).await?;
    let read = |chunk: &&_| Sbbf::read_from_column_chunk(chunk, &sparse);
    let filters = chunks.iter().map(|chunk| if chunk.bloom_filter_length().is_some() { read(chunk) } else { Ok(None) });
    filters.collect::<Result<_, _>>().map_err(|error| parquet_error(path, error))
}

/// Reads one file's metadata for the Parquet reader.
struct Fetch<'a> {
    objects: &'a Arc<dyn ObjectStore>,
    path: &'a Path,
}

impl MetadataFetch for Fetch<'_> {
    fn fetch(&mut self, range: Range<u64>) -> BoxFuture<'_, ::parquet::errors::Result<Bytes>> {
        let read = self.objects.get_range(self.path, range);
        read.map(|bytes| bytes.map_err(|error| ParquetError::External(Box::new(error)))).boxed()
    }
}

/// What the store said of a data file that the table names.
pub(crate) fn store_error(path: &Path, error: &object_store::Error) -> QueryError {
    match error {
        object_store::Error::NotFound { .. } => QueryError::new(
            ErrorKind::Corrupt,
            format!("data file {path}: the table names it and the store has it not"),
        ),
        other => QueryError::new(ErrorKind::Unavailable, format!("data file {path}: {other}")),
    }
}

/// What the Parquet reader said of a data file: the store's error if that is underneath, else the file is not what was written.
pub(crate) fn parquet_error(path: &Path, error: ParquetError) -> QueryError {
    if let ParquetError::External(source) = &error
        && let Some(source) = source.downcast_ref::<object_store::Error>()
    {
        return store_error(path, source);
    }
    QueryError::new(ErrorKind::Corrupt, format!("data file {path}: {error}"))
}
