//! Tables: what there is, what it is, and making, registering, renaming and dropping users' own.
//!
//! A table's folder is named by its id and given by Firn, `{root}/warehouse/{tenant id}/tables/{id}`; its metadata always lies there. Where its data lies is for
//! its user to say, except that a place inside the store is one of these folders.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use iceberg::TableCreation;
use iceberg::spec::{FormatVersion, TableMetadata, TableMetadataBuilder};
use object_store::path::Path;
use schemas::{TenantName, TopicName};
use serde_json::{Value, json};
use uuid::Uuid;

use super::directory::{Entry, Kind, Purging};
use super::head::Head;
use super::names::{Ident, Namespace};
use super::namespaces::of_topics;
use super::order::in_order;
use super::pages::Page;
use super::reply::{Refusal, Reply, Result};
use super::wire::{CreateTable, Register, Rename, parse};
use super::{RestCatalog, Snapshots};
use crate::table::{Pointer, TOPIC_PROPERTY};

/// How long a drop waits for its files to go. What is left by then stays noted.
const PURGE_TIME: Duration = Duration::from_secs(20);
/// Property of tables and views: where their metadata files are to lie.
const METADATA_PATH: &str = "write.metadata.path";

/// A table as it is now.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) uri: String,
    pub(super) metadata: TableMetadata,
}

impl RestCatalog {
    pub(super) async fn list_tables(&self, tenant: &TenantName, namespace: &Namespace, page: &Page) -> Result<Reply> {
        let names: Vec<String> = if namespace.is_of_topics(tenant) {
            self.check_namespace(tenant, namespace).await?;
            self.topics().list(tenant).iter().map(|def| def.name.to_string()).collect()
        } else {
            self.directory(tenant).await?.namespace(namespace)?.tables.keys().cloned().collect()
        };
        Ok(Reply::of(page.document("identifiers", names, |name| json!({"namespace": namespace, "name": name}))?))
    }

    /// The table's current metadata. Errors: 404.
    pub(super) async fn loaded(&self, tenant: &TenantName, ident: &Ident) -> Result<Loaded> {
        let uri = match ident.namespace.is_of_topics(tenant) {
            true => self.topic_metadata(tenant, ident).await?,
            false => {
                let entry = self.directory(tenant).await?.entry(Kind::Table, ident)?;
                self.current_metadata(tenant, Kind::Table, entry.id).await?
            }
        };
        let metadata = self.read_table(&uri).await?;
        Ok(Loaded { uri, metadata })
    }

    /// Full URI of the metadata of a topic's table. Errors: 404.
    pub(super) async fn topic_metadata(&self, tenant: &TenantName, ident: &Ident) -> Result<String> {
        let absent = || Refusal::no_table(ident);
        let topic = TopicName::new(ident.name.as_str()).map_err(|_| absent())?;
        if ident.namespace.parent().is_some() || self.topics().get(tenant, &topic).is_none() {
            return Err(absent());
        }
        let pointer = self.tables().pointer(tenant, &topic).await?;
        pointer.and_then(|pointer: Pointer| pointer.metadata).ok_or_else(absent)
    }

