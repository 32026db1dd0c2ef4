//! Lines `NAME=VALUE`, as Docker Compose and systemd read them.
//!
//! A parser of its own, because crates for such files put variables of this process where a value has `$NAME`.

use serde_json::{Map, Value};

/// Whether the first line that is no comment is one.
pub(super) fn looks_like(text: &str) -> bool {
    text.lines().find(|line| is_meant(line)).is_some_and(|line| split(line).is_some())
}

/// The last of several lines counts. An error names its line, and nothing of what stands there.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let mut found = Map::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| is_meant(line)) {
        let number = index + 1;
        let (name, value) = split(line).ok_or_else(|| format!("line {number} is not NAME=VALUE"))?;
        let value = value.trim();
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                quoted(&value[1..], quote).ok_or_else(|| format!("line {number} has a quote that does not end"))?
            }
            Some('#') | None => String::new(),
            Some(_) => value.split(" #").next().unwrap_or_default().trim_end().to_owned(),
        };
        found.insert(name.to_owned(), Value::String(value));
    }
    Ok(found)
}

fn is_meant(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()))
        .then_some((name, value))
}

/// What stands before the closing quote, if nothing but a comment stands behind it.
fn quoted(text: &str, quote: char) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote == '"' => value.push(chars.next()?),
            c if c == quote => {
                let rest = chars.as_str().trim();
                return (rest.is_empty() || rest.starts_with('#')).then_some(value);
            }
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn values_are_read_as_compose_reads_them() {
        let text = "\n# c\nexport A=1 # one\nB='x # y' # z\nC=\"a\\\"b\"\nD=\nE=#\nF=a#b\nA=2\n";
        let found = parse(text).unwrap();
        let value = |name: &str| found[name].as_str().unwrap();
        assert_eq!(["A", "B", "C", "D", "E", "F"].map(value), ["2", "x # y", "a\"b", "", "", "a#b"]);
        assert!(looks_like(text) && !looks_like("a: 1=2\n") && !looks_like("# x=1\n"));
    }

    #[test]
    fn a_bad_line_is_named_without_its_value() {
        for (text, said) in
            [("A=1\nsecret\n", "line 2 is not"), ("A='secret\n", "line 1 has a quote"), ("A='s'x\n", "line 1")]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}
