//! Cuts a sorted stream of rows into files: one or more for each prefix and bucket that fills one, and level 0 for all the rest.
//!
//! So no file of level 1 is small, however many prefixes a topic has: the rows of a rare one stay in a level-0 file of their range, which is sorted by prefix
//! and key as well, until its range has grown enough. What was estimated too high is put right at the end: a file that came out too small is one of level 0.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{AsArray, Int32Array, RecordBatch, UInt32Array};
use arrow::compute::{partition, take_record_batch};
use arrow::datatypes::SchemaRef;
use iceberg::spec::{DataFile, Literal, Schema, Struct};
use schemas::envelope::column;
use schemas::{Seq, TopicDef, TopicId};

use super::super::create::{buckets_of, default_level1};
use super::super::encode::Encoder;
use super::super::metrics::{Place, data_file};
use super::super::naming::data_name;
use super::super::rowhash::RowHash;
use super::super::state::TableState;
use super::super::{Tables, arrow_error};
use super::Compaction;
use super::plan::Job;
use super::read::Inputs;
use crate::error::Result;

/// A data file that is durable and in no table yet.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: DataFile,
    pub(super) spec_id: i32,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) row_hash: RowHash,
}

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// A bucket of the current prefix.
    Bucket(u32),
    /// Level 0.
    Rest,
}

/// The files that are being written.
pub(super) struct Layout<'a> {
    tables: &'a Tables,
    topic: TopicId,
    location: &'a str,
    schema: Schema,
    event: SchemaRef,
    range: Range<Seq>,
    generation: u64,
    /// Spec and number of buckets of level 1; without them everything is level 0.
    level1: Option<(i32, u32)>,
    level1_bytes_min: u64,
    /// Prefixes and buckets that have files of their own, and the rows of each of these.
    own: BTreeMap<(String, u32), usize>,
    rest_rows: usize,
    prefix: String,
    open: BTreeMap<Target, Encoder>,
    written: Vec<Written>,
}

impl<'a> Layout<'a> {
    pub(super) async fn new(
        tables: &'a Tables,
        def: &TopicDef,
        base: &'a TableState,
        job: &Job,
        inputs: &Inputs,
        settings: &Compaction,
    ) -> Result<Self> {
        let level1 = default_level1(base.metadata());
        let buckets = level1.map_or(1, |(_, buckets)| buckets);
        let (mut own, mut rest) = (BTreeMap::new(), job.rows);
        // Files side by side share the memory of one, as far as they do not become small by it.
        let file_bytes = (settings.file_bytes / u64::from(buckets)).max(2 * settings.level1_bytes_min).max(1);
        let bytes_of = |rows: u64| (u128::from(rows) * u128::from(job.bytes) / u128::from(job.rows.max(1))) as u64;
        let rows_of_files = |rows: u64| rows.div_ceil(((bytes_of(rows) + file_bytes / 2) / file_bytes).max(1)) as usize;
        if level1.is_some() && job.bytes >= settings.level1_bytes_min {
            for (place, rows) in inputs.shares(job.files.iter().flatten(), buckets).await? {
                if bytes_of(rows) >= settings.level1_bytes_min {
                    rest -= rows.min(rest);
                    own.insert(place, rows_of_files(rows));
                }
            }
        }
        Ok(Self {
            tables,
            topic: def.id,
            location: base.metadata().location(),
            schema: base.metadata().current_schema().as_ref().clone(),
            event: def.event_schema(),
            range: job.first..Seq(job.last.0 + 1),
            generation: base.generation()?,
            level1,
            level1_bytes_min: settings.level1_bytes_min,
            own,
            rest_rows: rows_of_files(rest).max(1),
            prefix: String::new(),
            open: BTreeMap::new(),
            written: Vec::new(),
        })
    }

    /// Adds rows that come after those before.
    pub(super) async fn add(&mut self, batch: RecordBatch) -> Result<()> {
        let alike = partition(&[std::sync::Arc::clone(batch.column(column::PREFIX))]).map_err(arrow_error)?;
        for rows in alike.ranges() {
            let batch = batch.slice(rows.start, rows.len());
            let prefix = batch.column(column::PREFIX).as_string::<i32>().value(0);
            if prefix != self.prefix {
                self.end_prefix().await?;
                self.prefix = prefix.to_owned();
            }
            for (target, part) in self.deal(batch)? {
                self.write(target, part).await?;
            }
        }
        Ok(())
    }

