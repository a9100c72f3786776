//! Prepared statements: a table of handles, bounded in bytes and in idleness.
//!
//! The table is memory of this process alone: after a restart a handle is unknown, and the client prepares again, as drivers do.

use std::sync::Arc;
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use arrow_flight::sql::DoPutPreparedStatementResult;
use bytes::Bytes;
use moka::sync::Cache;
use query::engine::{BatchStream, Statement};
use schemas::{ErrorKind, TenantName, limits};

use crate::append::Source;
use crate::decode::Decoder;
use crate::error::{Result, WireError};
use crate::shared::Shared;
use crate::sql::statement;

/// How long an unused statement stays open.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// What an entry costs beside its text and parameters: plan schemas, handle, table.
const ENTRY_BYTES: usize = 4 << 10;

/// A statement that a client has prepared.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    tenant: TenantName,
    pub(crate) statement: Statement,
    parameters: Option<RecordBatch>,
}

/// The open statements of every client.
#[derive(Clone, Debug)]
pub(crate) struct PreparedStatements {
    open: Cache<Bytes, Arc<Prepared>>,
}

impl PreparedStatements {
    /// None is open.
    pub(crate) fn new() -> Self {
        let weigher = |handle: &Bytes, prepared: &Arc<Prepared>| {
            let parameters = prepared.parameters.as_ref().map_or(0, RecordBatch::get_array_memory_size);
            let bytes = ENTRY_BYTES + handle.len() + prepared.statement.sql.len() + parameters;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let open = Cache::builder()
            .max_capacity(limits::PREPARED_BYTES_MAX as u64)
            .weigher(weigher)
            .time_to_idle(IDLE)
            .build();
        Self { open }
    }

    /// The statement of a handle. Errors: `NotFound` if it is not open, or is another tenant's.
    pub(crate) fn get(&self, tenant: &TenantName, handle: &Bytes) -> Result<Arc<Prepared>> {
        let found = self.open.get(handle).filter(|prepared| prepared.tenant == *tenant);
        found.ok_or_else(|| {
            WireError::new(ErrorKind::NotFound, "the prepared statement is not open (closed, idle for an hour, or the server was started anew): prepare it again")
        })
    }

    fn close(&self, tenant: &TenantName, handle: &Bytes) {
        if self.get(tenant, handle).is_ok() {
            self.open.invalidate(handle);
        }
    }
}

/// Plans a statement and keeps it; its handle.
pub(crate) async fn create(shared: &Arc<Shared>, tenant: &TenantName, sql: &str) -> Result<(Bytes, Arc<Prepared>)> {
    let statement = statement::prepare(shared, tenant, sql).await?;
    let prepared = Arc::new(Prepared { tenant: tenant.clone(), statement, parameters: None });
    let handle = Bytes::copy_from_slice(shared.env.uuid().as_bytes());
    shared.prepared.open.insert(handle.clone(), Arc::clone(&prepared));
    Ok((handle, prepared))
}

/// Forgets a statement; one that is not open is closed already.
pub(crate) fn close(shared: &Shared, tenant: &TenantName, handle: &Bytes) {
    shared.prepared.close(tenant, handle);
}

/// Binds the parameters that `source` brings: one row, a column a parameter.
///
/// Errors: `NotFound`; `Invalid` for any other number of rows or columns.
pub(crate) async fn bind(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    handle: Bytes,
    mut source: Source,
) -> Result<DoPutPreparedStatementResult> {
    let prepared = shared.prepared.get(tenant, &handle)?;
    let parameters = one_row(&mut source).await?;
    let (expected, found) = (prepared.statement.parameters.fields().len(), parameters.num_columns());
    if expected != found {
        return Err(WireError::invalid(format!("parameters: the statement has {expected}, found {found} columns")));
    }
    let bound = Prepared { parameters: Some(parameters), ..prepared.as_ref().clone() };
    shared.prepared.open.insert(handle.clone(), Arc::new(bound));
    Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
}

/// Runs a prepared statement with what is bound to it.
pub(crate) async fn run(shared: &Arc<Shared>, tenant: &TenantName, handle: &Bytes) -> Result<BatchStream> {
    let prepared = shared.prepared.get(tenant, handle)?;
    Ok(shared.queries.sql(tenant, &prepared.statement.sql, prepared.parameters.clone()).await?)
}

async fn one_row(source: &mut Source) -> Result<RecordBatch> {
    let (mut decoder, mut batches, mut rows) = (Decoder::default(), Vec::new(), 0);
    while let Some(message) = source.next().await? {
        if let Some(batch) = decoder.decode(message)? {
            rows += batch.num_rows();
            if rows > 1 {
                return Err(WireError::invalid(
                    "parameters: expected one row, found more; run the statement once a row",
                ));
            }
            batches.push(batch);
        }
    }
    let schema = decoder
        .schema()
        .ok_or_else(|| WireError::invalid("parameters: expected a schema and one row, found nothing"))?;
    if rows == 0 && !schema.fields().is_empty() {
        return Err(WireError::invalid("parameters: expected one row, found none"));
    }
    concat_batches(schema, &batches).map_err(|error| WireError::invalid(format!("parameters: {error}")))
}
