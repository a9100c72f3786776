//! The columns that Firn itself adds in front of every payload, and the schema of a whole event.
//!
//! | column | Arrow type | null | field id |
//! | --- | --- | --- | --- |
//! | `_seq` | Int64 | no | 1 |
//! | `_time` | Timestamp(µs, +00:00) | no | 2 |
//! | `_key` | Utf8, not empty | no | 3 |
//! | `_path` | Utf8 | no | 4 |
//! | `_prefix` | Utf8 | no | 5 |
//! | `_kind` | Int8: 0 event, 1 snapshot, 2 tombstone | no | 6 |
//! | `_headers` | Map<Utf8, Utf8> | yes | 7 (keys 8, values 9) |
//!
//! Iceberg has no 8-bit integer: in tables `_kind` is an `int` (Int32 in Parquet), cast on the way in and out.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::payload::PayloadSchema;

/// Position in the topic.
pub const SEQ: &str = "_seq";
/// When Firn sequenced it.
pub const TIME: &str = "_time";
/// The entity it belongs to.
pub const KEY: &str = "_key";
/// Its place in the topic hierarchy.
pub const PATH: &str = "_path";
/// The leading levels of `_path` that the table partitions by.
pub const PREFIX: &str = "_prefix";
/// 0 event, 1 snapshot, 2 tombstone.
pub const KIND: &str = "_kind";
/// Tracing and the like.
pub const HEADERS: &str = "_headers";

/// Column numbers of the envelope within an event batch; the payload begins at [`column::PAYLOAD`].
pub mod column {
    /// `_seq`
    pub const SEQ: usize = 0;
    /// `_time`
    pub const TIME: usize = 1;
    /// `_key`
    pub const KEY: usize = 2;
    /// `_path`
    pub const PATH: usize = 3;
    /// `_prefix`
    pub const PREFIX: usize = 4;
    /// `_kind`
    pub const KIND: usize = 5;
    /// `_headers`
    pub const HEADERS: usize = 6;
    /// First payload column.
    pub const PAYLOAD: usize = 7;
}

/// Iceberg field ids of the envelope.
pub mod field_id {
    /// `_seq`
    pub const SEQ: i32 = 1;
    /// `_time`
    pub const TIME: i32 = 2;
    /// `_key`
    pub const KEY: i32 = 3;
    /// `_path`
    pub const PATH: i32 = 4;
    /// `_prefix`
    pub const PREFIX: i32 = 5;
    /// `_kind`
    pub const KIND: i32 = 6;
    /// `_headers`
    pub const HEADERS: i32 = 7;
    /// `_headers.key`
    pub const HEADERS_KEY: i32 = 8;
    /// `_headers.value`
    pub const HEADERS_VALUE: i32 = 9;
}

/// `_kind` of an ordinary event.
pub const KIND_EVENT: i8 = 0;
/// `_kind` of a fold's snapshot.
pub const KIND_SNAPSHOT: i8 = 1;
/// `_kind` of a key's end.
pub const KIND_TOMBSTONE: i8 = 2;

/// The time zone of every zoned timestamp, as Iceberg's Arrow mapping and DataFusion write it.
pub const UTC: &str = "+00:00";
/// The Arrow field metadata key that carries an Iceberg field id into Parquet.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";
/// Names of Arrow's nested fields, as Iceberg's Arrow mapping has them.
pub const MAP_ENTRIES: &str = "key_value";
/// Name of a map's key field.
pub const MAP_KEY: &str = "key";
/// Name of a map's value field.
pub const MAP_VALUE: &str = "value";
/// Name of a list's element field.
pub const LIST_ELEMENT: &str = "element";

/// A field that carries its Iceberg id.
pub fn field(id: i32, name: &str, data_type: DataType, nullable: bool) -> Field {
    Field::new(name, data_type, nullable).with_metadata(HashMap::from([(FIELD_ID_KEY.to_owned(), id.to_string())]))
}

/// The Arrow type of `_time`.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into()))
}

/// The Arrow type of a map with `Utf8` keys.
pub fn map_type(key_id: i32, value: Field) -> DataType {
    let entries = Fields::from(vec![field(key_id, MAP_KEY, DataType::Utf8, false), value]);
    DataType::Map(Arc::new(Field::new(MAP_ENTRIES, DataType::Struct(entries), false)), false)
}

/// The envelope's fields, in column order.
pub fn fields() -> Vec<Field> {
    let headers = map_type(field_id::HEADERS_KEY, field(field_id::HEADERS_VALUE, MAP_VALUE, DataType::Utf8, true));
    vec![
        field(field_id::SEQ, SEQ, DataType::Int64, false),
        field(field_id::TIME, TIME, time_type(), false),
        field(field_id::KEY, KEY, DataType::Utf8, false),
        field(field_id::PATH, PATH, DataType::Utf8, false),
        field(field_id::PREFIX, PREFIX, DataType::Utf8, false),
        field(field_id::KIND, KIND, DataType::Int8, false),
        field(field_id::HEADERS, HEADERS, headers, true),
    ]
}

/// The schema of a whole event: envelope columns, then the payload's; every field with its id.
pub fn event_schema(payload: &PayloadSchema) -> SchemaRef {
    let mut fields: Vec<_> = fields().into_iter().map(Arc::new).collect();
    fields.extend(payload.arrow_fields().iter().cloned());
    Arc::new(Schema::new(fields))
}
