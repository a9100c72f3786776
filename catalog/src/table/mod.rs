//! Topic tables: Iceberg format v2 under the embedded catalog, and the commit that moves a topic's watermark (P4).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use object_store::path::Path;
use schemas::{Epoch, LaneId, Seq, TenantName, TopicDef, TopicId, Watermark};

use crate::env::Env;
use crate::error::Result;
use crate::storage::Store;

/// The tables of every topic of a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tables {
    store: Store,
}

/// A table's state at a moment: one Iceberg metadata file.
#[derive(Debug)]
pub struct TableState {
    watermark: Watermark,
}

/// Decided rows on their way into a table.
#[derive(Debug)]
pub struct FlushRows<'a> {
    /// First seq; must equal the table's watermark.
    pub from: Seq,
    /// The seq after the last.
    pub to: Seq,
    /// The rows `[from, to)` in seq order, event schema of `def`.
    pub batches: &'a [RecordBatch],
    /// Who flushes, for people.
    pub lane: LaneId,
    /// Who flushes, for people.
    pub epoch: Epoch,
}

impl Tables {
    /// Tables in `store`.
    pub fn new(store: Store, env: Env) -> Self {
        let _ = env;
        Self { store }
    }

    /// Opens the topic's table in this process, making it unless it is there already (the pointer register then names a table with the topic's id).
    /// Everything else below works on tables opened so; `tenant` is the name that the topic's owner has.
    ///
    /// Errors: `Conflict` if a table of another topic stands there.
    pub async fn ensure(&self, tenant: &TenantName, def: &TopicDef) -> Result<Arc<TableState>> {
        let _ = (tenant, def);
        unimplemented!()
    }

    /// The table as last seen by this process: no I/O. Errors: `NotFound` if it was not opened with [`Self::ensure`].
    pub async fn current(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        let _ = def;
        unimplemented!()
    }

    /// The table read afresh from its register.
    pub async fn load(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        let _ = def;
        unimplemented!()
    }

    /// Moves decided rows into the table: P4, whole. Idempotent in effect: on any doubt it looks before it acts.
    ///
    /// Returns the state whose watermark is at or beyond `rows.to`, or beyond `rows.from` if another committed first (cut again).
    /// Errors: `Conflict` if the table is not what the lane left (rolled back, replaced): the topic must stop. `Unavailable`, `Indeterminate`: try again.
    pub async fn flush(&self, def: &TopicDef, rows: FlushRows<'_>) -> Result<Arc<TableState>> {
        let _ = (def, rows);
        unimplemented!()
    }

    /// Forgets a dropped topic's pointer; its files stay for the grace period of P7. Idempotent.
    pub async fn drop_table(&self, tenant: &TenantName, def: &TopicDef) -> Result<()> {
        let _ = (tenant, def);
        unimplemented!()
    }

    /// Forgets what is cached of a topic.
    pub fn forget(&self, topic: &TopicId) {
        let _ = topic;
    }

    /// The store they lie in.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl TableState {
    /// First seq not in the table.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Full URI of the metadata file that this is.
    pub fn metadata_uri(&self) -> &str {
        unimplemented!()
    }

    /// Id of the current snapshot; `None` before the first flush.
    pub fn snapshot_id(&self) -> Option<i64> {
        unimplemented!()
    }

    /// The live data files, with what the manifests say of them. Cached: manifests never change.
    pub async fn files(&self) -> Result<Arc<FileSet>> {
        unimplemented!()
    }
}

/// The live data files of one snapshot.
#[derive(Debug, Default)]
pub struct FileSet {
    files: Vec<Arc<DataFile>>,
}

/// One live data file.
#[derive(Debug)]
pub struct DataFile {
    /// Its path in the store.
    pub path: Path,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// First and last seq in it, inclusive; from the manifest's bounds.
    pub seqs: (Seq, Seq),
    /// First and last `_key` in it, inclusive and perhaps truncated (a lower bound cut short, an upper one rounded up).
    pub keys: (String, String),
    /// First and last `_prefix` in it, likewise.
    pub prefixes: (String, String),
    /// Its partition.
    pub partition: Partition,
}

/// Where a file stands in the LSM tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// Level 0: all prefixes and keys of a seq range, sorted by (`_prefix`, `_key`, `_seq`).
    Level0,
    /// Level 1: one prefix and one bucket of `_key` out of `buckets` (Iceberg's bucket transform).
    Level1 {
        /// The prefix.
        prefix: String,
        /// The bucket.
        bucket: u32,
        /// How many there are.
        buckets: u32,
    },
}

impl FileSet {
    /// The files, in order of their first seq.
    pub fn files(&self) -> &[Arc<DataFile>] {
        &self.files
    }

    /// Lower and upper bounds of a column, one value a file in the order of [`Self::files`], null where unknown, in the column's Arrow type.
    /// `None` if the column has no bounds at all (nested).
    pub fn bounds(&self, field_id: i32) -> Option<(ArrayRef, ArrayRef)> {
        let _ = field_id;
        unimplemented!()
    }

    /// Null counts of a column, one value a file, null where unknown.
    pub fn null_counts(&self, field_id: i32) -> Option<ArrayRef> {
        let _ = field_id;
        unimplemented!()
    }
}
