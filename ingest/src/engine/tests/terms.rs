//! What an append may rest on, through a real store, with restarts and take-overs between.

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use catalog::view::Matching;

use super::*;

async fn site_with_topic() -> (Site, Engine) {
    let site = Site::new();
    let engine = site.unflushed().await;
    engine.create_topic(&tenant(), spec()).await.unwrap();
    (site, engine)
}

async fn epoch(engine: &Engine, resumes: bool) -> ProducerEpoch {
    let resume = if resumes { Resume::Yes { since_micros: None } } else { Resume::No };
    engine.producer_epoch(&tenant(), &name("orders"), "loader", resume).await.unwrap()
}

/// Sends one batch of the producer `loader`, on a stream of its own.
async fn send(engine: &Engine, epoch: u64, seq: u64, rows: RecordBatch, on_error: OnError) -> Result<Receipt> {
    let identity = Some(ProducerIdentity { name: "loader".into(), epoch });
    let options = AppendOptions { on_error, identity, ..AppendOptions::default() };
    let mut appender = engine.appender(&tenant(), &name("orders"), options).await?;
    appender.submit(rows, Terms { producer_seq: Some(seq), ..Terms::default() }).await?.await
}

async fn send_amounts(engine: &Engine, epoch: u64, seq: u64, amounts: std::ops::Range<i32>) -> Result<Receipt> {
    send(engine, epoch, seq, order_rows(amounts), OnError::RejectBatch).await
}

async fn append_if(engine: &Engine, amounts: std::ops::Range<i32>, conditions: Vec<Condition>) -> Result<Receipt> {
    let terms = Terms { conditions, ..Terms::default() };
    appender(engine, OnError::RejectBatch).await.submit(order_rows(amounts), terms).await?.await
}

async fn append_fenced(engine: &Engine, amounts: std::ops::Range<i32>, fence: Fence) -> Result<Receipt> {
    let terms = Terms { fence: Some(fence), ..Terms::default() };
    appender(engine, OnError::RejectBatch).await.submit(order_rows(amounts), terms).await?.await
}

fn expect(of: Matching, seq: i64) -> Condition {
    Condition { of, expected_last_seq: Seq(seq) }
}

fn key(key: &str) -> Matching {
    Matching::Key(key.to_owned())
}

/// The last seq that a refusal by condition names.
fn last_seq(refused: Result<Receipt>) -> i64 {
    let refusal = refused.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Conflict, "{refusal}");
    match refusal.detail() {
        Some(Detail::ConditionFailed { last_seq, .. }) => last_seq.0,
        other => panic!("expected a failed condition, found {other:?}: {refusal}"),
    }
}

fn detail(refused: Result<Receipt>) -> Detail {
    refused.unwrap_err().detail().expect("a refusal says why to programs").clone()
}

