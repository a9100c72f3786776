//! One frame of a segment: who it concerns, what it is, and its payload.
//!
//! | byte | size | what (little endian) |
//! | --- | --- | --- |
//! | 0 | 1 | kind |
//! | 1 | 1 | bit 0: critical: a reader that does not know the kind must stop |
//! | 2 | 2 | events: which optional columns the payload has, see [`columns`]; else 0 |
//! | 4 | 4 | schema version |
//! | 8 | 16 | tenant id |
//! | 24 | 16 | topic id |
//! | 40 | 4 | shard |
//! | 44 | 4 | count of events |
//! | 48 | 8 | first seq |
//! | 56 | 8 | time, microseconds since 1970 UTC: the `_time` of every event of the frame |
//! | 64 | 4 | payload length |
//! | 68 | 4 | crc32c of the payload |
//! | 72 | 4 | crc32c of bytes 0 to 72 |
//!
//! The payload follows. Fields that a kind has no use for are 0.

use bytes::Bytes;
use schemas::{Seq, Shard, TenantId, TopicId};
use uuid::Uuid;

use super::Damage;

/// Bytes of a frame before its payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 76;
const CRITICAL: u8 = 1;

/// Optional columns of an events payload, as bits.
pub(crate) mod columns {
    /// `_kind` is there; else every event is an ordinary one.
    pub(crate) const KIND: u16 = 1;
    /// `_headers` is there; else they are null.
    pub(crate) const HEADERS: u16 = 2;
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Events of one topic: one Arrow IPC record-batch message.
    Events,
    /// A topic begins: JSON of tenant name and definition.
    TopicCreated,
    /// A topic ends.
    TopicDropped,
    /// A topic has a new definition: JSON as for `TopicCreated`.
    TopicChanged,
    /// A producer's epoch and last seqs.
    Producer,
    /// A fence token.
    Fence,
    /// How far a group has come.
    GroupProgress,
    /// The epoch ends here.
    Seal,
    /// Events of a topic below a seq are gone: JSON of `shard → seq`.
    Retained,
    /// Made by a newer Firn.
    Unknown(u8),
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Events => 1,
            Self::TopicCreated => 2,
            Self::TopicDropped => 3,
            Self::TopicChanged => 4,
            Self::Producer => 5,
            Self::Fence => 6,
            Self::GroupProgress => 7,
            Self::Seal => 8,
            Self::Retained => 9,
            Self::Unknown(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Events,
            2 => Self::TopicCreated,
            3 => Self::TopicDropped,
            4 => Self::TopicChanged,
            5 => Self::Producer,
            6 => Self::Fence,
            7 => Self::GroupProgress,
            8 => Self::Seal,
            9 => Self::Retained,
            other => Self::Unknown(other),
        }
    }
}

/// Bytes with their checksum, which is taken where they are made: outside the lane's task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    bytes: Bytes,
    crc: u32,
}

impl Payload {
    /// At most 4 GiB, which the limits on segments keep far away.
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { crc: crc32c::crc32c(&bytes), bytes }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    /// A reader that does not know `kind` must stop.
    pub(crate) critical: bool,
    /// See [`columns`].
    pub(crate) columns: u16,
    pub(crate) schema_version: u32,
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicId,
    pub(crate) shard: Shard,
    pub(crate) count: u32,
    pub(crate) first_seq: Seq,
    pub(crate) time_micros: i64,
    pub(crate) payload: Payload,
}

impl Frame {
    /// A record about a topic or, with nil ids, about the lane: critical, no events.
    pub(crate) fn record(kind: FrameKind, tenant: TenantId, topic: TopicId, payload: Payload) -> Self {
        Self {
            kind,
            critical: true,
            columns: 0,
            schema_version: 0,
            tenant,
            topic,
            shard: Shard(0),
            count: 0,
            first_seq: Seq(0),
            time_micros: 0,
            payload,
        }
    }

    /// The end of an epoch.
    pub(crate) fn seal() -> Self {
        Self::record(FrameKind::Seal, TenantId(Uuid::nil()), TopicId(Uuid::nil()), Payload::new(Bytes::new()))
    }

    /// Seq of the last event. A frame that nobody could have written may name any seqs: they end where numbers do.
    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.first_seq.0.saturating_add(i64::from(self.count)).saturating_sub(1))
    }

    /// Bytes in a segment.
    pub(crate) fn encoded_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.bytes.len()
    }

    /// Writes header and payload.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(self.kind.code());
        out.push(if self.critical { CRITICAL } else { 0 });
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.schema_version.to_le_bytes());
        out.extend_from_slice(self.tenant.0.as_bytes());
        out.extend_from_slice(self.topic.0.as_bytes());
        out.extend_from_slice(&self.shard.0.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.first_seq.0.to_le_bytes());
        out.extend_from_slice(&self.time_micros.to_le_bytes());
        let length = u32::try_from(self.payload.bytes.len()).expect("segments are far below 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.payload.crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(out.len() - start, FRAME_HEADER_BYTES);
        out.extend_from_slice(&self.payload.bytes);
    }

    /// Reads the frame that begins at `offset` of `object` and must lie within it. Returns it with the offset after it.
    ///
    /// The header's checksum is always checked; the payload's only if `check_payload`: the body's hash covers it too.
    pub(crate) fn decode(object: &Bytes, offset: usize, check_payload: bool) -> Result<(Self, usize), Damage> {
        let payload_start = offset + FRAME_HEADER_BYTES;
        let Some(header) = object.get(offset..payload_start) else {
            let found = object.len() - offset;
            return Err(Damage::at(
                offset,
                format!("expected a frame's {FRAME_HEADER_BYTES} bytes of header, found {found}"),
            ));
        };
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| i64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
        let id = |at: usize| Uuid::from_bytes(header[at..at + 16].try_into().expect("16 bytes"));
        let found = crc32c::crc32c(&header[..72]);
        if found != word(72) {
            return Err(Damage::at(
                offset,
                format!("a frame's header has checksum {found:08x}, expected {:08x}", word(72)),
            ));
        }
        let (length, crc) = (word(64) as usize, word(68));
        let end = payload_start + length;
        if end > object.len() {
            let found = object.len() - payload_start;
            return Err(Damage::at(payload_start, format!("expected a payload of {length} bytes, found {found}")));
        }
        let bytes = object.slice(payload_start..end);
        if check_payload {
            let found = crc32c::crc32c(&bytes);
            if found != crc {
                let what = format!("a payload of {length} bytes has checksum {found:08x}, expected {crc:08x}");
                return Err(Damage::at(payload_start, what));
            }
        }
        let frame = Self {
            kind: FrameKind::from_code(header[0]),
            critical: header[1] & CRITICAL != 0,
            columns: u16::from_le_bytes([header[2], header[3]]),
            schema_version: word(4),
            tenant: TenantId(id(8)),
            topic: TopicId(id(24)),
            shard: Shard(word(40)),
            count: word(44),
            first_seq: Seq(long(48)),
            time_micros: long(56),
            payload: Payload { bytes, crc },
        };
        Ok((frame, end))
    }
}
