//! Statements: planned when their information is asked for, run when their ticket is redeemed. Nothing is kept between: the ticket holds the text.

use std::sync::Arc;

use arrow_flight::sql::{CommandStatementQuery, TicketStatementQuery};
use bytes::Bytes;
use query::engine::{BatchStream, Statement};
use schemas::{TenantName, limits};

use crate::error::{Result, WireError};
use crate::shared::Shared;
use crate::sql::pack;

/// Plans a statement. Errors: `Invalid` if it is too long; those of the planner.
pub(crate) async fn prepare(shared: &Arc<Shared>, tenant: &TenantName, sql: &str) -> Result<Statement> {
    check_length(sql)?;
    Ok(shared.queries.prepare(tenant, sql).await?)
}

/// The ticket of a statement: its text.
pub(crate) fn ticket(query: CommandStatementQuery) -> Bytes {
    pack(&TicketStatementQuery { statement_handle: query.query.into() })
}

/// Runs the statement of a ticket over read views taken now.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    ticket: &TicketStatementQuery,
) -> Result<BatchStream> {
    let sql = std::str::from_utf8(&ticket.statement_handle)
        .map_err(|error| WireError::invalid(format!("statement ticket: expected the text of a statement, {error}")))?;
    run_text(shared, tenant, sql).await
}

/// Runs a statement without parameters.
pub(crate) async fn run_text(shared: &Arc<Shared>, tenant: &TenantName, sql: &str) -> Result<BatchStream> {
    check_length(sql)?;
    Ok(shared.queries.sql(tenant, sql, None).await?)
}

fn check_length(sql: &str) -> Result<()> {
    if sql.len() <= limits::SQL_BYTES_MAX {
        return Ok(());
    }
    Err(WireError::invalid(format!("statement: expected at most {} bytes, found {}", limits::SQL_BYTES_MAX, sql.len())))
}
