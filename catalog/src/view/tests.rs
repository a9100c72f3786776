use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::table::testing::{events, flush, open, orders, tenant};

fn chunk(def: &TopicDef, from: i64, keys: &[&str]) -> Arc<TailChunk> {
    let rows: Vec<_> = keys.iter().map(|key| (*key, "eu")).collect();
    Arc::new(TailChunk::new(events(def, from, &rows)))
}

fn held(def: &TopicDef, chunks: Vec<Arc<TailChunk>>, start: i64) -> TailSnapshot {
    let end = chunks.last().map_or(Seq(start), |chunk| chunk.end_seq());
    TailSnapshot { def: Arc::new(def.clone()), start: Seq(start), end, chunks }
}

fn seqs(view: &ReadView) -> Vec<i64> {
    let of = |batch: &RecordBatch| batch.column(column::SEQ).as_primitive::<Int64Type>().values().to_vec();
    view.tail().iter().flat_map(of).collect()
}

#[tokio::test]
async fn a_view_cuts_the_tail_at_the_watermark_and_refuses_a_gap() {
    let folder = tempfile::tempdir().expect("a folder");
    let tables = open(folder.path()).await;
    let def = orders();
    tables.ensure(&tenant(), &def).await.expect("a table");
    let table =
        flush(&tables, &def, 1, &[events(&def, 1, &[("a", "eu"), ("b", "eu"), ("a", "us")])]).await.expect("flushes");
    let held = |chunks, start| held(&def, chunks, start);
    let view = |held| ReadView::new(held, Arc::clone(&table));

    let spanning = view(held(vec![chunk(&def, 1, &["a", "b"]), chunk(&def, 3, &["a", "a", "b"])], 1)).expect("no gap");
    assert_eq!((seqs(&spanning), spanning.end()), (vec![4, 5], Seq(6)));
    let found = spanning.tail_rows_of("a");
    assert_eq!(
        found.iter().map(|(_, rows)| rows.clone()).collect::<Vec<_>>(),
        [vec![1]],
        "the row below the watermark is the table's"
    );

    let behind = view(held(vec![chunk(&def, 1, &["a"])], 1)).expect("the table is ahead of the tail");
    assert_eq!((seqs(&behind), behind.end()), (vec![], Seq(4)));

    let earlier = view(held(vec![chunk(&def, 3, &["a", "a", "b"])], 3)).expect("no gap").until(Seq(5));
    assert_eq!((seqs(&earlier), earlier.end(), earlier.cuts_table()), (vec![4], Seq(5), false));
    let earlier = earlier.until(Seq(3));
    assert_eq!((seqs(&earlier), earlier.end(), earlier.cuts_table()), (vec![], Seq(3), true));

    let gap = view(held(vec![chunk(&def, 5, &["a"])], 5)).expect_err("seq 4 is nowhere");
    assert_eq!(gap.kind(), ErrorKind::Internal);
}

proptest! {
    #[test]
    fn a_chunk_finds_exactly_the_rows_of_a_key(keys in proptest::collection::vec("[a-c]{1,2}", 1..200)) {
        let def = orders();
        let borrowed: Vec<_> = keys.iter().map(String::as_str).collect();
        let chunk = chunk(&def, 1, &borrowed);
        let asked: HashSet<_> = borrowed.iter().copied().chain(["absent"]).collect();
        for key in asked {
            let naive: Vec<u32> = (0..keys.len() as u32).filter(|row| keys[*row as usize] == key).collect();
            prop_assert_eq!(chunk.rows_of(key), naive);
        }
    }
}
