//! Rows that are not those that were flushed, in files that are whole, under names that claim nothing, with manifests that agree.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int8Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use schemas::Seq;
use schemas::envelope::{KIND, PATH, PREFIX, SEQ, TIME, UTC};

use super::super::Recorded;
use super::site::{Site, with_column};
use crate::audit::laws;
use crate::table::RowHash;

const ROWS: [(&str, &str); 3] = [("b", "eu"), ("a", "us"), ("b", "eu")];

fn seqs(seqs: [i64; 3]) -> ArrayRef {
    Arc::new(Int64Array::from(seqs.to_vec()))
}

fn texts(texts: [&str; 3]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn times(seconds: [i64; 3]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(seconds.map(|second| second * 1_000_000).to_vec()).with_timezone(UTC))
}

/// The second flush's rows, with one column otherwise.
fn second(site: &Site, name: &str, column: ArrayRef) -> RecordBatch {
    with_column(&site.events(4, &ROWS), name, column)
}

#[tokio::test]
async fn the_same_rows_in_other_files_are_proven() {
    let site = Site::new().await;
    let rows = |seqs: &[i64]| -> Vec<_> {
        seqs.iter().map(|seq| site.events(*seq, &[ROWS[(*seq as usize - 1) % 3]])).collect()
    };
    let files = vec![
        site.theirs(&rows(&[2, 4, 6, 8])).await,
        site.theirs(&rows(&[1, 3, 5])).await,
        site.theirs(&rows(&[7, 9])).await,
    ];
    site.with_files(files).await;
    assert_eq!(site.audit().await.unwrap().files, 3);
}

#[tokio::test]
async fn a_row_that_was_taken_away_is_found() {
    let site = Site::new().await;
    site.rewritten(1, site.events(4, &ROWS).slice(0, 2)).await;
    let fault = site.fault().await;
    assert!(fault.found.contains("8 in its manifests"), "{fault}");
}

#[tokio::test]
async fn a_row_that_is_there_twice_instead_of_another_is_found_with_its_seq() {
    let site = Site::new().await;
    site.rewritten(1, second(&site, SEQ, seqs([4, 5, 5]))).await;
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.found.as_str()), (laws::ONCE, "seq 5 a second time"));

    let site = Site::new().await;
    site.rewritten(1, second(&site, SEQ, seqs([3, 4, 5]))).await;
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.found.as_str()), (laws::ONCE, "seq 3, which another has too"));
}

#[tokio::test]
async fn a_seq_that_nobody_gave_out_is_found() {
    let site = Site::new().await;
    site.rewritten(2, with_column(&site.events(7, &ROWS), SEQ, seqs([7, 8, 12]))).await;
    assert_eq!(site.fault().await.found, "seq 12");
}

#[tokio::test]
async fn a_value_that_was_altered_is_found_with_the_flush_that_wrote_it() {
    let site = Site::new().await;
    site.rewritten(1, second(&site, "amount", Arc::new(Float64Array::from(vec![4.0, 5.5, 6.0])))).await;
    let fault = site.fault().await;
    assert_eq!((fault.law, fault.place.as_str()), (laws::SAME, "seqs 4 to before 7"));
}

#[tokio::test]
async fn keys_paths_and_prefixes_that_do_not_follow_from_the_payload_are_found() {
    for (name, column, found) in [
        ("id", texts(["b", "A", "b"]), "key \"a\""),
        (PATH, texts(["orders/eu", "orders/eu", "orders/eu"]), "path \"orders/eu\""),
        (PREFIX, texts(["orders/eu", "elsewhere", "orders/eu"]), "prefix \"elsewhere\""),
    ] {
        let site = Site::new().await;
        site.rewritten(1, second(&site, name, column)).await;
        let fault = site.fault().await;
        assert_eq!((fault.law, fault.found.as_str()), (laws::DERIVED, found));
        assert!(fault.place.contains("seq 5"), "{fault}");
    }
}

#[tokio::test]
async fn a_kind_that_no_event_has_is_found() {
    let site = Site::new().await;
    site.rewritten(1, second(&site, KIND, Arc::new(Int8Array::from(vec![0, 7, 0])))).await;
    assert_eq!(site.fault().await.expected, "a kind from 0 to 2");
}

#[tokio::test]
async fn a_time_that_falls_is_found_within_a_file_and_from_one_to_the_next() {
    for (seconds, seq) in [([4, 6, 5], "seq 6"), ([2, 2, 2], "seq 4")] {
        let site = Site::new().await;
        site.rewritten(1, second(&site, TIME, times(seconds))).await;
        let fault = site.fault().await;
        assert_eq!((fault.law, fault.place.as_str()), (laws::DENSE, seq), "{fault}");
    }
}

#[tokio::test]
async fn what_the_log_has_otherwise_than_the_table_is_found() {
    let site = Site::new().await;
    let logged = |first: i64, rows: &[(&'static str, &'static str)]| {
        let events = site.events(first, rows);
        let (from, to) = (Seq(first), Seq(first).plus(rows.len()));
        Recorded { from, to, hash: RowHash::of(&events).unwrap(), object: format!("lanes/0/w/1/{first}") }
    };
    site.audit_against(vec![logged(8, &ROWS[1..]), logged(6, &ROWS[2..])]).await.unwrap();
    let fault =
        site.audit_against(vec![logged(6, &ROWS[2..]), logged(8, &[("a", "eu"), ("b", "eu")])]).await.unwrap_err();
    assert_eq!(
        (fault.law, fault.object.as_str(), fault.place.as_str()),
        (laws::SAME, "lanes/0/w/1/8", "seqs 8 to before 10")
    );
}
