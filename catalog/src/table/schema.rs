//! A topic's events as an Iceberg schema, with exactly the field ids that `schemas` gave out.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef as ArrowSchemaRef, TimeUnit};
use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type};
use schemas::envelope::{self, column, field_id};
use schemas::payload::{PayloadField, PayloadSchema, PayloadType};

use super::iceberg_error;
use crate::error::Result;

/// Envelope and payload as an Iceberg schema of this id.
pub(crate) fn iceberg_schema(payload: &PayloadSchema, schema_id: i32) -> Result<Schema> {
    let fields = envelope_fields().into_iter().chain(payload.fields.iter().map(nested_field));
    let schema = Schema::builder().with_schema_id(schema_id).with_fields(fields).build();
    schema.map_err(|error| iceberg_error("the topic's schema as an Iceberg schema", error))
}

fn envelope_fields() -> Vec<NestedFieldRef> {
    let required = |id, name: &str, kind| Arc::new(NestedField::required(id, name, Type::Primitive(kind)));
    let headers = MapType::new(
        Arc::new(NestedField::map_key_element(field_id::HEADERS_KEY, Type::Primitive(PrimitiveType::String))),
        Arc::new(NestedField::map_value_element(
            field_id::HEADERS_VALUE,
            Type::Primitive(PrimitiveType::String),
            false,
        )),
    );
    vec![
        required(field_id::SEQ, envelope::SEQ, PrimitiveType::Long),
        required(field_id::TIME, envelope::TIME, PrimitiveType::Timestamptz),
        required(field_id::KEY, envelope::KEY, PrimitiveType::String),
        required(field_id::PATH, envelope::PATH, PrimitiveType::String),
        required(field_id::PREFIX, envelope::PREFIX, PrimitiveType::String),
        required(field_id::KIND, envelope::KIND, PrimitiveType::Int),
        Arc::new(NestedField::optional(field_id::HEADERS, envelope::HEADERS, Type::Map(headers))),
    ]
}

fn nested_field(field: &PayloadField) -> NestedFieldRef {
    let nested = NestedField::new(field.id, &field.name, iceberg_type(&field.kind), field.required);
    Arc::new(match &field.doc {
        Some(doc) => nested.with_doc(doc),
        None => nested,
    })
}

fn iceberg_type(kind: &PayloadType) -> Type {
    let primitive = match kind {
        PayloadType::Boolean => PrimitiveType::Boolean,
        PayloadType::Int => PrimitiveType::Int,
        PayloadType::Long => PrimitiveType::Long,
        PayloadType::Float => PrimitiveType::Float,
        PayloadType::Double => PrimitiveType::Double,
        PayloadType::Date => PrimitiveType::Date,
        PayloadType::Time => PrimitiveType::Time,
        PayloadType::Timestamp => PrimitiveType::Timestamp,
        PayloadType::TimestampTz => PrimitiveType::Timestamptz,
        PayloadType::String | PayloadType::Enum(_) => PrimitiveType::String,
        PayloadType::Uuid => PrimitiveType::Uuid,
        PayloadType::Binary => PrimitiveType::Binary,
        PayloadType::Fixed(bytes) => PrimitiveType::Fixed(*bytes as u64),
        PayloadType::Decimal { precision, scale } => {
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: *scale as u32 }
        }
        PayloadType::Struct(members) => {
            return Type::Struct(StructType::new(members.iter().map(nested_field).collect()));
        }
        PayloadType::List(element) => return Type::List(ListType::new(nested_field(element))),
        PayloadType::Map { key_id, value } => {
            let key = NestedField::map_key_element(*key_id, Type::Primitive(PrimitiveType::String));
            return Type::Map(MapType::new(Arc::new(key), nested_field(value)));
        }
    };
    Type::Primitive(primitive)
}

/// The Arrow type that bounds of a column have. `_kind` is `Int8` in events and `int` in tables.
pub(crate) fn bound_type(id: i32, kind: &PrimitiveType) -> DataType {
    let zoned = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    let nanos = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
    match kind {
        PrimitiveType::Int if id == field_id::KIND => DataType::Int8,
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Int => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal { precision, scale } => DataType::Decimal128(*precision as u8, *scale as i8),
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Time => DataType::Time64(TimeUnit::Microsecond),
        PrimitiveType::Timestamp => zoned(None),
        PrimitiveType::Timestamptz => zoned(Some(envelope::UTC)),
        PrimitiveType::TimestampNs => nanos(None),
        PrimitiveType::TimestamptzNs => nanos(Some(envelope::UTC)),
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Uuid => DataType::FixedSizeBinary(16),
        PrimitiveType::Fixed(bytes) => DataType::FixedSizeBinary(*bytes as i32),
        PrimitiveType::Binary => DataType::Binary,
    }
}

/// The schema that events have in Parquet: the event schema with `_kind` as `Int32`.
pub(crate) fn file_schema(event: &ArrowSchema) -> ArrowSchemaRef {
    let mut fields: Vec<_> = event.fields().iter().cloned().collect();
    let kind: &Field = &fields[column::KIND];
    fields[column::KIND] = Arc::new(kind.clone().with_data_type(DataType::Int32));
    Arc::new(ArrowSchema::new(fields))
}
