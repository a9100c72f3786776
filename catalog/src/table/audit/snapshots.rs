//! What a table's metadata says of itself, apart from all files: whose it is, and that its flushes tile. Pure.

use iceberg::spec::{FormatVersion, SnapshotRef, TableMetadata};
use schemas::{Seq, TopicDef, Watermark};

use super::super::properties;
use super::super::rowhash::RowHash;
use super::super::verify::{TOTAL_RECORDS, ancestors, verified_watermark};
use super::ranges::{Flushed, Recorded};
use crate::audit::{Audited, Checks, Law, Stop, agree, laws};

/// What the metadata promises of the files.
#[derive(Debug)]
pub(super) struct Promised {
    pub(super) watermark: Watermark,
    /// First seq that retention has left.
    pub(super) retained: Seq,
    /// Rows that retention took away.
    pub(super) removed: i64,
    /// Hash of these rows, from `hash_base` on.
    pub(super) removed_hash: RowHash,
    /// Hash of all rows that were ever flushed, from `hash_base` on.
    pub(super) total: RowHash,
    /// The first seq that `total` is of: 1, or where a flush carried the drop of a column.
    pub(super) hash_base: Seq,
    /// What the flushes recorded whose snapshots are still there.
    pub(super) flushes: Vec<Flushed>,
}

/// What one snapshot's summary says.
struct Summary<'a> {
    object: &'a str,
    snapshot: &'a SnapshotRef,
}

impl Summary<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.snapshot.summary().additional_properties.get(name).map(String::as_str)
    }

    fn place(&self, name: &str) -> String {
        format!("snapshot {}, {name}", self.snapshot.snapshot_id())
    }

    fn seq(&self, name: &str, law: Law) -> Audited<Seq> {
        let text = self.text(name).unwrap_or("nothing");
        match properties::parse_watermark(text, "") {
            Ok(Watermark(seq)) => Ok(seq),
            Err(_) => Err(Stop::fault_at(law, self.object, self.place(name), "a map of seqs", text)),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str, law: Law) -> Audited<T> {
        let text = self.text(name).unwrap_or("nothing");
        text.parse().map_err(|_| Stop::fault_at(law, self.object, self.place(name), "a number", text))
    }
}

/// Checks identity, watermark and tiles.
pub(super) fn check(
    metadata: &TableMetadata,
    def: &TopicDef,
    location: &str,
    object: &str,
    checks: &mut Checks,
) -> Audited<Promised> {
    identity(metadata, def, location, object)?;
    let watermark = verified_watermark(metadata, def.id, &format!("table of {}", def.name))
        .map_err(|error| Stop::of(laws::AGREED, object, error))?;
    checks.held(laws::AGREED, "watermarks", 1);
    let removed = match metadata.properties().get(properties::REMOVED_ROWS) {
        Some(text) => text
            .parse()
            .map_err(|_| Stop::fault_at(laws::AGREED, object, properties::REMOVED_ROWS, "a number", text))?,
        None => 0,
    };
    let removed_hash = match metadata.properties().get(properties::REMOVED_ROW_HASH) {
        Some(text) => text.parse().map_err(|_| {
            Stop::fault_at(laws::AGREED, object, properties::REMOVED_ROW_HASH, "32 hexadecimal digits", text)
        })?,
        None => RowHash::default(),
    };
    let retained = properties::seq_or_first(metadata, properties::RETAINED, object)
        .map_err(|error| Stop::of(laws::AGREED, object, error))?;
    if retained > watermark.0 {
        let expected = format!("a seq up to the watermark, {watermark}");
        return Err(Stop::fault_at(laws::AGREED, object, properties::RETAINED, expected, retained));
    }
    let total = total(metadata, object)?;
    let hash_base = hash_base(metadata, object)?;
    let flushes = tiles(metadata, object, checks)?;
    if let Some(main) = metadata.current_snapshot() {
        let summary = Summary { object, snapshot: main };
        if summary.text(TOTAL_RECORDS).is_some() {
            let rows: i64 = summary.parsed(TOTAL_RECORDS, laws::DENSE)?;
            let expected = watermark.0.0 - 1 - removed;
            agree(laws::DENSE, object, summary.place(TOTAL_RECORDS), expected, rows)?;
        }
    }
    Ok(Promised { watermark, retained, removed, removed_hash, total, hash_base, flushes })
}

fn identity(metadata: &TableMetadata, def: &TopicDef, location: &str, object: &str) -> Audited<()> {
    let said = |name: &str| metadata.properties().get(name).map_or("none", String::as_str);
    agree(laws::IDENTITY, object, "table uuid", def.id.to_string(), metadata.uuid().to_string())?;
    agree(laws::IDENTITY, object, properties::TOPIC, def.id.to_string().as_str(), said(properties::TOPIC))?;
    agree(laws::IDENTITY, object, properties::TENANT, def.tenant.to_string().as_str(), said(properties::TENANT))?;
    agree(laws::IDENTITY, object, "location", location, metadata.location())?;
    match metadata.format_version() {
        FormatVersion::V2 => Ok(()),
        other => Err(Stop::fault_at(laws::IDENTITY, object, "format version", 2, format!("{other:?}"))),
    }
}

