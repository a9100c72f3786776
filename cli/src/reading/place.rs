//! Where a reading stands: what is asked next, so that it goes on after what came. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use flight::ticket::{Request, Ticket};
use query::subscribe::From as Start;
use schemas::envelope;
use schemas::pattern::Pattern;
use schemas::{Seq, ShardSeqs, TopicId, TopicName};

use crate::exit::Failure;

/// A request, moved on with what came.
#[derive(Debug)]
pub(super) struct Place {
    request: Request,
    /// How many columns were asked for; what comes beyond them says where the reading stands. `None`: all.
    shown: Option<usize>,
    /// Topics by identity: one that was dropped and made again has other events under the same seqs.
    topics: BTreeMap<TopicName, TopicId>,
    /// The last seq that came, for people.
    last_seq: Option<i64>,
}

impl Place {
    pub(super) fn of(mut request: Request) -> Self {
        let (columns, needed) = match &mut request {
            Request::Replay(replay) => (replay.columns.as_mut(), &[envelope::SEQ][..]),
            Request::Subscribe(subscribe) => (subscribe.columns.as_mut(), &[envelope::SEQ, envelope::PATH][..]),
            Request::Append(_) => (None, &[][..]),
        };
        let shown = columns.map(|columns| {
            let asked = columns.len();
            let missing: Vec<_> = needed.iter().filter(|name| !columns.iter().any(|column| column == *name)).collect();
            columns.extend(missing.into_iter().map(|name| (*name).to_owned()));
            asked
        });
        Self { request, shown, topics: BTreeMap::new(), last_seq: None }
    }

    /// What to ask now.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket::from(self.request.clone())
    }

    /// The topic, if there can be but one.
    pub(super) fn topic(&self) -> Option<TopicName> {
        match &self.request {
            Request::Replay(replay) => Some(replay.topic.clone()),
            Request::Subscribe(subscribe) => {
                Pattern::parse(&subscribe.pattern).ok()?.topic().and_then(|topic| TopicName::new(topic).ok())
            }
            Request::Append(append) => Some(append.topic.clone()),
        }
    }

    /// True if it has no end.
    pub(super) fn is_endless(&self) -> bool {
        matches!(self.request, Request::Subscribe(_))
    }

    /// True if nothing is left to ask for.
    pub(super) fn is_complete(&self) -> bool {
        matches!(&self.request, Request::Replay(replay) if replay.to.is_some_and(|to| replay.from.unwrap_or(1) >= to))
    }

    /// Topics as a server knows them now: which they are, and where they end.
    ///
    /// Errors: the one that is read was dropped and made again.
    pub(super) fn recognise(&mut self, found: Vec<(TopicName, TopicId, ShardSeqs)>) -> Result<(), Failure> {
        let only = self.topic();
        for (name, id, _) in &found {
            if self.topics.insert(name.clone(), *id).is_none_or(|known| known == *id) {
                continue;
            }
            if only.is_some() {
                let message = format!("topic {name} was dropped and made again: what came so far is another topic's");
                return Err(Failure::other(message));
            }
            if let Request::Subscribe(subscribe) = &mut self.request {
                subscribe.after.remove(name);
            }
        }
        if let Request::Subscribe(subscribe) = &mut self.request
            && subscribe.from == Start::Now
        {
            // From here on *now* is a place: what comes while no server answers is not missed.
            let last = |(name, _, next): (TopicName, TopicId, ShardSeqs)| {
                Some((name, ShardSeqs::single(Seq(next.as_single()?.0 - 1))))
            };
            subscribe.after = found.into_iter().filter_map(last).collect();
            subscribe.from = Start::Beginning;
        }
        Ok(())
    }

    /// Notes what came; as much of it as was asked for.
    pub(super) fn pass(&mut self, batch: RecordBatch) -> Result<RecordBatch, Failure> {
        let missing = |name: &str| Failure::other(format!("the server sent no column {name}"));
        let seqs = batch.column_by_name(envelope::SEQ).and_then(|seqs| seqs.as_primitive_opt::<Int64Type>());
        let seqs = seqs.ok_or_else(|| missing(envelope::SEQ))?.values();
        match &mut self.request {
            Request::Replay(replay) => {
                if let Some(last) = seqs.last() {
                    replay.from = Some(last + 1);
                }
            }
            Request::Subscribe(subscribe) => {
                let paths = batch.column_by_name(envelope::PATH).and_then(|paths| paths.as_string_opt::<i32>());
                let paths = paths.ok_or_else(|| missing(envelope::PATH))?.iter().flatten();
                for (topic, last) in last_of_each_run(paths.zip(seqs.iter().copied())) {
                    let topic = TopicName::new(topic).map_err(Failure::other)?;
                    subscribe.after.insert(topic, ShardSeqs::single(Seq(last)));
                }
            }
            Request::Append(_) => {}
        }
        self.last_seq = seqs.last().copied().or(self.last_seq);
        match self.shown {
            None => Ok(batch),
            Some(shown) => Ok(batch.project(&(0..shown).collect::<Vec<_>>())?),
        }
    }

    /// The schema of what was asked for.
    pub(super) fn shown(&self, schema: &SchemaRef) -> Result<SchemaRef, Failure> {
        match self.shown {
            None => Ok(Arc::clone(schema)),
            Some(shown) => Ok(Arc::new(Schema::clone(schema).project(&(0..shown).collect::<Vec<_>>())?)),
        }
    }
}

/// The last seq of each row of events of one topic, whose name is the first level of their paths.
fn last_of_each_run<'a>(events: impl Iterator<Item = (&'a str, i64)>) -> Vec<(&'a str, i64)> {
    let mut runs: Vec<(&str, i64)> = Vec::new();
    for (path, seq) in events {
        let topic = path.split('/').next().unwrap_or_default();
        match runs.last_mut().filter(|(known, _)| *known == topic) {
            Some((_, last)) => *last = seq,
            None => runs.push((topic, seq)),
        }
    }
    runs
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_seq {
            None => f.write_str("from where it began"),
            Some(last) => write!(f, "after seq {last}"),
        }
    }
}

#[cfg(test)]
mod tests;
