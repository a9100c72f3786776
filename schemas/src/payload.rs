//! The columns that a topic's schema declares: one type model between Avro, Arrow and Iceberg.
//!
//! Avro is what users write (`avro`), Arrow is what travels and is computed on ([`PayloadSchema::arrow_fields`]), Iceberg is what is stored
//! (`catalog`). Field ids are Iceberg's: the envelope has 1 to 99, the payload begins at [`FIRST_FIELD_ID`].

use serde::{Deserialize, Serialize};

/// The first field id of a payload.
pub const FIRST_FIELD_ID: i32 = 101;

/// The payload columns of one schema version, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PayloadSchema {
    /// Top-level columns.
    pub fields: Vec<PayloadField>,
    /// The highest field id ever given out in this topic; a later version goes on from here.
    pub last_field_id: i32,
}

/// One column, struct member, list element or map value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PayloadField {
    /// Stable id, unique within the topic, never given to another field.
    pub id: i32,
    /// Name; `element` for a list's, `value` for a map's.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: PayloadType,
    /// False if null is allowed.
    pub required: bool,
    /// Documentation from the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    /// What stands in for a value that the producer left out (JSON as in Avro), applied at ingest. `Some(null)` is a default too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}

/// A payload type. The comment names the Arrow type that it has everywhere in Firn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PayloadType {
    /// `Boolean`
    Boolean,
    /// `Int32`
    Int,
    /// `Int64`
    Long,
    /// `Float32`
    Float,
    /// `Float64`
    Double,
    /// `Date32`
    Date,
    /// `Time64(µs)`; Avro's `time-millis` is widened.
    Time,
    /// `Timestamp(µs)` without a zone: Avro's `local-timestamp-*`.
    Timestamp,
    /// `Timestamp(µs, "+00:00")`: Avro's `timestamp-*`.
    TimestampTz,
    /// `Utf8`
    String,
    /// `FixedSizeBinary(16)`
    Uuid,
    /// `Binary`
    Binary,
    /// `FixedSizeBinary(n)`
    Fixed(i32),
    /// `Decimal128(precision, scale)`
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to precision.
        scale: i8,
    },
    /// `Utf8`; one of these symbols, checked at ingest.
    Enum(Vec<String>),
    /// `Struct`
    Struct(Vec<PayloadField>),
    /// `List`
    List(Box<PayloadField>),
    /// `Map` with `Utf8` keys
    Map {
        /// Field id of the key.
        key_id: i32,
        /// The value.
        value: Box<PayloadField>,
    },
}

impl PayloadSchema {
    /// The payload's Arrow fields, each with its field id (nested ones too).
    pub fn arrow_fields(&self) -> arrow::datatypes::Fields {
        unimplemented!()
    }
}
