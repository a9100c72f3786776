//! Processes that share one folder, are stopped and killed: this test starts itself again, several times.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};

use object_store::path::Path;

use crate::Env;
use crate::storage::{Store, StoreConfig, Swap};

const FOLDER: &str = "FIRN_TEST_RACE_FOLDER";
const PROCESSES: usize = 4;
/// Numbers that each process says it won before it may be killed.
const WINS: usize = 25;

async fn open(root: &FilePath) -> Store {
    Store::open(&StoreConfig::at(root.to_str().unwrap()), Env::system()).await.unwrap()
}

/// Tries to raise the counter by one. The number that this caller won, if it did.
async fn raise(store: &Store) -> Option<u64> {
    let path = Path::from("counter.json");
    let held = store.read_register(&path).await.unwrap();
    let next = held.as_ref().map_or(0, |held| serde_json::from_slice::<u64>(&held.content).unwrap()) + 1;
    let tag = held.map(|held| held.tag);
    let swap = store.swap_register(&path, tag.as_ref(), next.to_string().into()).await.unwrap();
    matches!(swap, Swap::Won(_)).then_some(next)
}

#[tokio::test]
#[ignore = "one of the processes that the race starts"]
async fn a_process_of_the_race() {
    let store = open(FilePath::new(&std::env::var_os(FOLDER).expect("the race names a folder"))).await;
    loop {
        if let Some(number) = raise(&store).await {
            println!("won {number}");
        }
    }
}

/// Killed at the latest when this goes.
struct Process(Child);

impl Process {
    fn start(root: &FilePath) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "storage::local::race::a_process_of_the_race", "--ignored", "--nocapture"]);
        Self(command.env(FOLDER, root).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn processes_that_are_stopped_and_killed_lose_nothing_and_block_nobody() {
    let root = tempfile::tempdir().unwrap();
    let mut processes: Vec<_> = (0..PROCESSES).map(|_| Process::start(root.path())).collect();
    let mut outputs: Vec<_> =
        processes.iter_mut().map(|process| BufReader::new(process.0.stdout.take().unwrap()).lines()).collect();
    let mut won = Vec::new();
    let number = |line: std::io::Result<String>| Some(line.unwrap().strip_prefix("won ")?.parse::<u64>().unwrap());
    for output in &mut outputs {
        won.extend(output.by_ref().filter_map(number).take(WINS));
    }
    processes[0].signal("-STOP");
    processes[1..].iter_mut().for_each(Process::kill);
    // One is stopped somewhere, the others are dead somewhere.
    let store = open(root.path()).await;
    for _ in 0..WINS {
        won.push(raise(&store).await.expect("nobody else is running"));
    }
    processes[0].signal("-CONT");
    won.extend(outputs[0].by_ref().filter_map(number).take(WINS));
    processes[0].kill();
    for output in outputs {
        won.extend(output.filter_map(number));
    }
    let last = loop {
        if let Some(number) = raise(&store).await {
            break number;
        }
    };
    let distinct: HashSet<_> = won.iter().copied().collect();
    assert_eq!(distinct.len(), won.len(), "no number was won twice");
    assert!(won.iter().all(|number| *number < last), "nothing that was won is lost");
    // Each kill may hide the answer of one swap that happened.
    let silent = last - 1 - won.len() as u64;
    assert!(silent <= PROCESSES as u64, "{silent} numbers were won by nobody");
}