    pub(super) async fn load_table(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        snapshots: Snapshots,
        known: Option<&str>,
    ) -> Result<Reply> {
        let loaded = self.loaded(tenant, ident).await?;
        let etag = etag(&loaded.uri, snapshots);
        if known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)) {
            return Ok(Reply::unchanged(etag));
        }
        self.table_reply(loaded, snapshots)
    }

    /// A table as the specification's `LoadTableResult`.
    pub(super) fn table_reply(&self, loaded: Loaded, snapshots: Snapshots) -> Result<Reply> {
        let etag = etag(&loaded.uri, snapshots);
        let mut body = self.load_result(Some(&loaded.uri), &loaded.metadata)?;
        if snapshots == Snapshots::Refs {
            keep_referenced(&mut body["metadata"]);
        }
        Ok(Reply { etag: Some(etag), ..Reply::of(body) })
    }

    fn load_result(&self, uri: Option<&str>, metadata: &TableMetadata) -> Result<Value> {
        let mut body = json!({"metadata": in_order(metadata)?, "config": self.client_settings()});
        if let Some(uri) = uri {
            body["metadata-location"] = json!(uri);
        }
        Ok(body)
    }

    pub(super) async fn create_table(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let request: CreateTable = parse("a table to be created", body)?;
        let ident = self.own_ident(tenant, namespace, &request.name, "making a table in it")?;
        let directory = self.directory(tenant).await?;
        if directory.has_had(change) {
            return self.table_reply(self.loaded(tenant, &ident).await?, Snapshots::All);
        }
        directory.check_free(Kind::Table, &ident)?;
        let id = self.env().uuid();
        let staged = request.stage_create;
        let metadata = self.new_table(tenant, id, request).await?;
        if staged {
            return Ok(Reply::of(self.load_result(None, &metadata)?));
        }
        self.publish_new(tenant, &ident, id, metadata, change).await
    }

    /// The identifier of a table or view that is a user's own. Errors: 403 in the namespace of topics.
    pub(super) fn own_ident(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        name: &str,
        what: &str,
    ) -> Result<Ident> {
        match namespace.is_of_topics(tenant) {
            true => Err(of_topics(namespace, what)),
            false => Ident::new(namespace.clone(), name),
        }
    }

    async fn new_table(&self, tenant: &TenantName, id: Uuid, request: CreateTable) -> Result<TableMetadata> {
        let CreateTable { name, location, schema, partition_spec, write_order, properties, .. } = request;
        let mut properties = properties.unwrap_or_default();
        let location = self.location(tenant, id, location).await?;
        let format_version = format_version(&mut properties)?;
        let creation = TableCreation::builder()
            .name(name)
            .location(location)
            .schema(schema)
            .partition_spec_opt(partition_spec)
            .sort_order_opt(write_order)
            .properties(properties)
            .format_version(format_version)
            .build();
        let built = TableMetadataBuilder::from_table_creation(creation)?.assign_uuid(id).build()?;
        Ok(built.metadata)
    }

    /// Writes the first metadata, its register, and at last the name that leads there: whatever crashes, a name leads to a table.
    pub(super) async fn publish_new(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        id: Uuid,
        metadata: TableMetadata,
        change: Uuid,
    ) -> Result<Reply> {
        let uri = self.write_metadata(tenant, id, 0, &metadata).await?;
        self.make_head(tenant, Kind::Table, id, &Head::first(uri.clone(), change)).await?;
        let named =
            self.change_directory(tenant, change, |directory| directory.insert(Kind::Table, ident, Entry { id }));
        match named.await? {
            Some(()) => self.table_reply(Loaded { uri, metadata }, Snapshots::All),
            None => self.table_reply(self.loaded(tenant, ident).await?, Snapshots::All),
        }
    }

    pub(super) async fn register_table(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let Register { name, metadata_location, overwrite } = parse("a table to be registered", body)?;
        let ident = self.own_ident(tenant, namespace, &name, "registering a table in it")?;
        let directory = self.directory(tenant).await?;
        if directory.has_had(change) {
            return self.table_reply(self.loaded(tenant, &ident).await?, Snapshots::All);
        }
        directory.namespace(namespace)?;
        if !overwrite {
            directory.check_free(Kind::Table, &ident)?;
        }
        self.check_registrable(tenant, &metadata_location).await?;
        let metadata = self.registered_metadata(&metadata_location).await?;
        let id = self.env().uuid();
        self.make_head(tenant, Kind::Table, id, &Head::first(metadata_location.clone(), change)).await?;
        let named = self.change_directory(tenant, change, |directory| {
            if overwrite && directory.entry(Kind::Table, &ident).is_ok() {
                directory.remove(Kind::Table, &ident)?;
            }
            directory.insert(Kind::Table, &ident, Entry { id })
        });
        named.await?;
        self.table_reply(Loaded { uri: metadata_location, metadata }, Snapshots::All)
    }

    /// Errors: 400 for metadata that does not lie among those of the tenant's own tables: a dropped topic's folder goes after its grace period, with whatever
    /// was registered there.
    pub(super) async fn check_registrable(&self, tenant: &TenantName, uri: &str) -> Result<()> {
        let own = self.tables_folder(tenant).await?;
        match self.store().path(uri)?.prefix_matches(&own) {
            true => Ok(()),
            false => {
                let own = self.store().uri(&own);
                Err(Refusal::bad_request(format!("metadata that is registered lies below {own}, found {uri:?}")))
            }
        }
    }

    /// Metadata that is to be a table's. Errors: 400 if it is none, or is a topic's.
    async fn registered_metadata(&self, uri: &str) -> Result<TableMetadata> {
        let metadata = TableMetadata::read_from(&self.store().file_io(), uri)
            .await
            .map_err(|error| Refusal::bad_request(format!("{uri} should be a table's metadata: {error}")))?;
        if metadata.properties().contains_key(TOPIC_PROPERTY) {
            return Err(Refusal::bad_request(format!(
                "{uri} is the metadata of a topic's table: that is registered already"
            )));
        }
        Ok(metadata)
    }

    pub(super) async fn rename(&self, tenant: &TenantName, kind: Kind, body: &Bytes, change: Uuid) -> Result<Reply> {
        let Rename { source, destination } = parse("a name to be changed", body)?;
        source.check()?;
        destination.check()?;
        if source.namespace.is_of_topics(tenant) {
            let instead = "a topic keeps its name; make another with `firn topic create`";
            return Err(Refusal::of_topic(&source.to_string(), "renaming it", instead));
        }
        if destination.namespace.is_of_topics(tenant) {
            return Err(of_topics(&destination.namespace, "moving a table into it"));
        }
        let renamed = self.change_directory(tenant, change, |directory| {
            directory.entry(kind, &source)?;
            if source == destination {
                return Ok(());
            }
            if let Some(holder) = directory.holder(&destination)? {
                let message = format!("Cannot rename {source} to {destination}. {} already exists", holder.name());
                return Err(Refusal::new(409, "AlreadyExistsException", message));
            }
            let entry = directory.remove(kind, &source)?;
            directory.insert(kind, &destination, entry)
        });
        renamed.await?;
        Ok(Reply::done())
    }

    /// Takes the name away; with `purge`, the files as well.
    ///
    /// The one swap that takes the name notes what is to be purged, so that a crash on the way leaves a note and not files that nobody knows of.
    pub(super) async fn drop_table(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        purge: bool,
        change: Uuid,
    ) -> Result<Reply> {
        if ident.namespace.is_of_topics(tenant) {
            self.topic_metadata(tenant, ident).await?;
            let instead = format!("use `firn topic drop {}`", ident.name);
            return Err(Refusal::of_topic(&ident.to_string(), "dropping it", &instead));
        }
        let noted = match purge {
            true => {
                let entry = self.directory(tenant).await?.entry(Kind::Table, ident).ok();
                match entry {
                    Some(entry) => {
                        let metadata = self.current_metadata(tenant, Kind::Table, entry.id).await?;
                        Some(Purging { id: entry.id, metadata })
                    }
                    None => None,
                }
            }
            false => None,
        };
        let dropped = self.change_directory(tenant, change, |directory| {
            let entry = directory.remove(Kind::Table, ident)?;
            directory.purging.extend(noted.clone().filter(|noted| noted.id == entry.id));
            Ok(())
        });
        dropped.await?;
        if purge && tokio::time::timeout(PURGE_TIME, self.purge(tenant)).await.is_err() {
            tracing::info!(%ident, "many files are to be removed: the next purge goes on with it");
        }
        Ok(Reply::done())
    }

    /// The folder of a table or view.
    pub(super) async fn folder(&self, tenant: &TenantName, id: Uuid) -> Result<Path> {
        Ok(self.tables_folder(tenant).await?.join(id.to_string()))
    }

    /// Full URI of the folder of a table's or view's metadata: its own, unless a property names another among those of users' tables.
    ///
    /// Errors: 400 for a place that is not among them: Firn writes metadata in its own store alone.
    pub(super) async fn metadata_folder(
        &self,
        tenant: &TenantName,
        id: Uuid,
        properties: &HashMap<String, String>,
    ) -> Result<String> {
        let Some(wanted) = properties.get(METADATA_PATH) else {
            return Ok(format!("{}/metadata", self.store().uri(&self.folder(tenant, id).await?)));
        };
        let allowed = self.tables_folder(tenant).await?;
        let wanted = wanted.trim_end_matches('/');
        match self.store().path(wanted) {
            // In the spelling that its user has chosen.
            Ok(path) if path.prefix_match(&allowed).is_some_and(|mut below| below.next().is_some()) => {
                Ok(wanted.to_owned())
            }
            _ => {
                let allowed = self.store().uri(&allowed);
                let message =
                    format!("{METADATA_PATH} {wanted:?}: metadata is written below {allowed} alone; leave it out");
                Err(Refusal::bad_request(message))
            }
        }
    }

    /// Where the folders of users' tables lie.
    pub(super) async fn tables_folder(&self, tenant: &TenantName) -> Result<Path> {
        let tenant = self.topics().ensure_tenant(tenant).await?;
        Ok(Path::from(format!("warehouse/{tenant}/tables")))
    }

    /// Where the files of a table are to lie. Errors: 400 for a place in the store that is not among the folders of users' tables.
    pub(super) async fn location(&self, tenant: &TenantName, id: Uuid, wanted: Option<String>) -> Result<String> {
        let Some(wanted) = wanted else { return Ok(self.store().uri(&self.folder(tenant, id).await?)) };
        let allowed = self.tables_folder(tenant).await?;
        let wanted = wanted.trim_end_matches('/').to_owned();
        let root = (wanted == self.store().uri(&Path::default())).then(Path::default);
        match root.ok_or(()).or_else(|()| self.store().path(&wanted)) {
            Ok(path) if path.prefix_match(&allowed).is_none_or(|mut below| below.next().is_none()) => {
                let message = format!(
                    "location {wanted:?} lies in Firn's store, where a table's place is a folder of {}: leave the location out",
                    self.store().uri(&allowed)
                );
                Err(Refusal::bad_request(message))
            }
            _ => Ok(wanted),
        }
    }
}

