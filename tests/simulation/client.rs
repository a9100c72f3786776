//! A client: appends and reads, one at a time, at whatever node it believes to be the owner. What it is not told for certain, it asks again if it may:
//! as a producer, under the batch's number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::distr::uniform::{SampleRange, SampleUniform};
use tokio::time::sleep;

use crate::faults::Fault;
use crate::history::{Asked, Operation, Told};
use crate::wire::{Ask, Batch, Expects, Said, ask};
use crate::world::World;
use crate::{REMADE, TOPICS};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// Keys that all clients share.
const KEYS: usize = 12;
/// Streams of randomness below this one are the nodes'.
const FIRST_STREAM: usize = 16;
/// How often a producer asks again before it begins anew.
const ATTEMPTS_MAX: usize = 40;

/// One client.
struct Client {
    world: Arc<World>,
    me: usize,
    /// The node that it asks.
    node: usize,
    /// Batches and reads begun.
    number: usize,
    /// Its epoch and the number of its next batch, by topic.
    epochs: BTreeMap<String, (u64, u64)>,
    /// What it believes to be the last seq, by topic and key.
    seen: BTreeMap<(String, Option<String>), i64>,
}

pub(crate) async fn live(world: Arc<World>, me: usize) -> turmoil::Result {
    let (epochs, seen) = Default::default();
    let mut client = Client { world, me, node: 0, number: 0, epochs, seen };
    let mut answered = 0;
    while answered < client.world.plan.operations && !client.world.is_healed() {
        client.number += 1;
        let topic = TOPICS[client.random(0..TOPICS.len())];
        let reads = client.random(0..10) < client.world.plan.reads;
        let told = if reads { client.look(topic).await } else { client.append(topic).await };
        let pause = match told {
            Some(Told::Appended { .. } | Told::Cut { .. } | Told::ConditionFailed { .. }) => client.random(0..30),
            _ => client.random(20..400),
        };
        answered += usize::from(told.is_some());
        sleep(Duration::from_millis(pause)).await;
    }
    client.world.note(format_args!("client-{me} is done"));
    Ok(())
}

impl Client {
    fn random<T: SampleUniform>(&self, range: impl SampleRange<T>) -> T {
        self.world.with_random(FIRST_STREAM + self.me, |random| random.random_range(range))
    }

    async fn ask(&mut self, node: usize, question: &Ask) -> Option<Said> {
        let Self { world, me, .. } = self;
        world.note(format_args!("client-{me} asks node-{node} {question:?}"));
        let answer = ask(&format!("node-{node}"), question, PATIENCE).await;
        world.note(format_args!("client-{me} is told {answer:?}"));
        let is_lost = !matches!(
            answer,
            Ok(Said::Appended { .. } | Said::Cut { .. } | Said::Epoch { .. } | Said::ConditionFailed { .. })
        );
        if is_lost {
            self.node = (self.node + 1) % self.world.plan.nodes;
        }
        answer.ok()
    }

    /// The same question twice at the same time, perhaps at two nodes: as if the network had doubled it.
    async fn ask_twice(&mut self, question: &Ask) -> Option<Said> {
        let (one, two) = (self.node, self.random(0..self.world.plan.nodes));
        let Self { world, me, .. } = self;
        world.note(format_args!("client-{me} asks node-{one} and node-{two} {question:?}"));
        let names = [one, two].map(|node| format!("node-{node}"));
        let answers = futures::join!(ask(&names[0], question, PATIENCE), ask(&names[1], question, PATIENCE));
        world.note(format_args!("client-{me} is told {answers:?}"));
        let told = match (answers.0.ok(), answers.1.ok()) {
            (Some(Said::Appended { first, last, .. }), Some(Said::Appended { first: other, .. })) if first != other => {
                world.violated(format!("I3: {question:?} was answered with {first}..={last} and with {other}"));
                None
            }
            (Some(Said::Appended { .. }), Some(refused @ Said::ConditionFailed { .. }))
            | (Some(refused @ Said::ConditionFailed { .. }), Some(Said::Appended { .. })) => {
                world.violated(format!("I3: {question:?} was appended, and refused ({refused:?})"));
                None
            }
            (_, Some(said @ (Said::Appended { .. } | Said::ConditionFailed { .. }))) => Some(said),
            // Whoever is no owner says nothing of what the other has done.
            (Some(Said::NotOwner | Said::Refused(_)), Some(Said::Unclear(why))) => Some(Said::Unclear(why)),
            (Some(Said::NotOwner | Said::Refused(_)), None) => None,
            (one, _) => one,
        };
        if !matches!(told, Some(Said::Appended { .. } | Said::ConditionFailed { .. })) {
            self.node = (self.node + 1) % self.world.plan.nodes;
        }
        told
    }

