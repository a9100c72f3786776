//! Moving decided rows into a table, exactly once (P4).
//!
//! The commit is one swap of the table's pointer from exactly the base that was looked at. After any answer but success the table is read
//! again, and [`decide`](super::decide) says what that means; nothing is ever applied to another base blindly, and no file is ever deleted on
//! a doubt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use iceberg::spec::{
    DataFile, MAIN_BRANCH, Operation, Schema, Snapshot, Summary, TableMetadata, TableMetadataBuildResult,
};
use schemas::conform::{absent, conform_batch};
use schemas::envelope::column;
use schemas::planted::{Bug, planted};
use schemas::{Epoch, ErrorKind, LaneId, Seq, TopicDef};

use super::create::LEVEL0_SPEC_ID;
use super::decide::{Next, may_pin, next};
use super::encode::encode;
use super::forget::{FORGOTTEN_BY_FLUSH_MIN, forgettable};
use super::manifests::{Change, Draft};
use super::metrics::{Place, data_file};
use super::naming::{content_id, data_name};
use super::pointer::{Pinned, Pointer};
use super::rowhash::RowHash;
use super::schema::iceberg_schema;
use super::state::TableState;
use super::verify::{TOTAL_RECORDS, number, property};
use super::{Tables, iceberg_error, properties};
use crate::error::{CatalogError, Result};
use crate::storage::Swap;

/// Attempts at one flush before it is given back as unavailable: others commit faster than this process can.
const ATTEMPTS_MAX: u32 = 16;
/// Reads of a table after an unclear answer before that answer is given back as it is.
const LOOKS_MAX: u32 = 5;
/// Wait before such a read is repeated; doubles.
const LOOK_WAIT: Duration = Duration::from_millis(50);

/// Decided rows on their way into a table.
#[derive(Debug)]
pub struct FlushRows<'a> {
    /// First seq; must equal the table's watermark.
    pub from: Seq,
    /// The seq after the last.
    pub to: Seq,
    /// The rows `[from, to)` in seq order, event schema of `def` or of an earlier version of it.
    pub batches: &'a [RecordBatch],
    /// Who flushes, for people.
    pub lane: LaneId,
    /// Who flushes, for people.
    pub epoch: Epoch,
}

/// A data file that is durable and in no table yet.
#[derive(Debug)]
struct Written {
    file: DataFile,
    row_hash: RowHash,
    generation: u64,
    schema: Schema,
}

/// Hash of the table's rows.
#[derive(Debug)]
struct Total {
    hash: RowHash,
    /// From which seq on, as properties have it; all if `None`.
    base: Option<String>,
}

impl Total {
    /// As properties and summaries have it. Where it begins anew, so does the hash of what retention took.
    fn properties(&self, metadata: &TableMetadata) -> HashMap<String, String> {
        let total = (properties::TOTAL_ROW_HASH.to_owned(), self.hash.to_string());
        let base = self.base.clone().map(|base| (properties::ROW_HASH_BASE.to_owned(), base));
        let is_new = metadata.properties().get(properties::ROW_HASH_BASE) != self.base.as_ref();
        let is_reset = is_new && metadata.properties().contains_key(properties::REMOVED_ROW_HASH);
        let removed = is_reset.then(|| (properties::REMOVED_ROW_HASH.to_owned(), RowHash::default().to_string()));
        std::iter::once(total).chain(base).chain(removed).collect()
    }
}

/// One flush over all its attempts.
#[derive(Debug)]
struct Flush<'a> {
    def: &'a TopicDef,
    rows: FlushRows<'a>,
    commit: String,
}

impl Tables {
    /// Moves decided rows into the table: P4, whole. Idempotent in effect: on any doubt it looks before it acts.
    ///
    /// Returns the state whose watermark is at or beyond `rows.to`, or beyond `rows.from` if another committed first (cut again).
    /// Errors: `Conflict` if the table is not what the lane left (rolled back, replaced): the topic must stop. `Unavailable`, `Indeterminate`: try again.
    pub async fn flush(&self, def: &TopicDef, rows: FlushRows<'_>) -> Result<Arc<TableState>> {
        check_rows(def, &rows)?;
        let flush = Flush { def, rows, commit: self.shared.env.uuid().to_string() };
        let mut base = self.load(def).await?;
        let mut written = None;
        for _ in 0..ATTEMPTS_MAX {
            let decided = next(base.has_commit(&flush.commit), flush.rows.from, base.watermark());
            match if planted(Bug::RebaseOnConflict) && written.is_some() { Next::Commit } else { decided } {
                Next::Done | Next::CutAgain => return Ok(base),
                Next::Stop => return Err(flush.lost(&base)),
                Next::Commit => {}
            }
            flush.check_version(&base)?;
            base.check_foreign().await?;
            let generation = base.generation()?;
            let file = match written.take().filter(|file: &Written| may_pin(file.generation, generation)) {
                Some(file) => file,
                None => self.write_file(&flush, &base, generation).await?,
            };
            if let Some(state) = self.commit(&flush, &file, &base).await? {
                return Ok(state);
            }
            if planted(Bug::DeleteOnUnknown) {
                self.shared.delete_quietly(file.file.file_path()).await;
            }
            written = Some(file);
            base = self.look(def).await?;
        }
        let message = format!("topic {}: {ATTEMPTS_MAX} commits were overtaken by others; try again", def.name);
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }

