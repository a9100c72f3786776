//! Flight SQL: what ADBC, JDBC and ODBC drivers speak.
//!
//! `arrow-flight` offers a trait for this, but it decodes protobuf before it asks anyone and owns the whole of `DoPut`, where Firn looks for
//! JSON and for paths first. So the commands are matched here, on the same types.
//!
//! | command | answered by |
//! | --- | --- |
//! | a statement | [`statement`]: stateless, the ticket holds the text |
//! | a prepared statement | [`prepared`]: a bounded table of handles |
//! | bulk ingest | [`ingest`]: an append to a topic that exists |
//! | catalogs, schemas, tables, types, keys, server facts | [`metadata`]: one batch each |
//! | updates, transactions, Substrait | refused: SQL reads here |

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{Any, Command, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, PutResult};
use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use query::engine::BatchStream;
use schemas::TenantName;
use tonic::Status;

use crate::append::Source;
use crate::error::WireError;
use crate::info;
use crate::shared::Shared;
use crate::status::unsupported;

pub(crate) mod action;
pub(crate) mod ingest;
pub(crate) mod metadata;
pub(crate) mod prepared;
pub(crate) mod statement;

/// What there is to read for a command, and the ticket that reads it.
pub(crate) async fn info(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let command = command(&descriptor.cmd)?;
    let schema = schema_of(shared, tenant, &command).await?;
    let ticket = match command {
        Command::CommandStatementQuery(query) => statement::ticket(query),
        // The command itself says what to read.
        _ => descriptor.cmd.clone(),
    };
    Ok(info::describe(&schema, descriptor, ticket, None, None)?)
}

/// The schema of a command's answer.
pub(crate) async fn schema(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    descriptor: &FlightDescriptor,
) -> Result<SchemaRef, Status> {
    schema_of(shared, tenant, &command(&descriptor.cmd)?).await
}

async fn schema_of(shared: &Arc<Shared>, tenant: &TenantName, command: &Command) -> Result<SchemaRef, Status> {
    match command {
        Command::CommandStatementQuery(query) => Ok(statement::prepare(shared, tenant, &query.query).await?.schema),
        Command::CommandPreparedStatementQuery(query) => {
            let prepared = shared.prepared.get(tenant, &query.prepared_statement_handle)?;
            Ok(Arc::clone(&prepared.statement.schema))
        }
        other => match metadata::answer(shared, tenant, other)? {
            Some(batch) => Ok(batch.schema()),
            None => Err(refused(other)),
        },
    }
}

/// The answer to a ticket.
pub(crate) async fn get(shared: &Arc<Shared>, tenant: &TenantName, ticket: &[u8]) -> Result<BatchStream, Status> {
    match command(ticket)? {
        Command::TicketStatementQuery(ticket) => Ok(statement::run(shared, tenant, &ticket).await?),
        Command::CommandStatementQuery(query) => Ok(statement::run_text(shared, tenant, &query.query).await?),
        Command::CommandPreparedStatementQuery(query) => {
            Ok(prepared::run(shared, tenant, &query.prepared_statement_handle).await?)
        }
        other => match metadata::answer(shared, tenant, &other)? {
            Some(batch) => {
                let schema = batch.schema();
                Ok(BatchStream { schema, batches: futures::stream::iter([Ok(batch)]).boxed() })
            }
            None => Err(refused(&other)),
        },
    }
}

/// `DoPut` of a command: parameters of a prepared statement, or bulk ingest. `cmd` is what the descriptor said.
pub(crate) async fn put(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    cmd: &Bytes,
    source: Source,
) -> Result<PutResult, Status> {
    let app_metadata = match command(cmd)? {
        Command::CommandPreparedStatementQuery(query) => {
            prepared::bind(shared, tenant, query.prepared_statement_handle, source).await?.encode_to_vec()
        }
        Command::CommandStatementIngest(ingest) => ingest::run(shared, tenant, ingest, source).await?.encode_to_vec(),
        other => return Err(refused(&other)),
    };
    Ok(PutResult { app_metadata: app_metadata.into() })
}

/// Unpacks the protobuf `Any` that every Flight SQL command is wrapped in.
pub(crate) fn command(bytes: &[u8]) -> Result<Command, WireError> {
    let wrong = |error: String| {
        WireError::invalid(format!(
            "expected a Flight SQL command or JSON such as {{\"replay\":{{\"topic\":\"orders\"}}}}, found neither: {error}"
        ))
    };
    let any = Any::decode(bytes).map_err(|error| wrong(error.to_string()))?;
    if any.type_url.is_empty() {
        return Err(wrong("no type is named".to_owned()));
    }
    Command::try_from(any).map_err(|error| wrong(error.to_string()))
}

/// A message in its `Any`, as bytes.
pub(crate) fn pack(message: &impl ProstMessageExt) -> Bytes {
    message.as_any().encode_to_vec().into()
}

fn refused(command: &Command) -> Status {
    let name = command.type_url().rsplit(['.', '/']).next().unwrap_or_default();
    let instead = match command {
        Command::CommandStatementUpdate(_) | Command::CommandPreparedStatementUpdate(_) => {
            "SQL is read-only: append with DoPut to the descriptor path [topic], or with bulk ingest (adbc_ingest, mode append)"
        }
        Command::CommandStatementSubstraitPlan(_) => "send SQL text",
        _ => "statements, prepared statements, metadata and bulk ingest are",
    };
    unsupported(name, instead)
}
