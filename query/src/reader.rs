//! What every way of reading shares: names, tables, tail, cached file metadata, memory and spill, and what it all has cost so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::table::Tables;
use catalog::topics::Topics;
use catalog::view::{ReadView, Tail};
use datafusion::execution::runtime_env::RuntimeEnv;
use schemas::{ErrorKind, TenantName, TopicDef, TopicName};

use crate::engine::Parts;
use crate::error::{QueryError, Result};
use crate::lastseq::TableLastSeqs;
use crate::parquet::MetadataCache;
use crate::settings::Settings;

/// The read path's shared parts. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) topics: Topics,
    pub(crate) tables: Tables,
    pub(crate) tail: Arc<dyn Tail>,
    pub(crate) settings: Arc<Settings>,
    /// Footers, page indexes and bloom filters of data files.
    pub(crate) metadata: MetadataCache,
    /// The memory pool and the spill files, shared with SQL.
    pub(crate) runtime: Arc<RuntimeEnv>,
    /// What replays and subscriptions have read so far.
    pub(crate) stats: Arc<Counters>,
}

impl Reader {
    pub(crate) fn new(parts: Parts, runtime: Arc<RuntimeEnv>) -> Self {
        let Parts { topics, tables, tail, last_seqs, settings } = parts;
        let TableLastSeqs { metadata, stats, .. } = last_seqs;
        Self { topics, tables, tail, settings: Arc::new(settings), metadata, runtime, stats }
    }

    /// Errors: `NotFound`, naming some topics that exist.
    pub(crate) fn topic(&self, tenant: &TenantName, name: &TopicName) -> Result<Arc<TopicDef>> {
        self.topics.get(tenant, name).ok_or_else(|| {
            let known: Vec<_> = self.topics.list(tenant).iter().take(10).map(|def| def.name.to_string()).collect();
            let known =
                if known.is_empty() { "it has none yet".into() } else { format!("it has {}", known.join(", ")) };
            QueryError::new(ErrorKind::NotFound, format!("tenant {tenant} has no topic {name}; {known}"))
        })
    }

    /// A consistent cut of a topic, taken now.
    pub(crate) async fn view(&self, def: &Arc<TopicDef>) -> Result<ReadView> {
        Ok(ReadView::open(self.tail.as_ref(), &self.tables, Arc::clone(def)).await?)
    }
}

/// What replays and subscriptions of one engine have read from its files, counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// Live files whose manifest entry was looked at.
    pub files_considered: u64,
    /// Files of which rows were decoded.
    pub files_opened: u64,
    /// Data pages decoded.
    pub pages: u64,
    /// Bytes fetched from the store, metadata apart.
    pub bytes: u64,
    /// Rows decoded.
    pub rows: u64,
    /// Bytes written to spill files.
    pub spilled_bytes: u64,
}

/// The counters behind [`ReadStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    files_considered: AtomicU64,
    files_opened: AtomicU64,
    pages: AtomicU64,
    bytes: AtomicU64,
    rows: AtomicU64,
    spilled_bytes: AtomicU64,
}

impl Counters {
    /// Adds to all of them, and to the metrics of the same names.
    pub(crate) fn add(&self, read: ReadStats) {
        let add = |name: &'static str, counter: &AtomicU64, more: u64| {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
                metrics::counter!(name).increment(more);
            }
        };
        add("firn_read_files_considered_total", &self.files_considered, read.files_considered);
        add("firn_read_files_opened_total", &self.files_opened, read.files_opened);
        add("firn_read_pages_total", &self.pages, read.pages);
        add("firn_read_file_bytes_total", &self.bytes, read.bytes);
        add("firn_read_decoded_rows_total", &self.rows, read.rows);
        add("firn_read_spilled_bytes_total", &self.spilled_bytes, read.spilled_bytes);
    }

    /// Their state now. Each is exact; together they may be a moment apart.
    pub(crate) fn snapshot(&self) -> ReadStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReadStats {
            files_considered: get(&self.files_considered),
            files_opened: get(&self.files_opened),
            pages: get(&self.pages),
            bytes: get(&self.bytes),
            rows: get(&self.rows),
            spilled_bytes: get(&self.spilled_bytes),
        }
    }
}
