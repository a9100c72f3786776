//! Several `firn serve` processes over one store, each killed, paused and started again as the schedule has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tests::process::{Launch, Process};

use crate::crash::strike::{self, Recovery, Step};

/// The processes, each in its place.
pub(crate) struct Cluster {
    launch: Launch,
    processes: Vec<Process>,
    doors: Doors,
    /// Places where nothing runs, since that is what the schedule says.
    down: BTreeSet<usize>,
    /// By place: the lines that its process had said when [`Self::mark`] was called; none of a process that has started since.
    marks: Vec<usize>,
    /// Deaths by what was under way; `None`: nothing that a span tells of.
    pub(crate) struck: BTreeMap<Option<Step>, usize>,
    /// What take-overs read, and how long they took.
    pub(crate) recoveries: Vec<Recovery>,
    /// Last words of processes that ended without being told to.
    pub(crate) last_words: Vec<String>,
}

/// One life of one process, and where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) place: usize,
    life: usize,
    pub(crate) address: SocketAddr,
}

/// Where clients can knock at this moment. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Doors(Arc<Mutex<Vec<Door>>>);

impl Doors {
    /// The door of the place after `place`, in a ring.
    pub(crate) fn after(&self, place: usize) -> Door {
        let doors = self.0.lock().unwrap();
        doors[(place + 1) % doors.len()]
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Door> {
        self.0.lock().unwrap().clone()
    }

    fn at(&self, place: usize) -> Door {
        self.0.lock().unwrap()[place]
    }

    fn moved(&self, place: usize, address: SocketAddr) {
        let mut doors = self.0.lock().unwrap();
        doors[place] = Door { place, life: doors[place].life + 1, address };
    }
}

impl Cluster {
    /// Starts this many.
    pub(crate) fn start(launch: Launch, processes: usize) -> Self {
        let processes: Vec<_> = (0..processes).map(|_| Process::start(&launch).unwrap()).collect();
        let doors = processes.iter().enumerate();
        let doors = doors.map(|(place, process)| Door { place, life: 1, address: process.address() }).collect();
        Self {
            launch,
            marks: vec![0; processes.len()],
            processes,
            doors: Doors(Arc::new(Mutex::new(doors))),
            down: BTreeSet::new(),
            struck: BTreeMap::new(),
            recoveries: Vec::new(),
            last_words: Vec::new(),
        }
    }

    pub(crate) fn doors(&self) -> Doors {
        self.doors.clone()
    }

    pub(crate) fn places(&self) -> usize {
        self.processes.len()
    }

    /// True if a process runs anywhere.
    pub(crate) fn is_any_up(&self) -> bool {
        self.places() > self.down.len()
    }

    /// SIGKILL. The life that it ended; nothing runs there until [`Self::restart`].
    pub(crate) fn kill(&mut self, place: usize) -> Door {
        let struck = self.doors.at(place);
        self.down.insert(place);
        self.processes[place].kill_now().unwrap();
        let said = self.processes[place].said();
        let steps = strike::under_way(&said);
        if steps.is_empty() {
            *self.struck.entry(None).or_default() += 1;
        }
        for step in steps {
            *self.struck.entry(Some(step)).or_default() += 1;
        }
        self.recoveries.extend(Recovery::all(&said));
        struck
    }

    /// Starts a process where one has ended.
    pub(crate) fn restart(&mut self, place: usize) {
        self.processes[place] = Process::start(&self.launch).unwrap();
        self.down.remove(&place);
        self.marks[place] = 0;
        self.doors.moved(place, self.processes[place].address());
    }

    /// Starts processes in all places where nothing runs.
    pub(crate) fn restart_all(&mut self) {
        while let Some(place) = self.down.first().copied() {
            self.restart(place);
        }
    }

    /// From here on [`Self::taker`] counts.
    pub(crate) fn mark(&mut self) {
        self.marks = self.processes.iter().map(Process::lines).collect();
    }

    /// Where a process runs that has begun to take the lane over since the mark.
    pub(crate) fn taker(&self) -> Option<usize> {
        let has_begun = |place: &usize| strike::has_begun(&self.processes[*place], Step::TakeOver, self.marks[*place]);
        (0..self.places()).filter(|place| !self.down.contains(place)).find(has_begun)
    }

    /// Starts those again that ended by themselves, as whoever runs them would.
    pub(crate) fn revive(&mut self) {
        for place in 0..self.places() {
            if !self.down.contains(&place) && self.processes[place].is_over().unwrap() {
                let said = self.processes[place].said();
                self.last_words.push(said.last().cloned().unwrap_or_default());
                self.recoveries.extend(Recovery::all(&said));
                self.restart(place);
            }
        }
    }

    /// SIGSTOP.
    pub(crate) fn pause(&self, place: usize) -> Door {
        self.processes[place].pause().unwrap();
        self.doors.at(place)
    }

    /// SIGCONT.
    pub(crate) fn resume(&self, place: usize) {
        self.processes[place].resume().unwrap();
    }

    /// The last words of all, for a failure.
    pub(crate) fn said(&self) -> String {
        let last = |process: &Process| {
            let said = process.said();
            said[said.len().saturating_sub(30)..].join("\n")
        };
        self.processes.iter().map(last).collect::<Vec<_>>().join("\n\n")
    }
}
