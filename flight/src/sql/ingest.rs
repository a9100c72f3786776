//! Bulk ingest (`adbc_ingest`): an append to a topic that exists, acknowledged once, when all of it is durable.

use std::sync::Arc;

use arrow_flight::sql::{CommandStatementIngest, DoPutUpdateResult, TableExistsOption, TableNotExistOption};
use schemas::{TenantName, TopicName};
use tonic::Status;

use crate::append::{self, Source};
use crate::error::WireError;
use crate::shared::Shared;
use crate::sql::metadata::CATALOG;
use crate::status::unsupported;
use crate::ticket::Append;

/// Appends what `source` brings; the number of rows.
///
/// Errors: `NotFound` for an unknown topic, tenant or catalog; `UNIMPLEMENTED` for modes other than append; those of an append.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    ingest: CommandStatementIngest,
    source: Source,
) -> Result<DoPutUpdateResult, Status> {
    let here =
        |name: &Option<String>, expected: &str| name.as_ref().is_none_or(|name| name.is_empty() || name == expected);
    if !here(&ingest.catalog, CATALOG) || !here(&ingest.schema, tenant.as_str()) {
        let message = format!("bulk ingest: expected the catalog {CATALOG} and the schema {tenant}, or neither");
        return Err(WireError::invalid(message).into());
    }
    let topic = TopicName::new(ingest.table.clone()).map_err(WireError::from)?;
    check_options(&ingest, shared.topics.get(tenant, &topic).is_some())?;
    let appender = append::appender(shared, tenant, Append::to(topic)).await?;
    let rows = append::append_all(source, appender).await?;
    Ok(DoPutUpdateResult { record_count: rows as i64 })
}

fn check_options(ingest: &CommandStatementIngest, exists: bool) -> Result<(), Status> {
    let instead =
        "make the topic with the action create-topic (it needs a schema and a key), then ingest with mode append";
    if ingest.temporary {
        return Err(unsupported("ingest into a temporary table", instead));
    }
    if ingest.transaction_id.is_some() {
        return Err(unsupported("ingest in a transaction", "batches are durable one by one"));
    }
    let Some(options) = &ingest.table_definition_options else { return Ok(()) };
    match (exists, options.if_exists(), options.if_not_exist()) {
        (true, TableExistsOption::Append | TableExistsOption::Unspecified, _) => Ok(()),
        (true, TableExistsOption::Replace | TableExistsOption::Fail, _) => {
            Err(unsupported("ingest that replaces a topic, or expects none", instead))
        }
        (false, _, TableNotExistOption::Create) => Err(unsupported("ingest that makes its topic", instead)),
        // The append itself says which topics there are.
        (false, _, TableNotExistOption::Fail | TableNotExistOption::Unspecified) => Ok(()),
    }
}
