//! Metadata with its lists in the order in which they came to be.
//!
//! The library keeps snapshots, schemas and versions in maps, and writes them in whatever order these have: another one each time. Engines show history in the
//! order of the document, and two readings of one table should be equal.

use serde::Serialize;
use serde_json::Value;

use super::reply::{Refusal, Result};

/// Lists of tables' and views' metadata, and the members that their items are in order of.
const LISTS: [(&str, &[&str]); 6] = [
    ("snapshots", &["sequence-number", "timestamp-ms", "snapshot-id"]),
    ("schemas", &["schema-id"]),
    ("partition-specs", &["spec-id"]),
    ("sort-orders", &["order-id"]),
    ("versions", &["version-id"]),
    ("statistics", &["snapshot-id"]),
];

/// The document of a table's or view's metadata.
pub(super) fn in_order(metadata: &impl Serialize) -> Result<Value> {
    let mut document = serde_json::to_value(metadata)
        .map_err(|error| Refusal::bad_request(format!("metadata that cannot be written as JSON: {error}")))?;
    for (list, members) in LISTS {
        if let Some(items) = document.get_mut(list).and_then(Value::as_array_mut) {
            items.sort_by_key(|item| members.iter().map(|member| item[*member].as_i64()).collect::<Vec<_>>());
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_in_the_order_in_which_they_came_to_be() {
        let document = json!({
            "snapshots": [
                {"snapshot-id": 9, "sequence-number": 2, "timestamp-ms": 5},
                {"snapshot-id": 1, "timestamp-ms": 7},
                {"snapshot-id": 4, "sequence-number": 1, "timestamp-ms": 6},
            ],
            "versions": [{"version-id": 2}, {"version-id": 1}],
            "metadata-log": [{"timestamp-ms": 2}, {"timestamp-ms": 1}],
        });
        let ordered = in_order(&document).unwrap();
        let ids: Vec<_> = ordered["snapshots"].as_array().unwrap().iter().map(|item| &item["snapshot-id"]).collect();
        assert_eq!(ids, [1, 4, 9]);
        assert_eq!(ordered["versions"], json!([{"version-id": 1}, {"version-id": 2}]));
        assert_eq!(ordered["metadata-log"], document["metadata-log"], "what has an order keeps it");
    }
}
