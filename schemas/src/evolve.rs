//! What may become of a topic's schema: decided here alone, by Iceberg's rules for format v2 and by what a topic's keys and paths rest on. Pure.
//!
//! A field stays the same field by its id. A wanted field is a field of before that a rename or its `field-id` names, else the one with its name, else
//! one with a name among its `aliases`, if that is not wanted otherwise. What is none of before is new and gets an id that was never given out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::avro::{self, Described};
use crate::limits;
use crate::payload::{PayloadField, PayloadSchema, PayloadType};
use crate::topic::TopicDef;

/// A field has another name from now on. Both are dotted paths; list elements and map values are `element` and `value` there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// As it is called now.
    pub from: String,
    /// As the new schema calls it.
    pub to: String,
}

/// Why a schema cannot follow the one there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Dotted path of the field in the new schema, or in the old one if it is no longer there; empty for the whole.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.reason),
            field => write!(f, "field {field:?}: {}", self.reason),
        }
    }
}

/// The schema that follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Evolution {
    /// Its columns, with ids.
    pub payload: PayloadSchema,
    /// What is different, for people; one sentence each.
    pub changes: Vec<String>,
}

/// Decides whether `wanted` can follow `current`, and what it is then. `renames` say which fields are which where names alone would not.
///
/// Errors: every reason why not.
pub fn evolve(current: &PayloadSchema, wanted: &Described, renames: &[Rename]) -> Result<Evolution, Vec<Refusal>> {
    let mut walk = Walk {
        wanted,
        renames,
        used: vec![false; renames.len()],
        last_field_id: current.last_field_id,
        refusals: Vec::new(),
        changes: Vec::new(),
    };
    let fields = walk.members(&current.fields, &wanted.payload.fields, Paths::default());
    for (rename, _) in renames.iter().zip(&walk.used).filter(|(_, used)| !**used) {
        let reason = format!("is to be renamed to {:?}, but the new schema has no such field", rename.to);
        walk.refusals.push(Refusal { field: rename.from.clone(), reason });
    }
    if walk.last_field_id > limits::FIELD_ID_MAX {
        walk.refuse(
            "",
            format!("the topic has had {} fields, as many as it may: make a new topic", limits::FIELD_ID_MAX),
        );
    }
    let payload = PayloadSchema { fields, last_field_id: walk.last_field_id };
    if walk.refusals.is_empty() { Ok(Evolution { payload, changes: walk.changes }) } else { Err(walk.refusals) }
}

impl TopicDef {
    /// The topic with this schema, and what is different for people; `None` if nothing is. Key fields and fields of the path template may be renamed.
    ///
    /// Errors: every reason why it cannot have it. Checks are not compiled here: they may name a column that is gone.
    pub fn altered(
        &self,
        schema: serde_json::Value,
        renames: &[Rename],
    ) -> Result<Option<(Self, Vec<String>)>, Vec<Refusal>> {
        let whole = |reason: String| vec![Refusal { field: String::new(), reason }];
        let wanted = avro::described(&schema, self.nanos).map_err(|error| whole(error.to_string()))?;
        let Evolution { payload, changes } = evolve(&self.payload, &wanted, renames)?;
        if payload == self.payload {
            return Ok(None);
        }
        if self.version >= limits::SCHEMA_VERSIONS_MAX {
            let max = limits::SCHEMA_VERSIONS_MAX;
            return Err(whole(format!("the topic has had {max} schema versions, as many as it may: make a new topic")));
        }
        let mut refusals = Vec::new();
        let mut follow = |name: &str, role: &str| match followed(&self.payload, &payload, name) {
            Ok(name) => name,
            Err(reason) => {
                let reason = format!("{reason}: it makes the {role}, which events keep; make a new topic for that");
                refusals.push(Refusal { field: name.to_owned(), reason });
                name.to_owned()
            }
        };
        let key: Vec<String> = self.key.iter().map(|name| follow(name, "key")).collect();
        let in_path: Vec<(String, String)> =
            self.path.fields().map(|name| (name.to_owned(), follow(name, "path"))).collect();
        let rename = |name: &str| in_path.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new).to_owned();
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let path = self.path.renamed(rename);
        let next = Self { version: self.version + 1, schema, payload, key, path, ..self.clone() };
        Ok(Some((next, changes)))
    }
}

