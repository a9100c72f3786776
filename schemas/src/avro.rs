//! Avro in, payload schema out, and back: what users write as `.avsc` files.
//!
//! The mapping follows Avro's specification 1.11 (logical types) and Iceberg's (appendix A, Avro). What Iceberg v2 cannot hold is refused here,
//! naming the field: unions of several types, `duration`, `big-decimal`, recursive types, and nanoseconds unless the topic says otherwise.

use std::collections::{BTreeMap, HashMap};

use apache_avro::Schema;
use apache_avro::schema::{Name, NamesRef, RecordField, ResolvedSchema};
use serde_json::{Value, json};

use crate::envelope;
use crate::error::SchemaError;
use crate::limits;
use crate::payload::{FIRST_FIELD_ID, PayloadField, PayloadSchema, PayloadType};
use crate::topic::Nanos;

/// Maps an Avro record schema. Ids are given in the order of the text, each field before its members.
///
/// Errors: [`SchemaError::Field`] naming the field by its dotted path.
pub fn payload(schema: &Value, nanos: Nanos) -> Result<PayloadSchema, SchemaError> {
    Ok(described(schema, nanos)?.payload)
}

/// A schema as its author wrote it: what it maps to, and how its fields say which earlier ones they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What it maps to. Field ids are numbers within this one text.
    pub payload: PayloadSchema,
    /// By those ids, of fields that say anything.
    pub origins: BTreeMap<i32, Origin>,
}

/// Which earlier field a field says that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Avro's `aliases`: names that it had before.
    pub aliases: Vec<String>,
    /// The attribute `field-id`, as Iceberg writes it in Avro schemas.
    pub field_id: Option<i32>,
}

/// Maps an Avro record schema, with what its fields say of their past.
///
/// Errors: as for [`payload`].
pub fn described(schema: &Value, nanos: Nanos) -> Result<Described, SchemaError> {
    let whole = |reason: String| SchemaError::Field { field: String::new(), reason };
    let text = schema.to_string();
    if text.len() > limits::SCHEMA_BYTES_MAX {
        return Err(whole(format!("expected at most {} bytes, found {}", limits::SCHEMA_BYTES_MAX, text.len())));
    }
    check_names(schema).map_err(whole)?;
    let parsed = Schema::parse_str(&text).map_err(|error| whole(format!("not an Avro schema: {error}")))?;
    let Schema::Record(record) = &parsed else {
        return Err(whole(format!("expected an Avro record, found {}", kind_name(&parsed))));
    };
    let resolved = ResolvedSchema::try_from(&parsed).map_err(|error| whole(format!("not an Avro schema: {error}")))?;
    let mut mapping = Mapping {
        names: resolved.get_names(),
        nanos,
        last_field_id: FIRST_FIELD_ID - 1,
        path: Vec::new(),
        open: vec![record.name.clone()],
        origins: BTreeMap::new(),
    };
    let fields = mapping.members(&record.fields)?;
    if fields.is_empty() || fields.len() > limits::FIELDS_MAX {
        return Err(whole(format!("expected 1 to {} fields, found {}", limits::FIELDS_MAX, fields.len())));
    }
    if let Some(field) = fields.iter().find(|field| field.name.starts_with('_')) {
        let reason = "names that begin with _ belong to Firn: rename it".to_owned();
        return Err(SchemaError::Field { field: field.name.clone(), reason });
    }
    let payload = PayloadSchema { fields, last_field_id: mapping.last_field_id };
    Ok(Described { payload, origins: mapping.origins })
}

/// Refuses names of records, enums and fixeds that Avro does not allow: the parser panics at one.
fn check_names(schema: &Value) -> Result<(), String> {
    let is_name = |text: &str| {
        let mut characters = text.chars();
        let begins = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
        begins && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
    };
    match schema {
        Value::Array(variants) => variants.iter().try_for_each(check_names),
        Value::Object(members) => {
            let is_named = ["record", "enum", "fixed"].iter().any(|kind| members.get("type") == Some(&json!(kind)));
            match members.get("name").and_then(Value::as_str) {
                Some(name) if is_named && !name.trim_start_matches('.').split('.').all(is_name) => Err(format!(
                    "not an Avro schema: {name:?} is no name: expected letters, digits and _, not a digit first"
                )),
                _ => members.values().try_for_each(check_names),
            }
        }
        _ => Ok(()),
    }
}

