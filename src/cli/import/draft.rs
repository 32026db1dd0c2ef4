//! Our configuration, as an import makes it: tables, keys with comments, and what has no counterpart.

use toml::Value;

use super::keys::{Keys, is_at};

/// Where the token is to lie.
pub(super) const TOKEN_FILE: &str = "/etc/gha-runner-controller/token";

/// Why jobs do not get the host's Docker.
pub(super) const SOCKET: &str = "The host's Docker socket is not handed to jobs: who reaches it is root on the host, and \
    sees the containers of other jobs. With docker.enable each container has a Docker of its own, which its template \
    brings (docs/templates.md#docker).";
/// What becomes of an image.
pub(super) const IMAGE: &str = "A container boots a template and no image: make a tree of the image \
    (docs/templates.md#from-an-oci-image), or take the recipe of docs/templates.md.";

/// Keys that have no counterpart: those at one of the paths, and what to say of them.
pub(super) type Gone = (&'static [&'static str], &'static str);

/// What is printed.
#[derive(Debug)]
pub(super) struct Draft {
    /// Whose configuration it was.
    pub(super) tool: &'static str,
    pub(super) tables: Vec<Table>,
    /// Keys, and what is said of them.
    pub(super) notes: Vec<(String, String)>,
    gone: &'static [Gone],
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) place: Place,
    pub(super) keys: Vec<Key>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    /// By its path, with dots.
    Named(String),
    /// One of the list.
    Target,
}

#[derive(Debug)]
pub(super) struct Key {
    /// Dots lead into tables.
    pub(super) name: String,
    pub(super) value: Value,
    /// Empty = none.
    pub(super) comment: String,
}

impl Draft {
    pub(super) fn new(tool: &'static str, gone: &'static [Gone]) -> Self {
        let top = Table { place: Place::Top, keys: Vec::new() };
        Self { tool, tables: vec![top], notes: Vec::new(), gone }
    }

    /// The keys before all tables.
    pub(super) fn top(&mut self) -> &mut Table {
        &mut self.tables[0]
    }

    /// A new table at this place.
    pub(super) fn table(&mut self, place: Place) -> &mut Table {
        let index = self.tables.len();
        self.tables.push(Table { place, keys: Vec::new() });
        &mut self.tables[index]
    }

    /// Names the file for the token, and what is to be done about it.
    pub(super) fn token(&mut self, whence: &str, rights: &str) {
        let comment = format!(
            "{whence} Write the token into this file, which belongs to root and has mode 0600. It needs {rights}: \
             docs/configuration.md#credentials."
        );
        self.top().set_because("token_file", TOKEN_FILE, comment);
    }

    /// Whether a class has Docker, which its template must bring.
    pub(super) fn has_docker(&self) -> bool {
        let mut keys = self.tables.iter().flat_map(|table| &table.keys);
        keys.any(|key| {
            key.name == "docker.enable" || (key.name == "runners" && key.value.to_string().contains("-docker\""))
        })
    }

    /// Says something of keys.
    pub(super) fn note(&mut self, keys: impl Into<String>, text: impl Into<String>) {
        self.notes.push((keys.into(), text.into()));
    }

    /// Says something of every key that is left, and nothing of its value.
    pub(super) fn leave_rest(&mut self, keys: Keys) {
        let mut unknown = Vec::new();
        let mut gone = vec![Vec::new(); self.gone.len()];
        for key in keys.rest() {
            match self.gone.iter().position(|(paths, _)| paths.iter().any(|path| is_at(&key, path))) {
                Some(index) => gone[index].push(key),
                None => unknown.push(key),
            }
        }
        for (keys, (_, text)) in gone.into_iter().zip(self.gone) {
            if !keys.is_empty() {
                self.note(keys.join(", "), *text);
            }
        }
        if !unknown.is_empty() {
            let text = "These keys are not known to the import. docs/configuration.md lists what there is.";
            self.note(unknown.join(", "), text);
        }
    }
}

impl Table {
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.set_because(name, value, "");
    }

    pub(super) fn set_because(&mut self, name: &str, value: impl Into<Value>, comment: impl Into<String>) {
        self.keys.push(Key { name: name.to_owned(), value: value.into(), comment: comment.into() });
    }

    /// Only what is there.
    pub(super) fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

/// Appends a comment, wrapped. Whatever it cites cannot end it.
pub(super) fn comment(text: &mut String, indent: &str, said: &str) {
    const WIDTH: usize = 100;
    let mut width = WIDTH;
    for word in said.split_whitespace() {
        let word: String = word.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        if width + 1 + word.chars().count() > WIDTH {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(indent);
            text.push('#');
            width = indent.len() + 1;
        }
        text.push(' ');
        text.push_str(&word);
        width += 1 + word.chars().count();
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}
