use std::collections::HashMap;

use proptest::prelude::*;
use schemas::limits::PRODUCERS_FORGOTTEN_MAX;
use uuid::Uuid;

use super::*;

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(7))
}

fn issued(producers: &mut Producers, name: &str, resumes: bool, time_micros: i64) -> ProducerEpoch {
    let name: Arc<str> = name.into();
    let issued = producers.next_epoch(&topic(), &name, resumes);
    let record = ProducerRecord { name, epoch: issued.producer_epoch, time_micros, act: Act::Issued { resumes } };
    producers.apply(topic(), &record).unwrap();
    issued
}

fn batch(name: &str, epoch: u64, seq: u64, content: u128) -> Numbered {
    Numbered { name: name.into(), epoch, seq, content }
}

fn answer(content: u128, first: i64) -> Answered {
    Answered { content, first_seq: Some(Seq(first)), accepted: 1, refused: 0, schema_version: 1 }
}

fn append(producers: &mut Producers, batch: &Numbered, answer: Answered, time_micros: i64) {
    let Numbered { name, epoch, seq, .. } = batch;
    let act = Act::Answered { seq: *seq, answer };
    producers.apply(topic(), &ProducerRecord { name: Arc::clone(name), epoch: *epoch, time_micros, act }).unwrap();
}

