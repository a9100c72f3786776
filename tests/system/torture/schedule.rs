//! The faults of a run, in their order.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// What is done to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL of one of them.
    Kill,
    /// SIGKILL of the owner, then of so many in turn that have just begun to take the lane over from it.
    KillTakers(usize),
    /// SIGSTOP of one of them for longer than the silence that a take-over waits for, then SIGCONT.
    Stop,
    /// SIGKILL of the owner, then SIGSTOP and SIGCONT of the one that has just begun to take the lane over.
    StopTaker,
}

impl Fault {
    /// How often it kills and how often it stops a process.
    fn signals(self) -> (usize, usize) {
        match self {
            Self::Kill => (1, 0),
            Self::KillTakers(takers) => (1 + takers, 0),
            Self::Stop => (0, 1),
            Self::StopTaker => (1, 1),
        }
    }
}

/// As many faults as make these numbers of SIGKILL and SIGSTOP. About one in five of each strikes inside a take-over, some twice in a row.
pub(crate) fn schedule(kills: usize, stops: usize, random: &mut StdRng) -> Vec<Fault> {
    let aimed = [(Fault::KillTakers(2), kills / 24), (Fault::KillTakers(1), kills / 8), (Fault::StopTaker, stops / 4)];
    let mut faults: Vec<_> = aimed.into_iter().flat_map(|(fault, times)| std::iter::repeat_n(fault, times)).collect();
    let signals = faults.iter().map(|fault| fault.signals());
    let (killed, stopped) = signals.fold((0, 0), |(kills, stops), (kill, stop)| (kills + kill, stops + stop));
    faults.extend(std::iter::repeat_n(Fault::Kill, kills.saturating_sub(killed)));
    faults.extend(std::iter::repeat_n(Fault::Stop, stops.saturating_sub(stopped)));
    faults.shuffle(random);
    faults
}
