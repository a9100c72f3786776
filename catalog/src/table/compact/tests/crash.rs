//! A process dies at each of its changes of the store, before it and after it, while it compacts, expires or sweeps; and several do all of it at once.
//! Waits take no time: a dead process tries for long to learn what became of its commit.

use futures::TryStreamExt;

use super::*;
use crate::storage::faults::Life;
use crate::table::Retention;
use crate::table::sweep::{fingerprint, referenced};

/// What is done by the process that dies.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Compact,
    Expire,
    Sweep,
    Retain,
}

/// Enough of everything: ranges to merge, snapshots to expire, files to remove.
async fn worn() -> World {
    let mut world = World::new().await;
    world.keep(10).await;
    for flushed in 0..60 {
        world.flush(8).await;
        if flushed % 20 == 10 {
            world.compact(&SMALL).await;
        }
        if flushed == 30 {
            // What was written until now is two generations old by the next sweep.
            for _ in 0..2 {
                world.tables.sweep(&world.def).await.unwrap();
            }
        }
        world.pass(1);
    }
    world.pass(30);
    world.flush(8).await;
    world
}

/// Does it, and says how many files it replaced or removed, or rows it dropped.
async fn done_by(world: &World, store: Store, deed: Deed) -> Result<u64> {
    let tables = world.process(store).await?;
    match deed {
        Deed::Compact => Ok(tables.compact(&world.def, &SMALL, true).await?.map_or(0, |done| done.files_in)),
        Deed::Expire => Ok(tables.expire(&world.def).await?.removed_files),
        Deed::Sweep => Ok(tables.sweep(&world.def).await?.removed_files),
        Deed::Retain => drop_half(&tables, &world.def).await,
    }
}

/// About half of all events so far are kept. Says how many went.
async fn drop_half(tables: &Tables, def: &Arc<TopicDef>) -> Result<u64> {
    let state = tables.load(def).await?;
    let events = Some((state.watermark().0.0 / 2) as u64);
    tables.set_retention(def, Retention { events, ..Retention::default() }).await?;
    match tables.load(def).await?.droppable(def, 0).await? {
        Some(below) => Ok(tables.drop_below(def, below).await?.rows),
        None => Ok(0),
    }
}

/// Nothing lies there that the table does not refer to.
async fn check_no_litter(world: &World) {
    let state = world.tables.load(&world.def).await.unwrap();
    let named = referenced(&state).await.unwrap();
    let root = world.tables.store().path(state.metadata().location()).unwrap();
    let there: Vec<_> = world.tables.store().objects().list(Some(&root)).try_collect().await.unwrap();
    let litter: Vec<_> =
        there.into_iter().map(|object| object.location).filter(|path| !named.contains(&fingerprint(path))).collect();
    assert!(litter.is_empty(), "{litter:?}");
}

async fn dies_at_each_change(deed: Deed) {
    let (worn, mut changes) = (worn().await, 1);
    loop {
        let mut survived = 0;
        for last_happens in [false, true] {
            let mut world = worn.fork().await;
            let (store, life): (_, Arc<Life>) = world.objects.mortal(changes, last_happens);
            let ended = done_by(&world, store, deed).await;
            if !life.is_over() {
                survived += 1;
                assert!(ended.expect("it has lived") > 3, "{deed:?} had little to do");
            }
            world.check().await;
            // Whoever comes after goes on from there, flushes among them.
            world.flush(5).await;
            world.compact(&SMALL).await;
            world.tables.expire(&world.def).await.unwrap();
            world.check().await;
            for _ in 0..3 {
                world.tables.sweep(&world.def).await.unwrap();
            }
            world.check().await;
            check_no_litter(&world).await;
        }
        if survived == 2 {
            assert!(changes > 5, "{deed:?} has more steps than {changes}");
            return;
        }
        // Files are removed one after the other: past the first, each is like the one before.
        changes += if changes < 12 { 1 } else { changes };
    }
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_dies_at_any_step_loses_nothing_and_its_litter_goes() {
    dies_at_each_change(Deed::Compact).await;
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_dies_at_any_step_loses_nothing_and_its_litter_goes() {
    dies_at_each_change(Deed::Expire).await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_dies_at_any_step_loses_nothing_and_its_litter_goes() {
    dies_at_each_change(Deed::Sweep).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_dies_at_any_step_has_happened_whole_or_not_at_all() {
    dies_at_each_change(Deed::Retain).await;
}

#[tokio::test(start_paused = true)]
async fn two_compactors_an_expirer_a_sweeper_and_retention_at_once_beside_flushes_lose_nothing() {
    let mut world = worn().await;
    let mut tasks = tokio::task::JoinSet::new();
    for deed in [Deed::Compact, Deed::Compact, Deed::Expire, Deed::Sweep, Deed::Retain] {
        let (tables, def) = (world.process(world.objects.store()).await.unwrap(), Arc::clone(&world.def));
        tasks.spawn(async move {
            for round in 0..12 {
                let done = match deed {
                    Deed::Compact => tables.compact(&def, &SMALL, round % 4 == 0).await.map(drop),
                    Deed::Expire => tables.expire(&def).await.map(drop),
                    Deed::Sweep => tables.sweep(&def).await.map(drop),
                    Deed::Retain => drop_half(&tables, &def).await.map(drop),
                };
                assert!(
                    done.as_ref().map_or_else(|error| error.kind().is_retryable(), |()| true),
                    "{deed:?}: {done:?}"
                );
                tokio::task::yield_now().await;
            }
        });
    }
    for flushed in 0..40 {
        world.flush(8 + flushed % 5).await;
        world.pass(1);
        tokio::task::yield_now().await;
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    world.check().await;
    world.compact(&SMALL).await;
    for _ in 0..3 {
        world.tables.expire(&world.def).await.unwrap();
        world.tables.sweep(&world.def).await.unwrap();
    }
    world.check().await;
    check_no_litter(&world).await;
}
