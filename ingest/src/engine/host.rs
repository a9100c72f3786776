//! All lanes of a store in one process, and what they share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use catalog::view::{Tail, TailSnapshot};
use futures::future::{join_all, try_join_all};
use parking_lot::{Mutex, RwLock};
use schemas::limits::{DEAD_LETTER_SUFFIX, LANES_MAX};
use schemas::{Epoch, ErrorKind, LaneId, Seq, TenantName, TopicId, TopicName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::naming::Turns;
use super::nodes::Heart;
use super::{Parts, Shared};
use crate::error::{IngestError, Result};
use crate::flush::CommitPace;
use crate::lane::board::Board;
use crate::lane::follower::Follower;
use crate::lane::heartbeat::{self, Node};
use crate::lane::root::{self, Claim, Root, State};
use crate::sequence::keeper::{self, Hand, Voice};
use crate::sequence::{COMMANDS_MAX, Core};
use crate::tail::Tails;

/// What the lanes of a process share, and the lanes.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) parts: Parts,
    pub(super) node: Node,
    pub(super) board: Arc<Board>,
    /// By their number; more may come.
    pub(super) lanes: RwLock<Vec<Arc<Shared>>>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) naming: Turns,
    /// Holds nothing: those of the lanes are beside it, under its budget.
    tails: Tails,
    held: Arc<RwLock<Vec<Tails>>>,
    pace: CommitPace,
    is_stopping: Arc<AtomicBool>,
    /// Says that this node lives, and listens for others: ends with the host.
    heart: Mutex<JoinSet<()>>,
}

impl Host {
    /// Opens every lane.
    pub(super) async fn open(parts: Parts) -> Result<Arc<Self>> {
        let settings = &parts.settings;
        if !(1..=LANES_MAX).contains(&settings.lanes) {
            let message = format!("lanes: expected 1 to {LANES_MAX}, found {}", settings.lanes);
            return Err(IngestError::new(ErrorKind::Invalid, message));
        }
        let count = parts.store.lanes(settings.lanes).await?;
        let node = Node { id: parts.env.uuid(), address: settings.advertise.clone() };
        // Who claims a lane must be known to live: the first beat comes before the first claim.
        let mut heart = Heart::new(&parts, &node);
        heart.beat(false).await?;
        let host = Arc::new(Self {
            board: Arc::new(Board::new(node.clone(), Duration::from_millis(settings.silence_ms))),
            pace: CommitPace::new(settings.commits_per_second_max),
            node,
            lanes: RwLock::default(),
            changes: watch::Sender::new(0),
            naming: Turns::default(),
            tails: Tails::new(settings.tail_bytes_max, parts.env.clone()),
            held: Arc::default(),
            is_stopping: Arc::default(),
            heart: Mutex::default(),
            parts,
        });
        host.grow(count).await?;
        heart.beat(true).await?;
        heart.start(&host, &mut host.heart.lock());
        Ok(host)
    }

    /// Opens the lanes up to this number that are not open here.
    pub(super) async fn grow(&self, count: u32) -> Result<()> {
        let known = self.lanes.read().len() as u32;
        let opening = (known..count).map(|lane| Box::pin(self.take_up(self.core(LaneId(lane)))));
        for shared in try_join_all(opening).await? {
            self.held.write().push(shared.core.tails.clone());
            self.lanes.write().push(Arc::new(shared));
        }
        Ok(())
    }

    pub(super) fn core(&self, lane: LaneId) -> Arc<Core> {
        Arc::new(Core {
            parts: self.parts.clone(),
            lane,
            node: self.node.clone(),
            board: Arc::clone(&self.board),
            as_of: Mutex::default(),
            tails: self.tails.beside(),
            pace: self.pace.clone(),
            flusher: Mutex::default(),
        })
    }

    /// Opens a lane, as owner or to follow it, and gives it a task.
    async fn take_up(&self, core: Arc<Core>) -> Result<Shared> {
        let hand = open(&core).await?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let (sender, ownership) = watch::channel(hand.ownership(&core));
        let voice = Voice { ownership: sender, changes: self.changes.clone() };
        let task = tokio::spawn(hand.run(Arc::clone(&core), received, voice));
        let is_stopping = Arc::clone(&self.is_stopping);
        Ok(Shared { core, commands, ownership, is_stopping, task: Mutex::new(Some(task)) })
    }