    /// Sorts, encodes and stores the rows under a name that nobody else uses.
    async fn write_file(&self, flush: &Flush<'_>, base: &TableState, generation: u64) -> Result<Written> {
        let def = flush.def;
        let (event, schema) = (def.event_schema(), iceberg_schema(&def.payload, 0)?);
        // Rows that were parked have the version that the topic had then.
        let batches = flush.rows.batches.iter().map(|batch| conform_batch(batch, &event, &absent));
        let batches: Vec<_> = batches.collect::<std::result::Result<_, _>>().map_err(super::arrow_error)?;
        let work = move || encode(&batches, &event, &schema).map(|encoded| (encoded, schema));
        let (encoded, schema) = self.shared.env.compute(work).await.map_err(|error| {
            CatalogError::new(ErrorKind::Internal, "the encoder of a data file stopped").caused_by(error)
        })??;

        let range = flush.rows.from..flush.rows.to;
        let name = data_name(def.id, &range, generation, self.shared.env.uuid(), &encoded.bytes);
        let uri = format!("{}/data/{name}", base.metadata().location());
        let size = encoded.bytes.len() as u64;
        self.shared.create(&uri, encoded.bytes).await?;
        let file = data_file(uri, size, &encoded.footer, &schema, Place::level0())?;
        Ok(Written { file, row_hash: encoded.row_hash, generation, schema })
    }

    /// One commit, pinned to `base`. `None` if it is lost, or unknown: look again. Errors: only such after which nothing has happened.
    #[tracing::instrument(level = "debug", skip_all, fields(topic = %flush.def.name))]
    async fn commit(&self, flush: &Flush<'_>, written: &Written, base: &TableState) -> Result<Option<Arc<TableState>>> {
        let (schema, schema_id) = flush.table_schema(written, base)?;
        let total = flush.total(written, base, &schema)?;
        let draft = Draft::after(base, written.generation, Arc::new(schema.clone()));
        let manifest_list = draft.write(Change::add(LEVEL0_SPEC_ID, written.file.clone())).await?;
        let summary = flush.summary(written, base.metadata(), &total)?;
        let snapshot = draft.snapshot(manifest_list, summary, schema_id);
        let built = flush.metadata(base, schema, snapshot, &total)?;
        self.publish(flush.def, &flush.commit, base, built).await
    }

    /// Stores the metadata that comes after `base` and makes it current, by one swap of the pointer from exactly that base. `None` if it is lost, or unknown:
    /// look again. Errors: only such after which nothing has happened.
    pub(super) async fn publish(
        &self,
        def: &TopicDef,
        commit: &str,
        base: &TableState,
        built: TableMetadataBuildResult,
    ) -> Result<Option<Arc<TableState>>> {
        let version = base.pinned().pointer.version;
        let built_metadata = match built.metadata.current_snapshot_id() == base.snapshot_id() {
            true => dated(&built.metadata, base.next_ms())?,
            false => built.metadata,
        };
        let document = serde_json::to_vec(&built_metadata).map_err(|error| {
            CatalogError::new(ErrorKind::Internal, format!("the metadata of table {}", base.name())).caused_by(error)
        })?;
        let location = base.metadata().location();
        let metadata_uri = format!("{location}/metadata/{version:05}-{}.metadata.json", content_id(&document));
        self.shared.create(&metadata_uri, document.into()).await?;
        let (path, name) = self.opened(def)?;
        let previous = base.pinned();
        let pointer = Pointer::next(Some(&previous.pointer), def.id, Some(metadata_uri.clone()), commit.to_owned());
        let tag = match self.shared.store.swap_register(&path, Some(&previous.tag), pointer.encode()).await {
            Ok(Swap::Won(tag)) => tag,
            Ok(Swap::Lost) => return Ok(None),
            Err(error) if error.kind() != ErrorKind::Indeterminate => return Err(error),
            Err(error) => {
                tracing::warn!(table = name, %error, "a commit's answer is unclear; looking at the table");
                return Ok(None);
            }
        };
        let pinned = Pinned { pointer, tag };
        let metadata = Arc::new(built_metadata);
        let state = TableState::new(Arc::clone(&self.shared), name, def.id, pinned, metadata_uri, metadata)?;
        let state = self.remember(def, Arc::new(state));
        for old in built.expired_metadata_logs {
            self.shared.delete_quietly(&old.metadata_file).await;
        }
        Ok(Some(state))
    }

