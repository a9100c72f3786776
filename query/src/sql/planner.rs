//! From a checked statement to a plan: names, views, types.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use catalog::view::ReadView;
use datafusion::catalog::TableProvider;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{Column, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as Ast;
use schemas::{ErrorKind, Seq, TenantName, TopicDef, TopicName, envelope};

use super::errors::{from_datafusion, listed};
use super::namespace::{CATALOG, Namespace, Opened};
use super::travel::{self, Moments};
use super::{guard, parameters, session};
use crate::at::At;
use crate::engine::Statement;
use crate::error::{QueryError, Result};
use crate::reader::Reader;
use crate::table::{Text, TopicTable, plain};

const INFORMATION_SCHEMA: &str = "information_schema";

/// Plans statements over what a reader sees.
#[derive(Debug)]
pub(super) struct Planner {
    reader: Reader,
    base: SessionState,
}

impl Planner {
    pub(super) fn new(reader: Reader) -> Self {
        let base = session::base(Arc::clone(&reader.runtime), reader.settings.memory_bytes);
        Self { reader, base }
    }

    #[cfg(test)]
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Types of parameters and result; opens nothing.
    pub(super) async fn describe(&self, tenant: &TenantName, sql: String) -> Result<Statement> {
        let mut ast = guard::statement(&sql)?;
        let moments = travel::take(&mut ast)?;
        let named = self.named(tenant, &ast, &moments)?;
        let unread = |named: &Named| {
            let table: Arc<dyn TableProvider> = Arc::new(TopicTable::unread(&named.def));
            (named.name.clone(), table)
        };
        let state = self.state(tenant, named.iter().map(unread).collect());
        let plan = planned(&state, ast).await?;
        let parameters = parameters::of(&plan)?;
        let schema = match state.optimize(&plan) {
            Ok(optimized) => plain(optimized.schema().as_arrow()),
            // Without its value, a parameter may have no type that fits yet.
            Err(_) if parameters::any_untyped(&parameters) => plain(plan.schema().as_arrow()),
            Err(error) => return Err(from_datafusion(error)),
        };
        Ok(Statement { sql, schema, parameters })
    }

    /// Starts a statement over views taken now.
    pub(super) async fn start(
        &self,
        tenant: &TenantName,
        sql: &str,
        row: Option<&RecordBatch>,
    ) -> Result<SendableRecordBatchStream> {
        let mut ast = guard::statement(sql)?;
        let moments = travel::take(&mut ast)?;
        let named = self.named(tenant, &ast, &moments)?;
        let views = if guard::reads_rows(&ast) { self.open(named).await? } else { Vec::new() };
        let (mut plan, mut state) = self.physical(tenant, ast.clone(), row, &views, Text::Viewed).await?;
        if sorts(&plan) {
            (plan, state) = self.physical(tenant, ast, row, &views, Text::Plain).await?;
        }
        execute_stream(plan, state.task_ctx()).map_err(from_datafusion)
    }

    async fn physical(
        &self,
        tenant: &TenantName,
        ast: Ast,
        row: Option<&RecordBatch>,
        views: &[(String, ReadView)],
        text: Text,
    ) -> Result<(Arc<dyn ExecutionPlan>, SessionState)> {
        let table = |(name, view): &(String, ReadView)| {
            let table: Arc<dyn TableProvider> = Arc::new(TopicTable::new(view.clone(), &self.reader.metadata, text));
            let table =
                if view.cuts_table() { until(table, name, view.end()).map_err(from_datafusion)? } else { table };
            Ok((name.clone(), table))
        };
        let state = self.state(tenant, views.iter().map(table).collect::<Result<_>>()?);
        let plan = parameters::bind(planned(&state, ast).await?, row)?;
        let plan = state.create_physical_plan(&plan).await.map_err(from_datafusion)?;
        Ok((plan, state))
    }

    /// The topics that a statement names, and when. Errors: `NotFound`, with the names that come nearest.
    fn named(&self, tenant: &TenantName, ast: &Ast, moments: &Moments) -> Result<Vec<Named>> {
        let references = self.base.resolve_table_references(ast).map_err(from_datafusion)?;
        let mut topics: Vec<Named> = Vec::with_capacity(references.len());
        for reference in references {
            let name = reference.resolve(CATALOG, tenant.as_str());
            if &*name.schema == INFORMATION_SCHEMA {
                continue;
            }
            let visible = &*name.catalog == CATALOG && &*name.schema == tenant.as_str();
            let moment = moments.get(&*name.table);
            let topic = moment.map(|(topic, _)| topic.clone()).or_else(|| TopicName::new(&*name.table).ok());
            let topic = topic.filter(|_| visible);
            match topic.as_ref().and_then(|topic| self.reader.topics.get(tenant, topic)) {
                Some(def) if topics.iter().all(|known| known.name != *name.table) => {
                    topics.push(Named { name: name.table.to_string(), def, at: moment.map(|(_, at)| at.clone()) });
                }
                Some(_) => {}
                None if self.base.table_functions().contains_key(&*name.table) => {}
                None if visible => {
                    return Err(self.no_topic(tenant, topic.as_ref().map_or(&*name.table, TopicName::as_str)));
                }
                None => return Err(no_schema(tenant, &name.catalog, &name.schema)),
            }
        }
        Ok(topics)
    }

    /// One view a topic. All tails are taken before any table, so that no view is older than another by more than this call.
    async fn open(&self, topics: Vec<Named>) -> Result<Vec<(String, ReadView)>> {
        let held: Vec<_> = topics.iter().map(|named| self.reader.tail.snapshot(&named.def.id)).collect();
        let mut views = Vec::with_capacity(topics.len());
        for (Named { name, def, at }, held) in topics.into_iter().zip(held) {
            let held = held.ok_or_else(|| {
                QueryError::new(ErrorKind::NotFound, format!("topic {} is not held by this server", def.name))
            })?;
            let table = self.reader.tables.current(&def).await?;
            let now = ReadView::new(held, table)?;
            let view = match &at {
                Some(at) => self.reader.earlier(now, at).await?,
                None => now,
            };
            views.push((name, view));
        }
        Ok(views)
    }

    fn state(&self, tenant: &TenantName, opened: Opened) -> SessionState {
        let mut state = self.base.clone();
        state.config_mut().options_mut().catalog.default_schema = tenant.to_string();
        state.register_catalog_list(Arc::new(Namespace::new(self.reader.topics.clone(), tenant.clone(), opened)));
        state.mark_start_execution();
        state
    }

    fn no_topic(&self, tenant: &TenantName, name: &str) -> QueryError {
        let topics = self.reader.topics.list(tenant);
        let mut names: Vec<&str> = topics.iter().map(|def| def.name.as_str()).collect();
        names.sort_by_key(|known| levenshtein(known, name));
        QueryError::new(ErrorKind::NotFound, format!("there is no topic {name:?}; {}", listed("topics", &names)))
    }
}

/// A topic that a statement names, and as of when.
#[derive(Debug)]
struct Named {
    name: String,
    def: Arc<TopicDef>,
    at: Option<At>,
}

/// A table without the events from `end` on. Planning moves the condition to where files are chosen.
fn until(table: Arc<dyn TableProvider>, name: &str, end: Seq) -> DataFusionResult<Arc<dyn TableProvider>> {
    let seq = Expr::Column(Column::new_unqualified(envelope::SEQ));
    let plan = LogicalPlanBuilder::scan(TableReference::bare(name), provider_as_source(table), None)?;
    Ok(Arc::new(ViewTable::new(plan.filter(seq.lt(lit(end.0)))?.build()?, None)))
}

fn no_schema(tenant: &TenantName, catalog: &str, schema: &str) -> QueryError {
    let message = format!(
        "there is no {catalog}.{schema}; topics are found as TOPIC, {tenant}.TOPIC or {CATALOG}.{tenant}.TOPIC"
    );
    QueryError::new(ErrorKind::NotFound, message)
}

/// The logical plan; checked again to only read, since the syntax can hide an INSERT inside a query.
async fn planned(state: &SessionState, ast: Ast) -> Result<LogicalPlan> {
    let plan = state.statement_to_plan(ast).await.map_err(from_datafusion)?;
    let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_reads.verify_plan(&plan).map_err(from_datafusion)?;
    Ok(plan)
}

/// True if rows as they were scanned are sorted somewhere. Keeping only the first few is no such sort, and groups are few or have been copied.
fn sorts(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let sort = plan.as_any().downcast_ref::<SortExec>().filter(|sort| sort.fetch().is_none());
    sort.is_some_and(|sort| hands_on_rows(sort.input())) || plan.children().into_iter().any(sorts)
}

fn hands_on_rows(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let children = plan.children();
    !plan.as_any().is::<AggregateExec>() && (children.is_empty() || children.into_iter().any(hands_on_rows))
}
