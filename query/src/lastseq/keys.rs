//! The last seqs of many keys at once.
//!
//! In rounds: each key that is still open goes to the newest file that may hold it, and the keys that meet in a file are read together. A key is read
//! once in a file that has it, plus once for each time that a bloom filter is wrong; one that no filter knows is read nowhere.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, Schema};
use catalog::table::DataFile;
use futures::{StreamExt, TryStreamExt, stream};
use schemas::Seq;
use schemas::envelope::{self, field_id};
use tokio_util::task::AbortOnDropHandle;

use super::TableLastSeqs;
use crate::error::Result;
use crate::parquet::file::{OpenFile, SLICE_ROWS_MAX, slices};
use crate::parquet::lookup::{candidates, manifest_may_hold, union};
use crate::parquet::projection::Wanted;
use crate::reader::{Counters, ReadStats};
use crate::stream::join_error;

/// Metadata of files loaded at once.
const OPENING: usize = 8;
/// Files read at once.
const READING: usize = 8;
/// Keys looked for in a file's filters before others have their turn.
const KEYS_IN_TURN: usize = 4096;

/// `_seq` and `_key`.
static SEQ_AND_KEY: LazyLock<Wanted> = LazyLock::new(|| {
    let seq = envelope::field(field_id::SEQ, envelope::SEQ, DataType::Int64, false);
    let key = envelope::field(field_id::KEY, envelope::KEY, DataType::Utf8, false);
    Wanted::new(Arc::new(Schema::new(vec![seq, key])))
});

/// One key that is looked for.
#[derive(Debug)]
pub(super) struct Search<'a> {
    key: &'a str,
    /// What was found, or the bound: only what lies above is of interest.
    best: Seq,
    found: bool,
    /// Files before this one have been looked into.
    next: usize,
}

/// A file with the searches that meet in it, and the rows at which their keys may stand.
struct Meeting {
    file: OpenFile,
    searches: Vec<usize>,
    rows: Vec<Range<usize>>,
}

impl<'a> Search<'a> {
    /// The last seq of `key` above `above`.
    pub(super) fn new(key: &'a str, above: Seq) -> Self {
        Self { key, best: above, found: false, next: 0 }
    }

    fn may_be_in(&self, number: usize, file: &DataFile) -> bool {
        let seqs = self.best.plus(1)..Seq(i64::MAX);
        self.next <= number && manifest_may_hold(file, self.key, &seqs)
    }
}

/// The last seq of each key above its bound, in `files`, which are in descending order of their last seqs.
pub(super) async fn last(
    tables: &TableLastSeqs,
    files: &[Arc<DataFile>],
    mut searches: Vec<Search<'_>>,
) -> Result<Vec<Option<Seq>>> {
    tables.stats.add(ReadStats { files_considered: files.len() as u64, ..ReadStats::default() });
    loop {
        let meetings = meetings(tables, files, &mut searches).await?;
        if meetings.is_empty() {
            return Ok(searches.into_iter().map(|search| search.found.then_some(search.best)).collect());
        }
        let reads = meetings.into_iter().map(|meeting| {
            let keys = meeting.searches.iter().map(|number| searches[*number].key.to_owned()).collect();
            let stats = Arc::clone(&tables.stats);
            let read = tokio::spawn(async move { read(&meeting.file, keys, meeting.rows, &stats).await });
            let read = AbortOnDropHandle::new(read);
            async move { Ok::<_, crate::QueryError>((meeting.searches, read.await.map_err(join_error)??)) }
        });
        let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READING);
        while let Some((numbers, found)) = reads.try_next().await? {
            for number in numbers {
                let search = &mut searches[number];
                if let Some(seq) = found.get(search.key).filter(|seq| **seq > search.best) {
                    (search.best, search.found) = (*seq, true);
                }
            }
        }
    }
}

/// The next round: each search in the newest file that may hold its key, by all that is known without reading rows.
async fn meetings(
    tables: &TableLastSeqs,
    files: &[Arc<DataFile>],
    searches: &mut [Search<'_>],
) -> Result<Vec<Meeting>> {
    let mut open: Vec<usize> = (0..searches.len()).collect();
    let wanted =
        files.iter().enumerate().filter(|(number, file)| searches.iter().any(|search| search.may_be_in(*number, file)));
    let wanted: Vec<_> = wanted.map(|(number, file)| (number, Arc::clone(file))).collect();
    let mut opening = stream::iter(wanted)
        .map(|(number, file)| async move {
            Ok::<_, crate::QueryError>((number, OpenFile::open(&tables.metadata, &file).await?))
        })
        .buffered(OPENING);
    let mut meetings = Vec::new();
    while !open.is_empty()
        && let Some((number, file)) = opening.try_next().await?
    {
        let mut meeting = Meeting { file, searches: Vec::new(), rows: Vec::new() };
        let mut still_open = Vec::with_capacity(open.len());
        for (turn, search) in open.into_iter().enumerate() {
            if turn % KEYS_IN_TURN == KEYS_IN_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let rows = match searches[search].may_be_in(number, &meeting.file.data) {
                true => candidates(&meeting.file, searches[search].key),
                false => Vec::new(),
            };
            if rows.is_empty() {
                still_open.push(search);
            } else {
                searches[search].next = number + 1;
                meeting.searches.push(search);
                meeting.rows.extend(rows);
            }
        }
        open = still_open;
        if !meeting.searches.is_empty() {
            meeting.rows = union(std::mem::take(&mut meeting.rows));
            meetings.push(meeting);
        }
    }
    drop(opening);
    // What no file may hold any more is not asked for in another round.
    open.into_iter().for_each(|search| searches[search].next = usize::MAX);
    Ok(meetings)
}

/// The greatest seq of each of `keys` among these rows.
async fn read(
    file: &OpenFile,
    keys: Vec<String>,
    rows: Vec<Range<usize>>,
    stats: &Counters,
) -> Result<HashMap<String, Seq>> {
    stats.add(ReadStats { files_opened: 1, ..ReadStats::default() });
    let mut last: HashMap<String, Option<Seq>> = keys.into_iter().map(|key| (key, None)).collect();
    for slice in slices(rows, SLICE_ROWS_MAX) {
        let batch = file.fetch(&SEQ_AND_KEY, slice, &[], stats).await?.decode()?;
        let (seqs, keys) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        for row in 0..batch.num_rows() {
            if let Some(last) = last.get_mut(keys.value(row)) {
                *last = (*last).max(Some(Seq(seqs.value(row))));
            }
        }
    }
    Ok(last.into_iter().filter_map(|(key, last)| Some((key, last?))).collect())
}
