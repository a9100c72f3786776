//! `firn replay` and `firn tail`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use flight::ticket::Request;
use futures::TryStreamExt;
use query::at::At;
use query::replay::Replay;
use query::subscribe::{From, Subscribe};
use schemas::TopicName;

use crate::args::{Replay as ReplayArgs, Tail as TailArgs};
use crate::client::Batches;
use crate::config::ClientConfig;
use crate::exit::Failure;
use crate::reading::Reading;
use crate::render::{batch_table, count, json_rows};
use crate::servers::Servers;

/// Rows that a table on a terminal shows at once.
const TABLE_ROWS: usize = 1_000;

/// `firn replay`
pub(crate) async fn replay(servers: &ClientConfig, args: ReplayArgs, as_json: bool) -> Result<(), Failure> {
    let at = args.at_seq.map(At::Seq).or(args.at_time.map(At::Time));
    let at = at.or(args.at_snapshot.map(At::Snapshot)).or(args.at_tag.map(At::Tag));
    let replay = Replay {
        topic: TopicName::new(args.topic).map_err(Failure::usage)?,
        key: args.key,
        from: args.from,
        to: args.to,
        columns: args.columns,
        at,
        filter: args.filter,
    };
    let patience = Duration::from_secs(args.retry_s);
    let reading = Reading::begin(Servers::named(servers), Request::Replay(replay), patience).await?;
    print(reading.batches().await?, as_json).await
}

/// `firn tail`
pub(crate) async fn tail(servers: &ClientConfig, args: TailArgs) -> Result<(), Failure> {
    let subscribe = Subscribe {
        pattern: args.pattern,
        from: begin(&args.from),
        after: BTreeMap::new(),
        columns: args.columns,
        filter: args.filter,
    };
    let patience = Duration::from_secs(args.retry_s);
    let mut reading = Reading::begin(Servers::named(servers), Request::Subscribe(subscribe), patience).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(batch) = reading.next().await? else { break };
        let batch = batch.slice(0, batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX)));
        left -= batch.num_rows() as u64;
        if !write(|out| json_rows(&batch, out))? {
            break;
        }
    }
    Ok(())
}

/// `beginning`, `now`, a seq, or a time.
fn begin(text: &str) -> From {
    match text {
        "beginning" => From::Beginning,
        "now" => From::Now,
        other => other.parse().map_or_else(|_| From::Time(other.to_owned()), From::Seq),
    }
}

/// Prints batches as they come: a table for a terminal, JSON lines for anything else.
pub(crate) async fn print(mut batches: Batches, as_json: bool) -> Result<(), Failure> {
    if as_json || !std::io::stdout().is_terminal() {
        while let Some(batch) = batches.stream.try_next().await? {
            if !write(|out| json_rows(&batch, out))? {
                break;
            }
        }
        return Ok(());
    }
    let schema = batches.schema;
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut page: Vec<RecordBatch> = Vec::new();
    let (mut held, mut shown) = (0, 0);
    while let Some(batch) = batches.stream.try_next().await? {
        held += batch.num_rows();
        page.push(batch);
        if held >= TABLE_ROWS {
            println!("{}", batch_table(&page, &names)?);
            shown += std::mem::take(&mut held);
            page.clear();
        }
    }
    if held > 0 || shown == 0 {
        println!("{}", batch_table(&page, &names)?);
    }
    match shown + held {
        1 => println!("1 row"),
        rows => println!("{} rows", count(rows as u64)),
    }
    Ok(())
}

/// Writes to standard output; false if nobody reads it any more (`firn replay … | head`).
fn write(print: impl FnOnce(&mut Vec<u8>) -> Result<(), Failure>) -> Result<bool, Failure> {
    let mut text = Vec::new();
    print(&mut text)?;
    let mut out = std::io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
