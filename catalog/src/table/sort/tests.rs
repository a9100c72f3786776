use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use proptest::prelude::*;
use schemas::envelope::{self, column};

use super::*;

/// Only the columns that sorting looks at hold anything.
fn batch(first_seq: i64, rows: &[(String, String)]) -> RecordBatch {
    let fields = envelope::fields();
    let columns: Vec<ArrayRef> = fields
        .iter()
        .enumerate()
        .map(|(index, _)| -> ArrayRef {
            match index {
                column::PREFIX => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.0))),
                column::KEY => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
                _ => Arc::new(Int64Array::from_iter_values((0..rows.len()).map(|row| first_seq + row as i64))),
            }
        })
        .collect();
    let kinds =
        columns.iter().zip(&fields).map(|(values, field)| Field::new(field.name(), values.data_type().clone(), true));
    RecordBatch::try_new(Arc::new(Schema::new(kinds.collect::<Vec<_>>())), columns).expect("columns of one length")
}

proptest! {
    #[test]
    fn rows_come_out_by_prefix_then_key_then_seq(
        batches in prop::collection::vec(prop::collection::vec(("[ab]{1,2}", "(same|)[a-c\\x00]{0,10}"), 1..40), 0..6)
    ) {
        let mut first = 1;
        let mut made = Vec::new();
        let mut expected = Vec::new();
        for rows in &batches {
            made.push(batch(first, rows));
            for (prefix, key) in rows {
                expected.push((prefix.clone(), key.clone(), expected.len() as u32));
            }
            first += rows.len() as i64;
        }
        expected.sort();
        let order = Order::of(&made);
        prop_assert_eq!(order.rows.values(), &expected.iter().map(|row| row.2).collect::<Vec<_>>());
        expected.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
        prop_assert_eq!(order.distinct, expected.len());
    }
}

#[test]
fn a_hasher_that_is_given_bytes_still_tells_them_apart() {
    let hash = |bytes: &[u8]| {
        let mut hasher = AlreadyHashed::default();
        hasher.write(bytes);
        hasher.finish()
    };
    assert_ne!(hash(b"ab"), hash(b"ba"));
}
