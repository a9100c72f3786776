//! What ails one topic at a process that follows a lane is said to who reads that topic, and delays no other.

use super::*;

fn node(number: u32) -> Settings {
    let advertise = Some(format!("grpc://node-{number}"));
    Settings { advertise, heartbeat_ms: 20, silence_ms: 3_600_000, ..unflushed() }
}

fn healthy() -> TopicSpec {
    TopicSpec { name: name("healthy"), path: None, ..spec() }
}

async fn append_to(engine: &Engine, topic: &str, amounts: std::ops::Range<i32>) -> Receipt {
    let mut producer = engine.appender(&tenant(), &name(topic), AppendOptions::default()).await.unwrap();
    producer.submit(order_rows(amounts), Terms::default()).await.unwrap().await.unwrap()
}

/// An owner with some events in two topics.
async fn owner(site: &Site) -> Engine {
    let engine = site.open(node(1)).await.unwrap();
    for topic in [spec(), healthy()] {
        let topic = engine.create_topic(&tenant(), topic).await.unwrap();
        append_to(&engine, topic.name.as_str(), 1..4).await;
    }
    engine.flush(&tenant(), None).await.unwrap();
    append_to(&engine, "orders", 4..6).await;
    engine
}

/// The newest revision of the register of the table of `orders`.
fn register(site: &Site) -> PathBuf {
    let mut revisions = files(&site.folder.path().join("tenants/default/tables/orders.json"));
    revisions.sort();
    revisions.pop().unwrap()
}

/// Readers see events up to this seq.
async fn end(engine: &Engine, topic: &str) -> Seq {
    engine.catch_up().await.unwrap();
    view(engine, topic).await.unwrap().end()
}

/// Room is made by one look at the log, and used by the next.
async fn catches_up(engine: &Engine) {
    for _ in 0..100 {
        if engine.catch_up().await.is_ok() {
            return;
        }
    }
    panic!("{:?}", engine.catch_up().await.unwrap_err());
}

async fn becomes_readable(engine: &Engine) {
    for _ in 0..200 {
        if view(engine, "orders").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", view(engine, "orders").await.unwrap_err());
}

/// A standby over a store in which the register of a table is damaged as `damage` says, until the register is as it was.
async fn a_damaged_register(damage: impl Fn(&Path), kind: ErrorKind) {
    let site = Site::new();
    let first = owner(&site).await;
    let register = register(&site);
    let bytes = std::fs::read(&register).unwrap();
    damage(&register);

    let second = site.open(node(2)).await.unwrap();
    assert_eq!(end(&second, "healthy").await, Seq(4), "neighbours are not delayed");
    let error = view(&second, "orders").await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains("topic orders cannot be read at this server for now: its table"), "{error}");
    let status = second.topic_status(&second.topic(&tenant(), &name("orders")).unwrap());
    assert_eq!(status.unreadable, Some(error.to_string()));
    append_to(&first, "healthy", 4..9).await;
    append_to(&first, "orders", 6..9).await;
    assert_eq!(end(&second, "healthy").await, Seq(9));

    if register.is_dir() {
        std::fs::remove_dir(&register).unwrap();
    }
    std::fs::write(&register, bytes).unwrap();
    becomes_readable(&second).await;
    assert_eq!(end(&second, "orders").await, Seq(9), "as if nothing had been");
    assert_eq!(second.topic_status(&second.topic(&tenant(), &name("orders")).unwrap()), TopicStatus::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_tables_register_is_damaged_is_there_at_a_standby_says_why_and_is_opened_later() {
    a_damaged_register(|register| std::fs::write(register, "rot").unwrap(), ErrorKind::Corrupt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_tables_register_cannot_be_read_is_there_at_a_standby_says_why_and_is_opened_later() {
    let in_the_way = |register: &Path| {
        std::fs::remove_file(register).unwrap();
        std::fs::create_dir(register).unwrap();
    };
    a_damaged_register(in_the_way, ErrorKind::Unavailable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_readable_at_a_standby_does_not_fill_its_room() {
    let site = Site::new();
    let first = owner(&site).await;
    let register = register(&site);
    let bytes = std::fs::read(&register).unwrap();
    std::fs::write(&register, "rot").unwrap();
    let second = site.open(Settings { tail_bytes_max: 512 << 10, ..node(2) }).await.unwrap();
    for _ in 0..8 {
        append_to(&first, "orders", 1..4_000).await;
    }
    append_to(&first, "healthy", 4..9).await;
    catches_up(&second).await;
    assert_eq!(end(&second, "healthy").await, Seq(9), "what cannot be read takes no room from the others");
    view(&second, "orders").await.unwrap_err();

    std::fs::write(&register, bytes).unwrap();
    first.flush(&tenant(), Some(&name("orders"))).await.unwrap();
    becomes_readable(&second).await;
    append_to(&first, "orders", 1..2).await;
    assert_eq!(end(&second, "orders").await, end(&first, "orders").await, "from where it could be opened again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_standby_had_no_room_for_is_read_from_the_log_when_it_becomes_the_owner() {
    let site = Site::new();
    let first = owner(&site).await;
    let second = site.open(Settings { tail_bytes_max: 512 << 10, ..node(2) }).await.unwrap();
    assert_eq!(end(&second, "orders").await, Seq(6));
    let register = register(&site);
    let bytes = std::fs::read(&register).unwrap();
    std::fs::write(&register, "rot").unwrap();
    for _ in 0..8 {
        append_to(&first, "orders", 1..4_000).await;
    }
    append_to(&first, "healthy", 4..9).await;
    catches_up(&second).await;
    assert_eq!(end(&second, "healthy").await, Seq(9));
    let error = view(&second, "orders").await.unwrap_err();
    // Why it was let go, or, if its table was looked at since, what is wrong with that.
    assert!(matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Corrupt), "{error}");

    std::fs::write(&register, bytes).unwrap();
    second.take_over(None).await.unwrap();
    let all = view(&second, "orders").await.unwrap();
    assert_eq!((all.watermark(), all.end()), (schemas::Watermark(Seq(4)), Seq(6 + 8 * 3_999)));
    assert_eq!(all.tail().iter().map(|batch| batch.num_rows()).sum::<usize>(), 2 + 8 * 3_999);
}