/// True if an expression that asks about `column` asks the same in both schemas: what has that name, or a name within it, is the same field.
pub fn means_the_same(before: &PayloadSchema, after: &PayloadSchema, column: &str) -> bool {
    fn note(field: &PayloadField, path: &str, ids: &mut BTreeMap<String, i32>) {
        ids.insert(path.to_owned(), field.id);
        let inner: &[PayloadField] = match &field.kind {
            PayloadType::Struct(members) => members,
            PayloadType::List(inner) | PayloadType::Map { value: inner, .. } => std::slice::from_ref(inner),
            _ => &[],
        };
        inner.iter().for_each(|inner| note(inner, &format!("{path}.{}", inner.name), ids));
    }
    let ids = |payload: &PayloadSchema| {
        let mut ids = BTreeMap::new();
        payload.fields.iter().filter(|field| field.name == column).for_each(|field| note(field, "", &mut ids));
        ids
    };
    let (before, after) = (ids(before), ids(after));
    after.iter().all(|(path, id)| before.get(path).is_none_or(|known| known == id))
}

/// The name that a field has in `next`. Errors: that it is gone, or has another text than before.
fn followed(current: &PayloadSchema, next: &PayloadSchema, dotted: &str) -> Result<String, String> {
    let gone = || "cannot be dropped".to_owned();
    let mut names: Vec<&str> = Vec::new();
    let (mut before, mut after) = (current.fields.as_slice(), next.fields.as_slice());
    let mut kinds = None;
    for name in dotted.split('.') {
        let old = before.iter().find(|field| field.name == name).ok_or_else(gone)?;
        let new = after.iter().find(|field| field.id == old.id).ok_or_else(gone)?;
        names.push(&new.name);
        (before, after) = match (&old.kind, &new.kind) {
            (PayloadType::Struct(before), PayloadType::Struct(after)) => (before.as_slice(), after.as_slice()),
            _ => (&[][..], &[][..]),
        };
        kinds = Some((&old.kind, &new.kind));
    }
    match kinds {
        Some((PayloadType::Enum(_), PayloadType::Enum(_) | PayloadType::String)) => {}
        Some((old, new)) if old != new => return Err(format!("cannot change from {} to {}", old.name(), new.name())),
        _ => {}
    }
    Ok(names.join("."))
}

/// Where a walk stands, in the names of either schema; empty at the top, else ending with a dot.
#[derive(Clone, Debug, Default)]
struct Paths {
    old: String,
    new: String,
}

impl Paths {
    fn within(&self, old: &str, new: &str) -> Self {
        Self { old: format!("{}{old}.", self.old), new: format!("{}{new}.", self.new) }
    }
}

struct Walk<'w> {
    wanted: &'w Described,
    renames: &'w [Rename],
    used: Vec<bool>,
    last_field_id: i32,
    refusals: Vec<Refusal>,
    changes: Vec<String>,
}

