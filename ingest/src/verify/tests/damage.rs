//! What no owner did.

use catalog::audit::laws;
use serde_json::{Value, json};

use super::super::*;
use super::site::{Site, append, create, files, shutdown, tenant, trimmed, unflushed};
use crate::lane::root::read;
use crate::lane::{Position, segment_path};
use crate::testing::{name, valid_orders};
use crate::wal::{Frame, FrameKind, Segment, encode_body, segment};

const ROOT: &str = "lanes/0/root.json";

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_anywhere_in_the_log_or_its_registers_is_found_and_the_object_named() {
    let site = Site::loaded().await;
    let segments = files(&site.file("lanes/0/w"));
    assert_eq!(segments.len(), 7);
    flip_everywhere(&site, segments).await;
    shutdown(site.open(unflushed()).await).await;
    let checkpoint = files(&site.file("lanes/0/c")).pop().unwrap();
    let (root, topic) = (site.register(ROOT), site.register("tenants/default/topics/orders.json"));
    flip_everywhere(&site, vec![checkpoint, root, topic]).await;
    site.proven().await;
}

async fn flip_everywhere(site: &Site, objects: Vec<std::path::PathBuf>) {
    for path in objects {
        let whole = std::fs::read(&path).unwrap();
        for step in 0..12 {
            let at = step * (whole.len() - 1) / 11;
            let mut spoilt = whole.clone();
            spoilt[at] ^= 1 << (step % 8);
            std::fs::write(&path, spoilt).unwrap();
            let fault = site.fault().await;
            assert!(path.to_str().unwrap().contains(&fault.object), "{} at byte {at}: {fault}", path.display());
        }
        std::fs::write(&path, whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_gone_cut_short_or_in_anothers_place_is_named() {
    let site = Site::loaded().await;
    let path = site.file("lanes/0/w/1/2");
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.object.as_str(), fault.found.as_str()), (laws::UNBROKEN, "lanes/0/w/1/2", "none"));

    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert_eq!((site.fault().await.law, site.fault().await.object.as_str()), (laws::INTACT, "lanes/0/w/1/2"));

    std::fs::copy(site.file("lanes/0/w/1/3"), &path).unwrap();
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.object.as_str(), fault.place.as_str()), (laws::LINKED, "lanes/0/w/1/2", "header"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_was_removed_is_found_above_the_floor_and_below_it() {
    let site = Site::loaded().await;
    let seal = site.file("lanes/0/w/1/4");
    std::fs::rename(&seal, site.file("aside")).unwrap();
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.object.as_str()), (laws::UNBROKEN, "lanes/0/w/1/4"));
    std::fs::rename(site.file("aside"), &seal).unwrap();

    shutdown(site.open(trimmed()).await).await;
    let root = read(&site.store().await, LaneId(0)).await.unwrap().unwrap().0;
    let last = root.closed.last().unwrap();
    assert!(root.floor.epoch > last.epoch, "everything was trimmed");
    site.proven().await;
    std::fs::remove_file(site.file(&format!("lanes/0/w/{}/{}", last.epoch, last.seal_slot))).unwrap();
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.expected.as_str()), (laws::UNBROKEN, "the SEAL of its epoch"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_gone_or_from_the_future_is_found() {
    let site = Site::loaded().await;
    shutdown(site.open(unflushed()).await).await;
    let checkpoint = files(&site.file("lanes/0/c")).pop().unwrap();
    let whole = std::fs::read(&checkpoint).unwrap();
    std::fs::remove_file(&checkpoint).unwrap();
    assert_eq!(site.fault().await.law, laws::FLOOR);
    std::fs::write(&checkpoint, whole).unwrap();
    site.edit(ROOT, |root| root["checkpoint"]["at"]["epoch"] = json!(99)).await;
    assert_eq!((site.fault().await.law, site.fault().await.place.as_str()), (laws::LINKED, "checkpoint"));

    // One of a place that the log has not come to, whole and rightly named.
    let site = Site::loaded().await;
    let store = site.store().await;
    let (root, _) = read(&store, LaneId(0)).await.unwrap().unwrap();
    let at = Position { epoch: root.epoch, slot: schemas::Slot(50), ..root.floor };
    let mut log = LogAudit::begin(&store, LaneId(0)).await.unwrap();
    log.walk().await.unwrap();
    let named = crate::lane::checkpoint::write(&store, &Env::system(), LaneId(0), at, log.state()).await.unwrap().0;
    site.edit(ROOT, |root| root["checkpoint"] = serde_json::to_value(&named).unwrap()).await;
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.object.as_str()), (laws::UNBROKEN, "lanes/0/w/2/2"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_that_passed_events_which_are_nowhere_else_is_found() {
    let site = Site::loaded().await;
    let engine = site.open(unflushed()).await;
    append(&engine, "orders", 41..43).await;
    let store = site.store().await;
    let mut log = LogAudit::begin(&store, LaneId(0)).await.unwrap();
    log.walk().await.unwrap();
    let named = crate::lane::checkpoint::write(&store, &Env::system(), LaneId(0), log.at, log.state()).await.unwrap().0;
    site.edit(ROOT, |root| {
        root["floor"] = serde_json::to_value(log.at).unwrap();
        root["checkpoint"] = serde_json::to_value(&named).unwrap();
    })
    .await;
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.found.as_str()), (laws::KEPT, "it nowhere"), "{fault}");
    assert!(fault.place.ends_with("seq 36"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_goes_back_is_found() {
    let site = Site::loaded().await;
    site.edit(ROOT, |root| root["epoch"] = json!(1)).await;
    assert_eq!(site.fault().await.law, laws::LINKED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_rows_are_not_those_of_the_table_is_found() {
    let site = Site::loaded().await;
    let store = site.store().await;
    // The log's end is taken away, and the flushed segment before it told anew with one amount otherwise: nothing after it could say so.
    std::fs::remove_file(site.file("lanes/0/w/2/1")).unwrap();
    let path = segment_path(LaneId(0), schemas::Epoch(2), schemas::Slot(0));
    let there = Segment::decode(&store.read_segment(&path).await.unwrap().unwrap()).unwrap();
    let (_, def) =
        Topics::new(store.clone(), Env::system()).registered(&tenant(), &name("orders")).await.unwrap().unwrap();
    let rows = valid_orders(&Arc::new(def), [31, 32, 99, 34, 35]);
    let (payload, columns) = encode_body(&rows.body).unwrap();
    let told = |frame: &Frame| match frame.kind {
        FrameKind::Events => Frame { payload: payload.clone(), columns, ..frame.clone() },
        _ => frame.clone(),
    };
    let frames: Vec<Frame> = there.frames.iter().map(told).collect();
    std::fs::write(site.file(path.as_ref()), segment::encode(there.place, there.nonce, &frames).bytes).unwrap();
    let fault = site.fault().await;
    assert_eq!(
        (fault.law, fault.object.as_str(), fault.place.as_str()),
        (laws::SAME, path.as_ref(), "seqs 31 to before 36"),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_its_table_is_found() {
    let site = Site::loaded().await;
    for slot in [0, 1] {
        std::fs::remove_file(site.file(&format!("lanes/0/w/2/{slot}"))).unwrap();
    }
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.found.as_str()), (laws::KEPT, "its end before seq 31"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_went_back_behind_what_the_lane_has_seen_is_found() {
    let site = Site::new();
    let engine = site.open(trimmed()).await;
    create(&engine, "orders").await;
    append(&engine, "orders", 1..11).await;
    engine.flush(&tenant(), None).await.unwrap();
    let before: Value = site.read("tenants/default/tables/orders.json").await;
    append(&engine, "orders", 11..21).await;
    shutdown(engine).await;
    site.edit("tenants/default/tables/orders.json", |pointer| pointer["metadata"] = before["metadata"].clone()).await;
    assert_eq!(site.fault().await.law, laws::AGREED);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_topics_whose_tables_or_registers_were_exchanged_are_found() {
    for registers in ["tables", "topics"] {
        let site = Site::loaded().await;
        let engine = site.open(unflushed()).await;
        create(&engine, "returns").await;
        shutdown(engine).await;
        let place = |name: &str| format!("tenants/default/{registers}/{name}.json");
        let (orders, returns) = (site.read(&place("orders")).await, site.read(&place("returns")).await);
        site.edit(&place("orders"), |document| *document = returns).await;
        site.edit(&place("returns"), |document| *document = orders).await;
        assert_eq!(site.fault().await.law, laws::IDENTITY, "{registers}");
        let wrong = site.all().await.iter().filter(|report| matches!(report.verdict, Verdict::Fault(_))).count();
        assert!(wrong >= 2, "both are found, {registers}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_whose_register_is_gone_is_found_among_all() {
    let site = Site::loaded().await;
    std::fs::rename(site.file("tenants/default/topics/orders.json"), site.file("aside")).unwrap();
    let reports = site.all().await;
    let Verdict::Fault(fault) = &reports[0].verdict else { panic!("{reports:?}") };
    assert_eq!((fault.law, fault.object.as_str()), (laws::IDENTITY, "tenants/default/topics/orders.json"));
}
