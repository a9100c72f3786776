//! Topics that were dropped: their names are let go, and the files of their tables once nobody can be reading them any more (P7).
//!
//! A query may have planned on a table before it was dropped, and a flush that slept may still put a file. So files are looked for when a grace period has
//! passed since the registers let go of the name, and again a period after the last of them was removed; when a look finds none, the lane forgets the topic.
//! What is left to do stands in the lane's checkpoint, and doing it twice does nothing: whatever cuts it short, the lane's next owner goes on.

use std::time::Duration;

use catalog::table::REMOVED_AT_ONCE_MAX;
use schemas::TopicId;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use uuid::Uuid;

use super::Lane;
use crate::engine::Parts;
use crate::lane::state::Dropped;

/// Time between two looks, each at most a page of a listing and its removal.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Time to the next look after one that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// Time between two glances at what is due, at most.
const DUE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a look found: files that it removed; `None`: the registers had to be changed first, and now say that the topic is dropped.
type Looked = (TopicId, catalog::Result<Option<usize>>);

/// The looks at what dropped topics left behind, one at a time.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) look: Option<JoinHandle<Looked>>,
    pub(super) not_before: Instant,
    /// Whose turn it was last: one that cannot be removed keeps no other waiting.
    last: TopicId,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { look: None, not_before: Instant::now(), last: TopicId(Uuid::nil()) }
    }
}

/// The registers of a dropped topic's table and name say that it is dropped, from now on. Idempotent.
pub(crate) async fn let_go_of_name(parts: &Parts, dropped: &Dropped) -> catalog::Result<()> {
    parts.tables.drop_table(&dropped.tenant, &dropped.def).await?;
    parts.topics.release(&dropped.tenant, &dropped.def).await
}

impl Lane {
    /// True if some topic is not all gone yet.
    pub(super) fn has_leaving(&self) -> bool {
        self.closing.is_none() && !self.decided.dropped.is_empty()
    }

    /// Begins a look if one is due.
    pub(super) fn remove_files_if_due(&mut self) {
        if self.leaving.look.is_some() || !self.has_leaving() || Instant::now() < self.leaving.not_before {
            return;
        }
        let grace = Duration::from_millis(self.core.parts.settings.dropped_grace_ms);
        let due_micros = self.core.parts.env.now_micros().saturating_sub(grace.as_micros() as i64);
        let is_due = |dropped: &&Dropped| dropped.since_micros.is_none_or(|since| since <= due_micros);
        let due = || self.decided.dropped.values().filter(is_due);
        let next = due().find(|dropped| dropped.def.id > self.leaving.last).or_else(|| due().next());
        let Some(dropped) = next.cloned() else {
            self.leaving.not_before = Instant::now() + grace.clamp(Duration::from_millis(10), DUE_PAUSE_MAX);
            return;
        };
        self.leaving.not_before = Instant::now() + LOOK_PAUSE;
        self.leaving.last = dropped.def.id;
        let parts = self.core.parts.clone();
        self.leaving.look = Some(tokio::spawn(async move {
            let id = dropped.def.id;
            let looked = match dropped.since_micros {
                None => let_go_of_name(&parts, &dropped).await.map(|()| None),
                Some(_) => parts.tables.remove_dropped(&dropped.tenant, &dropped.def).await.map(Some),
            };
            (id, looked)
        }));
    }

    pub(super) fn removed_files(&mut self, looked: Result<Looked, JoinError>) {
        self.leaving.look = None;
        let (topic, looked) = match looked {
            Ok(looked) => looked,
            Err(error) => return tracing::error!(%error, "a look at a dropped topic's files ended badly"),
        };
        let is_gone = match looked {
            Ok(Some(0)) => {
                tracing::info!(%topic, "nothing is left of a dropped topic");
                true
            }
            // There are more.
            Ok(Some(REMOVED_AT_ONCE_MAX)) => return,
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%topic, %error, "what is left of a dropped topic stays for now");
                self.leaving.not_before = Instant::now() + FAILED_PAUSE;
                return;
            }
        };
        let now = self.core.parts.env.now_micros();
        for state in [&mut self.head, &mut self.decided] {
            if is_gone {
                state.dropped.remove(&topic);
            } else if let Some(dropped) = state.dropped.get_mut(&topic) {
                dropped.since_micros = Some(now);
            }
        }
    }
}
