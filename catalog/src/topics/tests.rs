use std::time::Duration;

use serde_json::json;

use super::*;
use crate::storage::StoreConfig;

async fn topics(root: &tempfile::TempDir) -> Topics {
    let env = Env::system();
    let store = Store::open(&StoreConfig::at(root.path().to_str().unwrap()), env.clone()).await.unwrap();
    Topics::new(store, env)
}

fn tenant() -> TenantName {
    TenantName::default()
}

/// A definition of `name` with an identity of its own.
fn def(name: &str) -> TopicDef {
    let id = Env::system().uuid();
    serde_json::from_value(json!({
        "id": id, "tenant": id, "name": name, "lane": 0, "version": 1,
        "schema": {"type": "record", "name": "Event", "fields": [{"name": "k", "type": "string"}]},
        "payload": {"fields": [{"id": 101, "name": "k", "type": "string", "required": true}], "last_field_id": 101},
        "key": ["k"], "path": name, "prefix_levels": 1, "checks": [], "flush": {}, "nanos": "refuse",
    }))
    .unwrap()
}

async fn state(topics: &Topics, name: &str) -> Option<State> {
    let path = topic_path(&tenant(), &TopicName::new(name).unwrap());
    topics.read::<TopicDocument>(&path).await.unwrap().map(|(document, _)| document.state)
}

#[tokio::test]
async fn a_tenant_is_made_once_whoever_asks() {
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (topics(&root).await, topics(&root).await);
    let name = tenant();
    let (a, b) = tokio::join!(here.ensure_tenant(&name), there.ensure_tenant(&name));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_ne!(here.ensure_tenant(&"acme".parse().unwrap()).await.unwrap(), here.ensure_tenant(&name).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_make_the_same_topic_at_once_end_with_one() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let topics = topics(&root).await;
        nodes.spawn(async move { topics.reserve(&tenant(), def("orders")).await.unwrap() });
    }
    let held = nodes.join_all().await;
    assert!(held.iter().all(|def| def.id == held[0].id), "each goes on with the one that holds the name");
    let late = topics(&root).await;
    late.confirm(&tenant(), &held[0]).await.unwrap();
    assert_eq!(late.reserve(&tenant(), held[0].clone()).await.unwrap(), held[0], "a retry by the winner is told so");
    let refused = late.reserve(&tenant(), def("orders")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_dropped_topic_frees_its_name_and_nothing_brings_it_back() {
    let root = tempfile::tempdir().unwrap();
    let topics = topics(&root).await;
    let (first, second) = (def("orders"), def("orders"));
    topics.reserve(&tenant(), first.clone()).await.unwrap();
    topics.confirm(&tenant(), &first).await.unwrap();
    topics.release(&tenant(), &first).await.unwrap();
    topics.release(&tenant(), &first).await.unwrap();
    assert_eq!(state(&topics, "orders").await, Some(State::Dropped));
    // A process that slept since it wrote the lane's record.
    topics.confirm(&tenant(), &first).await.unwrap();
    assert_eq!(state(&topics, "orders").await, Some(State::Dropped));

    assert_eq!(topics.reserve(&tenant(), second.clone()).await.unwrap().id, second.id);
    topics.confirm(&tenant(), &first).await.unwrap();
    assert_eq!(state(&topics, "orders").await, Some(State::Creating));
    topics.confirm(&tenant(), &second).await.unwrap();
    topics.release(&tenant(), &first).await.unwrap();
    assert_eq!(state(&topics, "orders").await, Some(State::Live), "the old one's drop leaves the new one alone");
    topics.release(&tenant(), &def("never")).await.unwrap();
    assert_eq!(state(&topics, "never").await, None);
}

#[tokio::test]
async fn a_changed_definition_joins_its_earlier_versions() {
    let root = tempfile::tempdir().unwrap();
    let topics = topics(&root).await;
    let first = topics.reserve(&tenant(), def("orders")).await.unwrap();
    topics.confirm(&tenant(), &first).await.unwrap();
    let second = TopicDef { version: 2, ..first.clone() };
    topics.confirm(&tenant(), &second).await.unwrap();
    topics.confirm(&tenant(), &first).await.unwrap();
    let path = topic_path(&tenant(), &first.name);
    let (document, _) = topics.read::<TopicDocument>(&path).await.unwrap().unwrap();
    assert_eq!(document.versions, [first, second]);
}

#[tokio::test]
async fn what_a_newer_firn_added_to_a_register_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let topics = topics(&root).await;
    let first = topics.reserve(&tenant(), def("orders")).await.unwrap();
    let path = topic_path(&tenant(), &first.name);
    let (mut document, tag) = topics.read::<serde_json::Value>(&path).await.unwrap().unwrap();
    document["later"] = json!({"much": true});
    assert!(topics.swap(&path, Some(&tag), &document).await.unwrap());
    topics.confirm(&tenant(), &first).await.unwrap();
    let (document, _) = topics.read::<serde_json::Value>(&path).await.unwrap().unwrap();
    assert_eq!((&document["state"], &document["later"]), (&json!("live"), &json!({"much": true})));
}

#[tokio::test]
async fn readers_see_what_is_published_until_it_is_retracted() {
    let root = tempfile::tempdir().unwrap();
    let topics = topics(&root).await;
    let mut changes = topics.watch();
    let (orders, flights) = (Arc::new(def("orders")), Arc::new(def("flights")));
    topics.publish(&tenant(), Arc::clone(&orders));
    topics.publish(&tenant(), Arc::clone(&flights));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!(topics.get(&tenant(), &orders.name), Some(Arc::clone(&orders)));
    assert_eq!(topics.list(&tenant()), [Arc::clone(&flights), Arc::clone(&orders)]);
    assert!(topics.list(&"acme".parse().unwrap()).is_empty());
    topics.retract(&tenant(), &orders.id);
    tokio::time::timeout(Duration::from_secs(5), changes.changed()).await.unwrap().unwrap();
    assert_eq!(topics.list(&tenant()), [flights]);
}

/// These documents lie in users' stores: another field name would lose their topics, and another id their tables.
#[test]
fn the_documents_of_registers_stay_what_they_are() {
    let id = "00000000-0000-0000-0000-000000000007";
    let tenant = json!({"id": id, "name": "default", "quotas": {"topics": 3}, "later": [1]});
    let read: TenantDocument = serde_json::from_value(tenant.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), tenant);

    let mut definition = serde_json::to_value(def("orders")).unwrap();
    definition["later"] = json!("in the definition");
    for (word, state) in [("creating", State::Creating), ("live", State::Live), ("dropped", State::Dropped)] {
        let topic = json!({"state": word, "versions": [definition], "later": {"than": "this code"}});
        let read: TopicDocument = serde_json::from_value(topic.clone()).unwrap();
        assert_eq!(read.state, state);
        assert_eq!(serde_json::to_value(&read).unwrap(), topic);
    }
    assert_eq!(tenant_path(&TenantName::default()).as_ref(), "tenants/default/tenant.json");
    let orders = TopicName::new("orders").unwrap();
    assert_eq!(topic_path(&TenantName::default(), &orders).as_ref(), "tenants/default/topics/orders.json");
}