/// The hash of all rows that were ever flushed: the property, which is what the last flush left.
fn total(metadata: &TableMetadata, object: &str) -> Audited<RowHash> {
    let text = metadata.properties().get(properties::TOTAL_ROW_HASH).map_or("nothing", String::as_str);
    let wrong = |expected: &str| Stop::fault_at(laws::AGREED, object, properties::TOTAL_ROW_HASH, expected, text);
    let total: RowHash = text.parse().map_err(|_| wrong("32 hexadecimal digits"))?;
    let carrier = ancestors(metadata)
        .find_map(|snapshot| snapshot.summary().additional_properties.get(properties::TOTAL_ROW_HASH));
    match carrier {
        Some(left) if left != text => Err(wrong(&format!("{left}, which the last flush left"))),
        None if metadata.current_snapshot().is_none() && total != RowHash::default() => {
            Err(wrong("0, since nothing was flushed"))
        }
        _ => Ok(total),
    }
}

/// From which seq on the hash of all rows counts, as the last flush left it.
fn hash_base(metadata: &TableMetadata, object: &str) -> Audited<Seq> {
    let stored = metadata.properties().get(properties::ROW_HASH_BASE);
    let last =
        ancestors(metadata).find(|snapshot| snapshot.summary().additional_properties.contains_key(properties::FROM));
    let left = last.map(|last| last.summary().additional_properties.get(properties::ROW_HASH_BASE));
    if let Some(left) = left.filter(|left| *left != stored) {
        let say = |text: Option<&String>| text.map_or("nothing", String::as_str).to_owned();
        let expected = format!("{}, which the last flush left", say(left));
        return Err(Stop::fault_at(laws::AGREED, object, properties::ROW_HASH_BASE, expected, say(stored)));
    }
    match stored.map(|text| properties::parse_watermark(text, "").map_err(|_| text)) {
        None => Ok(Seq::FIRST),
        Some(Ok(Watermark(seq))) => Ok(seq),
        Some(Err(text)) => Err(Stop::fault_at(laws::AGREED, object, properties::ROW_HASH_BASE, "a map of seqs", text)),
    }
}

/// Flushes tile, as far back as their snapshots survive. Returns what they recorded.
fn tiles(metadata: &TableMetadata, object: &str, checks: &mut Checks) -> Audited<Vec<Flushed>> {
    let mut line: Vec<_> = ancestors(metadata).collect();
    line.reverse();
    // Before the very first snapshot there was nothing; before the first that survives, nobody knows.
    let begun = line.first().is_none_or(|first| first.parent_snapshot_id().is_none());
    let mut before: Option<(Seq, RowHash)> = begun.then(|| (Seq::FIRST, RowHash::default()));
    let mut sequence = 0;
    let mut flushes = Vec::new();
    for snapshot in line {
        let summary = Summary { object, snapshot };
        if snapshot.sequence_number() <= sequence {
            let expected = format!("more than {sequence}");
            return Err(Stop::fault_at(
                laws::LINKED,
                object,
                summary.place("sequence number"),
                expected,
                snapshot.sequence_number(),
            ));
        }
        sequence = snapshot.sequence_number();
        if summary.text(properties::FROM).is_none() {
            continue;
        }
        let flush = flush(&summary, before)?;
        before = Some((flush.to, summary.parsed(properties::TOTAL_ROW_HASH, laws::TILED)?));
        flushes.push(Flushed { rows: flush, schema_id: snapshot.schema_id() });
        checks.held(laws::TILED, "flushes", 1);
    }
    Ok(flushes)
}

/// One flush: it begins where the one before it ended, and has as many rows as seqs.
fn flush(summary: &Summary<'_>, before: Option<(Seq, RowHash)>) -> Audited<Recorded> {
    let law = laws::TILED;
    let (from, to) = (summary.seq(properties::FROM, law)?, summary.seq(properties::TO, law)?);
    let (rows, hash): (i64, RowHash) =
        (summary.parsed(properties::ROWS, law)?, summary.parsed(properties::ROW_HASH, law)?);
    let total: RowHash = summary.parsed(properties::TOTAL_ROW_HASH, law)?;
    agree(law, summary.object, summary.place(properties::ROWS), to.0 - from.0, rows)?;
    agree(law, summary.object, summary.place(properties::WATERMARK), to, summary.seq(properties::WATERMARK, law)?)?;
    if let Some((watermark, hashed)) = before {
        agree(law, summary.object, summary.place(properties::FROM), watermark, from)?;
        // Where a column was dropped the sum begins anew.
        let base = summary.text(properties::ROW_HASH_BASE).and_then(|text| properties::parse_watermark(text, "").ok());
        let expected = if base == Some(Watermark(from)) { hash } else { hashed + hash };
        agree(law, summary.object, summary.place(properties::TOTAL_ROW_HASH), expected, total)?;
    }
    let object = format!("{}, snapshot {}", summary.object, summary.snapshot.snapshot_id());
    Ok(Recorded { from, to, hash, object })
}
