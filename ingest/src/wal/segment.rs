//! One segment of a lane's log, format version 1.
//!
//! | byte | size | what (little endian) |
//! | --- | --- | --- |
//! | 0 | 8 | `FIRNWAL` and a line feed |
//! | 8 | 2 | format version: 1 |
//! | 10 | 2 | 0 |
//! | 12 | 4 | lane |
//! | 16 | 8 | epoch |
//! | 24 | 8 | slot |
//! | 32 | 16 | nonce |
//! | 48 | 16 | link hash of the predecessor: of its header, from byte 0 to its checksum inclusive |
//! | 64 | 16 | xxh3-128 of the body |
//! | 80 | 8 | body length |
//! | 88 | 4 | count of frames |
//! | 92 | 4 | count of topics, then for each, ascending: topic id (16), shard (4), its last seq here (8) |
//! | 96 + 28 × topics | 4 | crc32c of all above |
//!
//! The body follows: frames ([`super::frame`]), one after the other, to the end of the object. The nonce tells two writers' segments apart even if
//! they say the same. An epoch's first segment names the SEAL of the epoch before as its predecessor; a lane's very first names zeros.
//! Which columns of an event are logged and which derived anew is part of this format version.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemas::{Epoch, LaneId, Seq, Shard, Slot, TopicId};
use uuid::Uuid;

use super::Damage;
use super::frame::{Frame, FrameKind};
use super::hash::LinkHash;

/// The format that this code reads and writes.
pub(crate) const FORMAT_VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"FIRNWAL\n";
const FIXED_BYTES: usize = 96;
const TOPIC_BYTES: usize = 28;
const CRC_BYTES: usize = 4;

/// Where a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lane: LaneId,
    pub(crate) epoch: Epoch,
    pub(crate) slot: Slot,
    /// Link hash of the segment before.
    pub(crate) predecessor: LinkHash,
}

/// How far a segment takes a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicEnd {
    pub(crate) topic: TopicId,
    pub(crate) shard: Shard,
    pub(crate) last_seq: Seq,
}

/// A segment, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) place: Place,
    pub(crate) nonce: [u8; 16],
    /// What the next segment names as its predecessor.
    pub(crate) link: LinkHash,
    /// The topics that have events here.
    pub(crate) topics: Vec<TopicEnd>,
    pub(crate) frames: Vec<Frame>,
}

/// A segment on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Bytes,
    pub(crate) link: LinkHash,
    pub(crate) topics: Vec<TopicEnd>,
}

/// Puts frames together. Copies each payload once; hashes the body once.
pub(crate) fn encode(place: Place, nonce: [u8; 16], frames: &[Frame]) -> Encoded {
    let topics = topic_ends(frames);
    let header_bytes = FIXED_BYTES + topics.len() * TOPIC_BYTES + CRC_BYTES;
    let body_bytes: usize = frames.iter().map(Frame::encoded_bytes).sum();
    let mut out = Vec::with_capacity(header_bytes + body_bytes);
    out.resize(header_bytes, 0);
    frames.iter().for_each(|frame| frame.encode(&mut out));
    let body_hash = LinkHash::of(&out[header_bytes..]);

    let mut header = Vec::with_capacity(header_bytes);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 2]);
    header.extend_from_slice(&place.lane.0.to_le_bytes());
    header.extend_from_slice(&place.epoch.0.to_le_bytes());
    header.extend_from_slice(&place.slot.0.to_le_bytes());
    header.extend_from_slice(&nonce);
    header.extend_from_slice(&place.predecessor.0);
    header.extend_from_slice(&body_hash.0);
    header.extend_from_slice(&(body_bytes as u64).to_le_bytes());
    header.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    header.extend_from_slice(&(topics.len() as u32).to_le_bytes());
    for end in &topics {
        header.extend_from_slice(end.topic.0.as_bytes());
        header.extend_from_slice(&end.shard.0.to_le_bytes());
        header.extend_from_slice(&end.last_seq.0.to_le_bytes());
    }
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    out[..header_bytes].copy_from_slice(&header);
    Encoded { bytes: out.into(), link: LinkHash::of(&header), topics }
}

fn topic_ends(frames: &[Frame]) -> Vec<TopicEnd> {
    let mut ends = BTreeMap::new();
    for frame in frames.iter().filter(|frame| frame.kind == FrameKind::Events) {
        let end = ends.entry((frame.topic, frame.shard)).or_insert(frame.last_seq());
        *end = frame.last_seq().max(*end);
    }
    ends.into_iter().map(|((topic, shard), last_seq)| TopicEnd { topic, shard, last_seq }).collect()
}

