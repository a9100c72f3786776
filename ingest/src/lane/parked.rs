//! Rows of a topic that stopped, copied out of the log, so that the floor can pass and the topic's neighbours go on (P4, P5).
//!
//! A topic stops because its table is not what the lane left there, or because it holds the floor for too long. It takes no appends from then on; once
//! nothing of it is in flight, its rows that are in no table are written to *parked objects*, which the lane's checkpoint names with their extents. An
//! operator takes the topic up again; its parked rows then go to the table first.

mod object;

use std::ops::Range;

use arrow::record_batch::RecordBatch;
use catalog::storage::Creation;
use catalog::{Env, Store};
use object_store::path::Path;
use schemas::planted::{Bug, planted};
use schemas::{Epoch, ErrorKind, LaneId, Seq, ShardSeqs, TopicId};
use serde::{Deserialize, Serialize};

use self::object::Head;
use crate::error::{IngestError, Result};
use crate::memory::Held;
use crate::tail::Cut;

/// Arrow bytes of the rows of one parked object, about: what parking holds in memory beside the rows.
const OBJECT_BYTES: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// A topic's rows outside of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    /// The first seq that was in no table.
    pub(crate) from: Seq,
    /// The seq after the last: no event of the topic was in the log beyond it when it was parked.
    pub(crate) to: Seq,
    /// Why the topic takes no appends.
    pub(crate) reason: String,
    /// Their extents tile `[from, to)`.
    pub(crate) objects: Vec<Named>,
}

/// One parked object, as a checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// BLAKE3 of the object, hexadecimal.
    pub(crate) hash: String,
    pub(crate) from: Seq,
    pub(crate) to: Seq,
}

/// A topic whose rows are to be parked.
#[derive(Debug)]
pub(crate) struct ToPark {
    pub(crate) topic: TopicId,
    pub(crate) reason: String,
    pub(crate) rows: Cut,
}

/// Where a parked object lies.
pub(crate) fn parked_path(lane: LaneId, name: &str) -> Path {
    Path::from(format!("lanes/{lane}/p/{name}"))
}

/// Writes a topic's rows to objects of this epoch; they count once a checkpoint names them.
pub(crate) async fn write(store: &Store, env: &Env, lane: LaneId, epoch: Epoch, park: ToPark) -> Result<Parked> {
    let ToPark { topic, reason, rows: Cut { from, to, batches } } = park;
    let (mut objects, mut next) = (Vec::new(), from);
    for range in parts(&batches) {
        let part = batches[range].to_vec();
        let head = Head { lane, topic, from: next, to: next.plus(part.iter().map(RecordBatch::num_rows).sum()) };
        let nonce = env.uuid();
        let encoded = env.compute(move || object::encode(head, nonce.into_bytes(), &part)).await;
        let object =
            encoded.map_err(|error| internal(format!("rows of topic {topic} were not encoded: {error}")))??;
        let name = format!("{epoch}-{}", nonce.as_simple());
        let hash = blake3::hash(&object).to_hex().to_string();
        match store.create_segment(&parked_path(lane, &name), object).await? {
            Creation::Mine => objects.push(Named { name, hash, from: head.from, to: head.to }),
            Creation::Others(_) => return Err(internal(format!("parked object {name}: another has this name"))),
        }
        next = head.to;
    }
    if next != to {
        return Err(internal(format!("topic {topic}: expected rows up to {to} to park, found those up to {next}")));
    }
    Ok(Parked { from, to, reason, objects })
}

/// Which batches go in one object: consecutive ones, as many as [`OBJECT_BYTES`] hold and at least one.
fn parts(batches: &[RecordBatch]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (index, batch) in batches.iter().enumerate() {
        let size = Held::of(batch.columns());
        match parts.last_mut() {
            Some(part) if bytes + size <= OBJECT_BYTES => {
                bytes += size;
                part.end = index + 1;
            }
            _ => {
                bytes = size;
                parts.push(index..index + 1);
            }
        }
    }
    parts
}

/// Reads the rows of one parked object of a topic.
///
/// Errors: `Corrupt`, naming the object, if it is missing or not what the checkpoint names; those of the store.
pub(crate) async fn read(store: &Store, lane: LaneId, topic: TopicId, named: &Named) -> Result<Vec<RecordBatch>> {
    let path = parked_path(lane, &named.name);
    let corrupt = |what: String| IngestError::new(ErrorKind::Corrupt, format!("parked object {path}: {what}"));
    let object = store.read_segment(&path).await?.ok_or_else(|| corrupt("it is missing".to_owned()))?;
    let found = blake3::hash(&object).to_hex();
    if found.as_str() != named.hash {
        return Err(corrupt(format!("expected BLAKE3 {}, found {found}", named.hash)));
    }
    let expected = Head { lane, topic, from: named.from, to: named.to };
    object::decode(&object, expected).map_err(corrupt)
}

/// As the checkpoint says it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParkedDocument {
    topic: TopicId,
    from: ShardSeqs,
    to: ShardSeqs,
    reason: String,
    objects: Vec<NamedDocument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NamedDocument {
    name: String,
    hash: String,
    from: ShardSeqs,
    to: ShardSeqs,
}

impl ParkedDocument {
    pub(crate) fn new(topic: TopicId, parked: &Parked) -> Self {
        let named = |named: &Named| NamedDocument {
            name: named.name.clone(),
            hash: named.hash.clone(),
            from: ShardSeqs::single(named.from),
            to: ShardSeqs::single(named.to),
        };
        Self {
            topic,
            from: ShardSeqs::single(parked.from),
            to: ShardSeqs::single(parked.to),
            reason: parked.reason.clone(),
            objects: parked.objects.iter().map(named).collect(),
        }
    }

    /// Errors: in words, what no version of Firn wrote.
    pub(crate) fn parse(self) -> Result<(TopicId, Parked), String> {
        let topic = self.topic;
        let single = |seqs: &ShardSeqs| {
            seqs.as_single().ok_or_else(|| format!("parked topic {topic} spans shards, which this Firn does not know"))
        };
        let named = |document: NamedDocument| {
            let (from, to) = (single(&document.from)?, single(&document.to)?);
            Ok(Named { name: document.name, hash: document.hash, from, to })
        };
        let (from, to) = (single(&self.from)?, single(&self.to)?);
        let objects: Vec<Named> = self.objects.into_iter().map(named).collect::<Result<_, String>>()?;
        let end = objects.iter().try_fold(from, |next, named| (named.from == next).then_some(named.to));
        if end != Some(to) {
            return Err(format!("parked topic {topic}: its objects should tile seqs {from} to before {to}"));
        }
        let from = if planted(Bug::ParkedWithoutExtent) { to } else { from };
        Ok((topic, Parked { from, to, reason: self.reason, objects }))
    }
}

fn internal(message: String) -> IngestError {
    IngestError::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests;
