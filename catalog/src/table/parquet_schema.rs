//! The Parquet schema of a data file: what Arrow's own converter says, and the annotation on UUIDs that it leaves out.

use std::sync::Arc;

use arrow::datatypes::Schema as ArrowSchema;
use iceberg::spec::{PrimitiveType, Schema, Type as IcebergType};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::LogicalType;
use parquet::errors::Result;
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

/// Iceberg wants a `uuid` annotated as such in Parquet; to Arrow it is 16 bytes like any other.
pub(crate) fn parquet_schema(arrow: &ArrowSchema, table: &Schema) -> Result<SchemaDescriptor> {
    let converted = ArrowSchemaConverter::new().schema_root("table").convert(arrow)?;
    Ok(SchemaDescriptor::new(annotate(&converted.root_schema_ptr(), table)?))
}

fn annotate(node: &TypePtr, table: &Schema) -> Result<TypePtr> {
    let info = node.get_basic_info();
    let id = info.has_id().then(|| info.id());
    match node.as_ref() {
        Type::PrimitiveType { physical_type, type_length, .. } => {
            if !id.is_some_and(|id| is_uuid(table, id)) {
                return Ok(Arc::clone(node));
            }
            let uuid = Type::primitive_type_builder(node.name(), *physical_type)
                .with_length(*type_length)
                .with_repetition(info.repetition())
                .with_logical_type(Some(LogicalType::Uuid))
                .with_id(id);
            uuid.build().map(Arc::new)
        }
        Type::GroupType { fields, .. } => {
            let fields = fields.iter().map(|field| annotate(field, table)).collect::<Result<Vec<_>>>()?;
            let mut group = Type::group_type_builder(node.name())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_converted_type(info.converted_type())
                .with_fields(fields)
                .with_id(id);
            if info.has_repetition() {
                group = group.with_repetition(info.repetition());
            }
            group.build().map(Arc::new)
        }
    }
}

fn is_uuid(table: &Schema, id: i32) -> bool {
    let kind = table.field_by_id(id).map(|field| field.field_type.as_ref());
    matches!(kind, Some(IcebergType::Primitive(PrimitiveType::Uuid)))
}
