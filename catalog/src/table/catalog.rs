//! Topic tables as an `iceberg::Catalog`: a namespace is a tenant, a table is a topic's.
//!
//! Reading works; whatever would change a topic's table is refused, naming the Firn command to use instead. Nothing here has state: namespaces
//! and tables are registers.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{
    Catalog, Error, ErrorKind, Namespace, NamespaceIdent, Result, Runtime, TableCommit, TableCreation, TableIdent,
};
use object_store::path::Path;
use schemas::{TenantName, TopicName};

use super::Tables;
use super::pointer::Pointer;
use crate::topics::Topics;

/// The catalog of everything in one store, in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EmbeddedCatalog {
    tables: Tables,
    topics: Topics,
}

impl EmbeddedCatalog {
    /// Tables are looked up in `tables`' store; which there are is what `topics` knows.
    pub fn new(tables: Tables, topics: Topics) -> Self {
        Self { tables, topics }
    }

    async fn has_tenant(&self, tenant: &TenantName) -> Result<bool> {
        let register = Path::from(format!("tenants/{tenant}/tenant.json"));
        let found = self.tables.store().read_register(&register).await.map_err(store_error)?;
        Ok(found.is_some())
    }

    /// Full URI of a table's current metadata. `None` if there is no such table.
    async fn metadata_uri(&self, table: &TableIdent) -> Result<Option<String>> {
        let (Some(tenant), Ok(topic)) = (tenant_of(table.namespace()), TopicName::new(table.name())) else {
            return Ok(None);
        };
        let pointer = self.tables.shared.read_pointer(&Pointer::path(&tenant, &topic)).await.map_err(store_error)?;
        Ok(pointer.and_then(|pinned| pinned.pointer.metadata))
    }
}

/// The tenant that a namespace is, if its name can be one.
fn tenant_of(namespace: &NamespaceIdent) -> Option<TenantName> {
    match namespace.as_ref().as_slice() {
        [name] => TenantName::new(name).ok(),
        _ => None,
    }
}

fn store_error(error: crate::CatalogError) -> Error {
    let kind = match error.kind() {
        schemas::ErrorKind::Corrupt => ErrorKind::DataInvalid,
        _ => ErrorKind::Unexpected,
    };
    Error::new(kind, error.to_string()).with_retryable(error.kind().is_retryable()).with_source(error)
}

fn refused<T>(what: &str, instead: &str) -> Result<T> {
    Err(Error::new(ErrorKind::FeatureUnsupported, format!("{what} through the Iceberg catalog is refused: {instead}")))
}

fn no_namespace(namespace: &NamespaceIdent) -> Error {
    Error::new(ErrorKind::NamespaceNotFound, format!("there is no tenant {namespace}"))
}

fn no_table(table: &TableIdent) -> Error {
    Error::new(ErrorKind::TableNotFound, format!("there is no topic {table}"))
}

#[async_trait]
impl Catalog for EmbeddedCatalog {
    async fn list_namespaces(&self, parent: Option<&NamespaceIdent>) -> Result<Vec<NamespaceIdent>> {
        if let Some(parent) = parent {
            return match self.namespace_exists(parent).await? {
                true => Ok(Vec::new()),
                false => Err(no_namespace(parent)),
            };
        }
        let listed = self.tables.store().objects().list_with_delimiter(Some(&Path::from("tenants"))).await;
        let listed =
            listed.map_err(|error| Error::new(ErrorKind::Unexpected, "tenants cannot be listed").with_source(error))?;
        let names = listed.common_prefixes.iter().filter_map(|path| path.filename());
        Ok(names
            .filter_map(|name| TenantName::new(name).ok())
            .map(|name| NamespaceIdent::new(name.to_string()))
            .collect())
    }

    async fn create_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<Namespace> {
        refused("creating a namespace", "a tenant is made by Firn with its first topic")
    }

    async fn get_namespace(&self, namespace: &NamespaceIdent) -> Result<Namespace> {
        match self.namespace_exists(namespace).await? {
            true => Ok(Namespace::new(namespace.clone())),
            false => Err(no_namespace(namespace)),
        }
    }

    async fn namespace_exists(&self, namespace: &NamespaceIdent) -> Result<bool> {
        match tenant_of(namespace) {
            Some(tenant) => self.has_tenant(&tenant).await,
            None => Ok(false),
        }
    }

    async fn update_namespace(&self, _: &NamespaceIdent, _: HashMap<String, String>) -> Result<()> {
        refused("changing a namespace", "a tenant has no properties of Iceberg's")
    }

    async fn drop_namespace(&self, _: &NamespaceIdent) -> Result<()> {
        refused("dropping a namespace", "drop the tenant's topics with `firn topic drop`")
    }

    async fn list_tables(&self, namespace: &NamespaceIdent) -> Result<Vec<TableIdent>> {
        let tenant = tenant_of(namespace).ok_or_else(|| no_namespace(namespace))?;
        if !self.has_tenant(&tenant).await? {
            return Err(no_namespace(namespace));
        }
        let topics = self.topics.list(&tenant);
        Ok(topics.iter().map(|def| TableIdent::new(namespace.clone(), def.name.to_string())).collect())
    }

    async fn create_table(&self, _: &NamespaceIdent, _: TableCreation) -> Result<Table> {
        refused("creating a table", "make a topic with `firn topic create`")
    }

    async fn load_table(&self, table: &TableIdent) -> Result<Table> {
        let uri = self.metadata_uri(table).await?.ok_or_else(|| no_table(table))?;
        let metadata = self.tables.shared.read_metadata(&uri).await.map_err(store_error)?;
        Table::builder()
            .identifier(table.clone())
            .file_io(self.tables.shared.file_io.clone())
            .metadata_location(uri)
            .metadata(Arc::clone(&metadata))
            .runtime(Runtime::try_current()?)
            .build()
    }

    async fn drop_table(&self, _: &TableIdent) -> Result<()> {
        refused("dropping a topic's table", "use `firn topic drop`")
    }

    async fn purge_table(&self, _: &TableIdent) -> Result<()> {
        refused("purging a topic's table", "use `firn topic drop`")
    }

    async fn table_exists(&self, table: &TableIdent) -> Result<bool> {
        Ok(self.metadata_uri(table).await?.is_some())
    }

    async fn rename_table(&self, _: &TableIdent, _: &TableIdent) -> Result<()> {
        refused("renaming a topic's table", "a topic keeps its name; make another with `firn topic create`")
    }

    async fn register_table(&self, _: &TableIdent, _: String) -> Result<Table> {
        refused("registering a table", "make a topic with `firn topic create` and load it with `firn produce`")
    }

    async fn update_table(&self, _: TableCommit) -> Result<Table> {
        refused("changing a topic's table", "append with `firn produce` or over Arrow Flight")
    }
}
