use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array};

use super::*;
use crate::testing::{orders, valid_orders};

fn shape() -> Shape {
    Shape::new(orders(1)).unwrap()
}

#[test]
fn a_body_is_read_back_as_it_was_written() {
    let shape = shape();
    let body = valid_orders(shape.def(), 0..1000).body;
    let (payload, present) = encode_body(&body).unwrap();
    assert_eq!(present, 0);
    assert!(payload.bytes().len() < body.get_array_memory_size(), "it is compressed");
    assert_eq!(decode_body(&payload, present, &shape).unwrap(), body);
}

#[test]
fn a_slice_is_written_without_what_it_was_cut_from() {
    let shape = shape();
    let body = valid_orders(shape.def(), 0..10_000).body.slice(5000, 3);
    let (payload, present) = encode_body(&body).unwrap();
    assert!(payload.bytes().len() < 2000, "{} bytes", payload.bytes().len());
    assert_eq!(decode_body(&payload, present, &shape).unwrap(), body);
}

#[test]
fn optional_columns_are_read_back() {
    let shape = shape();
    let plain = valid_orders(shape.def(), 0..3).body;
    let kinds: ArrayRef = Arc::new(Int8Array::from(vec![0, 1, 2]));
    let columns = [&[kinds], plain.columns()].concat();
    let body = RecordBatch::try_new(Arc::clone(shape.body_schema(true, false)), columns).unwrap();
    let (payload, present) = encode_body(&body).unwrap();
    assert_eq!(present, columns::KIND);
    assert_eq!(decode_body(&payload, present, &shape).unwrap(), body);
}

#[test]
fn a_message_that_is_cut_short_is_an_error() {
    let shape = shape();
    let (payload, present) = encode_body(&valid_orders(shape.def(), 0..10).body).unwrap();
    for length in 0..payload.bytes().len() {
        let cut = Payload::new(payload.bytes().slice(..length));
        assert!(decode_body(&cut, present, &shape).is_err(), "{length} bytes were read as a whole message");
    }
}

/// A message as Arrow's C++ library writes it, LZ4 and all: what lies in users' segments is Arrow's format, not one library's, and is read for ever.
#[test]
fn a_message_written_long_ago_and_elsewhere_is_read() {
    let shape = shape();
    let payload = Payload::new(&include_bytes!("golden/orders.ipc")[..]);
    assert_eq!(decode_body(&payload, 0, &shape).unwrap(), valid_orders(shape.def(), 0..40).body);
}

#[test]
fn a_message_whose_parts_contradict_each_other_is_an_error() {
    let shape = shape();
    let (payload, present) = encode_body(&valid_orders(shape.def(), 0..10).body).unwrap();
    let intact = payload.bytes().to_vec();
    for at in 8..intact.len() {
        for bit in [0, 3, 7] {
            let mut damaged = intact.clone();
            damaged[at] ^= 1 << bit;
            // It may read as other rows: that it was damaged is what its checksum says. It never panics and never takes memory for what is not there.
            let _ = decode_body(&Payload::new(damaged), present, &shape);
        }
    }
}
