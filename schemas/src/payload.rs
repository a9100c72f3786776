//! The columns that a topic's schema declares: one type model between Avro, Arrow and Iceberg.
//!
//! Avro is what users write (`avro`), Arrow is what travels and is computed on ([`PayloadSchema::arrow_fields`]), Iceberg is what is stored
//! (`catalog`). Field ids are Iceberg's: the envelope has 1 to 99, the payload begins at [`FIRST_FIELD_ID`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Deserializer, Serialize};

use crate::envelope;

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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub default: Option<serde_json::Value>,
    /// The schema requires it and has a default, but events from before the field was there have no value: it is optional where rows are kept, and on
    /// the way in its default stands in for nulls too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filled: bool,
}

/// A field that is there is a value, null included: else a default of null would be none after it was stored, and creating the same topic again refused.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(value).map(Some)
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
    pub fn arrow_fields(&self) -> Fields {
        self.fields.iter().map(PayloadField::arrow_field).collect()
    }

    /// The top-level field of this name.
    pub fn field(&self, name: &str) -> Option<(usize, &PayloadField)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    /// Follows a dotted path through structs. Returns the child numbers on the way and the field at its end.
    pub fn resolve(&self, dotted: &str) -> Option<(Vec<usize>, &PayloadField)> {
        let mut names = dotted.split('.');
        let (first, mut field) = self.field(names.next()?)?;
        let mut steps = vec![first];
        for name in names {
            let PayloadType::Struct(members) = &field.kind else { return None };
            let (step, member) = members.iter().enumerate().find(|(_, member)| member.name == name)?;
            steps.push(step);
            field = member;
        }
        Some((steps, field))
    }
}

impl PayloadField {
    /// The Arrow field, with its field id.
    pub fn arrow_field(&self) -> Field {
        envelope::field(self.id, &self.name, self.kind.arrow_type(), !self.required)
    }
}

impl PayloadType {
    /// The Arrow type that this has everywhere in Firn.
    pub fn arrow_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => envelope::time_type(),
            Self::String | Self::Enum(_) => DataType::Utf8,
            Self::Uuid => DataType::FixedSizeBinary(16),
            Self::Binary => DataType::Binary,
            Self::Fixed(length) => DataType::FixedSizeBinary(*length),
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            Self::Struct(members) => DataType::Struct(members.iter().map(PayloadField::arrow_field).collect()),
            Self::List(element) => DataType::List(Arc::new(element.arrow_field())),
            Self::Map { key_id, value } => envelope::map_type(*key_id, value.arrow_field()),
        }
    }

    /// True if a value of this type has one canonical text, and so can be part of a key or a path: every scalar but the floating ones.
    pub fn has_canonical_text(&self) -> bool {
        !matches!(self, Self::Float | Self::Double | Self::Struct(_) | Self::List(_) | Self::Map { .. })
    }

    /// The name that messages use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp without zone",
            Self::TimestampTz => "timestamp",
            Self::String => "string",
            Self::Uuid => "uuid",
            Self::Binary => "bytes",
            Self::Fixed(_) => "fixed",
            Self::Decimal { .. } => "decimal",
            Self::Enum(_) => "enum",
            Self::Struct(_) => "record",
            Self::List(_) => "array",
            Self::Map { .. } => "map",
        }
    }
}
