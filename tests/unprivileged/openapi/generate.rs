//! Answers made from GitHub's schemas: as short as they may be, as long, and with null wherever it may stand.

use serde_json::{Map, Value, json};

use crate::description::resolved;

/// How an answer is made.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    /// Every field, not only those that must be there.
    pub all: bool,
    /// Null wherever it may stand.
    pub nulls: bool,
    /// So many items in a list.
    pub items: usize,
    /// The last of alternatives, not the first.
    pub last: bool,
}

/// Fields that nobody must have are left out below this depth; descriptions refer to themselves.
const DEEP: usize = 7;
/// No description is so deep.
const BOTTOM: usize = 40;

/// A value of a schema.
pub fn make(document: &Value, schema: &Value, taste: Taste, depth: usize) -> Value {
    let schema = resolved(document, schema);
    assert!(depth < BOTTOM, "a schema without an end: {schema}");
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if taste.nulls && (schema["nullable"] == true || types.contains(&"null")) {
        return Value::Null;
    }
    if let Some(one) = schema.get("const") {
        return one.clone();
    }
    if let Some(all) = schema["enum"].as_array() {
        let mut all = all.iter().filter(|one| !one.is_null());
        return if taste.last { all.next_back() } else { all.next() }.cloned().unwrap_or_default();
    }
    for keyword in ["oneOf", "anyOf"] {
        // What only says which fields must be there is no alternative of its own.
        let alternatives = schema[keyword].as_array().filter(|all| all.iter().all(|one| !is_condition(one)));
        if let Some(alternatives) = alternatives {
            let null = alternatives.iter().find(|one| one["type"] == "null").filter(|_| taste.nulls);
            let mut others = alternatives.iter().filter(|one| one["type"] != "null");
            let chosen = null.or_else(|| if taste.last { others.next_back() } else { others.next() });
            return chosen.map_or(Value::Null, |chosen| make(document, chosen, taste, depth + 1));
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts = parts.iter().map(|part| make(document, part, taste, depth + 1));
        return parts.reduce(united).unwrap_or_default();
    }
    match types.iter().find(|one| **one != "null").copied() {
        Some("object") => object(document, schema, taste, depth),
        None if schema.get("properties").is_some() => object(document, schema, taste, depth),
        Some("array") => {
            let least = schema["minItems"].as_u64().unwrap_or_default() as usize;
            let item = || make(document, &schema["items"], taste, depth + 1);
            (0..taste.items.max(least)).map(|_| item()).collect()
        }
        Some("string") => string(schema, taste),
        Some("integer") => json!(schema["minimum"].as_i64().unwrap_or(7)),
        Some("number") => json!(schema["minimum"].as_i64().unwrap_or(7)),
        Some("boolean") => json!(taste.last),
        _ => json!({}),
    }
}

fn is_condition(schema: &Value) -> bool {
    schema.as_object().is_some_and(|schema| schema.keys().all(|keyword| keyword == "required"))
}

fn object(document: &Value, schema: &Value, taste: Taste, depth: usize) -> Value {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object();
    let wanted = properties
        .into_iter()
        .flatten()
        .filter(|(name, _)| required.contains(&name.as_str()) || (taste.all && depth < DEEP));
    wanted.map(|(name, schema)| (name.clone(), make(document, schema, taste, depth + 1))).collect::<Map<_, _>>().into()
}

fn string(schema: &Value, taste: Taste) -> Value {
    match schema["format"].as_str() {
        // In whatever time zone.
        Some("date-time") if taste.last => json!("2026-11-29T10:00:00+02:00"),
        Some("date-time") => json!("2026-11-29T08:00:00Z"),
        Some("date") => json!("2026-11-29"),
        Some("uri" | "uri-template") => json!("https://api.github.com/somewhere"),
        Some("email") => json!("mona@example.com"),
        _ => match schema.get("pattern").and(schema.get("example")) {
            Some(example) => example.clone(),
            None => json!("text".repeat(schema["minLength"].as_u64().unwrap_or(1).max(1) as usize)),
        },
    }
}

fn united(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            one.extend(other);
            Value::Object(one)
        }
        (one, Value::Null) => one,
        (_, other) => other,
    }
}
