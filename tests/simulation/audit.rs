//! What must hold of the store's contents, whatever happened: read from the objects alone, without the code that wrote them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::World;

/// Looks at everything, and says what must not be.
pub(crate) fn look(world: &World) {
    let faults = {
        let store = world.store.lock();
        let mut faults = Vec::new();
        faults.extend(one_content(&store.objects.ever));
        faults.extend(roots(&store.objects.roots));
        let lanes: Vec<_> = store.objects.list("lanes/").map(|(path, ..)| path).collect();
        let last: BTreeMap<_, _> =
            store.objects.roots.iter().map(|(path, body)| (path.clone(), body.clone())).collect();
        for root in last {
            faults.extend(slots(&root, &lanes));
        }
        let read = |path: &str| store.objects.get(path).map(|object| object.body.clone());
        for (path, ..) in store.objects.list("tenants/") {
            if path.contains("/tables/") {
                faults.extend(table(&path, &read));
            }
        }
        faults
    };
    faults.into_iter().for_each(|fault| world.violated(fault));
}

/// I1, and that no data file was ever overwritten.
fn one_content(ever: &BTreeMap<String, std::collections::BTreeSet<String>>) -> Vec<String> {
    let is_once =
        |path: &str| path.starts_with("warehouse/") || path.starts_with("lanes/") && !path.ends_with("root.json");
    let several = ever.iter().filter(|(path, contents)| is_once(path) && contents.len() > 1);
    several.map(|(path, contents)| format!("I1: {path} had {} contents", contents.len())).collect()
}

/// I6 and the half of I7 that the root alone shows.
fn roots(roots: &[(String, bytes::Bytes)]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut last: BTreeMap<&str, Value> = BTreeMap::new();
    for (path, body) in roots {
        let Ok(Value::Object(register)) = serde_json::from_slice(body) else {
            faults.push(format!("I6: {path} is no register"));
            continue;
        };
        let root = register["content"].clone();
        let place = |of: &Value| (of["epoch"].as_u64(), of["slot"].as_u64());
        if let Some(before) = last.get(path.as_str()) {
            if root["epoch"].as_u64() < before["epoch"].as_u64() {
                faults.push(format!("I6: {path}: epoch {} after {}", root["epoch"], before["epoch"]));
            }
            if place(&root["floor"]) < place(&before["floor"]) {
                faults.push(format!("I6: {path}: the floor fell from {} to {}", before["floor"], root["floor"]));
            }
            for closed in root["closed"].as_array().into_iter().flatten() {
                let was = before["closed"].as_array().into_iter().flatten().find(|was| was["epoch"] == closed["epoch"]);
                if was.is_some_and(|was| was != closed) {
                    faults.push(format!("I6: {path}: epoch {} was closed otherwise before", closed["epoch"]));
                }
            }
        }
        let checkpoint = &root["checkpoint"]["at"];
        if !checkpoint.is_null() && place(&root["floor"]) > place(checkpoint) {
            faults.push(format!("I7: {path}: the floor {} is above the checkpoint {checkpoint}", root["floor"]));
        }
        last.insert(path, root);
    }
    faults
}

/// I13: every slot of a closed epoch that is missing lies below the floor; SEALs are there for ever.
fn slots((path, body): &(String, bytes::Bytes), lanes: &[String]) -> Vec<String> {
    let Ok(register) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let (root, lane) = (&register["content"], path.trim_end_matches("/root.json"));
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let floor = (number(&root["floor"]["epoch"]), number(&root["floor"]["slot"]));
    let mut faults = Vec::new();
    for closed in root["closed"].as_array().into_iter().flatten() {
        let (epoch, seal) = (number(&closed["epoch"]), number(&closed["seal_slot"]));
        for slot in 0..=seal {
            let name = format!("{lane}/w/{epoch}/{slot}");
            if ((epoch, slot) >= floor || slot == seal) && lanes.binary_search(&name).is_err() {
                faults.push(format!("I13: {name} is missing; the floor is {floor:?}, the SEAL at {seal}"));
            }
        }
    }
    faults
}

/// I8, I9 and that what the metadata names is there.
fn table(path: &str, read: &impl Fn(&str) -> Option<bytes::Bytes>) -> Vec<String> {
    let mut faults = Vec::new();
    let json = |path: &str| read(path).and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    let Some(pointer) = json(path) else { return vec![format!("{path} is no register")] };
    let Some(uri) = pointer["content"]["metadata"].as_str() else { return faults };
    let prefix = format!("s3://{}/", crate::server::BUCKET);
    let Some(metadata) = uri.strip_prefix(&prefix).and_then(&json) else {
        return vec![format!("I10: {path} names {uri}, which is not there")];
    };
    let snapshots: BTreeMap<u64, &Value> = metadata["snapshots"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|snapshot| Some((snapshot["snapshot-id"].as_u64()?, snapshot)))
        .collect();
    let mut at = metadata["current-snapshot-id"].as_u64().and_then(|id| snapshots.get(&id));
    if let Some(main) = at
        && main["summary"]["firn.watermark"] != metadata["properties"]["firn.watermark"]
    {
        faults.push(format!(
            "I9: {path}: property {} and summary {} differ",
            metadata["properties"]["firn.watermark"], main["summary"]["firn.watermark"]
        ));
    }
    while let Some(snapshot) = at {
        let summary = &snapshot["summary"];
        let seq = |name: &str| {
            let text = summary[name].as_str().unwrap_or_default();
            serde_json::from_str::<Value>(text).ok().and_then(|seqs| seqs["0"].as_i64()).unwrap_or_default()
        };
        let rows: i64 = summary["firn.rows"].as_str().and_then(|rows| rows.parse().ok()).unwrap_or_default();
        if seq("firn.to") - seq("firn.from") != rows {
            faults.push(format!("I8: {path}: a flush of {rows} rows from {} to {}", seq("firn.from"), seq("firn.to")));
        }
        let parent = snapshot["parent-snapshot-id"].as_u64().and_then(|id| snapshots.get(&id));
        if let Some(parent) = parent {
            let watermark = parent["summary"]["firn.watermark"].as_str().unwrap_or_default();
            if watermark != summary["firn.from"].as_str().unwrap_or_default() {
                faults.push(format!("I8: {path}: a flush from {} on a table up to {watermark}", summary["firn.from"]));
            }
        }
        let list = snapshot["manifest-list"].as_str().unwrap_or_default();
        if list.strip_prefix(&prefix).and_then(read).is_none() {
            faults.push(format!("I10: {path} names {list}, which is not there"));
        }
        at = parent;
    }
    faults
}
