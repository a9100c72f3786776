use arrow::array::{ArrayRef, Int64Array, StringArray};
use serde_json::{Value, json};

use super::*;

fn place(request: &Value) -> Place {
    Place::of(Ticket::parse(request.to_string().as_bytes()).unwrap().request)
}

fn asked(place: &Place) -> Value {
    serde_json::from_slice(&place.ticket().to_json()).unwrap()
}

fn batch(events: &[(i64, &str)]) -> RecordBatch {
    let amounts: ArrayRef = Arc::new(Int64Array::from_iter_values(events.iter().map(|(seq, _)| 10 * seq)));
    let seqs: ArrayRef = Arc::new(Int64Array::from_iter_values(events.iter().map(|(seq, _)| *seq)));
    let paths: ArrayRef = Arc::new(StringArray::from_iter_values(events.iter().map(|(_, path)| *path)));
    RecordBatch::try_from_iter([("amount", amounts), ("_seq", seqs), ("_path", paths)]).unwrap()
}

fn topics(found: &[(&str, u128, i64)]) -> Vec<(TopicName, TopicId, ShardSeqs)> {
    let topic = |(name, id, next): &(&str, u128, i64)| {
        let id = serde_json::from_value(json!(format!("00000000-0000-0000-0000-{id:012}"))).unwrap();
        (TopicName::new(*name).unwrap(), id, ShardSeqs::single(Seq(*next)))
    };
    found.iter().map(topic).collect()
}

#[test]
fn a_replay_goes_on_after_what_came_and_ends_where_it_was_to_end() {
    let mut place = place(&json!({"replay": {"topic": "orders", "to": 18, "columns": ["amount"]}}));
    assert_eq!(asked(&place)["replay"]["columns"], json!(["amount", "_seq"]));
    let shown = place.pass(batch(&[(3, "orders/eu"), (16, "orders/us")])).unwrap();
    assert_eq!(shown.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["amount"]);
    assert_eq!(asked(&place)["replay"]["from"], 17);
    assert!(!place.is_complete());
    place.pass(batch(&[(17, "orders/eu")])).unwrap();
    assert!(place.is_complete(), "nothing is asked for that is none");
}

#[test]
fn a_subscription_goes_on_in_each_topic_after_what_came_of_it() {
    let mut place = place(&json!({"subscribe": {"pattern": "*/eu", "from": "beginning"}}));
    let all = batch(&[(3, "orders/eu"), (4, "orders/eu"), (1, "returns/eu"), (9, "orders/eu")]);
    assert_eq!(place.pass(all.clone()).unwrap(), all, "all columns were asked for");
    assert_eq!(asked(&place)["subscribe"]["after"], json!({"orders": {"0": 9}, "returns": {"0": 1}}));
    assert_eq!(place.to_string(), "after seq 9");
}

#[test]
fn now_is_a_place_from_the_first_server_on() {
    let mut place = place(&json!({"subscribe": {"pattern": "*/eu", "from": "now"}}));
    place.recognise(topics(&[("orders", 1, 18), ("returns", 2, 1)])).unwrap();
    let first = asked(&place);
    assert_eq!(first["subscribe"]["after"], json!({"orders": {"0": 17}, "returns": {"0": 0}}));
    place.recognise(topics(&[("orders", 1, 40), ("returns", 2, 5), ("later", 3, 5)])).unwrap();
    assert_eq!(asked(&place), first, "what came to an end meanwhile was not seen");
}

#[test]
fn a_topic_that_was_made_again_is_not_taken_for_the_one_that_was_read() {
    let mut one = place(&json!({"subscribe": {"pattern": "orders/>", "from": "now"}}));
    one.recognise(topics(&[("orders", 1, 18)])).unwrap();
    one.recognise(topics(&[("orders", 1, 20)])).unwrap();
    assert!(one.recognise(topics(&[("orders", 7, 3)])).unwrap_err().to_string().contains("made again"));

    let mut many = place(&json!({"subscribe": {"pattern": ">", "from": "now"}}));
    many.recognise(topics(&[("orders", 1, 18), ("returns", 2, 6)])).unwrap();
    many.recognise(topics(&[("orders", 7, 3), ("returns", 2, 6)])).unwrap();
    assert_eq!(asked(&many)["subscribe"]["after"], json!({"returns": {"0": 5}}), "it begins anew, the others go on");
}
