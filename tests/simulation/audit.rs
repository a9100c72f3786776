//! What must hold of everything that was ever written, whatever happened: read from the objects alone, without the code that wrote them. What is there at
//! the end [`crate::proof`] proves.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::objects::Objects;
use crate::world::World;

/// Looks at everything, and says what must not be.
pub(crate) fn look(world: &World) {
    let faults = {
        let store = world.store.lock();
        let Objects { ever, roots, removed, .. } = &store.objects;
        [one_content(ever), grown(roots), seals(roots, removed), strangers(&store.objects)].concat()
    };
    faults.into_iter().for_each(|fault| world.violated(fault));
}

/// I1, and that no data file was ever overwritten.
fn one_content(ever: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let is_once =
        |path: &str| path.starts_with("warehouse/") || path.starts_with("lanes/") && !path.ends_with("root.json");
    let several = ever.iter().filter(|(path, contents)| is_once(path) && contents.len() > 1);
    several.map(|(path, contents)| format!("I1: {path} had {} contents", contents.len())).collect()
}

/// I6 and the half of I7 that the root alone shows.
fn grown(roots: &[(String, bytes::Bytes)]) -> Vec<String> {
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

/// I13: no SEAL that ended an epoch was ever removed; the slots that must be there besides are proven with everything else.
fn seals(roots: &[(String, bytes::Bytes)], removed: &BTreeSet<String>) -> Vec<String> {
    let mut gone = BTreeSet::new();
    for (path, body) in roots {
        let Ok(register) = serde_json::from_slice::<Value>(body) else { continue };
        let lane = path.trim_end_matches("/root.json");
        for closed in register["content"]["closed"].as_array().into_iter().flatten() {
            let seal = format!("{lane}/w/{}/{}", closed["epoch"], closed["seal_slot"]);
            if removed.contains(&seal) {
                gone.insert(seal);
            }
        }
    }
    gone.into_iter().map(|seal| format!("I13: {seal} was removed, the SEAL that ended its epoch")).collect()
}

/// I9: a topic's table is the topic's.
fn strangers(objects: &Objects) -> Vec<String> {
    let json = |path: &str| -> Option<Value> { serde_json::from_slice(&objects.get(path)?.body).ok() };
    let prefix = format!("s3://{}/", crate::server::BUCKET);
    let tables = objects.list("tenants/").filter(|listed| listed.path.contains("/tables/"));
    let stranger = |path: String| {
        let pointer = json(&path)?["content"].take();
        let metadata = json(pointer["metadata"].as_str()?.strip_prefix(&prefix)?)?;
        let (topic, table) = (&pointer["topic"], &metadata["table-uuid"]);
        (topic != table).then(|| format!("I9: {path} is of topic {topic}, its table is {table}"))
    };
    tables.filter_map(|listed| stranger(listed.path)).collect()
}
