use proptest::prelude::*;

use super::*;

fn map(fields: Value) -> Result<PayloadSchema, SchemaError> {
    payload(&json!({"type": "record", "name": "t", "fields": fields}), Nanos::Refuse)
}

fn kind_of(avro: Value) -> Result<PayloadType, SchemaError> {
    Ok(map(json!([{"name": "f", "type": avro}]))?.fields.remove(0).kind)
}

#[test]
fn every_scalar_of_avro_has_its_type() {
    let logical = |base: &str, logical: &str| json!({"type": base, "logicalType": logical});
    let cases = [
        (json!("boolean"), PayloadType::Boolean),
        (json!("int"), PayloadType::Int),
        (json!("long"), PayloadType::Long),
        (json!("float"), PayloadType::Float),
        (json!("double"), PayloadType::Double),
        (json!("bytes"), PayloadType::Binary),
        (json!("string"), PayloadType::String),
        (logical("string", "uuid"), PayloadType::Uuid),
        (logical("int", "date"), PayloadType::Date),
        (logical("int", "time-millis"), PayloadType::Time),
        (logical("long", "time-micros"), PayloadType::Time),
        (logical("long", "timestamp-millis"), PayloadType::TimestampTz),
        (logical("long", "timestamp-micros"), PayloadType::TimestampTz),
        (logical("long", "local-timestamp-millis"), PayloadType::Timestamp),
        (logical("long", "local-timestamp-micros"), PayloadType::Timestamp),
        (json!({"type": "fixed", "name": "x", "size": 5}), PayloadType::Fixed(5)),
        (json!({"type": "enum", "name": "x", "symbols": ["A", "B"]}), PayloadType::Enum(vec!["A".into(), "B".into()])),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
            PayloadType::Decimal { precision: 9, scale: 2 },
        ),
        (
            json!({"type": "fixed", "name": "x", "size": 16, "logicalType": "decimal", "precision": 38, "scale": 0}),
            PayloadType::Decimal { precision: 38, scale: 0 },
        ),
    ];
    for (avro, expected) in cases {
        assert_eq!(kind_of(avro.clone()), Ok(expected), "{avro}");
    }
}

#[test]
fn a_union_with_null_is_optional_in_either_order() {
    let mapped = map(json!([
        {"name": "a", "type": ["null", "int"], "default": null},
        {"name": "b", "type": ["int", "null"], "default": 7},
        {"name": "c", "type": ["int"]},
    ]))
    .expect("maps");
    let required: Vec<_> = mapped.fields.iter().map(|field| field.required).collect();
    assert_eq!(required, [false, false, true]);
    assert_eq!(mapped.fields[0].default, Some(Value::Null));
    assert_eq!(mapped.fields[1].default, Some(json!(7)));
}

#[test]
fn a_default_time_is_in_microseconds_whatever_unit_avro_writes_it_in() {
    let millis = json!({"type": "long", "logicalType": "timestamp-millis"});
    let time = json!({"type": "record", "name": "r", "fields": [
        {"name": "m", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "n", "type": "int"},
    ]});
    let mapped = map(json!([
        {"name": "a", "type": millis, "default": 7},
        {"name": "b", "type": [millis, "null"], "default": -7},
        {"name": "c", "type": time, "default": {"m": 1, "n": 1}},
        {"name": "d", "type": {"type": "array", "items": millis}, "default": [1, 2]},
        {"name": "e", "type": ["null", millis], "default": null},
        {"name": "f", "type": "long", "default": 7},
    ]))
    .expect("maps");
    let defaults: Vec<_> = mapped.fields.iter().flat_map(|field| field.default.clone()).collect();
    let expected = [json!(7000), json!(-7000), json!({"m": 1000, "n": 1}), json!([1000, 2000]), Value::Null, json!(7)];
    assert_eq!(defaults, expected);
}

