//! The part of a topic that is in its table: a Parquet scan over the files that were kept.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use catalog::table::FileSet;
use datafusion::catalog::Session;
use datafusion::common::Statistics;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricBuilder;
use schemas::envelope::column;

use super::adapter::ByFieldId;
use super::groups::arrange;
use super::statistics;
use crate::parquet::MetadataCache;
use crate::parquet::factory::CachedReaders;
use crate::sql::runtime::store_url;

/// Columns that sorted files are sorted by.
const ORDER: [usize; 3] = [column::PREFIX, column::KEY, column::SEQ];

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
        let each = statistics::of_files(self.schema, self.live, self.kept, &self.described(projection))?;
        let total = Statistics::try_merge_iter(&each, self.schema)?;
        let kept = self.live.files().iter().zip(self.kept).filter(|(_, kept)| **kept).map(|(file, _)| Arc::clone(file));
        let arrangement = arrange(kept.zip(each).collect(), session.config().target_partitions());
        let order = self.key_order().filter(|_| arrangement.in_key_order);
        let source = ParquetSource::new(Arc::clone(self.schema))
            .with_table_parquet_options(session.table_options().parquet.clone())
            .with_pushdown_filters(true)
            .with_reorder_filters(true)
            .with_parquet_file_reader_factory(Arc::new(CachedReaders::new(
                self.metadata.clone(),
                Arc::clone(self.schema),
            )));
        let left_out = self.kept.iter().filter(|kept| !**kept).count();
        let metrics = FileSource::metrics(&source).clone();
        MetricBuilder::new(&metrics).global_counter("files_pruned_by_manifest").add(left_out);
        let config = FileScanConfigBuilder::new(store_url(), Arc::new(source))
            .with_file_groups(arrangement.groups)
            .with_output_ordering(order.into_iter().collect())
            .with_statistics(total)
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(ByFieldId)))
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// What bounds are wanted of: the columns read, and those that files are ordered by.
    fn described(&self, projection: Option<&Vec<usize>>) -> Vec<usize> {
        let mut columns = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        columns.extend(ORDER);
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    fn key_order(&self) -> Option<LexOrdering> {
        LexOrdering::new(
            ORDER.map(|index| {
                PhysicalSortExpr::new_default(Arc::new(Column::new(self.schema.field(index).name(), index)))
            }),
        )
    }
}
