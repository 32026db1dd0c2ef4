//! Every value against the range that stands at its key.

use serde_json::Value;

use super::{
    super::{file::SettingsWritten, range::Range, reference},
    Checker,
};

/// Checks all numbers, durations and sizes.
pub(super) fn check(found: &mut Checker, written: &SettingsWritten) {
    match serde_json::to_value(written) {
        Ok(value) => walk(found, &reference::schema(), &value, ""),
        Err(error) => found.push("configuration", error.to_string(), "write only text that is UTF-8"),
    }
}

fn walk(found: &mut Checker, schema: &Value, value: &Value, path: &str) {
    match value {
        // Not written.
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(found, reference::field(schema, name), value, &path);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(found, &schema["items"], item, &format!("{path}[{index}]"));
            }
        }
        value => {
            if let Some(range) = Range::of(schema).filter(|range| !range.holds(value)) {
                let (problem, remedy) = range.refusal(value);
                found.push(path, problem, remedy);
            }
        }
    }
}
