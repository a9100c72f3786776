//! After the faults: an owner must be found, everything must be there, and a second owner must find the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::TOPICS;
use crate::history::{Asked, Operation, Told};
use crate::wire::{Ask, Batch, Row, Said, ask};
use crate::world::World;

/// Within this, one owner is open and appends are acknowledged (I15).
const RECOVERY_MAX: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the end of all faults, then looks.
pub(crate) async fn live(world: Arc<World>) -> turmoil::Result {
    while !world.is_healed() {
        sleep(Duration::from_millis(50)).await;
    }
    for (number, topic) in TOPICS.iter().enumerate() {
        let id = format!("last-{number}");
        let rows = vec![("k-0".to_owned(), id.clone())];
        let begun = world.moment();
        let batch = Batch { topic: (*topic).into(), rows, expects: None, producer: None };
        let told = match insist(&world, None, Ask::Append(batch)).await {
            Some(Said::Appended { first, last, .. }) => Told::Appended { first, last },
            Some(_) => Told::Unclear,
            None => return Ok(()),
        };
        let (asked, topic) = (Asked::Append { ids: vec![id], expects: None }, (*topic).to_owned());
        let operation = Operation { client: usize::MAX, topic, asked, begun, ended: world.moment(), told };
        world.history.lock().operations.push(operation);
    }
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
