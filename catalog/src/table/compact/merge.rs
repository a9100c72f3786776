//! Sorted runs become one stream in the order of (`_prefix`, `_key`, `_seq`). Holds one batch a run, and those that the next batch is made of.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::row::{Row, RowConverter, Rows};
use schemas::ErrorKind;

use super::super::arrow_error;
use super::super::rowhash::RowHash;
use super::read::{Run, SORTED_BY, converter};
use crate::error::{CatalogError, Result};

/// Rows of a batch that is handed out.
const ROWS: usize = 8_192;

/// The merge of some runs.
pub(super) struct Merge {
    converter: Option<RowConverter>,
    /// Runs that are not at their end, the one whose next row comes first at the end.
    heads: Vec<Head>,
    /// Hash of all rows that were read.
    row_hash: RowHash,
}

/// A run and where it stands.
struct Head {
    run: Run,
    batch: RecordBatch,
    keys: Rows,
    at: usize,
    /// The number of `batch` among those that the next batch is made of.
    source: Option<usize>,
}

impl Head {
    fn next(&self) -> Row<'_> {
        self.keys.row(self.at)
    }

    /// The rows from the next on that come before `bound`, at most `most`.
    fn before(&self, bound: Option<Row<'_>>, most: usize) -> usize {
        let left = (self.keys.num_rows() - self.at).min(most);
        let Some(bound) = bound else { return left };
        let comes_before = |count: usize| self.keys.row(self.at + count) < bound;
        // Neighbouring seq ranges have the rows of a key in stretches: look further and further, then back.
        let mut reach = 1;
        while reach < left && comes_before(reach) {
            reach *= 2;
        }
        let (mut from, mut to) = (reach / 2, reach.min(left));
        while from < to {
            let middle = from.midpoint(to);
            if comes_before(middle) { from = middle + 1 } else { to = middle }
        }
        from.max(1).min(left)
    }
}

impl Merge {
    pub(super) async fn new(runs: Vec<Run>) -> Result<Self> {
        let mut merge = Self { converter: None, heads: Vec::with_capacity(runs.len()), row_hash: RowHash::default() };
        for run in runs {
            merge.advance(run, None).await?;
        }
        Ok(merge)
    }

    /// Hash of all rows that were read so far.
    pub(super) fn row_hash(&self) -> RowHash {
        self.row_hash
    }

    /// The next rows. Errors: `Corrupt` if a row stands there twice, or a file is not in the order that it says.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let mut sources: Vec<RecordBatch> = Vec::new();
        let mut rows: Vec<(usize, usize)> = Vec::with_capacity(ROWS);
        self.heads.iter_mut().for_each(|head| head.source = None);
        while rows.len() < ROWS {
            let Some(mut head) = self.heads.pop() else { break };
            let count = head.before(self.heads.last().map(Head::next), ROWS - rows.len());
            let source = *head.source.get_or_insert_with(|| {
                sources.push(head.batch.clone());
                sources.len() - 1
            });
            rows.extend((head.at..head.at + count).map(|row| (source, row)));
            head.at += count;
            match head.at < head.keys.num_rows() {
                true => self.place(head)?,
                false => {
                    let last = head.keys.row(head.at - 1).owned();
                    self.advance(head.run, Some(last.row())).await?;
                }
            }
        }
        if rows.is_empty() { Ok(None) } else { gather(&sources, &rows).map(Some) }
    }

    /// Takes the run's next batch, if there is one, which must come after `last`.
    async fn advance(&mut self, mut run: Run, last: Option<Row<'_>>) -> Result<()> {
        let Some(batch) = run.next().await? else { return Ok(()) };
        self.row_hash = self.row_hash + RowHash::of(&batch)?;
        let converter = match &self.converter {
            Some(converter) => converter,
            None => self.converter.insert(converter(&batch.schema())?),
        };
        let columns = SORTED_BY.map(|index| Arc::clone(batch.column(index)));
        let keys = converter.convert_columns(&columns).map_err(arrow_error)?;
        let follows = last.is_none_or(|last| last < keys.row(0));
        if !follows || !(1..keys.num_rows()).all(|row| keys.row(row - 1) < keys.row(row)) {
            return Err(CatalogError::new(
                ErrorKind::Corrupt,
                "a file that says it is sorted by prefix, key and seq is not",
            ));
        }
        self.place(Head { run, batch, keys, at: 0, source: None })
    }

    fn place(&mut self, head: Head) -> Result<()> {
        let mut twice = false;
        let place = self.heads.partition_point(|other| match other.next().cmp(&head.next()) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => {
                twice = true;
                false
            }
        });
        if twice {
            return Err(CatalogError::new(ErrorKind::Corrupt, "a row stands in two files"));
        }
        self.heads.insert(place, head);
        Ok(())
    }
}

/// These rows (batch, row) of some batches, in this order.
fn gather(sources: &[RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch> {
    let (first, (_, start)) = (&sources[0], rows[0]);
    if let [only] = sources {
        // Of one batch they are taken in a row.
        return Ok(only.slice(start, rows.len()));
    }
    let gather = |column: usize| -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = sources.iter().map(|batch| batch.column(column).as_ref()).collect();
        // Headers that nobody sent: a nested column costs more than all others, even if there is nothing in it.
        match parts.iter().all(|part| part.null_count() == part.len()) {
            true => Ok(new_null_array(first.column(column).data_type(), rows.len())),
            false => interleave(&parts, rows).map_err(arrow_error),
        }
    };
    let columns = (0..first.num_columns()).map(gather).collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(first.schema(), columns).map_err(arrow_error)
}
