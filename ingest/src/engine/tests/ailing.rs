//! What ails one topic, or one object, is named, and stops nothing else.

use super::*;

fn healthy() -> TopicSpec {
    TopicSpec { name: name("healthy"), path: None, ..spec() }
}

async fn append_to_healthy(engine: &Engine) -> Result<Receipt> {
    let mut producer = engine.appender(&tenant(), &name("healthy"), AppendOptions::default()).await?;
    producer.submit(order_rows(1..2), Terms::default()).await?.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_flushed_table_is_gone_stops_alone() {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await;
    std::fs::remove_dir_all(site.folder.path().join("tenants/default/tables/orders.json")).unwrap();

    let engine = site.unflushed().await;
    let error = append(&engine, 3..4).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    let error = view(&engine, "orders").await.unwrap_err();
    assert!(error.to_string().contains("cannot be read: topic orders: events below seq 3 were flushed"), "{error}");
    assert_eq!(append_to_healthy(&engine).await.unwrap().first_seq, Some(Seq(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_topic_whose_register_is_damaged_stops_nothing() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), healthy()).await.unwrap();
    engine.host.lane(LANE).unwrap().ask(|answer| Command::Drop { topic: def.id, answer }).await.unwrap();
    drop(engine);
    let register = site.folder.path().join("tenants/default/topics/orders.json");
    for revision in files(&register) {
        std::fs::write(revision, "rot").unwrap();
    }

    let engine = site.unflushed().await;
    assert_eq!(append_missing(&engine).await, ErrorKind::NotFound);
    assert_eq!(append_to_healthy(&engine).await.unwrap().first_seq, Some(Seq(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_lost_below_the_checkpoint_is_named_and_not_sealed_over() {
    let site = Site::new();
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let engine = site.open(settings.clone()).await.unwrap();
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    for first in 1..6 {
        append(&engine, first..first + 1).await.unwrap();
    }
    let checkpoints = site.folder.path().join("lanes/0/c");
    // The flush of the shutdown fails for want of a folder; the checkpoint is written, and the floor stays.
    let data = site.folder.path().join(format!("warehouse/{}/{}/data", def.tenant, def.id));
    std::fs::write(&data, "in the way").unwrap();
    engine.shutdown(Duration::from_millis(200)).await;
    assert_eq!(files(&checkpoints).len(), 1);
    std::fs::remove_file(&data).unwrap();
    let lost = site.folder.path().join("lanes/0/w/1/3");
    let bytes = std::fs::read(&lost).unwrap();
    std::fs::remove_file(&lost).unwrap();

    for _ in 0..2 {
        let error = site.open(settings.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("lanes/0/w/1/3 is missing below"), "{error}");
    }
    std::fs::write(&lost, bytes).unwrap();
    let engine = site.open(settings).await.unwrap();
    assert_eq!(amounts(&engine), (1..6).map(|seq| (seq, seq as i32)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_the_store_interrupted_is_finished_when_the_name_is_wanted() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let old = engine.create_topic(&tenant(), spec()).await.unwrap();
    append(&engine, 1..3).await.unwrap();
    // A folder where the register's next revision should be: it can neither be read nor changed.
    let in_the_way = site.folder.path().join("tenants/default/tables/orders.json/0000000002.json");
    std::fs::create_dir(&in_the_way).unwrap();
    let error = engine.drop_topic(&tenant(), &name("orders")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate, "it is dropped all the same: {error}");
    let error = engine.create_topic(&tenant(), spec()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    engine.create_topic(&tenant(), healthy()).await.expect("another name waits for nothing");

    std::fs::remove_dir(&in_the_way).unwrap();
    let new = engine.create_topic(&tenant(), spec()).await.unwrap();
    assert_ne!(old.id, new.id);
    assert_eq!(append(&engine, 7..8).await.unwrap().first_seq, Some(Seq(1)));
    drop(engine);
    assert_eq!(amounts(&site.unflushed().await), [(1, 7)]);
}
