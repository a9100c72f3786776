//! The hash that links segments and covers their bodies: xxh3, 128 bits.
//!
//! It finds rot, truncation and misdirected reads; it is no defence against somebody who may write to the store, who could rewrite the chain
//! from end to end under any hash. In return it costs about a tenth of a millisecond a mebibyte even in one thread, so that hashing never dominates a put.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Hash of a segment's header, which in turn holds the hash of its body and that of its predecessor's header. Hexadecimal in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LinkHash(pub(crate) [u8; 16]);

impl LinkHash {
    /// What the first segment of a lane names as its predecessor.
    pub(crate) const START: Self = Self([0; 16]);

    /// The hash of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(xxh3_128(bytes).to_le_bytes())
    }
}

impl fmt::Display for LinkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LinkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<LinkHash> for String {
    fn from(hash: LinkHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for LinkHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fault = || format!("expected 32 hexadecimal digits, found {text:?}");
        if text.len() != 32 || !text.is_ascii() {
            return Err(fault());
        }
        let mut hash = [0; 16];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| fault())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| fault())?;
        }
        Ok(Self(hash))
    }
}
