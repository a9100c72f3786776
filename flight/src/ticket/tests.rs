use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use query::subscribe::From as Start;
use schemas::{Seq, ShardSeqs};

use super::*;

fn topic() -> impl Strategy<Value = TopicName> {
    "[a-z][a-z0-9_]{0,20}".prop_map(|name| TopicName::new(name).expect("a name"))
}

fn columns() -> impl Strategy<Value = Option<Vec<String>>> {
    option::of(vec(".{0,12}", 1..5))
}

fn replay() -> impl Strategy<Value = Request> {
    let bounds = (option::of(any::<i64>()), option::of(any::<i64>()));
    let at = prop_oneof![
        any::<i64>().prop_map(At::Seq),
        ".{0,30}".prop_map(At::Time),
        any::<i64>().prop_map(At::Snapshot),
        ".{0,30}".prop_map(At::Tag),
    ];
    (topic(), option::of(".{0,40}"), bounds, columns(), option::of(at), option::of(".{0,40}"))
        .prop_map(|(topic, key, (from, to), columns, at, filter)| Replay { topic, key, from, to, columns, at, filter })
        .prop_map(Request::Replay)
}

fn subscribe() -> impl Strategy<Value = Request> {
    let from = prop_oneof![
        Just(Start::Beginning),
        Just(Start::Now),
        any::<i64>().prop_map(Start::Seq),
        ".{0,30}".prop_map(Start::Time),
    ];
    let after =
        proptest::collection::btree_map(topic(), any::<i64>().prop_map(|seq| ShardSeqs::single(Seq(seq))), 0..3);
    (".{0,40}", from, after, columns(), option::of(".{0,40}"))
        .prop_map(|(pattern, from, after, columns, filter)| Subscribe { pattern, from, after, columns, filter })
        .prop_map(Request::Subscribe)
}

fn append() -> impl Strategy<Value = Request> {
    let on_error = prop_oneof![Just(OnError::RejectBatch), Just(OnError::RejectRow), Just(OnError::DeadLetter)];
    let on_condition = prop_oneof![Just(OnCondition::Fail), Just(OnCondition::Answer)];
    (topic(), on_error, option::of((".{0,20}", option::of(any::<u64>()))), on_condition, option::of(any::<u32>()))
        .prop_map(|(topic, on_error, identity, on_condition, schema_version)| {
            let (producer, producer_epoch) = identity.unzip();
            let producer_epoch = producer_epoch.flatten();
            Append { topic, on_error, producer, producer_epoch, on_condition, schema_version }
        })
        .prop_map(Request::Append)
}

proptest! {
    #[test]
    fn a_ticket_survives_its_own_json(
        request in prop_oneof![replay(), subscribe(), append()],
        compress in option::of(Just(Compression::Lz4)),
    ) {
        let ticket = Ticket { request, compress };
        let json = ticket.to_json();
        prop_assert!(is_json(&json));
        prop_assert_eq!(Ticket::parse(&json).expect("parses"), ticket);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = (is_json(&bytes), Ticket::parse(&bytes));
    }

    #[test]
    fn no_flipped_bit_makes_the_parser_panic(request in prop_oneof![replay(), subscribe(), append()], at in any::<usize>()) {
        let mut json = Ticket::from(request).to_json().to_vec();
        let bit = at % (json.len() * 8);
        json[bit / 8] ^= 1 << (bit % 8);
        let _ = Ticket::parse(&json);
    }
}

#[test]
fn a_ticket_is_read_as_it_is_documented() {
    let replay = br#" {"replay":{"topic":"orders","key":"o-17","where":"amount > 3"}}"#;
    let Request::Replay(found) = Ticket::parse(replay).expect("parses").request else { panic!("a replay") };
    assert_eq!((found.topic.as_str(), found.key.as_deref(), found.from), ("orders", Some("o-17"), None));

    let subscribe = br#"{"v":1,"subscribe":{"pattern":"orders/>","from":{"seq":17}},"compress":"lz4"}"#;
    let found = Ticket::parse(subscribe).expect("parses");
    assert_eq!(found.compress, Some(Compression::Lz4));
    let Request::Subscribe(found) = found.request else { panic!("a subscription") };
    assert_eq!((found.pattern.as_str(), found.from), ("orders/>", Start::Seq(17)));
    assert!(found.after.is_empty());
    let again = br#"{"subscribe":{"pattern":"*/eu/>","after":{"orders":{"0":17}}}}"#;
    let Request::Subscribe(again) = Ticket::parse(again).expect("parses").request else { panic!("a subscription") };
    let orders = TopicName::new("orders").expect("a name");
    assert_eq!(again.after.get(&orders), Some(&ShardSeqs::single(Seq(17))));

    let append = br#"{"append":{"topic":"orders","on_error":"dead-letter"}}"#;
    let Request::Append(found) = Ticket::parse(append).expect("parses").request else { panic!("an append") };
    assert_eq!(found.on_error, OnError::DeadLetter);
}

#[test]
fn a_bad_ticket_is_refused_with_a_word_on_what_is_wrong() {
    let deep = format!("{}{}", r#"{"replay":"#.repeat(100_000), "}".repeat(100_000));
    let big = format!(r#"{{"replay":{{"topic":"{}"}}}}"#, "a".repeat(limits::TICKET_BYTES_MAX));
    let long_key = format!(r#"{{"replay":{{"topic":"a","key":"{}"}}}}"#, "k".repeat(limits::KEY_BYTES_MAX + 1));
    let cases = [
        ("", "orders"),
        ("{}", "exactly one of"),
        (r#"{"replay":{"topic":"a"},"subscribe":{"pattern":">"}}"#, "exactly one of"),
        (r#"{"replay":{"topic":"a","kee":"x"}}"#, "kee"),
        (r#"{"replay":{"topic":"Not A Name"}}"#, "Not A Name"),
        (r#"{"replay":{}}"#, "topic"),
        (r#"{"reply":{"topic":"a"}}"#, "reply"),
        (r#"{"v":2,"replay":{"topic":"a"}}"#, "version 1, found 2"),
        (r#"{"replay":{"topic":"a","columns":[]}}"#, "columns"),
        (r#"{"append":{"topic":"a","on_error":"explode"}}"#, "explode"),
        (r#"{"append":{"topic":"a","producer_epoch":3}}"#, "expected a producer"),
        (&deep, "expected"),
        (&big, "at most"),
        (&long_key, "key of at most"),
    ];
    for (ticket, expected) in cases {
        let error = Ticket::parse(ticket.as_bytes()).expect_err("refused");
        assert!(error.to_string().contains(expected), "{error} does not say {expected:?}");
        assert_eq!(error.kind(), schemas::ErrorKind::Invalid);
    }
}
