//! A topic as DataFusion sees it: the union of its table's files and its tail, at one read view.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use catalog::view::ReadView;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use schemas::TopicDef;

use crate::parquet::MetadataCache;
use files::FileScan;
use views::viewed;
pub(crate) use views::{plain, plain_batch};

mod adapter;
mod files;
mod groups;
mod pruning;
mod statistics;
mod tail;
mod views;

/// One topic in one statement.
#[derive(Debug)]
pub(crate) struct TopicTable {
    schema: SchemaRef,
    opened: Option<(ReadView, MetadataCache)>,
}

/// How text and bytes travel inside a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// As views: what the Parquet reader makes without copying, and grouping compares by its first bytes.
    Viewed,
    /// As they lie in the tail. A sort needs this: a batch of views counts as all the text that any of them could point to, so that merging
    /// sorted runs would seem to take several times the memory that it does.
    Plain,
}

impl TopicTable {
    /// A topic that can be read: at this view, wherever the statement names it.
    pub(crate) fn new(view: ReadView, metadata: &MetadataCache, text: Text) -> Self {
        let schema = view.def().event_schema();
        let schema = if text == Text::Viewed { viewed(&schema) } else { schema };
        Self { schema, opened: Some((view, metadata.clone())) }
    }

    /// A topic of which only the columns are wanted.
    pub(crate) fn unread(def: &TopicDef) -> Self {
        Self { schema: def.event_schema(), opened: None }
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// All are wanted here, to choose files by; applying them is left to physical planning, which pushes them into the Parquet reader and
    /// puts them above the tail.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some((view, metadata)) = &self.opened else {
            return internal_err!("a topic that was not opened is scanned");
        };
        let live = view.table().files().await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let kept = pruning::kept(session, &self.schema, &live, filters)?;
        let mut parts = Vec::with_capacity(2);
        if kept.contains(&true) {
            let scan = FileScan { schema: &self.schema, live: &live, kept: &kept, metadata };
            parts.push(scan.plan(session, projection, limit)?);
        }
        if !view.tail().is_empty() {
            parts.push(tail::plan(&self.schema, view.tail(), session, projection, limit)?);
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(projected(&self.schema, projection)?))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

fn projected(schema: &SchemaRef, projection: Option<&Vec<usize>>) -> Result<SchemaRef> {
    Ok(match projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => Arc::clone(schema),
    })
}

#[cfg(test)]
mod evolving;
#[cfg(test)]
mod tests;
