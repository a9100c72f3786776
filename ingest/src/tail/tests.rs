use schemas::ErrorKind;

use super::*;
use crate::testing::{orders, valid_orders};

const SOON: Duration = Duration::from_millis(10);

fn tails(budget_bytes: u64) -> (Tails, Arc<TopicDef>) {
    let tails = Tails::new(budget_bytes, Env::system());
    let def = orders(7);
    tails.add_topic(Arc::clone(&def), Seq::FIRST);
    (tails, def)
}

fn free_bytes(tails: &Tails) -> i64 {
    tails.shared.budget.free_bytes()
}

fn events(def: &Arc<TopicDef>, from: i64, rows: usize) -> RecordBatch {
    valid_orders(def, 0..rows as i32).seal(Seq(from), 0)
}

#[tokio::test]
async fn a_pushed_batch_is_seen_by_readers_and_wakes_those_who_watch() {
    let (tails, def) = tails(1 << 20);
    let reader = tails.as_tail();
    let mut watch = reader.watch(&def.id).unwrap();
    assert_eq!(*watch.borrow_and_update(), Seq(1));
    let before = reader.snapshot(&def.id).unwrap();
    tails.push(&def.id, events(&def, 1, 3), None);
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), Seq(4));
    assert_eq!(reader.snapshot(&def.id).unwrap().end, Seq(4));
    assert_eq!((before.start, before.end, before.chunks.len()), (Seq(1), Seq(1), 0), "frozen at the call");
}

#[tokio::test]
async fn appends_wait_for_room_until_the_tail_is_trimmed() {
    let (tails, def) = tails(1 << 20);
    let permit = tails.reserve(1 << 20, SOON).await.unwrap();
    tails.push(&def.id, events(&def, 1, 20_000), Some(permit));
    assert!(free_bytes(&tails) < 0, "the batch turned out larger than was asked for");
    assert_eq!(tails.reserve(1, SOON).await.unwrap_err().kind(), ErrorKind::Overloaded);
    let waiting = tails.reserve(1 << 10, Duration::from_secs(60));
    tails.trim(&def.id, Watermark(Seq(20_001)));
    drop(waiting.await.unwrap());
    assert_eq!(free_bytes(&tails), 1 << 20);
}

#[tokio::test]
async fn all_room_comes_back_whatever_the_order_of_push_trim_merge_and_drop() {
    let (tails, def) = tails(64 << 20);
    let mut next = 1;
    for rows in [1, 1, 5, 100, 1, 1, 20_000, 3, 1] {
        let batch = events(&def, next, rows);
        let permit = tails.reserve(rows * 200, SOON).await.unwrap();
        tails.push(&def.id, batch, Some(permit));
        next += rows as i64;
    }
    let held = tails.loads()[0].bytes as i64;
    assert!(held > 0 && ((64 << 20) - free_bytes(&tails) - held).abs() <= 1024, "occupancy is what is held");
    tails.trim(&def.id, Watermark(Seq(50)));
    tails.drop_topic(&def.id);
    assert_eq!(free_bytes(&tails), 64 << 20);
    tails.push(&def.id, events(&def, next, 1), None);
    assert!(tails.as_tail().snapshot(&def.id).is_none());
    assert_eq!(free_bytes(&tails), 64 << 20);
}

#[tokio::test]
async fn the_watch_of_a_dropped_topic_ends() {
    let (tails, def) = tails(1 << 20);
    let mut watch = tails.as_tail().watch(&def.id).unwrap();
    tails.drop_topic(&def.id);
    assert!(watch.changed().await.is_err());
}

#[tokio::test]
async fn a_stopped_topic_stays_readable_says_why_and_takes_no_room() {
    let (tails, def) = tails(1 << 20);
    tails.push(&def.id, events(&def, 1, 1_000), None);
    tails.stop_topic(&def.id, IngestError::new(ErrorKind::Conflict, "rolled back"));
    assert_eq!(free_bytes(&tails), 1 << 20);
    assert_eq!(tails.stopped(&def.id).unwrap().to_string(), "rolled back");
    assert_eq!(tails.as_tail().snapshot(&def.id).unwrap().end, Seq(1_001));
    tails.push(&def.id, events(&def, 1_001, 10), None);
    assert_eq!(free_bytes(&tails), 1 << 20);
}
