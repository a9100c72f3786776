//! `kill -9` under load, again and again: nothing acknowledged is missing, and nothing is there twice.

pub(crate) mod ledger;
pub(crate) mod strike;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tests::process::{Launch, Process};
use tests::s3::{Kind, S3};

use ledger::Ledger;
use strike::{Recovery, Step};

/// How often a campaign kills, unless `FIRN_KILLS` says otherwise (`make test-crash` does).
const KILLS: usize = 12;
/// How long a server works under load before its kill is due, milliseconds.
const LOAD_MS: std::ops::Range<u64> = 20..250;

fn kills() -> usize {
    std::env::var("FIRN_KILLS").ok().map_or(KILLS, |kills| kills.parse().unwrap())
}

/// Short flush and checkpoint intervals, so that a commit and a trim are always near.
fn launch(data: String, environment: BTreeMap<String, String>) -> Launch {
    let settings = ["ingest.flush_interval_ms=60", "ingest.checkpoint_bytes=65536"];
    let arguments = settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    Launch { data, environment, arguments }
}

/// Kills until each step was struck often enough, and checks after each kill what the next owner finds.
struct Campaign {
    launch: Launch,
    ledger: Ledger,
    random: StdRng,
    struck: BTreeMap<Step, usize>,
    recoveries: Vec<Recovery>,
}

impl Campaign {
    fn new(launch: Launch) -> Self {
        let random = StdRng::seed_from_u64(3);
        Self { launch, ledger: Ledger::default(), random, struck: BTreeMap::new(), recoveries: Vec::new() }
    }

    async fn run(&mut self, name: &str, kills: usize) {
        let (each, most) = (kills / 6, 4 * kills);
        for number in 1..=most {
            let fewest = Step::ALL.into_iter().min_by_key(|step| self.struck.get(step).copied().unwrap_or(0)).unwrap();
            let target = if number <= kills { Step::ALL[number % Step::ALL.len()] } else { fewest };
            let unanswered = self.ledger.unanswered();
            let struck = self.strike(target).await;
            println!(
                "{name} kill {number}: aimed at {target}, struck inside {struck:?} with {} batches under way; {} events acknowledged so far",
                self.ledger.unanswered() - unanswered,
                self.ledger.acknowledged()
            );
            for step in struck {
                *self.struck.entry(step).or_default() += 1;
            }
            if number >= kills && Step::ALL.iter().all(|step| self.struck.get(step).copied().unwrap_or(0) >= each) {
                break;
            }
        }
        self.settle(name, each).await;
    }

    /// One life of a server, and its end. What was under way when it died.
    async fn strike(&mut self, target: Step) -> Vec<Step> {
        let mut process = Process::start(&self.launch).unwrap();
        if target.is_at_start() {
            let pause = Duration::from_micros(self.random.random_range(0..3_000));
            strike::begun(&process, target, 0).await;
            tokio::time::sleep(pause).await;
            return strike::under_way(&process.kill().unwrap());
        }
        let client = process.client().await.unwrap();
        self.ledger.check(&client).await;
        let load = self.ledger.load(&client).await;
        tokio::time::sleep(Duration::from_millis(self.random.random_range(LOAD_MS))).await;
        strike::begun(&process, target, process.said().len()).await;
        let said = process.kill().unwrap();
        self.ledger.settle(load).await;
        self.recoveries.extend(Recovery::all(&said));
        strike::under_way(&said)
    }

    /// A last owner finds everything, and so does SQL over the flushed table.
    async fn settle(&mut self, name: &str, each: usize) {
        let mut process = Process::start(&self.launch).unwrap();
        let client = process.client().await.unwrap();
        self.ledger.check(&client).await;
        client.flush(ledger::TOPIC).await.unwrap();
        self.ledger.check(&client).await;
        assert!(self.ledger.acknowledged() > 0, "there was load");
        for step in Step::ALL {
            let struck = self.struck.get(&step).copied().unwrap_or(0);
            println!("{name}: {struck} struck inside a {step}");
            assert!(struck >= each, "{name}: only {struck} of the kills struck inside a {step}, {each} are wanted");
        }
        println!("{name}: {}", Recovery::summary(&self.recoveries));
    }
}

fn folder(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills_on_a_local_folder() {
    let data = tempfile::tempdir().unwrap();
    Campaign::new(launch(folder(data.path()), BTreeMap::new())).run("local", kills()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills_on_s3() {
    let s3 = S3::start(Kind::VersityGw).await.unwrap();
    Campaign::new(launch(s3.store("crash").url, s3.environment())).run("s3", kills()).await;
}
