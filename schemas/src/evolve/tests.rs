use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::ids::{LaneId, TenantId, TopicId};
use crate::topic::{Nanos, TopicSpec};

fn record(fields: Value) -> Value {
    json!({"type": "record", "name": "r", "fields": fields})
}

fn describe(fields: Value) -> Described {
    avro::described(&record(fields), Nanos::Refuse).unwrap()
}

fn from(fields: Value) -> PayloadSchema {
    describe(fields).payload
}

fn renames(pairs: &[(&str, &str)]) -> Vec<Rename> {
    pairs.iter().map(|(from, to)| Rename { from: (*from).into(), to: (*to).into() }).collect()
}

/// Names and ids in order, nested ones by their paths.
fn ids(payload: &PayloadSchema) -> BTreeMap<String, i32> {
    fn walk(fields: &[PayloadField], prefix: &str, into: &mut BTreeMap<String, i32>) {
        for field in fields {
            let path = format!("{prefix}{}", field.name);
            into.insert(path.clone(), field.id);
            match &field.kind {
                PayloadType::Struct(members) => walk(members, &format!("{path}."), into),
                PayloadType::List(inner) | PayloadType::Map { value: inner, .. } => {
                    walk(std::slice::from_ref(inner), &format!("{path}."), into);
                }
                _ => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&payload.fields, "", &mut found);
    found
}

fn reasons(current: Value, wanted: Value, pairs: &[(&str, &str)]) -> Vec<String> {
    let refused = evolve(&from(current), &describe(wanted), &renames(pairs)).unwrap_err();
    refused.iter().map(ToString::to_string).collect()
}

#[test]
fn fields_are_added_dropped_renamed_widened_and_moved_by_id() {
    let current = from(json!([
        {"name": "id", "type": "string"},
        {"name": "amount", "type": "int"},
        {"name": "rate", "type": "float"},
        {"name": "note", "type": ["null", "string"]},
    ]));
    let wanted = describe(json!([
        {"name": "rate", "type": "double"},
        {"name": "id", "type": "string"},
        {"name": "total", "type": ["null", "long"], "aliases": ["amount"]},
        {"name": "channel", "type": "string", "default": "web"},
        {"name": "note2", "type": ["null", "string"]},
    ]));
    let evolved = evolve(&current, &wanted, &[]).unwrap();
    let expected = [("channel", 105), ("id", 101), ("note2", 106), ("rate", 103), ("total", 102)];
    assert_eq!(ids(&evolved.payload), expected.map(|(name, id)| (name.to_owned(), id)).into());
    assert_eq!(evolved.payload.last_field_id, 106);
    let (_, channel) = evolved.payload.field("channel").unwrap();
    assert!(!channel.required && channel.filled, "earlier events have none");
    let (_, total) = evolved.payload.field("total").unwrap();
    assert!(!total.required && total.kind == PayloadType::Long);
    assert_eq!(
        evolved.changes,
        [
            "rate is now double",
            "amount is called total",
            "total is now long",
            "total may be null",
            "channel is added",
            "note2 is added",
            "note is dropped",
            "the columns: another order",
        ]
    );
    // The same again changes nothing, aliases and all.
    assert_eq!(evolve(&evolved.payload, &wanted, &[]).unwrap().payload, evolved.payload);
}

#[test]
fn a_dropped_name_that_comes_back_is_another_field() {
    let first = from(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    let without = evolve(&first, &describe(json!([{"name": "b", "type": "int"}])), &[]).unwrap().payload;
    let again = describe(json!([{"name": "a", "type": ["null", "string"]}, {"name": "b", "type": "int"}]));
    let back = evolve(&without, &again, &[]).unwrap().payload;
    assert_eq!(ids(&back), [("a".to_owned(), 103), ("b".to_owned(), 102)].into());
}

#[test]
fn names_are_swapped_by_renames_or_by_field_ids_and_not_by_aliases() {
    let current = from(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    let same = describe(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    let swapped = evolve(&current, &same, &renames(&[("a", "b"), ("b", "a")])).unwrap().payload;
    assert_eq!(ids(&swapped), [("a".to_owned(), 102), ("b".to_owned(), 101)].into());
    let by_id = describe(json!([
        {"name": "a", "type": "int", "field-id": 102}, {"name": "b", "type": "int", "field-id": 101},
    ]));
    assert_eq!(ids(&evolve(&current, &by_id, &[]).unwrap().payload), ids(&swapped));
    let aliased =
        json!([{"name": "a", "type": "int", "aliases": ["b"]}, {"name": "b", "type": "int", "aliases": ["a"]}]);
    assert!(
        avro::described(&record(aliased), Nanos::Refuse).is_err(),
        "Avro itself refuses an alias that is another's name"
    );
}

#[test]
fn what_lies_inside_records_lists_and_maps_changes_likewise() {
    let inner = |fields: Value| json!({"type": "record", "name": "i", "fields": fields});
    let shape = |fields: Value| {
        json!([
            {"name": "s", "type": inner(fields.clone())},
            {"name": "l", "type": {"type": "array", "items": {"type": "record", "name": "j", "fields": fields.clone()}}},
            {"name": "m", "type": {"type": "map", "values": {"type": "record", "name": "k", "fields": fields}}},
        ])
    };
    let current = from(shape(json!([{"name": "x", "type": "int"}, {"name": "y", "type": "string"}])));
    let wanted = describe(shape(json!([
        {"name": "z", "type": ["null", "string"]}, {"name": "w", "type": "long", "aliases": ["x"]},
    ])));
    let before = ids(&current);
    let after = ids(&evolve(&current, &wanted, &[]).unwrap().payload);
    for place in ["s", "l.element", "m.value"] {
        assert_eq!(after[&format!("{place}.w")], before[&format!("{place}.x")]);
        assert!(after[&format!("{place}.z")] > current.last_field_id);
    }
    let renamed = describe(shape(json!([{"name": "y", "type": "int"}, {"name": "x", "type": "string"}])));
    let pairs: Vec<_> = ["s", "l.element", "m.value"]
        .iter()
        .flat_map(|place| {
            [("x", "y"), ("y", "x")].map(|(a, b)| Rename { from: format!("{place}.{a}"), to: format!("{place}.{b}") })
        })
        .collect();
    let swapped = ids(&evolve(&current, &renamed, &pairs).unwrap().payload);
    assert_eq!(swapped["l.element.x"], before["l.element.y"]);
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let one = |kind: Value| json!([{"name": "f", "type": kind}]);
    let cases = [
        (json!("long"), json!("int"), "cannot change from long to int"),
        (json!("double"), json!("float"), "what is there may not fit"),
        (json!("int"), json!("string"), "add a field of the other type"),
        (json!(["null", "int"]), json!("int"), "or give it a default"),
        (
            json!({"type": "enum", "name": "e", "symbols": ["A", "B"]}),
            json!({"type": "enum", "name": "e", "symbols": ["A"]}),
            "keep them",
        ),
        (json!("string"), json!({"type": "enum", "name": "e", "symbols": ["A"]}), "narrower"),
        (
            json!({"type": "fixed", "name": "x", "size": 4}),
            json!({"type": "fixed", "name": "x", "size": 5}),
            "fixed(4) to fixed(5)",
        ),
        (json!({"type": "array", "items": ["null", "int"]}), json!({"type": "array", "items": "int"}), "f.element"),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
            json!({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}),
            "keeps its scale",
        ),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
            json!({"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}),
            "may not fit",
        ),
        (
            json!({"type": "int", "logicalType": "date"}),
            json!({"type": "long", "logicalType": "timestamp-micros"}),
            "from date to timestamp",
        ),
    ];
    for (before, after, expected) in cases {
        let told = reasons(one(before), one(after), &[]);
        assert!(told.len() == 1 && told[0].contains(expected), "{told:?} should say {expected:?}");
    }
    let two = || json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]);
    let told = reasons(two(), json!([{"name": "a", "type": "int"}, {"name": "c", "type": "int"}]), &[]);
    assert_eq!(
        told,
        [
            "field \"c\": is new and required, but earlier events have no value: make it a union with null, or give it a default"
        ]
    );
    assert!(reasons(two(), two(), &[("x", "a")])[0].contains("renamed, not moved"));
    assert!(reasons(two(), two(), &[("a", "x")])[0].contains("no such field"));
    assert!(reasons(two(), two(), &[("a", "a"), ("a", "b")])[0].contains("another field is said to be too"));
    let reused = json!([
        {"name": "a", "type": "int"}, {"name": "b", "type": "int"}, {"name": "c", "type": ["null", "int"], "field-id": 99},
    ]);
    assert!(reasons(two(), reused, &[])[0].contains("ids are never given to another field"));
}

fn orders() -> TopicDef {
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": "orders",
        "schema": record(json!([
            {"name": "id", "type": "string"},
            {"name": "at", "type": {"type": "record", "name": "at", "fields": [{"name": "region", "type": "string"}]}},
            {"name": "amount", "type": "int"},
        ])),
        "key": ["id"],
        "path": "orders/{at.region}",
    }))
    .unwrap();
    spec.resolve(TopicId(Uuid::from_u128(7)), TenantId(Uuid::from_u128(1)), LaneId(0)).unwrap()
}

