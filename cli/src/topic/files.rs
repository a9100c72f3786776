//! `firn topic files`, `firn topic compact`.

use catalog::table::{Compacted, ListedFile, TableReport};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::render::{bytes, count, json_line, table};

/// Answer of `compact-topic`.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    compacted: String,
    #[serde(flatten)]
    done: Compacted,
}

/// Shows a table's files by seq range, and what will be merged next.
pub(super) async fn list(client: &Client, name: &str, as_json: bool) -> Result<(), Failure> {
    let report: TableReport = client.action_one("topic-files", &json!({ "topic": name })).await?;
    if as_json {
        return json_line(&report);
    }
    let ranges = report.ranges.iter();
    let rows = ranges.flat_map(|range| range.files.iter().map(move |file| (range, file)));
    let row = |(range, file): (&catalog::table::ListedRange, &ListedFile)| {
        let place = match (&file.prefix, &file.bucket) {
            (Some(prefix), Some(bucket)) => format!("{prefix} {bucket}"),
            _ => "all".to_owned(),
        };
        let order = if file.sorted { "by key" } else { "none" };
        let seqs = format!("{} to {}", range.first, range.last);
        vec![
            seqs,
            range.tier.to_string(),
            file.level.to_string(),
            place,
            count(file.rows),
            bytes(file.bytes),
            order.into(),
        ]
    };
    println!("{}", table(&["seqs", "tier", "level", "partition", "rows", "bytes", "order"], rows.map(row)));
    let TableReport { buckets, snapshots, manifests, .. } = report;
    println!(
        "{} ranges, {} manifests, {} snapshots, {buckets} buckets",
        report.ranges.len(),
        count(manifests),
        count(snapshots)
    );
    for range in &report.ranges {
        if let Some(reason) = &range.settled {
            println!("let be: seqs {} to {}: {reason}", range.first, range.last);
        }
    }
    for job in &report.next {
        println!("next: seqs {} to {}, {}: {}", job.first, job.last, bytes(job.bytes), job.reason);
    }
    if report.next.is_empty() {
        println!("nothing is due");
    }
    Ok(())
}

/// Compacts, and says what it did.
pub(super) async fn compact(client: &Client, name: &str, whole: bool, as_json: bool) -> Result<(), Failure> {
    let answer: Done = client.action_one("compact-topic", &json!({ "topic": name, "whole": whole })).await?;
    if as_json {
        return json_line(&answer);
    }
    let Compacted { jobs, rows, files_in, bytes_in, files_out, bytes_out } = answer.done;
    match jobs {
        0 => println!("nothing of {name} was due"),
        _ => println!(
            "{} rows in {} files, {}, are now in {}, {}",
            count(rows),
            count(files_in),
            bytes(bytes_in),
            count(files_out),
            bytes(bytes_out)
        ),
    }
    Ok(())
}