/// Names one representation of one metadata file: whatever is committed is another file.
fn etag(uri: &str, snapshots: Snapshots) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(uri.as_bytes());
    match snapshots {
        Snapshots::All => format!("\"{hash:032x}\""),
        Snapshots::Refs => format!("\"{hash:032x}-refs\""),
    }
}

/// Leaves the snapshots out that no branch or tag names.
fn keep_referenced(metadata: &mut Value) {
    let refs = metadata["refs"].as_object().into_iter().flatten();
    let named: HashSet<i64> = refs.filter_map(|(_, reference)| reference["snapshot-id"].as_i64()).collect();
    if let Some(snapshots) = metadata.get_mut("snapshots").and_then(Value::as_array_mut) {
        snapshots.retain(|snapshot| snapshot["snapshot-id"].as_i64().is_some_and(|id| named.contains(&id)));
    }
}

/// Takes the format version out of the properties, where clients ask for one. Errors: 400 for one that is not known.
fn format_version(properties: &mut HashMap<String, String>) -> Result<FormatVersion> {
    match properties.remove("format-version").as_deref() {
        None | Some("2") => Ok(FormatVersion::V2),
        Some("1") => Ok(FormatVersion::V1),
        Some("3") => Ok(FormatVersion::V3),
        Some(other) => Err(Refusal::bad_request(format!("format-version should be 1, 2 or 3, found {other:?}"))),
    }
}