impl Walk<'_> {
    fn refuse(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.refusals.push(Refusal { field: field.into(), reason: reason.into() });
    }

    fn members(&mut self, current: &[PayloadField], wanted: &[PayloadField], at: Paths) -> Vec<PayloadField> {
        let sources = self.sources(current, wanted, &at);
        let mut members = Vec::with_capacity(wanted.len());
        for (field, source) in wanted.iter().zip(&sources) {
            members.push(match source.map(|source| &current[source]) {
                Some(before) => self.kept(before, field, &at),
                None => self.added(field, &at),
            });
        }
        for (number, field) in current.iter().enumerate() {
            if !sources.contains(&Some(number)) {
                self.changes.push(format!("{}{} is dropped", at.old, field.name));
            }
        }
        let kept: Vec<usize> = sources.iter().flatten().copied().collect();
        if !kept.is_sorted() {
            let place = if at.new.is_empty() { "the columns" } else { at.new.trim_end_matches('.') };
            self.changes.push(format!("{place}: another order"));
        }
        members
    }

    /// For each wanted field the number of the field that it was before.
    fn sources(&mut self, current: &[PayloadField], wanted: &[PayloadField], at: &Paths) -> Vec<Option<usize>> {
        let mut sources: Vec<Option<usize>> = wanted.iter().map(|field| self.told(current, field, at)).collect();
        for (number, source) in sources.iter().enumerate().filter_map(|(number, source)| Some((number, (*source)?))) {
            if sources[..number].contains(&Some(source)) {
                let reason = format!("is said to be {:?}, which another field is said to be too", current[source].name);
                self.refuse(format!("{}{}", at.new, wanted[number].name), reason);
            }
        }
        let free = |sources: &[Option<usize>], name: &str| {
            current.iter().position(|field| field.name == name).filter(|found| !sources.contains(&Some(*found)))
        };
        for (number, field) in wanted.iter().enumerate() {
            if sources[number].is_none() {
                sources[number] = free(&sources, &field.name);
            }
        }
        for (number, field) in wanted.iter().enumerate() {
            let aliases = self.wanted.origins.get(&field.id).map_or(&[][..], |origin| origin.aliases.as_slice());
            if sources[number].is_none() {
                sources[number] = aliases.iter().find_map(|alias| free(&sources, alias));
            }
        }
        sources
    }

    /// The field that a rename or a `field-id` says that this was.
    fn told(&mut self, current: &[PayloadField], field: &PayloadField, at: &Paths) -> Option<usize> {
        let path = format!("{}{}", at.new, field.name);
        if let Some(number) = self.renames.iter().position(|rename| rename.to == path) {
            self.used[number] = true;
            let from = &self.renames[number].from;
            let name = from.strip_prefix(&at.old);
            let found = name.and_then(|name| current.iter().position(|field| field.name == name));
            if found.is_none() {
                let reason = format!(
                    "is to be what {from:?} was, but there is no such field beside it before: a field can be renamed, not moved"
                );
                self.refuse(path, reason);
            }
            return found;
        }
        let id = self.wanted.origins.get(&field.id)?.field_id?;
        let found = current.iter().position(|field| field.id == id);
        if found.is_none() {
            let reason = format!(
                "says that it has field-id {id}, which no field beside it has: ids are never given to another field; leave it out"
            );
            self.refuse(path, reason);
        }
        found
    }

    fn kept(&mut self, before: &PayloadField, wanted: &PayloadField, at: &Paths) -> PayloadField {
        let path = format!("{}{}", at.new, wanted.name);
        if before.name != wanted.name {
            self.changes.push(format!("{}{} is called {path}", at.old, before.name));
        }
        let kind = self.kind(&before.kind, &wanted.kind, &path, at.within(&before.name, &wanted.name));
        let has_default = wanted.default.as_ref().is_some_and(|default| !default.is_null());
        let (required, filled) = match (before.required, wanted.required) {
            (true, true) => (true, false),
            (_, false) => (false, false),
            (false, true) => (false, true),
        };
        if filled && !has_default {
            self.refuse(
                path.as_str(),
                "is optional, and events without a value may be there: leave it a union with null, or give it a default",
            );
        }
        if before.required && !required {
            self.changes.push(format!("{path} may be null"));
        }
        if (&before.default, before.filled) != (&wanted.default, filled) {
            self.changes.push(format!("{path}: {}", left_out(wanted.default.as_ref(), required || filled)));
        }
        if before.doc != wanted.doc {
            self.changes.push(format!("{path} is described otherwise"));
        }
        let (id, name, doc, default) = (before.id, wanted.name.clone(), wanted.doc.clone(), wanted.default.clone());
        PayloadField { id, name, kind, required, doc, default, filled }
    }

    fn kind(&mut self, before: &PayloadType, wanted: &PayloadType, path: &str, at: Paths) -> PayloadType {
        use PayloadType as T;
        match (before, wanted) {
            (T::Struct(before), T::Struct(wanted)) => return T::Struct(self.members(before, wanted, at)),
            (T::List(before), T::List(wanted)) => return T::List(Box::new(self.kept(before, wanted, &at))),
            (T::Map { key_id, value: before }, T::Map { value: wanted, .. }) => {
                return T::Map { key_id: *key_id, value: Box::new(self.kept(before, wanted, &at)) };
            }
            _ => {}
        }
        match change(before, wanted) {
            Change::None => {}
            Change::Widens => self.changes.push(format!("{path} is now {}", described(wanted))),
            Change::Refused(why) => {
                let reason = format!("cannot change from {} to {}: {why}", described(before), described(wanted));
                self.refuse(path, reason);
            }
        }
        wanted.clone()
    }

    fn added(&mut self, wanted: &PayloadField, at: &Paths) -> PayloadField {
        let path = format!("{}{}", at.new, wanted.name);
        let mut field = self.fresh(wanted);
        let has_default = wanted.default.as_ref().is_some_and(|default| !default.is_null());
        if wanted.required && !has_default {
            let reason = "is new and required, but earlier events have no value: make it a union with null, or give it a default";
            self.refuse(path.as_str(), reason);
        }
        field.filled = wanted.required;
        field.required = false;
        self.changes.push(format!("{path} is added"));
        field
    }

    /// The field with ids that were never given out, each field before its members.
    fn fresh(&mut self, wanted: &PayloadField) -> PayloadField {
        let id = self.next_id();
        let kind = match &wanted.kind {
            PayloadType::Struct(members) => {
                PayloadType::Struct(members.iter().map(|member| self.fresh(member)).collect())
            }
            PayloadType::List(element) => PayloadType::List(Box::new(self.fresh(element))),
            PayloadType::Map { value, .. } => {
                let key_id = self.next_id();
                PayloadType::Map { key_id, value: Box::new(self.fresh(value)) }
            }
            scalar => scalar.clone(),
        };
        PayloadField { id, kind, ..wanted.clone() }
    }

    fn next_id(&mut self) -> i32 {
        self.last_field_id = self.last_field_id.saturating_add(1);
        self.last_field_id
    }
}

