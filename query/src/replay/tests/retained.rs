//! What retention has dropped is said, not passed over.

use super::*;

#[tokio::test]
async fn who_begins_at_the_beginning_gets_what_is_kept_and_who_goes_on_below_is_told() {
    let part = |part: i64| (0..50).map(|n| row((n % 5) as u32, 0, 50 * part + n)).collect::<Vec<_>>();
    let batches: Vec<_> = (0..6).map(part).collect();
    let (world, def, all) = filled(Settings::default(), &batches, &[1; 5]).await;
    world.tables.drop_below(&def, Seq(101)).await.unwrap();

    let kept = all.slice(100, 200);
    assert_eq!(run(&world, replay()).await.unwrap(), kept);
    for from in [1, 101] {
        assert_eq!(run(&world, Replay { from: Some(from), ..replay() }).await.unwrap(), kept);
        let of_a_key = Replay { key: Some("k-3".into()), from: Some(from), ..replay() };
        assert_eq!(run(&world, of_a_key).await.unwrap(), of_key(&kept, "k-3"));
    }
    for key in [None, Some("k-3".to_owned())] {
        let told = run(&world, Replay { key, from: Some(50), ..replay() }).await.unwrap_err();
        assert_eq!(told.kind(), ErrorKind::NotFound, "{told}");
        assert!(told.to_string().contains("dropped those below 101"), "{told}");
    }
    let sql = "SELECT count(*) AS n, min(_seq) AS first FROM orders";
    let found = collect(world.engine.sql(&world.tenant, sql, None).await.unwrap()).await.unwrap();
    let number = |column: usize| found.column(column).as_primitive::<Int64Type>().value(0);
    assert_eq!((number(0), number(1)), (200, 101));
}
