use serde_json::json;
use uuid::Uuid;

use super::*;

fn spec(extra: serde_json::Value) -> TopicSpec {
    let mut spec = json!({
        "name": "orders",
        "schema": {"type": "record", "name": "order", "fields": [
            {"name": "id", "type": "string"},
            {"name": "region", "type": ["null", "string"]},
            {"name": "amount", "type": "double"},
        ]},
        "key": ["id"],
    });
    for (name, value) in extra.as_object().expect("an object") {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).expect("a spec")
}

fn resolve(extra: serde_json::Value) -> Result<TopicDef, SchemaError> {
    spec(extra).resolve(TopicId(Uuid::nil()), TenantId(Uuid::nil()), LaneId(0))
}

#[test]
fn what_is_left_out_has_its_default() {
    let def = resolve(json!({})).expect("resolves");
    assert_eq!((def.path.to_string().as_str(), def.prefix_levels, def.version), ("orders", 1, 1));
    let def = resolve(json!({"path": "orders/{region}/x"})).expect("resolves");
    assert_eq!(def.prefix_levels, 2);
}

#[test]
fn a_definition_survives_json() {
    let def = resolve(json!({"path": "orders/{region}", "checks": ["amount > 0"]})).expect("resolves");
    let text = serde_json::to_string(&def).expect("serialises");
    assert_eq!(serde_json::from_str::<TopicDef>(&text).expect("parses"), def);
}

#[test]
fn an_option_that_cannot_be_is_refused_by_name() {
    for (extra, expected) in [
        (json!({"key": []}), "topic option key"),
        (json!({"key": ["amount"]}), "no canonical text"),
        (json!({"key": ["nope"]}), "it has id, region, amount"),
        (json!({"path": "others/{region}"}), "as its first level"),
        (json!({"path": "orders/{nope}"}), "topic option path"),
        (json!({"path": "orders/{region}", "prefix_levels": 3}), "topic option prefix_levels"),
        (json!({"checks": vec!["true"; 65]}), "topic option check"),
    ] {
        let error = resolve(extra).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn two_definitions_say_the_same_if_only_their_identities_differ() {
    let def = resolve(json!({})).expect("resolves");
    let twin = TopicDef { id: TopicId(Uuid::max()), lane: LaneId(3), ..def.clone() };
    assert!(def.says_the_same_as(&twin));
    assert!(!def.says_the_same_as(&resolve(json!({"checks": ["amount > 0"]})).expect("resolves")));
}

/// This document lies in users' registers, lane records and checkpoints. If it can no longer be read, their topics are gone; if a field id or a type
/// comes out otherwise, their segments are read as other columns.
#[test]
fn the_document_of_a_definition_stays_what_it_is() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/definition.json")).expect("JSON");
    let def: TopicDef = serde_json::from_value(golden.clone()).expect("a definition");
    assert_eq!(serde_json::to_value(&def).expect("serialises"), golden, "with what this code does not know");
    let fields = json!({
        "schema": golden["schema"], "key": golden["key"], "path": golden["path"], "checks": golden["checks"],
        "flush": golden["flush"], "nanos": golden["nanos"],
    });
    let mut made = resolve(fields).expect("resolves");
    made.unknown.insert("later".into(), json!({"than": "this code"}));
    assert_eq!(made, def, "the same text makes the same columns, ids and all");
}
