//! DataFusion's errors as this crate's: what a caller can do about each, and a message without the planner's inner life.

use arrow::error::ArrowError;
use catalog::CatalogError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use schemas::ErrorKind;

use crate::error::QueryError;

/// Most column names that a message lists.
const NAMES_LISTED_MAX: usize = 12;

/// The error with its kind, its message, and the place in the statement if the planner knows it.
pub(crate) fn from_datafusion(error: DataFusionError) -> QueryError {
    let (kind, mut message) = classify(&error);
    if let Some(span) = error.diagnostic().and_then(|diagnostic| diagnostic.span) {
        message = format!("{message} at Line: {}, Column: {}", span.start.line, span.start.column);
    }
    QueryError::new(kind, message)
}

fn classify(error: &DataFusionError) -> (ErrorKind, String) {
    use DataFusionError as E;
    match error {
        E::Context(_, inner) | E::Diagnostic(_, inner) => classify(inner),
        E::Shared(inner) => classify(inner),
        E::Collection(all) if !all.is_empty() => classify(&all[0]),
        E::SQL(inner, _) => (ErrorKind::Invalid, inner.to_string()),
        E::Plan(message) | E::Configuration(message) | E::Execution(message) => (ErrorKind::Invalid, plain(message)),
        E::NotImplemented(message) => (ErrorKind::Invalid, format!("not supported: {}", plain(message))),
        E::SchemaError(inner, _) => schema_error(inner),
        E::ResourcesExhausted(message) => (ErrorKind::Overloaded, out_of_memory(message)),
        E::ArrowError(inner, _) => arrow_error(inner),
        E::ParquetError(inner) => parquet_error(inner),
        E::ObjectStore(inner) => store_error(inner),
        E::IoError(inner) => io_error(inner),
        E::External(inner) => external(inner.as_ref()),
        other => (ErrorKind::Internal, other.strip_backtrace()),
    }
}

/// Errors that other layers handed to DataFusion keep what they were.
fn external(error: &(dyn std::error::Error + Send + Sync + 'static)) -> (ErrorKind, String) {
    if let Some(inner) = error.downcast_ref::<QueryError>() {
        return (inner.kind(), inner.to_string());
    }
    if let Some(inner) = error.downcast_ref::<CatalogError>() {
        return (inner.kind(), inner.to_string());
    }
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return classify(inner);
    }
    if let Some(inner) = error.downcast_ref::<ParquetError>() {
        return parquet_error(inner);
    }
    if let Some(inner) = error.downcast_ref::<object_store::Error>() {
        return store_error(inner);
    }
    (ErrorKind::Internal, error.to_string())
}

fn schema_error(error: &SchemaError) -> (ErrorKind, String) {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = valid_fields.iter().map(|field| field.name()).collect();
            names.dedup();
            (ErrorKind::NotFound, format!("there is no column {}; {}", field.name(), listed("columns", &names)))
        }
        other => (ErrorKind::Invalid, other.to_string()),
    }
}

/// `columns: a, b, c and 4 more`, or that there are none.
pub(crate) fn listed(what: &str, names: &[&str]) -> String {
    let head = names.iter().take(NAMES_LISTED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => format!("there are no {what}"),
        all if all > NAMES_LISTED_MAX => format!("{what}: {head} and {} more", all - NAMES_LISTED_MAX),
        _ => format!("{what}: {head}"),
    }
}

fn arrow_error(error: &ArrowError) -> (ErrorKind, String) {
    match error {
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::ParquetError(message) => (ErrorKind::Corrupt, message.clone()),
        ArrowError::IoError(_, inner) => io_error(inner),
        ArrowError::MemoryError(message) => (ErrorKind::Overloaded, message.clone()),
        other => (ErrorKind::Invalid, other.to_string()),
    }
}

fn parquet_error(error: &ParquetError) -> (ErrorKind, String) {
    match error {
        ParquetError::External(inner) => external(inner.as_ref()),
        other => (ErrorKind::Corrupt, format!("a data file cannot be read: {other}")),
    }
}

fn store_error(error: &object_store::Error) -> (ErrorKind, String) {
    match error {
        object_store::Error::NotFound { path, .. } => {
            (ErrorKind::Corrupt, format!("data file {path}: the table names it and the store has it not"))
        }
        other => (ErrorKind::Unavailable, format!("the store cannot be read: {other}")),
    }
}

fn io_error(error: &std::io::Error) -> (ErrorKind, String) {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Overloaded, format!("the disk that queries spill to is full: {error}"))
        }
        _ => (ErrorKind::Unavailable, format!("the disk that queries spill to: {error}")),
    }
}

fn out_of_memory(message: &str) -> String {
    let what = plain(message);
    format!(
        "memory for queries is used up: {what}; select less, filter earlier, or raise memory_bytes and spill_bytes_max"
    )
}

/// Some messages carry a whole Debug dump after the first line.
fn plain(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
