//! For tests: an object store whose puts meet the faults that P0 must live through.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Location, Store};
use crate::env::Env;

/// What befalls one put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the store's own answer.
    None,
    /// It fails, and nothing happens.
    Before,
    /// It happens, and its answer is lost.
    After,
    /// Its answer is lost, and it happens later.
    Late,
    /// It is answered 409, and nothing happens.
    Conflict,
    /// It happens, and the client's own retry meets what it wrote.
    OwnConflict,
    /// It never answers, and nothing happens.
    Hang,
}

/// How a store that breaks an axiom treats the condition of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// Checks that the name is free, then writes: X4.
    LateCreate,
    /// Checks the ETag, then writes: X3.
    LateSwap,
    /// Does not look at it.
    NoCondition,
}

/// A store over objects that meet these faults, and that tries a conditional write for `deadline`.
pub(crate) fn store(plan: impl IntoIterator<Item = Fault>, deadline: Duration) -> Store {
    Store::over(Arc::new(Faulty::new(plan)), Location::s3("bucket", &Path::from("root")), deadline, Env::system())
}

/// A store in memory. Each put takes the next fault of the plan; when the plan is at its end, nothing fails any more.
#[derive(Debug, Default)]
pub(super) struct Faulty {
    objects: Arc<InMemory>,
    plan: Mutex<VecDeque<Fault>>,
    late: Mutex<JoinSet<()>>,
    breach: Option<Breach>,
    gate: Option<Arc<Gate>>,
    life: Option<Arc<Life>>,
}

/// Objects that many processes share, some of which die.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<InMemory>);

/// How many changes of the store a process makes before it dies: from then on nothing that it asks for happens, and it gets no answer but errors.
#[derive(Debug)]
pub(crate) struct Life {
    changes_left: Mutex<usize>,
    /// Whether its last change happens, and only the answer is lost.
    last_happens: bool,
}

impl Life {
    /// True if it is over.
    pub(crate) fn is_over(&self) -> bool {
        *self.changes_left.lock() == 0
    }

    /// Whether one more change happens, and whether its answer comes.
    fn change(&self) -> (bool, bool) {
        let mut left = self.changes_left.lock();
        let lived = *left > 0;
        *left = left.saturating_sub(1);
        (lived && (*left > 0 || self.last_happens), *left > 0)
    }
}

impl Shared {
    /// The same objects, which go their own way from now on.
    pub(crate) fn fork(&self) -> Self {
        Self(Arc::new(self.0.fork()))
    }

    /// A process that meets no faults.
    pub(crate) fn store(&self) -> Store {
        self.over(None)
    }

    /// A process that dies at its `changes`-th change of the store, counted from 1.
    pub(crate) fn mortal(&self, changes: usize, last_happens: bool) -> (Store, Arc<Life>) {
        let life = Arc::new(Life { changes_left: Mutex::new(changes), last_happens });
        (self.over(Some(Arc::clone(&life))), life)
    }

    fn over(&self, life: Option<Arc<Life>>) -> Store {
        let faulty = Faulty { objects: Arc::clone(&self.0), life, ..Faulty::default() };
        Store::over(Arc::new(faulty), Location::s3("bucket", &Path::from("root")), Duration::ZERO, Env::system())
    }
}

/// Where puts wait until they are let through, one by one.
#[derive(Debug)]
pub(crate) struct Gate {
    permits: Semaphore,
    arrived: watch::Sender<usize>,
}

impl Gate {
    async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.permits.acquire().await.expect("it is never closed").forget();
    }

    /// Lets so many more puts through.
    pub(crate) fn open(&self, puts: usize) {
        self.permits.add_permits(puts);
    }

    /// Waits until so many puts in all have come to the gate.
    pub(crate) async fn arrived(&self, puts: usize) {
        let mut arrived = self.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= puts).await.expect("the gate is here");
    }
}