/// The walk through one schema.
struct Mapping<'s> {
    names: &'s NamesRef<'s>,
    nanos: Nanos,
    last_field_id: i32,
    /// Where the walk stands, for messages.
    path: Vec<String>,
    /// Records that the walk is inside of: meeting one again means recursion.
    open: Vec<Name>,
    origins: BTreeMap<i32, Origin>,
}

impl Mapping<'_> {
    fn next_id(&mut self) -> i32 {
        self.last_field_id += 1;
        self.last_field_id
    }

    fn fault(&self, reason: impl Into<String>) -> SchemaError {
        SchemaError::Field { field: self.path.join("."), reason: reason.into() }
    }

    fn members(&mut self, fields: &[RecordField]) -> Result<Vec<PayloadField>, SchemaError> {
        let mut seen = HashMap::new();
        let mut members = Vec::with_capacity(fields.len());
        for field in fields {
            self.path.push(field.name.clone());
            if let Some(other) = seen.insert(field.name.to_ascii_lowercase(), &field.name) {
                return Err(self.fault(format!("collides with {other:?}: engines compare names without case")));
            }
            if field.name.len() > limits::NAME_BYTES_MAX {
                return Err(self.fault(format!("expected a name of at most {} bytes", limits::NAME_BYTES_MAX)));
            }
            let mut member = self.field(&field.name, &field.schema)?;
            self.note_origin(member.id, field)?;
            member.doc.clone_from(&field.doc);
            member.default = field.default.as_ref().map(|default| in_micros(&field.schema, default));
            if let (PayloadType::Enum(symbols), Some(Value::String(default))) = (&member.kind, &member.default)
                && !symbols.contains(default)
            {
                return Err(self.fault(format!("its default {default:?} is none of its symbols {symbols:?}")));
            }
            members.push(member);
            self.path.pop();
        }
        Ok(members)
    }

    fn note_origin(&mut self, id: i32, field: &RecordField) -> Result<(), SchemaError> {
        let field_id = field.custom_attributes.get("field-id");
        let number = field_id.map(|value| value.as_i64().and_then(|id| i32::try_from(id).ok()));
        let Some(field_id) = number.map_or(Some(None), |id| id.map(Some)) else {
            return Err(self.fault("expected a number as its field-id"));
        };
        let origin = Origin { aliases: field.aliases.clone().unwrap_or_default(), field_id };
        if origin != Origin::default() {
            self.origins.insert(id, origin);
        }
        Ok(())
    }

    /// A field with its id; a union with null makes it optional.
    fn field(&mut self, name: &str, schema: &Schema) -> Result<PayloadField, SchemaError> {
        if self.path.len() > limits::NESTING_MAX {
            return Err(self.fault(format!("expected at most {} levels of nesting", limits::NESTING_MAX)));
        }
        let id = self.next_id();
        let (schema, required) = self.split_null(schema)?;
        let kind = self.kind(schema)?;
        Ok(PayloadField { id, name: name.to_owned(), kind, required, doc: None, default: None, filled: false })
    }

    fn split_null<'a>(&self, schema: &'a Schema) -> Result<(&'a Schema, bool), SchemaError> {
        let Schema::Union(union) = schema else { return Ok((schema, true)) };
        let (nulls, others): (Vec<_>, Vec<_>) = union.variants().iter().partition(|variant| **variant == Schema::Null);
        match others.as_slice() {
            [one] => Ok((one, nulls.is_empty())),
            _ => Err(self.fault(format!(
                "expected a union of null and one type, found {} types besides null: use one optional field a type",
                others.len()
            ))),
        }
    }

    fn kind(&mut self, schema: &Schema) -> Result<PayloadType, SchemaError> {
        Ok(match schema {
            Schema::Boolean => PayloadType::Boolean,
            Schema::Int => PayloadType::Int,
            Schema::Long => PayloadType::Long,
            Schema::Float => PayloadType::Float,
            Schema::Double => PayloadType::Double,
            Schema::Bytes => PayloadType::Binary,
            Schema::String => PayloadType::String,
            Schema::Uuid => PayloadType::Uuid,
            Schema::Date => PayloadType::Date,
            Schema::TimeMillis | Schema::TimeMicros => PayloadType::Time,
            Schema::TimestampMillis | Schema::TimestampMicros => PayloadType::TimestampTz,
            Schema::LocalTimestampMillis | Schema::LocalTimestampMicros => PayloadType::Timestamp,
            Schema::TimestampNanos => self.nanos(PayloadType::TimestampTz)?,
            Schema::LocalTimestampNanos => self.nanos(PayloadType::Timestamp)?,
            Schema::Fixed(fixed) => self.fixed(fixed.size)?,
            Schema::Decimal(decimal) => self.decimal(decimal.precision, decimal.scale)?,
            Schema::Enum(symbols) => PayloadType::Enum(symbols.symbols.clone()),
            Schema::Array(array) => PayloadType::List(Box::new(self.inner(envelope::LIST_ELEMENT, &array.items)?)),
            Schema::Map(map) => {
                let key_id = self.next_id();
                PayloadType::Map { key_id, value: Box::new(self.inner(envelope::MAP_VALUE, &map.types)?) }
            }
            Schema::Record(record) => {
                self.open.push(record.name.clone());
                let members = self.members(&record.fields)?;
                self.open.pop();
                if members.is_empty() {
                    return Err(self.fault("expected a record with at least one field"));
                }
                PayloadType::Struct(members)
            }
            Schema::Ref { name } => self.reference(name)?,
            Schema::Union(_) => return Err(self.fault("expected one type, found a union inside a union")),
            Schema::Null => return Err(self.fault("null alone holds nothing: use a union of null and a type")),
            Schema::BigDecimal | Schema::Duration => {
                let kind = kind_name(schema);
                return Err(
                    self.fault(format!("{kind} has no Iceberg type: use decimal, or a long with a stated unit"))
                );
            }
        })
    }

    fn inner(&mut self, name: &str, schema: &Schema) -> Result<PayloadField, SchemaError> {
        self.path.push(name.to_owned());
        let field = self.field(name, schema)?;
        self.path.pop();
        Ok(field)
    }

    fn reference(&mut self, name: &Name) -> Result<PayloadType, SchemaError> {
        if self.open.contains(name) {
            return Err(self.fault(format!("type {name} contains itself: tables cannot hold recursive types")));
        }
        match self.names.get(name) {
            Some(schema) => self.kind(schema),
            None => Err(self.fault(format!("type {name} is not defined"))),
        }
    }

    fn nanos(&self, truncated: PayloadType) -> Result<PayloadType, SchemaError> {
        match self.nanos {
            Nanos::Truncate => Ok(truncated),
            Nanos::Refuse => Err(self.fault(
                "Iceberg v2 holds microseconds, not nanoseconds: use timestamp-micros, or set the topic's option nanos to truncate",
            )),
        }
    }

    fn fixed(&self, size: usize) -> Result<PayloadType, SchemaError> {
        match i32::try_from(size) {
            Ok(length) if (1..=limits::EVENT_BYTES_MAX).contains(&size) => Ok(PayloadType::Fixed(length)),
            _ => Err(self.fault(format!("expected a fixed of 1 to {} bytes, found {size}", limits::EVENT_BYTES_MAX))),
        }
    }

    fn decimal(&self, precision: usize, scale: usize) -> Result<PayloadType, SchemaError> {
        match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) => Ok(PayloadType::Decimal { precision, scale }),
            _ => Err(self.fault(format!("expected a decimal of 1 to 38 digits, found ({precision}, {scale})"))),
        }
    }
}

