use object_store::path::Path;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic() -> TopicId {
    TopicId(Uuid::from_u128(1))
}

/// A file of these seqs whose rows have 50 bytes each.
fn file(first: i64, rows: u64) -> Arc<DataFile> {
    sorted_file(first, rows, 50 * rows, true)
}

fn sorted_file(first: i64, rows: u64, size: u64, sorted: bool) -> Arc<DataFile> {
    Arc::new(DataFile {
        path: Path::from(format!("{first}.parquet")),
        size,
        rows,
        seqs: (Seq(first), Seq(first + rows as i64 - 1)),
        keys: ("a".into(), "z".into()),
        prefixes: ("p".into(), "p".into()),
        sorted,
        partition: Partition::Level0,
    })
}

/// A table that is only counted: what each range has, and how often each row was written.
struct Simulated {
    files: Vec<Arc<DataFile>>,
    end: i64,
    /// Rows that were written, by flushes and by compactions.
    flushed: u64,
    rewritten: u64,
    most_ranges: usize,
}

impl Simulated {
    fn new() -> Self {
        Self { files: Vec::new(), end: 1, flushed: 0, rewritten: 0, most_ranges: 0 }
    }

    fn flush(&mut self, rows: u64) {
        self.files.push(file(self.end, rows));
        self.end += rows as i64;
        self.flushed += rows;
    }

    /// Does what is due, until nothing is.
    fn compact(&mut self, settings: &Compaction) {
        loop {
            let found = ranges(topic(), &self.files);
            let jobs = plan(&found, settings, false);
            if jobs.is_empty() {
                self.most_ranges = self.most_ranges.max(found.len());
                return;
            }
            for job in jobs {
                self.apply(&job);
            }
        }
    }

    fn apply(&mut self, job: &Job) {
        let paths: Vec<&Path> = job.files.iter().flatten().map(|file| &file.path).collect();
        let taken: Vec<usize> = (0..self.files.len()).filter(|at| paths.contains(&&self.files[*at].path)).collect();
        assert_eq!(taken.len(), paths.len(), "what is merged is live");
        assert!(taken.windows(2).all(|pair| pair[0] + 1 == pair[1]), "neighbours only");
        let lowest = taken.iter().map(|at| tier(self.files[*at].rows)).max().unwrap();
        assert!(
            tier(job.rows) > lowest || job.bytes >= Compaction::default().range_bytes_max * 3 / 4,
            "every row climbs"
        );
        self.rewritten += job.rows;
        let merged = file(job.first.0, job.rows);
        assert_eq!(merged.seqs.1, job.last);
        self.files.splice(taken[0]..=taken[taken.len() - 1], [merged]);
    }

    fn tiers(&self) -> u32 {
        tier(self.flushed) + 1
    }
}

