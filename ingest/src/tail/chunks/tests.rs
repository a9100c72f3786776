use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use catalog::view::TailSnapshot;
use proptest::prelude::*;
use schemas::envelope::column;

use super::*;
use crate::testing::{orders, valid_orders};

fn push(chunks: &mut Chunks, rows: usize) {
    let from = chunks.next();
    let amounts = (from.0 as i32)..(from.0 as i32 + rows as i32);
    chunks.push(valid_orders(&orders(7), amounts).seal(from, from.0), from.0);
}

/// The amounts, which are the seqs; checks what every snapshot promises.
fn amounts(snapshot: &TailSnapshot) -> Vec<i32> {
    let mut next = snapshot.start;
    let mut amounts = Vec::new();
    for chunk in &snapshot.chunks {
        assert!(chunk.batch().num_rows() > 0);
        assert_eq!(chunk.first_seq(), next);
        next = chunk.end_seq();
        amounts.extend(chunk.batch().column(column::PAYLOAD + 2).as_primitive::<Int32Type>().values());
    }
    assert_eq!(next, snapshot.end);
    amounts
}

#[test]
fn single_events_gather_in_few_chunks_that_grow() {
    let mut chunks = Chunks::new(Seq::FIRST);
    for _ in 0..20_000 {
        push(&mut chunks, 1);
    }
    let snapshot = chunks.snapshot(crate::testing::orders(1));
    let sizes: Vec<_> = snapshot.chunks.iter().map(|chunk| chunk.batch().num_rows()).collect();
    assert!(sizes.len() <= 16, "{sizes:?}");
    assert!(sizes.iter().all(|rows| *rows <= CHUNK_ROWS_MAX));
    assert_eq!(amounts(&snapshot), (1..=20_000).collect::<Vec<_>>());
}

#[test]
fn rows_on_their_way_to_the_table_are_not_merged_with_later_ones() {
    let mut chunks = Chunks::new(Seq::FIRST);
    push(&mut chunks, 3);
    let cut = chunks.cut(u64::MAX).unwrap();
    assert_eq!((cut.from, cut.to), (Seq(1), Seq(4)));
    push(&mut chunks, 5);
    chunks.trim(Watermark(cut.to));
    assert_eq!(amounts(&chunks.snapshot(crate::testing::orders(1))), [4, 5, 6, 7, 8]);
    assert_eq!(chunks.oldest_micros(), Some(4));
}

#[test]
fn a_watermark_inside_a_chunk_leaves_it_whole_and_the_next_cut_begins_there() {
    let mut chunks = Chunks::new(Seq::FIRST);
    push(&mut chunks, 10);
    chunks.trim(Watermark(Seq(4)));
    assert_eq!(chunks.snapshot(crate::testing::orders(1)).start, Seq(1));
    let cut = chunks.cut(1).unwrap();
    assert_eq!((cut.from, cut.to, cut.batches[0].num_rows()), (Seq(4), Seq(11), 7));
}

#[test]
fn a_cut_ends_with_a_whole_chunk_near_its_bound() {
    let mut chunks = Chunks::new(Seq::FIRST);
    for _ in 0..4 {
        push(&mut chunks, CHUNK_ROWS_MAX);
    }
    let one = chunks.bytes() as u64 / 4;
    assert_eq!(chunks.cut(1).unwrap().to, Seq(1).plus(CHUNK_ROWS_MAX), "at least one");
    assert_eq!(chunks.cut(2 * one + one / 2).unwrap().to, Seq(1).plus(2 * CHUNK_ROWS_MAX));
    chunks.trim(Watermark(Seq(1).plus(4 * CHUNK_ROWS_MAX)));
    assert!(chunks.cut(u64::MAX).is_none());
    assert_eq!(chunks.bytes(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Trim(usize),
    Cut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![Just(0usize), Just(1), 1..40usize, 3_000..20_000usize].prop_map(Step::Push),
        2 => (0..20_000usize).prop_map(Step::Trim),
        1 => (0..4_000_000u64).prop_map(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_pushed_and_trimmed_the_tail_is_dense_ordered_and_counted(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut chunks = Chunks::new(Seq::FIRST);
        let mut frozen: Vec<(TailSnapshot, Vec<i32>)> = Vec::new();
        for step in steps {
            match step {
                Step::Push(rows) => push(&mut chunks, rows),
                Step::Trim(rows) => {
                    let Watermark(watermark) = chunks.watermark();
                    chunks.trim(Watermark(watermark.plus(rows).min(chunks.next())));
                }
                Step::Cut(bytes) => {
                    let before = chunks.watermark();
                    if let Some(cut) = chunks.cut(bytes) {
                        prop_assert_eq!(cut.from, before.0);
                        let rows: usize = cut.batches.iter().map(RecordBatch::num_rows).sum();
                        prop_assert_eq!(cut.from.plus(rows), cut.to);
                    }
                }
            }
            let snapshot = chunks.snapshot(crate::testing::orders(1));
            let seen = amounts(&snapshot);
            prop_assert_eq!(&seen, &(snapshot.start.0 as i32..snapshot.end.0 as i32).collect::<Vec<_>>());
            prop_assert!(snapshot.start <= chunks.watermark().0.min(snapshot.end), "a gap");
            let held: usize = snapshot.chunks.iter().map(|chunk| Held::of(chunk.batch().columns())).sum();
            prop_assert_eq!(chunks.bytes(), held);
            frozen.push((snapshot, seen));
        }
        for (snapshot, seen) in frozen {
            prop_assert_eq!(amounts(&snapshot), seen, "a snapshot changed");
        }
    }
}
