//! The write-ahead log: what a segment is, byte by byte, and how rows lie in it.
//!
//! Pure: bytes in, bytes out. Where segments lie and when they count is the business of [`crate::lane`].

pub(crate) mod body;
pub(crate) mod frame;
pub(crate) mod hash;
pub(crate) mod segment;

pub(crate) use body::{decode_body, encode_body};
pub(crate) use frame::{Frame, FrameKind, Payload};
pub(crate) use hash::LinkHash;
pub(crate) use segment::{Place, Segment, TopicEnd};

use std::fmt;

/// Bytes that are not what was written: where, and in what way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Byte of the object at which the damaged part begins.
    pub(crate) offset: usize,
    /// What was expected there and what was found.
    pub(crate) what: String,
}

impl Damage {
    fn at(offset: usize, what: impl Into<String>) -> Self {
        Self { offset, what: what.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.what)
    }
}
