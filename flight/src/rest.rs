//! The Iceberg REST catalog over HTTP, under `/iceberg`: routes, headers and tokens; [`catalog::rest`] decides.
//!
//! Every call is bounded: so many at once, so long, so large a body ([`limits`]). A call that a client gives up is dropped wherever it stands: the catalog is
//! whole at every step.

mod call;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use catalog::rest::{Ident, Namespace, Operation, Page, Refusal, Reply, RestCatalog, Snapshots};
use schemas::limits;
use tokio::sync::Semaphore;

use crate::guard;
use crate::settings::Token;
use call::{Call, Document};

/// What the handlers know.
#[derive(Clone)]
pub(crate) struct Rest {
    /// Empty until the store is open.
    catalog: Arc<OnceLock<RestCatalog>>,
    token: Option<Token>,
    permits: Arc<Semaphore>,
}

type Answer = Result<Operation, Refusal>;
type Pair = Path<(String, String)>;

impl Rest {
    /// With `token` nobody is answered who does not present it.
    pub(crate) fn new(token: Option<Token>) -> Self {
        let permits = Arc::new(Semaphore::new(limits::CATALOG_CALLS_MAX));
        Self { catalog: Arc::default(), token, permits }
    }

    /// From now on calls are answered.
    pub(crate) fn open(&self, catalog: RestCatalog) {
        // A second one would be over the same store.
        let _ = self.catalog.set(catalog);
    }
}

/// All routes below `/iceberg`.
pub(crate) fn router(rest: Rest) -> Router {
    let namespace = "/v1/namespaces/{namespace}";
    let below = |what: &str| format!("{namespace}/{what}");
    let authorised = Router::new()
        .route("/v1/config", get(config))
        .route("/v1/namespaces", get(list_namespaces).post(create_namespace))
        .route(namespace, get(load_namespace).head(namespace_exists).delete(drop_namespace))
        .route(&below("properties"), post(update_namespace))
        .route(&below("tables"), get(list_tables).post(create_table))
        .route(&below("tables/{table}"), get(load_table).head(table_exists).post(commit_table).delete(drop_table))
        .route(&below("tables/{table}/metrics"), post(report_metrics))
        .route(&below("register"), post(register_table))
        .route("/v1/tables/rename", post(rename_table))
        .route("/v1/transactions/commit", post(commit_transaction))
        .route(&below("views"), get(list_views).post(create_view))
        .route(&below("views/{view}"), get(load_view).head(view_exists).post(commit_view).delete(drop_view))
        .route(&below("register-view"), post(register_view))
        .route("/v1/views/rename", post(rename_view))
        .layer(middleware::from_fn_with_state(rest.clone(), authorise));
    authorised
        .route("/v1/oauth/tokens", post(token::exchange))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(rest.clone(), bound))
        .layer(DefaultBodyLimit::max(limits::CATALOG_BODY_BYTES_MAX))
        .with_state(rest)
}

/// So many calls at once, each so long; a panic is that call's error.
async fn bound(State(rest): State<Rest>, request: Request, next: Next) -> Response {
    let Ok(_permit) = rest.permits.try_acquire() else {
        let message = format!("{} calls are under way: come again", limits::CATALOG_CALLS_MAX);
        return respond(Refusal::unavailable(message).into());
    };
    let answered = guard::task(async { Ok(next.run(request).await) });
    match tokio::time::timeout(Duration::from_secs(limits::CATALOG_CALL_SECONDS_MAX), answered).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond(Refusal::new(500, "InternalServerError", error.to_string()).into()),
        Err(_) => {
            let message =
                format!("no answer within {} seconds: it may have happened", limits::CATALOG_CALL_SECONDS_MAX);
            respond(Refusal::new(504, "CommitStateUnknownException", message).into())
        }
    }
}

async fn authorise(State(rest): State<Rest>, request: Request, next: Next) -> Response {
    match rest.token.as_ref().is_none_or(|token| token.is_presented(request.headers())) {
        true => next.run(request).await,
        false => {
            let message = "expected `Authorization: Bearer` with the catalog's token";
            let refusal = Refusal::new(401, "NotAuthorizedException", message);
            ([(header::WWW_AUTHENTICATE, "Bearer")], respond(refusal.into())).into_response()
        }
    }
}

async fn no_route(request: Request) -> Response {
    let message = format!("the catalog has no {}", request.uri().path());
    respond(Refusal::new(404, "NoSuchEndpointException", message).into())
}

async fn no_method(request: Request) -> Response {
    let message = format!("{} does not go with {}", request.method(), request.uri().path());
    respond(Refusal::new(405, "UnsupportedOperationException", message).into())
}

