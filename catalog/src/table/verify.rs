//! Whether a table is what its topic's flushes left (P4.1): the right table, and not rolled back.

use iceberg::spec::TableMetadata;
use schemas::planted::{Bug, planted};
use schemas::{ErrorKind, TopicId, Watermark};

use super::properties;
use crate::error::{CatalogError, Result};

/// The table's watermark, if it can be believed.
///
/// Errors: `Conflict` if the table is another topic's, or `main` is not a descendant of the last flush; `Corrupt` if a property cannot be read.
pub(crate) fn verified_watermark(metadata: &TableMetadata, topic: TopicId, place: &str) -> Result<Watermark> {
    let conflict = |message: String| Err(CatalogError::new(ErrorKind::Conflict, format!("{place}: {message}")));
    let owner = metadata.properties().get(properties::TOPIC);
    let is_topics = owner == Some(&topic.to_string()) && metadata.uuid() == topic.0;
    if !is_topics && !planted(Bug::BaseUnchecked) {
        return conflict(format!(
            "the table should be of topic {topic}, but is of {} (uuid {}); it was dropped and made again, or replaced",
            owner.map_or("none", String::as_str),
            metadata.uuid(),
        ));
    }
    let stored = property(metadata, properties::WATERMARK, place)?;
    let watermark = properties::parse_watermark(stored, place)?;
    let sequence: i64 = number(metadata, properties::WATERMARK_SEQUENCE, place)?;

    let Some(main) = metadata.current_snapshot() else {
        return match sequence {
            0 if watermark == Watermark::START => Ok(watermark),
            _ => conflict(format!(
                "no snapshot is current, but events below {watermark} were flushed: rolled back by others"
            )),
        };
    };
    if let Some(text) =
        ancestors(metadata).find_map(|snapshot| snapshot.summary().additional_properties.get(properties::WATERMARK))
    {
        let found = properties::parse_watermark(text, place)?;
        return match found == watermark {
            true => Ok(watermark),
            false => conflict(format!(
                "events below {watermark} were flushed, but the current snapshot {} holds those below {found}: rolled back by others",
                main.snapshot_id()
            )),
        };
    }
    let removed: i64 = match metadata.properties().contains_key(properties::REMOVED_ROWS) {
        true => number(metadata, properties::REMOVED_ROWS, place)?,
        false => 0,
    };
    let live = main.summary().additional_properties.get(TOTAL_RECORDS).and_then(|rows| rows.parse::<i64>().ok());
    let expected = watermark.0.0 - 1 - removed;
    if main.sequence_number() < sequence || live != Some(expected) {
        return conflict(format!(
            "no flush is left in the history of snapshot {}; expected sequence number {sequence} or above and {expected} rows, found {} and {live:?}",
            main.snapshot_id(),
            main.sequence_number(),
        ));
    }
    Ok(watermark)
}

/// Iceberg's name of the live rows in a snapshot's summary.
pub(crate) const TOTAL_RECORDS: &str = "total-records";

/// `main` and its parents, as far back as they survive.
pub(crate) fn ancestors(metadata: &TableMetadata) -> impl Iterator<Item = &iceberg::spec::SnapshotRef> {
    std::iter::successors(metadata.current_snapshot(), |snapshot| {
        snapshot.parent_snapshot_id().and_then(|parent| metadata.snapshot_by_id(parent))
    })
}

/// A property that every topic's table has. Errors: `Corrupt` if it is missing.
pub(crate) fn property<'a>(metadata: &'a TableMetadata, name: &str, place: &str) -> Result<&'a str> {
    metadata
        .properties()
        .get(name)
        .map(String::as_str)
        .ok_or_else(|| CatalogError::new(ErrorKind::Corrupt, format!("{place}: the property {name} is missing")))
}

/// A property that is a number. Errors: `Corrupt` if it is missing or is none.
pub(crate) fn number<T: std::str::FromStr>(metadata: &TableMetadata, name: &str, place: &str) -> Result<T> {
    let text = property(metadata, name, place)?;
    text.parse().map_err(|_| {
        CatalogError::new(
            ErrorKind::Corrupt,
            format!("{place}: the property {name} should be a number, found {text:?}"),
        )
    })
}