    /// Reads the table until it can be read: an unclear answer stays unclear otherwise.
    pub(super) async fn look(&self, def: &TopicDef) -> Result<Arc<TableState>> {
        let mut wait = LOOK_WAIT;
        for _ in 1..LOOKS_MAX {
            match self.load(def).await {
                Err(error) if error.kind().is_retryable() => tokio::time::sleep(wait).await,
                answer => return answer,
            }
            wait *= 2;
        }
        self.load(def).await.map_err(|error| match error.kind().is_retryable() {
            true => {
                let message = format!("topic {}: a commit's answer is unclear and the table cannot be read", def.name);
                CatalogError::new(ErrorKind::Indeterminate, message).caused_by(error)
            }
            false => error,
        })
    }
}

/// True if `after` lacks a field of `before`, nested ones included.
fn loses(before: &Schema, after: &Schema) -> bool {
    before.field_id_to_name_map().keys().any(|id| after.field_by_id(*id).is_none())
}

impl Flush<'_> {
    /// Rows of an earlier version fit the table unless they have a column that it has lost: their hash would be of other rows than those that are read.
    fn check_version(&self, base: &TableState) -> Result<()> {
        let (schema, current) = (iceberg_schema(&self.def.payload, 0)?, base.metadata().current_schema());
        let version: u32 = number(base.metadata(), properties::SCHEMA_VERSION, base.name())?;
        if version <= self.def.version || !loses(&schema, current) {
            return Ok(());
        }
        let message = format!(
            "table {} has schema version {version} already, without columns that rows of version {} have: cut them again",
            base.name(),
            self.def.version
        );
        Err(CatalogError::new(ErrorKind::Unavailable, message))
    }

    /// The hash of all rows with this flush. A flush whose schema lacks a column that the table had begins it anew.
    fn total(&self, written: &Written, base: &TableState, schema: &Schema) -> Result<Total> {
        let metadata = base.metadata();
        if loses(metadata.current_schema(), schema) {
            return Ok(Total { hash: written.row_hash, base: Some(properties::seqs_text(self.rows.from)) });
        }
        let hash = total_row_hash(metadata, base.name())? + written.row_hash;
        Ok(Total { hash, base: metadata.properties().get(properties::ROW_HASH_BASE).cloned() })
    }

    /// The schema that the table has with this flush, and its id: the rows' if it is newer than the table's.
    fn table_schema(&self, written: &Written, base: &TableState) -> Result<(Schema, i32)> {
        let metadata = base.metadata();
        let version: u32 = number(metadata, properties::SCHEMA_VERSION, base.name())?;
        if self.def.version <= version {
            return Ok((metadata.current_schema().as_ref().clone(), metadata.current_schema_id()));
        }
        let same = metadata.schemas_iter().find(|schema| schema.as_struct() == written.schema.as_struct());
        let newest = metadata.schemas_iter().map(|schema| schema.schema_id()).max().unwrap_or_default();
        let id = same.map_or(newest + 1, |schema| schema.schema_id());
        Ok((iceberg_schema(&self.def.payload, id)?, id))
    }

    fn metadata(
        &self,
        base: &TableState,
        schema: Schema,
        snapshot: Snapshot,
        total: &Total,
    ) -> Result<TableMetadataBuildResult> {
        let metadata = base.metadata();
        let version: u32 = number(metadata, properties::SCHEMA_VERSION, base.name())?;
        let mut properties = HashMap::from([
            (properties::WATERMARK.to_owned(), properties::seqs_text(self.rows.to)),
            (properties::WATERMARK_SEQUENCE.to_owned(), snapshot.sequence_number().to_string()),
            (properties::SCHEMA_VERSION.to_owned(), version.max(self.def.version).to_string()),
            (properties::LANE.to_owned(), self.rows.lane.to_string()),
            (properties::EPOCH.to_owned(), self.rows.epoch.to_string()),
        ]);
        properties.extend(total.properties(metadata));
        let forgotten = forgettable(metadata, snapshot.timestamp_ms(), FORGOTTEN_BY_FLUSH_MIN);
        let builder = metadata.as_ref().clone().into_builder(Some(base.metadata_uri().to_owned()));
        let built = builder
            .remove_snapshots(&forgotten)
            .add_current_schema(schema)
            .and_then(|builder| builder.set_branch_snapshot(snapshot, MAIN_BRANCH))
            .and_then(|builder| builder.set_properties(properties))
            .and_then(|builder| builder.build());
        built.map_err(|error| iceberg_error(&format!("the next metadata of table {}", base.name()), error))
    }

    fn summary(&self, written: &Written, metadata: &TableMetadata, total: &Total) -> Result<Summary> {
        let (rows, bytes) = (written.file.record_count(), written.file.file_size_in_bytes());
        let before = |name: &str| -> u64 {
            let last = metadata.current_snapshot().and_then(|last| last.summary().additional_properties.get(name));
            last.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        let entries = [
            (properties::WATERMARK, properties::seqs_text(self.rows.to)),
            (properties::FROM, properties::seqs_text(self.rows.from)),
            (properties::TO, properties::seqs_text(self.rows.to)),
            (properties::ROWS, rows.to_string()),
            (properties::ROW_HASH, written.row_hash.to_string()),
            (properties::COMMIT, self.commit.clone()),
            (properties::LANE, self.rows.lane.to_string()),
            (properties::EPOCH, self.rows.epoch.to_string()),
            ("added-data-files", "1".to_owned()),
            ("added-records", rows.to_string()),
            ("added-files-size", bytes.to_string()),
            ("changed-partition-count", "1".to_owned()),
            ("total-data-files", (before("total-data-files") + 1).to_string()),
            (TOTAL_RECORDS, (before(TOTAL_RECORDS) + rows).to_string()),
            ("total-files-size", (before("total-files-size") + bytes).to_string()),
            ("total-delete-files", before("total-delete-files").to_string()),
            ("total-position-deletes", before("total-position-deletes").to_string()),
            ("total-equality-deletes", before("total-equality-deletes").to_string()),
        ];
        let carried = properties::CARRIED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), metadata.properties().get(*name)?.clone())));
        let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value));
        let additional_properties = carried.chain(entries).chain(total.properties(metadata)).collect();
        Ok(Summary { operation: Operation::Append, additional_properties })
    }

    fn lost(&self, base: &TableState) -> CatalogError {
        let (from, watermark) = (self.rows.from, base.watermark());
        let message = format!(
            "table {}: events from {from} on are to be flushed, but the table ends before {watermark}: it has lost what it had",
            base.name()
        );
        CatalogError::new(ErrorKind::Conflict, message)
    }
}

