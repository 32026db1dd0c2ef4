//! A draft as a NixOS module, in the file's own spelling and as nixfmt writes it.

use toml::Value;

use super::draft::{Draft, Place, Table, comment};

pub(super) fn text(draft: &Draft) -> String {
    let mut text = String::new();
    comment(&mut text, "", &format!("Imported from the configuration of {}.", draft.tool));
    if !draft.notes.is_empty() {
        comment(&mut text, "", "What has no counterpart stands at the end, with what to do about it.");
    }
    text.push_str("{\n  services.gha-runner-controller = {\n    enable = true;\n");
    if draft.has_docker() {
        text.push_str("    template.virtualisation.docker.enable = true;\n");
    }
    text.push_str("    settings = {\n");
    for table in &draft.tables {
        match &table.place {
            Place::Top => keys_of(&mut text, "      ", table),
            Place::Named(path) => {
                text.push_str(&format!("      {path} = {{\n"));
                keys_of(&mut text, "        ", table);
                text.push_str("      };\n");
            }
            Place::Target => {}
        }
    }
    text.push_str("      target = [\n");
    for table in draft.tables.iter().filter(|table| table.place == Place::Target) {
        text.push_str("        {\n");
        keys_of(&mut text, "          ", table);
        text.push_str("        }\n");
    }
    text.push_str("      ];\n    };\n  };\n");
    for (keys, said) in &draft.notes {
        text.push('\n');
        comment(&mut text, "  ", &format!("{keys}: {said}"));
    }
    text.push_str("}\n");
    text
}

fn keys_of(text: &mut String, indent: &str, table: &Table) {
    for key in &table.keys {
        comment(text, indent, &key.comment);
        text.push_str(&format!("{indent}{} = {};\n", key.name, value(indent, &key.value)));
    }
}

fn value(indent: &str, value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) if items.len() < 2 => {
            let items: String = items.iter().map(|item| format!("{} ", self::value(indent, item))).collect();
            format!("[ {items}]")
        }
        Value::Array(items) => {
            let item = |item| format!("{indent}  {}\n", self::value(indent, item));
            format!("[\n{}{indent}]", items.iter().map(item).collect::<String>())
        }
        // Numbers and truths are written as in TOML; there are no others in a draft.
        value => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => {
                if matches!(c, '"' | '\\' | '$') {
                    quoted.push('\\');
                }
                quoted.push(c);
            }
        }
    }
    quoted.push('"');
    quoted
}
