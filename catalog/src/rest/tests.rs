use bytes::Bytes;
use schemas::TenantName;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::storage::{Store, StoreConfig};
use crate::table::Tables;
use crate::topics::Topics;

mod faults;
mod transactions;

/// A catalog over a store, as a process has it.
pub(super) fn over(store: &Store) -> RestCatalog {
    let (tables, topics) = (Tables::new(store.clone(), Env::system()), Topics::new(store.clone(), Env::system()));
    RestCatalog::new(tables, topics, Env::system(), false)
}

async fn open(folder: &tempfile::TempDir) -> RestCatalog {
    let config = StoreConfig::at(folder.path().to_str().unwrap());
    over(&Store::open(&config, Env::system()).await.unwrap())
}

pub(super) fn namespace(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

pub(super) fn ident(name: &str) -> Ident {
    Ident::new(namespace("sales"), name).unwrap()
}

pub(super) fn body(document: Value) -> Bytes {
    Bytes::from(document.to_string())
}

/// Asks as a client does that sends no key.
pub(super) async fn ask(catalog: &RestCatalog, operation: Operation) -> Reply {
    ask_with(catalog, None, "POST /", operation).await
}

async fn ask_with(catalog: &RestCatalog, key: Option<Uuid>, route: &str, operation: Operation) -> Reply {
    let tenant = TenantName::default();
    catalog.answer(Request { tenant, operation, key, route: route.to_owned() }).await
}

pub(super) fn make_namespace(text: &str) -> Operation {
    Operation::CreateNamespace { body: body(json!({"namespace": namespace(text), "properties": {"owner": "me"}})) }
}

pub(super) fn make_table(name: &str) -> Operation {
    let schema = json!({"type": "struct", "fields": [{"id": 1, "name": "id", "type": "long", "required": true}]});
    Operation::CreateTable(namespace("sales"), body(json!({"name": name, "schema": schema})))
}

/// A commit that sets one property, whatever is there.
pub(super) fn set(name: &str, property: &str, value: &str) -> Operation {
    let updates = json!([{"action": "set-properties", "updates": {property: value}}]);
    Operation::CommitTable(ident(name), body(json!({"requirements": [], "updates": updates})))
}

pub(super) async fn property(catalog: &RestCatalog, name: &str, property: &str) -> Option<String> {
    let table = ident(name);
    let reply = ask(catalog, Operation::LoadTable { table, snapshots: Snapshots::All, known: None }).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body.unwrap()["metadata"]["properties"][property].as_str().map(str::to_owned)
}

fn error_of(reply: &Reply) -> (u16, String) {
    let body = reply.body.as_ref().expect("an error has a body");
    assert_eq!(body["error"]["code"], reply.status, "{body}");
    (reply.status, body["error"]["type"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn namespaces_nest_are_counted_empty_and_are_one_process_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    assert_eq!(ask(&one, make_namespace("a")).await.status, 200);
    assert_eq!(ask(&other, make_namespace("a\u{1f}b")).await.status, 200);
    assert_eq!(error_of(&ask(&other, make_namespace("a")).await), (409, "AlreadyExistsException".to_owned()));
    assert_eq!(error_of(&ask(&one, make_namespace("x\u{1f}y")).await), (404, "NoSuchNamespaceException".to_owned()));

    let list =
        |parent: Option<&str>| Operation::ListNamespaces { parent: parent.map(namespace), page: Page::default() };
    assert_eq!(ask(&one, list(None)).await.body.unwrap()["namespaces"], json!([["a"], ["default"]]));
    assert_eq!(ask(&one, list(Some("a"))).await.body.unwrap()["namespaces"], json!([["a", "b"]]));

    let changes = json!({"removals": ["owner", "none"], "updates": {"x": "1"}});
    let changed = ask(&one, Operation::UpdateNamespace(namespace("a"), body(changes))).await.body.unwrap();
    assert_eq!(changed, json!({"updated": ["x"], "removed": ["owner"], "missing": ["none"]}));
    let loaded = ask(&other, Operation::LoadNamespace(namespace("a"))).await.body.unwrap();
    assert_eq!(loaded["properties"], json!({"x": "1"}));

    let refused = ask(&one, Operation::DropNamespace(namespace("a"))).await;
    assert_eq!(error_of(&refused), (409, "NamespaceNotEmptyException".to_owned()));
    assert_eq!(ask(&one, Operation::DropNamespace(namespace("a\u{1f}b"))).await.status, 204);
    assert_eq!(ask(&one, Operation::DropNamespace(namespace("a"))).await.status, 204);
    assert_eq!(ask(&other, Operation::NamespaceExists(namespace("a"))).await.status, 404);
}

#[tokio::test]
async fn the_namespace_of_topics_is_firns_to_keep() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    let topics = || namespace("default");
    assert_eq!(ask(&catalog, Operation::NamespaceExists(topics())).await.status, 204);
    assert_eq!(ask(&catalog, make_namespace("default")).await.status, 409);
    for refused in [
        Operation::DropNamespace(topics()),
        Operation::UpdateNamespace(topics(), body(json!({"updates": {"a": "b"}}))),
        make_namespace("default\u{1f}below"),
        Operation::CreateTable(topics(), body(json!({"name": "t", "schema": {"type": "struct", "fields": []}}))),
    ] {
        let reply = ask(&catalog, refused).await;
        assert_eq!(error_of(&reply), (403, "ForbiddenException".to_owned()));
        let message = reply.body.unwrap()["error"]["message"].to_string();
        assert!(message.contains("firn topic create"), "{message}");
    }
}

#[tokio::test]
async fn a_table_is_made_renamed_dropped_and_leaves_no_file_when_purged() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    ask(&catalog, make_namespace("sales")).await;
    ask(&catalog, make_namespace("other")).await;
    let made = ask(&catalog, make_table("t")).await;
    assert_eq!(made.status, 200, "{made:?}");
    let location = made.body.unwrap()["metadata"]["location"].as_str().unwrap().to_owned();
    assert!(location.starts_with("file:///"), "engines need full URIs, found {location}");
    assert_eq!(error_of(&ask(&catalog, make_table("t")).await), (409, "AlreadyExistsException".to_owned()));

    let moved = json!({"source": ident("t"), "destination": {"namespace": ["other"], "name": "u"}});
    assert_eq!(ask(&catalog, Operation::RenameTable { body: body(moved.clone()) }).await.status, 204);
    assert_eq!(ask(&catalog, Operation::RenameTable { body: body(moved) }).await.status, 404);
    let table = Ident::new(namespace("other"), "u").unwrap();
    assert_eq!(ask(&catalog, Operation::TableExists(table.clone())).await.status, 204);

    assert_eq!(ask(&catalog, Operation::DropTable { table: table.clone(), purge: true }).await.status, 204);
    assert_eq!(ask(&catalog, Operation::TableExists(table)).await.status, 404);
    let left: Vec<_> = walk(location.strip_prefix("file://").unwrap());
    assert!(left.is_empty(), "{left:?}");
    assert!(catalog.directory(&TenantName::default()).await.unwrap().purging.is_empty());
}

/// All files below a folder.
fn walk(folder: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(path.to_str().unwrap()) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_table_that_is_known_already_is_not_sent_again_and_refs_are_another_representation() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    ask(&catalog, make_namespace("sales")).await;
    let made = ask(&catalog, make_table("t")).await;
    let load = |known: Option<String>, snapshots| Operation::LoadTable { table: ident("t"), snapshots, known };
    let tag = made.etag.unwrap();
    let same = ask(&catalog, load(Some(format!("\"x\", W/{tag}")), Snapshots::All)).await;
    assert_eq!((same.status, same.body, same.etag.as_deref()), (304, None, Some(tag.as_str())));
    let refs = ask(&catalog, load(Some(tag.clone()), Snapshots::Refs)).await;
    assert_eq!(refs.status, 200);
    assert_ne!(refs.etag.as_deref(), Some(tag.as_str()));
    ask(&catalog, set("t", "a", "1")).await;
    assert_eq!(ask(&catalog, load(Some(tag), Snapshots::All)).await.status, 200);
}

#[tokio::test]
async fn locations_inside_the_store_are_those_of_users_tables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    ask(&catalog, make_namespace("sales")).await;
    let at = |name: &str, location: String| {
        let schema = json!({"type": "struct", "fields": []});
        Operation::CreateTable(namespace("sales"), body(json!({"name": name, "schema": schema, "location": location})))
    };
    let root = catalog.store().uri(&object_store::path::Path::default());
    for inside in [root.clone(), format!("{root}/lanes/0"), format!("{root}/warehouse/x"), format!("{root}/tenants")] {
        let reply = ask(&catalog, at("t", inside.clone())).await;
        assert_eq!(reply.status, 400, "{inside}: {reply:?}");
    }
    let elsewhere = ask(&catalog, at("u", "s3://elsewhere/place/".to_owned())).await;
    assert_eq!(elsewhere.body.unwrap()["metadata"]["location"], "s3://elsewhere/place");
    let moved = json!([{"action": "set-location", "location": format!("{root}/lanes")}]);
    let moved = Operation::CommitTable(ident("u"), body(json!({"updates": moved})));
    assert_eq!(ask(&catalog, moved).await.status, 400);
}

