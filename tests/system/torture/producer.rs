//! A producer that never gives up: it has a name, numbers its batches, and sends what was not answered again, wherever it is let in.

use std::time::Duration;

use arrow_flight::encode::FlightDataEncoderBuilder;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tests::client::{Client, Receipt, command};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::cluster::{Door, Doors};
use crate::crash::ledger::{self, BATCH_EVENTS, TOPIC};

/// Batches that a producer has under way.
const BATCHES_IN_FLIGHT: usize = 8;
/// Silence after which a producer tries elsewhere: the other end may be a process that is stopped.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// The newest acknowledgement: how many there were before it, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) acknowledged: u64,
    pub(crate) by: Option<Door>,
}

/// What a producer did.
pub(crate) struct Produced {
    pub(crate) number: usize,
    /// The seq of each batch's first event; every batch that was ever sent is here.
    pub(crate) first_seqs: Vec<i64>,
    /// Batches that were answered as duplicates: they had been appended before their answer was lost.
    pub(crate) duplicates: usize,
    /// Batches that were sent again, since their answer did not come.
    pub(crate) resent: usize,
    /// Streams that broke.
    pub(crate) broken: usize,
}

pub(crate) struct Producer {
    pub(crate) number: usize,
    pub(crate) doors: Doors,
    pub(crate) pulse: watch::Sender<Beat>,
    /// Once true, no new batches are begun.
    pub(crate) enough: watch::Receiver<bool>,
}

impl Producer {
    /// Appends until there is enough and everything that was sent has been answered.
    pub(crate) async fn run(self) -> Produced {
        let mut done = Produced { number: self.number, first_seqs: Vec::new(), duplicates: 0, resent: 0, broken: 0 };
        let (mut epoch, mut sent, mut place) = (None, 0, self.number);
        while !*self.enough.borrow() || done.first_seqs.len() < sent {
            let door = self.doors.after(place);
            place = door.place;
            let served = self.serve_at(door, &mut epoch, &mut sent, &mut done).await;
            if served.is_none() {
                done.broken += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
        done
    }

    /// One stream, as long as it lasts. `None` if it broke.
    async fn serve_at(&self, door: Door, epoch: &mut Option<u64>, sent: &mut usize, done: &mut Produced) -> Option<()> {
        let client = timeout(PATIENCE, Client::connect(door.address)).await.ok()?.ok()?;
        let epoch = match *epoch {
            Some(epoch) => epoch,
            None => *epoch.insert(self.begin(&client).await?),
        };
        let first = done.first_seqs.len();
        done.resent += *sent - first;
        let mut next = first;
        let (batches, received) = mpsc::channel(BATCHES_IN_FLIGHT);
        for _ in 0..BATCHES_IN_FLIGHT {
            batches.send(next).await.ok()?;
            next += 1;
        }
        *sent = next.max(*sent);
        let mut answers = timeout(PATIENCE, append(&client, self.number, epoch, first, ReceiverStream::new(received)))
            .await
            .ok()??;
        while done.first_seqs.len() < *sent {
            let (receipt, duplicate) = timeout(PATIENCE, answers.next()).await.ok()??.ok()?;
            assert_eq!(i64::try_from(receipt.accepted).unwrap(), BATCH_EVENTS, "every row is good");
            done.first_seqs.push(receipt.first_seq.unwrap());
            done.duplicates += usize::from(duplicate);
            self.pulse.send_modify(|beat| *beat = Beat { acknowledged: beat.acknowledged + 1, by: Some(door) });
            // What was sent before must be answered, on this stream or another.
            if next < *sent || !*self.enough.borrow() {
                batches.send(next).await.ok()?;
                next += 1;
                *sent = next.max(*sent);
            }
        }
        Some(())
    }

    /// Takes an epoch: once, since a newer one would begin another row of numbers.
    async fn begin(&self, client: &Client) -> Option<u64> {
        let body = json!({"producer": self.number.to_string(), "topic": TOPIC});
        let answer = timeout(PATIENCE, client.action("producer", &body)).await.ok()?.ok()?;
        answer["producer_epoch"].as_u64()
    }
}

type Answers = BoxStream<'static, Result<(Receipt, bool), arrow_flight::error::FlightError>>;

/// An append under the producer's name from its batch `first` on, each batch with its number.
async fn append(
    client: &Client,
    number: usize,
    epoch: u64,
    first: usize,
    batches: ReceiverStream<usize>,
) -> Option<Answers> {
    let to = command(&json!({"append": {"topic": TOPIC, "producer": number.to_string(), "producer_epoch": epoch}}));
    let rows = batches.map(move |batch| Ok(ledger::events(number, batch as i64)));
    let encoder = FlightDataEncoderBuilder::new().with_flight_descriptor(Some(to));
    // One message for the schema, then one a batch: they are far too small to be cut.
    let messages = encoder.build(rows).filter_map(async |message| message.ok()).enumerate();
    let numbered = messages.map(move |(place, mut message)| {
        if place > 0 {
            message.app_metadata = json!({"producer_seq": first + place}).to_string().into();
        }
        message
    });
    let answers = client.flight().do_put(numbered).await.ok()?.into_inner();
    let receipts = answers.map_err(arrow_flight::error::FlightError::from).and_then(async |result| {
        let duplicate = serde_json::from_slice::<serde_json::Value>(&result.app_metadata)
            .is_ok_and(|answer| answer["duplicate"] == true);
        Ok((Receipt::parse(&result)?, duplicate))
    });
    Some(receipts.boxed())
}
