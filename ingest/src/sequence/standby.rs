//! What a lane's task does while another owns the lane: follows it, says who the owner is, and takes the lane over when its turn comes.

use std::sync::Arc;
use std::time::Duration;

use schemas::ErrorKind;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::keeper::{Kept, Voice, open, standing_by};
use super::{Answer, Command, Core, Then};
use crate::engine::{Detail, Ownership};
use crate::error::{IngestError, Result};
use crate::lane::follower::Follower;
use crate::lane::root::Claim;

/// How long a follower waits before it looks again for the next segment, after it found one; doubled each time up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(800);

/// Stands by until this process owns the lane. `None` if told to end. Errors: the lane cannot be opened, now or ever.
pub(super) async fn stand_by(
    core: &Arc<Core>,
    mut follower: Option<Follower>,
    commands: &mut mpsc::Receiver<Command>,
    voice: &Voice,
) -> Result<Option<Kept>> {
    let mut desk = Desk::refusing(not_owner(&standing_by(core, follower.as_ref().map(Follower::root))));
    let mut vacant_since = None;
    let mut pause = PAUSE_MIN;
    loop {
        let (before, asked) = (follower.as_ref().map(Follower::at), std::mem::take(&mut desk.catch_up));
        let Some(followed) = desk.meanwhile(commands, Box::pin(follow(core, &mut follower))).await else {
            return Ok(None);
        };
        answer(asked, &followed);
        if let Err(error) = &followed {
            tracing::warn!(lane = %core.lane, %error, "the lane cannot be followed for the moment");
        }
        let stands = standing_by(core, follower.as_ref().map(Follower::root));
        desk.refusal = not_owner(&stands);
        voice.say(stands);

        let orders = std::mem::take(&mut desk.take_over);
        let wish =
            follower.as_ref().and_then(|follower| core.board.wish(follower.root(), &mut vacant_since, Instant::now()));
        if let Some(claim) = if orders.is_empty() { wish } else { Some(Claim::Any) } {
            tracing::info!(lane = %core.lane, ?claim, "taking the lane over");
            let taken = match desk.meanwhile(commands, Box::pin(open(core, claim))).await {
                Some(taken) => taken,
                None => return Ok(None),
            };
            match &taken {
                // Who ordered it may append as soon as it is told.
                Ok(kept) => {
                    voice.say(kept.ownership(core));
                    answer(orders, &Ok(true));
                }
                Err(error) => answer(orders, &Err(error.clone())),
            }
            match taken {
                Ok(mut kept) => {
                    desk.hand_over(&mut kept);
                    return Ok(Some(kept));
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    tracing::info!(lane = %core.lane, "another was faster")
                }
                Err(error) if error.kind().is_retryable() => {
                    tracing::warn!(lane = %core.lane, %error, "the lane could not be taken over yet");
                }
                Err(error) => {
                    desk.fail(&error);
                    return Err(error);
                }
            }
            // What was rebuilt on the way may lie beyond where the follower was.
            follower = None;
        }
        pause = if follower.as_ref().map(Follower::at) != before { PAUSE_MIN } else { PAUSE_MAX.min(2 * pause) };
        let until = Instant::now() + pause;
        while desk.is_idle() && Instant::now() < until {
            tokio::select! {
                command = commands.recv() => if !desk.receive(command) { return Ok(None) },
                () = sleep(until.saturating_duration_since(Instant::now())) => {}
            }
        }
    }
}

/// One look at the log and the root. False if there was no room for all that was found.
async fn follow(core: &Arc<Core>, follower: &mut Option<Follower>) -> Result<bool> {
    let begun = Instant::now();
    if follower.is_none() {
        *follower = Follower::begin(core).await?;
    }
    // Nobody ever owned the lane: nothing was ever acknowledged in it.
    let Some(follower) = follower else { return Ok(true) };
    let is_caught_up = follower.advance().await?;
    if is_caught_up {
        *core.as_of.lock() = Some(begun);
    }
    Ok(is_caught_up)
}

