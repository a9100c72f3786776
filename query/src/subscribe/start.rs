//! Where a subscription begins in a topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::{ErrorKind, Seq, ShardSeqs, TopicDef, TopicName};

use super::From;
use crate::at::{first_at, instant};
use crate::error::{QueryError, Result};
use crate::reader::Reader;
use crate::replay::dropped;

/// Where each topic begins.
pub(super) struct Starts {
    /// Those that say nothing else.
    all: Start,
    /// Those of which some was seen before: with this seq.
    each: BTreeMap<TopicName, Seq>,
}

impl Starts {
    /// Errors: `Invalid` for a start that is none.
    pub(super) fn parse(from: &From, after: &BTreeMap<TopicName, ShardSeqs>) -> Result<Self> {
        let next = |(topic, seqs): (&TopicName, &ShardSeqs)| match seqs.as_single() {
            Some(Seq(last)) if (0..i64::MAX).contains(&last) => Ok((topic.clone(), Seq(last + 1))),
            _ => Err(invalid(format!(r#"after: topic {topic}: expected its last seq as {{"0":17}}, found {seqs:?}"#))),
        };
        Ok(Self { all: Start::parse(from)?, each: after.iter().map(next).collect::<Result<_>>()? })
    }

    /// The cursor of a topic that is there at the call. `Now` is what is decided at the call.
    pub(super) async fn cursor(&self, reader: &Reader, def: &Arc<TopicDef>) -> Result<Seq> {
        match self.each.get(&def.name) {
            Some(seq) => Ok(*seq),
            None => self.all.cursor(reader, def).await,
        }
    }

    /// The cursor of a topic that was made after the call, or is known here only since: all its events are newer, but those that were seen elsewhere.
    pub(super) fn cursor_of_new(&self, topic: &TopicName) -> Seq {
        self.each.get(topic).copied().unwrap_or_else(|| self.all.cursor_of_new())
    }
}

/// A [`From`], parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With the first event after the call.
    Now,
    /// With this seq.
    Seq(Seq),
    /// With the first event at or after this time, microseconds since 1970-01-01 UTC.
    Time(i64),
}

impl Start {
    /// Errors: `Invalid` for a seq below 1 or a time that is none.
    fn parse(from: &From) -> Result<Self> {
        match from {
            From::Beginning => Ok(Self::Seq(Seq::FIRST)),
            From::Now => Ok(Self::Now),
            From::Seq(seq) if *seq >= Seq::FIRST.0 => Ok(Self::Seq(Seq(*seq))),
            From::Seq(seq) => Err(invalid(format!("from: expected a seq from 1 on, found {seq}"))),
            From::Time(text) => micros(text).map(Self::Time),
        }
    }

    /// The cursor of a topic that is there at the call. `Now` is what is decided at the call.
    async fn cursor(self, reader: &Reader, def: &Arc<TopicDef>) -> Result<Seq> {
        match self {
            Self::Seq(seq) => Ok(seq),
            Self::Now => reader.tail.snapshot(&def.id).map(|held| held.end).ok_or_else(|| dropped(def)),
            Self::Time(micros) => first_at(reader, &reader.view(def).await?, micros).await,
        }
    }

    fn cursor_of_new(self) -> Seq {
        match self {
            Self::Seq(seq) => seq,
            Self::Now | Self::Time(_) => Seq::FIRST,
        }
    }
}

/// RFC 3339 to microseconds, rounded up: an event before the time is not at it.
fn micros(text: &str) -> Result<i64> {
    let (micros, is_cut) = instant("from", text)?;
    Ok(micros + i64::from(is_cut))
}

fn invalid(message: String) -> QueryError {
    QueryError::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_up_to_the_microsecond() {
        assert_eq!(micros("1970-01-01T00:00:01Z").unwrap(), 1_000_000);
        assert_eq!(micros("1970-01-01T01:00:00.000001+01:00").unwrap(), 1);
        assert_eq!(micros("1970-01-01T00:00:00.000001001Z").unwrap(), 2);
        assert_eq!(micros("yesterday").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn seqs_begin_at_one() {
        assert_eq!(Start::parse(&From::Seq(1)).unwrap(), Start::Seq(Seq(1)));
        assert_eq!(Start::parse(&From::Seq(0)).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_topic_begins_after_what_was_seen_of_it_and_the_others_where_all_do() {
        let (orders, returns) = ("orders".to_owned().try_into().unwrap(), "returns".to_owned().try_into().unwrap());
        let seen = |seq| BTreeMap::from([(TopicName::clone(&orders), ShardSeqs::single(Seq(seq)))]);
        let starts = Starts::parse(&From::Now, &seen(17)).unwrap();
        assert_eq!((starts.cursor_of_new(&orders), starts.cursor_of_new(&returns)), (Seq(18), Seq(1)));
        assert_eq!(Starts::parse(&From::Now, &seen(0)).unwrap().cursor_of_new(&orders), Seq(1));
        for seq in [-1, i64::MAX] {
            assert_eq!(Starts::parse(&From::Now, &seen(seq)).err().unwrap().kind(), ErrorKind::Invalid);
        }
    }
}
