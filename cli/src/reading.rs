//! A replay or a subscription that outlives its server: when the stream breaks, it goes on after the last event that came, at another server of the same
//! store. No event is missed, and none comes twice.

mod place;

use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use flight::ticket::Request;
use futures::{StreamExt, TryStreamExt};
use tokio::time::{sleep, timeout};

use self::place::Place;
use crate::client::{Batches, Client};
use crate::exit::Failure;
use crate::retry::{Patience, Retry};
use crate::servers::Servers;

/// How often the server is asked which others there are: once it is gone, it tells nobody.
const LEARN_EVERY: Duration = Duration::from_secs(5);

/// Reading under way.
pub(crate) struct Reading {
    servers: Servers,
    place: Place,
    patience: Patience,
    stream: Option<(Client, FlightRecordBatchStream)>,
    learned: Instant,
    /// Of the last stream that ended.
    schema: Option<SchemaRef>,
}

impl Reading {
    /// Opens the stream; once it is open, what breaks it is tried again as long as the patience lasts. Errors: it cannot be opened now.
    pub(crate) async fn begin(servers: Servers, request: Request, patience: Duration) -> Result<Self, Failure> {
        let (place, patience) = (Place::of(request), Patience::new(patience));
        let mut reading = Self { servers, place, patience, stream: None, learned: Instant::now(), schema: None };
        reading.open().await?;
        Ok(reading)
    }

    /// What comes, and its schema: waits for the first batch.
    pub(crate) async fn batches(mut self) -> Result<Batches, Failure> {
        let first = self.next().await?;
        let known = first.as_ref().map(RecordBatch::schema).or_else(|| self.schema.take());
        let schema = known.ok_or_else(|| Failure::other("the server sent no schema"))?;
        let rest = futures::stream::try_unfold(self, |mut reading: Self| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(Batches { schema, stream: Box::pin(futures::stream::iter(first.map(Ok)).chain(rest)) })
    }

    /// The next batch, from whatever server. `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            match self.attempt().await {
                Ok(Some(batch)) => {
                    self.patience.renew();
                    return self.place.pass(batch).map(Some);
                }
                Ok(None) => return Ok(None),
                Err(failure) => self.recover(failure).await?,
            }
        }
    }

    async fn attempt(&mut self) -> Result<Option<RecordBatch>, Failure> {
        if self.stream.is_none() {
            if self.place.is_complete() {
                return Ok(None);
            }
            let server = self.open().await?;
            eprintln!("firn: {server} answers; going on {}", self.place);
        }
        loop {
            let Some((client, stream)) = &mut self.stream else { return Ok(None) };
            let polled = timeout(LEARN_EVERY, stream.try_next()).await;
            if self.learned.elapsed() >= LEARN_EVERY {
                self.servers.learn(client).await;
                self.learned = Instant::now();
            }
            let Ok(batch) = polled else { continue };
            match batch? {
                None if self.place.is_endless() => return Err(Failure::away("the server ended the subscription")),
                None => {
                    self.schema = stream.schema().map(|schema| self.place.shown(schema)).transpose()?;
                    return Ok(None);
                }
                some => return Ok(some),
            }
        }
    }

    /// Waits a while, then others are tried. Errors: there is nothing to hope for, or has not been for too long.
    async fn recover(&mut self, failure: Failure) -> Result<(), Failure> {
        self.stream = None;
        let is_news = self.patience.is_fresh();
        let is_hopeful = *failure.retry() != Retry::Never;
        let Some(pause) = self.patience.pause().filter(|_| is_hopeful) else { return Err(failure) };
        if is_news {
            eprintln!("firn: {failure}; looking for another server");
        }
        sleep(pause).await;
        self.servers.after(&failure);
        Ok(())
    }

    /// Opens a stream from where the reading stands; the server that it comes from.
    async fn open(&mut self) -> Result<String, Failure> {
        let client = self.servers.connect().await?;
        let client = client.at_owner_of_asked(&self.place.ticket()).await?;
        let topics = match self.place.topic() {
            Some(topic) => {
                let description = client.describe(topic.as_str()).await?;
                vec![(description.topic.name, description.topic.id, description.next_seq)]
            }
            None => {
                let topics = client.topics().await?;
                topics.into_iter().map(|summary| (summary.topic, summary.id, summary.next_seq)).collect()
            }
        };
        self.place.recognise(topics)?;
        let ticket = self.place.ticket();
        // A standby may lag; a subscription waits for what comes, a replay would take its end for the topic's.
        let stream = client.get_stream(ticket, !self.place.is_endless()).await?;
        let server = client.server().to_owned();
        self.stream = Some((client, stream));
        Ok(server)
    }
}
