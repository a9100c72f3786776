//! Time, randomness, threads and the way to other processes: they come in here, so that a test can hold them.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::RngCore;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinError;
use uuid::Uuid;

/// Where a process gets its time, its randomness and its threads from, and how it reaches others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    source: Arc<dyn Source>,
}

/// What an environment gives.
pub trait Source: Debug + Send + Sync {
    /// Microseconds since 1970-01-01 UTC. May jump either way: no rule of the protocol depends on it.
    fn now_micros(&self) -> i64;
    /// 16 bytes that no other call anywhere returns.
    fn random(&self) -> [u8; 16];
    /// True if work that computes for long runs in the caller's own task: a simulation, whose order of events no thread may disturb.
    fn computes_inline(&self) -> bool {
        false
    }
    /// Connects to `place` (host and port) and hangs up. Errors: those of the network; `ConnectionRefused` if nobody listens there.
    fn knock(&self, place: &str) -> BoxFuture<'static, io::Result<()>> {
        let place = place.to_owned();
        async move { TcpStream::connect(place).await.map(drop) }.boxed()
    }
}

/// The machine's own clock and randomness.
#[derive(Debug)]
struct Machine;

impl Source for Machine {
    fn now_micros(&self) -> i64 {
        #[expect(clippy::disallowed_methods, reason = "this is the door that time comes in by")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        bytes
    }
}

impl Env {
    /// The machine's own.
    pub fn system() -> Self {
        Self::from_source(Arc::new(Machine))
    }

    /// A test's.
    pub fn from_source(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub fn now_micros(&self) -> i64 {
        self.source.now_micros()
    }

    /// A nonce for a register revision, a segment, an attempt at a commit.
    pub fn nonce(&self) -> [u8; 16] {
        self.source.random()
    }

    /// Work that computes for long, on a thread where it holds no other task up. Errors: it panicked.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        if self.source.computes_inline() {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await
    }

    /// Connects to another process at `place` (host and port) and hangs up. Errors: those of the network; `ConnectionRefused` if nobody listens there.
    pub async fn knock(&self, place: &str) -> io::Result<()> {
        self.source.knock(place).await
    }

    /// Work that computes and waits by turns for long, on a thread of its own. Broken off where it next waits, if nobody waits for it any more.
    ///
    /// Errors: it panicked.
    pub async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        if self.source.computes_inline() {
            return Ok(work.await);
        }
        let (given_up, waits) = oneshot::channel::<()>();
        let runtime = Handle::current();
        let running = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                tokio::select! {
                    biased;
                    _ = waits => None,
                    done = work => Some(done),
                }
            })
        });
        let done = running.await;
        drop(given_up);
        // It gives up only when this future, which holds the other end, is gone.
        done.map(|done| done.expect("somebody waits for it"))
    }

    /// A new identity (a UUID of version 4).
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.source.random()).into_uuid()
    }
}
