//! Commits to tables: of users' own by their requirements and updates alone, of topics by what `table::outside` allows.

use bytes::Bytes;
use iceberg::spec::{FormatVersion, Schema, SortOrder, TableMetadata, TableMetadataBuildResult, TableMetadataBuilder};
use iceberg::{TableRequirement, TableUpdate};
use schemas::{TenantName, TopicName, limits};
use uuid::Uuid;

use super::directory::Kind;
use super::head::PinnedHead;
use super::names::Ident;
use super::pace::Pause;
use super::reply::{Refusal, Reply, Result};
use super::tables::Loaded;
use super::wire::{CommitTable, parse};
use super::{RestCatalog, Snapshots};
use crate::table::Declined;

/// Table property: whether metadata files that fall out of the log are deleted.
const DELETE_METADATA: &str = "write.metadata.delete-after-commit.enabled";

/// What a commit makes of a table.
#[derive(Debug)]
pub(super) struct Next {
    /// Full URI of the metadata, written.
    pub(super) uri: String,
    pub(super) metadata: TableMetadata,
    /// Metadata files that nothing leads to any more once it is current.
    forgotten: Vec<String>,
}

impl RestCatalog {
    pub(super) async fn commit_table(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let commit: CommitTable = parse("a commit", body)?;
        check_size(&commit)?;
        self.commit_one(tenant, ident, &commit, change).await
    }

    pub(super) async fn commit_one(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        commit: &CommitTable,
        change: Uuid,
    ) -> Result<Reply> {
        if ident.namespace.is_of_topics(tenant) {
            return self.commit_topic(tenant, ident, commit).await;
        }
        let creates = commit.requirements.contains(&TableRequirement::NotExist);
        match self.directory(tenant).await?.entry(Kind::Table, ident) {
            Ok(entry) => {
                let made = self.read_head(tenant, Kind::Table, entry.id).await?;
                if creates && !made.head.has_had(change) {
                    let message = format!("Requirement failed: table already exists: {ident}");
                    return Err(Refusal::new(409, "AlreadyExistsException", message));
                }
                self.commit_own(tenant, entry.id, commit, change).await
            }
            Err(_) if creates => self.create_staged(tenant, ident, commit, change).await,
            Err(absent) => Err(absent),
        }
    }

    async fn commit_own(&self, tenant: &TenantName, id: Uuid, commit: &CommitTable, change: Uuid) -> Result<Reply> {
        let mut pause = Pause::new(self.env());
        let mut tried = None;
        loop {
            let found = self.settled(tenant, Kind::Table, id).await?;
            if found.head.has_had(change) {
                let (uri, metadata) = (found.head.metadata.clone(), self.read_table(&found.head.metadata).await?);
                return self.table_reply(Loaded { uri, metadata }, Snapshots::All);
            }
            if tried.is_some_and(|tried| found.head.may_have_forgotten(tried)) {
                return Err(Refusal::unknown("so much was committed since that it cannot be told whether this was"));
            }
            let next = self.prepare(tenant, id, &found, commit).await?;
            let unchanged = next.uri == found.head.metadata;
            let to = found.head.committed(next.uri.clone(), change);
            if unchanged || self.swap_head(tenant, Kind::Table, id, &found, to).await?.is_some() {
                self.forget(&next).await;
                return self.table_reply(Loaded { uri: next.uri, metadata: next.metadata }, Snapshots::All);
            }
            tried = tried.or(Some(found.head.version));
            pause.before_another("a commit").await?;
        }
    }

