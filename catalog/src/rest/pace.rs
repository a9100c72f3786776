//! How often what others were faster at is tried again.

use std::time::Duration;

use super::reply::{Refusal, Result};
use crate::env::Env;

/// Tries of one change; each was overtaken by another's, which has succeeded.
const TRIES_MAX: u32 = 24;
/// First wait before another try; doubles up to [`WAIT_MAX`], and is cut by chance, so that two do not meet again.
const WAIT_FIRST: Duration = Duration::from_millis(5);
/// Longest wait.
const WAIT_MAX: Duration = Duration::from_millis(320);

/// Waits between the tries of one change.
#[derive(Debug)]
pub(super) struct Pause<'a> {
    env: &'a Env,
    tries: u32,
}

impl<'a> Pause<'a> {
    pub(super) fn new(env: &'a Env) -> Self {
        Self { env, tries: 0 }
    }

    /// How many tries have been waited for.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// Errors: 503 once it was tried often enough.
    pub(super) async fn before_another(&mut self, what: &str) -> Result<()> {
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            return Err(Refusal::unavailable(format!(
                "{what}: {TRIES_MAX} changes were overtaken by others; try again"
            )));
        }
        let whole = WAIT_MAX.min(WAIT_FIRST * 2_u32.saturating_pow(self.tries - 1));
        let chance = f64::from(self.env.nonce()[0]) / 255.0;
        tokio::time::sleep(whole.mul_f64(0.5 + 0.5 * chance)).await;
        Ok(())
    }
}
