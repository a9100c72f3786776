//! Transactions over several tables, stopped at every put, crossing each other, met by commits and readers.

use super::*;
use crate::storage::faults::gated;

/// Sets one property of each table, all or none.
fn set_all(names: &[&str], value: &str) -> Operation {
    let change = |name: &&str| {
        let updates = json!([{"action": "set-properties", "updates": {"p": value}}]);
        json!({"identifier": ident(name), "requirements": [], "updates": updates})
    };
    let changes: Vec<_> = names.iter().map(change).collect();
    Operation::CommitTransaction { body: body(json!({"table-changes": changes})) }
}

async fn with_tables(names: &[&str]) -> (RestCatalog, RestCatalog, std::sync::Arc<crate::storage::faults::Gate>) {
    let (slow, quick, gate) = gated();
    let quick = over(&quick);
    assert_eq!(ask(&quick, make_namespace("sales")).await.status, 200);
    for name in names {
        assert_eq!(ask(&quick, make_table(name)).await.status, 200);
    }
    (over(&slow), quick, gate)
}

async fn values(catalog: &RestCatalog, names: &[&str]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    for name in names {
        found.push(property(catalog, name, "p").await);
    }
    found
}

/// Puts of a transaction over three tables: three metadata files, its leader, two intents, the decision, two intents put in place, its leader again.
const PUTS: usize = 10;

#[tokio::test]
async fn a_transaction_that_stops_after_any_put_is_true_of_all_its_tables_or_of_none() {
    let names = ["a", "b", "c"];
    for puts in 0..=PUTS {
        let (slow, quick, gate) = with_tables(&names).await;
        let running = tokio::spawn(async move { ask(&slow, set_all(&names, "1")).await });
        gate.open(puts);
        if puts < PUTS {
            gate.arrived(puts + 1).await;
        } else {
            assert_eq!(running.await.unwrap().status, 204);
            assert_eq!(values(&quick, &names).await, vec![Some("1".to_owned()); 3]);
            return;
        }
        running.abort();
        let _ = running.await;

        let expected = (puts > 6).then(|| "1".to_owned());
        assert_eq!(values(&quick, &names).await, vec![expected.clone(); 3], "to readers, after {puts} puts");
        // Whoever commits next to any of them clears away what is in the way.
        for name in names.iter().rev() {
            assert_eq!(ask(&quick, set(name, "q", "1")).await.status, 200, "after {puts} puts");
        }
        assert_eq!(values(&quick, &names).await, vec![expected; 3], "after commits, after {puts} puts");
        assert_eq!(ask(&quick, set_all(&names, "2")).await.status, 204, "after {puts} puts");
        assert_eq!(values(&quick, &names).await, vec![Some("2".to_owned()); 3]);
    }
    panic!("a transaction takes fewer puts than {PUTS}, or more");
}

#[tokio::test]
async fn a_transaction_that_sleeps_through_others_commits_is_not_half_true_when_it_wakes() {
    let names = ["a", "b", "c"];
    for puts in 0..PUTS {
        let (slow, quick, gate) = with_tables(&names).await;
        let running = tokio::spawn(async move { ask(&slow, set_all(&names, "1")).await });
        gate.open(puts);
        gate.arrived(puts + 1).await;
        assert_eq!(ask(&quick, set("c", "q", "1")).await.status, 200, "after {puts} puts");
        gate.open(1_000);
        let reply = running.await.unwrap();
        assert_eq!(reply.status, 204, "nobody else has asked for anything that is against it: {reply:?}");
        assert_eq!(values(&quick, &names).await, vec![Some("1".to_owned()); 3], "after {puts} puts");
        assert_eq!(property(&quick, "c", "q").await.as_deref(), Some("1"), "after {puts} puts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_cross_leave_one_of_them_everywhere() {
    let names = ["a", "b", "c", "d"];
    let (_, quick, _) = with_tables(&names).await;
    let mut running = Vec::new();
    for number in 0..12 {
        let catalog = quick.clone();
        running.push(tokio::spawn(async move {
            let tables = [names[number % 4], names[(number + 1) % 4], names[(number + 2) % 4]];
            let reply = ask(&catalog, set_all(&tables, &number.to_string())).await;
            assert!([204, 503].contains(&reply.status), "{reply:?}");
            reply.status == 204
        }));
    }
    let mut done = 0;
    for one in running {
        done += usize::from(one.await.unwrap());
    }
    assert!(done > 0, "they hinder one another for ever");
    assert_eq!(ask(&quick, set_all(&names, "last")).await.status, 204);
    assert_eq!(values(&quick, &names).await, vec![Some("last".to_owned()); 4]);
}

#[tokio::test]
async fn a_requirement_of_one_table_that_is_not_met_leaves_all_as_they_were() {
    let names = ["a", "b"];
    let (_, quick, _) = with_tables(&names).await;
    let updates = json!([{"action": "set-properties", "updates": {"p": "1"}}]);
    let wrong = json!([{"type": "assert-table-uuid", "uuid": Uuid::nil()}]);
    let changes = json!([
        {"identifier": ident("a"), "requirements": [], "updates": updates},
        {"identifier": ident("b"), "requirements": wrong, "updates": updates},
    ]);
    let reply = ask(&quick, Operation::CommitTransaction { body: body(json!({"table-changes": changes})) }).await;
    assert_eq!(error_of(&reply), (409, "CommitFailedException".to_owned()));
    assert_eq!(values(&quick, &names).await, vec![None; 2]);
    for wrong in [json!([]), json!([changes[0], changes[0]]), json!([{"updates": updates}])] {
        let wrong = Operation::CommitTransaction { body: body(json!({"table-changes": wrong})) };
        assert_eq!(ask(&quick, wrong).await.status, 400);
    }
}
