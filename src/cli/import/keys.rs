//! The keys of a file, each by its path with dots, until somebody takes them.

use std::{collections::BTreeMap, str::FromStr};

use serde_json::{Map, Value};
use settings::Problem;

/// What nobody took yet.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<String, Value>);

impl Keys {
    pub(super) fn new(table: Map<String, Value>) -> Self {
        let mut keys = Self::default();
        keys.add("", table);
        keys
    }

    fn add(&mut self, above: &str, table: Map<String, Value>) {
        for (name, value) in table {
            let path = if above.is_empty() { name } else { format!("{above}.{name}") };
            match value {
                Value::Object(table) if !table.is_empty() => self.add(&path, table),
                value => drop(self.0.insert(path, value)),
            }
        }
    }

    /// Whether there is such a key, or one below it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.keys().any(|other| is_at(other, key))
    }

    /// A value that says something.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(is_set)
    }

    /// A text, number or truth as text.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        self.take(key).map(|value| scalar(key, &value)).transpose()
    }

    /// As [`Keys::text`], of a key that must be there.
    pub(super) fn needed(&mut self, key: &str) -> Result<String, Problem> {
        self.text(key)?.ok_or_else(|| Problem::new(key, "is not there, or empty", "write it into the file"))
    }

    /// What can be read from a text; `what` says what it must be.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str, what: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| Problem::new(key, format!("is not {what}"), CORRECT))
    }

    /// A duration as we write it, of seconds or a text such as `1h30m`.
    pub(super) fn duration(&mut self, key: &str) -> Result<Option<String>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let text = text.trim();
        let duration = if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.to_owned() };
        match humantime::parse_duration(&duration) {
            Ok(_) => Ok(Some(duration)),
            Err(_) => Err(Problem::new(key, "is no duration", "write seconds, or a duration such as 10s, 5m or 2h30m")),
        }
    }

    /// A list of texts.
    pub(super) fn list(&mut self, key: &str) -> Result<Vec<String>, Problem> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let item = |(index, item)| scalar(&format!("{key}[{index}]"), item);
                items.iter().enumerate().map(item).collect()
            }
            Some(_) => Err(Problem::new(key, "is not a list", CORRECT)),
        }
    }

    /// Texts with commas between them.
    pub(super) fn words(&mut self, key: &str) -> Result<Vec<String>, Problem> {
        let text = self.text(key)?.unwrap_or_default();
        Ok(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }

    /// The paths of all that is left and says something.
    pub(super) fn rest(self) -> impl Iterator<Item = String> {
        self.0.into_iter().filter(|(_, value)| is_set(value)).map(|(path, _)| path)
    }
}

const CORRECT: &str = "correct it in the file";

/// Whether `key` is `above` or below it.
pub(super) fn is_at(key: &str, above: &str) -> bool {
    key.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(table) => !table.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

fn scalar(key: &str, value: &Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(Problem::new(key, "is neither a text nor a number", CORRECT)),
    }
}
