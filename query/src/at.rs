//! A topic as it was: after some event, at some time, in a snapshot of its table, under a tag.
//!
//! After an event and at a time nothing is missing: it is the cut of now without what came later (P6), table and tail. A snapshot or a tag is what the table held
//! then. The columns are those that the topic has now.
//!
//! A snapshot that nothing pins may expire while it is read: files are kept for queries that begin on what is current (P7). Such a read fails, it never gives less.

use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{Int64Type, Schema, TimestampMicrosecondType};
use catalog::table::DataFile;
use catalog::view::ReadView;
use schemas::envelope::{self, column, field_id};
use schemas::{ErrorKind, Seq, TopicDef};
use serde::{Deserialize, Serialize};

use crate::error::{QueryError, Result};
use crate::parquet::file::OpenFile;
use crate::parquet::projection::Wanted;
use crate::reader::Reader;
use crate::replay::groups;

/// Rows decoded at a time while looking for a time.
const LOOK_ROWS: usize = 64 << 10;

/// A moment in a topic's history: `{"seq":17}`, `{"time":"2024-01-01T00:00:00Z"}`, `{"snapshot":123}` or `{"tag":"audit"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// When this was the last event.
    Seq(i64),
    /// When the last event was the last one with a `_time` at or before this (RFC 3339).
    Time(String),
    /// In this snapshot of the topic's table.
    Snapshot(i64),
    /// In the snapshot that this tag, or branch, of the topic's table names.
    Tag(String),
}

impl At {
    /// True if it is one snapshot of the table, whatever has come since.
    pub(crate) fn is_of_table(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::Tag(_))
    }
}

impl Reader {
    /// A consistent cut of a topic as it was.
    ///
    /// Errors: `NotFound` for a seq beyond the topic's end, and for what has expired; `Invalid` for a time that is none.
    pub(crate) async fn view_at(&self, def: &Arc<TopicDef>, at: &At) -> Result<ReadView> {
        let now = self.view(def).await?;
        self.earlier(now, at).await
    }

    /// What `now`, a cut of the present, was.
    pub(crate) async fn earlier(&self, now: ReadView, at: &At) -> Result<ReadView> {
        let name = &now.def().name;
        match at {
            At::Seq(seq) if *seq < 1 => Err(invalid(format!("at: expected a seq from 1 on, found {seq}"))),
            At::Seq(seq) if *seq >= now.end().0 => {
                let message = format!("topic {name} ends at seq {}: there is no event {seq} yet", now.end().0 - 1);
                Err(QueryError::new(ErrorKind::NotFound, message))
            }
            At::Seq(seq) => until(now, Seq(*seq).plus(1)),
            At::Time(text) => {
                let (micros, _) = instant("at", text)?;
                let end = first_at(self, &now, micros + 1).await?;
                until(now, end)
            }
            At::Snapshot(id) => Ok(ReadView::of_snapshot(Arc::clone(now.def()), now.table().at_snapshot(*id)?)),
            At::Tag(tag) => Ok(ReadView::of_snapshot(Arc::clone(now.def()), now.table().at_ref(tag)?)),
        }
    }
}

/// The cut without the events from `end` on. Errors: `NotFound` if retention has dropped all others.
fn until(now: ReadView, end: Seq) -> Result<ReadView> {
    let retained = now.table().retained();
    if end <= retained && retained > Seq::FIRST {
        let name = &now.def().name;
        let message =
            format!("topic {name}: its retention has dropped the events below seq {retained}; ask for later ones");
        return Err(QueryError::new(ErrorKind::NotFound, message));
    }
    Ok(now.until(end))
}

/// RFC 3339 to microseconds since 1970-01-01 UTC, rounded down, and whether anything was cut. Errors: `Invalid`, naming `what`.
pub(crate) fn instant(what: &str, text: &str) -> Result<(i64, bool)> {
    let fault = |error| invalid(format!("{what}: expected a time like 2024-01-01T00:00:00Z, found {text:?}: {error}"));
    let zone: Tz = envelope::UTC.parse().map_err(fault)?;
    let time = string_to_datetime(&zone, text).map_err(fault)?;
    Ok((time.timestamp_micros(), time.timestamp_subsec_nanos() % 1_000 > 0))
}

/// Seq of the view's first event whose `_time` is at or after `micros`; its end if there is none yet. `_time` never decreases along `_seq`, so it is
/// searched for: in the manifest, in one group of files, in the tail.
pub(crate) async fn first_at(reader: &Reader, view: &ReadView, micros: i64) -> Result<Seq> {
    let set = view.table().files().await?;
    let latest = set.bounds(field_id::TIME).map(|(_, upper)| upper);
    let latest = latest.as_ref().and_then(|upper| upper.as_primitive_opt::<TimestampMicrosecondType>());
    let may_reach =
        |number: usize| latest.is_none_or(|latest| latest.is_null(number) || latest.value(number) >= micros);
    let files = set.files().iter().enumerate().filter(|(number, _)| may_reach(*number)).map(|(_, file)| file);
    for group in groups(files) {
        let mut first = None;
        for file in &group.files {
            first = first.into_iter().chain(first_in_file(reader, file, micros).await?).min();
        }
        if let Some(first) = first {
            return Ok(first);
        }
    }
    for events in view.tail() {
        let times = events.column(column::TIME).as_primitive::<TimestampMicrosecondType>().values();
        let row = times.partition_point(|time| *time < micros);
        if row < times.len() {
            return Ok(Seq(events.column(column::SEQ).as_primitive::<Int64Type>().value(row)));
        }
    }
    Ok(view.end())
}

/// The lowest seq in the file with a `_time` at or after `micros`.
async fn first_in_file(reader: &Reader, file: &Arc<DataFile>, micros: i64) -> Result<Option<Seq>> {
    let file = OpenFile::open(&reader.metadata, file).await?;
    let fields: Vec<_> = envelope::fields().into_iter().take(column::TIME + 1).collect();
    let wanted = Wanted::new(Arc::new(Schema::new(fields)));
    let mut first: Option<Seq> = None;
    for start in (0..file.rows()).step_by(LOOK_ROWS) {
        let rows = std::iter::once(start..file.rows().min(start + LOOK_ROWS)).collect();
        let batch = file.fetch(&wanted, rows, &[], &reader.stats).await?.decode()?;
        let seqs = batch.column(column::SEQ).as_primitive::<Int64Type>().values();
        let times = batch.column(column::TIME).as_primitive::<TimestampMicrosecondType>().values();
        let late = seqs.iter().zip(times).filter(|(_, time)| **time >= micros).map(|(seq, _)| Seq(*seq));
        first = first.into_iter().chain(late).min();
    }
    Ok(first)
}

fn invalid(message: String) -> QueryError {
    QueryError::new(ErrorKind::Invalid, message)
}
