//! From start to drain.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

async fn page(server: &Server, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.http_addr()).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: firn\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_are_told_on_both_ports() {
    let mut here = Loop::start().await;
    here.put(path("orders"), vec![batch(0, 7)]).await.expect("answers");
    let mut health = HealthClient::new(here.channel.clone());
    let status = health.check(HealthCheckRequest::default()).await.expect("health").into_inner().status;
    assert_eq!(status, tonic_health::ServingStatus::Serving as i32);
    assert_eq!(page(&here.server, "/health").await.0, 200);
    let (status, ready) = page(&here.server, "/ready").await;
    assert_eq!(status, 200);
    assert!(ready.contains(r#""status":"serving""#) && ready.contains(r#""epoch":1"#), "{ready}");
    assert!(page(&here.server, "/version").await.1.contains(env!("CARGO_PKG_VERSION")));
    let (status, metrics) = page(&here.server, "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("firn_append_events_total"), "{metrics}");
    assert_eq!(page(&here.server, "/nothing").await.0, 404);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_acknowledges_what_is_under_way_and_bids_subscribers_farewell() {
    let mut here = Loop::start().await;
    let mut live = here.get(r#"{"subscribe":{"pattern":"orders/>"}}"#).await.expect("a stream");
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    for message in encode(path("orders"), vec![batch(0, 3)]).await {
        sender.send(message).await.expect("sent");
    }
    let mut answers =
        here.client.do_put(tokio_stream::wrappers::ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
    answers.next().await.expect("an answer").expect("accepted");
    here.server.shutdown().await;
    let farewell = answers.next().await.expect("a farewell").expect_err("a status");
    assert_eq!((farewell.code(), kind(&farewell)), (Code::Unavailable, json!("unavailable")));
    let farewell = loop {
        match live.next().await.expect("a farewell") {
            Ok(_) => {}
            Err(FlightError::Tonic(status)) => break status,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(farewell.code(), Code::Unavailable);
    drop(sender);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_reported_before_anyone_is_fenced() {
    let mut here = Loop::start().await;
    let mut config = ServerConfig::default();
    config.store.url = here._folder.path().to_str().expect("utf-8").to_owned();
    config.server.flight = here.server.flight_addr();
    config.server.http.set_port(0);
    let error = Box::pin(Server::start(config, Env::system())).await.expect_err("the port is taken");
    assert!(error.to_string().contains("gRPC address"), "{error}");
    assert_eq!(here.put(path("orders"), vec![batch(0, 3)]).await.expect("still the owner")[0].accepted, 3);
    here.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_fenced_stands_by_and_names_the_owner_to_writers() {
    let mut here = Loop::start().await;
    let mut config = ServerConfig::default();
    config.store.url = here._folder.path().to_str().expect("utf-8").to_owned();
    config.server.flight.set_port(0);
    config.server.http.set_port(0);
    config.ingest.take_over = true;
    let other = Box::pin(Server::start(config, Env::system())).await.expect("takes over");
    let owner = format!("grpc://{}", other.flight_addr());
    let status = here.put(path("orders"), vec![batch(0, 3)]).await.expect_err("fenced");
    assert!(matches!(kind(&status).as_str(), Some("fenced" | "indeterminate")), "{status}");
    let detail = loop {
        let status = here.put(path("orders"), vec![batch(0, 3)]).await.expect_err("fenced");
        let detail = status.metadata().get(flight::status::DETAIL_KEY).expect("a detail").to_str().expect("ascii");
        let detail: Value = serde_json::from_str(detail).expect("JSON");
        if detail["owner"] != Value::Null {
            break detail;
        }
    };
    assert_eq!((&detail["reason"], &detail["owner"]), (&json!("not-owner"), &json!(owner)));
    let info = here.client.get_flight_info(path("orders")).await.expect("an info").into_inner();
    assert_eq!(info.endpoint[0].location[0].uri, owner);
    let (status, ready) = page(&here.server, "/ready").await;
    assert_eq!(status, 200, "it answers reads: {ready}");
    assert!(ready.contains(r#""role":"standby""#), "{ready}");
    here.act("take-over", &json!({})).await.expect("takes it back");
    assert_eq!(here.put(path("orders"), vec![batch(0, 3)]).await.expect("the owner again")[0].accepted, 3);
    other.shutdown().await;
    here.server.shutdown().await;
}
