//! DataFusion's way to our cached metadata, in which columns have the names that they have now.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderOptions;
use ::parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ParquetMetaData;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectMeta;

use super::metadata::MetadataCache;
use super::named::named;

/// Gives DataFusion readers whose metadata, page indexes included, comes out of a [`MetadataCache`].
#[derive(Clone, Debug)]
pub(crate) struct CachedReaders {
    cache: MetadataCache,
    /// The names that columns have now, by field id.
    event: SchemaRef,
}

impl CachedReaders {
    pub(crate) fn new(cache: MetadataCache, event: SchemaRef) -> Self {
        Self { cache, event }
    }
}

impl ParquetFileReaderFactory for CachedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        partitioned_file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::error::Result<Box<dyn AsyncFileReader + Send>> {
        let file = partitioned_file.object_meta;
        let inner =
            ParquetObjectReader::new(Arc::clone(self.cache.objects()), file.location.clone()).with_file_size(file.size);
        let metrics = ParquetFileMetrics::new(partition_index, file.location.as_ref(), metrics);
        let (cache, event) = (self.cache.clone(), SchemaRef::clone(&self.event));
        Ok(Box::new(CachedReader { cache, event, file, inner, metrics }))
    }
}

/// Rows from the store, metadata from the cache.
struct CachedReader {
    cache: MetadataCache,
    event: SchemaRef,
    file: ObjectMeta,
    inner: ParquetObjectReader,
    metrics: ParquetFileMetrics,
}

impl AsyncFileReader for CachedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.metrics.bytes_scanned.add((range.end - range.start) as usize);
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(bytes as usize);
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let found = self.cache.get(&self.file.location, self.file.size).await;
            let file = found.map_err(|error| ParquetError::External(Box::new(error)))?;
            Ok(named(file.parquet(), &self.event)?.map_or_else(|| Arc::clone(file.parquet()), Arc::new))
        }
        .boxed()
    }
}
