//! Whether the table that was read is the table that was written: every object whole, every rule in its place.

use anyhow::bail;
use serde_json::{Map, Value};

use super::{CLASSES, FLOWS, SOURCES, table::CLASS_CHAIN};

/// Fails with the first difference. Elements of containers are not compared, nor are chains of classes that are not in
/// the settings: no container of any other class gets into those.
pub fn same(written: &[Value], read: &[Value]) -> anyhow::Result<()> {
    let (expected, mut found) = (in_order(written), in_order(read));
    let chains: Vec<&str> = expected.iter().filter_map(chain).collect();
    found.retain(|object| {
        chain(object)
            .or_else(|| place(object))
            .is_none_or(|name| !name.starts_with(CLASS_CHAIN) || chains.contains(&name))
    });
    for object in &expected {
        match found.iter().position(|candidate| candidate == object) {
            // Everything of a chain is listed in order, so what comes first must be found first.
            Some(index)
                if place(object).is_none() || found[..index].iter().all(|before| place(before) != place(object)) =>
            {
                found.remove(index);
            }
            _ => bail!("there is no {object}"),
        }
    }
    match found.first() {
        Some(foreign) => bail!("somebody added {foreign}"),
        None => Ok(()),
    }
}

/// Where order matters: among the rules of one chain.
fn place(object: &Value) -> Option<&str> {
    object.get("rule")?.get("chain")?.as_str()
}

fn chain(object: &Value) -> Option<&str> {
    object.get("chain")?.get("name")?.as_str()
}

fn in_order(objects: &[Value]) -> Vec<Value> {
    objects.iter().filter(|object| object.get("metainfo").is_none()).map(plain).collect()
}

/// An object without what the kernel or another version of nft adds: handles, and forms that mean the same.
fn plain(object: &Value) -> Value {
    let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else { return object.clone() };
    let mut body = body.as_object().cloned().unwrap_or_default();
    body.remove("handle");
    if kind == "set" || kind == "map" {
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
        if [SOURCES, CLASSES, FLOWS].contains(&name) {
            body.remove("elem");
            // Listed by some versions of nft and not by others: what follows from our rules, and how many elements.
            body.remove("flags");
            body.remove("count");
        }
    }
    let body: Map<String, Value> = body.into_iter().map(|(key, value)| (key, simple(value))).collect();
    Value::Object(Map::from_iter([(kind.clone(), Value::Object(body))]))
}

/// A list of one is that one, and the order of a set means nothing.
fn simple(value: Value) -> Value {
    match value {
        Value::Object(map) if map.len() == 1 && map.get("set").is_some_and(Value::is_array) => {
            let mut items: Vec<Value> = match map.into_iter().next() {
                Some((_, Value::Array(items))) => items.into_iter().map(simple).collect(),
                _ => Vec::new(),
            };
            items.sort_by_key(Value::to_string);
            if items.len() == 1 {
                items.remove(0)
            } else {
                Value::Object(Map::from_iter([("set".into(), items.into())]))
            }
        }
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, simple(value))).collect()),
        Value::Array(mut items) if items.len() == 1 => simple(items.remove(0)),
        Value::Array(items) => Value::Array(items.into_iter().map(simple).collect()),
        // A host without /etc/protocols knows numbers only.
        Value::String(name) if name == "tcp" => libc::IPPROTO_TCP.into(),
        Value::String(name) if name == "udp" => libc::IPPROTO_UDP.into(),
        other => other,
    }
}
