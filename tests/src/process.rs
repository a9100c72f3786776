//! A server as a process of its own, which can be killed at any moment, and what it said before it died.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::tools::free_port;

/// What a child logs: warnings, and each opening and close of the spans that a kill may strike.
const LOG: &str = "warn,ingest::sequence::put=debug,ingest::lane::trim=debug,ingest::lane::takeover=debug,\
    ingest::sequence::keeper=debug,catalog::table::commit=debug";

/// How to start `firn serve`.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// `--data`.
    pub data: String,
    /// The environment that the store needs.
    pub environment: BTreeMap<String, String>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running `firn serve`. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    flight: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// Where the `firn` command lies: beside this test's own binary.
///
/// Errors: it was not built.
pub fn firn() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.ancestors().nth(2).context("a test binary lies in target/…/deps")?;
    let firn = folder.join("firn");
    if !firn.exists() {
        bail!("{} is not there: run `cargo build -p cli` first, or `make test`", firn.display());
    }
    Ok(firn)
}

impl Process {
    /// Starts a server; does not wait for it.
    pub fn start(launch: &Launch) -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], free_port()?)), launch)
    }

    /// Starts a server that listens there.
    pub fn start_at(flight: SocketAddr, launch: &Launch) -> Result<Self> {
        let mut child = Command::new(firn()?)
            .args(["serve", "--data", &launch.data, "--flight", &flight.to_string(), "--http", "127.0.0.1:0"])
            .args(&launch.arguments)
            .envs(&launch.environment)
            .env("FIRN_LOG", LOG)
            .env("FIRN_LOG_SPANS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("stderr is piped")?);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                sink.lock().expect("no holder panics").push(line);
            }
        });
        Ok(Self { child, flight, lines, reader: Some(reader) })
    }

    /// Waits until the server answers, and connects.
    ///
    /// Errors: with its own last words, if it ended; after a minute of silence.
    pub async fn client(&mut self) -> Result<Client> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait()? {
                self.join();
                bail!("firn serve ended with {status}:\n{}", self.said().join("\n"));
            }
            if let Ok(client) = Client::connect(self.flight).await
                && client.action("health", &serde_json::Value::Null).await.is_ok()
            {
                return Ok(client);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("firn serve does not answer after a minute:\n{}", self.said().join("\n"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.flight
    }

    /// The operating system's number of it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGSTOP: it does nothing at all, and its connections stay open, until [`Self::resume`].
    pub fn pause(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal("-CONT")
    }

    /// True if it has ended by itself.
    pub fn is_over(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// SIGKILL, at once; every line that it wrote before.
    pub fn kill(mut self) -> Result<Vec<String>> {
        self.kill_now()?;
        Ok(self.said())
    }

    /// SIGKILL, at once, of a process whose place another is to take.
    pub fn kill_now(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.join();
        Ok(())
    }

    /// Waits until it ends by itself; its exit code and all that it wrote.
    pub async fn ended(mut self) -> Result<(Option<i32>, Vec<String>)> {
        for _ in 0..6_000 {
            if let Some(status) = self.child.try_wait()? {
                self.join();
                return Ok((status.code(), self.said()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("firn serve still runs after a minute:\n{}", self.said().join("\n"))
    }

    /// The lines that it wrote so far.
    pub fn said(&self) -> Vec<String> {
        self.lines.lock().expect("no holder panics").clone()
    }

    /// How many lines those are.
    pub fn lines(&self) -> usize {
        self.lines.lock().expect("no holder panics").len()
    }

    /// True once a line that `matches` was written after the first `skip` ones.
    pub fn has_said(&self, skip: usize, matches: impl Fn(&str) -> bool) -> bool {
        self.lines.lock().expect("no holder panics").iter().skip(skip).any(|line| matches(line))
    }

    fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args([name, &self.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill {name} {} ended with {status}", self.pid()) }
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.join();
    }
}
