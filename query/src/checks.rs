//! `CHECK` expressions on DataFusion's expression engine: the implementation of [`schemas::check`], and of `where` conditions.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use schemas::check::{Check, CheckCompiler};
use schemas::{ErrorKind, SchemaError};

use crate::error::{QueryError, Result};
use crate::sql::errors::from_datafusion;
use crate::sql::stack::with_room;
use crate::sql::{guard, session};

/// Compiles checks with DataFusion. Stateless.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqlChecks;

impl CheckCompiler for SqlChecks {
    fn compile(&self, expression: &str, schema: &SchemaRef) -> Result<Arc<dyn Check>, SchemaError> {
        match compile_predicate(expression, schema) {
            Ok(predicate) => Ok(Arc::new(Compiled { text: expression.to_owned(), predicate })),
            Err(error) => Err(SchemaError::Option { option: "check", reason: format!("{expression}: {error}") }),
        }
    }
}

/// A check that is ready to be asked.
#[derive(Debug)]
struct Compiled {
    text: String,
    predicate: Arc<dyn PhysicalExpr>,
}

impl Check for Compiled {
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, SchemaError> {
        let values = self.predicate.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
        let values =
            values.map_err(|error| SchemaError::Batch(format!("check {}: {}", self.text, from_datafusion(error))))?;
        Ok(values.as_boolean().clone())
    }

    fn columns(&self) -> Vec<String> {
        collect_columns(&self.predicate).into_iter().map(|column| column.name().to_owned()).collect()
    }
}

/// Compiles a boolean SQL expression over the columns of `schema`, a pure function of its row.
///
/// Errors: `Invalid`; `NotFound` for an unknown column, naming those that exist.
pub(crate) fn compile_predicate(expression: &str, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    with_room(|| compile(expression, schema))
}

fn compile(expression: &str, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    let ast = guard::expression(expression)?;
    if let Some(alias) = ast.alias {
        return Err(invalid(format!("expected an expression alone, found the alias {alias}")));
    }
    let columns = Arc::new(DFSchema::try_from(schema.as_ref().clone()).map_err(from_datafusion)?);
    let state = session::expressions();
    let parsed = state.create_logical_expr_from_sql_expr(ast, &columns).map_err(from_datafusion)?;
    only_of_its_row(&parsed)?;
    let simplified = simplify(parsed, &columns).map_err(from_datafusion)?;
    match simplified.get_type(columns.as_ref()).map_err(from_datafusion)? {
        DataType::Boolean => {}
        other => {
            return Err(invalid(format!(
                "expected a condition (true or false for each row), found a value of type {other}"
            )));
        }
    }
    state.create_physical_expr(simplified, &columns).map_err(from_datafusion)
}

fn simplify(expr: Expr, columns: &DFSchemaRef) -> Result<Expr, DataFusionError> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default().with_schema(Arc::clone(columns)));
    let expr = simplifier.coerce(expr, columns)?;
    simplifier.simplify(expr)
}

/// Refuses what looks at other rows, other tables, clocks or dice.
fn only_of_its_row(expr: &Expr) -> Result<()> {
    let mut found = None;
    let walked = expr.apply(|node| {
        found = fault(node);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(from_datafusion)?;
    match found {
        Some(what) => Err(invalid(format!("expected an expression over the columns of one row, found {what}"))),
        None => Ok(()),
    }
}

fn fault(node: &Expr) -> Option<String> {
    Some(match node {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            "a subquery".to_owned()
        }
        Expr::OuterReferenceColumn(..) => "a column of another query".to_owned(),
        Expr::AggregateFunction(function) => format!("the aggregate function {}", function.func.name()),
        Expr::WindowFunction(function) => format!("the window function {}", function.fun.name()),
        Expr::GroupingSet(_) => "a grouping set".to_owned(),
        Expr::Placeholder(parameter) => format!("the parameter {}", parameter.id),
        Expr::ScalarVariable(..) => "a variable".to_owned(),
        Expr::Unnest(_) => "unnest, which makes rows".to_owned(),
        #[expect(deprecated)]
        Expr::Wildcard { .. } => "*".to_owned(),
        Expr::ScalarFunction(function) if function.func.signature().volatility != Volatility::Immutable => {
            format!("{}(), which does not always answer the same", function.name())
        }
        _ => return None,
    })
}

fn invalid(message: String) -> QueryError {
    QueryError::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
