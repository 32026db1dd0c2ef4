//! A draft as a configuration file.

use super::draft::{Draft, Place, comment};

pub(super) fn text(draft: &Draft) -> String {
    let mut text = String::new();
    comment(&mut text, "", &format!("Imported from the configuration of {}.", draft.tool));
    if !draft.notes.is_empty() {
        comment(&mut text, "", "What has no counterpart stands at the end, with what to do about it.");
    }
    for table in draft.tables.iter().filter(|table| !table.keys.is_empty()) {
        let mut lines = String::new();
        match &table.place {
            Place::Top => {}
            Place::Named(path) => lines.push_str(&format!("[{path}]\n")),
            Place::Target => lines.push_str("[[target]]\n"),
        }
        for key in &table.keys {
            comment(&mut lines, "", &key.comment);
            lines.push_str(&format!("{} = {}\n", key.name, key.value));
        }
        text.push('\n');
        for line in lines.lines() {
            text.push_str(if table.off { "# " } else { "" });
            text.push_str(line);
            text.push('\n');
        }
    }
    for (keys, said) in &draft.notes {
        text.push('\n');
        comment(&mut text, "", &format!("{keys}: {said}"));
    }
    text
}
