//! Flight SQL's actions: prepared statements are made and closed by them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, ProstMessageExt,
};
use arrow_flight::{Action, ActionType, IpcMessage, SchemaAsIpc};
use arrow_ipc::writer::IpcWriteOptions;
use bytes::Bytes;
use prost::Message;
use schemas::{ErrorKind, TenantName};
use tonic::Status;

use crate::error::{Result, WireError};
use crate::shared::Shared;
use crate::sql::{pack, prepared};
use crate::status::unsupported;

const CREATE: &str = "CreatePreparedStatement";
const CLOSE: &str = "ClosePreparedStatement";

/// What `ListActions` says of them.
pub(crate) fn list() -> Vec<ActionType> {
    let action = |name: &str, description: &str| ActionType { r#type: name.into(), description: description.into() };
    vec![
        action(CREATE, "Prepares a statement. Body: ActionCreatePreparedStatementRequest."),
        action(CLOSE, "Closes a prepared statement. Body: ActionClosePreparedStatementRequest."),
    ]
}

/// Does one of Flight SQL's actions; the bodies of its results. Errors: `UNIMPLEMENTED` for those that need transactions or Substrait.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    tenant: &TenantName,
    action: &Action,
) -> std::result::Result<Vec<Bytes>, Status> {
    match action.r#type.as_str() {
        CREATE => {
            let request: ActionCreatePreparedStatementRequest = unpack(action)?;
            if request.transaction_id.is_some() {
                return Err(unsupported("a transaction", "every statement reads one consistent cut of each topic"));
            }
            let (handle, prepared) = prepared::create(shared, tenant, &request.query).await?;
            let result = ActionCreatePreparedStatementResult {
                prepared_statement_handle: handle,
                dataset_schema: encode(&prepared.statement.schema)?,
                parameter_schema: encode(&typed(&prepared.statement.parameters))?,
            };
            Ok(vec![pack(&result)])
        }
        CLOSE => {
            let request: ActionClosePreparedStatementRequest = unpack(action)?;
            prepared::close(shared, tenant, &request.prepared_statement_handle);
            Ok(Vec::new())
        }
        other => Err(unsupported(&format!("the action {other:?}"), "ListActions names those that are")),
    }
}

/// JDBC can bind nothing to a parameter of type null: one whose type the planner could not tell is offered as text.
fn typed(parameters: &Schema) -> Schema {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Null => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    Schema::new(parameters.fields().iter().map(field).collect::<Vec<_>>())
}

fn encode(schema: &Schema) -> Result<Bytes> {
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &IpcWriteOptions::default()));
    message
        .map(|IpcMessage(bytes)| bytes)
        .map_err(|error| WireError::new(ErrorKind::Internal, format!("schema: {error}")))
}

fn unpack<M: ProstMessageExt>(action: &Action) -> Result<M> {
    let name = &action.r#type;
    let any = Any::decode(action.body.as_ref()).map_err(|error| WireError::invalid(format!("{name}: {error}")))?;
    let message = any.unpack().map_err(|error| WireError::invalid(format!("{name}: {error}")))?;
    message.ok_or_else(|| WireError::invalid(format!("{name}: expected its own request, found {:?}", any.type_url)))
}