#[test]
fn key_and_path_follow_renames_and_refuse_the_rest() {
    let (def, region) = (
        orders(),
        |name: &str, kind: &str| json!({"name": "place", "type": {"type": "record", "name": "at", "fields": [{"name": name, "type": kind}]}, "aliases": ["at"]}),
    );
    let schema = record(json!([
        {"name": "number", "type": "string", "aliases": ["id"]}, region("area", "string"), {"name": "amount", "type": "int"},
    ]));
    let (next, _) = def.altered(schema.clone(), &renames(&[("at.region", "place.area")])).unwrap().unwrap();
    assert_eq!(
        (next.version, next.key.as_slice(), next.path.to_string()),
        (2, &["number".to_owned()][..], "orders/{place.area}".to_owned())
    );
    assert!(next.key_rule().is_ok() && next.path_rule().is_ok());
    assert_eq!(next.altered(schema, &[]).unwrap(), None, "it is there already");

    let dropped = record(
        json!([{"name": "at", "type": {"type": "record", "name": "at", "fields": [{"name": "x", "type": ["null", "string"]}]}}, {"name": "amount", "type": "int"}]),
    );
    let told: Vec<_> = def.altered(dropped, &[]).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("field \"id\": cannot be dropped: it makes the key")
            && told[1].contains("it makes the path"),
        "{told:?}"
    );

    let numbers: TopicSpec = serde_json::from_value(
        json!({"name": "n", "schema": record(json!([{"name": "id", "type": "int"}])), "key": ["id"]}),
    )
    .unwrap();
    let numbers = numbers.resolve(def.id, def.tenant, def.lane).unwrap();
    let told = numbers.altered(record(json!([{"name": "id", "type": "long"}])), &[]).unwrap_err();
    assert!(told[0].reason.contains("cannot change from int to long"), "{told:?}");
}

