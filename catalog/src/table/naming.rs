//! Names that say what is in a file: every immutable file of a table that Firn writes ends with a UUID that is made of its content's hash.
//!
//! So a bit that rots, a file cut short, or one that was put in another's place is found by whoever reads it whole, whatever its format; nothing
//! has to be stored besides, no request is added, and other engines read the names as they read any. A UUID of version 8 ("custom") tells such a name from
//! others': what other engines write carries none, and is checked by its format alone. The hash is XXH3-128 with six bits spent on version and variant: it
//! finds rot, not somebody who may write to the store (see `ingest::wal::hash`).

use std::ops::Range;

use bytes::Bytes;
use schemas::{Seq, TopicId};
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The name of a content.
pub(super) fn content_id(content: &[u8]) -> Uuid {
    id_of(xxh3_128(content))
}

fn id_of(hash: u128) -> Uuid {
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

/// What the content of a file of this name must be, if the name says it.
pub(super) fn claimed_id(name: &str) -> Option<Uuid> {
    let file = name.rsplit('/').next()?;
    let stem = file.strip_suffix(".metadata.json").or_else(|| Some(file.rsplit_once('.')?.0))?;
    let ending = |length: usize| stem.len().checked_sub(length).and_then(|start| stem.get(start..));
    let id = ending(36).and_then(|text| Uuid::try_parse(text).ok());
    let id = id.or_else(|| ending(32).and_then(|text| Uuid::try_parse(text).ok()));
    id.filter(|id| id.get_version_num() == 8)
}

/// The seqs `[from, to)` that a data file of the topic's has by its name, `{topic}-{from}-{to}-g…`. `None` for names that Firn does not give.
pub(super) fn own_range(topic: TopicId, name: &str) -> Option<Range<Seq>> {
    claimed_id(name)?;
    let rest = name.rsplit('/').next()?.strip_prefix(&topic.to_string())?.strip_prefix('-')?;
    let mut parts = rest.split('-');
    let mut seq = || parts.next()?.parse().ok().map(Seq);
    Some(seq()?..seq()?)
}

/// Names a data file: topic, range, sweep generation, a nonce (a paused twin's late put must not land on a committed file), and the content's hash.
pub(super) fn data_name(topic: TopicId, range: &Range<Seq>, generation: u64, nonce: Uuid, content: &[u8]) -> String {
    let (nonce, content) = (nonce.as_simple(), content_id(content));
    format!("{topic}-{}-{}-g{generation}-{nonce}-{}.parquet", range.start, range.end, content.as_simple())
}

/// The content of a file that comes piece by piece.
pub(super) struct Hasher(Xxh3);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(Xxh3::new())
    }

    pub(super) fn add(&mut self, piece: &Bytes) {
        self.0.update(piece);
    }

    pub(super) fn id(&self) -> Uuid {
        id_of(self.0.digest128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_claims_its_content_in_every_form_that_it_is_written_in() {
        let id = content_id(b"rows");
        let simple = id.as_simple();
        for name in [
            format!("s3://b/t/data/1-9-g0-{simple}.parquet"),
            format!("file:///t/metadata/00001-{id}.metadata.json"),
            format!("snap-1-g0-{}-{simple}.avro", Uuid::from_u128(4)),
        ] {
            assert_eq!(claimed_id(&name), Some(id), "{name}");
        }
        assert_ne!(content_id(b"rowS"), id);
    }

    #[test]
    fn a_data_file_says_which_seqs_it_may_have() {
        let topic = TopicId(Uuid::from_u128(7));
        let name = data_name(topic, &(Seq(5)..Seq(9)), 3, Uuid::from_u128(4), b"rows");
        assert_eq!(own_range(topic, &format!("warehouse/data/{name}")), Some(Seq(5)..Seq(9)));
        assert_eq!(own_range(TopicId(Uuid::from_u128(8)), &name), None, "another topic's");
        assert_eq!(own_range(topic, "00000-0-5c0f-00001.parquet"), None);
    }

    #[test]
    fn other_engines_names_claim_nothing() {
        let theirs = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);
        for name in [format!("00000-0-{theirs}-00001.parquet"), format!("00001-{theirs}.metadata.json"), "x".into()] {
            assert_eq!(claimed_id(&name), None, "{name}");
        }
    }

    #[test]
    fn a_content_in_pieces_has_the_same_name() {
        let mut hasher = Hasher::new();
        ["ro", "ws"].iter().for_each(|piece| hasher.add(&Bytes::from_static(piece.as_bytes())));
        assert_eq!(hasher.id(), content_id(b"rows"));
    }
}
