//! From a snapshot to its live files: manifest list and manifests, each whole, agreeing with one another.

use std::collections::HashSet;

use bytes::Bytes;
use iceberg::spec::{
    DataContentType, DataFileFormat, FormatVersion, Manifest, ManifestContentType, ManifestFile, ManifestList,
    ManifestStatus, SnapshotRef, TableMetadata,
};
use object_store::path::Path;
use schemas::{ErrorKind, Seq, Watermark};

use super::super::Shared;
use super::super::files::partition;
use super::super::naming::{claimed_id, content_id};
use super::super::verify::TOTAL_RECORDS;
use super::file::{Planned, check_name};
use crate::audit::{Audited, Checks, Stop, agree, laws};

/// An object that something names: its path and all of it, checked against its name.
pub(super) async fn fetch(shared: &Shared, uri: &str, named_by: &str) -> Audited<(Path, Bytes)> {
    let path = place(shared, uri, named_by)?;
    let content = match shared.read(uri).await {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Stop::fault(laws::INTACT, path, format!("an object, which {named_by} names"), "none"));
        }
        Err(error) => return Err(Stop::Unseen(error)),
    };
    check_name(&path, claimed_id(uri), || content_id(&content))?;
    Ok((path, content))
}

/// The path of a URI that something names.
fn place(shared: &Shared, uri: &str, named_by: &str) -> Audited<Path> {
    shared.store.path(uri).map_err(|_| {
        Stop::fault(
            laws::INTACT,
            named_by,
            format!("names of objects under {}", shared.store.uri(&Path::default())),
            uri,
        )
    })
}

/// The live files of a snapshot, in order of their first seqs.
pub(super) async fn plan(
    shared: &Shared,
    metadata: &TableMetadata,
    snapshot: &SnapshotRef,
    watermark: Watermark,
    checks: &mut Checks,
) -> Audited<Vec<Planned>> {
    let named_by = format!("snapshot {}", snapshot.snapshot_id());
    let (list, content) = fetch(shared, snapshot.manifest_list(), &named_by).await?;
    let parsed = ManifestList::parse_with_version(&content, FormatVersion::V2);
    let manifests =
        parsed.map_err(|error| Stop::fault(laws::INTACT, &list, "a manifest list that can be read", error))?;
    let mut files: Vec<Planned> = Vec::new();
    let mut known = HashSet::new();
    for manifest in manifests.entries() {
        for file in read(shared, metadata, manifest, list.as_ref(), watermark).await? {
            if !known.insert(file.path.clone()) {
                let found = format!("{} a second time", file.path);
                return Err(Stop::fault(laws::ONCE, file.manifest, "each live file once", found));
            }
            files.push(file);
        }
        checks.held(laws::INTACT, "manifests", 1);
    }
    files.sort_by(|a, b| (a.seqs.0, a.path.as_ref()).cmp(&(b.seqs.0, b.path.as_ref())));
    agree_with_summary(snapshot, &files, &named_by)?;
    checks.held(laws::INTACT, "manifest lists", 1);
    Ok(files)
}

/// The live files of one manifest.
async fn read(
    shared: &Shared,
    metadata: &TableMetadata,
    listed: &ManifestFile,
    list: &str,
    watermark: Watermark,
) -> Audited<Vec<Planned>> {
    let (path, content) = fetch(shared, &listed.manifest_path, list).await?;
    agree(laws::INTACT, &path, "bytes", listed.manifest_length, content.len() as i64)?;
    let manifest = Manifest::parse_avro(&content)
        .map_err(|error| Stop::fault(laws::INTACT, &path, "a manifest that can be read", error))?;
    if listed.content != ManifestContentType::Data || manifest.metadata().content != ManifestContentType::Data {
        return Err(Stop::fault(laws::ONCE, &path, "data files: a topic's table has no deletes", "delete files"));
    }
    let spec = manifest.metadata().partition_spec.spec_id();
    agree(laws::INTACT, &path, "partition spec", listed.partition_spec_id, spec)?;
    agree_on_counts(listed, &manifest, &path)?;
    let mut files = Vec::new();
    for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
        let file = entry.data_file().clone();
        if file.content_type() != DataContentType::Data || file.file_format() != DataFileFormat::Parquet {
            return Err(Stop::fault_at(laws::INTACT, &path, file.file_path(), "a Parquet data file", "another"));
        }
        let sequence = entry.sequence_number.unwrap_or(listed.sequence_number);
        let known = listed.min_sequence_number..=metadata.last_sequence_number();
        if !known.contains(&sequence) {
            let expected = format!("a sequence number from {} to {}", known.start(), known.end());
            return Err(Stop::fault_at(laws::LINKED, &path, file.file_path(), expected, sequence));
        }
        let place = place(shared, file.file_path(), path.as_ref())?;
        let partition = partition(file.partition(), Some(&manifest.metadata().partition_spec));
        files.push(Planned::new(file, place, path.to_string(), Seq(watermark.0.0 - 1), partition));
    }
    Ok(files)
}

/// What the list says of a manifest is what is in it.
fn agree_on_counts(listed: &ManifestFile, manifest: &Manifest, path: &Path) -> Audited<()> {
    let count = |status: ManifestStatus| {
        let of_status = manifest.entries().iter().filter(move |entry| entry.status() == status);
        of_status.fold((0_u32, 0_u64), |(files, rows), entry| (files + 1, rows + entry.record_count()))
    };
    for (status, files, rows) in [
        (ManifestStatus::Added, listed.added_files_count, listed.added_rows_count),
        (ManifestStatus::Existing, listed.existing_files_count, listed.existing_rows_count),
        (ManifestStatus::Deleted, listed.deleted_files_count, listed.deleted_rows_count),
    ] {
        let found = count(status);
        agree(laws::INTACT, path, format!("{status:?} files"), files.unwrap_or(found.0), found.0)?;
        agree(laws::INTACT, path, format!("rows of {status:?} files"), rows.unwrap_or(found.1), found.1)?;
    }
    Ok(())
}

/// What a snapshot says of its files in all is what they are. Other engines may leave any of it out.
fn agree_with_summary(snapshot: &SnapshotRef, files: &[Planned], object: &str) -> Audited<()> {
    let said =
        |name: &str| snapshot.summary().additional_properties.get(name).and_then(|text| text.parse::<u64>().ok());
    let sum = |value: fn(&Planned) -> u64| files.iter().map(value).sum::<u64>();
    for (name, found) in [
        ("total-data-files", files.len() as u64),
        (TOTAL_RECORDS, sum(|file| file.entry.record_count())),
        ("total-files-size", sum(|file| file.entry.file_size_in_bytes())),
    ] {
        if let Some(said) = said(name).filter(|said| *said != found) {
            let gap =
                first_gap(files).map(|gap| format!("; none of its files begins with seq {gap}")).unwrap_or_default();
            return Err(Stop::fault_at(laws::INTACT, object, name, said, format!("{found} in its manifests{gap}")));
        }
    }
    Ok(())
}

/// The first seq that no file's bounds have, below the last one.
fn first_gap(files: &[Planned]) -> Option<Seq> {
    let mut next = Seq::FIRST;
    for file in files {
        if file.seqs.0 > next {
            return Some(next);
        }
        next = next.max(Seq(file.seqs.1.0 + 1));
    }
    None
}
