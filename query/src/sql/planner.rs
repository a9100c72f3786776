//! From a checked statement to a plan: names, views, types.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use catalog::view::ReadView;
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as Ast;
use schemas::{ErrorKind, TenantName, TopicDef, TopicName};

use super::errors::{from_datafusion, listed};
use super::namespace::{CATALOG, Namespace};
use super::{guard, parameters, session};
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
        let ast = guard::statement(&sql)?;
        self.topics_of(tenant, &ast)?;
        let state = self.state(tenant, HashMap::new());
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
        let ast = guard::statement(sql)?;
        let topics = self.topics_of(tenant, &ast)?;
        let views = if guard::reads_rows(&ast) { self.open(topics).await? } else { Vec::new() };
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
        views: &[ReadView],
        text: Text,
    ) -> Result<(Arc<dyn ExecutionPlan>, SessionState)> {
        let table = |view: &ReadView| Arc::new(TopicTable::new(view.clone(), &self.reader.metadata, text));
        let state = self.state(tenant, views.iter().map(|view| (view.def().name.clone(), table(view))).collect());
        let plan = parameters::bind(planned(&state, ast).await?, row)?;
        let plan = state.create_physical_plan(&plan).await.map_err(from_datafusion)?;
        Ok((plan, state))
    }

    /// The topics that a statement names. Errors: `NotFound`, with the names that come nearest.
    fn topics_of(&self, tenant: &TenantName, ast: &Ast) -> Result<Vec<Arc<TopicDef>>> {
        let references = self.base.resolve_table_references(ast).map_err(from_datafusion)?;
        let mut topics: Vec<Arc<TopicDef>> = Vec::with_capacity(references.len());
        for reference in references {
            let name = reference.resolve(CATALOG, tenant.as_str());
            if &*name.schema == INFORMATION_SCHEMA {
                continue;
            }
            let visible = &*name.catalog == CATALOG && &*name.schema == tenant.as_str();
            let topic = TopicName::new(&*name.table).ok().filter(|_| visible);
            match topic.and_then(|topic| self.reader.topics.get(tenant, &topic)) {
                Some(def) if topics.iter().all(|known| known.id != def.id) => topics.push(def),
                Some(_) => {}
                None if self.base.table_functions().contains_key(&*name.table) => {}
                None if visible => return Err(self.no_topic(tenant, &name.table)),
                None => return Err(no_schema(tenant, &name.catalog, &name.schema)),
            }
        }
        Ok(topics)
    }

    /// One view a topic. All tails are taken before any table, so that no view is older than another by more than this call.
    async fn open(&self, topics: Vec<Arc<TopicDef>>) -> Result<Vec<ReadView>> {
        let held: Vec<_> = topics.iter().map(|def| self.reader.tail.snapshot(&def.id)).collect();
        let mut views = Vec::with_capacity(topics.len());
        for (def, held) in topics.into_iter().zip(held) {
            let held = held.ok_or_else(|| {
                QueryError::new(ErrorKind::NotFound, format!("topic {} is not held by this server", def.name))
            })?;
            let table = self.reader.tables.current(&def).await?;
            views.push(ReadView::new(def, held, table)?);
        }
        Ok(views)
    }

    fn state(&self, tenant: &TenantName, opened: HashMap<TopicName, Arc<TopicTable>>) -> SessionState {
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