/// A default as JSON has it, with times in the unit that payloads keep them in: Avro writes them as numbers in the unit of their own type.
fn in_micros(schema: &Schema, default: &Value) -> Value {
    let scaled =
        |scale: fn(i64) -> Option<i64>| default.as_i64().and_then(scale).map_or_else(|| default.clone(), Value::from);
    match (schema, default) {
        (Schema::TimeMillis | Schema::TimestampMillis | Schema::LocalTimestampMillis, _) => {
            scaled(|n| n.checked_mul(1_000))
        }
        (Schema::TimestampNanos | Schema::LocalTimestampNanos, _) => scaled(|n| Some(n.div_euclid(1_000))),
        (Schema::Union(union), _) if !default.is_null() => {
            let variant = union.variants().iter().find(|variant| **variant != Schema::Null);
            variant.map_or_else(|| default.clone(), |variant| in_micros(variant, default))
        }
        (Schema::Array(array), Value::Array(items)) => items.iter().map(|item| in_micros(&array.items, item)).collect(),
        (Schema::Map(map), Value::Object(entries)) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), in_micros(&map.types, value))).collect())
        }
        (Schema::Record(record), Value::Object(members)) => {
            let schema = |name: &str| record.fields.iter().find(|field| field.name == name).map(|field| &field.schema);
            let member = |(name, value): (&String, &Value)| {
                (name.clone(), schema(name).map_or_else(|| value.clone(), |schema| in_micros(schema, value)))
            };
            Value::Object(members.iter().map(member).collect())
        }
        _ => default.clone(),
    }
}