/// The same, updated at `ms`. Metadata without a new snapshot is dated by the library from the machine's own clock, which nobody holds, whatever the base says:
/// a snapshot that is dated by `Env` could come before it, and none after it would grow old; and of a table that has no snapshot yet it would write, after a
/// clock that was set back by more than a minute, what nobody can read. With a snapshot it refuses instead, and who wanted to commit waits.
fn dated(metadata: &TableMetadata, ms: i64) -> Result<TableMetadata> {
    let failed = |error| CatalogError::new(ErrorKind::Internal, "the date of a table's metadata").caused_by(error);
    let mut document = serde_json::to_value(metadata).map_err(failed)?;
    document["last-updated-ms"] = ms.into();
    serde_json::from_value(document).map_err(failed)
}

fn total_row_hash(metadata: &TableMetadata, place: &str) -> Result<RowHash> {
    property(metadata, properties::TOTAL_ROW_HASH, place)?.parse()
}

/// The rows are what they are said to be: dense, from `from` to before `to`. Errors: `Internal`, since the caller made them up.
fn check_rows(def: &TopicDef, rows: &FlushRows<'_>) -> Result<()> {
    let mut next = rows.from;
    for batch in rows.batches.iter().filter(|batch| batch.num_rows() > 0) {
        let seqs = batch.column(column::SEQ).as_primitive::<Int64Type>();
        if Seq(seqs.value(0)) != next || Seq(seqs.value(seqs.len() - 1)) != next.plus(seqs.len() - 1) {
            let message = format!("topic {}: a batch to flush should begin at {next} and be dense", def.name);
            return Err(CatalogError::new(ErrorKind::Internal, message));
        }
        next = next.plus(batch.num_rows());
    }
    if next != rows.to || rows.from >= rows.to {
        let message = format!(
            "topic {}: rows {} to before {} were to be flushed, got those to before {next}",
            def.name, rows.from, rows.to
        );
        return Err(CatalogError::new(ErrorKind::Internal, message));
    }
    Ok(())
}