fn again(receipt: Receipt) -> Receipt {
    Receipt { duplicate: true, ..receipt }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_has_the_same_answer_also_after_a_crash_and_after_a_checkpoint() {
    let (site, engine) = site_with_topic().await;
    let ProducerEpoch { producer_epoch: epoch, next_producer_seq } = epoch(&engine, false).await;
    assert_eq!(next_producer_seq, 1);
    let first = send_amounts(&engine, epoch, 1, 1..4).await.unwrap();
    let mixed = send(&engine, epoch, 2, order_rows(-1..3), OnError::RejectRow).await.unwrap();
    assert_eq!((mixed.accepted, mixed.first_seq, mixed.refused.len()), (2, Some(Seq(4)), 2));
    let refused = send_amounts(&engine, epoch, 3, -1..3).await.unwrap();
    assert_eq!((refused.accepted, refused.refused.len(), refused.duplicate), (0, 2, false));

    let check = async |engine: &Engine, what: &str| {
        assert_eq!(send_amounts(engine, epoch, 1, 1..4).await.unwrap(), again(first.clone()), "{what}");
        let sent = send(engine, epoch, 2, order_rows(-1..3), OnError::RejectRow).await.unwrap();
        assert_eq!(sent, again(mixed.clone()), "{what}");
        assert_eq!(send_amounts(engine, epoch, 3, -1..3).await.unwrap(), again(refused.clone()), "{what}");
        let other = send_amounts(engine, epoch, 1, 1..5).await;
        assert_eq!(detail(other), Detail::ProducerContent { producer_seq: 1 }, "{what}");
        let gap = Detail::ProducerSeq { next_producer_seq: 4, oldest_producer_seq: 1 };
        assert_eq!(detail(send_amounts(engine, epoch, 5, 1..2).await), gap, "{what}");
        assert_eq!(amounts(engine).len(), 5, "{what}");
    };
    check(&engine, "at once").await;
    drop(engine);
    let engine = site.unflushed().await;
    check(&engine, "after a crash").await;
    // The store of a shutdown that may not flush: its checkpoint says it, and rows stay in the log.
    engine.shutdown(Duration::ZERO).await;
    let engine = site.unflushed().await;
    assert_eq!(send_amounts(&engine, epoch, 1, 1..4).await.unwrap(), again(first), "after a checkpoint");
    assert_eq!(send_amounts(&engine, epoch, 4, 9..10).await.unwrap().first_seq, Some(Seq(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_while_the_first_is_in_flight_waits_for_it_and_hears_the_same() {
    let (_site, engine) = site_with_topic().await;
    let epoch = epoch(&engine, false).await.producer_epoch;
    let sends = (0..8).map(|_| send_amounts(&engine, epoch, 1, 1..4));
    let receipts = try_join_all(sends).await.unwrap();
    assert_eq!(receipts.iter().filter(|receipt| !receipt.duplicate).count(), 1);
    assert!(receipts.iter().all(|receipt| (receipt.first_seq, receipt.last_seq) == (Some(Seq(1)), Some(Seq(3)))));
    assert_eq!(amounts(&engine).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_epoch_fences_an_older_one_and_may_go_on_from_it_also_after_a_take_over() {
    let (site, first) = site_with_topic().await;
    let old = epoch(&first, false).await.producer_epoch;
    let receipt = send_amounts(&first, old, 1, 1..4).await.unwrap();
    let second = site.unflushed().await;
    let newer = epoch(&second, true).await;
    assert_eq!(newer, ProducerEpoch { producer_epoch: old + 1, next_producer_seq: 2 });
    let fenced = Detail::ProducerFenced { producer_epoch: newer.producer_epoch };
    assert_eq!(detail(send_amounts(&second, old, 2, 4..5).await), fenced);
    assert_eq!(send_amounts(&second, newer.producer_epoch, 1, 1..4).await.unwrap(), again(receipt));
    assert_eq!(send_amounts(&second, newer.producer_epoch, 2, 4..5).await.unwrap().first_seq, Some(Seq(4)));
    assert_eq!(detail(send_amounts(&second, 99, 1, 4..5).await), Detail::ProducerUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_is_tested_against_what_is_in_flight_in_the_tail_and_in_the_table() {
    let (site, engine) = site_with_topic().await;
    // Event n has the key o-n.
    assert_eq!(append_if(&engine, 1..2, vec![expect(key("o-1"), 0)]).await.unwrap().first_seq, Some(Seq(1)));
    assert_eq!(
        last_seq(append_if(&engine, 2..3, vec![expect(key("o-1"), 0)]).await),
        1,
        "a key that it does not write"
    );
    append_if(&engine, 2..3, vec![expect(key("o-1"), 1), expect(Matching::Topic, 1)]).await.unwrap();
    let europe = || Matching::Pattern("orders/r2".parse().unwrap());
    assert_eq!(last_seq(append_if(&engine, 3..4, vec![expect(europe(), 1)]).await), 2);
    assert_eq!(last_seq(append_if(&engine, 3..4, vec![expect(Matching::Topic, 0)]).await), 2);
    append_if(&engine, 3..4, vec![expect(europe(), 2)]).await.unwrap();

    let mut racers = Vec::new();
    for _ in 0..8 {
        racers.push(append_if(&engine, 4..5, vec![expect(key("o-4"), 0)]));
    }
    let outcomes = futures::future::join_all(racers).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "one of eight is first");
    outcomes.into_iter().filter(Result::is_err).for_each(|refused| assert_eq!(last_seq(refused), 4));

    engine.flush(&tenant(), None).await.unwrap();
    assert_eq!(amounts(&engine), []);
    assert_eq!(last_seq(append_if(&engine, 5..6, vec![expect(key("o-2"), 1)]).await), 2, "in the table");
    append_if(&engine, 5..6, vec![expect(key("o-2"), 2), expect(key("o-9"), 0)]).await.unwrap();
    drop(engine);
    let engine = site.unflushed().await;
    assert_eq!(last_seq(append_if(&engine, 6..7, vec![expect(key("o-5"), 0)]).await), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_have_conditions_of_their_own_and_a_batch_succeeds_or_fails_as_one() {
    let (_site, engine) = site_with_topic().await;
    append(&engine, 1..3).await.unwrap();
    let rows = |expected: Vec<Option<i64>>| {
        let payload = order_rows(1..1 + expected.len() as i32);
        let mut columns: Vec<(&str, ArrayRef)> =
            ["id", "region", "amount"].into_iter().zip(payload.columns().iter().cloned()).collect();
        columns.push((EXPECTED_LAST_SEQ, Arc::new(Int64Array::from(expected))));
        batch(columns)
    };
    let submit = async |expected| {
        let submitted = appender(&engine, OnError::RejectBatch).await.submit(rows(expected), Terms::default()).await?;
        submitted.await
    };
    assert_eq!(last_seq(submit(vec![Some(1), Some(1), Some(0)]).await), 2);
    assert_eq!(amounts(&engine).len(), 2);
    assert_eq!(submit(vec![Some(1), Some(2), Some(0)]).await.unwrap().accepted, 3);
    assert_eq!(submit(vec![None, None, Some(5)]).await.unwrap().accepted, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_count_one_key_up_and_none_is_lost() {
    let (_site, engine) = site_with_topic().await;
    let writers = (0..16).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut last = 0;
            for _ in 0..5 {
                loop {
                    match append_if(&engine, 7..8, vec![expect(key("o-7"), last)]).await {
                        Ok(receipt) => break last = receipt.last_seq.unwrap().0,
                        refused => last = last_seq(refused),
                    }
                }
            }
        })
    });
    try_join_all(writers).await.unwrap();
    assert_eq!(amounts(&engine).len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_set_and_checked_at_the_appends_place_and_survives_a_take_over() {
    let (site, first) = site_with_topic().await;
    let prefix = || Some("o-".to_owned());
    let fence = |token| Fence { key_prefix: prefix(), token };
    assert_eq!(first.fence(&tenant(), &name("orders"), prefix(), None).await.unwrap(), None);
    assert_eq!(first.fence(&tenant(), &name("orders"), prefix(), Some(5)).await.unwrap(), Some(5));
    append_fenced(&first, 1..2, fence(5)).await.unwrap();
    append_fenced(&first, 2..3, fence(6)).await.unwrap();
    let too_low = Detail::FenceFailed { fence: fence(5), token: 6 };
    assert_eq!(detail(append_fenced(&first, 3..4, fence(5)).await), too_low);
    append(&first, 3..4).await.unwrap();
    let second = site.unflushed().await;
    assert_eq!(detail(append_fenced(&second, 4..5, fence(5)).await), too_low);
    assert_eq!(second.fence(&tenant(), &name("orders"), prefix(), None).await.unwrap(), Some(6));
    assert_eq!(second.fence(&tenant(), &name("orders"), None, None).await.unwrap(), None);
    let error = second.fence(&tenant(), &name("orders"), prefix(), Some(1)).await.unwrap_err();
    assert_eq!(error.detail(), Some(&Detail::FenceFailed { fence: fence(1), token: 6 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_fenced_refuses_nothing_by_what_it_knew() {
    let (site, first) = site_with_topic().await;
    append(&first, 1..2).await.unwrap();
    let mut stale = appender(&first, OnError::RejectBatch).await;
    let second = site.unflushed().await;
    second.drop_topic(&tenant(), &name("orders")).await.unwrap();
    // The first still believes that o-1 exists: by its state this is refused.
    let terms = Terms { conditions: vec![expect(key("o-1"), 0)], ..Terms::default() };
    let error = match stale.submit(order_rows(1..2), terms).await {
        Ok(answer) => answer.await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(error.detail().is_none_or(|detail| matches!(detail, Detail::NotOwner { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_epoch_has_no_numbers_and_one_with_an_epoch_has_them() {
    let (_site, engine) = site_with_topic().await;
    let mut without = appender(&engine, OnError::RejectBatch).await;
    let numbered = Terms { producer_seq: Some(1), ..Terms::default() };
    assert_eq!(without.submit(order_rows(1..2), numbered).await.err().unwrap().kind(), ErrorKind::Invalid);
    let identity = Some(ProducerIdentity { name: "loader".into(), epoch: 1 });
    let options = AppendOptions { identity, ..AppendOptions::default() };
    let mut with = engine.appender(&tenant(), &name("orders"), options).await.unwrap();
    assert_eq!(with.submit(order_rows(1..2), Terms::default()).await.err().unwrap().kind(), ErrorKind::Invalid);
}