    /// A lane by its number. Errors: `NotFound`.
    pub(super) fn lane(&self, lane: LaneId) -> Result<Arc<Shared>> {
        let missing = || IngestError::new(ErrorKind::NotFound, format!("lane {lane} is not known here yet"));
        self.lanes.read().get(lane.0 as usize).cloned().ok_or_else(missing)
    }

    /// The lane of a topic that is made now: by its name, so that every process says the same whatever it knows of other topics. Dead letters share
    /// their topic's.
    pub(super) fn lane_for(&self, tenant: &TenantName, topic: &TopicName) -> LaneId {
        let name = topic.as_str().strip_suffix(DEAD_LETTER_SUFFIX).unwrap_or(topic.as_str());
        let count = self.lanes.read().len() as u64;
        LaneId((xxh3_64(format!("{tenant}/{name}").as_bytes()) % count) as u32)
    }

    /// Errors if the engine has been told to stop.
    pub(super) fn check_running(&self) -> Result<()> {
        match self.is_stopping.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(IngestError::new(ErrorKind::Unavailable, "the server is shutting down")),
        }
    }

    /// Those of every lane.
    pub(super) fn tail(&self) -> Arc<dyn Tail> {
        Arc::new(AllTails(Arc::clone(&self.held)))
    }

    pub(super) async fn shutdown(&self, deadline: Duration) {
        self.is_stopping.store(true, Ordering::Release);
        self.board.leave();
        let until = Instant::now() + deadline;
        let lanes = self.lanes.read().clone();
        join_all(lanes.iter().map(|lane| lane.shutdown(until))).await;
        let mut heart = std::mem::take(&mut *self.heart.lock());
        heart.shutdown().await;
        if self.node.address.is_some() {
            heartbeat::remove(&self.parts.store, self.node.id).await;
        }
    }
}

/// Takes a lane over if nobody who lives has it, else begins to follow it.
async fn open(core: &Arc<Core>) -> Result<Hand> {
    let root = root::read(&core.parts.store, core.lane).await?.map(|(root, _)| root);
    if let Some(claim) = at_start(core, root.as_ref()).await? {
        match keeper::open(core, claim).await {
            Ok(kept) => return Ok(Hand::Owner(kept)),
            // Another was faster.
            Err(error) if error.kind() == ErrorKind::Fenced && claim != Claim::Any => {}
            Err(error) => return Err(error),
        }
    }
    let mut follower = Follower::begin(core).await?;
    if let Some(follower) = &mut follower {
        let begun = Instant::now();
        if follower.advance().await? {
            *core.as_of.lock() = Some(begun);
        }
        let owner = follower.root().address.as_deref().unwrap_or("an unknown address");
        tracing::info!(lane = %core.lane, epoch = %follower.root().epoch, owner, "standing by: another process owns the lane");
    }
    Ok(Hand::Standby(follower.map(Box::new)))
}

/// On what condition a process that starts claims a lane. `None`: its owner seems to live, and time will tell.
///
/// It does not wait where it need not: an owner that closed the lane, took its heartbeat away, had this process's very address, or no longer listens
/// at its own is as good as silent.
async fn at_start(core: &Core, root: Option<&Root>) -> Result<Option<Claim>> {
    let settings = &core.parts.settings;
    let Some(root) = root else { return Ok(Some(Claim::After(Epoch(0)))) };
    if settings.take_over || core.node.address.is_none() {
        return Ok(Some(Claim::Any));
    }
    let after = Some(Claim::After(root.epoch));
    let Some(address) = root.address.as_deref().filter(|_| root.state != State::Closed) else { return Ok(after) };
    if Some(address) == core.node.address.as_deref() || heartbeat::is_refused(&core.parts.env, address).await {
        return Ok(after);
    }
    let beat = heartbeat::read(&core.parts.store, root.owner).await?;
    let has_ended = beat.is_none();
    core.board.hear(root.owner, beat, Instant::now());
    Ok(after.filter(|_| has_ended))
}

/// The tails of all lanes as one.
#[derive(Debug)]
struct AllTails(Arc<RwLock<Vec<Tails>>>);

impl Tail for AllTails {
    fn snapshot(&self, topic: &TopicId) -> Option<TailSnapshot> {
        self.0.read().iter().find_map(|tails| tails.snapshot(topic))
    }

    fn watch(&self, topic: &TopicId) -> Option<watch::Receiver<Seq>> {
        self.0.read().iter().find_map(|tails| tails.watch(topic))
    }
}
