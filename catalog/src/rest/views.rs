//! Views: definitions in SQL that engines keep here. Firn does not run them.

use bytes::Bytes;
use iceberg::ViewUpdate;
use iceberg::spec::{ViewFormatVersion, ViewMetadata, ViewMetadataBuilder};
use schemas::TenantName;
use serde_json::json;
use uuid::Uuid;

use super::RestCatalog;
use super::directory::{Entry, Kind};
use super::head::Head;
use super::names::{Ident, Namespace};
use super::order::in_order;
use super::pace::Pause;
use super::pages::Page;
use super::reply::{Refusal, Reply, Result};
use super::wire::{CommitView, CreateView, Register, ViewRequirement, parse};

/// View property: how many versions are kept.
const VERSIONS_KEPT: &str = "version.history.num-entries";

impl RestCatalog {
    pub(super) async fn list_views(&self, tenant: &TenantName, namespace: &Namespace, page: &Page) -> Result<Reply> {
        let names: Vec<String> = if namespace.is_of_topics(tenant) {
            self.check_namespace(tenant, namespace).await?;
            Vec::new()
        } else {
            self.directory(tenant).await?.namespace(namespace)?.views.keys().cloned().collect()
        };
        Ok(Reply::of(page.document("identifiers", names, |name| json!({"namespace": namespace, "name": name}))?))
    }

    pub(super) async fn create_view(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let CreateView { name, location, schema, view_version, properties } = parse("a view to be created", body)?;
        let ident = self.own_ident(tenant, namespace, &name, "making a view in it")?;
        let directory = self.directory(tenant).await?;
        if directory.has_had(change) {
            return self.load_view(tenant, &ident).await;
        }
        directory.check_free(Kind::View, &ident)?;
        let id = self.env().uuid();
        let location = match location {
            Some(location) => location,
            None => self.store().uri(&self.folder(tenant, id).await?),
        };
        let builder = ViewMetadataBuilder::new(location, schema, view_version, ViewFormatVersion::V1, properties)?;
        let metadata = builder.assign_uuid(id).build()?.metadata;
        let uri = self.write_view(tenant, id, 0, &metadata).await?;
        self.name_view(tenant, &ident, id, uri, change).await?;
        self.load_view(tenant, &ident).await
    }

    pub(super) async fn register_view(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let Register { name, metadata_location, .. } = parse("a view to be registered", body)?;
        let ident = self.own_ident(tenant, namespace, &name, "registering a view in it")?;
        let directory = self.directory(tenant).await?;
        if !directory.has_had(change) {
            directory.check_free(Kind::View, &ident)?;
            self.check_registrable(tenant, &metadata_location).await?;
            self.read_view(&metadata_location).await.map_err(|error| Refusal::bad_request(error.message))?;
            self.name_view(tenant, &ident, self.env().uuid(), metadata_location, change).await?;
        }
        self.load_view(tenant, &ident).await
    }

    async fn name_view(&self, tenant: &TenantName, ident: &Ident, id: Uuid, uri: String, change: Uuid) -> Result<()> {
        self.make_head(tenant, Kind::View, id, &Head::first(uri, change)).await?;
        self.change_directory(tenant, change, |directory| directory.insert(Kind::View, ident, Entry { id })).await?;
        Ok(())
    }

    pub(super) async fn load_view(&self, tenant: &TenantName, ident: &Ident) -> Result<Reply> {
        let entry = self.directory(tenant).await?.entry(Kind::View, ident)?;
        let uri = self.current_metadata(tenant, Kind::View, entry.id).await?;
        view_reply(&uri, &self.read_view(&uri).await?)
    }

    /// Replaces a view's definition, or changes its properties: its requirement and updates on what is current.
    pub(super) async fn commit_view(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let CommitView { requirements, updates } = parse("a commit", body)?;
        let id = self.directory(tenant).await?.entry(Kind::View, ident)?.id;
        let mut pause = Pause::new(self.env());
        loop {
            let found = self.read_head(tenant, Kind::View, id).await?;
            let uri = found.head.metadata.clone();
            let metadata = self.read_view(&uri).await?;
            if found.head.has_had(change) {
                return view_reply(&uri, &metadata);
            }
            check(&requirements, &metadata)?;
            let (metadata, changed) = apply(metadata, &updates)?;
            if !changed {
                return view_reply(&uri, &metadata);
            }
            let uri = self.write_view(tenant, id, found.head.version, &metadata).await?;
            let to = found.head.committed(uri.clone(), change);
            if self.swap_head(tenant, Kind::View, id, &found, to).await?.is_some() {
                return view_reply(&uri, &metadata);
            }
            pause.before_another("a commit").await?;
        }
    }

    pub(super) async fn drop_view(&self, tenant: &TenantName, ident: &Ident, change: Uuid) -> Result<Reply> {
        let dropped = self.change_directory(tenant, change, |directory| directory.remove(Kind::View, ident));
        dropped.await?;
        Ok(Reply::done())
    }

    async fn write_view(&self, tenant: &TenantName, id: Uuid, version: u64, metadata: &ViewMetadata) -> Result<String> {
        self.write_document(tenant, id, version, metadata.properties(), metadata).await
    }

    async fn read_view(&self, uri: &str) -> Result<ViewMetadata> {
        let bytes = self.tables().read_object(uri).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Refusal::new(500, "InternalServerError", format!("{uri} should be a view's metadata: {error}"))
        })
    }
}

fn check(requirements: &[ViewRequirement], metadata: &ViewMetadata) -> Result<()> {
    for ViewRequirement::UuidMatch { uuid } in requirements {
        if *uuid != metadata.uuid() {
            let message = format!("view UUID does not match: expected {uuid}, found {}", metadata.uuid());
            return Err(Refusal::commit_failed(message));
        }
    }
    Ok(())
}

/// The view with all updates, and whether that changes it.
fn apply(metadata: ViewMetadata, updates: &[ViewUpdate]) -> Result<(ViewMetadata, bool)> {
    let mut builder = metadata.into_builder();
    for update in updates.iter().cloned() {
        builder = match update {
            ViewUpdate::AssignUuid { uuid } => builder.assign_uuid(uuid),
            ViewUpdate::UpgradeFormatVersion { format_version } => builder.upgrade_format_version(format_version)?,
            ViewUpdate::AddSchema { schema, .. } => builder.add_schema(schema),
            ViewUpdate::SetLocation { location } => builder.set_location(location),
            ViewUpdate::SetProperties { updates } => builder.set_properties(updates)?,
            ViewUpdate::RemoveProperties { removals } => builder.remove_properties(&removals),
            ViewUpdate::AddViewVersion { view_version } => builder.add_version(view_version)?,
            ViewUpdate::SetCurrentViewVersion { view_version_id } => builder.set_current_version_id(view_version_id)?,
        };
    }
    let built = builder.build().map_err(|error| {
        let hint = format!("{}; the property {VERSIONS_KEPT} says how many versions are kept", error.message());
        Refusal::new(400, "IllegalArgumentException", hint)
    })?;
    Ok((built.metadata, !built.changes.is_empty()))
}

fn view_reply(uri: &str, metadata: &ViewMetadata) -> Result<Reply> {
    Ok(Reply::of(json!({"metadata-location": uri, "metadata": in_order(metadata)?, "config": {}})))
}
