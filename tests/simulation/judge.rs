//! After the faults: an owner must be found, a topic that stops must stop alone, everything must be there, and a second owner must find the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::TOPICS;
use crate::history::{Asked, Operation, Told};
use crate::others::Other;
use crate::stopped;
use crate::wire::{Ask, Batch, Row, Said, ask};
use crate::world::World;

/// Within this, one owner is open and appends are acknowledged (I15).
pub(crate) const RECOVERY_MAX: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(30);

/// Is the other engine until the end of all faults, then looks.
pub(crate) async fn live(world: Arc<World>) -> turmoil::Result {
    Other::open(&world).await.work().await;
    while !world.is_quiet() {
        sleep(Duration::from_millis(50)).await;
    }
    for topic in TOPICS {
        if append(&world, topic, "last").await.is_none() {
            return Ok(());
        }
    }
    stopped::look(&world).await;
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
        let (count, flushed_count) = (after.1.len(), flushed.1.len());
        if before != after {
            world.violated(format!("I2: {topic}: another owner found {count} rows instead of {}", before.1.len()));
        }
        if after != flushed {
            world.violated(format!("I12: {topic}: {count} rows before a flush, {flushed_count} after"));
        }
        let faults = world.history.lock().judge(topic, &after.0, &after.1);
        faults.into_iter().for_each(|fault| world.violated(format!("{topic}: {fault}")));
    }
    Ok(())
}

/// Appends one row, whose id begins so, and writes down what came of it. `None`: nobody took it.
pub(crate) async fn append(world: &World, topic: &str, id: &str) -> Option<Told> {
    match append_within(world, topic, id, RECOVERY_MAX).await {
        Ok(told) => Some(told),
        Err(why) => {
            world.violated(format!(
                "I15: nobody takes an event of {topic} within {RECOVERY_MAX:?} of the last fault: {why}"
            ));
            None
        }
    }
}

/// The same, but nobody needs to take it. Errors: why nobody did.
pub(crate) async fn append_within(world: &World, topic: &str, id: &str, limit: Duration) -> Result<Told, String> {
    let begun = world.moment();
    let id = format!("{id}-{topic}-{begun}");
    let batch = Batch { topic: topic.into(), rows: vec![("k-0".into(), id.clone())], expects: None, producer: None };
    let (of, told) = match insist_within(world, None, &Ask::Append(batch), limit).await? {
        Said::Appended { of, first, last, .. } => (of, Told::Appended { first, last }),
        _ => (String::new(), Told::Unclear),
    };
    let (asked, topic) = (Asked::Append { ids: vec![id], expects: None }, topic.to_owned());
    let operation = Operation { client: usize::MAX, topic, of, asked, begun, ended: world.moment(), told };
    world.history.lock().operations.push(operation);
    Ok(told)
}

/// A topic's id and rows.
type Dump = (String, Vec<Row>);

async fn dump(world: &World, node: usize) -> Vec<Dump> {
    let mut logs = Vec::new();
    for topic in TOPICS {
        if let Some(Said::Rows { of, rows }) = insist(world, Some(node), Ask::Dump { topic: topic.into() }).await {
            logs.push((of, rows));
        }
    }
    logs
}

/// Asks, one node or all in turn, until there is an answer that says something. An append that is unclear is asked no more: it would be there twice.
pub(crate) async fn insist(world: &World, node: Option<usize>, question: Ask) -> Option<Said> {
    let said = insist_within(world, node, &question, RECOVERY_MAX).await;
    let violated = |why| {
        world.violated(format!(
            "I15: no answer to {question:?} of {node:?} within {RECOVERY_MAX:?} of the last fault: {why}"
        ))
    };
    said.map_err(violated).ok()
}

/// Errors: the last reason why there was no answer.
async fn insist_within(world: &World, node: Option<usize>, question: &Ask, limit: Duration) -> Result<Said, String> {
    let begun = Instant::now();
    let mut last = String::new();
    for attempt in 0.. {
        if begun.elapsed() > limit {
            break;
        }
        let node = node.unwrap_or(attempt % world.plan.nodes);
        match ask(&format!("node-{node}"), question, PATIENCE).await {
            Ok(Said::Refused(reason)) => last = reason,
            Ok(Said::NotOwner) => last = "it is not the owner".into(),
            Ok(Said::Unclear(reason)) if !matches!(question, Ask::Append(_)) => last = reason,
            Ok(said) => return Ok(said),
            Err(error) => last = error.to_string(),
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(last)
}
