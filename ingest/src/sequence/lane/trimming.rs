//! When a lane writes a checkpoint and moves its floor (P5), and what it knows afterwards; topics that stop, and leave the log with it (P4).

use std::time::Duration;

use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, Seq, TopicId};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::super::keeper::keep_parked;
use super::written::Written;
use super::{Lane, ended_badly};
use crate::error::{IngestError, Result};
use crate::lane::parked::ToPark;
use crate::lane::root::RootRegister;
use crate::lane::trim::{Trim, Trimmed};

/// How long a checkpoint that failed waits before the next attempt.
const TRIM_PAUSE: Duration = Duration::from_secs(1);
impl Lane {
    /// Starts writing a checkpoint and moving the floor if enough was written, or if this is the end.
    pub(super) fn trim_if_due(&mut self) {
        if self.trim.is_some() {
            return;
        }
        let segments = self.since_checkpoint.segments;
        let is_last = self.is_drained() && self.closing.as_ref().is_some_and(|closing| !closing.has_trimmed);
        let is_due =
            (self.since_checkpoint.is_enough(self.core.parts.settings.checkpoint_bytes, self.checkpoint_bytes)
                || self.has_parkable())
                && Instant::now() >= self.trim_not_before;
        if !(is_last || is_due) {
            return;
        }
        if let Some(closing) = self.closing.as_mut().filter(|_| is_last) {
            closing.has_trimmed = true;
            // Nothing was written, and nothing that was flushed is still in the log: the last checkpoint says it all.
            if segments == 0 && self.index.is_empty() && !self.has_parkable() {
                return;
            }
        }
        while let Ok((topic, watermark)) = self.moved.try_recv() {
            self.moved_to(topic, watermark);
        }
        let Some(register) = self.register.take() else { return };
        let park = self.to_park();
        let (topics, halted) = (&self.decided.topics, &self.halted);
        let is_in_table = |topic: &TopicId, to: Seq| topics.get(topic).is_none_or(|topic| topic.watermark.0 >= to);
        self.decided.parked.retain(|topic, parked| halted.contains(topic) || !is_in_table(topic, parked.to));
        let parts = &self.core.parts;
        let trim = Trim {
            store: parts.store.clone(),
            env: parts.env.clone(),
            tables: parts.tables.clone(),
            register,
            state: if planted(Bug::CheckpointInFlight) { self.head.clone() } else { self.decided.clone() },
            at: self.decided_at,
            index: self.index.clone(),
            park,
            parked_before: self.parked.clone(),
        };
        self.since_checkpoint = Written::default();
        self.trim = Some(tokio::spawn(trim.run()));
    }

    pub(super) fn trimmed(&mut self, trimmed: Result<(RootRegister, Result<Trimmed>), JoinError>) -> Result<()> {
        self.trim = None;
        let (register, trimmed) = trimmed.map_err(|error| ended_badly("a checkpoint", &error))?;
        self.register = Some(register);
        match trimmed {
            Ok(trimmed) => self.take_trimmed(trimmed),
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the checkpoint was not written; trying again soon");
                self.trim_not_before = Instant::now() + TRIM_PAUSE;
                let bytes = self.index.iter().map(|segment| segment.bytes).sum();
                self.since_checkpoint = Written { bytes, segments: self.index.len() };
            }
        }
        Ok(())
    }

    /// The floor has moved as far as it could. Topics that hold it are flushed before others, and, near the bound, stopped: their rows are parked next.
    fn take_trimmed(&mut self, Trimmed { checkpoint_bytes, passed, parked, named, holders }: Trimmed) {
        self.checkpoint_bytes = checkpoint_bytes;
        self.index.drain(..passed);
        self.parked = named;
        for (topic, parked) in parked.into_iter().filter(|(topic, _)| self.decided.topics.contains_key(topic)) {
            self.halted.parked(&topic);
            keep_parked(&self.core, &topic, &parked);
            self.decided.parked.insert(topic, parked);
        }
        if self.has_parkable() {
            // One could not be copied.
            self.trim_not_before = Instant::now() + TRIM_PAUSE;
        }
        let held: u64 = self.index.iter().map(|segment| segment.bytes as u64).sum();
        let bound = self.core.parts.settings.log_bytes_max;
        metrics::gauge!("firn_log_held_bytes").set(held as f64);
        if held >= bound {
            for topic in holders.iter().filter(|topic| !self.halted.contains(topic)) {
                self.core.tails.stop_topic(topic, holds_the_floor(topic, held));
            }
        } else if held >= bound / 2
            && let Some(flusher) = self.core.flusher.lock().clone()
        {
            flusher.hurry(holders);
        }
    }

    /// Notes which topics take no appends any more: what is taken from here on has nothing of theirs.
    pub(super) fn halt_stopped(&mut self) {
        self.halted.stop(self.core.tails.all_stopped(), &self.head, &self.decided);
    }

    pub(super) fn has_parkable(&self) -> bool {
        self.halted.parkable(&self.head, &self.decided).next().is_some()
    }

    fn to_park(&self) -> Vec<ToPark> {
        let park = |(topic, reason): (TopicId, &IngestError)| {
            let rows = self.core.tails.unflushed(&topic)?;
            Some(ToPark { topic, reason: reason.to_string(), rows })
        };
        self.halted.parkable(&self.head, &self.decided).filter_map(park).collect()
    }
}

/// Why a topic takes no appends whose rows have held the floor for too long.
fn holds_the_floor(topic: &TopicId, held: u64) -> IngestError {
    let message = format!(
        "topic {topic} takes no appends, since its events could not be moved to its table while {held} bytes were written to the log after them"
    );
    IngestError::new(ErrorKind::Conflict, message)
}
