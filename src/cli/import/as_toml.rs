//! A draft as a configuration file.

use toml::Value;

use super::draft::{Draft, Place, comment};

pub(super) fn text(draft: &Draft) -> String {
    let mut text = String::new();
    comment(&mut text, "", &format!("Imported from the configuration of {}.", draft.tool));
    if !draft.notes.is_empty() {
        comment(&mut text, "", "What has no counterpart stands at the end, with what to do about it.");
    }
    for table in draft.tables.iter().filter(|table| !table.keys.is_empty()) {
        text.push('\n');
        match &table.place {
            Place::Top => {}
            Place::Named(path) => text.push_str(&format!("[{path}]\n")),
            Place::Target => text.push_str("[[target]]\n"),
        }
        for key in &table.keys {
            comment(&mut text, "", &key.comment);
            text.push_str(&line(&key.name, &key.value));
        }
    }
    for (keys, said) in &draft.notes {
        text.push('\n');
        comment(&mut text, "", &format!("{keys}: {said}"));
    }
    text
}

/// A list that is long has an item a line.
fn line(name: &str, value: &Value) -> String {
    const WIDTH: usize = 100;
    let line = format!("{name} = {value}\n");
    match value {
        Value::Array(items) if line.len() > WIDTH => {
            let items: String = items.iter().map(|item| format!("    {item},\n")).collect();
            format!("{name} = [\n{items}]\n")
        }
        _ => line,
    }
}