#[tokio::test]
async fn what_is_registered_lies_among_users_tables_never_where_a_topics_files_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    ask(&catalog, make_namespace("sales")).await;
    let made = ask(&catalog, make_table("t")).await.body.unwrap();
    let metadata = made["metadata-location"].as_str().unwrap();
    let register = |name: &str, metadata: &str| {
        let document = json!({"name": name, "metadata-location": metadata});
        Operation::RegisterTable(namespace("sales"), body(document))
    };
    assert_eq!(ask(&catalog, register("again", metadata)).await.status, 200);

    let (own, file) = metadata.split_once("/tables/").unwrap();
    let topics = format!("{own}/{}/metadata/{}", Uuid::from_u128(7), file.rsplit_once('/').unwrap().1);
    let place = std::path::PathBuf::from(topics.strip_prefix("file://").unwrap());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::copy(metadata.strip_prefix("file://").unwrap(), place).unwrap();
    let refused = ask(&catalog, register("stray", &topics)).await;
    assert_eq!(error_of(&refused), (400, "BadRequestException".to_owned()));
}

#[tokio::test]
async fn a_key_is_done_once_and_answered_alike_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    ask(&one, make_namespace("sales")).await;
    let (making, dropping, failing) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let made = ask_with(&one, Some(making), "POST tables", make_table("t")).await;
    assert_eq!(ask_with(&other, Some(making), "POST tables", make_table("t")).await.status, 200, "{made:?}");
    let failed = ask_with(&one, Some(failing), "POST tables", make_table("t")).await;
    assert_eq!(failed.status, 409);

    let drop = || Operation::DropTable { table: ident("t"), purge: false };
    assert_eq!(ask_with(&one, Some(dropping), "DELETE t", drop()).await.status, 204);
    assert_eq!(ask_with(&other, Some(dropping), "DELETE t", drop()).await.status, 204);
    assert_eq!(ask_with(&other, Some(failing), "POST tables", make_table("t")).await, failed, "a refusal stays one");
    let another = ask_with(&other, Some(failing), "DELETE t", drop()).await;
    assert_eq!(error_of(&another), (422, "UnprocessableEntityException".to_owned()));
    assert_eq!(ask(&one, Operation::TableExists(ident("t"))).await.status, 404);
}