impl Segment {
    /// True if this ends its epoch.
    pub(crate) fn is_seal(&self) -> bool {
        self.frames.iter().any(|frame| frame.kind == FrameKind::Seal)
    }

    /// Reads a segment and checks all of it: every bit counts. Errors name the offset.
    pub(crate) fn decode(object: &Bytes) -> Result<Self, Damage> {
        let header = Header::decode(object)?;
        let body = &object[header.bytes..];
        if LinkHash::of(body) != header.body_hash || body.len() as u64 != header.body_bytes {
            return Err(header.locate_damage(object));
        }
        let frames = header.frames(object, false)?;
        let segment =
            Self { place: header.place, nonce: header.nonce, link: header.link, topics: header.topics, frames };
        if segment.topics != topic_ends(&segment.frames) {
            return Err(Damage::at(FIXED_BYTES, "the header names other topics or seqs than the frames have"));
        }
        Ok(segment)
    }
}

struct Header {
    place: Place,
    nonce: [u8; 16],
    link: LinkHash,
    body_hash: LinkHash,
    body_bytes: u64,
    frames: usize,
    topics: Vec<TopicEnd>,
    /// Its own length.
    bytes: usize,
}

impl Header {
    fn decode(object: &Bytes) -> Result<Self, Damage> {
        let Some(fixed) = object.get(..FIXED_BYTES) else {
            return Err(Damage::at(
                0,
                format!("expected a header of at least {FIXED_BYTES} bytes, found {}", object.len()),
            ));
        };
        if &fixed[..8] != MAGIC {
            return Err(Damage::at(
                0,
                format!(
                    "expected {:?}, found {:?}",
                    MAGIC.escape_ascii().to_string(),
                    fixed[..8].escape_ascii().to_string()
                ),
            ));
        }
        let version = u16::from_le_bytes([fixed[8], fixed[9]]);
        if version != FORMAT_VERSION {
            return Err(Damage::at(8, format!("expected format version {FORMAT_VERSION}, found {version}")));
        }
        let topics = word(fixed, 92) as usize;
        let topics_end = topics.saturating_mul(TOPIC_BYTES).saturating_add(FIXED_BYTES);
        let bytes = topics_end.saturating_add(CRC_BYTES);
        let Some(header) = object.get(..bytes) else {
            return Err(Damage::at(
                92,
                format!("expected a header of {bytes} bytes for {topics} topics, the object has {}", object.len()),
            ));
        };
        let (found, expected) = (crc32c::crc32c(&header[..topics_end]), word(header, topics_end));
        if found != expected {
            return Err(Damage::at(0, format!("the header has checksum {found:08x}, expected {expected:08x}")));
        }
        let topics = header[FIXED_BYTES..topics_end].chunks_exact(TOPIC_BYTES).map(topic_end).collect();
        Ok(Self {
            place: Place {
                lane: LaneId(word(fixed, 12)),
                epoch: Epoch(long(fixed, 16)),
                slot: Slot(long(fixed, 24)),
                predecessor: LinkHash(sixteen(fixed, 48)),
            },
            nonce: sixteen(fixed, 32),
            link: LinkHash::of(header),
            body_hash: LinkHash(sixteen(fixed, 64)),
            body_bytes: long(fixed, 80),
            frames: word(fixed, 88) as usize,
            topics,
            bytes,
        })
    }

    fn frames(&self, object: &Bytes, check_payloads: bool) -> Result<Vec<Frame>, Damage> {
        let mut offset = self.bytes;
        let mut frames = Vec::new();
        for _ in 0..self.frames {
            let (frame, end) = Frame::decode(object, offset, check_payloads)?;
            frames.push(frame);
            offset = end;
        }
        if offset != object.len() {
            return Err(Damage::at(
                offset,
                format!("expected the end of the segment, found {} bytes", object.len() - offset),
            ));
        }
        Ok(frames)
    }

    /// The body's hash is wrong: the frames' own checksums tell where.
    fn locate_damage(&self, object: &Bytes) -> Damage {
        match self.frames(object, true) {
            Err(damage) => damage,
            Ok(_) => Damage::at(64, "the body is whole, frame by frame, but its hash in the header is another's"),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn sixteen(bytes: &[u8], at: usize) -> [u8; 16] {
    bytes[at..at + 16].try_into().expect("16 bytes")
}

fn topic_end(bytes: &[u8]) -> TopicEnd {
    TopicEnd {
        topic: TopicId(Uuid::from_bytes(sixteen(bytes, 0))),
        shard: Shard(word(bytes, 16)),
        last_seq: Seq(long(bytes, 20) as i64),
    }
}

#[cfg(test)]
mod tests;