/// What a producer gets that leaves the field out.
fn left_out(default: Option<&serde_json::Value>, insists: bool) -> String {
    match default {
        Some(default) => format!("{default} where it is left out"),
        None if insists => "must be given".to_owned(),
        None => "null where it is left out".to_owned(),
    }
}

enum Change {
    None,
    Widens,
    Refused(&'static str),
}

/// Iceberg's type promotions of format v2, and what an enum, which is a string there, can become.
fn change(before: &PayloadType, wanted: &PayloadType) -> Change {
    use PayloadType as T;
    match (before, wanted) {
        _ if before == wanted => Change::None,
        (T::Int, T::Long) | (T::Float, T::Double) | (T::Enum(_), T::String) => Change::Widens,
        (T::Decimal { precision: p, scale: s }, T::Decimal { precision: q, scale: r }) => match s == r && q > p {
            true => Change::Widens,
            false if s != r => Change::Refused("a decimal keeps its scale; add a field of the other scale"),
            false => Change::Refused(NARROWER),
        },
        (T::Enum(before), T::Enum(wanted)) => match before.iter().all(|symbol| wanted.contains(symbol)) {
            true => Change::Widens,
            false => Change::Refused("events may have the symbols that are gone; keep them"),
        },
        (T::Long, T::Int) | (T::Double, T::Float) | (T::String, T::Enum(_)) => Change::Refused(NARROWER),
        _ => Change::Refused(
            "a field keeps its type, but for int to long, float to double, more digits of a decimal, and enum to string; add a field of the other type, and drop this one once nobody reads it",
        ),
    }
}

const NARROWER: &str = "what is there may not fit; add a field of the narrower type";

fn described(kind: &PayloadType) -> String {
    match kind {
        PayloadType::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        PayloadType::Fixed(length) => format!("fixed({length})"),
        PayloadType::Enum(symbols) => format!("enum of {}", symbols.join(", ")),
        other => other.name().to_owned(),
    }
}

#[cfg(test)]
mod tests;