#[test]
fn a_topic_has_a_bounded_number_of_versions() {
    let def = TopicDef { version: limits::SCHEMA_VERSIONS_MAX, ..orders() };
    let mut schema = def.schema.clone();
    schema["fields"].as_array_mut().unwrap().push(json!({"name": "x", "type": ["null", "int"]}));
    assert!(def.altered(schema, &[]).unwrap_err()[0].reason.contains("as many as it may"));
}

/// What Iceberg allows of two versions of one field, format v2; an independent statement of it.
fn iceberg_allows(before: &PayloadField, after: &PayloadField) -> bool {
    use PayloadType as T;
    let kinds = match (&before.kind, &after.kind) {
        (T::Struct(a), T::Struct(b)) => follows(a, b),
        (T::List(a), T::List(b)) => a.id == b.id && iceberg_allows(a, b),
        (T::Map { key_id: k, value: a }, T::Map { key_id: l, value: b }) => {
            k == l && a.id == b.id && iceberg_allows(a, b)
        }
        (T::Int, T::Long) | (T::Float, T::Double) => true,
        (T::Enum(_), T::Enum(_) | T::String) => true,
        (T::Decimal { precision: p, scale: s }, T::Decimal { precision: q, scale: r }) => s == r && q >= p,
        (a, b) => a == b,
    };
    kinds && (before.required || !after.required)
}

/// Fields with an id of before are what they may have become; the others may be null, since there are rows without them.
fn follows(before: &[PayloadField], after: &[PayloadField]) -> bool {
    after.iter().all(|field| match before.iter().find(|old| old.id == field.id) {
        Some(old) => iceberg_allows(old, field),
        None => !field.required,
    })
}