#[test]
fn tiers_are_as_wide_as_they_are_said_to_be() {
    assert_eq!(
        [0, 1, 7, 8, 63, 64, 1 << 17, 1 << 18, (1 << 20) - 1, 1 << 20].map(tier),
        [0, 0, 0, 1, 1, 2, 5, 6, 6, 7]
    );
    for at in 0..20 {
        assert_eq!(tier(least_rows(at)), at);
        assert!(at == 0 || tier(least_rows(at) - 1) == at - 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A month of flushes: a busy and a quiet half, and bursts. What a row costs, and what a look-up has to ask, stay within what the ADR says.
    #[test]
    fn months_of_flushes_are_written_a_bounded_number_of_times_and_leave_few_ranges(
        sizes in prop::collection::vec(prop_oneof![4 => 1..2_000_u64, 2 => 2_000..50_000_u64, 1 => 50_000..2_000_000_u64], 1..40),
        months in 1..3_usize, each in 1..8_usize,
    ) {
        let settings = Compaction::default();
        let mut table = Simulated::new();
        for flush in 0..months * 30 * 24 {
            table.flush(sizes[flush % sizes.len()]);
            if flush % each == 0 {
                table.compact(&settings);
            }
        }
        table.compact(&settings);
        let settled = ranges(topic(), &table.files).iter().filter(|range| range.settled(&settings).is_some()).count();
        prop_assert!(table.rewritten <= table.flushed * u64::from(table.tiers()), "{} of {}", table.rewritten, table.flushed);
        prop_assert!(table.most_ranges <= settled + 8 * table.tiers() as usize, "{}", table.most_ranges);
        prop_assert_eq!(table.files.iter().map(|file| file.rows).sum::<u64>(), table.flushed);
    }
}

#[test]
fn a_day_of_flushes_every_three_seconds_costs_a_known_number_of_writes() {
    let (settings, mut table) = (Compaction::default(), Simulated::new());
    for _ in 0..28_800 {
        table.flush(347);
        table.compact(&settings);
    }
    let written = table.rewritten as f64 / table.flushed as f64;
    let left = ranges(topic(), &table.files).len();
    assert!(
        written < 6.0 && left < 30,
        "{written} writes a row, {left} ranges at the end, {} at most",
        table.most_ranges
    );
}

#[test]
fn a_backlog_is_merged_many_at_a_time() {
    let mut table = Simulated::new();
    (0..1_000).for_each(|_| table.flush(100));
    let jobs = plan(&ranges(topic(), &table.files), &Compaction::default(), false);
    assert!(jobs.iter().any(|job| job.ranges > 8 && job.files.len() <= RUNS_MAX), "{jobs:?}");
    table.compact(&Compaction::default());
    assert!(table.rewritten <= 4 * table.flushed && table.files.len() < 20);
}

#[test]
fn a_range_that_is_large_or_that_others_left_in_disorder_is_let_be_and_says_why() {
    let settings = Compaction::default();
    let large = ranges(topic(), &[sorted_file(1, 10, settings.range_bytes_max / 4, true)]);
    assert!(large[0].settled(&settings).unwrap().contains("as large"));
    let theirs = ranges(topic(), &[sorted_file(1, 10, UNSORTED_BYTES_MAX + 1, false)]);
    assert!(theirs[0].settled(&settings).unwrap().contains("1.parquet is not sorted"));
    let small = ranges(topic(), &[sorted_file(1, 10, UNSORTED_BYTES_MAX, false)]);
    assert_eq!(small[0].settled(&settings), None);
    let (mut files, mut end) = (Vec::new(), 1);
    for rows in [500, 500, 500_000_000, 500, 500] {
        files.push(file(end, rows));
        end += rows as i64;
    }
    assert!(
        plan(&ranges(topic(), &files), &settings, true).iter().all(|job| job.rows == 1_000),
        "never across a settled one"
    );
}

#[test]
fn files_that_overlap_are_one_range_and_those_that_follow_each_other_by_key_one_run() {
    let part = |name: &str, keys: (&str, &str), seqs: (i64, i64)| {
        let mut part = (*file(seqs.0, 10)).clone();
        part.path = Path::from(name);
        part.keys = (keys.0.into(), keys.1.into());
        part.seqs = (Seq(seqs.0), Seq(seqs.1));
        Arc::new(part)
    };
    let files = [
        part("a", ("a", "f"), (1, 90)),
        part("b", ("g", "z"), (3, 99)),
        part("c", ("a", "z"), (95, 120)),
        part("d", ("a", "z"), (121, 130)),
    ];
    let found = ranges(topic(), &files);
    assert_eq!(
        found.iter().map(|range| (range.first.0, range.last.0, range.runs.len())).collect::<Vec<_>>(),
        [(1, 120, 2), (121, 130, 1)]
    );
}

#[test]
fn buckets_double_as_the_average_prefix_grows() {
    let settings = Compaction { bucket_bytes: 100, ..Compaction::default() };
    let level1 = |prefix: &str, size: u64| {
        let mut file = (*sorted_file(1, 10, size, true)).clone();
        file.partition = Partition::Level1 { prefix: prefix.into(), bucket: 0, buckets: 1 };
        Arc::new(file)
    };
    assert_eq!(buckets_wanted(&[sorted_file(1, 10, 1_000_000, true)], 1, &settings), 1, "level 0 does not count");
    assert_eq!(buckets_wanted(&[level1("a", 99)], 1, &settings), 1);
    assert_eq!(buckets_wanted(&[level1("a", 250)], 1, &settings), 4);
    assert_eq!(buckets_wanted(&[level1("a", 250), level1("b", 1)], 1, &settings), 2);
    assert_eq!(buckets_wanted(&[level1("a", 1)], 8, &settings), 8, "they never become fewer");
    assert_eq!(buckets_wanted(&[level1("a", u64::MAX / 2)], 1, &settings), BUCKETS_MAX);
}
