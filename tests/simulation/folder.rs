//! A local folder as the store, which the simulated S3 server does not show: processes that share it, and the power going.
//!
//! Both are small and run on the machine's own files; a seed decides who does what in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use catalog::storage::{Creation, Revision, RevisionTag, StoreConfig, Swap};
use catalog::{Env, Store};
use object_store::path::Path;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use schemas::planted::Bug;
use tokio::time::timeout;

use crate::node::Failure;
use crate::power::Disk;

/// Processes that share a folder.
const PROCESSES: usize = 3;
/// What each run does.
const STEPS: usize = 120;

/// What is not done by then is never done.
const PATIENCE: Duration = Duration::from_secs(60);

/// The defects that only a folder shows.
pub(crate) const BUGS: [Bug; 2] = [Bug::NumberUsedTwice, Bug::PutWithoutSync];

/// One run: what must not be, in words.
pub(crate) fn look(seed: u64) -> Vec<String> {
    let both = async {
        let mut faults = race(seed).await?;
        faults.extend(cut(seed).await?);
        Ok::<_, Failure>(faults)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(async { timeout(PATIENCE, both).await }) {
        Ok(Ok(faults)) => faults,
        Ok(Err(error)) => vec![format!("X3: a folder's store fails: {error}")],
        Err(_) => vec![format!("X3: a folder's store does not answer within {PATIENCE:?}")],
    }
}

async fn open(folder: &FilePath) -> catalog::Result<Store> {
    Store::open(&StoreConfig::at(folder.to_string_lossy()), Env::system()).await
}

fn counter() -> Path {
    Path::from("a/counter.json")
}

fn number(held: Option<&Revision>) -> Result<u64, Failure> {
    Ok(held.map_or(Ok(0), |held| serde_json::from_slice(&held.content))?)
}

/// X3: each process raises a counter from what it last saw, however long ago; no number is given twice, and none is lost.
async fn race(seed: u64) -> Result<Vec<String>, Failure> {
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let (mut stores, mut seen) = (Vec::new(), vec![(None::<RevisionTag>, 0); PROCESSES]);
    for _ in 0..PROCESSES {
        stores.push(open(folder.path()).await?);
    }
    let (mut won, mut faults) = (BTreeSet::new(), Vec::new());
    for _ in 0..STEPS {
        let process = random.random_range(0..PROCESSES);
        match random.random_range(0..10) {
            // It is started again, and remembers nothing but what it is about to do.
            0 => stores[process] = open(folder.path()).await?,
            1..4 => {
                let held = stores[process].read_register(&counter()).await?;
                seen[process] = (held.as_ref().map(|held| held.tag.clone()), number(held.as_ref())?);
            }
            _ => {
                let (tag, last) = seen[process].clone();
                let next = (last + 1).to_string();
                if let Swap::Won(tag) = stores[process].swap_register(&counter(), tag.as_ref(), next.into()).await? {
                    seen[process] = (Some(tag), last + 1);
                    if !won.insert(last + 1) {
                        faults.push(format!("X3: {} was given twice", last + 1));
                    }
                }
            }
        }
    }
    let last = number(open(folder.path()).await?.read_register(&counter()).await?.as_ref())?;
    if last != won.len() as u64 {
        faults.push(format!("X3: {} numbers were given, and the counter is at {last}", won.len()));
    }
    Ok(faults)
}

/// X1: what was answered is there whenever the power goes.
async fn cut(seed: u64) -> Result<Vec<String>, Failure> {
    let disk = match Disk::attach() {
        Ok(disk) => disk,
        Err(error) => {
            eprintln!("not shown: a disk whose power can be cut needs root, a loop device and ext4: {error}");
            return Ok(Vec::new());
        }
    };
    let mut random = StdRng::seed_from_u64(seed);
    let root = |disk: &Disk| disk.path().join("store");
    let store = open(&root(&disk)).await?;
    let (mut objects, mut faults) = (BTreeMap::new(), Vec::new());
    let (mut tag, mut last) = (None, 0);
    for step in 0..STEPS / 2 {
        match random.random_range(0..3) {
            0 => {
                if let Swap::Won(won) =
                    store.swap_register(&counter(), tag.as_ref(), (last + 1).to_string().into()).await?
                {
                    (tag, last) = (Some(won), last + 1);
                }
            }
            _ => {
                let path = Path::from(format!("w/{}/{step}", random.random_range(0..4)));
                let body = Bytes::from(vec![step as u8; random.random_range(1..5_000)]);
                if store.create_segment(&path, body.clone()).await? == Creation::Mine {
                    objects.insert(path, body);
                }
            }
        }
        if random.random_range(0..10) > 0 {
            continue;
        }
        let left = disk.after_a_power_cut()?;
        let store = open(&root(&left)).await?;
        let found = number(store.read_register(&counter()).await?.as_ref())?;
        if found < last {
            faults.push(format!("X1: after a power cut the counter is at {found}, and {last} was answered"));
        }
        for (path, body) in &objects {
            if store.read_segment(path).await?.as_ref() != Some(body) {
                faults.push(format!("X1: {path} was answered, and is not there after a power cut"));
            }
        }
        if !faults.is_empty() {
            break;
        }
    }
    Ok(faults)
}
