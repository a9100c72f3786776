use std::time::Duration;

use catalog::Env;
use schemas::TopicId;
use tokio::sync::oneshot;

use super::super::admit::{Judged, admit};
use super::*;
use crate::tail::Tails;
use crate::testing::{orders, valid_orders};

fn shape(number: u128) -> Arc<Shape> {
    Arc::new(Shape::new(orders(number)).unwrap())
}

fn id(number: u128) -> TopicId {
    orders(number).id
}

fn head(numbers: &[u128]) -> LaneState {
    let mut head = LaneState::default();
    for number in numbers {
        Group::default().create(&mut head, TenantName::default(), shape(*number));
    }
    head
}

fn part(number: u128, rows: i32) -> Part {
    Part::encode(shape(number), valid_orders(&orders(number), 0..rows)).unwrap()
}

async fn append(rows: Option<Part>, dead: Option<Part>) -> (Append, oneshot::Receiver<Result<Receipt>>) {
    let permit = Tails::new(1 << 20, Env::system()).reserve(100, Duration::from_secs(1)).await.unwrap();
    let (answer, answered) = oneshot::channel();
    (Append { rows, dead, permit, receipt: Receipt::default(), answer, order: Order::default(), basis: None }, answered)
}

/// As the lane does it; else the kind of the refusal.
fn append_if_admitted(group: &mut Group, head: &mut LaneState, mut append: Append, now: i64) -> Option<ErrorKind> {
    match admit(head, &mut append, || None) {
        Judged::Fits { sets_fence } => group.append(head, append, sets_fence, now),
        Judged::Refused(refusal) => return Some(refusal.kind()),
        other => panic!("expected nothing else without a basis, found {other:?}"),
    }
    None
}

async fn receipt(group: &mut Group, head: &mut LaneState, rows: i32, now: i64) -> (i64, i64) {
    let (command, mut answered) = append(Some(part(1, rows)), None).await;
    append_if_admitted(group, head, command, now);
    assert!(answered.try_recv().is_err(), "nothing is answered before it is decided");
    group.waiters.pop().unwrap().succeed();
    let receipt = answered.await.unwrap().unwrap();
    (receipt.first_seq.unwrap().0, receipt.last_seq.unwrap().0)
}

#[tokio::test]
async fn seqs_are_dense_and_time_never_decreases() {
    let (mut group, mut head) = (Group::default(), head(&[1]));
    assert_eq!(receipt(&mut group, &mut head, 3, 100).await, (1, 3));
    assert_eq!(receipt(&mut group, &mut head, 1, 90).await, (4, 4));
    assert_eq!(receipt(&mut group, &mut head, 2, 110).await, (5, 6));
    assert_eq!(group.frames.iter().map(|frame| frame.time_micros).collect::<Vec<_>>(), [100, 100, 110]);
    assert_eq!(group.bytes, group.frames.iter().map(Frame::encoded_bytes).sum::<usize>());
}

#[tokio::test]
async fn dead_letters_ride_with_their_batch() {
    let (mut group, mut head) = (Group::default(), head(&[1, 2]));
    let (command, _answered) = append(Some(part(1, 2)), Some(part(2, 1))).await;
    append_if_admitted(&mut group, &mut head, command, 1);
    assert_eq!(group.frames.iter().map(|frame| frame.topic).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(group.waiters.len(), 1);
}

#[tokio::test]
async fn an_append_of_which_a_part_cannot_be_has_not_happened_at_all() {
    let (mut group, mut head) = (Group::default(), head(&[1]));
    let (command, _answered) = append(Some(part(1, 2)), Some(part(2, 1))).await;
    assert_eq!(append_if_admitted(&mut group, &mut head, command, 1), Some(ErrorKind::NotFound));
    assert!(group.is_empty());
    assert_eq!(head.topics[&id(1)].next_seq, Seq::FIRST);
}

#[tokio::test]
async fn a_dropped_topic_takes_no_more_events() {
    let (mut group, mut head) = (Group::default(), head(&[1]));
    group.drop_topic(&mut head, id(1));
    let (command, _answered) = append(Some(part(1, 2)), None).await;
    assert_eq!(append_if_admitted(&mut group, &mut head, command, 1), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn after_a_batch_that_failed_no_later_one_of_its_stream_is_appended() {
    let mut head = head(&[1]);
    let order = Order::default();
    let of_stream = async |number| {
        let (append, answered) = append(Some(part(number, 2)), None).await;
        (Append { order: order.clone(), ..append }, answered)
    };
    let mut group = Group::default();
    let (first, _answered) = of_stream(1).await;
    append_if_admitted(&mut group, &mut head, first, 5);
    let reason = IngestError::new(ErrorKind::Unavailable, "the store is away");
    std::mem::take(&mut group).waiters.into_iter().for_each(|waiter| waiter.fail(&reason, &reason));

    let (second, _answered) = of_stream(1).await;
    assert_eq!(second.order.check().unwrap_err().kind(), ErrorKind::Unavailable);
    let (others, _answered) = append(Some(part(1, 2)), None).await;
    append_if_admitted(&mut group, &mut head, others, 7);
    assert!(!group.is_empty(), "other streams go on");
}