    /// Writes the metadata that a commit makes of what is there. Its URI is the current one if nothing changes.
    ///
    /// Errors: 409 if a requirement is not met, 400 if an update cannot be applied: nothing has happened.
    pub(super) async fn prepare(
        &self,
        tenant: &TenantName,
        id: Uuid,
        found: &PinnedHead,
        commit: &CommitTable,
    ) -> Result<Next> {
        let uri = &found.head.metadata;
        let metadata = self.read_table(uri).await?;
        for requirement in &commit.requirements {
            requirement.check(Some(&metadata)).map_err(|error| unmet(requirement, &metadata, error))?;
        }
        let updates = self.checked_updates(tenant, id, &metadata, &commit.updates).await?;
        let built = apply(metadata.into_builder(Some(uri.clone())), updates)?;
        if built.changes.is_empty() {
            return Ok(Next { uri: uri.clone(), metadata: built.metadata, forgotten: Vec::new() });
        }
        let uri = self.write_metadata(tenant, id, found.head.version, &built.metadata).await?;
        let deletes = built.metadata.properties().get(DELETE_METADATA).is_some_and(|text| text == "true");
        let forgotten = built.expired_metadata_logs.into_iter().filter(|_| deletes);
        let forgotten = forgotten.map(|log| log.metadata_file).collect();
        Ok(Next { uri, metadata: built.metadata, forgotten })
    }

    /// Removes metadata files that a commit has let fall out of the log, once it is current.
    pub(super) async fn forget(&self, next: &Next) {
        for uri in &next.forgotten {
            self.tables().delete_metadata(uri).await;
        }
    }

    /// Errors: 400 for another uuid, or a location that may not be.
    async fn checked_updates(
        &self,
        tenant: &TenantName,
        id: Uuid,
        metadata: &TableMetadata,
        updates: &[TableUpdate],
    ) -> Result<Vec<TableUpdate>> {
        let mut checked = Vec::with_capacity(updates.len());
        for update in updates {
            match update {
                TableUpdate::AssignUuid { uuid } if *uuid != metadata.uuid() => {
                    let message = format!("a table keeps its uuid {}, found {uuid}", metadata.uuid());
                    return Err(Refusal::bad_request(message));
                }
                TableUpdate::SetLocation { location } if location.trim_end_matches('/') != metadata.location() => {
                    let location = self.location(tenant, id, Some(location.clone())).await?;
                    checked.push(TableUpdate::SetLocation { location });
                }
                other => checked.push(other.clone()),
            }
        }
        Ok(checked)
    }

    /// The end of a transaction that makes a table: what was staged comes back as updates of nothing.
    async fn create_staged(
        &self,
        tenant: &TenantName,
        ident: &Ident,
        commit: &CommitTable,
        change: Uuid,
    ) -> Result<Reply> {
        self.directory(tenant).await?.check_free(Kind::Table, ident)?;
        for requirement in &commit.requirements {
            requirement.check(None)?;
        }
        let location = commit.updates.iter().find_map(|update| match update {
            TableUpdate::SetLocation { location } => Some(location.clone()),
            _ => None,
        });
        // Where the stage put it, if it did.
        let folder = self.store().uri(&self.tables_folder(tenant).await?);
        let staged = location.as_ref().and_then(|location| location.strip_prefix(&folder)?.strip_prefix('/'));
        let id = staged.and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(|| self.env().uuid());
        let location = self.location(tenant, id, location).await?;
        let metadata = from_nothing(location, id, &commit.updates)?;
        self.publish_new(tenant, ident, id, metadata, change).await
    }

    async fn commit_topic(&self, tenant: &TenantName, ident: &Ident, commit: &CommitTable) -> Result<Reply> {
        let absent = || Refusal::no_table(ident);
        let topic = TopicName::new(ident.name.as_str()).map_err(|_| absent())?;
        let def = self.topics().get(tenant, &topic).filter(|_| ident.namespace.parent().is_none());
        let def = def.ok_or_else(absent)?;
        if commit.requirements.contains(&TableRequirement::NotExist) {
            return Err(Refusal::exists("Table", ident));
        }
        let committed = self.tables().commit_outside(tenant, &def, &commit.requirements, &commit.updates).await;
        let state = committed.map_err(|declined| match declined {
            Declined::NotAllowed { what, instead } => Refusal::of_topic(&ident.to_string(), &what, instead),
            Declined::Library(error) => error.into(),
            Declined::Failed(error) => error.into(),
        })?;
        let (uri, metadata) = (state.metadata_uri().to_owned(), state.table_metadata().as_ref().clone());
        self.table_reply(Loaded { uri, metadata }, Snapshots::All)
    }
}

