//! The Iceberg REST catalog, apart from HTTP: what each of the specification's calls does and answers.
//!
//! A tenant's topics are the tables of the namespace that has the tenant's name; users keep tables and views of their own in namespaces of their own. All state lies
//! in registers and is changed by swaps alone ([`directory`]: names; [`head`]: what a table is now; [`answers`]: what was answered), so any number of processes
//! serve one store, and none of them remembers anything.
//!
//! What others may do to a topic's table is said in `table::outside`.

mod answers;
mod commit;
mod directory;
mod head;
mod names;
mod namespaces;
mod operation;
mod order;
mod pace;
mod pages;
mod purge;
mod reply;
mod tables;
mod transaction;
mod views;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use iceberg::spec::TableMetadata;
use schemas::{TenantName, limits};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

pub use names::{Ident, Namespace};
pub use operation::{Operation, Snapshots};
pub use pages::Page;
pub use reply::{Refusal, Reply};

use crate::env::Env;
use crate::storage::Store;
use crate::table::Tables;
use crate::topics::Topics;
use directory::Kind;
use reply::Result;

/// How long an answer is kept under its idempotency key at least, as clients are told; as long as fewer than about 4,000 come in that time.
const KEY_LIFETIME: &str = "PT30M";

/// One call of the REST catalog.
#[derive(Debug)]
pub struct Request {
    /// Whose it is.
    pub tenant: TenantName,
    /// What is to be done.
    pub operation: Operation,
    /// The `Idempotency-Key`, if there is one.
    pub key: Option<Uuid>,
    /// Method and path.
    pub route: String,
}

/// The Iceberg REST catalog of one store, in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RestCatalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tables: Tables,
    topics: Topics,
    env: Env,
    client_settings: BTreeMap<String, String>,
}

impl RestCatalog {
    /// Over the store of `tables`; topics are those that `topics` knows. Clients are told where the store is, and with `hand_out_keys` the server's own keys to
    /// it.
    pub fn new(tables: Tables, topics: Topics, env: Env, hand_out_keys: bool) -> Self {
        let client_settings = tables.store().client_settings(hand_out_keys);
        Self { inner: Arc::new(Inner { tables, topics, env, client_settings }) }
    }

    /// Does what is asked, at most once under its key, and says what came of it.
    pub async fn answer(&self, request: Request) -> Reply {
        let key = request.key.filter(|_| request.operation.changes());
        if let Some(key) = key {
            match self.answered(&request, key).await {
                Ok(Some(reply)) => return reply,
                Ok(None) => {}
                Err(refusal) => return refusal.into(),
            }
        }
        let change = key.unwrap_or_else(|| self.env().uuid());
        let done = self.perform(&request.tenant, &request.operation, change).await;
        let is_final = done.as_ref().map_or_else(Refusal::is_final, |_| true);
        let reply = done.unwrap_or_else(Reply::from);
        if let Some(key) = key.filter(|_| is_final) {
            self.keep(&request, key, &reply).await;
        }
        reply
    }

    async fn perform(&self, tenant: &TenantName, operation: &Operation, change: Uuid) -> Result<Reply> {
        match operation {
            Operation::Config => Ok(Reply::of(self.config())),
            Operation::ListNamespaces { parent, page } => self.list_namespaces(tenant, parent.as_ref(), page).await,
            Operation::CreateNamespace { body } => self.create_namespace(tenant, body, change).await,
            Operation::LoadNamespace(namespace) => self.load_namespace(tenant, namespace).await,
            Operation::NamespaceExists(namespace) => {
                self.check_namespace(tenant, namespace).await.map(|()| Reply::done())
            }
            Operation::UpdateNamespace(namespace, body) => self.update_namespace(tenant, namespace, body, change).await,
            Operation::DropNamespace(namespace) => self.drop_namespace(tenant, namespace, change).await,
            Operation::ListTables(namespace, page) => self.list_tables(tenant, namespace, page).await,
            Operation::CreateTable(namespace, body) => {
                Box::pin(self.create_table(tenant, namespace, body, change)).await
            }
            Operation::RegisterTable(namespace, body) => self.register_table(tenant, namespace, body, change).await,
            Operation::LoadTable { table, snapshots, known } => {
                self.load_table(tenant, table, *snapshots, known.as_deref()).await
            }
            Operation::TableExists(table) => self.table_exists(tenant, table).await,
            Operation::CommitTable(table, body) => Box::pin(self.commit_table(tenant, table, body, change)).await,
            Operation::DropTable { table, purge } => self.drop_table(tenant, table, *purge, change).await,
            Operation::RenameTable { body } => self.rename(tenant, Kind::Table, body, change).await,
            Operation::ReportMetrics(table, body) => self.report_metrics(tenant, table, body).await,
            Operation::CommitTransaction { body } => Box::pin(self.commit_transaction(tenant, body, change)).await,
            Operation::ListViews(namespace, page) => self.list_views(tenant, namespace, page).await,
            Operation::CreateView(namespace, body) => self.create_view(tenant, namespace, body, change).await,
            Operation::RegisterView(namespace, body) => self.register_view(tenant, namespace, body, change).await,
            Operation::LoadView(view) => self.load_view(tenant, view).await,
            Operation::ViewExists(view) => self.directory(tenant).await?.entry(Kind::View, view).map(|_| Reply::done()),
            Operation::CommitView(view, body) => self.commit_view(tenant, view, body, change).await,
            Operation::DropView(view) => self.drop_view(tenant, view, change).await,
            Operation::RenameView { body } => self.rename(tenant, Kind::View, body, change).await,
        }
    }

