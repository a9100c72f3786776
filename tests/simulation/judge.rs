//! After the faults: an owner must be found, a topic that stops must stop alone, everything must be there, and a second owner must find the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::TOPICS;
use crate::history::{Asked, Operation, Told};
use crate::others::{Edit, Other};
use crate::wire::{Ask, Batch, Row, Said, ask};
use crate::world::World;

/// Within this, one owner is open and appends are acknowledged (I15).
const RECOVERY_MAX: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);
/// Within this, a topic is served whose neighbour has stopped (I16).
const NEIGHBOUR_MAX: Duration = Duration::from_secs(5);

/// Is the other engine until the end of all faults, then looks.
pub(crate) async fn live(world: Arc<World>) -> turmoil::Result {
    let other_engine = Other::open(&world).await;
    other_engine.work().await;
    for topic in TOPICS {
        if !append(&world, topic, "last").await {
            return Ok(());
        }
    }
    stop_one(&world, &other_engine).await;
    let before = dump(&world, 0).await;
    // Another owner, which knows only what the store says.
    let other = world.plan.nodes - 1;
    insist(&world, Some(other), Ask::TakeOver).await;
    let after = dump(&world, other).await;
    for topic in TOPICS {
        insist(&world, None, Ask::Flush { topic: topic.into() }).await;
    }
    let flushed = dump(&world, other).await;
    for (number, topic) in TOPICS.iter().enumerate() {
        let (Some(before), Some(after), Some(flushed)) = (before.get(number), after.get(number), flushed.get(number))
        else {
            continue;
        };
        if before != after {
            world.violated(format!(
                "I2: {topic}: another owner found {} rows instead of {}",
                after.len(),
                before.len()
            ));
        }
        if after != flushed {
            world.violated(format!("I12: {topic}: {} rows before a flush, {} after", after.len(), flushed.len()));
        }
        let faults = world.history.lock().judge(topic, after);
        faults.into_iter().for_each(|fault| world.violated(format!("{topic}: {fault}")));
    }
    Ok(())
}

/// Appends one row, and writes down what came of it. False if nobody took it.
async fn append(world: &World, topic: &str, id: &str) -> bool {
    let (row, begun) = (row(topic, id), world.moment());
    let said = insist(world, None, row.clone()).await;
    record(world, row, begun, said.as_ref());
    said.is_some()
}

fn row(topic: &str, id: &str) -> Ask {
    let rows = vec![("k-0".to_owned(), format!("{id}-{topic}"))];
    Ask::Append(Batch { topic: topic.into(), rows, expects: None, producer: None })
}

fn record(world: &World, asked: Ask, begun: u64, said: Option<&Said>) {
    let Ask::Append(Batch { topic, rows, expects, .. }) = asked else { return };
    let told = match said {
        Some(Said::Appended { first, last, .. }) => Told::Appended { first: *first, last: *last },
        Some(Said::Refused(_) | Said::NotOwner) => Told::Refused,
        _ => Told::Unclear,
    };
    let asked = Asked::Append { ids: rows.into_iter().map(|(_, id)| id).collect(), expects };
    let operation = Operation { client: usize::MAX, topic, asked, begun, ended: world.moment(), told };
    world.history.lock().operations.push(operation);
}

/// I16: a topic whose table another engine rolls back stops, its neighbours go on, and it goes on too once an operator has put things right.
async fn stop_one(world: &Arc<World>, other: &Other) {
    let (ailing, well) = (TOPICS[0], &TOPICS[1..]);
    for id in ["kept", "rolled-back"] {
        append(world, ailing, id).await;
        insist(world, None, Ask::Flush { topic: ailing.into() }).await;
    }
    let Some(newest) = commit(world, other, ailing, Edit::RollBack).await else { return };
    // Its owner may not know yet: then it is acknowledged, and must not be lost.
    for number in 0..world.plan.nodes {
        let (row, begun) = (row(ailing, &format!("after-{number}")), world.moment());
        let said = ask(&format!("node-{number}"), &row, PATIENCE).await.ok();
        record(world, row, begun, said.as_ref());
    }
    if !refuses(world, ailing).await {
        return world.violated(format!("I8: {ailing}: its table was rolled back, and flushes go on"));
    }
    for round in 0..3 {
        for topic in well {
            let begun = Instant::now();
            append(world, topic, &format!("beside-{round}")).await;
            insist(world, None, Ask::Flush { topic: (*topic).into() }).await;
            if begun.elapsed() > NEIGHBOUR_MAX {
                world.violated(format!("I16: {topic} took {:?} while {ailing} had stopped", begun.elapsed()));
            }
        }
    }
    commit(world, other, ailing, Edit::Show(newest)).await;
    insist(world, None, Ask::Resume { topic: ailing.into() }).await;
    append(world, ailing, "resumed").await;
}

/// A commit of the other engine, which nothing hinders now.
async fn commit(world: &World, other: &Other, topic: &str, edit: Edit) -> Option<i64> {
    for _ in 0..10 {
        match other.commit(topic, edit).await {
            Ok(Some(before)) => return Some(before),
            found => world.note(format_args!("the other engine: {edit:?} of {topic}: {found:?}")),
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.violated(format!("I15: the other engine could not do {edit:?} of {topic}"));
    None
}

/// True once the owner of a topic refuses to flush it.
async fn refuses(world: &World, topic: &str) -> bool {
    for attempt in 0..100 {
        let node = format!("node-{}", attempt % world.plan.nodes);
        if let Ok(Said::Refused(reason)) = ask(&node, &Ask::Flush { topic: topic.into() }, PATIENCE).await
            && reason.contains("rolled back")
        {
            return true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    false
}

async fn dump(world: &World, node: usize) -> Vec<Vec<Row>> {
    let mut logs = Vec::new();
    for topic in TOPICS {
        if let Some(Said::Rows(rows)) = insist(world, Some(node), Ask::Dump { topic: topic.into() }).await {
            logs.push(rows);
        }
    }
    logs
}

/// Asks, one node or all in turn, until there is an answer that says something. An append that is unclear is asked no more: it would be there twice.
async fn insist(world: &World, node: Option<usize>, question: Ask) -> Option<Said> {
    let begun = Instant::now();
    let mut last = String::new();
    for attempt in 0.. {
        if begun.elapsed() > RECOVERY_MAX {
            break;
        }
        let node = node.unwrap_or(attempt % world.plan.nodes);
        match ask(&format!("node-{node}"), &question, PATIENCE).await {
            Ok(Said::Refused(reason)) => last = reason,
            Ok(Said::NotOwner) => last = "it is not the owner".into(),
            Ok(Said::Unclear(reason)) if !matches!(question, Ask::Append(_)) => last = reason,
            Ok(said) => return Some(said),
            Err(error) => last = error.to_string(),
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.violated(format!(
        "I15: no answer to {question:?} of {node:?} within {RECOVERY_MAX:?} of the last fault: {last}"
    ));
    None
}