fn detail(producers: &Producers, batch: &Numbered) -> Detail {
    match producers.judge(&topic(), batch) {
        Judgement::Refused(refusal) => refusal.detail().unwrap().clone(),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn restarted(producers: &Producers) -> Producers {
    let document = serde_json::to_string(&ProducersDocument::from(producers)).unwrap();
    serde_json::from_str::<ProducersDocument>(&document).unwrap().try_into().unwrap()
}

#[test]
fn each_way_of_being_wrong_has_a_name() {
    let mut producers = Producers::default();
    let epoch = issued(&mut producers, "loader", false, 0).producer_epoch;
    append(&mut producers, &batch("loader", epoch, 1, 11), answer(11, 5), 0);
    assert!(matches!(producers.judge(&topic(), &batch("loader", epoch, 2, 12)), Judgement::Next));
    assert!(
        matches!(producers.judge(&topic(), &batch("loader", epoch, 1, 11)), Judgement::Answered(a) if a == answer(11, 5))
    );
    assert_eq!(detail(&producers, &batch("loader", epoch, 1, 99)), Detail::ProducerContent { producer_seq: 1 });
    let gap = Detail::ProducerSeq { next_producer_seq: 2, oldest_producer_seq: 1 };
    assert_eq!(detail(&producers, &batch("loader", epoch, 3, 1)), gap);
    assert_eq!(detail(&producers, &batch("loader", epoch, 0, 1)), gap);
    assert_eq!(detail(&producers, &batch("loader", epoch + 1, 1, 1)), Detail::ProducerUnknown);
    assert_eq!(detail(&producers, &batch("other", epoch + 1, 1, 1)), Detail::ProducerUnknown);
    assert_eq!(detail(&producers, &batch("other", epoch, 1, 1)), Detail::ProducerForgotten);
    let newer = issued(&mut producers, "loader", false, 0);
    assert_eq!(newer, ProducerEpoch { producer_epoch: epoch + 1, next_producer_seq: 1 });
    let fenced = Detail::ProducerFenced { producer_epoch: newer.producer_epoch };
    assert_eq!(detail(&producers, &batch("loader", epoch, 2, 12)), fenced);
}

#[test]
fn an_epoch_that_resumes_goes_on_where_the_one_before_stopped() {
    let mut producers = Producers::default();
    let first = issued(&mut producers, "loader", true, 0);
    assert_eq!(first.next_producer_seq, 1, "nothing is known of it");
    append(&mut producers, &batch("loader", first.producer_epoch, 1, 11), answer(11, 5), 0);
    let second = issued(&mut producers, "loader", true, 0);
    assert_eq!(second.next_producer_seq, 2);
    let again = batch("loader", second.producer_epoch, 1, 11);
    assert!(matches!(producers.judge(&topic(), &again), Judgement::Answered(a) if a == answer(11, 5)));
}

#[test]
fn only_so_many_answers_are_kept_and_an_older_batch_is_never_appended_anew() {
    let mut producers = Producers::default();
    let epoch = issued(&mut producers, "loader", false, 0).producer_epoch;
    let last = PRODUCER_ANSWERS_MAX as u64 + 1;
    for seq in 1..=last {
        append(&mut producers, &batch("loader", epoch, seq, 11), answer(11, seq as i64), 0);
    }
    let too_old = Detail::ProducerSeq { next_producer_seq: last + 1, oldest_producer_seq: 2 };
    assert_eq!(detail(&producers, &batch("loader", epoch, 1, 11)), too_old);
    assert!(matches!(producers.judge(&topic(), &batch("loader", epoch, 2, 11)), Judgement::Answered(_)));
}

#[test]
fn the_one_that_was_silent_longest_is_forgotten_first_and_told_so() {
    let mut producers = Producers::default();
    for number in 0..PRODUCERS_MAX {
        issued(&mut producers, &format!("p{number}"), false, 0);
    }
    append(&mut producers, &batch("p0", 1, 1, 11), answer(11, 1), 0);
    issued(&mut producers, "one more", false, 0);
    assert_eq!(detail(&producers, &batch("p1", 2, 1, 1)), Detail::ProducerForgotten);
    assert!(matches!(producers.judge(&topic(), &batch("p0", 1, 1, 11)), Judgement::Answered(_)));
    assert_eq!(producers.entries.len(), PRODUCERS_MAX);
}

#[test]
fn a_producer_that_was_silent_too_long_is_forgotten() {
    let mut producers = Producers::default();
    issued(&mut producers, "old", false, 0);
    let later = (PRODUCER_IDLE_SECONDS_MAX * 1_000_000) as i64 + 1;
    issued(&mut producers, "new", false, later);
    assert_eq!(detail(&producers, &batch("old", 1, 1, 1)), Detail::ProducerForgotten);
    // A clock that jumps back makes nobody young again.
    issued(&mut producers, "another", false, 0);
    assert!(producers.entries.values().all(|producer| producer.used_micros == later));
}

#[test]
fn a_name_that_was_forgotten_is_told_so_when_it_wants_to_go_on_and_a_new_one_is_not() {
    let mut producers = Producers::default();
    let name = |name: &str| -> Arc<str> { name.into() };
    issued(&mut producers, "loader", true, 0);
    for number in 0..PRODUCERS_MAX {
        assert!(producers.forgets(&topic(), &name("loader"), Some(0)).is_none(), "it is known");
        issued(&mut producers, &format!("p{number}"), true, 1);
    }
    for producers in [&producers, &restarted(&producers)] {
        let refusal = producers.forgets(&topic(), &name("loader"), None).expect("its entry was evicted");
        assert_eq!(refusal.detail(), Some(&Detail::ProducerForgotten));
        assert!(producers.forgets(&topic(), &name("new"), Some(0)).is_none(), "it never had one");
        assert!(producers.forgets(&TopicId(Uuid::from_u128(8)), &name("loader"), None).is_none(), "nor in that topic");
    }
    issued(&mut producers, "loader", false, 2);
    assert!(producers.forgets(&topic(), &name("loader"), None).is_none(), "it has begun again");
}

#[test]
fn a_name_that_may_be_among_those_of_which_nothing_is_left_is_refused_if_it_is_old_enough() {
    let mut producers = Producers::default();
    let name: Arc<str> = "loader".into();
    issued(&mut producers, "loader", true, 5);
    for number in 0..PRODUCERS_MAX + PRODUCERS_FORGOTTEN_MAX {
        issued(&mut producers, &format!("p{number}"), true, 7);
    }
    for producers in [&producers, &restarted(&producers)] {
        assert!(producers.forgets(&topic(), &name, Some(5)).is_some());
        assert!(
            producers.forgets(&topic(), &name, Some(8)).is_none(),
            "it did not exist when the last of them was used"
        );
        assert!(producers.forgets(&topic(), &name, None).is_none(), "who says nothing of its age is taken for new");
    }
}

#[test]
fn a_record_that_contradicts_the_state_is_found() {
    let mut producers = Producers::default();
    let record = |epoch, act| ProducerRecord { name: "p".into(), epoch, time_micros: 0, act };
    assert!(producers.apply(topic(), &record(2, Act::Issued { resumes: false })).is_err());
    assert!(producers.apply(topic(), &record(1, Act::Answered { seq: 1, answer: answer(1, 1) })).is_err());
    producers.apply(topic(), &record(1, Act::Issued { resumes: false })).unwrap();
    assert!(producers.apply(topic(), &record(1, Act::Answered { seq: 2, answer: answer(1, 1) })).is_err());
}

#[test]
fn a_topic_that_ends_takes_its_producers_with_it() {
    let mut producers = Producers::default();
    issued(&mut producers, "loader", false, 0);
    producers.end_topic(&topic());
    assert_eq!(detail(&producers, &batch("loader", 1, 1, 1)), Detail::ProducerForgotten);
    assert!(producers.by_use.is_empty());
}

/// What can happen to a lane with producers.
#[derive(Clone, Debug)]
enum Step {
    Issue {
        name: u8,
        resumes: bool,
    },
    /// Sends a batch `back` behind the next one (or a gap, if negative) under the newest epoch that the producer has had, or the one before.
    Send {
        name: u8,
        back: i64,
        other_content: bool,
        old_epoch: bool,
    },
    Restart,
    Wait {
        seconds: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..4u8;
    let step = prop_oneof![
        1 => (name(), any::<bool>()).prop_map(|(name, resumes)| Step::Issue { name, resumes }),
        8 => (name(), -1..40i64, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(name, back, other_content, old_epoch)| Step::Send { name, back, other_content, old_epoch }),
        8 => name().prop_map(|name| Step::Send { name, back: 0, other_content: false, old_epoch: false }),
        1 => Just(Step::Restart),
        1 => (0..PRODUCER_IDLE_SECONDS_MAX).prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// The model remembers everything for ever: whatever the table forgets, it never says anything else, and never appends twice.
    #[test]
    fn each_batch_has_one_answer_whatever_is_retried_forgotten_or_restarted(steps in steps()) {
        let mut producers = Producers::default();
        let (mut time, mut next_row) = (0i64, 1i64);
        // By name: the epochs issued, and the number that is next under the last.
        let mut clients: HashMap<u8, (Vec<u64>, u64)> = HashMap::new();
        // By name, line of epochs that resume one another, and number: what was appended.
        let mut model: HashMap<(u8, u64, u64), Answered> = HashMap::new();
        let mut lines: HashMap<u64, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Issue { name, resumes } => {
                    let issued = issued(&mut producers, &name.to_string(), resumes, time);
                    let (epochs, next) = clients.entry(name).or_default();
                    let goes_on = resumes && issued.next_producer_seq > 1;
                    let line = epochs.last().filter(|_| goes_on).map_or(issued.producer_epoch, |before| lines[before]);
                    prop_assert!(!goes_on || issued.next_producer_seq == *next, "it goes on where it stopped");
                    lines.insert(issued.producer_epoch, line);
                    epochs.push(issued.producer_epoch);
                    *next = issued.next_producer_seq;
                }
                Step::Send { name, back, other_content, old_epoch } => {
                    let Some((epochs, next)) = clients.get_mut(&name) else { continue };
                    let at = epochs.len() - 1 - usize::from(old_epoch && epochs.len() > 1);
                    let (epoch, seq) = (epochs[at], (*next as i64 - back).max(0) as u64);
                    let content = u128::from(seq) * 2 + u128::from(other_content);
                    let sent = batch(&name.to_string(), epoch, seq, content);
                    let before = model.get(&(name, lines[&epoch], seq)).copied();
                    match producers.judge(&topic(), &sent) {
                        Judgement::Next => {
                            prop_assert_eq!(before, None, "never appended anew");
                            prop_assert!(at == epochs.len() - 1 && seq == *next);
                            let given = answer(content, next_row);
                            append(&mut producers, &sent, given, time);
                            model.insert((name, lines[&epoch], seq), given);
                            (*next, next_row) = (*next + 1, next_row + 1);
                        }
                        Judgement::Answered(given) => prop_assert_eq!(Some(given), before.filter(|b| b.content == content)),
                        Judgement::Refused(refusal) => {
                            let is_forgotten = refusal.detail() == Some(&Detail::ProducerForgotten);
                            let is_recent = seq < *next && *next - seq <= PRODUCER_ANSWERS_MAX as u64;
                            let is_same = before.is_some_and(|before| before.content == content);
                            let is_newest = at == epochs.len() - 1;
                            prop_assert!(is_forgotten || !(is_recent && is_same && is_newest), "{}", refusal);
                        }
                    }
                }
                Step::Restart => {
                    let again = restarted(&producers);
                    prop_assert_eq!(ProducersDocument::from(&again), ProducersDocument::from(&producers));
                    producers = again;
                }
                Step::Wait { seconds } => time += (seconds * 1_000_000) as i64,
            }
        }
    }
}
