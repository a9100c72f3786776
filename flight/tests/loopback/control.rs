//! Topics are made, listed, described, dropped.

use arrow::datatypes::Schema;
use arrow_flight::{Criteria, Empty};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_made_listed_described_and_dropped() {
    let mut here = Loop::empty().await;
    assert_eq!(here.act("list-topics", &json!({})).await.expect("a list"), Vec::<Value>::new());
    let made = here.act("create-topic", &orders("orders")).await.expect("a topic");
    assert_eq!((&made[0]["topic"], &made[0]["next_seq"]), (&json!("orders"), &json!({"0": 1})));
    let again = here.act("create-topic", &orders("orders")).await.expect("the same topic");
    assert_eq!(again[0]["id"], made[0]["id"]);
    let mut other = orders("orders");
    other["checks"] = json!([]);
    assert_eq!(kind(&here.act("create-topic", &other).await.expect_err("another definition")), "conflict");

    here.put(path("orders"), vec![batch(0, 5)]).await.expect("answers");
    here.act("flush", &json!({"topic": "orders"})).await.expect("a flush");
    here.put(path("orders"), vec![batch(5, 2)]).await.expect("answers");
    let described = here.act("describe-topic", &json!({"topic": "orders"})).await.expect("a description").remove(0);
    assert_eq!((&described["next_seq"], &described["watermark"]), (&json!({"0": 8}), &json!({"0": 6})));
    assert_eq!((&described["table"]["rows"], &described["table"]["files"]), (&json!(5), &json!(1)));
    assert_eq!(described["columns"][0], json!({"name": "_seq", "type": "Int64", "nullable": false}));
    assert!(described["table"]["metadata_uri"].as_str().expect("a uri").ends_with(".json"));

    here.act("drop-topic", &json!({"topic": "orders"})).await.expect("dropped");
    assert_eq!(here.act("list-topics", &json!({})).await.expect("a list"), Vec::<Value>::new());
    let gone = here.act("describe-topic", &json!({"topic": "orders"})).await.expect_err("gone");
    assert_eq!((gone.code(), kind(&gone)), (Code::NotFound, json!("not-found")));
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_tell_the_schema_the_ticket_and_the_number_of_events() {
    let mut here = Loop::start().await;
    here.put(path("orders"), vec![batch(0, 5)]).await.expect("answers");
    let listed: Vec<_> = here
        .client
        .list_flights(Criteria::default())
        .await
        .expect("flights")
        .into_inner()
        .try_collect()
        .await
        .expect("infos");
    let info = here.client.get_flight_info(path("orders")).await.expect("an info").into_inner();
    assert_eq!((listed.len(), &listed[0]), (1, &info));
    assert_eq!(info.total_records, 5);
    let ticket = info.endpoint[0].ticket.clone().expect("a ticket");
    let events = here.get(std::str::from_utf8(&ticket.ticket).expect("JSON")).await.expect("a stream");
    let events: Vec<_> = events.try_collect().await.expect("events");
    assert_eq!(longs(&events, "_seq"), [1, 2, 3, 4, 5]);
    assert_eq!(info.try_decode_schema().expect("a schema"), *events[0].schema());

    let columns = FlightDescriptor::new_cmd(r#"{"subscribe":{"pattern":"orders/>","columns":["amount","_key"]}}"#);
    let schema = here.client.get_schema(columns).await.expect("a schema").into_inner();
    let schema = Schema::try_from(schema).expect("decodes");
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["amount", "_key"]);
    let append = FlightDescriptor::new_cmd(r#"{"append":{"topic":"orders"}}"#);
    let schema = here.client.get_schema(append).await.expect("a schema").into_inner();
    assert_eq!(Schema::try_from(schema).expect("decodes").fields().len(), 3);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_that_is_listed_is_known() {
    let mut here = Loop::start().await;
    let actions: Vec<_> =
        here.client.list_actions(Empty {}).await.expect("actions").into_inner().try_collect().await.expect("actions");
    let names: std::collections::BTreeSet<_> = actions.iter().map(|action| action.r#type.as_str()).collect();
    assert!(
        names.len() == actions.len() && names.is_superset(&["alter-topic", "retain-topic", "tag-topic"].into()),
        "{names:?}"
    );
    for action in actions {
        if let Err(status) = here.client.do_action(Action::new(action.r#type, "{}")).await {
            assert_ne!(status.code(), Code::Unimplemented, "{status}");
        }
    }
    let health = here.act("health", &json!({})).await.expect("health");
    assert_eq!(health[0]["status"], "serving");
    here.server.shutdown().await;
}
