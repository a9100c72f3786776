use proptest::prelude::*;
use schemas::ErrorKind;

use super::*;
use crate::storage::faults::{Fault, Faulty, any_fault};

const LIMIT: Duration = Duration::from_secs(30);

async fn create_in(store: &Faulty, limit: Duration, bytes: &'static [u8]) -> Result<Creation> {
    create(store, &Env::system(), limit, &Path::from("w/1/0"), Bytes::from_static(bytes)).await
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_by_the_bytes() {
    for fault in [Fault::After, Fault::OwnConflict, Fault::Late, Fault::Before, Fault::Conflict] {
        let store = Faulty::new([fault]);
        assert_eq!(create_in(&store, LIMIT, b"mine").await.unwrap(), Creation::Mine, "{fault:?}");
        store.settle().await;
        assert_eq!(create_in(&store, LIMIT, b"other").await.unwrap(), Creation::Others("mine".into()), "{fault:?}");
    }
}

#[tokio::test]
async fn past_the_deadline_it_is_indeterminate_whatever_the_attempts_met() {
    for fault in [Fault::Before, Fault::Conflict, Fault::Hang] {
        let store = Faulty::new([fault; 100]);
        let error = create_in(&store, Duration::from_millis(30), b"mine").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate, "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn of_two_writers_one_wins_and_both_know_it(plan in prop::collection::vec(any_fault(), 0..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = Faulty::new(plan);
            let (a, b) = tokio::join!(create_in(&store, LIMIT, b"a"), create_in(&store, LIMIT, b"b"));
            store.settle().await;
            let held = read(&store, &Path::from("w/1/0")).await.unwrap().unwrap();
            let expected = |bytes: &'static [u8]| match held == bytes {
                true => Creation::Mine,
                false => Creation::Others(held.clone()),
            };
            assert_eq!((a.unwrap(), b.unwrap()), (expected(b"a"), expected(b"b")));
        });
    }
}
