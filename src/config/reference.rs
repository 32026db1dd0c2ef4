//! What there is to write, from [`Written`] itself: a schema for editors and for the NixOS options, the ranges that
//! values are held against, and the reference in docs/configuration.md.

use std::{fmt, time::Duration};

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::{Size, Written};

/// JSON Schema of the configuration file, without references: what is said of a key stands at the key.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Written>().into()
}

/// The schema of what stands at `name` in a table.
pub(super) fn field<'a>(table: &'a Value, name: &str) -> &'a Value {
    let field = table["properties"].get(name).unwrap_or(&table["additionalProperties"]);
    // A table that may be left out.
    field["anyOf"].get(0).filter(|table| table.get("properties").is_some()).unwrap_or(field)
}

/// What a number, a duration or a size may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range<'a> {
    kind: Kind,
    from: &'a Value,
    /// `from` itself is too little.
    above: bool,
    to: &'a Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WholeNumber,
    Number,
    Duration,
    Size,
}

impl<'a> Range<'a> {
    /// Of a key; `None` if it has none.
    pub fn of(key: &'a Value) -> Option<Self> {
        let is = |name: &str| {
            key["type"] == name || key["type"].as_array().is_some_and(|types| types.contains(&name.into()))
        };
        let (from, to) = match key.get("x-from") {
            Some(from) => (Some(from), &key["x-to"]),
            None => (key.get("exclusiveMinimum").or(key.get("minimum")), &key["maximum"]),
        };
        let kind = match key.get("x-from") {
            Some(_) if is("string") => Kind::Duration,
            Some(_) => Kind::Size,
            None if is("integer") => Kind::WholeNumber,
            None => Kind::Number,
        };
        let from = from.filter(|_| !to.is_null())?;
        Some(Self { kind, from, above: key.get("exclusiveMinimum").is_some(), to })
    }

    /// Whether it holds this value; `false` also for what is none of its kind.
    pub fn holds(&self, value: &Value) -> bool {
        let [Some(from), Some(value), Some(to)] = [self.from, value, self.to].map(|value| self.kind.measure(value))
        else {
            return false;
        };
        (from..=to).contains(&value) && !(self.above && value == from)
    }

    /// What is wrong with a value that it does not hold, and what to write instead.
    pub fn refusal(&self, value: &Value) -> (String, String) {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let refused = |kind: &str| (format!("{shown} is out of range"), format!("write {kind} {self}"));
        match self.kind {
            Kind::WholeNumber => refused("a whole number"),
            Kind::Number => refused("a number"),
            Kind::Duration => refused("a duration"),
            Kind::Size => {
                (format!("{value} is not a size of {self}"), "write bytes or a size such as 512M or 4G".to_owned())
            }
        }
    }
}

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (text(self.from), text(self.to));
        match self.kind {
            Kind::Size => write!(f, "at least {from}"),
            _ if self.above => write!(f, "above {from}, at most {to}"),
            _ => write!(f, "from {from} to {to}"),
        }
    }
}

impl Kind {
    fn measure(self, value: &Value) -> Option<f64> {
        match self {
            Self::WholeNumber | Self::Number => value.as_f64(),
            Self::Duration => Some(humantime::parse_duration(value.as_str()?).ok()?.as_secs_f64()),
            // Exact up to 8 PiB.
            Self::Size => Some(serde_json::from_value::<Size>(value.clone()).ok()?.bytes()? as f64),
        }
    }
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
        [&key["properties"], &key["additionalProperties"], &key["items"]["properties"]]
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

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
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