#[test]
fn ids_follow_the_text_and_nested_fields_have_their_own() {
    let mapped = map(json!([
        {"name": "tags", "type": {"type": "map", "values": ["null", "string"]}},
        {"name": "legs", "type": {"type": "array", "items": {"type": "record", "name": "leg", "fields": [
            {"name": "from", "type": "string"},
            {"name": "codes", "type": {"type": "array", "items": "int"}},
        ]}}},
        {"name": "n", "type": "int"},
    ]))
    .expect("maps");
    let PayloadType::Map { key_id, value } = &mapped.fields[0].kind else { panic!("a map") };
    assert_eq!((mapped.fields[0].id, *key_id, value.id, value.required), (101, 102, 103, false));
    let PayloadType::List(element) = &mapped.fields[1].kind else { panic!("a list") };
    let PayloadType::Struct(members) = &element.kind else { panic!("a record") };
    assert_eq!((mapped.fields[1].id, element.id, members[0].id, members[1].id), (104, 105, 106, 107));
    assert_eq!((mapped.fields[2].id, mapped.last_field_id), (109, 109));
}

#[test]
fn a_named_type_can_be_used_twice_but_not_inside_itself() {
    let point = json!({"type": "record", "name": "point", "fields": [{"name": "x", "type": "int"}]});
    let mapped = map(json!([{"name": "a", "type": point}, {"name": "b", "type": ["null", "point"]}])).expect("maps");
    assert!(matches!(&mapped.fields[1].kind, PayloadType::Struct(members) if members[0].id == 104));
    let list = json!({"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]});
    let error = map(json!([{"name": "head", "type": list}])).expect_err("recursive");
    assert!(error.to_string().starts_with("schema field \"head.next\": type node contains itself"), "{error}");
}

#[test]
fn what_cannot_be_mapped_is_refused_by_its_dotted_name() {
    let cases = [
        (json!("null"), "null alone"),
        (json!(["null", "int", "string"]), "2 types besides null"),
        (json!({"type": "fixed", "name": "d", "size": 12, "logicalType": "duration"}), "duration has no Iceberg type"),
        (json!({"type": "bytes", "logicalType": "big-decimal"}), "bigdecimal has no Iceberg type"),
        (json!({"type": "long", "logicalType": "timestamp-nanos"}), "option nanos"),
        (json!({"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 0}), "1 to 38 digits"),
        (json!({"type": "record", "name": "e", "fields": []}), "at least one field"),
    ];
    for (avro, expected) in cases {
        let inner = json!({"type": "record", "name": "s", "fields": [{"name": "m", "type": avro}]});
        let error = map(json!([{"name": "outer", "type": inner}])).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains("outer.m") && text.contains(expected), "{text}");
    }
    for (fields, expected) in [
        (json!([{"name": "_seq", "type": "int"}]), "belong to Firn"),
        (json!([{"name": "a", "type": "int"}, {"name": "A", "type": "int"}]), "without case"),
        (json!([]), "1 to 1000 fields"),
    ] {
        let error = map(fields).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
    for whole in [json!("string"), json!({"type": "nonsense"}), json!(17), json!({"type": "record"})] {
        assert!(payload(&whole, Nanos::Refuse).is_err(), "{whole} passed");
    }
}

#[test]
fn nanoseconds_become_microseconds_where_the_topic_says_so() {
    let schema = json!({"type": "record", "name": "t", "fields": [
        {"name": "a", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "b", "type": {"type": "long", "logicalType": "local-timestamp-nanos"}},
    ]});
    let mapped = payload(&schema, Nanos::Truncate).expect("maps");
    let kinds: Vec<_> = mapped.fields.iter().map(|field| &field.kind).collect();
    assert_eq!(kinds, [&PayloadType::TimestampTz, &PayloadType::Timestamp]);
}

#[test]
fn a_schema_nested_too_deeply_is_refused() {
    let mut deep = json!("int");
    for _ in 0..100 {
        deep = json!({"type": "array", "items": deep});
    }
    assert!(map(json!([{"name": "f", "type": deep}])).is_err());
}

fn any_type() -> impl Strategy<Value = PayloadType> {
    let member = |id: i32, name: &str, kind: PayloadType, required| PayloadField {
        id,
        name: name.into(),
        kind,
        required,
        doc: None,
        default: None,
        filled: false,
    };
    let leaf = prop_oneof![
        Just(PayloadType::Boolean),
        Just(PayloadType::Int),
        Just(PayloadType::Long),
        Just(PayloadType::Double),
        Just(PayloadType::Date),
        Just(PayloadType::Time),
        Just(PayloadType::Timestamp),
        Just(PayloadType::TimestampTz),
        Just(PayloadType::String),
        Just(PayloadType::Uuid),
        Just(PayloadType::Binary),
        (1..40i32).prop_map(PayloadType::Fixed),
        (1..=38u8).prop_flat_map(
            |precision| (0..=precision as i8).prop_map(move |scale| PayloadType::Decimal { precision, scale })
        ),
        Just(PayloadType::Enum(vec!["A".into(), "B".into()])),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let field = (inner, any::<bool>());
        prop_oneof![
            field
                .clone()
                .prop_map(move |(kind, required)| PayloadType::List(Box::new(member(0, "element", kind, required)))),
            field.clone().prop_map(move |(kind, required)| PayloadType::Map {
                key_id: 0,
                value: Box::new(member(0, "value", kind, required))
            }),
            proptest::collection::vec(field, 1..4).prop_map(move |fields| {
                let fields = fields.into_iter().enumerate();
                PayloadType::Struct(
                    fields.map(|(at, (kind, required))| member(0, &format!("m{at}"), kind, required)).collect(),
                )
            }),
        ]
    })
}

/// Gives ids in the order in which the mapping does.
fn number(field: &mut PayloadField, last: &mut i32) {
    *last += 1;
    field.id = *last;
    match &mut field.kind {
        PayloadType::Struct(members) => members.iter_mut().for_each(|member| number(member, last)),
        PayloadType::List(element) => number(element, last),
        PayloadType::Map { key_id, value } => {
            *last += 1;
            *key_id = *last;
            number(value, last);
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_payload_survives_the_way_to_avro_and_back(kinds in proptest::collection::vec((any_type(), any::<bool>()), 1..6)) {
        let mut last = FIRST_FIELD_ID - 1;
        let mut fields = Vec::new();
        for (at, (kind, required)) in kinds.into_iter().enumerate() {
            let mut field = PayloadField { id: 0, name: format!("f{at}"), kind, required, doc: None, default: None, filled: false };
            number(&mut field, &mut last);
            fields.push(field);
        }
        let original = PayloadSchema { fields, last_field_id: last };
        let avro = schema(&original, "t");
        prop_assert_eq!(payload(&avro, Nanos::Refuse), Ok(original), "{}", avro);
    }
}

#[test]
fn a_name_that_avro_does_not_allow_is_refused_by_name() {
    for name in ["$vent", "a.$", "1a", "a..b", "a b"] {
        let inner = json!({"type": "fixed", "name": name, "size": 4});
        for schema in [
            json!({"type": "record", "name": name, "fields": [{"name": "a", "type": "int"}]}),
            json!({"type": "record", "name": "e", "fields": [{"name": "a", "type": ["null", inner]}]}),
        ] {
            let error = payload(&schema, Nanos::Refuse).expect_err("no name");
            assert!(error.to_string().contains(&format!("{name:?} is no name")), "{error}");
        }
    }
}

#[test]
fn a_default_that_is_no_symbol_is_refused() {
    // The enum's own default, for symbols that a reader does not know, makes the parser take any.
    let kind = json!({"type": "enum", "name": "kind", "symbols": ["A", "B"], "default": "A"});
    let field = |default| json!([{"name": "k", "type": ["null", kind], "default": default}]);
    let schema = |default: Value| json!({"type": "record", "name": "e", "fields": field(default)});
    let error = payload(&schema(json!("C")), Nanos::Refuse).expect_err("no symbol");
    assert!(error.to_string().contains(r#""C" is none of its symbols"#), "{error}");
    assert!(payload(&schema(json!(null)), Nanos::Refuse).is_ok());
}
