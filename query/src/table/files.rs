//! The part of a topic that is in its table: a Parquet scan over the files that were kept.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use catalog::table::FileSet;
use datafusion::catalog::Session;
use datafusion::common::Statistics;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileGroupPartitioner, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricBuilder;

use super::adapter::ByFieldId;
use super::statistics;
use crate::parquet::MetadataCache;
use crate::parquet::factory::CachedReaders;
use crate::sql::runtime::store_url;

/// What is scanned.
pub(super) struct FileScan<'a> {
    /// The topic's event schema.
    pub(super) schema: &'a SchemaRef,
    /// The live files,
    pub(super) live: &'a FileSet,
    /// of which these are read.
    pub(super) kept: &'a [bool],
    /// Where their metadata is kept.
    pub(super) metadata: &'a MetadataCache,
}

impl FileScan<'_> {
    /// Filters that physical planning pushes down are applied row by row, after row groups and pages have been chosen by them.
    pub(super) fn plan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize>;
        let columns = match projection {
            Some(columns) => columns,
            None => {
                all = (0..self.schema.fields().len()).collect();
                &all
            }
        };
        let each = statistics::of_files(self.schema, self.live, self.kept, columns)?;
        let total = Statistics::try_merge_iter(&each, self.schema)?;
        let source = ParquetSource::new(Arc::clone(self.schema))
            .with_table_parquet_options(session.table_options().parquet.clone())
            .with_pushdown_filters(true)
            .with_reorder_filters(true)
            .with_parquet_file_reader_factory(Arc::new(CachedReaders::new(self.metadata.clone())));
        let left_out = self.kept.iter().filter(|kept| !**kept).count();
        let metrics = FileSource::metrics(&source).clone();
        MetricBuilder::new(&metrics).global_counter("files_pruned_by_manifest").add(left_out);
        let config = FileScanConfigBuilder::new(store_url(), Arc::new(source))
            .with_file_groups(self.groups(each, session.config().target_partitions()))
            .with_statistics(total)
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(ByFieldId)))
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Files, or byte ranges of them, for `tasks` to read about as much each.
    fn groups(&self, statistics: Vec<Statistics>, tasks: usize) -> Vec<FileGroup> {
        let kept = self.live.files().iter().zip(self.kept).filter(|(_, kept)| **kept);
        let files = kept.zip(statistics).map(|((file, _), statistics)| {
            let mut scanned = PartitionedFile::new("", file.size);
            scanned.object_meta.location = file.path.clone();
            scanned.statistics = Some(Arc::new(statistics));
            scanned
        });
        let one = FileGroup::new(files.collect());
        let even = FileGroupPartitioner::new().with_target_partitions(tasks);
        even.repartition_file_groups(std::slice::from_ref(&one)).unwrap_or_else(|| one.split_files(tasks))
    }
}