/// A requirement that is not met, in the words that clients know from Iceberg's own catalogs.
fn unmet(requirement: &TableRequirement, metadata: &TableMetadata, error: iceberg::Error) -> Refusal {
    let what = match requirement {
        TableRequirement::NotExist => "table already exists".to_owned(),
        TableRequirement::UuidMatch { uuid } => {
            format!("UUID does not match: expected {} != {uuid}", metadata.uuid())
        }
        TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: id } => {
            format!("last assigned field id changed: expected id {id} != {}", metadata.last_column_id())
        }
        TableRequirement::CurrentSchemaIdMatch { current_schema_id: id } => {
            format!("current schema changed: expected id {id} != {}", metadata.current_schema_id())
        }
        TableRequirement::LastAssignedPartitionIdMatch { last_assigned_partition_id: id } => {
            format!("last assigned partition id changed: expected id {id} != {}", metadata.last_partition_id())
        }
        TableRequirement::DefaultSpecIdMatch { default_spec_id: id } => {
            format!("default partition spec changed: expected id {id} != {}", metadata.default_partition_spec_id())
        }
        TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id: id } => {
            format!("default sort order changed: expected id {id} != {}", metadata.default_sort_order_id())
        }
        TableRequirement::RefSnapshotIdMatch { .. } => return error.into(),
    };
    Refusal::commit_failed(format!("Requirement failed: {what}"))
}

/// Errors: 400 if there are too many of them.
pub(super) fn check_size(commit: &CommitTable) -> Result<()> {
    let (found, most) = (commit.requirements.len() + commit.updates.len(), limits::COMMIT_PARTS_MAX);
    match found <= most {
        true => Ok(()),
        false => {
            Err(Refusal::bad_request(format!("a commit has at most {most} requirements and updates, found {found}")))
        }
    }
}

fn apply(mut builder: TableMetadataBuilder, updates: Vec<TableUpdate>) -> Result<TableMetadataBuildResult> {
    for update in updates {
        builder = update.apply(builder)?;
    }
    Ok(builder.build()?)
}

/// A table out of nothing but updates.
///
/// The library begins with a schema, a spec and an order: the first ones of the updates; then all updates are applied, of which these change nothing again.
fn from_nothing(location: String, id: Uuid, updates: &[TableUpdate]) -> Result<TableMetadata> {
    let mut version = FormatVersion::V2;
    let (mut schema, mut spec, mut order, mut uuid): (Option<Schema>, _, _, _) = (None, None, None, id);
    for update in updates {
        match update {
            TableUpdate::UpgradeFormatVersion { format_version } => version = *format_version,
            TableUpdate::AddSchema { schema: first } if schema.is_none() => schema = Some(first.clone()),
            TableUpdate::AddSpec { spec: first } if spec.is_none() => spec = Some(first.clone()),
            TableUpdate::AddSortOrder { sort_order: first } if order.is_none() => order = Some(first.clone()),
            TableUpdate::AssignUuid { uuid: given } => uuid = *given,
            _ => {}
        }
    }
    let schema =
        schema.ok_or_else(|| Refusal::bad_request("a table is made with a schema, found no update add-schema"))?;
    let (spec, order) = (spec.unwrap_or_default(), order.unwrap_or_else(SortOrder::unsorted_order));
    let builder = TableMetadataBuilder::new(schema, spec, order, location, version, Default::default())?;
    let rest = updates
        .iter()
        .filter(|update| !matches!(update, TableUpdate::SetLocation { .. } | TableUpdate::UpgradeFormatVersion { .. }));
    let built = apply(builder.assign_uuid(uuid), rest.cloned().collect())?;
    Ok(built.metadata)
}
