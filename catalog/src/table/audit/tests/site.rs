//! A topic's table in a folder, and the means to damage it.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use iceberg::spec::{DataFile, ManifestListWriter, ManifestWriterBuilder, UNASSIGNED_SEQUENCE_NUMBER};
use object_store::ObjectStoreExt;
use schemas::{LaneId, TenantId, TopicDef, TopicId, TopicSpec};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::super::*;
use crate::audit::Fault;
use crate::env::Env;
use crate::storage::Swap;
use crate::table::create::LEVEL0_SPEC_ID;
use crate::table::encode::encode;
use crate::table::metrics::{Place, data_file};
use crate::table::naming::content_id;
use crate::table::schema::iceberg_schema;
use crate::table::testing::{events, flush, open, tenant};

pub(super) struct Site {
    pub(super) folder: TempDir,
    pub(super) tables: Tables,
    pub(super) def: Arc<TopicDef>,
}

/// A row: key and region.
pub(super) type Row = (&'static str, &'static str);

impl Site {
    /// A table without rows.
    pub(super) async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tables = open(folder.path()).await;
        let def = orders("orders");
        tables.ensure(&tenant(), &def).await.unwrap();
        Self { folder, tables, def: Arc::new(def) }
    }

    /// Three flushes of three rows.
    pub(super) async fn new() -> Self {
        let site = Self::empty().await;
        for first in [1, 4, 7] {
            site.flush(first, &[("b", "eu"), ("a", "us"), ("b", "eu")]).await;
        }
        site
    }

    pub(super) async fn flush(&self, first: i64, rows: &[Row]) {
        flush(&self.tables, &self.def, first, &[self.events(first, rows)]).await.unwrap();
    }

    pub(super) fn events(&self, first: i64, rows: &[Row]) -> RecordBatch {
        events(&self.def, first, rows)
    }

    /// A look by a process that knows nothing yet.
    pub(super) async fn audit(&self) -> Result<TableFacts, Fault> {
        self.audit_against(Vec::new()).await
    }

    pub(super) async fn audit_against(&self, logged: Vec<Recorded>) -> Result<TableFacts, Fault> {
        let tables = open(self.folder.path()).await;
        let mut checks = Checks::default();
        let looked = async {
            let audit = TableAudit::open(&tables, &tenant(), &self.def, &mut checks).await?;
            audit.rows(logged, &Meter::default(), &mut checks).await
        };
        match looked.await {
            Ok(facts) => Ok(facts),
            Err(Stop::Fault(fault)) => Err(*fault),
            Err(Stop::Unseen(error)) => panic!("it could not look: {error}"),
        }
    }

    /// What the audit says of a table that is not as it was left.
    pub(super) async fn fault(&self) -> Fault {
        self.audit().await.expect_err("something is wrong")
    }

    /// Files of the table whose names end so, oldest first.
    pub(super) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let mut found = under(&self.folder.path().join("warehouse"));
        found.retain(|path| path.to_str().unwrap().ends_with(ending));
        found.sort();
        found
    }

    pub(super) fn data_files(&self) -> Vec<PathBuf> {
        self.files(".parquet")
    }

    pub(super) fn store_file(&self, uri: &str) -> PathBuf {
        self.folder.path().join(self.tables.store().path(uri).unwrap().as_ref())
    }

    /// Makes another metadata current, under a name that tells its content: as somebody with a legitimate way in would.
    pub(super) async fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let shared = &self.tables.shared;
        let path = Pointer::path(&tenant(), &self.def.name);
        let pinned = shared.read_pointer(&path).await.unwrap().unwrap();
        let uri = pinned.pointer.metadata.clone().unwrap();
        let mut metadata: Value = serde_json::from_slice(&shared.read(&uri).await.unwrap()).unwrap();
        edit(&mut metadata);
        let document = serde_json::to_vec(&metadata).unwrap();
        let location =
            shared.store.uri(&object_store::path::Path::from(format!("warehouse/{}/{}", self.def.tenant, self.def.id)));
        let uri = format!("{location}/metadata/00099-{}.metadata.json", content_id(&document));
        shared.store.objects().put(&shared.store.path(&uri).unwrap(), document.into()).await.unwrap();
        let next = Pointer::next(Some(&pinned.pointer), self.def.id, Some(uri), Env::system().uuid().to_string());
        let swapped = shared.store.swap_register(&path, Some(&pinned.tag), next.encode()).await.unwrap();
        assert!(matches!(swapped, Swap::Won(_)));
    }

    /// The live files, as the manifests have them.
    pub(super) async fn live(&self) -> Vec<DataFile> {
        let state = open(self.folder.path()).await.ensure(&tenant(), &self.def).await.unwrap();
        let main = Arc::clone(state.metadata().current_snapshot().unwrap());
        let shared = state.shared();
        let planned = manifests::plan(shared, state.metadata(), &main, state.watermark(), &mut Checks::default()).await;
        planned.unwrap().into_iter().map(|file| file.entry).collect()
    }

    /// Lets the current snapshot have exactly these files: manifest, list and summary all agree.
    pub(super) async fn with_files(&self, files: Vec<DataFile>) {
        let state = self.tables.load(&self.def).await.unwrap();
        let (metadata, main) = (state.metadata(), state.metadata().current_snapshot().unwrap());
        let io = &self.tables.shared.file_io;
        let folder = format!("{}/metadata", metadata.location());
        let spec = metadata.partition_spec_by_id(LEVEL0_SPEC_ID).unwrap().as_ref().clone();
        let nonce = Env::system().uuid();
        let output = io.new_output(format!("{folder}/planted-{nonce}.avro")).unwrap();
        let schema = Arc::clone(metadata.current_schema());
        let mut writer = ManifestWriterBuilder::new(output, Some(main.snapshot_id()), schema, spec).build_v2_data();
        for file in &files {
            writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER).unwrap();
        }
        let manifest = writer.write_manifest_file().await.unwrap();
        let list = format!("{folder}/snap-planted-{nonce}.avro");
        let output = io.new_output(&list).unwrap().writer().await.unwrap();
        let mut writer =
            ManifestListWriter::v2(output, main.snapshot_id(), main.parent_snapshot_id(), main.sequence_number());
        writer.add_manifests([manifest].into_iter()).unwrap();
        writer.close().await.unwrap();
        let id = main.snapshot_id();
        self.edit(|metadata| {
            let snapshots = metadata["snapshots"].as_array_mut().unwrap();
            let main = snapshots.iter_mut().find(|snapshot| snapshot["snapshot-id"] == id).unwrap();
            main["manifest-list"] = json!(list);
            main["summary"]["total-data-files"] = json!(files.len().to_string());
            let bytes: u64 = files.iter().map(DataFile::file_size_in_bytes).sum();
            main["summary"]["total-files-size"] = json!(bytes.to_string());
        })
        .await;
    }

    /// A data file of these rows, of which its name tells nothing: as another engine would write it.
    pub(super) async fn theirs(&self, rows: &[RecordBatch]) -> DataFile {
        let schema = iceberg_schema(&self.def.payload, 0).unwrap();
        let encoded = encode(rows, &self.def.event_schema(), &schema).unwrap();
        let store = &self.tables.shared.store;
        let state = self.tables.load(&self.def).await.unwrap();
        let uri = format!("{}/data/theirs-{}.parquet", state.metadata().location(), Env::system().uuid());
        let size = encoded.bytes.len() as u64;
        store.objects().put(&store.path(&uri).unwrap(), encoded.bytes.into()).await.unwrap();
        data_file(uri, size, &encoded.footer, &schema, Place::level0()).unwrap()
    }

    /// Puts a file of these rows in the place of the `n`th.
    pub(super) async fn rewritten(&self, n: usize, rows: RecordBatch) {
        let mut files = self.live().await;
        files[n] = self.theirs(&[rows]).await;
        self.with_files(files).await;
    }
}

/// `orders`, whose paths follow from its regions.
pub(super) fn orders(name: &str) -> TopicDef {
    let fields = json!([
        {"name": "id", "type": "string"},
        {"name": "region", "type": ["null", "string"]},
        {"name": "amount", "type": ["null", "double"]},
    ]);
    let spec = json!({
        "name": name, "schema": {"type": "record", "name": "event", "fields": fields}, "key": ["id"],
        "path": format!("{name}/{{region}}"),
    });
    let spec: TopicSpec = serde_json::from_value(spec).unwrap();
    spec.resolve(TopicId(Env::system().uuid()), TenantId(Uuid::from_u128(1)), LaneId(0)).unwrap()
}

/// A batch with another column in the place of the one of this name.
pub(super) fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let (index, _) = batch.schema_ref().column_with_name(name).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[index] = column;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// Flips one bit.
pub(super) fn flip(path: &FsPath, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 1 << (at % 8);
    std::fs::write(path, content).unwrap();
}

fn under(folder: &FsPath) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { under(&path) } else { vec![path] }).collect()
}
