use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use catalog::view::{LastSeqsFound, TailChunk};
use proptest::prelude::*;
use schemas::{TopicDef, Watermark};

use super::*;
use crate::testing::{orders, valid_orders};

fn key(key: &str) -> Matching {
    Matching::Key(key.to_owned())
}

fn pattern(text: &str) -> Matching {
    Matching::Pattern(text.parse().unwrap())
}

fn condition(of: Matching, expected: i64) -> Condition {
    Condition { of, expected_last_seq: Seq(expected) }
}

/// All events of `orders` there ever were, by amount, and where they are: `[1, watermark)` in the table, up to `decided` in the tail, then in flight.
#[derive(Clone, Debug)]
struct World {
    amounts: Vec<i32>,
    watermark: i64,
    decided: i64,
}

impl World {
    fn placed(&self, from: i64, to: i64) -> PlacedRows {
        let amounts = self.amounts[from as usize - 1..to as usize - 1].to_vec();
        let rows = valid_orders(&orders(1), amounts);
        PlacedRows { topic: orders(1).id, first_seq: Seq(from), time_micros: 0, rows }
    }

    /// In chunks of at most three rows.
    fn tail(&self) -> TailSnapshot {
        let starts = (self.watermark..self.decided).step_by(3);
        let chunks = starts.map(|from| {
            let placed = self.placed(from, self.decided.min(from + 3));
            Arc::new(TailChunk::new(placed.rows.seal(Seq(from), 0)))
        });
        let (start, end) = (Seq(self.watermark), Seq(self.decided));
        TailSnapshot { def: orders(1), start, end, chunks: chunks.collect() }
    }

    fn in_flight(&self) -> Vec<PlacedRows> {
        (self.decided..self.next()).map(|seq| self.placed(seq, seq + 1)).collect()
    }

    fn next(&self) -> i64 {
        self.amounts.len() as i64 + 1
    }

    fn matches(of: &Matching, amount: i32) -> bool {
        match of {
            Matching::Key(key) => *key == format!("o-{amount}"),
            Matching::Pattern(pattern) => pattern.matches(&format!("orders/r{}", amount % 3)),
            Matching::Topic => true,
        }
    }

    /// The truth: the last seq below `before` that matches.
    fn last(&self, of: &Matching, before: i64) -> i64 {
        let seqs = (1..before).rev();
        seqs.into_iter().find(|seq| Self::matches(of, self.amounts[*seq as usize - 1])).unwrap_or(0)
    }
}

/// Answers from a table that ends before `watermark`, and counts what it is asked.
#[derive(Debug)]
struct Table {
    world: World,
    asked: Mutex<usize>,
}

#[async_trait]
impl LastSeqs for Table {
    async fn last_seqs(&self, _: &TopicDef, asked: &[Asked]) -> catalog::Result<LastSeqsFound> {
        *self.asked.lock().unwrap() += asked.len();
        let last = |asked: &Asked| {
            Some(Seq(self.world.last(&asked.of, self.world.watermark))).filter(|last| *last > asked.above)
        };
        Ok(LastSeqsFound { last: asked.iter().map(last).collect(), watermark: Watermark(Seq(self.world.watermark)) })
    }
}

/// Looks up in one world and tests in a later one. Returns the answer and how many questions went to the table.
async fn ask(conditions: &[Condition], looked_up_in: &World, tested_in: &World) -> (Tested, usize) {
    let mut tests = Tests::new(&orders(1), conditions.iter().cloned()).unwrap();
    let table = Table { world: looked_up_in.clone(), asked: Mutex::new(0) };
    tests.look_up(looked_up_in.tail(), &orders(1), &table).await.unwrap();
    let in_flight = tested_in.in_flight();
    let recent = || Some(Recent { tail: tested_in.tail(), in_flight: in_flight.iter().collect() });
    let tested = tests.test(Seq(tested_in.next()), Seq::FIRST, recent);
    (tested, *table.asked.lock().unwrap())
}

fn now(tested: Tested) -> Option<(Matching, i64)> {
    match tested {
        Tested::Hold => None,
        Tested::Fail(refusal) => match refusal.detail() {
            Some(Detail::ConditionFailed { condition, last_seq }) => Some((condition.of.clone(), last_seq.0)),
            other => panic!("expected a failed condition, found {other:?}"),
        },
        Tested::Stale => panic!("nothing has happened since the look-up"),
    }
}

#[tokio::test]
async fn the_table_is_asked_only_for_what_may_lie_in_it() {
    let world = World { amounts: vec![1, 2, 3, 4, 5, 6], watermark: 4, decided: 6 };
    for (of, expected, questions) in [
        (key("o-5"), 0, 0),
        (key("o-2"), 3, 0),
        (key("o-2"), 2, 1),
        (key("o-9"), 0, 1),
        (Matching::Topic, 0, 0),
        (pattern("orders/>"), 0, 0),
        (key("o-1"), i64::MAX, 0),
    ] {
        assert_eq!(ask(&[condition(of.clone(), expected)], &world, &world).await.1, questions, "{of:?} {expected}");
    }
}

