//! A store in a folder, in which engines come and go.

use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use catalog::audit::Fault;
use catalog::storage::{StoreConfig, Swap};
use schemas::TopicSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::*;
use crate::engine::{AppendOptions, Engine, Parts, Terms};
use crate::settings::Settings;
use crate::testing::{TestChecks, TestLastSeqs, name, order_rows, orders};

pub(super) struct Site {
    pub(super) folder: TempDir,
}

pub(super) fn tenant() -> TenantName {
    TenantName::default()
}

/// An operator's settings under which nothing is flushed or trimmed unless asked for.
pub(super) fn unflushed() -> Settings {
    Settings { flush_interval_ms: 3_600_000, flush_bytes: 1 << 40, put_deadline_ms: 1_000, ..Settings::default() }
}

/// The same, but every flush is followed by a checkpoint, and the floor moves.
pub(super) fn trimmed() -> Settings {
    Settings { checkpoint_bytes: 1, ..unflushed() }
}

impl Site {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) async fn store(&self) -> Store {
        Store::open(&StoreConfig::at(self.folder.path().to_str().unwrap()), Env::system()).await.unwrap()
    }

    pub(super) async fn open(&self, settings: Settings) -> Engine {
        open(self.folder.path(), settings).await
    }

    /// Two epochs: three segments of events flushed in the first, two in the second, of which one is flushed. Both processes were killed, so everything
    /// is still in the log.
    pub(super) async fn loaded() -> Self {
        let site = Self::new();
        let folder = site.folder.path().to_owned();
        killed(async move {
            let engine = open(&folder, unflushed()).await;
            create(&engine, "orders").await;
            for first in [1, 11, 21] {
                append(&engine, "orders", first..first + 10).await;
            }
            engine.flush(&tenant(), None).await.unwrap();
            engine
        });
        let folder = site.folder.path().to_owned();
        killed(async move {
            let engine = open(&folder, unflushed()).await;
            append(&engine, "orders", 31..36).await;
            engine.flush(&tenant(), None).await.unwrap();
            append(&engine, "orders", 36..41).await;
            engine
        });
        site
    }

    /// A look at a topic, by a process that only reads.
    pub(super) async fn look(&self, topic: &str) -> Report {
        let (config, meter) = (StoreConfig::at(self.folder.path().to_str().unwrap()), Meter::default());
        let store = Store::open_read_only(&config, Env::system(), meter.clone()).await.unwrap();
        Verifier::new(store, Env::system(), meter).topic(&tenant(), &name(topic)).await
    }

    pub(super) async fn all(&self) -> Vec<Report> {
        let (config, meter) = (StoreConfig::at(self.folder.path().to_str().unwrap()), Meter::default());
        let store = Store::open_read_only(&config, Env::system(), meter.clone()).await.unwrap();
        let mut reports = Vec::new();
        Verifier::new(store, Env::system(), meter).all(|report| reports.push(report)).await;
        reports
    }

    /// What a look at `orders` finds in order.
    pub(super) async fn proven(&self) -> Cut {
        let report = self.look("orders").await;
        assert_eq!(report.verdict, Verdict::Proven, "{report:?}");
        report.cut.unwrap()
    }

    /// What a look at `orders` finds wrong.
    pub(super) async fn fault(&self) -> Fault {
        match self.look("orders").await.verdict {
            Verdict::Fault(fault) => fault,
            other => panic!("expected a fault, found {other:?}"),
        }
    }

    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The newest revision of a register.
    pub(super) fn register(&self, path: &str) -> PathBuf {
        files(&self.file(path)).pop().unwrap()
    }

    /// A register's document.
    pub(super) async fn read(&self, path: &str) -> Value {
        let revision = self.store().await.read_register(&Path::from(path)).await.unwrap().unwrap();
        serde_json::from_slice(&revision.content).unwrap()
    }

    /// Changes a register as its owner would: a new revision, whole.
    pub(super) async fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let (store, path) = (self.store().await, Path::from(path));
        let revision = store.read_register(&path).await.unwrap().unwrap();
        let mut document: Value = serde_json::from_slice(&revision.content).unwrap();
        edit(&mut document);
        let content = Bytes::from(serde_json::to_vec(&document).unwrap());
        assert!(matches!(store.swap_register(&path, Some(&revision.tag), content).await.unwrap(), Swap::Won(_)));
    }
}

async fn open(folder: &FsPath, settings: Settings) -> Engine {
    let env = Env::system();
    let store = Store::open(&StoreConfig::at(folder.to_str().unwrap()), env.clone()).await.unwrap();
    let (topics, tables) = (Topics::new(store.clone(), env.clone()), Tables::new(store.clone(), env.clone()));
    let (last_seqs, checks) = (Arc::new(TestLastSeqs(tables.clone())), Arc::new(TestChecks));
    Engine::open(Parts { store, topics, tables, last_seqs, checks, env, settings }).await.unwrap()
}

/// A process that does some work and is killed: no task of its engine comes to an end of its own.
fn killed(work: impl Future<Output = Engine> + Send + 'static) {
    let process = std::thread::spawn(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let engine = runtime.block_on(work);
        runtime.shutdown_timeout(Duration::from_secs(10));
        drop(engine);
    });
    process.join().unwrap();
}

pub(super) async fn create(engine: &Engine, topic: &str) {
    let def = orders(1);
    let spec: TopicSpec = serde_json::from_value(json!({
        "name": topic, "schema": def.schema, "key": ["id"], "path": format!("{topic}/{{region}}"), "checks": ["amount > 0"],
    }))
    .unwrap();
    engine.create_topic(&tenant(), spec).await.unwrap();
}

pub(super) async fn append(engine: &Engine, topic: &str, amounts: Range<i32>) {
    let mut appender = engine.appender(&tenant(), &name(topic), AppendOptions::default()).await.unwrap();
    appender.submit(order_rows(amounts), Terms::default()).await.unwrap().await.unwrap();
}

pub(super) async fn shutdown(engine: Engine) {
    engine.shutdown(Duration::from_secs(30)).await;
}

/// All files below a folder, by name.
pub(super) fn files(folder: &FsPath) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    found.sort();
    found
}
