//! The files of a dropped topic go, once nobody can be reading them, whatever cuts that short.

use super::*;

fn graceful(grace_ms: u64) -> Settings {
    Settings { dropped_grace_ms: grace_ms, ..unflushed() }
}

/// Makes `orders` with events in its table; where its files lie.
async fn made(site: &Site, engine: &Engine) -> (TopicId, PathBuf) {
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    append(engine, 1..4).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    (def.id, site.folder.path().join(format!("warehouse/{}/{}", def.tenant, def.id)))
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing has come of it within half a minute");
}

/// Dropped topics that the newest checkpoint names.
fn dropped_in_checkpoint(site: &Site) -> usize {
    let checkpoint = files(&site.folder.path().join("lanes/0/c")).pop().expect("a checkpoint");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(checkpoint).unwrap()).unwrap();
    document["dropped"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_dropped_topic_stay_for_those_who_read_them_and_then_go_and_its_name_is_another_topics() {
    let site = Site::new();
    let engine = site.open(graceful(1_500)).await.unwrap();
    let (_, old) = made(&site, &engine).await;
    let planned = view(&engine, "orders").await.unwrap();
    let file = planned.table().files().await.unwrap().files()[0].path.clone();
    engine.drop_topic(&tenant(), &name("orders")).await.unwrap();
    assert!(site.folder.path().join(file.as_ref()).exists(), "whoever has planned on it reads it");
    let (_, new) = made(&site, &engine).await;
    until(async || !old.exists()).await;
    assert!(!files(&new).is_empty());
    append(&engine, 4..5).await.unwrap();
    engine.flush(&tenant(), None).await.unwrap();
    assert_eq!(view(&engine, "orders").await.unwrap().watermark(), schemas::Watermark(Seq(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_dropped_topic_outlives_restarts_and_crashes_until_nothing_is_left() {
    let site = Site::new();
    let engine = site.open(graceful(3_600_000)).await.unwrap();
    let (_, old) = made(&site, &engine).await;
    engine.drop_topic(&tenant(), &name("orders")).await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await;
    assert_eq!(dropped_in_checkpoint(&site), 1, "the log no longer says it");
    assert_eq!(site.segments().len(), 0);
    // A crash: nothing more is said to anybody.
    drop(site.open(graceful(3_600_000)).await.unwrap());
    assert!(!files(&old).is_empty());

    let engine = site.open(graceful(2_000)).await.unwrap();
    until(async || files(&old).is_empty()).await;
    // A flush that slept until now.
    std::fs::create_dir_all(old.join("data")).unwrap();
    std::fs::write(old.join("data/late.parquet"), "late").unwrap();
    until(async || !old.exists()).await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.shutdown(Duration::from_secs(10)).await;
    assert_eq!(dropped_in_checkpoint(&site), 0, "nothing is left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_could_not_be_let_go_at_the_start_stops_nothing_and_is_let_go_later() {
    let site = Site::new();
    let engine = site.unflushed().await;
    let def = engine.create_topic(&tenant(), spec()).await.unwrap();
    engine.create_topic(&tenant(), TopicSpec { name: name("healthy"), path: None, ..spec() }).await.unwrap();
    // A folder where the register's next revision should be: it can neither be read nor changed.
    let in_the_way = site.folder.path().join("tenants/default/tables/orders.json/0000000002.json");
    std::fs::create_dir(&in_the_way).unwrap();
    engine.host.lane(LANE).unwrap().ask(|answer| Command::Drop { topic: def.id, answer }).await.unwrap();
    drop(engine);
    let engine = site.unflushed().await;
    let mut producer = engine.appender(&tenant(), &name("healthy"), AppendOptions::default()).await.unwrap();
    producer.submit(order_rows(1..2), Terms::default()).await.unwrap().await.unwrap();
    assert_eq!(append_missing(&engine).await, ErrorKind::NotFound);

    std::fs::remove_dir(&in_the_way).unwrap();
    until(async || engine.create_topic(&tenant(), spec()).await.is_ok_and(|new| new.id != def.id)).await;
    assert_eq!(append(&engine, 7..8).await.unwrap().first_seq, Some(Seq(1)));
}
