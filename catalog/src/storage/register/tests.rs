use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::storage::faults::{Fault, Faulty, any_fault};

const LIMIT: Duration = Duration::from_secs(30);

fn path() -> Path {
    Path::from("lanes/0/root.json")
}

async fn swap_in(
    registers: &dyn Registers,
    limit: Duration,
    expected: Option<&RevisionTag>,
    content: &str,
) -> Result<Swap> {
    swap(registers, &Env::system(), limit, &path(), expected, content.as_bytes()).await
}

#[test]
fn a_revision_is_readable_json() {
    let bytes = encode(&path(), [0xab; 16], br#"{"epoch":7}"#).unwrap();
    let text = r#"{"nonce":"abababababababababababababababab","xxh3":"2cb1da340cc3e250","content":{"epoch":7}}"#;
    assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), format!("{text}\n"));
}

#[test]
fn another_register_is_not_taken_for_the_one_that_was_asked_for() {
    let bytes = encode(&Path::from("lanes/1/root.json"), [1; 16], b"1").unwrap();
    assert_eq!(decode(&path(), &bytes).unwrap_err().kind(), ErrorKind::Corrupt);
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(nonce: [u8; 16], text: String, number: i64) {
        let content = serde_json::json!({"text": text, "number": number}).to_string();
        let bytes = encode(&path(), nonce, content.as_bytes()).unwrap();
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        prop_assert_eq!(decode(&path(), &bytes).unwrap(), (nonce, Bytes::from(content)));
    }

    #[test]
    fn a_flipped_bit_or_a_missing_byte_is_found(nonce: [u8; 16], text: String, at: prop::sample::Index, bit in 0..8u32) {
        let bytes = encode(&path(), nonce, serde_json::json!(text).to_string().as_bytes()).unwrap();
        let mut flipped = bytes.to_vec();
        flipped[at.index(bytes.len())] ^= 1u8 << bit;
        for damaged in [flipped.into(), bytes.slice(..at.index(bytes.len()))] {
            let error = decode(&path(), &damaged).unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}

#[tokio::test]
async fn a_swap_whose_answer_was_lost_is_found_by_its_nonce() {
    for fault in [Fault::After, Fault::OwnConflict, Fault::Late, Fault::Before, Fault::Conflict] {
        let registers = ObjectRegisters(Faulty::new([Fault::None, fault]));
        let Swap::Won(first) = swap_in(&registers, LIMIT, None, "1").await.unwrap() else {
            panic!("nobody else is here")
        };
        let swapped = swap_in(&registers, LIMIT, Some(&first), "2").await.unwrap();
        registers.0.settle().await;
        let held = read(&registers, &path()).await.unwrap().unwrap();
        assert_eq!((swapped, &held.content[..]), (Swap::Won(held.tag), &b"2"[..]), "{fault:?}");
    }
}

#[tokio::test]
async fn past_the_deadline_it_is_indeterminate() {
    let registers = ObjectRegisters(Faulty::new([Fault::Before; 100]));
    let error = swap_in(&registers, Duration::from_millis(30), None, "1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
}

#[tokio::test]
async fn a_damaged_register_is_named_and_never_overwritten() {
    let store = Faulty::default();
    store.put(&path(), PutPayload::from_static(b"{}")).await.unwrap();
    let registers = ObjectRegisters(store);
    for error in
        [read(&registers, &path()).await.unwrap_err(), swap_in(&registers, LIMIT, None, "1").await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("lanes/0/root.json"), "{error}");
    }
}

/// Counts up by swaps until it has won `wins` times; the numbers that it won.
async fn count_up(registers: &dyn Registers, wins: usize) -> Vec<u64> {
    let mut won = Vec::new();
    while won.len() < wins {
        let held = read(registers, &path()).await.unwrap();
        let next = held.as_ref().map_or(0, |held| serde_json::from_slice::<u64>(&held.content).unwrap()) + 1;
        let tag = held.map(|held| held.tag);
        if let Swap::Won(_) = swap_in(registers, LIMIT, tag.as_ref(), &next.to_string()).await.unwrap() {
            won.push(next);
        }
    }
    won
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A swap that happened may be reported lost if another stands on it already; one reported won is nobody else's.
    #[test]
    fn no_two_writers_win_the_same_revision(plan in prop::collection::vec(any_fault(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let registers = ObjectRegisters(Faulty::new(plan));
            let (a, b) = tokio::join!(count_up(&registers, 4), count_up(&registers, 4));
            registers.0.settle().await;
            let all: HashSet<_> = a.iter().chain(&b).copied().collect();
            assert_eq!(all.len(), 8, "{a:?} {b:?}");
            let held = read(&registers, &path()).await.unwrap().unwrap();
            let last: u64 = serde_json::from_slice(&held.content).unwrap();
            assert!(all.iter().all(|number| *number <= last));
        });
    }
}
