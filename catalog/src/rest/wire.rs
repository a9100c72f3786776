//! The documents that clients send. What Iceberg has a type for is read by that type.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use iceberg::spec::{Schema, SortOrder, UnboundPartitionSpec, ViewVersion};
use iceberg::{TableRequirement, TableUpdate, ViewUpdate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::names::{Ident, Namespace};
use super::reply::{Refusal, Result};

/// Reads a document. Errors: 400, saying where it is not what it should be.
pub(super) fn parse<T: DeserializeOwned>(what: &str, body: &Bytes) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("{what}: {error}")))
}

/// `POST v1/namespaces`
#[derive(Debug, Deserialize)]
pub(super) struct CreateNamespace {
    pub(super) namespace: Namespace,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
}

/// `POST v1/namespaces/{namespace}/properties`
#[derive(Debug, Deserialize)]
pub(super) struct UpdateProperties {
    #[serde(default)]
    pub(super) removals: Vec<String>,
    #[serde(default)]
    pub(super) updates: BTreeMap<String, String>,
}

/// `POST v1/namespaces/{namespace}/tables`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CreateTable {
    pub(super) name: String,
    pub(super) location: Option<String>,
    pub(super) schema: Schema,
    pub(super) partition_spec: Option<UnboundPartitionSpec>,
    pub(super) write_order: Option<SortOrder>,
    #[serde(default)]
    pub(super) stage_create: bool,
    pub(super) properties: Option<HashMap<String, String>>,
}

/// `POST v1/namespaces/{namespace}/register`, and of views
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Register {
    pub(super) name: String,
    pub(super) metadata_location: String,
    #[serde(default)]
    pub(super) overwrite: bool,
}

/// `POST v1/tables/rename`, `POST v1/views/rename`
#[derive(Debug, Deserialize)]
pub(super) struct Rename {
    pub(super) source: Ident,
    pub(super) destination: Ident,
}

/// `POST v1/namespaces/{namespace}/tables/{table}`, and a part of a transaction
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CommitTable {
    pub(super) identifier: Option<Ident>,
    #[serde(default)]
    pub(super) requirements: Vec<TableRequirement>,
    #[serde(default)]
    pub(super) updates: Vec<TableUpdate>,
}

/// `POST v1/transactions/commit`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CommitTransaction {
    pub(super) table_changes: Vec<CommitTable>,
}

/// `POST v1/namespaces/{namespace}/views`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CreateView {
    pub(super) name: String,
    pub(super) location: Option<String>,
    pub(super) schema: Schema,
    pub(super) view_version: ViewVersion,
    #[serde(default)]
    pub(super) properties: HashMap<String, String>,
}

/// `POST v1/namespaces/{namespace}/views/{view}`
#[derive(Debug, Deserialize)]
pub(super) struct CommitView {
    #[serde(default)]
    pub(super) requirements: Vec<ViewRequirement>,
    #[serde(default)]
    pub(super) updates: Vec<ViewUpdate>,
}

/// What a view must be for a commit to it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
pub(super) enum ViewRequirement {
    #[serde(rename = "assert-view-uuid")]
    UuidMatch { uuid: Uuid },
}

/// For the fuzzer: no document of a client's panics, and a commit that was read loses nothing when it is written again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_documents(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let _ = parse::<CreateNamespace>("", &body);
    let _ = parse::<UpdateProperties>("", &body);
    let _ = parse::<CreateTable>("", &body);
    let _ = parse::<Register>("", &body);
    let _ = parse::<Rename>("", &body);
    let _ = parse::<CommitTransaction>("", &body);
    let _ = parse::<CreateView>("", &body);
    let _ = parse::<CommitView>("", &body);
    let Ok(commit) = parse::<CommitTable>("", &body) else { return };
    let written = serde_json::to_value(&commit).expect("a commit is JSON");
    let again: CommitTable = serde_json::from_value(written.clone()).expect("what was written is read");
    assert_eq!(serde_json::to_value(&again).expect("a commit is JSON"), written);
}
