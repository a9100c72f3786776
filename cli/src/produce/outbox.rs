//! Batches between the input and their answers: numbered as they are read, kept until they are answered, sent again by the next attempt.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use ingest::engine::Refusal;
use parking_lot::Mutex;
use schemas::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::input::Piece;

/// Batches that may wait for their answers: as many as the server remembers answers for, else a retry may ask for one that is forgotten.
const UNANSWERED_MAX: usize = limits::PRODUCER_ANSWERS_MAX;

/// Shared by the stream that sends, the side that hears the answers, and the attempt after.
#[derive(Debug)]
pub(super) struct Outbox {
    /// What is read, in order. Held across a wait, so that of two attempts one reads at a time.
    pieces: tokio::sync::Mutex<mpsc::Receiver<Piece>>,
    room: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// A stream of an attempt that is over may still be polled; it must take nothing.
    attempt: u64,
    unanswered: VecDeque<Unanswered>,
    /// How many of these this attempt has sent.
    sent: usize,
    /// The number of the next batch that is read.
    next: u64,
    /// Batches below this are not sent.
    from: u64,
    /// Rows of those.
    passed_over: u64,
    unreadable: Vec<Refusal>,
}

#[derive(Debug)]
struct Unanswered {
    number: u64,
    batch: RecordBatch,
    rows: Vec<u64>,
    _room: OwnedSemaphorePermit,
}

/// A batch that has its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// Its number, from 1.
    pub(super) number: u64,
    /// What its rows are in the input.
    pub(super) rows: Vec<u64>,
}

impl Outbox {
    /// Sends what `pieces` brings from batch number `from` on; the first is 1.
    pub(super) fn new(pieces: mpsc::Receiver<Piece>, from: u64) -> Self {
        let state = State {
            attempt: 0,
            unanswered: VecDeque::new(),
            sent: 0,
            next: 1,
            from,
            passed_over: 0,
            unreadable: Vec::new(),
        };
        let room = Arc::new(Semaphore::new(UNANSWERED_MAX));
        Self { pieces: tokio::sync::Mutex::new(pieces), room, state: Mutex::new(state) }
    }

    /// Begins an attempt: what is unanswered is sent once more, then what is read. Every earlier attempt is over.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state.lock();
        state.sent = 0;
        state.attempt += 1;
        state.attempt
    }

    /// The next batch of this attempt, and its number; `None` at the end of the input, or if the attempt is over.
    pub(super) async fn next(&self, attempt: u64) -> Option<(u64, RecordBatch)> {
        if let Some(unsent) = self.unsent(attempt) {
            return unsent;
        }
        let mut pieces = self.pieces.lock().await;
        loop {
            // What an attempt that is over has read meanwhile is not lost.
            if let Some(unsent) = self.unsent(attempt) {
                return unsent;
            }
            let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
            let piece = pieces.recv().await?;
            self.add(piece, room);
        }
    }

    /// `Some(None)` if the attempt is over; `None` if all that was read is sent.
    fn unsent(&self, attempt: u64) -> Option<Option<(u64, RecordBatch)>> {
        let mut state = self.state.lock();
        if state.attempt != attempt {
            return Some(None);
        }
        let unsent = state.unanswered.get(state.sent).map(|unsent| (unsent.number, unsent.batch.clone()))?;
        state.sent += 1;
        Some(Some(unsent))
    }

    fn add(&self, piece: Piece, room: OwnedSemaphorePermit) {
        let Piece { batch, rows, unreadable } = piece;
        let mut state = self.state.lock();
        let number = state.next;
        if batch.num_rows() > 0 {
            state.next += 1;
        }
        if number < state.from && batch.num_rows() > 0 {
            state.passed_over += batch.num_rows() as u64;
            return;
        }
        state.unreadable.extend(unreadable);
        if batch.num_rows() > 0 {
            state.unanswered.push_back(Unanswered { number, batch, rows, _room: room });
        }
    }

    /// The oldest batch that was sent has its answer.
    pub(super) fn settle(&self) -> Option<Settled> {
        let mut state = self.state.lock();
        if state.sent == 0 {
            return None;
        }
        state.sent -= 1;
        let Unanswered { number, rows, .. } = state.unanswered.pop_front()?;
        Some(Settled { number, rows })
    }

    /// Rows that never became part of a batch, not yet told of.
    pub(super) fn unreadable(&self) -> Vec<Refusal> {
        std::mem::take(&mut self.state.lock().unreadable)
    }

    /// Batches read so far, and rows of those that were not sent.
    pub(super) fn read(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.next - 1, state.passed_over)
    }

    /// True if something was read that has no answer.
    pub(super) fn is_waiting(&self) -> bool {
        !self.state.lock().unanswered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    fn piece(first: u64, rows: u64) -> Piece {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(first as i64..(first + rows) as i64));
        let batch = RecordBatch::try_from_iter([("n", values)]).unwrap();
        let unreadable = (rows == 0).then(|| Refusal { row: first, reason: "no".into() });
        Piece { batch, rows: (first..first + rows).collect(), unreadable: unreadable.into_iter().collect() }
    }

    async fn filled(from: u64) -> Outbox {
        let (sender, receiver) = mpsc::channel(8);
        for (first, rows) in [(0, 2), (2, 0), (3, 1), (4, 3)] {
            sender.send(piece(first, rows)).await.unwrap();
        }
        Outbox::new(receiver, from)
    }

    #[tokio::test]
    async fn what_has_no_answer_is_sent_again_under_its_number() {
        let outbox = filled(1).await;
        let first = outbox.begin();
        assert_eq!(outbox.next(first).await.unwrap().0, 1);
        assert_eq!(outbox.next(first).await.unwrap().0, 2);
        assert_eq!(outbox.settle(), Some(Settled { number: 1, rows: vec![0, 1] }));
        let second = outbox.begin();
        assert_eq!(outbox.next(first).await, None, "an attempt that is over sends nothing");
        assert_eq!(outbox.settle(), None, "nothing of this attempt was sent yet");
        assert_eq!(outbox.next(second).await.unwrap().0, 2);
        assert_eq!(outbox.next(second).await.unwrap().0, 3);
        assert_eq!(outbox.next(second).await, None);
        assert_eq!(outbox.settle().unwrap().rows, [3]);
        assert_eq!(outbox.settle().unwrap().rows, [4, 5, 6]);
        assert!(!outbox.is_waiting());
        assert_eq!(outbox.unreadable().len(), 1);
    }

    #[tokio::test]
    async fn what_an_earlier_run_has_appended_is_passed_over() {
        let outbox = filled(3).await;
        let attempt = outbox.begin();
        assert_eq!(outbox.next(attempt).await.unwrap().0, 3);
        assert_eq!(outbox.next(attempt).await, None);
        assert_eq!(outbox.read(), (3, 3));
    }
}