    /// Rows of one prefix by where they go.
    fn deal(&self, batch: RecordBatch) -> Result<Vec<(Target, RecordBatch)>> {
        let target = |bucket: u32| match self.own.contains_key(&(self.prefix.clone(), bucket)) {
            true => Target::Bucket(bucket),
            false => Target::Rest,
        };
        let buckets = self.level1.map_or(1, |(_, buckets)| buckets);
        let targets: Vec<Target> = (0..buckets).map(target).collect();
        if let Some(first) = targets
            .first()
            .filter(|first| targets.iter().all(|other| other == *first && (buckets == 1 || **first == Target::Rest)))
        {
            return Ok(vec![(*first, batch)]);
        }
        let numbers: Int32Array = buckets_of(batch.column(column::KEY), buckets)?;
        let mut rows: BTreeMap<Target, Vec<u32>> = BTreeMap::new();
        for (row, bucket) in numbers.values().iter().enumerate() {
            rows.entry(targets[*bucket as usize]).or_default().push(row as u32);
        }
        let part =
            |(target, rows)| Ok((target, take_record_batch(&batch, &UInt32Array::from(rows)).map_err(arrow_error)?));
        rows.into_iter().map(part).collect()
    }

    async fn write(&mut self, target: Target, mut batch: RecordBatch) -> Result<()> {
        let most = match target {
            Target::Bucket(bucket) => self.own.get(&(self.prefix.clone(), bucket)).copied().unwrap_or(usize::MAX),
            Target::Rest => self.rest_rows,
        };
        while batch.num_rows() > 0 {
            let encoder = match self.open.entry(target) {
                std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let beside = self.level1.map_or(1, |(_, buckets)| buckets) as usize;
                    free.insert(Encoder::new(&self.event, &self.schema, beside)?)
                }
            };
            let room = most.saturating_sub(encoder.rows());
            let Some(end) = key_ends(&batch, room) else {
                return encoder.write(&batch);
            };
            encoder.write(&batch.slice(0, end))?;
            batch = batch.slice(end, batch.num_rows() - end);
            self.end(target).await?;
        }
        Ok(())
    }

    /// The rows of a prefix that have files of their own are complete.
    async fn end_prefix(&mut self) -> Result<()> {
        let own: Vec<Target> = self.open.keys().copied().filter(|target| *target != Target::Rest).collect();
        for target in own {
            self.end(target).await?;
        }
        Ok(())
    }

    /// Stores a file under a name that nobody else uses.
    async fn end(&mut self, target: Target) -> Result<()> {
        let Some(encoder) = self.open.remove(&target) else { return Ok(()) };
        let rows = encoder.rows() as u64;
        let encoded = encoder.finish()?;
        let bytes = encoded.bytes.len() as u64;
        let place = match (target, self.level1) {
            (Target::Bucket(bucket), Some((spec_id, _))) if bytes >= self.level1_bytes_min => {
                let values = [Some(Literal::string(&self.prefix)), Some(Literal::int(bucket as i32))];
                Place { spec_id, values: Struct::from_iter(values) }
            }
            _ => Place::level0(),
        };
        let nonce = self.tables.shared.env.uuid();
        let name = data_name(self.topic, &self.range, self.generation, nonce, &encoded.bytes);
        let uri = format!("{}/data/{name}", self.location);
        self.tables.shared.create(&uri, encoded.bytes).await?;
        let spec_id = place.spec_id;
        let file = data_file(uri, bytes, &encoded.footer, &self.schema, place)?;
        self.written.push(Written { file, spec_id, rows, bytes, row_hash: encoded.row_hash });
        Ok(())
    }

    /// The files, once all rows were added.
    pub(super) async fn finish(mut self) -> Result<Vec<Written>> {
        self.end_prefix().await?;
        self.end(Target::Rest).await?;
        Ok(self.written)
    }
}

/// Where a file that takes `room` rows more should end: after the last row of the key that fills it. `None` if it has room for all, or that key may go on.
fn key_ends(batch: &RecordBatch, room: usize) -> Option<usize> {
    if room >= batch.num_rows() {
        return None;
    }
    let text = |index: usize| batch.column(index).as_string::<i32>();
    let (prefixes, keys) = (text(column::PREFIX), text(column::KEY));
    let at = room.max(1);
    (at..batch.num_rows())
        .find(|row| keys.value(*row) != keys.value(row - 1) || prefixes.value(*row) != prefixes.value(row - 1))
}
