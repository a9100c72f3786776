//! What readers are told does not depend on how the files lie.

use catalog::table::{Compaction, Partition};
use catalog::view::{Asked, LastSeqs, Matching};
use schemas::pattern::Pattern;

use super::*;

/// So small that a few hundred rows fill files of level 1 and several buckets.
fn small(level1_bytes: u64, bucket_bytes: u64) -> Compaction {
    Compaction {
        enabled: true,
        file_bytes: 3 * level1_bytes,
        level1_bytes_min: level1_bytes,
        range_bytes_max: 1 << 30,
        bucket_bytes,
        bytes_per_second_max: 0,
    }
}

/// Everything that can be asked, answered.
async fn answers(world: &World, def: &TopicDef) -> Vec<String> {
    let mut answers = Vec::new();
    for key in 0..13 {
        let found = run(world, Replay { key: Some(format!("k-{key}")), ..replay() }).await.unwrap();
        answers.push(format!("{found:?}"));
    }
    answers.push(format!("{:?}", run(world, replay()).await.unwrap()));
    let part = Replay { from: Some(20), to: Some(90), filter: Some("amount > 0".into()), ..replay() };
    answers.push(format!("{:?}", run(world, part).await.unwrap()));
    for sql in [
        "SELECT count(*), min(_seq), max(_seq), sum(amount) FROM orders",
        "SELECT * FROM orders WHERE _key = 'k-3' ORDER BY _seq",
        "SELECT * FROM orders WHERE _key IN ('k-1', 'k-5') AND _prefix = 'orders/eu' ORDER BY _seq",
        "SELECT _prefix, _key, count(*) FROM orders GROUP BY _prefix, _key ORDER BY _prefix, _key",
        "SELECT _key, _seq FROM orders ORDER BY _prefix, _key, _seq",
    ] {
        let found = collect(world.engine.sql(&world.tenant, sql, None).await.unwrap()).await.unwrap();
        answers.push(format!("{sql}: {found:?}"));
    }
    let mut asked: Vec<_> = (0..13).map(|key| Asked { of: Matching::Key(format!("k-{key}")), above: Seq(0) }).collect();
    asked.push(Asked { of: Matching::Pattern(Pattern::parse("orders/eu/>").unwrap()), above: Seq(0) });
    asked.push(Asked { of: Matching::Topic, above: Seq(0) });
    answers.push(format!("{:?}", world.last_seqs.last_seqs(def, &asked).await.unwrap().last));
    answers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_the_same_before_and_after_compaction(
        batches in batches(), flushes in prop::collection::vec(1usize..4, 0..8), level1_bytes in 1_u64..6_000, bucket_bytes in 1_u64..20_000,
        room in prop::sample::select(vec![1_usize, 2_000, 1 << 20]),
    ) {
        runtime().block_on(async {
            let settings = Settings { range_bytes_max: room, ..Settings::default() };
            let (world, def, _) = filled(settings, &batches, &flushes).await;
            let before = answers(&world, &def).await;
            world.compact(&def, &small(level1_bytes, bucket_bytes)).await;
            world.compact(&def, &small(level1_bytes, bucket_bytes)).await;
            for (before, after) in before.iter().zip(answers(&world, &def).await) {
                assert_eq!(*before, after);
            }
        });
    }
}

#[tokio::test]
async fn a_key_is_looked_for_in_its_bucket_alone() {
    let rows = |from: i64| (from..from + 400).map(|n| row((n % 12) as u32, 0, n)).collect::<Vec<_>>();
    let batches: Vec<_> = (0..12).map(|part| rows(400 * part)).collect();
    let (world, def, all) = filled(Settings::default(), &batches, &[1; 12]).await;
    // The first merges fill one bucket; what they weigh makes the next ones spread over more.
    let settings = small(2_000, 4_000);
    for _ in 0..3 {
        world.compact(&def, &settings).await;
        let more: Vec<_> = rows(10_000);
        world.append(&def, &more);
        world.flush(&def, 1).await;
    }
    world.compact(&def, &settings).await;
    let files = world.tables.current(&def).await.unwrap().files().await.unwrap();
    let buckets = files.files().iter().map(|file| match file.partition {
        Partition::Level1 { buckets, .. } => buckets,
        Partition::Level0 => 0,
    });
    assert!(buckets.max() >= Some(2), "{files:?}");
    let before = world.engine.read_stats();
    let found = run(&world, Replay { key: Some("k-3".into()), to: Some(4_801), ..replay() }).await.unwrap();
    assert_eq!(found, of_key(&all, "k-3"));
    let opened = world.engine.read_stats().files_opened - before.files_opened;
    assert!(opened < files.files().len() as u64, "{opened} of {}", files.files().len());
}

#[tokio::test]
async fn a_range_that_the_spill_folder_cannot_hold_is_handed_out_in_parts() {
    let batches: Vec<Vec<Row>> =
        (0..8).map(|part| (0..500).map(|n| row((n % 7) as u32, (n % 3) as usize, 500 * part + n)).collect()).collect();
    let settings = Settings { range_bytes_max: 20_000, spill_bytes_max: 400_000, ..Settings::default() };
    let (world, def, all) = filled(settings, &batches, &[1; 8]).await;
    world.compact(&def, &small(1 << 20, 1 << 30)).await;
    let files = world.tables.current(&def).await.unwrap().files().await.unwrap();
    assert_eq!(files.files().len(), 1, "one wide range");
    assert_eq!(run(&world, replay()).await.unwrap(), all);
    assert_eq!(spilled_now(&world), 0);
}

#[test]
fn parts_tile_their_range() {
    for (bytes, room, count) in [(10, 100, 1), (100, 10, 10), (101, 10, 10), (1_000_000, 1, 50)] {
        let parts: Vec<_> = table::parts(&(Seq(5)..Seq(55)), bytes, room).collect();
        assert_eq!(parts.len(), count, "{parts:?}");
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((parts[0].start, parts[parts.len() - 1].end), (Seq(5), Seq(55)));
    }
}
