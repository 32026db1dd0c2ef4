//! Every key there is, from [`SettingsWritten`] itself: a schema for editors, the ranges that values are held against,
//! and the reference in docs/configuration.md.

use std::time::Duration;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{
    file::SettingsWritten,
    range::{Range, text},
};

/// JSON Schema of the configuration file, without references: what is said of a key stands at the key.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<SettingsWritten>().into()
}

/// The schema of what stands at `name` in a table.
pub(super) fn field<'a>(table: &'a Value, name: &str) -> &'a Value {
    let field = table["properties"].get(name).unwrap_or(&table["additionalProperties"]);
    // A table that may be left out.
    field["anyOf"].get(0).filter(|table| table.get("properties").is_some()).unwrap_or(field)
}

/// A table of the file: its path (empty = the top level, NAME for what people choose) and its schema.
pub fn tables(schema: &Value) -> Vec<(String, &Value)> {
    fn visit<'a>(path: String, schema: &'a Value, tables: &mut Vec<(String, &'a Value)>) {
        if let Some(keys) = schema["properties"].as_object() {
            for name in keys.keys() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                visit(path, field(schema, name), tables);
            }
            tables.push((path, schema));
        } else if schema["additionalProperties"].is_object() {
            visit(format!("{path}.NAME"), &schema["additionalProperties"], tables);
        } else if schema["items"].is_object() {
            visit(path, &schema["items"], tables);
        }
    }
    let mut tables = Vec::new();
    visit(String::new(), schema, &mut tables);
    tables
}

/// The keys of a table that are values: name and schema.
pub fn keys(table: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let names =
        table["properties"].as_object().into_iter().flatten().map(|(name, _)| (name.as_str(), field(table, name)));
    names.filter(|(_, key)| {
        [&key["properties"], &key["additionalProperties"]["properties"], &key["items"]["properties"]]
            .iter()
            .all(|inner| inner.is_null())
    })
}

/// What a key is if nothing is written; `None` if that is nothing.
pub fn default(key: &Value) -> Option<String> {
    let default = key.get("x-default").unwrap_or(&key["default"]);
    let duration = default.as_str().and_then(|text| humantime::parse_duration(text).ok());
    Some(duration.map_or_else(|| text(default), in_one_unit)).filter(|text| !text.is_empty())
}

/// `90days`, where humantime writes months of 30.44 days.
fn in_one_unit(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "days"), (3600, "h"), (60, "m"), (1, "s")];
    let fit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    fit.map_or_else(String::new, |(unit, name)| format!("{}{name}", seconds / unit))
}

/// What is said of a table or key, on one line.
fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Widest line of a document.
const WIDTH: usize = 120;

/// The reference of one table, in Markdown.
pub fn markdown(table: &Value) -> String {
    let mut lines = String::new();
    wrap(&mut lines, "", &description(table));
    lines.push('\n');
    for (name, key) in keys(table) {
        let facts: Vec<String> =
            default(key).into_iter().chain(Range::of(key).map(|range| range.to_string())).collect();
        let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) };
        wrap(&mut lines, "- ", &format!("`{name}`{facts}: {}", description(key)));
    }
    lines
}

/// Appends a paragraph whose first line begins with `mark`, and the others below its text.
fn wrap(lines: &mut String, mark: &str, paragraph: &str) {
    let mut width = mark.len();
    lines.push_str(mark);
    for (index, word) in paragraph.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && width + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(mark.len()));
            width = mark.len();
        } else if index > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines.push('\n');
}