fn field_kind() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!("int")),
        Just(json!("long")),
        Just(json!("float")),
        Just(json!("double")),
        Just(json!("string")),
        (1u8..4).prop_map(|p| json!({"type": "bytes", "logicalType": "decimal", "precision": p, "scale": 1})),
    ];
    let optional = |kind: Value| json!(["null", kind]);
    leaf.prop_recursive(2, 12, 3, move |inner| {
        let members = prop::collection::btree_map("[a-d]", (inner.clone(), any::<bool>()), 1..4);
        let record = members.prop_map(move |members| {
            let fields: Vec<Value> = members.into_iter().map(|(name, (kind, null))| json!({"name": name, "type": if null && !kind.is_array() { optional(kind) } else { kind }})).collect();
            json!({"type": "record", "name": "placeholder", "fields": fields})
        });
        let plain = inner.prop_filter("no union", |kind| !kind.is_array());
        prop_oneof![
            record,
            plain.clone().prop_map(|items| json!({"type": "array", "items": items})),
            plain.prop_map(|values| json!({"type": "map", "values": values})),
        ]
    })
}

/// Records need names of their own.
fn named(value: &mut Value, count: &mut u32) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|value| named(value, count)),
        Value::Object(members) => {
            if members.get("type") == Some(&json!("record")) {
                *count += 1;
                members.insert("name".into(), json!(format!("r{count}")));
            }
            members.values_mut().for_each(|value| named(value, count));
        }
        _ => {}
    }
}

fn any_fields() -> impl Strategy<Value = Value> {
    let field = (field_kind(), any::<bool>(), any::<bool>(), prop::option::of("[a-d]"));
    prop::collection::btree_map("[a-d]", field, 1..5).prop_shuffle_values()
}

trait Shuffled {
    fn prop_shuffle_values(self) -> BoxedStrategy<Value>;
}

impl<S: Strategy<Value = BTreeMap<String, (Value, bool, bool, Option<String>)>> + 'static> Shuffled for S {
    fn prop_shuffle_values(self) -> BoxedStrategy<Value> {
        let list = self.prop_map(|fields| fields.into_iter().collect::<Vec<_>>()).prop_shuffle();
        list.prop_map(|fields| {
            let mut taken: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
            let mut field = |(name, (kind, null, default, alias)): (String, (Value, bool, bool, Option<String>))| {
                let mut field = json!({"name": name, "type": if null { json!(["null", kind]) } else { kind.clone() }});
                if default && !null && kind == json!("int") {
                    field["default"] = json!(7);
                }
                // Avro knows each name once.
                if let Some(alias) = alias.filter(|alias| !taken.contains(alias)) {
                    taken.push(alias.clone());
                    field["aliases"] = json!([alias]);
                }
                field
            };
            let mut fields: Value = fields.into_iter().map(&mut field).collect();
            named(&mut fields, &mut 0);
            fields
        })
        .boxed()
    }
}

fn all_ids(payload: &PayloadSchema) -> Vec<i32> {
    fn walk(fields: &[PayloadField], into: &mut Vec<i32>) {
        for field in fields {
            into.push(field.id);
            match &field.kind {
                PayloadType::Struct(members) => walk(members, into),
                PayloadType::List(inner) => walk(std::slice::from_ref(inner), into),
                PayloadType::Map { key_id, value } => {
                    into.push(*key_id);
                    walk(std::slice::from_ref(value), into);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&payload.fields, &mut found);
    found
}

proptest! {
    #[test]
    fn whatever_follows_is_what_iceberg_allows_and_no_id_is_given_out_twice(steps in prop::collection::vec(any_fields(), 2..7)) {
        let mut steps = steps.into_iter();
        let mut current = from(steps.next().unwrap());
        let mut ever: BTreeMap<i32, ()> = all_ids(&current).into_iter().map(|id| (id, ())).collect();
        for wanted in steps {
            let wanted = describe(wanted);
            let Ok(evolved) = evolve(&current, &wanted, &[]) else { continue };
            let next = evolved.payload;
            prop_assert!(follows(&current.fields, &next.fields), "{current:?} → {next:?}");
            let ids = all_ids(&next);
            let known = all_ids(&current);
            let mut distinct = ids.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), ids.len());
            for id in ids.iter().filter(|id| !known.contains(id)) {
                prop_assert!(ever.insert(*id, ()).is_none(), "{id} was given out before");
                prop_assert!(*id > current.last_field_id);
            }
            prop_assert!(next.last_field_id >= current.last_field_id && ids.iter().all(|id| *id <= next.last_field_id));
            prop_assert_eq!(evolved.changes.is_empty(), current.fields == next.fields);
            // What was wanted is what is there, ids and optionality apart.
            let names = |payload: &PayloadSchema| payload.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
            prop_assert_eq!(names(&next), names(&wanted.payload));
            prop_assert_eq!(evolve(&next, &wanted, &[]).unwrap().payload, next.clone());
            current = next;
        }
    }
}
