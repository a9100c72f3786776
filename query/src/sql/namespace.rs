//! What names mean to one statement: `firn` → the caller's tenant → its topics, and nothing else.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::topics::Topics;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use schemas::{TenantName, TopicName};

use crate::table::TopicTable;

/// The only catalog's name.
pub(crate) const CATALOG: &str = "firn";

/// What a statement can read, by the name that it has there.
pub(crate) type Opened = HashMap<String, Arc<dyn TableProvider>>;

/// The catalogs of one statement: only [`CATALOG`], in which there is only one schema.
#[derive(Debug)]
pub(crate) struct Namespace {
    tenant: Arc<Tenant>,
}

impl Namespace {
    /// `opened`: what the statement names, each with its read view. The others are there by schema only.
    pub(crate) fn new(topics: Topics, tenant: TenantName, opened: Opened) -> Self {
        Self { tenant: Arc::new(Tenant { topics, name: tenant, opened }) }
    }
}

impl CatalogProviderList for Namespace {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(Catalog { tenant: Arc::clone(&self.tenant) }) as _)
    }
}

/// The catalog: one schema.
#[derive(Debug)]
struct Catalog {
    tenant: Arc<Tenant>,
}

impl CatalogProvider for Catalog {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema_names(&self) -> Vec<String> {
        vec![self.tenant.name.to_string()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == self.tenant.name.as_str()).then(|| Arc::clone(&self.tenant) as _)
    }
}

/// The schema: a tenant's topics.
#[derive(Debug)]
struct Tenant {
    topics: Topics,
    name: TenantName,
    opened: Opened,
}

#[async_trait]
impl SchemaProvider for Tenant {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        self.topics.list(&self.name).iter().map(|def| def.name.to_string()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(opened) = self.opened.get(name) {
            return Ok(Some(Arc::clone(opened)));
        }
        let Ok(name) = TopicName::new(name) else { return Ok(None) };
        let known = self.topics.get(&self.name, &name);
        Ok(known.map(|def| Arc::new(TopicTable::unread(&def)) as _))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.opened.contains_key(name)
            || TopicName::new(name).is_ok_and(|name| self.topics.get(&self.name, &name).is_some())
    }
}
