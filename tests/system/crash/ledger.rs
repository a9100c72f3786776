//! What producers sent and what they were told, held against what a server says is there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::StreamExt;
use serde_json::json;
use tests::client::{Client, Receipt, to_topic};
use tests::rows;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// The topic of the load.
pub(crate) const TOPIC: &str = "ledger";
/// Producers at once, each with an append stream of its own.
const PRODUCERS: usize = 3;
/// Events of one batch: a batch is visible whole or not at all.
pub(crate) const BATCH_EVENTS: i64 = 20;
/// Batches that a producer has under way.
const BATCHES_IN_FLIGHT: usize = 16;

/// Everything that was ever sent or acknowledged, over all lives of the server.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By producer: how many batches it has sent. Batch `b` holds the numbers from `b * BATCH_EVENTS`.
    sent: BTreeMap<usize, i64>,
    /// Producer and batch, with the seq of its first event.
    acknowledged: Vec<(usize, i64, i64)>,
}

/// Producers at work.
pub(crate) struct Load(Vec<JoinHandle<Sent>>);

/// What one producer did in one life of the server.
struct Sent {
    producer: usize,
    batches: i64,
    acknowledged: Vec<(i64, i64)>,
}

impl Ledger {
    /// Events that a server has acknowledged.
    pub(crate) fn acknowledged(&self) -> i64 {
        i64::try_from(self.acknowledged.len()).unwrap() * BATCH_EVENTS
    }

    /// Batches that were sent and never answered: under way when their server died.
    pub(crate) fn unanswered(&self) -> i64 {
        self.sent.values().sum::<i64>() - i64::try_from(self.acknowledged.len()).unwrap()
    }

    /// Starts producers that append until their server is gone. Makes the topic first.
    pub(crate) async fn load(&self, client: &Client) -> Load {
        Self::create(client).await.unwrap();
        let produce = |producer| {
            let (client, from) = (client.clone(), self.sent.get(&producer).copied().unwrap_or(0));
            tokio::spawn(async move { produce(client, producer, from).await })
        };
        Load((0..PRODUCERS).map(produce).collect())
    }

    /// Books what one producer was told: the seq of the first event of each batch from its first on.
    pub(crate) fn book(&mut self, producer: usize, first_seqs: &[i64]) {
        *self.sent.entry(producer).or_default() += i64::try_from(first_seqs.len()).unwrap();
        self.acknowledged.extend((0..).zip(first_seqs).map(|(batch, seq)| (producer, batch, *seq)));
    }

    /// Makes the topic.
    pub(crate) async fn create(client: &Client) -> Result<(), tonic::Status> {
        let schema = json!({"type": "record", "name": "Entry", "fields": [
            {"name": "producer", "type": "string"}, {"name": "n", "type": "long"}]});
        client.create(&json!({"name": TOPIC, "schema": schema, "key": ["producer"]})).await.map(drop)
    }

    /// Waits for the producers to notice, and books what they were told.
    pub(crate) async fn settle(&mut self, load: Load) {
        for producer in load.0 {
            let sent = producer.await.unwrap();
            *self.sent.entry(sent.producer).or_default() += sent.batches;
            self.acknowledged.extend(sent.acknowledged.into_iter().map(|(batch, seq)| (sent.producer, batch, seq)));
        }
    }

    /// Every acknowledged batch is where its producer was told, no event is there twice, no batch is there in part, no seq is missing.
    pub(crate) async fn check(&self, client: &Client) {
        if self.sent.is_empty() {
            return;
        }
        let events =
            client.get(&json!({"replay": {"topic": TOPIC, "columns": ["_seq", "producer", "n"]}})).await.unwrap();
        let seqs = rows::integers(&events, "_seq");
        assert!(seqs.iter().copied().eq((1..).take(seqs.len())), "seqs are dense from 1");
        let producers = rows::texts(&events, "producer");
        let found: Vec<_> =
            producers.iter().map(|name| name.parse().unwrap()).zip(rows::integers(&events, "n")).collect();
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len(), "no event is there twice");

        for &(producer, batch, seq) in &self.acknowledged {
            let place = usize::try_from(seq).unwrap() - 1;
            let there = found.get(place..place + BATCH_EVENTS as usize);
            let expected: Vec<_> = numbers(batch).map(|n| (producer, n)).collect();
            assert_eq!(
                there,
                Some(&expected[..]),
                "producer {producer} was told that batch {batch} begins at seq {seq}"
            );
        }
        for batch in found.chunks(BATCH_EVENTS as usize) {
            let (producer, first) = batch[0];
            let whole = numbers(first / BATCH_EVENTS).map(|n| (producer, n));
            assert!(batch.iter().copied().eq(whole), "a batch lies there in part: {batch:?}");
            assert!(first / BATCH_EVENTS < self.sent[&producer], "nobody sent batch {}", first / BATCH_EVENTS);
        }
        let last = i64::try_from(seqs.len()).unwrap();
        assert_eq!(client.number(&format!("select count(*) from {TOPIC}")).await.unwrap(), last);
        assert_eq!(client.number(&format!("select count(distinct _seq) from {TOPIC}")).await.unwrap(), last);
    }
}

/// The numbers in a batch.
fn numbers(batch: i64) -> std::ops::Range<i64> {
    batch * BATCH_EVENTS..(batch + 1) * BATCH_EVENTS
}

/// One batch of a producer.
pub(crate) fn events(producer: usize, batch: i64) -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from(vec![producer.to_string(); BATCH_EVENTS as usize]));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers(batch)));
    RecordBatch::try_from_iter([("producer", names), ("n", numbers)]).unwrap()
}

/// Keeps some batches under way until the server is gone; an unanswered batch may or may not be there, and is never sent again.
async fn produce(client: Client, producer: usize, from: i64) -> Sent {
    let mut sent = Sent { producer, batches: 0, acknowledged: Vec::new() };
    let (sender, batches) = mpsc::channel(BATCHES_IN_FLIGHT);
    for _ in 0..BATCHES_IN_FLIGHT {
        sender.send(events(producer, from + sent.batches)).await.unwrap();
        sent.batches += 1;
    }
    let Ok(mut answers) = client.append_stream(to_topic(TOPIC), ReceiverStream::new(batches)).await else {
        return sent;
    };
    let mut answered = from;
    while let Some(Ok(receipt)) = answers.next().await {
        let Receipt { first_seq, accepted, .. } = receipt;
        assert_eq!(i64::try_from(accepted).unwrap(), BATCH_EVENTS, "every row is good");
        sent.acknowledged.push((answered, first_seq.unwrap()));
        answered += 1;
        if sender.send(events(producer, from + sent.batches)).await.is_err() {
            break;
        }
        sent.batches += 1;
    }
    sent
}
