//! What is not kept goes in whole ranges, what is left can be proven, and what went is said.

use super::*;
use crate::audit::{Fault, laws};
use crate::table::Retention;

impl World {
    async fn retain(&self, retention: Retention) {
        self.tables.set_retention(&self.def, retention).await.unwrap();
    }

    /// The first seq that is kept after what may go now has gone.
    async fn drop_now(&self) -> i64 {
        let state = self.tables.load(&self.def).await.unwrap();
        if let Some(below) = state.droppable(&self.def, self.clock.now_micros()).await.unwrap() {
            self.tables.drop_below(&self.def, below).await.unwrap();
        }
        self.tables.load(&self.def).await.unwrap().retained().0
    }

    async fn rows_left(&self) -> i64 {
        let state = self.tables.load(&self.def).await.unwrap();
        state.files().await.unwrap().files().iter().map(|file| file.rows as i64).sum()
    }

    async fn fault(&self) -> Option<Fault> {
        let tables = self.process(self.objects.store()).await.unwrap();
        let mut checks = Checks::default();
        let looked = async {
            let audit = TableAudit::open(&tables, &tenant(), &self.def, &mut checks).await?;
            audit.rows(Vec::new(), &Meter::default(), &mut checks).await
        };
        match looked.await {
            Ok(_) => None,
            Err(Stop::Fault(fault)) => Some(*fault),
            Err(Stop::Unseen(error)) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn at_least_as_many_events_stay_as_are_to_be_kept_and_few_more_however_much_is_compacted() {
    let mut world = World::new().await;
    world.retain(Retention { events: Some(2_000), ..Retention::default() }).await;
    for flushed in 0..60 {
        world.flush(100).await;
        world.compact(&SMALL).await;
        let retained = world.drop_now().await;
        assert_eq!(world.rows_left().await, world.end - retained, "dense from {retained} on");
        let (all, left) = (100 * (flushed + 1), world.rows_left().await);
        assert!(left >= all.min(2_000) && left <= 2_000 + 2_000 / 3 + 100, "{left} of {all}");
        if flushed % 10 == 9 {
            world.check().await;
        }
    }
    let state = world.tables.load(&world.def).await.unwrap();
    let main = state.metadata().current_snapshot().unwrap();
    for name in [properties::RETAINED, properties::REMOVED_ROWS, properties::REMOVED_ROW_HASH] {
        let said = state.metadata().properties().get(name).unwrap();
        assert_eq!(main.summary().additional_properties.get(name), Some(said), "every summary repeats {name}");
    }
    world.pass(60);
    world.keep(1).await;
    for _ in 0..40 {
        world.flush(10).await;
    }
    world.pass(60);
    world.flush(10).await;
    assert!(world.tables.expire(&world.def).await.unwrap().removed_bytes > 0, "their files go with the snapshots");
    world.check().await;
}

#[tokio::test]
async fn events_go_when_they_are_old_enough_whatever_their_number() {
    let mut world = World::new().await;
    for _ in 0..30 {
        world.flush(50).await;
    }
    // Event n has the time n seconds after 1970.
    let now = world.clock.now_micros() / 1_000_000;
    world.retain(Retention { age_ms: Some((now - 701) as u64 * 1_000), ..Retention::default() }).await;
    assert_eq!(world.drop_now().await, 701);
    world.check().await;
    world.pass(1);
    assert_eq!(world.drop_now().await, 751, "the last of the next range that is older is event 750");
    assert_eq!(world.rows_left().await, 750);
    world.pass(60);
    assert_eq!(world.drop_now().await, 1_501, "all of them");
    world.check().await;
    world.flush(10).await;
    world.check().await;
}

#[tokio::test]
async fn at_least_as_many_bytes_stay_as_are_to_be_kept() {
    let mut world = World::new().await;
    for _ in 0..12 {
        world.flush(300).await;
    }
    let bytes = |files: &[Arc<crate::table::DataFile>]| files.iter().map(|file| file.size).sum::<u64>();
    let all = bytes(world.tables.load(&world.def).await.unwrap().files().await.unwrap().files());
    world.retain(Retention { bytes: Some(all / 3), ..Retention::default() }).await;
    let first = world.drop_now().await;
    let left = bytes(world.tables.load(&world.def).await.unwrap().files().await.unwrap().files());
    assert!(first > 1 && left >= all / 3 && left < all / 3 + all / 6, "{left} of {all}");
    assert_eq!(world.drop_now().await, first, "nothing more may go");
    world.check().await;
}

#[tokio::test]
async fn nothing_goes_where_nothing_was_said_and_what_was_said_can_be_taken_back() {
    let mut world = World::new().await;
    for _ in 0..6 {
        world.flush(100).await;
    }
    assert_eq!(world.drop_now().await, 1);
    world.retain(Retention { events: Some(1), ..Retention::default() }).await;
    world.retain(Retention::default()).await;
    assert_eq!(world.drop_now().await, 1);
    let none = Retention { bytes: Some(0), ..Retention::default() };
    assert_eq!(world.tables.set_retention(&world.def, none).await.unwrap_err().kind(), ErrorKind::Invalid);
    let beyond = world.tables.drop_below(&world.def, schemas::Seq(world.end + 1)).await.unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::Internal, "{beyond}");
    world.check().await;
}

#[tokio::test]
async fn more_missing_than_retention_took_is_a_fault() {
    let mut world = World::new().await;
    for _ in 0..6 {
        world.flush(100).await;
    }
    world.tables.drop_below(&world.def, schemas::Seq(301)).await.unwrap();
    assert_eq!(world.fault().await, None);
    let base = world.tables.load(&world.def).await.unwrap();
    for (name, value) in [
        (properties::REMOVED_ROW_HASH, "00000000000000000000000000000001"),
        (properties::RETAINED, "{\"0\":201}"),
        (properties::RETAINED, "{\"0\":701}"),
    ] {
        let now = world.tables.load(&world.def).await.unwrap();
        let set = [(name.to_owned(), value.to_owned())].into();
        let back = base.metadata().properties().clone();
        let builder = now.metadata().as_ref().clone().into_builder(Some(now.metadata_uri().to_owned()));
        let built = builder.set_properties(set).unwrap().build().unwrap();
        let changed = world.tables.publish(&world.def, "lie", &now, built).await.unwrap().unwrap();
        let fault = world.fault().await.expect("it is found");
        assert!([laws::SAME, laws::DENSE, laws::AGREED].contains(&fault.law), "{name}: {fault}");
        let builder = changed.metadata().as_ref().clone().into_builder(Some(changed.metadata_uri().to_owned()));
        let built = builder.set_properties(back).unwrap().build().unwrap();
        world.tables.publish(&world.def, "truth", &changed, built).await.unwrap().unwrap();
    }
    assert_eq!(world.fault().await, None);
}