#[tokio::test]
async fn a_flush_beyond_what_was_looked_up_makes_it_stale_and_one_within_it_does_not() {
    let then = World { amounts: vec![1, 2, 3], watermark: 2, decided: 4 };
    let flushed = World { watermark: 4, ..then.clone() };
    assert!(matches!(ask(&[condition(key("o-9"), 0)], &then, &flushed).await.0, Tested::Hold));
    let beyond = World { amounts: vec![1, 2, 3, 9], watermark: 5, decided: 5 };
    assert!(matches!(ask(&[condition(key("o-9"), 0)], &then, &beyond).await.0, Tested::Stale));
    let topic = ask(&[condition(Matching::Topic, 4)], &then, &beyond).await.0;
    assert!(matches!(topic, Tested::Hold), "the topic's last seq is known without a look");
}

#[tokio::test]
async fn a_table_older_than_the_tail_decides_nothing() {
    let world = World { amounts: vec![1, 2, 3, 4], watermark: 4, decided: 5 };
    let mut tests = Tests::new(&orders(1), [condition(key("o-3"), 0)]).unwrap();
    let behind = Table { world: World { watermark: 3, ..world.clone() }, asked: Mutex::new(0) };
    tests.look_up(world.tail(), &orders(1), &behind).await.unwrap();
    let tested = tests.test(Seq(5), Seq::FIRST, || Some(Recent { tail: world.tail(), in_flight: Vec::new() }));
    assert!(matches!(tested, Tested::Stale), "{tested:?}");
}

#[tokio::test]
async fn what_retention_has_taken_is_found_no_more_wherever_it_still_lies() {
    let world = World { amounts: vec![1, 2, 3, 4], watermark: 4, decided: 5 };
    let mut tests = Tests::new(&orders(1), [condition(key("o-2"), 0)]).unwrap();
    let table = Table { world: world.clone(), asked: Mutex::new(0) };
    tests.look_up(world.tail(), &orders(1), &table).await.unwrap();
    let mut judged =
        |retained| tests.test(Seq(5), Seq(retained), || Some(Recent { tail: world.tail(), in_flight: Vec::new() }));
    assert!(matches!(judged(2), Tested::Fail(_)), "it is event 2");
    assert!(matches!(judged(3), Tested::Hold));
    let mut of_topic = Tests::new(&orders(1), [condition(Matching::Topic, 3)]).unwrap();
    let tested = of_topic.test(Seq(5), Seq(5), || None);
    assert!(matches!(tested, Tested::Fail(_)), "the topic's last seq is what it was: {tested:?}");
}

#[test]
fn conditions_that_cannot_be_meant_are_refused() {
    for wrong in [condition(key(""), 0), condition(key("o-1"), -1), condition(pattern("others/>"), 0)] {
        assert_eq!(Tests::new(&orders(1), [wrong]).unwrap_err().kind(), ErrorKind::Invalid);
    }
    let many = (0..=CONDITIONS_MAX).map(|number| condition(key(&format!("o-{number}")), 0));
    assert_eq!(Tests::new(&orders(1), many).unwrap_err().kind(), ErrorKind::Invalid);
    let of_one = (0..=CONDITIONS_MAX as i64).map(|expected| condition(key("o-1"), expected));
    assert_eq!(Tests::new(&orders(1), of_one).unwrap().tests.len(), 1);
}

fn matching() -> impl Strategy<Value = Matching> {
    prop_oneof![
        4 => (0..8i32).prop_map(|amount| key(&format!("o-{amount}"))),
        1 => (0..4i32).prop_map(|region| pattern(&format!("orders/r{region}"))),
        1 => Just(pattern("orders/*")),
        1 => Just(Matching::Topic),
    ]
}

fn worlds() -> impl Strategy<Value = (World, World)> {
    (prop::collection::vec(0..8i32, 0..24), [0..25i64, 0..25i64, 0..25i64, 0..25i64, 0..25i64]).prop_map(
        |(amounts, [a, b, c, d, e])| {
            let clamp = |seq: i64, from: i64, to: i64| from + seq % (to - from + 1);
            let end = amounts.len() as i64 + 1;
            let then_next = clamp(a, 1, end);
            let then_decided = clamp(b, 1, then_next);
            let then_watermark = clamp(c, 1, then_decided);
            let decided = clamp(d, then_decided, end);
            let watermark = clamp(e, then_watermark, decided);
            let then_amounts = amounts[..then_next as usize - 1].to_vec();
            let then = World { amounts: then_amounts, watermark: then_watermark, decided: then_decided };
            (then, World { amounts, watermark, decided })
        },
    )
}

proptest! {
    /// Wherever events are, and whatever is sequenced, decided and flushed between look-up and test.
    #[test]
    fn conditions_hold_if_and_only_if_they_should(
        (then, later) in worlds(),
        asked in prop::collection::vec((matching(), 0..26i64), 1..4),
    ) {
        let asked: Vec<_> = asked.into_iter().map(|(of, expected)| condition(of, expected)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tested = runtime.block_on(ask(&asked, &then, &later)).0;
        let broken = |one: &Condition| later.last(&one.of, later.next()) > one.expected_last_seq.0;
        match tested {
            Tested::Stale => prop_assert!(later.watermark > then.decided),
            tested => match now(tested) {
                None => prop_assert!(!asked.iter().any(broken)),
                Some((of, last)) => {
                    prop_assert!(asked.iter().any(|one| one.of == of && broken(one)));
                    prop_assert_eq!(last, later.last(&of, later.next()), "the actual last seq");
                }
            },
        }
    }
}