/// Two ways to the same objects: puts of the first wait at the gate, those of the second do not.
pub(crate) fn gated() -> (Store, Store, Arc<Gate>) {
    let gate = Arc::new(Gate { permits: Semaphore::new(0), arrived: watch::Sender::new(0) });
    let objects = Arc::new(InMemory::new());
    let over = |gate| {
        let faulty = Faulty { objects: Arc::clone(&objects), gate, ..Faulty::default() };
        let location = Location::s3("bucket", &Path::from("root"));
        Store::over(Arc::new(faulty), location, Duration::from_secs(60), Env::system())
    };
    (over(Some(Arc::clone(&gate))), over(None), gate)
}

impl Faulty {
    pub(super) fn new(plan: impl IntoIterator<Item = Fault>) -> Self {
        let plan = Mutex::new(plan.into_iter().collect());
        Self { plan, ..Self::default() }
    }

    pub(super) fn broken(breach: Breach) -> Self {
        Self { breach: Some(breach), ..Self::default() }
    }

    /// The store's own answer, such as it is.
    async fn put(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        match (self.breach, &opts.mode) {
            (Some(Breach::NoCondition), _) => opts.mode = PutMode::Overwrite,
            (Some(Breach::LateCreate), PutMode::Create) | (Some(Breach::LateSwap), PutMode::Update(_)) => {
                self.check(location, &opts.mode).await?;
                tokio::task::yield_now().await;
                opts.mode = PutMode::Overwrite;
            }
            _ => {}
        }
        self.objects.put_opts(location, payload, opts).await
    }

    async fn check(&self, location: &Path, mode: &PutMode) -> Result<()> {
        let found = self.objects.head(location).await.ok().and_then(|meta| meta.e_tag);
        let expected = if let PutMode::Update(version) = mode { version.e_tag.clone() } else { None };
        if found == expected {
            return Ok(());
        }
        Err(Error::Precondition { path: location.to_string(), source: "412".into() })
    }

    /// Errors if the process has died.
    fn check_life(&self) -> Result<()> {
        match self.life.as_ref().is_some_and(|life| life.is_over()) {
            true => Err(dead()),
            false => Ok(()),
        }
    }

    /// Waits until every put that is late has landed.
    pub(super) async fn settle(&self) {
        let late = std::mem::take(&mut *self.late.lock());
        late.join_all().await;
    }
}

fn dead() -> Error {
    Error::Generic { store: "faulty", source: "the process is dead".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        if let Some(life) = &self.life {
            let (happens, answered) = life.change();
            let put = if happens { Some(self.put(location, payload, opts).await) } else { None };
            return put.filter(|_| answered).unwrap_or_else(|| Err(dead()));
        }
        let fault = self.plan.lock().pop_front().unwrap_or(Fault::None);
        let lost = || Error::Generic { store: "faulty", source: format!("{fault:?}").into() };
        let exists = || Error::AlreadyExists { path: location.to_string(), source: format!("{fault:?}").into() };
        match fault {
            Fault::None => self.put(location, payload, opts).await,
            Fault::Before => Err(lost()),
            Fault::Conflict => Err(exists()),
            Fault::Hang => std::future::pending().await,
            Fault::After => {
                let _ = self.objects.put_opts(location, payload, opts).await;
                Err(lost())
            }
            Fault::OwnConflict => {
                let _ = self.objects.put_opts(location, payload, opts).await;
                Err(exists())
            }
            Fault::Late => {
                let (objects, location) = (Arc::clone(&self.objects), location.clone());
                self.late.lock().spawn(async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let _ = objects.put_opts(&location, payload, opts).await;
                });
                Err(lost())
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check_life()?;
        self.objects.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check_life()?;
        self.objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let Some(life) = self.life.clone() else { return self.objects.delete_stream(locations) };
        let objects = Arc::clone(&self.objects);
        let one_by_one = locations.then(move |location| {
            let (life, objects) = (Arc::clone(&life), Arc::clone(&objects));
            async move {
                let (location, (happens, answered)) = (location?, life.change());
                if happens {
                    objects.delete(&location).await?;
                }
                if answered { Ok(location) } else { Err(dead()) }
            }
        });
        one_by_one.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// Any fault that lets a later attempt succeed within a short deadline.
pub(super) fn any_fault() -> impl proptest::strategy::Strategy<Value = Fault> {
    use Fault::{After, Before, Conflict, Late, None, OwnConflict};
    proptest::sample::select(vec![None, Before, After, Late, Conflict, OwnConflict])
}
