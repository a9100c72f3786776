//! Clocks that jump: no rule of the protocol reads one.

use std::sync::atomic::{AtomicI64, Ordering};

use catalog::env::Source;

use super::*;

const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// A clock that is set by hand.
#[derive(Debug)]
struct Hand(AtomicI64);

impl Source for Hand {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn random(&self) -> [u8; 16] {
        Env::system().nonce()
    }
}

/// Ten years ahead every snapshot is old and every producer silent; ten years back the table is from the future.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_either_way_lose_nothing_and_time_never_decreases() {
    let site = Site::new();
    let hand = Arc::new(Hand(AtomicI64::new(20_000 * DAY_MICROS)));
    let env = Env::from_source(Arc::<Hand>::clone(&hand));
    let settings = Settings { checkpoint_bytes: 1, ..unflushed() };
    let (mut next, mut events) = (1, Vec::new());
    for jump_days in [0, 3_650, -7_300, 1, -1, 3_650] {
        let engine = site.open_in(env.clone(), settings.clone()).await.unwrap();
        engine.create_topic(&tenant(), spec()).await.unwrap();
        append(&engine, next..next + 3).await.unwrap();
        hand.0.fetch_add(jump_days * DAY_MICROS, Ordering::Relaxed);
        append(&engine, next + 3..next + 6).await.unwrap();
        events.extend(tail_of(&engine, "orders"));
        engine.flush(&tenant(), None).await.unwrap();
        next += 6;
        // Every other owner dies, the others end.
        if next % 12 == 1 {
            engine.shutdown(Duration::from_secs(10)).await;
        }
    }
    assert!(events.iter().map(|(seq, ..)| *seq).eq(1..i64::from(next)), "dense: {events:?}");
    assert!(
        events.iter().all(|(seq, _, amount)| *seq == i64::from(*amount)),
        "each event where it was put: {events:?}"
    );
    assert!(events.windows(2).all(|pair| pair[0].1 <= pair[1].1), "time never decreases: {events:?}");
    let engine = site.open_in(env, settings).await.unwrap();
    let orders = engine.host.parts.topics.get(&tenant(), &name("orders")).unwrap();
    let table = engine.host.parts.tables.current(&orders).await.unwrap();
    assert_eq!(table.watermark().0, Seq(i64::from(next)), "all of it is in the table");
    let rows: u64 = table.files().await.unwrap().files().iter().map(|file| file.rows).sum();
    assert_eq!(rows, next as u64 - 1);
}
