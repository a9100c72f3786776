//! The last seq of a path pattern: `_path` and `_seq` of the newest files that may hold a match, until one does.

use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type, Schema};
use catalog::table::DataFile;
use schemas::envelope::{self, field_id};
use schemas::pattern::Pattern;
use schemas::{Seq, TopicDef};
use tokio::task::spawn_blocking;

use super::TableLastSeqs;
use crate::error::Result;
use crate::parquet::file::{OpenFile, SLICE_ROWS_MAX, slices};
use crate::parquet::lookup::rows_of_prefixes;
use crate::parquet::projection::Wanted;
use crate::reader::ReadStats;
use crate::replay::prefixes_of;
use crate::stream::join_error;

/// `_seq` and `_path`.
static SEQ_AND_PATH: LazyLock<Wanted> = LazyLock::new(|| {
    let seq = envelope::field(field_id::SEQ, envelope::SEQ, DataType::Int64, false);
    let path = envelope::field(field_id::PATH, envelope::PATH, DataType::Utf8, false);
    Wanted::new(Arc::new(Schema::new(vec![seq, path])))
});

/// The last seq above `above` of what matches, in `files`, which are in descending order of their last seqs.
pub(super) async fn last(
    tables: &TableLastSeqs,
    def: &TopicDef,
    files: &[Arc<DataFile>],
    pattern: &Pattern,
    above: Seq,
) -> Result<Option<Seq>> {
    if !pattern.may_match(&def.name) {
        return Ok(None);
    }
    let prefixes = prefixes_of(def, pattern);
    let mut best = above;
    for file in files.iter().take_while(|file| file.seqs.1 > above) {
        if file.seqs.1 <= best {
            break;
        }
        let (lower, upper) = &file.prefixes;
        let may_hold = |prefixes: &Arc<[String]>| prefixes.iter().any(|prefix| lower <= prefix && prefix <= upper);
        if prefixes.as_ref().is_none_or(may_hold) {
            best = best.max(last_in_file(tables, file, pattern, prefixes.as_deref()).await?.unwrap_or(best));
        }
    }
    Ok(Some(best).filter(|best| *best > above))
}

async fn last_in_file(
    tables: &TableLastSeqs,
    file: &Arc<DataFile>,
    pattern: &Pattern,
    prefixes: Option<&[String]>,
) -> Result<Option<Seq>> {
    let file = OpenFile::open(&tables.metadata, file).await?;
    let rows = prefixes.map_or_else(|| file.whole(), |prefixes| rows_of_prefixes(&file, prefixes));
    tables.stats.add(ReadStats { files_opened: 1, ..ReadStats::default() });
    let mut last = None;
    for slice in slices(rows, SLICE_ROWS_MAX) {
        let fetched = file.fetch(&SEQ_AND_PATH, slice, &[], &tables.stats).await?;
        let pattern = pattern.clone();
        let of_slice = spawn_blocking(move || {
            let batch = fetched.decode()?;
            let (seqs, paths) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
            let matching = (0..batch.num_rows()).filter(|row| pattern.matches(paths.value(*row)));
            Ok::<_, crate::QueryError>(matching.map(|row| Seq(seqs.value(row))).max())
        });
        last = last.max(of_slice.await.map_err(join_error)??);
    }
    Ok(last)
}