    /// What clients are told first.
    fn config(&self) -> Value {
        json!({
            "defaults": self.client_settings(),
            "overrides": {},
            "endpoints": operation::ENDPOINTS,
            "idempotency-key-lifetime": KEY_LIFETIME,
        })
    }

    async fn table_exists(&self, tenant: &TenantName, table: &Ident) -> Result<Reply> {
        match table.namespace.is_of_topics(tenant) {
            true => self.topic_metadata(tenant, table).await.map(|_| Reply::done()),
            false => self.directory(tenant).await?.entry(Kind::Table, table).map(|_| Reply::done()),
        }
    }

    /// Takes notice of what a client says of a scan or a commit of its own.
    async fn report_metrics(&self, tenant: &TenantName, table: &Ident, body: &Bytes) -> Result<Reply> {
        let report: Value = wire::parse("a report of metrics", body)?;
        let kind = report["report-type"].as_str();
        let kind = kind.ok_or_else(|| Refusal::bad_request("a report of metrics should have a report-type"))?;
        self.table_exists(tenant, table).await?;
        tracing::debug!(%table, kind, %report, "a client reports");
        Ok(Reply::done())
    }

    fn tables(&self) -> &Tables {
        &self.inner.tables
    }

    fn topics(&self) -> &Topics {
        &self.inner.topics
    }

    fn store(&self) -> &Store {
        self.inner.tables.store()
    }

    fn env(&self) -> &Env {
        &self.inner.env
    }

    fn client_settings(&self) -> &BTreeMap<String, String> {
        &self.inner.client_settings
    }

    /// Errors: 404 if it is not there, 500 if it is no table's metadata.
    async fn read_table(&self, uri: &str) -> Result<TableMetadata> {
        let bytes = self.tables().read_object(uri).await?;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            return Ok(TableMetadata::read_from(&self.store().file_io(), uri).await?);
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            Refusal::new(500, "InternalServerError", format!("{uri} should be a table's metadata: {error}"))
        })
    }

    /// Writes metadata that follows `version` changes. Returns its full URI, which nobody else's has.
    async fn write_metadata(
        &self,
        tenant: &TenantName,
        id: Uuid,
        version: u64,
        metadata: &TableMetadata,
    ) -> Result<String> {
        self.write_document(tenant, id, version, metadata.properties(), metadata).await
    }

    async fn write_document(
        &self,
        tenant: &TenantName,
        id: Uuid,
        version: u64,
        properties: &HashMap<String, String>,
        document: &impl Serialize,
    ) -> Result<String> {
        let bytes = order::in_order(document)?.to_string();
        let most = limits::TABLE_METADATA_BYTES_MAX;
        if bytes.len() > most {
            let message = format!("metadata has at most {most} bytes, found {}: expire snapshots first", bytes.len());
            return Err(Refusal::bad_request(message));
        }
        let folder = self.metadata_folder(tenant, id, properties).await?;
        let uri = format!("{folder}/{version:05}-{}.metadata.json", self.env().uuid());
        self.tables().create_object(&uri, bytes.into()).await?;
        Ok(uri)
    }
}

/// For the fuzzer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    wire::fuzz_documents(data);
    directory::fuzz_directory(data);
    head::fuzz_head(data);
    answers::fuzz_answers(data);
}

#[cfg(test)]
mod tests;