#[tokio::test]
async fn views_and_tables_share_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    ask(&catalog, make_namespace("sales")).await;
    ask(&catalog, make_table("t")).await;
    let view = |name: &str| {
        let version = json!({
            "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {}, "default-namespace": ["sales"],
            "representations": [{"type": "sql", "sql": "select 1 as id", "dialect": "spark"}],
        });
        let schema = json!({"type": "struct", "schema-id": 0, "fields": []});
        let document = json!({"name": name, "schema": schema, "view-version": version, "properties": {}});
        Operation::CreateView(namespace("sales"), body(document))
    };
    assert_eq!(error_of(&ask(&catalog, view("t")).await), (409, "AlreadyExistsException".to_owned()));
    assert_eq!(ask(&catalog, view("v")).await.status, 200);
    assert_eq!(ask(&catalog, make_table("v")).await.status, 409);
    let updates = json!([{"action": "set-properties", "updates": {"a": "1"}}]);
    let wrong = json!({"requirements": [{"type": "assert-view-uuid", "uuid": Uuid::nil()}], "updates": updates});
    assert_eq!(ask(&catalog, Operation::CommitView(ident("v"), body(wrong))).await.status, 409);
    let changed = ask(&catalog, Operation::CommitView(ident("v"), body(json!({"updates": updates})))).await;
    assert_eq!(changed.body.unwrap()["metadata"]["properties"]["a"], "1");
    assert_eq!(ask(&catalog, Operation::DropNamespace(namespace("sales"))).await.status, 409);
    assert_eq!(ask(&catalog, Operation::DropView(ident("v"))).await.status, 204);
    assert_eq!(ask(&catalog, Operation::ViewExists(ident("v"))).await.status, 404);
}

#[tokio::test]
async fn registers_are_what_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = open(&folder).await;
    ask(&catalog, make_namespace("sales")).await;
    ask(&catalog, make_table("t")).await;
    let path = object_store::path::Path::from("tenants/default/catalog.json");
    let text = catalog.store().read_register(&path).await.unwrap().unwrap().content;
    let document: Value = serde_json::from_slice(&text).unwrap();
    let id = document["namespaces"]["sales"]["tables"]["t"]["id"].as_str().unwrap();
    let recent = &document["recent"];
    assert_eq!(
        document,
        json!({"format": 1, "version": 2, "purging": [], "recent": recent, "namespaces": {
            "sales": {"properties": {"owner": "me"}, "tables": {"t": {"id": id}}, "views": {}}
        }})
    );
    let path = object_store::path::Path::from(format!("tenants/default/tables/{id}.json"));
    let text = catalog.store().read_register(&path).await.unwrap().unwrap().content;
    let head: Value = serde_json::from_slice(&text).unwrap();
    let (metadata, recent) = (&head["metadata"], &head["recent"]);
    assert!(metadata.as_str().unwrap().contains(&format!("/tables/{id}/metadata/00000-")), "{head}");
    assert_eq!(head, json!({"format": 1, "version": 1, "metadata": metadata, "recent": recent}));
}

#[test]
fn what_the_fuzzer_would_send_is_survived() {
    for text in ["", "{}", "[]", "null", "{\"updates\":[{\"action\":\"add-snapshot\"}]}", "{\"name\":\"\"}"] {
        fuzz(text.as_bytes());
    }
}