/// An answer as HTTP.
fn respond(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match reply.body {
        Some(body) => (status, axum::Json(body)).into_response(),
        None => status.into_response(),
    };
    if let Some(etag) = reply.etag.and_then(|etag| etag.parse().ok()) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// What stands behind the `?`.
type Options = Query<HashMap<String, String>>;

fn page(options: &HashMap<String, String>) -> Page {
    Page { token: options.get("pageToken").cloned(), size: options.get("pageSize").cloned() }
}

fn flag(options: &HashMap<String, String>, name: &str) -> bool {
    options.get(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn ident((namespace, name): (String, String)) -> Result<Ident, Refusal> {
    Ident::new(Namespace::parse(&namespace)?, name)
}

async fn config(call: Call) -> Response {
    call.answer(Ok(Operation::Config)).await
}

async fn list_namespaces(call: Call, Query(options): Options) -> Response {
    let parent = options.get("parent").filter(|parent| !parent.is_empty());
    let parent = parent.map(|parent| Namespace::parse(parent)).transpose();
    call.answer(parent.map(|parent| Operation::ListNamespaces { parent, page: page(&options) })).await
}

async fn create_namespace(call: Call, Document(body): Document) -> Response {
    call.answer(Ok(Operation::CreateNamespace { body })).await
}

async fn load_namespace(call: Call, Path(namespace): Path<String>) -> Response {
    call.answer(Namespace::parse(&namespace).map(Operation::LoadNamespace)).await
}

async fn namespace_exists(call: Call, Path(namespace): Path<String>) -> Response {
    call.answer(Namespace::parse(&namespace).map(Operation::NamespaceExists)).await
}

async fn drop_namespace(call: Call, Path(namespace): Path<String>) -> Response {
    call.answer(Namespace::parse(&namespace).map(Operation::DropNamespace)).await
}

async fn update_namespace(call: Call, Path(namespace): Path<String>, Document(body): Document) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::UpdateNamespace(namespace, body))).await
}

async fn list_tables(call: Call, Path(namespace): Path<String>, Query(options): Options) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::ListTables(namespace, page(&options)))).await
}

async fn create_table(call: Call, Path(namespace): Path<String>, Document(body): Document) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::CreateTable(namespace, body))).await
}

async fn register_table(call: Call, Path(namespace): Path<String>, Document(body): Document) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::RegisterTable(namespace, body))).await
}

async fn load_table(call: Call, Path(table): Pair, Query(options): Options, headers: HeaderMap) -> Response {
    let snapshots = match options.get("snapshots").map_or("all", String::as_str) {
        "all" => Ok(Snapshots::All),
        "refs" => Ok(Snapshots::Refs),
        other => Err(Refusal::bad_request(format!("snapshots should be all or refs, found {other:?}"))),
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let operation = || Ok(Operation::LoadTable { table: ident(table)?, snapshots: snapshots?, known });
    call.answer(operation()).await
}

async fn table_exists(call: Call, Path(table): Pair) -> Response {
    call.answer(ident(table).map(Operation::TableExists)).await
}

async fn commit_table(call: Call, Path(table): Pair, Document(body): Document) -> Response {
    call.answer(ident(table).map(|table| Operation::CommitTable(table, body))).await
}

async fn drop_table(call: Call, Path(table): Pair, Query(options): Options) -> Response {
    let purge = flag(&options, "purgeRequested");
    call.answer(ident(table).map(|table| Operation::DropTable { table, purge })).await
}

async fn report_metrics(call: Call, Path(table): Pair, Document(body): Document) -> Response {
    call.answer(ident(table).map(|table| Operation::ReportMetrics(table, body))).await
}

async fn rename_table(call: Call, Document(body): Document) -> Response {
    call.answer(Ok(Operation::RenameTable { body })).await
}

async fn commit_transaction(call: Call, Document(body): Document) -> Response {
    call.answer(Ok(Operation::CommitTransaction { body })).await
}

async fn list_views(call: Call, Path(namespace): Path<String>, Query(options): Options) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::ListViews(namespace, page(&options)))).await
}

async fn create_view(call: Call, Path(namespace): Path<String>, Document(body): Document) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::CreateView(namespace, body))).await
}

async fn register_view(call: Call, Path(namespace): Path<String>, Document(body): Document) -> Response {
    call.answer(Namespace::parse(&namespace).map(|namespace| Operation::RegisterView(namespace, body))).await
}

async fn load_view(call: Call, Path(view): Pair) -> Response {
    call.answer(ident(view).map(Operation::LoadView)).await
}

async fn view_exists(call: Call, Path(view): Pair) -> Response {
    call.answer(ident(view).map(Operation::ViewExists)).await
}

async fn commit_view(call: Call, Path(view): Pair, Document(body): Document) -> Response {
    call.answer(ident(view).map(|view| Operation::CommitView(view, body))).await
}

async fn drop_view(call: Call, Path(view): Pair) -> Response {
    call.answer(ident(view).map(Operation::DropView)).await
}

async fn rename_view(call: Call, Document(body): Document) -> Response {
    call.answer(Ok(Operation::RenameView { body })).await
}
