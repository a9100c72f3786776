//! Which task reads which files, or byte ranges of them, and whether each then sees its rows in key order.

use std::sync::Arc;

use catalog::table::DataFile;
use datafusion::common::Statistics;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileGroupPartitioner};

/// Less than this is not worth a second task, bytes.
const CUT_BYTES_MIN: u64 = 10 << 20;

/// Files for some tasks.
pub(super) struct Arrangement {
    /// One group a task.
    pub(super) groups: Vec<FileGroup>,
    /// True if the rows of each group come in order of (`_prefix`, `_key`, `_seq`).
    pub(super) in_key_order: bool,
}

/// Arranges files, each with its statistics, for up to `tasks` tasks that read about as much each.
pub(super) fn arrange(mut files: Vec<(Arc<DataFile>, Statistics)>, tasks: usize) -> Arrangement {
    let sorted = files.iter().all(|(file, _)| file.sorted);
    if sorted {
        files.sort_by(|(a, _), (b, _)| (&a.prefixes.0, &a.keys.0).cmp(&(&b.prefixes.0, &b.keys.0)));
    }
    let in_a_row = sorted && files.windows(2).all(|pair| ends_before(&pair[0].0, &pair[1].0));
    let alone = sorted && !in_a_row && fair_alone(files.iter().map(|(file, _)| file.size), tasks);
    let files = files.into_iter().map(|(file, statistics)| scanned(&file, statistics));
    let groups: Vec<_> = match alone {
        true => files.map(|file| FileGroup::new(vec![file])).collect(),
        false => vec![FileGroup::new(files.collect())],
    };
    let partitioner = FileGroupPartitioner::new()
        .with_target_partitions(tasks)
        .with_repartition_file_min_size(CUT_BYTES_MIN as usize);
    let split = partitioner.with_preserve_order_within_groups(alone).repartition_file_groups(&groups);
    Arrangement { groups: split.unwrap_or(groups), in_key_order: alone || in_a_row }
}

/// True if tasks that read one file each, the largest cut for those left over, have about as much to do as if all were cut evenly.
fn fair_alone(sizes: impl ExactSizeIterator<Item = u64> + Clone, tasks: usize) -> bool {
    let (files, tasks) = (sizes.len() as u64, tasks as u64);
    let (largest, total) = (sizes.clone().max().unwrap_or(0), sizes.sum::<u64>());
    files <= tasks && (total < CUT_BYTES_MIN || 2 * tasks * (largest / (tasks - files + 1)) <= 3 * total)
}

/// True if every row of `first` comes before every row of `second` in key order, as far as the bounds tell.
fn ends_before(first: &DataFile, second: &DataFile) -> bool {
    (&first.prefixes.1, &first.keys.1) < (&second.prefixes.0, &second.keys.0)
}

fn scanned(file: &DataFile, statistics: Statistics) -> PartitionedFile {
    let mut scanned = PartitionedFile::new("", file.size);
    scanned.object_meta.location = file.path.clone();
    scanned.statistics = Some(Arc::new(statistics));
    scanned
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use catalog::table::Partition;
    use object_store::path::Path;
    use schemas::Seq;

    use super::*;

    fn file(name: &str, prefix: &str, keys: (&str, &str), mib: u64, sorted: bool) -> (Arc<DataFile>, Statistics) {
        let file = DataFile {
            path: Path::from(name),
            size: mib << 20,
            rows: 1,
            seqs: (Seq(1), Seq(1)),
            keys: (keys.0.into(), keys.1.into()),
            prefixes: (prefix.into(), prefix.into()),
            sorted,
            partition: Partition::Level0,
        };
        (Arc::new(file), Statistics::new_unknown(&Schema::empty()))
    }

    /// The groups as `name` or `name[start-end]`, in MiB.
    fn shown(arrangement: &Arrangement) -> Vec<Vec<String>> {
        let shown = |file: &PartitionedFile| match &file.range {
            Some(range) => format!("{}[{}-{}]", file.path(), range.start >> 20, range.end >> 20),
            None => file.path().to_string(),
        };
        arrangement.groups.iter().map(|group| group.iter().map(shown).collect()).collect()
    }

    #[test]
    fn files_that_follow_each_other_are_read_in_a_row() {
        let files = vec![
            file("c", "p/b", ("a", "z"), 20, true),
            file("b", "p/a", ("n", "z"), 20, true),
            file("a", "p/a", ("a", "m"), 20, true),
        ];
        let arrangement = arrange(files, 2);
        assert!(arrangement.in_key_order);
        assert_eq!(shown(&arrangement), [["a[0-20]", "b[0-10]"], ["b[10-20]", "c[0-20]"]]);
    }

    #[test]
    fn files_that_overlap_keep_their_order_only_alone() {
        let files = || vec![file("a", "p", ("a", "m"), 30, true), file("b", "p", ("m", "z"), 10, true)];
        let arrangement = arrange(files(), 3);
        assert!(arrangement.in_key_order);
        assert_eq!(shown(&arrangement), [["a[0-15]"], ["b[0-10]"], ["a[15-30]"]]);
        let arrangement = arrange(files(), 1);
        assert!(!arrangement.in_key_order);
        assert_eq!(shown(&arrangement), [["a[0-30]", "b[0-10]"]]);
    }

    #[test]
    fn one_large_file_is_not_left_to_one_task_for_the_sake_of_order() {
        let files = vec![file("a", "p", ("a", "m"), 60, true), file("b", "p", ("m", "z"), 2, true)];
        let arrangement = arrange(files, 2);
        assert!(!arrangement.in_key_order);
        assert_eq!(shown(&arrangement), [vec!["a[0-31]"], vec!["a[31-60]", "b[0-2]"]]);
    }

    #[test]
    fn files_that_another_engine_wrote_unsorted_have_no_order() {
        let files = vec![file("a", "p", ("a", "m"), 1, true), file("b", "p", ("n", "z"), 1, false)];
        assert!(!arrange(files, 4).in_key_order);
    }

    #[test]
    fn little_is_read_by_one_task() {
        let files = vec![file("a", "p", ("a", "m"), 1, true), file("b", "p", ("n", "z"), 1, true)];
        assert_eq!(shown(&arrange(files, 2)), [["a", "b"]]);
    }
}
