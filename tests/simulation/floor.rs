//! I7, each time that a floor moves: what it passes is in a table, in a parked object that the root's checkpoint names, or was dropped. Read from the
//! objects alone.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::objects::{Objects, content, place, slot};
use crate::outsider::MARK;

/// Length of a segment's header before its topics, and of each of them: id, shard, last seq.
const FIXED_BYTES: usize = 96;
const TOPIC_BYTES: usize = 28;

/// What is wrong with the revision of a lane's root that was just written at `path`, if it is one.
pub(crate) fn look(objects: &Objects, path: &str) -> Vec<String> {
    let Some(lane) = path.strip_suffix("/root.json").filter(|lane| lane.starts_with("lanes/")) else {
        return Vec::new();
    };
    let mut revisions = objects.roots.iter().rev().filter(|(of, _)| of == path).map(|(_, body)| content(body));
    let (Some(after), Some(before)) = (revisions.next(), revisions.next()) else { return Vec::new() };
    let (from, to) = (place(&before["floor"]), place(&after["floor"]));
    if from >= to {
        return Vec::new();
    }
    let named = after["checkpoint"]["name"].as_str().map(|name| format!("{lane}/c/{name}")).unwrap_or_default();
    let Some(checkpoint) = objects.get(&named) else {
        return vec![format!("I7: {path} names {named}, which is not there")];
    };
    let state: Value = serde_json::from_slice(&checkpoint.body).unwrap_or_default();
    let passed = Passed { objects, state, checkpoint: checkpoint.number };
    let unsafe_ends =
        last_seqs(objects, lane, from..to, &before).into_iter().filter(|(topic, last)| !passed.is_safe(topic, *last));
    unsafe_ends
        .map(|(topic, last)| {
            format!("I7: {lane}: the floor passed {from:?} to {to:?} and seq {last} of {topic}, which is nowhere else")
        })
        .collect()
}

/// The last seq of each topic, by its id without hyphens, in the segments of `passed`. What lies beyond the SEAL of its epoch never happened.
fn last_seqs(
    objects: &Objects,
    lane: &str,
    passed: std::ops::Range<(u64, u64)>,
    root: &Value,
) -> BTreeMap<String, i64> {
    let mut last = BTreeMap::new();
    let prefix = format!("{lane}/w/");
    let closed = || root["closed"].as_array().into_iter().flatten();
    let seal = |epoch: u64| closed().find(|closed| closed["epoch"] == epoch)?["seal_slot"].as_u64();
    for listed in objects.list(&prefix) {
        let Some((_, epoch, slot)) = slot(&listed.path) else { continue };
        let is_passed = passed.contains(&(epoch, slot)) && seal(epoch).is_none_or(|seal| slot < seal);
        let Some(object) = objects.get(&listed.path).filter(|_| is_passed) else { continue };
        for (topic, seq) in ends(&object.body) {
            let known = last.entry(topic).or_insert(seq);
            *known = seq.max(*known);
        }
    }
    last
}

fn ends(segment: &[u8]) -> Vec<(String, i64)> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
    let count = segment.get(FIXED_BYTES - 4..FIXED_BYTES).map_or(0, number) as usize;
    let topics = segment.get(FIXED_BYTES..FIXED_BYTES + count * TOPIC_BYTES).unwrap_or_default();
    let end = |topic: &[u8]| (topic[..16].iter().map(|byte| format!("{byte:02x}")).collect(), number(&topic[20..]));
    topics.chunks_exact(TOPIC_BYTES).map(end).collect()
}

/// What there is beside the log once the floor has passed.
struct Passed<'a> {
    objects: &'a Objects,
    state: Value,
    /// When the checkpoint was written.
    checkpoint: u64,
}

impl Passed<'_> {
    fn is_safe(&self, topic: &str, last: i64) -> bool {
        let is_it = |id: &Value| id.as_str().is_some_and(|id| id.replace('-', "") == topic);
        let all = |name: &str| self.state[name].as_array().into_iter().flatten();
        let definition = |live: &Value| live["definitions"].as_array().and_then(|all| all.last()).cloned();
        let live = all("topics").find(|live| definition(live).is_some_and(|definition| is_it(&definition["id"])));
        // The checkpoint is of a place after its record.
        let Some(live) = live else { return true };
        let parked = all("parked").find(|parked| is_it(&parked["topic"]));
        if parked.is_some_and(|parked| parked["to"]["0"].as_i64().is_some_and(|to| to > last)) {
            return true;
        }
        let (tenant, name) = (text(&live["tenant"]), definition(live).map(|definition| text(&definition["name"])));
        let path = format!("tenants/{tenant}/tables/{}.json", name.unwrap_or_default());
        let Some(object) = self.objects.get(&path) else { return false };
        let pointer = content(&object.body);
        let is_dropped_since = !is_it(&pointer["topic"]) || pointer["metadata"].is_null();
        // The owner looked after it had written the checkpoint, and others changed the table after that.
        let has_changed_since = text(&pointer["nonce"]).starts_with(MARK) && object.number > self.checkpoint;
        is_dropped_since || has_changed_since || self.watermark(&text(&pointer["metadata"]), is_it) > last
    }

    /// The first seq that the table does not hold, if it is the topic's and was not rolled back; else 0.
    fn watermark(&self, uri: &str, is_it: impl Fn(&Value) -> bool) -> i64 {
        let path = uri.strip_prefix(&format!("s3://{}/", crate::server::BUCKET)).unwrap_or_default();
        let Some(object) = self.objects.get(path) else { return 0 };
        let metadata: Value = serde_json::from_slice(&object.body).unwrap_or_default();
        let stored = text(&metadata["properties"]["firn.watermark"]);
        let snapshots = || metadata["snapshots"].as_array().into_iter().flatten();
        let snapshot = |id: &Value| snapshots().find(|snapshot| snapshot["snapshot-id"] == *id);
        let ancestors =
            std::iter::successors(snapshot(&metadata["current-snapshot-id"]), |at| snapshot(&at["parent-snapshot-id"]));
        let held = ancestors.filter_map(|at| at["summary"]["firn.watermark"].as_str()).next();
        let is_whole = held.is_none_or(|held| held == stored);
        let seqs: Value = serde_json::from_str(&stored).unwrap_or_default();
        if is_it(&metadata["table-uuid"]) && is_whole { seqs["0"].as_i64().unwrap_or_default() } else { 0 }
    }
}

fn text(of: &Value) -> String {
    of.as_str().unwrap_or_default().to_owned()
}
