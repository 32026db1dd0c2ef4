//! The range that stands at a key's schema, in numbers, durations or sizes.

use std::fmt;

use serde_json::Value;

use super::file::Size;

/// What a number, a duration or a size may be.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
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
                (format!("{shown} is not a size of {self}"), "write bytes or a size such as 512M or 4G".to_owned())
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

/// A value as documents show it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}
