//! What a hostile or broken client may send: a clear error, and the server goes on.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_with_a_word_on_what_could() {
    let mut here = Loop::start().await;
    for (ticket, code, word) in [
        (r#"{"replay":{"topic":"order"}}"#, Code::NotFound, "orders"),
        (r#"{"replay":{"topic":"orders","columns":["amuont"]}}"#, Code::NotFound, "amuont"),
        (r#"{"replay":{"topic":"orders","where":"amount >"}}"#, Code::InvalidArgument, "expression"),
        (r#"{"replay":{"topic":"orders"}"#, Code::InvalidArgument, "subscribe"),
        (r#"{"append":{"topic":"orders"}}"#, Code::InvalidArgument, "DoPut"),
        (r#"{"subscribe":{"pattern":""}}"#, Code::InvalidArgument, "pattern"),
        ("nonsense", Code::InvalidArgument, "replay"),
        ("", Code::InvalidArgument, "replay"),
    ] {
        let status = match here.get(ticket).await {
            Err(status) => status,
            Ok(stream) => match stream.try_collect::<Vec<_>>().await.expect_err(ticket) {
                FlightError::Tonic(status) => *status,
                other => panic!("{other}"),
            },
        };
        assert_eq!(status.code(), code, "{ticket}: {status}");
        assert!(status.message().contains(word), "{ticket}: {status}");
    }
    for (topic, code) in [("order", Code::NotFound), ("No Name", Code::InvalidArgument)] {
        assert_eq!(here.put(path(topic), vec![batch(0, 1)]).await.expect_err(topic).code(), code);
    }
    let wrong = RecordBatch::try_from_iter([("colour", Arc::new(StringArray::from(vec!["red"])) as ArrayRef)])
        .expect("a batch");
    let status = here.put(path("orders"), vec![wrong]).await.expect_err("other columns");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_anywhere_in_an_append_harm_nobody_else() {
    let mut here = Loop::start().await;
    let messages = encode(path("orders"), vec![batch(0, 8)]).await;
    for (message, part) in [(0, 0), (1, 0), (1, 1)] {
        let bytes = if part == 0 { &messages[message].data_header } else { &messages[message].data_body };
        for bit in (0..bytes.len() * 8).step_by(13) {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut messages = messages.clone();
            let place = if part == 0 { &mut messages[message].data_header } else { &mut messages[message].data_body };
            *place = flipped.into();
            if let Err(status) = here.put_messages(messages).await {
                assert_eq!(status.code(), Code::InvalidArgument, "message {message}, part {part}, bit {bit}: {status}");
            }
        }
    }
    let answers = here.put(path("orders"), vec![batch(0, 8)]).await.expect("the server goes on");
    assert_eq!(answers[0].accepted, 8);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_or_body_over_the_limit_is_refused_and_the_server_goes_on() {
    let mut here = Loop::start().await;
    let mut messages = encode(path("orders"), vec![batch(0, 1)]).await;
    messages[1].data_body = vec![0; schemas::limits::MESSAGE_BYTES_MAX + 1].into();
    let status = here.put_messages(messages).await.expect_err("too large");
    assert!(matches!(status.code(), Code::InvalidArgument | Code::OutOfRange | Code::Cancelled), "{status}");
    let big = "x".repeat(schemas::limits::TICKET_BYTES_MAX + 1);
    let status = here.act("create-topic", &json!({"name": big})).await.expect_err("too large");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(here.put(path("orders"), vec![batch(0, 8)]).await.expect("goes on")[0].accepted, 8);
    here.server.shutdown().await;
}
