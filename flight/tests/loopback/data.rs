//! Append, replay, follow.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_event_can_be_replayed_followed_and_queried() {
    let mut here = Loop::start().await;
    let mut live = here.get(r#"{"subscribe":{"pattern":"orders/eu","from":"beginning"}}"#).await.expect("a stream");
    let answers = here.put(path("orders"), vec![batch(0, 6), batch(6, 4)]).await.expect("answers");
    let seqs: Vec<_> =
        answers.iter().map(|answer| (answer.first_seq.map(|s| s.0), answer.last_seq.map(|s| s.0))).collect();
    assert_eq!(seqs, [(Some(1), Some(6)), (Some(7), Some(10))]);
    assert!(answers.iter().all(|answer| answer.refused.is_empty()));

    let replay = here.get(r#"{"replay":{"topic":"orders","key":"o-1"}}"#).await.expect("a stream");
    let events: Vec<_> = replay.try_collect().await.expect("events");
    assert_eq!((longs(&events, "_seq"), longs(&events, "amount")), (vec![2, 5, 8], vec![1, 4, 7]));

    let mut followed = Vec::new();
    while followed.len() < 5 {
        let batch = live.next().await.expect("goes on").expect("a batch");
        followed.extend(longs(&[batch], "amount"));
    }
    assert_eq!(followed, [0, 2, 4, 6, 8]);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_whole_before_and_after_a_flush_plain_and_compressed() {
    let mut here = Loop::start().await;
    here.put(path("orders"), vec![batch(0, 1_000)]).await.expect("answers");
    here.act("flush", &json!({"topic": "orders"})).await.expect("a flush");
    here.put(path("orders"), vec![batch(1_000, 1_000)]).await.expect("answers");
    let all: Vec<i64> = (1..=2_000).collect();
    for ticket in [r#"{"replay":{"topic":"orders"}}"#, r#"{"replay":{"topic":"orders"},"compress":"lz4"}"#] {
        let events: Vec<_> = here.get(ticket).await.expect("a stream").try_collect().await.expect("events");
        assert_eq!(longs(&events, "_seq"), all);
    }
    let ticket = r#"{"replay":{"topic":"orders","from":990,"to":1010,"columns":["amount"],"where":"amount % 2 = 0"}}"#;
    let events: Vec<_> = here.get(ticket).await.expect("a stream").try_collect().await.expect("events");
    assert_eq!(longs(&events, "amount"), (990..1009).step_by(2).collect::<Vec<_>>());
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_are_named_and_the_stream_goes_on() {
    let mut here = Loop::start().await;
    let bad = batch(-2, 4);
    let answers = here.put(path("orders"), vec![bad.clone(), batch(0, 2)]).await.expect("answers");
    let rows = |answer: &BatchResult| answer.refused.iter().map(|refusal| refusal.row).collect::<Vec<_>>();
    assert_eq!((answers[0].accepted, rows(&answers[0])), (0, vec![0, 1]));
    assert_eq!((answers[1].accepted, rows(&answers[1])), (2, vec![]));

    let by_row = FlightDescriptor::new_cmd(r#"{"append":{"topic":"orders","on_error":"reject-row"}}"#);
    let answers = here.put(by_row, vec![bad.clone()]).await.expect("answers");
    assert_eq!((answers[0].accepted, rows(&answers[0])), (2, vec![0, 1]));
    assert!(answers[0].refused[0].reason.contains("amount"), "{:?}", answers[0].refused);

    let dead =
        FlightDescriptor::new_cmd(r#"{"append":{"topic":"orders","on_error":"dead-letter","producer":"till-1"}}"#);
    let answers = here.put(dead, vec![bad]).await.expect("answers");
    assert_eq!((answers[0].accepted, rows(&answers[0])), (2, vec![0, 1]));
    let letters = here.get(r#"{"replay":{"topic":"orders_dead"}}"#).await.expect("a stream");
    let letters: Vec<_> = letters.try_collect().await.expect("letters");
    assert_eq!(longs(&letters, "_seq"), [1, 2]);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_writes_everything_before_it_reads_anything_is_served() {
    let mut here = Loop::start().await;
    let batches = (0..3_000).map(|at| batch(at, 1)).collect();
    let messages = encode(path("orders"), batches).await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answers = here.client.do_put(outgoing);
    let write = async {
        for message in messages {
            sender.send(message).await.expect("the server reads on");
        }
        drop(sender);
    };
    let (answers, ()) = tokio::join!(answers, write);
    let answers: Vec<_> = answers.expect("a stream").into_inner().try_collect().await.expect("answers");
    assert_eq!(answers.len(), 3_000);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_dictionaries_and_compression_are_taken() {
    use arrow::array::DictionaryArray;
    use arrow::datatypes::Int32Type;
    use arrow_flight::encode::DictionaryHandling;
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::IpcWriteOptions;

    let mut here = Loop::start().await;
    let plain = batch(0, 10);
    let regions: DictionaryArray<Int32Type> = plain["region"].as_string::<i32>().iter().flatten().collect();
    let same = |name: &str| (name.to_owned(), Arc::clone(&plain[name]));
    let columns = [("region".to_owned(), Arc::new(regions) as ArrayRef), same("amount"), same("id")];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).expect("zstd");
    let messages = FlightDataEncoderBuilder::new()
        .with_options(options)
        .with_dictionary_handling(DictionaryHandling::Resend)
        .with_flight_descriptor(Some(path("orders")))
        .build(futures::stream::iter([Ok(batch)]))
        .try_collect()
        .await
        .expect("encodes");
    let answers = here.put_messages(messages).await.expect("answers");
    assert_eq!(answers[0].accepted, 10, "{answers:?}");
    here.server.shutdown().await;
}
