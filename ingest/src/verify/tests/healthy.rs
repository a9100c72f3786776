//! Stores that were only used.

use super::super::*;
use super::site::{Site, append, create, shutdown, tenant, trimmed, unflushed};
use crate::testing::name;

fn held(report: &Report, what: &str) -> u64 {
    report.checks.iter().filter(|check| check.what == what).map(|check| check.count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_and_a_table_that_overlap_are_proven_against_one_another() {
    let site = Site::loaded().await;
    let report = site.look("orders").await;
    assert_eq!(report.verdict, Verdict::Proven, "{report:?}");
    let cut = report.cut.unwrap();
    assert_eq!((cut.next.0, cut.watermark.0.0, cut.table_rows, cut.table_files, cut.tail_rows), (41, 36, 35, 2, 5));
    assert_eq!(held(&report, "batches of the log found in the table"), 4);
    assert_eq!(held(&report, "events of the log"), 40);
    assert_eq!((held(&report, "flushes"), held(&report, "SEALs"), held(&report, "rows of the table")), (2, 1, 35));
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_events_is_proven() {
    let site = Site::new();
    let engine = site.open(unflushed()).await;
    create(&engine, "orders").await;
    assert_eq!(site.proven().await.next.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_proven_after_a_shutdown_that_trimmed_its_log_and_after_many_restarts() {
    let site = Site::new();
    for round in 0..5 {
        let engine = site.open(trimmed()).await;
        if round == 0 {
            create(&engine, "orders").await;
        }
        append(&engine, "orders", 1..11).await;
        assert_eq!(site.proven().await.next.0, 11 + 10 * round);
        shutdown(engine).await;
        let cut = site.proven().await;
        assert_eq!((cut.table_rows as i64, cut.tail_rows), (10 + 10 * round, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_dropped_and_made_again_is_proven_as_what_it_is_now() {
    let site = Site::loaded().await;
    let engine = site.open(unflushed()).await;
    engine.drop_topic(&tenant(), &name("orders")).await.unwrap();
    assert!(matches!(site.look("orders").await.verdict, Verdict::Unseen { kind: ErrorKind::NotFound, .. }));
    create(&engine, "orders").await;
    append(&engine, "orders", 1..4).await;
    assert_eq!(site.proven().await.next.0, 4);
    shutdown(engine).await;
    assert_eq!(site.proven().await.table_rows, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_of_every_lane_is_proven_from_one_reading_of_its_log() {
    let site = Site::loaded().await;
    let engine = site.open(trimmed()).await;
    for topic in ["returns", "payments"] {
        create(&engine, topic).await;
        append(&engine, topic, 1..8).await;
    }
    engine.flush(&tenant(), Some(&name("returns"))).await.unwrap();
    let reports = site.all().await;
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| report.verdict == Verdict::Proven), "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_proven_up_to_a_frozen_cut_while_its_owner_appends_flushes_and_trims() {
    let site = Site::new();
    let settings = crate::Settings { flush_interval_ms: 20, checkpoint_bytes: 2_000, ..crate::Settings::default() };
    let engine = site.open(settings).await;
    create(&engine, "orders").await;
    let writer = engine.clone();
    let load = tokio::spawn(async move {
        for first in (1..1_200).step_by(4) {
            append(&writer, "orders", first..first + 4).await;
        }
    });
    let mut reached = 0;
    while !load.is_finished() {
        let cut = site.proven().await;
        assert!(cut.next.0 >= reached, "it never goes back");
        reached = cut.next.0;
    }
    load.await.unwrap();
    assert_eq!(site.proven().await.next.0, 1_201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_after_an_empty_slot_is_noted_and_no_fault() {
    let site = Site::loaded().await;
    std::fs::copy(site.file("lanes/0/w/2/0"), site.file("lanes/0/w/2/3")).unwrap();
    let report = site.look("orders").await;
    assert_eq!(report.verdict, Verdict::Proven);
    assert!(report.notes[0].contains("lanes/0/w/2/2 is empty and lanes/0/w/2/3 is not"), "{:?}", report.notes);
}
