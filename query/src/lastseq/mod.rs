//! The last seqs of keys, paths and topics in tables: what conditional appends ask of the read path ([`LastSeqs`]).
//!
//! A question costs, in turn: what was answered before ([`known`]: an answer stays true, only what was flushed since is looked at), manifest bounds,
//! bloom filters and page indexes (cached), and one read of a page or two in each file that these leave over, newest first.

mod keys;
mod known;
mod paths;

use std::sync::Arc;

use async_trait::async_trait;
use catalog::CatalogError;
use catalog::table::{DataFile, TableState, Tables};
use catalog::view::{Asked, LastSeqs, LastSeqsFound, Matching};
use moka::sync::Cache;
use schemas::{Seq, TopicDef, TopicId};

use self::known::{Known, Rest};
use crate::error::{QueryError, Result};
use crate::parquet::MetadataCache;
use crate::reader::Counters;
use crate::settings::Settings;

/// What a cached answer takes besides the bytes of its key or pattern, about.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// Answers from tables alone; shares what it knows of data files with the [`QueryEngine`](crate::QueryEngine) that it is given to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TableLastSeqs {
    tables: Tables,
    /// Footers, page indexes and bloom filters of data files.
    pub(crate) metadata: MetadataCache,
    /// What this and the engine have read so far.
    pub(crate) stats: Arc<Counters>,
    known: Cache<(TopicId, Matching), Known>,
}

impl TableLastSeqs {
    /// Over the tables that `tables` has open.
    pub fn new(tables: &Tables, settings: &Settings) -> Self {
        let known = Cache::builder()
            .max_capacity(settings.last_seq_cache_bytes as u64)
            .weigher(|(_, of): &(TopicId, Matching), _: &Known| {
                let bytes = match of {
                    Matching::Key(key) => key.len(),
                    Matching::Pattern(pattern) => 2 * pattern.literal_prefix().len() + ENTRY_OVERHEAD_BYTES,
                    Matching::Topic => 0,
                };
                u32::try_from(bytes + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
            })
            .build();
        let metadata = MetadataCache::new(Arc::clone(tables.store().objects()), settings.metadata_cache_bytes);
        Self { tables: tables.clone(), metadata, stats: Arc::default(), known }
    }

    /// What is kept of earlier answers, bytes, by the cache's own count.
    #[cfg(test)]
    fn cached_bytes(&self) -> u64 {
        self.known.run_pending_tasks();
        self.known.weighted_size()
    }

    /// The answers of one snapshot, in the order of the questions.
    async fn answer(&self, def: &TopicDef, table: &TableState, asked: &[Asked]) -> Result<Vec<Option<Seq>>> {
        let end = table.watermark().0;
        let mut answers = vec![None; asked.len()];
        let mut open = Vec::new();
        for (number, Asked { of, above }) in asked.iter().enumerate() {
            if matches!(of, Matching::Topic) {
                answers[number] = Some(Seq(end.0 - 1)).filter(|last| last > above);
                continue;
            }
            let known = self.known.get(&(def.id, of.clone()));
            match Known::rest(known, *above, end) {
                Rest::Answered(answer) => answers[number] = answer,
                Rest::Look { above } => open.push(Open { number, of, above, known }),
            }
        }
        if open.is_empty() {
            return Ok(answers);
        }
        let files = newest_first(table).await?;
        let found = self.look(def, &files, &open).await?;
        for (open, found) in open.iter().zip(found) {
            let known = Known::after_look(open.known, open.above, found, end);
            answers[open.number] = known.answer(asked[open.number].above);
            self.known.insert((def.id, open.of.clone()), known);
        }
        Ok(answers)
    }

    /// The greatest seq above its bound for each open question.
    async fn look(&self, def: &TopicDef, files: &[Arc<DataFile>], open: &[Open<'_>]) -> Result<Vec<Option<Seq>>> {
        let mut found = vec![None; open.len()];
        let (mut numbers, mut searches) = (Vec::new(), Vec::new());
        for (number, Open { of, above, .. }) in open.iter().enumerate() {
            match of {
                Matching::Key(key) => {
                    numbers.push(number);
                    searches.push(keys::Search::new(key, *above));
                }
                Matching::Pattern(pattern) => {
                    found[number] = paths::last(self, def, files, pattern, *above).await?;
                }
                Matching::Topic => {}
            }
        }
        for (number, last) in numbers.into_iter().zip(keys::last(self, files, searches).await?) {
            found[number] = last;
        }
        Ok(found)
    }
}

/// A question that needs a look into files.
struct Open<'a> {
    number: usize,
    of: &'a Matching,
    /// What is to be looked at lies above.
    above: Seq,
    known: Option<Known>,
}

#[async_trait]
impl LastSeqs for TableLastSeqs {
    async fn last_seqs(&self, topic: &TopicDef, asked: &[Asked]) -> catalog::Result<LastSeqsFound> {
        let table = self.tables.current(topic).await?;
        let last = self.answer(topic, &table, asked).await.map_err(into_catalog)?;
        Ok(LastSeqsFound { last, watermark: table.watermark() })
    }
}

/// A table's files by their last seq, descending: once a seq is found, files that end below it need no look.
async fn newest_first(table: &TableState) -> Result<Vec<Arc<DataFile>>> {
    let mut files = table.files().await?.files().to_vec();
    files.sort_by_key(|file| std::cmp::Reverse(file.seqs.1));
    Ok(files)
}

fn into_catalog(error: QueryError) -> CatalogError {
    CatalogError::new(error.kind(), error.to_string())
}

#[cfg(test)]
mod tests;
