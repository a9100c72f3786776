use std::sync::Arc;

use proptest::prelude::*;
use schemas::{Seq, Watermark};

use super::*;
use crate::testing::orders;

const NOW: i64 = 1_000_000_000;

fn load(number: u128, bytes: u64, age_ms: Option<i64>) -> TopicLoad {
    TopicLoad {
        def: orders(number),
        watermark: Watermark::START,
        next: Seq(100),
        bytes,
        oldest_micros: age_ms.map(|age| NOW - age * 1_000),
        stopped: None,
    }
}

fn all_due(loads: &[TopicLoad], wanted: &[u128]) -> Vec<Due> {
    let settings =
        Settings { flush_interval_ms: 1_000, flush_bytes: 100, tail_bytes_max: 1_000, ..Settings::default() };
    let wanted = |topic: &TopicId| wanted.contains(&topic.0.as_u128());
    decide(loads, wanted, NOW, &settings)
}

fn due(loads: &[TopicLoad], wanted: &[u128]) -> Vec<u128> {
    all_due(loads, wanted).into_iter().map(|due| due.topic.0.as_u128()).collect()
}

#[test]
fn a_topic_is_due_by_age_or_bytes_the_most_overdue_first() {
    let loads = [load(1, 99, Some(999)), load(2, 100, Some(0)), load(3, 1, Some(5_000)), load(4, 250, Some(0))];
    assert_eq!(due(&loads, &[]), [3, 4, 2]);
}

#[test]
fn only_what_is_due_by_age_alone_waits_for_the_budget_and_only_while_there_is_room() {
    let can_wait = |loads: &[TopicLoad], wanted: &[u128]| -> Vec<_> {
        all_due(loads, wanted).into_iter().map(|due| (due.topic.0.as_u128(), due.can_wait)).collect()
    };
    let loads = [load(1, 1, Some(1_000)), load(2, 100, Some(0)), load(3, 1, Some(5_000)), load(4, 1, Some(2_000))];
    assert_eq!(can_wait(&loads, &[4]), [(4, false), (3, true), (1, true), (2, false)]);
    let full: Vec<_> = loads.into_iter().chain([load(5, 500, Some(0))]).collect();
    assert!(can_wait(&full, &[]).iter().all(|(_, can_wait)| !can_wait));
}

#[test]
fn an_empty_topic_is_never_due() {
    assert!(due(&[load(1, 0, None)], &[1]).is_empty());
}

#[test]
fn what_somebody_waits_for_goes_first() {
    assert_eq!(due(&[load(1, 500, Some(9_000)), load(2, 1, Some(0))], &[2]), [2, 1]);
}

#[test]
fn a_topics_own_settings_count() {
    let mut hasty = (*orders(1)).clone();
    hasty.flush.interval_ms = Some(10);
    let loads = [TopicLoad { def: Arc::new(hasty), ..load(1, 1, Some(20)) }, load(2, 1, Some(20))];
    assert_eq!(due(&loads, &[]), [1]);
}

#[test]
fn many_small_topics_that_fill_the_room_go_one_by_one_the_largest_first() {
    let loads: Vec<_> = (1..=8).map(|number| load(number, 60 + number as u64, Some(1))).collect();
    assert_eq!(due(&loads, &[]), [8]);
    assert!(due(&loads[..4], &[]).is_empty());
}

#[test]
fn a_clock_that_jumped_back_makes_a_topic_due_at_once() {
    assert_eq!(due(&[load(1, 1, Some(-3_600_000))], &[]), [1]);
}

proptest! {
    #[test]
    fn nothing_due_is_left_out_and_nothing_is_named_twice(
        topics in prop::collection::vec((0..400u64, prop::option::of(-2_000..4_000i64)), 0..20),
    ) {
        let loads: Vec<_> = topics.iter().zip(1..).map(|((bytes, age), number)| load(number, *bytes, *age)).collect();
        let due = due(&loads, &[]);
        for (number, (bytes, age)) in (1..).zip(&topics) {
            let overdue = age.is_some_and(|age| !(0..1_000).contains(&age) || *bytes >= 100);
            prop_assert!(!overdue || due.contains(&number));
            prop_assert!(due.iter().filter(|named| **named == number).count() <= 1);
        }
    }
}
