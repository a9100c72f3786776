//! Where a kill struck: read from the spans that the server had opened and not closed when it died.

use std::fmt;
use std::time::Duration;

use tests::process::Process;

/// What a kill can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A segment on its way to the store.
    Put,
    /// A flush's commit.
    Commit,
    /// A checkpoint, the floor's move, and what lies below it removed.
    Trim,
    /// The claim, the walk, the seal and the opening of a lane.
    TakeOver,
    /// State, tails and tables rebuilt after that, before the first append.
    Rebuild,
}

impl Step {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Put, Self::Commit, Self::Trim, Self::TakeOver, Self::Rebuild];

    /// What the server's log says at the step's begin and at its end.
    fn span(self) -> [&'static str; 2] {
        match self {
            Self::Put => ["ingest::sequence::put: new", "ingest::sequence::put: close"],
            Self::Commit => ["catalog::table::commit: new", "catalog::table::commit: close"],
            Self::Trim => ["ingest::lane::trim: new", "ingest::lane::trim: close"],
            Self::TakeOver => ["ingest::lane::takeover: new", "ingest::lane::takeover: close"],
            Self::Rebuild => ["ingest::lane::takeover: close", "ingest::sequence::keeper: close"],
        }
    }

    /// True if a server does it when it starts, before it answers anybody.
    pub(crate) fn is_at_start(self) -> bool {
        matches!(self, Self::TakeOver | Self::Rebuild)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Commit => "commit",
            Self::Trim => "trim",
            Self::TakeOver => "take-over",
            Self::Rebuild => "rebuild after a take-over",
        })
    }
}

/// True if the server has begun a step after its first `skip` lines.
pub(crate) fn has_begun(process: &Process, step: Step, skip: usize) -> bool {
    let [opened, _] = step.span();
    process.has_said(skip, |line| line.contains(opened))
}

/// Waits until the server has begun a step after its first `skip` lines.
pub(crate) async fn begun(process: &Process, step: Step, skip: usize) {
    for _ in 0..30_000 {
        if has_begun(process, step, skip) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("no {step} was begun in half a minute:\n{}", process.said().join("\n"));
}

/// The steps that were begun and not ended.
pub(crate) fn under_way(said: &[String]) -> Vec<Step> {
    let times = |text: &str| said.iter().filter(|line| line.contains(text)).count();
    let open = |step: &Step| {
        let [opened, closed] = step.span();
        times(opened) > times(closed)
    };
    Step::ALL.into_iter().filter(open).collect()
}

/// What a take-over had to read, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    bytes: u64,
    ms: u64,
}

impl Recovery {
    /// Read from the server's own words, as often as it came so far.
    pub(crate) fn all(said: &[String]) -> Vec<Self> {
        said.iter().filter(|line| line.contains("lane taken over")).filter_map(|line| Self::parse(line)).collect()
    }

    fn parse(line: &str) -> Option<Self> {
        let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
        Some(Self { bytes: field("bytes=")?, ms: field("ms=")? })
    }

    /// How long one took on average, if there was one.
    pub(crate) fn mean(all: &[Self]) -> Option<Duration> {
        let ms = all.iter().map(|recovery| recovery.ms).sum::<u64>();
        ms.checked_div(all.len() as u64).map(|ms| Duration::from_millis(ms.max(1)))
    }

    /// All of them in one line.
    pub(crate) fn summary(all: &[Self]) -> String {
        let (bytes, ms) = all.iter().fold((0, 0), |(bytes, ms), recovery| (bytes + recovery.bytes, ms + recovery.ms));
        let longest = all.iter().map(|recovery| recovery.ms).max().unwrap_or(0);
        let megabytes = bytes as f64 / 1e6;
        let read =
            format!("{} take-overs read {megabytes:.1} MB of log in {ms} ms, the longest took {longest} ms", all.len());
        // Of a short log the walk to its end costs more than its bytes.
        if megabytes < all.len() as f64 {
            read
        } else {
            format!("{read}: {:.2} s per 100 MB", ms as f64 / megabytes / 10.0)
        }
    }
}
