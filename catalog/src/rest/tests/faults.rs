//! Puts that are lost, late, refused or doubled: what was answered is so, and nothing is done twice.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::storage::faults::{Fault, store};

fn fault() -> impl Strategy<Value = Fault> {
    prop::sample::select(vec![
        Fault::None,
        Fault::Before,
        Fault::After,
        Fault::Late,
        Fault::Conflict,
        Fault::OwnConflict,
    ])
}

/// Sends a request until it is answered for certain, as a client with a key does.
async fn insist(catalogs: [&RestCatalog; 2], key: u128, operation: impl Fn() -> Operation) -> Reply {
    for turn in 0..100 {
        let reply = ask_with(catalogs[turn % 2], Some(Uuid::from_u128(key)), "POST", operation()).await;
        if reply.status < 500 {
            return reply;
        }
    }
    panic!("100 turns are enough");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_request_that_is_sent_until_it_is_answered_is_done_once(
        plan in prop::collection::vec(fault(), 0..80), deadline_ms in prop::sample::select(vec![0_u64, 2, 1_000])
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store(plan, Duration::from_millis(deadline_ms));
            let (one, other) = (over(&store), over(&store));
            let both = [&one, &other];
            assert_eq!(insist(both, 1, || make_namespace("sales")).await.status, 200);
            for (key, name) in [(2, "a"), (3, "b")] {
                assert_eq!(insist(both, key, || make_table(name)).await.status, 200);
            }
            for key in 10..16_u128 {
                let name = if key % 2 == 0 { "a" } else { "b" };
                let text = key.to_string();
                assert_eq!(insist(both, key, || set(name, &text, "1")).await.status, 200);
                assert_eq!(insist([&other, &one], key, || set(name, &text, "1")).await.status, 200);
            }
            for key in 10..16_u128 {
                let name = if key % 2 == 0 { "a" } else { "b" };
                assert_eq!(property(&one, name, &key.to_string()).await.as_deref(), Some("1"));
            }
            let rename = || {
                let names = json!({"source": ident("a"), "destination": ident("c")});
                Operation::RenameTable { body: body(names) }
            };
            assert_eq!(insist(both, 20, rename).await.status, 204);
            assert_eq!(insist(both, 21, || Operation::DropTable { table: ident("c"), purge: true }).await.status, 204);
            assert_eq!(ask(&other, Operation::TableExists(ident("c"))).await.status, 404);
            assert_eq!(ask(&other, Operation::TableExists(ident("b"))).await.status, 204);
        });
    }
}
