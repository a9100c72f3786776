//! Entry points for the fuzzer: what an untrusted client sends.

use arrow::array::Array;
use arrow_flight::FlightData;
use bytes::Bytes;

use crate::decode::Decoder;
use crate::terms::BatchTerms;
use crate::ticket::{Ticket, is_json};

/// A name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// By name, as `make fuzz TARGET=…` takes them.
pub const TARGETS: &[Target] = &[("decoder", decoder), ("ticket", ticket)];

/// A stream of Flight messages, each as two lengths of 16 bits, header, body. Every column of what is taken for a batch is sound to the last value.
fn decoder(mut data: &[u8]) {
    let mut decoder = Decoder::default();
    while let Some((lengths, rest)) = data.split_at_checked(4) {
        let header = usize::from(u16::from_le_bytes([lengths[0], lengths[1]])).min(rest.len());
        let (header, rest) = rest.split_at(header);
        let body = usize::from(u16::from_le_bytes([lengths[2], lengths[3]])).min(rest.len());
        let (body, rest) = rest.split_at(body);
        let message = FlightData {
            data_header: Bytes::copy_from_slice(header),
            data_body: Bytes::copy_from_slice(body),
            ..FlightData::default()
        };
        match decoder.decode(message) {
            Ok(Some(batch)) => {
                for column in batch.columns() {
                    column.to_data().validate_full().expect("what was decoded is valid");
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
        data = rest;
    }
}

/// A ticket or descriptor: what is read is written as a document that says the same. Likewise what a producer says of a batch.
fn ticket(data: &[u8]) {
    let _ = BatchTerms::parse(data);
    let Ok(ticket) = Ticket::parse(data) else { return };
    assert!(is_json(data));
    assert_eq!(Ticket::parse(&ticket.to_json()).as_ref().ok(), Some(&ticket));
}

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod kept;

#[test]
fn what_the_fuzzer_has_kept_is_survived() {
    kept::replay(TARGETS);
}
