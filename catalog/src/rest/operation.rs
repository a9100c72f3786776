//! The calls of the specification that are answered here.

use bytes::Bytes;
use serde::Deserialize;

use super::answers::About;
use super::names::{Ident, Namespace};
use super::pages::Page;

/// What one call asks for. Bodies are as they came.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is what the specification calls it")]
pub enum Operation {
    Config,
    ListNamespaces { parent: Option<Namespace>, page: Page },
    CreateNamespace { body: Bytes },
    LoadNamespace(Namespace),
    NamespaceExists(Namespace),
    UpdateNamespace(Namespace, Bytes),
    DropNamespace(Namespace),
    ListTables(Namespace, Page),
    CreateTable(Namespace, Bytes),
    RegisterTable(Namespace, Bytes),
    LoadTable { table: Ident, snapshots: Snapshots, known: Option<String> },
    TableExists(Ident),
    CommitTable(Ident, Bytes),
    DropTable { table: Ident, purge: bool },
    RenameTable { body: Bytes },
    ReportMetrics(Ident, Bytes),
    CommitTransaction { body: Bytes },
    ListViews(Namespace, Page),
    CreateView(Namespace, Bytes),
    RegisterView(Namespace, Bytes),
    LoadView(Ident),
    ViewExists(Ident),
    CommitView(Ident, Bytes),
    DropView(Ident),
    RenameView { body: Bytes },
}

/// Which snapshots of a table are told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Snapshots {
    /// All.
    #[default]
    All,
    /// Those that a branch or tag names.
    Refs,
}

/// What the server offers, as `GET v1/config` lists it.
pub(super) const ENDPOINTS: [&str; 24] = [
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
    "GET /v1/{prefix}/namespaces/{namespace}/views",
    "POST /v1/{prefix}/namespaces/{namespace}/views",
    "GET /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/views/{view}",
    "POST /v1/{prefix}/namespaces/{namespace}/register-view",
    "POST /v1/{prefix}/views/rename",
];

impl Operation {
    /// Whether it changes anything: what idempotency keys are for.
    pub(super) fn changes(&self) -> bool {
        !matches!(
            self,
            Self::Config
                | Self::ListNamespaces { .. }
                | Self::LoadNamespace(_)
                | Self::NamespaceExists(_)
                | Self::ListTables(..)
                | Self::LoadTable { .. }
                | Self::TableExists(_)
                | Self::ReportMetrics(..)
                | Self::ListViews(..)
                | Self::LoadView(_)
                | Self::ViewExists(_)
        )
    }

    /// The table or view whose document answers it. `None` for other answers.
    pub(super) fn about(&self) -> Option<About> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let named = |namespace: &Namespace, body: &Bytes| {
            let name = serde_json::from_slice::<Named>(body).ok()?.name;
            Some(Ident { namespace: namespace.clone(), name })
        };
        match self {
            Self::CreateTable(namespace, body) | Self::RegisterTable(namespace, body) => {
                named(namespace, body).map(About::Table)
            }
            Self::CommitTable(table, _) => Some(About::Table(table.clone())),
            Self::CreateView(namespace, body) | Self::RegisterView(namespace, body) => {
                named(namespace, body).map(About::View)
            }
            Self::CommitView(view, _) => Some(About::View(view.clone())),
            _ => None,
        }
    }
}
