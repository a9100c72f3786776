//! What drivers ask about the server itself: each answer is one small batch in the shape that Flight SQL gives it.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Command, CommandGetPrimaryKeys, CommandGetTables};
use schemas::{ErrorKind, TenantName, TopicName, envelope};

use crate::error::{Result, WireError};
use crate::shared::Shared;

mod facts;
mod types;

/// The one catalog.
pub(crate) const CATALOG: &str = "firn";
/// The one type of table.
const TABLE: &str = "TABLE";

/// The answer to a metadata command; `None` if it is not one.
///
/// A tenant sees its own schema (of the tenant's name) and its own tables.
pub(crate) fn answer(shared: &Shared, tenant: &TenantName, command: &Command) -> Result<Option<RecordBatch>> {
    let batch = match command.clone() {
        Command::CommandGetCatalogs(query) => {
            let mut builder = query.into_builder();
            builder.append(CATALOG);
            builder.build()
        }
        Command::CommandGetDbSchemas(query) => {
            let mut builder = query.into_builder();
            builder.append(CATALOG, tenant.as_str());
            builder.build()
        }
        Command::CommandGetTables(query) => tables(shared, tenant, query),
        Command::CommandGetTableTypes(query) => {
            let mut builder = query.into_builder();
            builder.append(TABLE);
            builder.build()
        }
        Command::CommandGetSqlInfo(query) => query.into_builder(facts::facts()).build(),
        Command::CommandGetXdbcTypeInfo(query) => query.into_builder(types::types()).build(),
        Command::CommandGetPrimaryKeys(query) => Ok(primary_keys(shared, tenant, &query)?),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Ok(RecordBatch::new_empty(Arc::clone(&FOREIGN_KEYS))),
        _ => return Ok(None),
    };
    let internal = |error: FlightError| WireError::new(ErrorKind::Internal, format!("metadata: {error}"));
    batch.map(Some).map_err(internal)
}

fn tables(shared: &Shared, tenant: &TenantName, query: CommandGetTables) -> arrow_flight::error::Result<RecordBatch> {
    let with_schema = query.include_schema;
    let mut builder = query.into_builder();
    let nothing = Schema::empty();
    for topic in shared.topics.list(tenant) {
        let schema = if with_schema { topic.event_schema() } else { Arc::new(nothing.clone()) };
        builder.append(CATALOG, tenant.as_str(), topic.name.as_str(), TABLE, &schema)?;
    }
    builder.build()
}

/// `_seq` alone: no two events of a topic share one.
fn primary_keys(shared: &Shared, tenant: &TenantName, query: &CommandGetPrimaryKeys) -> Result<RecordBatch> {
    let ours = query.catalog.as_deref().is_none_or(|catalog| catalog == CATALOG)
        && query.db_schema.as_deref().is_none_or(|schema| schema == tenant.as_str());
    let topic = TopicName::new(query.table.clone()).ok().filter(|_| ours);
    let found: Vec<String> = topic
        .and_then(|name| shared.topics.get(tenant, &name))
        .into_iter()
        .map(|topic| topic.name.to_string())
        .collect();
    let all = |text: &str| Arc::new(StringArray::from_iter_values(found.iter().map(|_| text))) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        all(CATALOG),
        all(tenant.as_str()),
        Arc::new(StringArray::from(found.clone())),
        all(envelope::SEQ),
        all("seq"),
        Arc::new(Int32Array::from(vec![1; found.len()])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&PRIMARY_KEYS), columns);
    batch.map_err(|error| WireError::new(ErrorKind::Internal, format!("metadata: {error}")))
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, kind, nullable): &(&str, DataType, bool)| Field::new(*name, kind.clone(), *nullable);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

/// As `CommandGetPrimaryKeys` in `FlightSql.proto` says.
static PRIMARY_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, true),
        ("table_name", DataType::Utf8, false),
        ("column_name", DataType::Utf8, false),
        ("key_name", DataType::Utf8, true),
        ("key_sequence", DataType::Int32, false),
    ])
});

/// As `CommandGetExportedKeys`, `CommandGetImportedKeys` and `CommandGetCrossReference` in `FlightSql.proto` say. Topics have none.
static FOREIGN_KEYS: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("pk_catalog_name", DataType::Utf8, true),
        ("pk_db_schema_name", DataType::Utf8, true),
        ("pk_table_name", DataType::Utf8, false),
        ("pk_column_name", DataType::Utf8, false),
        ("fk_catalog_name", DataType::Utf8, true),
        ("fk_db_schema_name", DataType::Utf8, true),
        ("fk_table_name", DataType::Utf8, false),
        ("fk_column_name", DataType::Utf8, false),
        ("key_sequence", DataType::Int32, false),
        ("fk_key_name", DataType::Utf8, true),
        ("pk_key_name", DataType::Utf8, true),
        ("update_rule", DataType::UInt8, false),
        ("delete_rule", DataType::UInt8, false),
    ])
});
