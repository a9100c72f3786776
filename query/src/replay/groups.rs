//! Files by seq range: those that tile are read one after the other, those that overlap together.

use std::sync::Arc;

use catalog::table::DataFile;
use schemas::Seq;

/// Files whose seq ranges overlap, directly or through others. Groups do not overlap each other.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// In order of their first seq.
    pub(crate) files: Vec<Arc<DataFile>>,
    /// Lowest seq.
    pub(crate) first: Seq,
    /// Highest seq, inclusive.
    pub(crate) last: Seq,
}

/// Groups `files`, which are in order of their first seq. A flush's file is a group of its own: flushes tile.
pub(crate) fn groups<'a>(files: impl IntoIterator<Item = &'a Arc<DataFile>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for file in files {
        let (first, last) = file.seqs;
        match groups.last_mut() {
            Some(group) if first <= group.last => {
                group.files.push(Arc::clone(file));
                group.last = group.last.max(last);
            }
            _ => groups.push(Group { files: vec![Arc::clone(file)], first, last }),
        }
    }
    groups
}
