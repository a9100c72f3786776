//! What one frame of the log says of a producer.
//!
//! The frame's header bears time, and for a batch its schema version, first seq (0 if no row was accepted) and count of rows accepted. Its payload:
//!
//! | byte | size | what (little endian) |
//! | --- | --- | --- |
//! | 0 | 1 | 1: an epoch is issued; 2: one that goes on where the one before stopped; 3: a batch was answered |
//! | 1 | 8 | producer epoch |
//! | 9 | 8 | number of the batch, else 0 |
//! | 17 | 16 | hash of what was sent, else 0 |
//! | 33 | 4 | rows refused, else 0 |
//! | 37 | … | the producer's name, UTF-8 |

use std::sync::Arc;

use schemas::{Seq, TenantId, TopicId};

use super::Answered;
use crate::wal::{Frame, FrameKind, Payload};

const FIXED_BYTES: usize = 37;

/// What happened to a producer of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerRecord {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) time_micros: i64,
    pub(crate) act: Act,
}

/// See [`ProducerRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It has a new epoch. `resumes`: its batches are numbered on, and what was answered is still known.
    Issued { resumes: bool },
    /// The batch of this number was answered.
    Answered { seq: u64, answer: Answered },
}

impl ProducerRecord {
    /// As a frame of this topic.
    pub(crate) fn frame(&self, tenant: TenantId, topic: TopicId) -> Frame {
        let (code, seq, content, refused) = match &self.act {
            Act::Issued { resumes: false } => (1, 0, 0, 0),
            Act::Issued { resumes: true } => (2, 0, 0, 0),
            Act::Answered { seq, answer } => (3, *seq, answer.content, answer.refused),
        };
        let mut payload = Vec::with_capacity(FIXED_BYTES + self.name.len());
        payload.push(code);
        payload.extend_from_slice(&self.epoch.to_le_bytes());
        payload.extend_from_slice(&seq.to_le_bytes());
        payload.extend_from_slice(&content.to_le_bytes());
        payload.extend_from_slice(&refused.to_le_bytes());
        payload.extend_from_slice(self.name.as_bytes());
        let mut frame = Frame::record(FrameKind::Producer, tenant, topic, Payload::new(payload));
        frame.time_micros = self.time_micros;
        if let Act::Answered { answer, .. } = &self.act {
            frame.schema_version = answer.schema_version;
            frame.count = answer.accepted;
            frame.first_seq = answer.first_seq.unwrap_or(Seq(0));
        }
        frame
    }

    /// Reads what [`Self::frame`] made. Errors: what is wrong, in words.
    pub(crate) fn read(frame: &Frame) -> Result<Self, String> {
        let bytes = frame.payload.bytes();
        let Some((fixed, name)) = bytes.split_at_checked(FIXED_BYTES) else {
            return Err(format!("expected {FIXED_BYTES} bytes and a producer's name, found {}", bytes.len()));
        };
        let name = std::str::from_utf8(name).map_err(|_| "a producer's name is not UTF-8")?;
        let long = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("8 bytes"));
        let act = match fixed[0] {
            1 => Act::Issued { resumes: false },
            2 => Act::Issued { resumes: true },
            3 => {
                let answer = Answered {
                    content: u128::from_le_bytes(fixed[17..33].try_into().expect("16 bytes")),
                    first_seq: Some(frame.first_seq).filter(|_| frame.count > 0),
                    accepted: frame.count,
                    refused: u32::from_le_bytes(fixed[33..37].try_into().expect("4 bytes")),
                    schema_version: frame.schema_version,
                };
                Act::Answered { seq: long(9), answer }
            }
            other => return Err(format!("a producer's record of kind {other}, which this Firn does not know")),
        };
        Ok(Self { name: name.into(), epoch: long(1), time_micros: frame.time_micros, act })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn ids() -> (TenantId, TopicId) {
        (TenantId(Uuid::from_u128(1)), TopicId(Uuid::from_u128(2)))
    }

    fn answered() -> impl Strategy<Value = Act> {
        let counts = (any::<u128>(), 1..i64::MAX, any::<u32>(), any::<u32>(), any::<u32>());
        (any::<u64>(), counts).prop_map(|(seq, (content, first, accepted, refused, schema_version))| {
            let first_seq = Some(Seq(first)).filter(|_| accepted > 0);
            Act::Answered { seq, answer: Answered { content, first_seq, accepted, refused, schema_version } }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(name in ".{1,40}", epoch in any::<u64>(), time_micros in any::<i64>(), act in prop_oneof![
            any::<bool>().prop_map(|resumes| Act::Issued { resumes }), answered()
        ]) {
            let record = ProducerRecord { name: name.into(), epoch, time_micros, act };
            prop_assert_eq!(ProducerRecord::read(&record.frame(ids().0, ids().1)).unwrap(), record);
        }

        #[test]
        fn bytes_that_are_no_record_are_refused_or_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let frame = Frame::record(FrameKind::Producer, ids().0, ids().1, Payload::new(bytes));
            let _ = ProducerRecord::read(&frame);
        }
    }

    /// These bytes are in users' stores.
    #[test]
    fn the_bytes_of_format_version_1_stay_what_they_are() {
        let answer = Answered {
            content: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
            first_seq: Some(Seq(9)),
            accepted: 3,
            refused: 2,
            schema_version: 1,
        };
        let act = Act::Answered { seq: 7, answer };
        let frame = ProducerRecord { name: "loader".into(), epoch: 5, time_micros: 11, act }.frame(ids().0, ids().1);
        let hex: String = frame.payload.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0305000000000000000700000000000000000102030405060708090a0b0c0d0e0f020000006c6f61646572");
        assert_eq!((frame.schema_version, frame.count, frame.first_seq, frame.time_micros), (1, 3, Seq(9), 11));
    }
}
