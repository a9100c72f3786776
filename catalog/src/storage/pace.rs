//! How a write is tried again until its answer is definite (P0): what a failed attempt proves, and when the next one is due.

use std::time::Duration;

use object_store::Error;
use schemas::ErrorKind;
use tokio::time::{Instant, sleep, timeout_at};

use super::local::Unplaced;
use crate::env::Env;
use crate::error::CatalogError;

/// The first pause between attempts; each is twice the one before, up to [`PAUSE_MAX`], and half of it is random.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What an attempt that did not succeed proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Something may be there, this caller's or another's: only its content tells.
    Taken,
    /// Nothing happened, and would not the next time.
    Refused,
    /// Nothing: it may have happened, and may still happen.
    Nothing,
}

/// What a store's answer to a conditional put proves.
pub(super) fn proof(error: &Error) -> Proof {
    match error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => Proof::Taken,
        Error::NotFound { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::InvalidPath { .. } => Proof::Refused,
        Error::Generic { source, .. } if source.is::<Unplaced>() => Proof::Refused,
        _ => Proof::Nothing,
    }
}

/// The attempts at one write.
#[derive(Debug)]
pub(super) struct Pace<'a> {
    env: &'a Env,
    what: String,
    limit: Duration,
    deadline: Instant,
    pause: Duration,
    in_doubt: bool,
    last: Option<Error>,
}

impl<'a> Pace<'a> {
    /// `what` is being written, for messages.
    pub(super) fn new(env: &'a Env, limit: Duration, what: String) -> Self {
        Self { env, what, limit, deadline: Instant::now() + limit, pause: PAUSE_MIN, in_doubt: false, last: None }
    }

    /// One attempt, cut off at the deadline. An answer that does not come proves nothing.
    ///
    /// Errors: refused, and no earlier attempt can have come through either.
    pub(super) async fn attempt<T>(
        &mut self,
        put: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Result<T, Proof>, CatalogError> {
        let error = match self.answer(put).await {
            Ok(done) => return Ok(Ok(done)),
            Err(error) => error,
        };
        let proof = proof(&error);
        // A refusal of this attempt says nothing of an earlier one, which may yet land.
        if proof == Proof::Refused && !self.in_doubt {
            return Err(refused(&self.what, error));
        }
        // "Taken" leaves it in doubt too: by whom, only a look can tell.
        self.in_doubt |= proof != Proof::Refused;
        self.last = Some(error);
        Ok(Err(proof))
    }

    /// One look at what is there, cut off at the deadline. `None` if there was no answer.
    pub(super) async fn look<T>(&mut self, read: impl Future<Output = object_store::Result<T>>) -> Option<T> {
        self.answer(read).await.map_err(|error| self.last = Some(error)).ok()
    }

    /// Waits until the next attempt is due. Errors: `Indeterminate` past the deadline.
    pub(super) async fn pause(&mut self) -> Result<(), CatalogError> {
        let pause = self.pause / 2 + self.pause.mul_f64(f64::from(self.env.nonce()[0]) / 512.0);
        self.pause = PAUSE_MAX.min(2 * self.pause);
        if Instant::now() + pause < self.deadline {
            sleep(pause).await;
            return Ok(());
        }
        let message = format!("{}: no definite answer within {:?}; it may have been written", self.what, self.limit);
        let error = CatalogError::new(ErrorKind::Indeterminate, message);
        Err(match self.last.take() {
            Some(last) => error.caused_by(last),
            None => error,
        })
    }

    async fn answer<T>(&self, call: impl Future<Output = object_store::Result<T>>) -> object_store::Result<T> {
        let late = || Error::Generic { store: "store", source: "no answer before the deadline".into() };
        timeout_at(self.deadline, call).await.unwrap_or_else(|_| Err(late()))
    }
}

fn refused(what: &str, error: Error) -> CatalogError {
    let kind = match &error {
        Error::NotSupported { .. } | Error::NotImplemented { .. } | Error::InvalidPath { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    CatalogError::new(kind, format!("{what}: refused by the store; nothing was written")).caused_by(error)
}

/// A read that failed, as an error of this crate.
pub(super) fn unreadable(what: &str, error: Error) -> CatalogError {
    let corrupt = match &error {
        Error::Generic { source, .. } => source
            .downcast_ref::<std::io::Error>()
            .is_some_and(|cause| matches!(cause.kind(), std::io::ErrorKind::InvalidData)),
        _ => false,
    };
    let kind = if corrupt { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
    CatalogError::new(kind, format!("{what} cannot be read")).caused_by(error)
}