    /// Reads at any node, mostly so that it sees all that was acknowledged. `None`: nobody could answer.
    async fn look(&mut self, topic: &str) -> Option<Told> {
        let begun = self.world.moment();
        let is_fresh = self.random(0..10) > 0;
        let node = self.random(0..self.world.plan.nodes);
        let told = match self.ask(node, &Ask::Look { topic: topic.into(), is_fresh }).await {
            Some(Said::Cut { of, end, hash }) => (of, Told::Cut { end, hash }),
            _ => return None,
        };
        self.record(topic, if is_fresh { Asked::Read } else { Asked::Glance }, begun, told.clone());
        Some(told.1)
    }

    /// Appends a batch. `None`: nobody could answer, and nothing happened.
    async fn append(&mut self, topic: &str) -> Option<Told> {
        let key = format!("k-{}", self.random(0..KEYS));
        let count = self.random(1..4);
        let rows: Vec<_> = (0..count).map(|row| (key.clone(), format!("c{}-{}-{row}", self.me, self.number))).collect();
        let expects = (self.random(0..10) < 4).then(|| self.expects(topic, &key));
        let producer = match self.random(0..10) < 5 {
            true => Some(self.producer(topic).await?),
            false => None,
        };
        let ids: Vec<_> = rows.iter().map(|(_, id)| id.clone()).collect();
        let batch = Batch { topic: topic.into(), rows, expects: expects.clone(), producer: producer.clone() };
        let begun = self.world.moment();
        let (of, told) = self.insist(batch).await?;
        match told {
            Told::Appended { last, .. } | Told::ConditionFailed { last } => {
                let of = if matches!(told, Told::Appended { .. }) { Some(key) } else { expects.as_ref()?.key.clone() };
                self.seen.insert((topic.into(), of), last);
                if matches!(told, Told::Appended { .. }) {
                    self.seen.insert((topic.into(), None), last);
                }
            }
            _ => {}
        }
        match (&producer, told) {
            (Some((_, epoch, seq)), Told::Appended { .. }) => {
                self.epochs.insert(topic.into(), (*epoch, seq + 1));
            }
            (Some(_), Told::Unclear) => drop(self.epochs.remove(topic)),
            _ => {}
        }
        self.record(topic, Asked::Append { ids, expects }, begun, (of, told));
        Some(told)
    }

    /// What it believes of the key or the topic; sometimes something else.
    fn expects(&self, topic: &str, key: &str) -> Expects {
        let key = (self.random(0..4) > 0).then(|| key.to_owned());
        let known = self.seen.get(&(topic.to_owned(), key.clone())).copied().unwrap_or_default();
        let last = if self.random(0..8) == 0 { self.random(0..20) } else { known };
        Expects { key, last }
    }

    /// Its name, epoch and the number of its next batch.
    async fn producer(&mut self, topic: &str) -> Option<(String, u64, u64)> {
        let name = format!("p{}", self.me);
        if !self.epochs.contains_key(topic) {
            let question = Ask::Producer { topic: topic.into(), name: name.clone() };
            match self.ask(self.node, &question).await {
                Some(Said::Epoch { epoch, next }) => drop(self.epochs.insert(topic.into(), (epoch, next))),
                _ => return None,
            }
        }
        self.epochs.get(topic).map(|(epoch, next)| (name, *epoch, *next))
    }

    /// Asks until it is told for certain, if asking twice does no harm.
    async fn insist(&mut self, batch: Batch) -> Option<(String, Told)> {
        let is_safe = batch.producer.is_some();
        let is_remade = batch.topic == REMADE;
        let unclear = || Some((String::new(), Told::Unclear));
        let question = Ask::Append(batch);
        let mut is_unclear = false;
        for _ in 0..ATTEMPTS_MAX {
            let is_doubled = is_safe && self.world.store.lock().befalls(Fault::Twin);
            let answer = match is_doubled {
                true => self.ask_twice(&question).await,
                false => self.ask(self.node, &question).await,
            };
            let told = match answer {
                Some(Said::Appended { of, first, last, .. }) => return Some((of, Told::Appended { first, last })),
                // It speaks of this attempt, and of all before: had one of them happened, it would have been recognised.
                Some(Said::ConditionFailed { of, last }) => return Some((of, Told::ConditionFailed { last })),
                // Another topic has the name by now, and knows nothing of this producer.
                Some(Said::ProducerRefused(_)) if is_remade => return unclear(),
                Some(Said::ProducerRefused(why)) => {
                    self.world.violated(format!("I3: client-{} is told {why} of {question:?}", self.me));
                    return unclear();
                }
                Some(Said::NotOwner) => None,
                Some(Said::Refused(_)) => Some(Told::Refused),
                _ => Some(Told::Unclear),
            };
            is_unclear |= told == Some(Told::Unclear);
            if !is_unclear {
                return told.map(|told| (String::new(), told));
            }
            if !is_safe {
                return unclear();
            }
            sleep(Duration::from_millis(self.random(20..400))).await;
        }
        unclear()
    }

    fn record(&self, topic: &str, asked: Asked, begun: u64, (of, told): (String, Told)) {
        let ended = self.world.moment();
        let operation = Operation { client: self.me, topic: topic.into(), of, asked, begun, ended, told };
        self.world.history.lock().operations.push(operation);
    }
}
