//! Namespaces: users' own, and the one of the tenant's topics, which Firn keeps.

use bytes::Bytes;
use schemas::TenantName;
use serde_json::json;
use uuid::Uuid;

use super::RestCatalog;
use super::names::Namespace;
use super::pages::Page;
use super::reply::{Refusal, Reply, Result};
use super::wire::{CreateNamespace, UpdateProperties, parse};

/// What is said of the namespace of topics.
const TOPICS_COMMENT: &str = "the tenant's topics; make, change and drop them with `firn topic`";

impl RestCatalog {
    pub(super) async fn list_namespaces(
        &self,
        tenant: &TenantName,
        parent: Option<&Namespace>,
        page: &Page,
    ) -> Result<Reply> {
        if let Some(parent) = parent {
            self.check_namespace(tenant, parent).await?;
        }
        let directory = self.directory(tenant).await?;
        let mut found: Vec<_> = directory.namespaces.into_keys().filter(|key| Namespace::holds(parent, key)).collect();
        if parent.is_none() {
            found.push(tenant.to_string());
            found.sort_unstable();
        }
        let document = page.document("namespaces", found, |key| json!(Namespace::levels(key)))?;
        Ok(Reply::of(document))
    }

    pub(super) async fn create_namespace(&self, tenant: &TenantName, body: &Bytes, change: Uuid) -> Result<Reply> {
        let CreateNamespace { namespace, properties } = parse("a namespace to be created", body)?;
        if namespace.is_of_topics(tenant) {
            return match namespace.parent() {
                None => Err(Refusal::exists("Namespace", namespace)),
                Some(topics) => Err(of_topics(&topics, "a namespace in it")),
            };
        }
        let made = self.change_directory(tenant, change, |directory| {
            if let Some(parent) = namespace.parent() {
                directory.namespace(&parent)?;
            }
            if directory.namespaces.contains_key(&namespace.key()) {
                return Err(Refusal::exists("Namespace", &namespace));
            }
            directory.namespaces.entry(namespace.key()).or_default().properties = properties.clone();
            Ok(())
        });
        made.await?;
        Ok(Reply::of(json!({"namespace": namespace, "properties": properties})))
    }

    pub(super) async fn load_namespace(&self, tenant: &TenantName, namespace: &Namespace) -> Result<Reply> {
        let properties = if namespace.is_of_topics(tenant) {
            self.check_namespace(tenant, namespace).await?;
            json!({"comment": TOPICS_COMMENT})
        } else {
            json!(self.directory(tenant).await?.namespace(namespace)?.properties)
        };
        Ok(Reply::of(json!({"namespace": namespace, "properties": properties})))
    }

    /// Errors: 404.
    pub(super) async fn check_namespace(&self, tenant: &TenantName, namespace: &Namespace) -> Result<()> {
        match namespace.is_of_topics(tenant) {
            true if namespace.parent().is_none() => Ok(()),
            true => Err(Refusal::no_namespace(namespace)),
            false => self.directory(tenant).await?.namespace(namespace).map(|_| ()),
        }
    }

    pub(super) async fn update_namespace(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        body: &Bytes,
        change: Uuid,
    ) -> Result<Reply> {
        let UpdateProperties { removals, updates } = parse("changes of properties", body)?;
        if let Some(both) = removals.iter().find(|name| updates.contains_key(*name)) {
            let message = format!("property {both:?} is to be both set and removed");
            return Err(Refusal::new(422, "UnprocessableEntityException", message));
        }
        if namespace.is_of_topics(tenant) {
            return Err(of_topics(namespace, "changing its properties"));
        }
        let changed = self.change_directory(tenant, change, |directory| {
            let properties = &mut directory.namespace_mut(namespace)?.properties;
            let (removed, missing): (Vec<_>, Vec<_>) =
                removals.iter().partition(|name| properties.remove(*name).is_some());
            properties.extend(updates.clone());
            Ok(json!({"updated": updates.keys().collect::<Vec<_>>(), "removed": removed, "missing": missing}))
        });
        // Sent again: what it has done is there, and what was missing is no longer known.
        let again = || json!({"updated": updates.keys().collect::<Vec<_>>(), "removed": removals, "missing": []});
        Ok(Reply::of(changed.await?.unwrap_or_else(again)))
    }

    pub(super) async fn drop_namespace(
        &self,
        tenant: &TenantName,
        namespace: &Namespace,
        change: Uuid,
    ) -> Result<Reply> {
        if namespace.is_of_topics(tenant) {
            return Err(of_topics(namespace, "dropping it"));
        }
        let dropped = self.change_directory(tenant, change, |directory| {
            let held = directory.namespace(namespace)?;
            let (tables, views) = (held.tables.len(), held.views.len());
            let below = directory.namespaces.keys().filter(|key| Namespace::holds(Some(namespace), key)).count();
            if tables + views + below > 0 {
                let message = format!(
                    "Namespace {namespace} is not empty: {tables} tables, {views} views, {below} namespaces are in it"
                );
                return Err(Refusal::new(409, "NamespaceNotEmptyException", message));
            }
            directory.namespaces.remove(&namespace.key());
            Ok(())
        });
        dropped.await?;
        Ok(Reply::done())
    }
}

/// 403: Firn keeps this namespace.
pub(super) fn of_topics(namespace: &Namespace, what: &str) -> Refusal {
    let message = format!(
        "namespace {namespace} holds the tenant's topics: {what} is refused; topics are made and dropped with \
         `firn topic create` and `firn topic drop`, and tables of your own go into a namespace of your own"
    );
    Refusal::new(403, "ForbiddenException", message)
}