fn kind_name(schema: &Schema) -> String {
    format!("{:?}", apache_avro::schema::SchemaKind::from(schema)).to_ascii_lowercase()
}

/// The Avro record of a payload schema, named `name`: mapping it again gives the same types.
///
/// Records, enums and fixeds inside get the names `{field}_{id}`, which are unique.
pub fn schema(payload: &PayloadSchema, name: &str) -> Value {
    json!({"type": "record", "name": name, "fields": payload.fields.iter().map(avro_field).collect::<Vec<_>>()})
}

fn avro_field(field: &PayloadField) -> Value {
    let mut avro = json!({"name": field.name, "type": avro_type(field)});
    if let Some(doc) = &field.doc {
        avro["doc"] = json!(doc);
    }
    if let Some(default) = &field.default {
        avro["default"] = default.clone();
    }
    avro
}

fn avro_type(field: &PayloadField) -> Value {
    let name = format!("{}_{}", field.name, field.id);
    let kind = match &field.kind {
        PayloadType::Boolean => json!("boolean"),
        PayloadType::Int => json!("int"),
        PayloadType::Long => json!("long"),
        PayloadType::Float => json!("float"),
        PayloadType::Double => json!("double"),
        PayloadType::String => json!("string"),
        PayloadType::Binary => json!("bytes"),
        PayloadType::Uuid => json!({"type": "string", "logicalType": "uuid"}),
        PayloadType::Date => json!({"type": "int", "logicalType": "date"}),
        PayloadType::Time => json!({"type": "long", "logicalType": "time-micros"}),
        PayloadType::Timestamp => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        PayloadType::TimestampTz => json!({"type": "long", "logicalType": "timestamp-micros"}),
        PayloadType::Fixed(size) => json!({"type": "fixed", "name": name, "size": size}),
        PayloadType::Decimal { precision, scale } => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        PayloadType::Enum(symbols) => json!({"type": "enum", "name": name, "symbols": symbols}),
        PayloadType::Struct(members) => {
            json!({"type": "record", "name": name, "fields": members.iter().map(avro_field).collect::<Vec<_>>()})
        }
        PayloadType::List(element) => json!({"type": "array", "items": avro_type(element)}),
        PayloadType::Map { value, .. } => json!({"type": "map", "values": avro_type(value)}),
    };
    // The default's type must stand first in a union.
    match (field.required || field.filled, &field.default) {
        (true, _) => kind,
        (false, None | Some(Value::Null)) => json!(["null", kind]),
        (false, Some(_)) => json!([kind, "null"]),
    }
}

#[cfg(test)]
mod tests;
