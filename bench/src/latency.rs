//! One event at a time: to its acknowledgement, and to a subscriber's hands.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow_flight::Ticket;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::baseline::durable_create;
use crate::events::{Events, topic};
use crate::process::Process;
use crate::report::{Durations, Report};

const KEYS: u64 = 200_000;
const WARM_UP: usize = 200;
const EVENTS: usize = 3_000;
const PAUSE: Duration = Duration::from_millis(1);

/// Appends one event, waits for its answer, and so on.
async fn ping(server: &Process) -> Result<Durations> {
    let mut events = Events::new(KEYS);
    let (batches, source) = mpsc::channel(1);
    batches.send(events.batch(1)).await?;
    let mut answers = server.append(ReceiverStream::new(source)).await?;
    answers.try_next().await?.context("an answer")?;
    let mut durations = Durations::default();
    for round in 0..WARM_UP + EVENTS {
        let batch = events.batch(1);
        let started = Instant::now();
        batches.send(batch).await?;
        answers.try_next().await?.context("an answer")?;
        if round >= WARM_UP {
            durations.add(started.elapsed());
        }
    }
    Ok(durations)
}

/// Acknowledged one by one.
pub(crate) async fn one_by_one(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut flight = ping(&Process::nothing().await?).await?;
    let mut disk = Durations::default();
    for number in 0..EVENTS {
        disk.add(durable_create(folder.path(), number, &[7; 700])?);
    }
    let server = Process::firn(&folder.path().join("store"), &json!({})).await?;
    server.action("create-topic", topic()).await?;
    let mut firn = ping(&server).await?;
    let least = flight.percentile(50.0) + disk.percentile(50.0);
    let its = format!("{} + {}", flight.both(), disk.both());
    let ratio = firn.percentile(50.0) / least;
    report.add("one-event append, p50 / p99", firn.both(), "Flight round trip + durable create", its, Some(ratio));
    Ok(())
}

/// From the append to the hands of a subscriber.
pub(crate) async fn live(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Process::firn(&folder.path().join("store"), &json!({})).await?;
    server.action("create-topic", topic()).await?;
    let ticket = json!({"subscribe": {"pattern": "orders/>", "from": "beginning", "columns": ["placed_ms"]}});
    let mut follower = server.client().do_get(Ticket::new(ticket.to_string())).await?;
    let (batches, source) = mpsc::channel(1);
    let mut events = Events::new(KEYS);
    batches.send(events.batch(1)).await?;
    let mut answers = server.append(ReceiverStream::new(source)).await?;
    tokio::spawn(async move { while let Some(Ok(_)) = answers.next().await {} });
    follower.try_next().await?.context("an event")?;
    let mut durations = Durations::default();
    for round in 0..WARM_UP + EVENTS {
        let batch = events.batch(1);
        let number = batch.column(3).as_primitive::<Int64Type>().value(0);
        let started = Instant::now();
        batches.send(batch).await?;
        let got = follower.try_next().await?.context("an event")?;
        anyhow::ensure!(got.column(0).as_primitive::<Int64Type>().value(0) == number, "another event came");
        if round >= WARM_UP {
            durations.add(started.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    report.note("append to a subscriber's hands, p50 / p99", durations.both());
    Ok(())
}