fn answer(asked: Vec<Answer<()>>, outcome: &Result<bool>) {
    for answer in asked {
        // Whoever asked may have gone.
        drop(answer.send(match outcome {
            Ok(true) => Ok(()),
            Ok(false) => Err(IngestError::new(
                ErrorKind::Overloaded,
                "this server cannot hold what it would have to read to be up to date: ask the lane's owner",
            )),
            Err(error) => Err(error.clone()),
        }));
    }
}

/// What a process that does not own a lane says to who wants to change something in it.
pub(crate) fn not_owner(stands: &Ownership) -> IngestError {
    match stands {
        Ownership::Standby { lane, is_vacant: true, .. } => {
            let message = format!("nothing was appended: lane {lane} changes hands; try again");
            IngestError::new(ErrorKind::Unavailable, message)
        }
        Ownership::Standby { lane, owner, .. } => {
            let place = owner.as_ref().map_or_else(String::new, |owner| format!(", at {owner}"));
            let message = format!("nothing was appended: lane {lane} is owned by another server{place}");
            IngestError::new(ErrorKind::Fenced, message).with_detail(Detail::NotOwner { owner: owner.clone() })
        }
        Ownership::Stopped(reason) => reason.clone(),
        Ownership::Open { .. } => IngestError::new(ErrorKind::Unavailable, "the server is shutting down"),
    }
}

/// Commands that come while the lane is not open here: refused, or kept until they can be answered.
#[derive(Debug)]
pub(super) struct Desk {
    refusal: IngestError,
    catch_up: Vec<Answer<()>>,
    take_over: Vec<Answer<()>>,
}

impl Desk {
    /// Refuses for this reason.
    pub(super) fn refusing(refusal: IngestError) -> Self {
        Self { refusal, catch_up: Vec::new(), take_over: Vec::new() }
    }

    /// Receives commands until `work` is done. `None` if told to end before that.
    pub(super) async fn meanwhile<T>(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                command = commands.recv() => if !self.receive(command) { return None },
            }
        }
    }

    /// Refuses for another reason from now on.
    pub(super) fn refuse_for(&mut self, refusal: IngestError) {
        self.refusal = refusal;
    }

    /// This process has taken the lane over since they asked: it shows all that was acknowledged before that. Whether another has taken it since, and
    /// acknowledged more before some of them asked, its first look at the root will tell.
    pub(super) fn hand_over(&mut self, kept: &mut Kept) {
        self.catch_up.drain(..).for_each(|answer| kept.catch_up(answer));
        answer(std::mem::take(&mut self.take_over), &Ok(true));
    }

    /// What waits here will not be done.
    pub(super) fn fail(&mut self, reason: &IngestError) {
        answer(std::mem::take(&mut self.catch_up), &Err(reason.clone()));
        answer(std::mem::take(&mut self.take_over), &Err(reason.clone()));
    }

    /// Refuses everything until told to end.
    pub(super) async fn close(mut self, commands: &mut mpsc::Receiver<Command>) {
        let refusal = self.refusal.clone();
        self.fail(&refusal);
        while let Some(command) = commands.recv().await {
            match command {
                Command::Close { answer, then } => {
                    drop(answer.send(Ok(())));
                    if then == Then::End {
                        return;
                    }
                }
                command => command.refuse(&refusal),
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.catch_up.is_empty() && self.take_over.is_empty()
    }

    /// False if this was the last one.
    fn receive(&mut self, command: Option<Command>) -> bool {
        match command {
            None => return false,
            Some(Command::Close { answer, then }) => {
                drop(answer.send(Ok(())));
                return then != Then::End;
            }
            Some(Command::CatchUp { answer }) => self.catch_up.push(answer),
            Some(Command::TakeOver { answer }) => self.take_over.push(answer),
            Some(command) => command.refuse(&self.refusal),
        }
        true
    }
}
