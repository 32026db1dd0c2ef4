//! Where this machine gets Debian's packages from: the trees are built from the same place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::suite::Suite;

const VARIABLE: &str = "GHA_LAB_APT_SOURCES";
const CANDIDATES: &[&str] = &["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];

/// Debian's package sources as configured on this machine.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The file that names them; no other package source of the machine is used.
    file: PathBuf,
    /// What it holds, or would hold on a machine of another release.
    pub text: String,
    /// Debian's release, for example `bookworm`.
    pub suite: String,
}

impl Sources {
    /// Finds them: `$GHA_LAB_APT_SOURCES`, or the file where Debian keeps its own.
    pub fn find() -> Result<Self> {
        let file =
            match std::env::var_os(VARIABLE) {
                Some(file) => PathBuf::from(file),
                None => CANDIDATES.iter().map(PathBuf::from).find(|file| file.exists()).with_context(|| {
                    format!("no Debian package sources on this machine; name a file with {VARIABLE}")
                })?,
            };
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let suite = suite(&file, &text).with_context(|| format!("{} names no release", file.display()))?;
        Ok(Self { file, text, suite })
    }

    /// The same places' packages of another release.
    pub fn of(self, suite: Suite) -> Self {
        if self.suite == suite.name() {
            return self;
        }
        let text = if newer_form(&self.file) {
            let stanzas = self.text.split("\n\n").filter_map(|stanza| stanza_of(stanza, &self.suite, suite));
            stanzas.collect::<Vec<_>>().join("\n\n")
        } else {
            self.text.lines().filter_map(|line| line_of(line, &self.suite, suite)).collect::<Vec<_>>().join("\n")
        };
        Self { text: format!("{text}\n"), suite: suite.name().to_owned(), file: self.file }
    }

    /// A name for a file with the text, from which its form can be known.
    pub fn file_name(&self) -> &'static str {
        if newer_form(&self.file) { "debian.sources" } else { "sources.list" }
    }
}

fn newer_form(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "sources")
}

/// What `word`, a release or one of its archives beside it, is called in `new`; `None` if there is no such thing.
fn renamed(word: &str, old: &str, new: Suite) -> Option<String> {
    match word.strip_prefix(old)? {
        "" => Some(new.name().to_owned()),
        beside @ ("-updates" | "-security") if new.is_updated() => Some(format!("{new}{beside}")),
        _ => None,
    }
}

/// A stanza of the newer form; `None` if nothing is left of it.
fn stanza_of(stanza: &str, old: &str, new: Suite) -> Option<String> {
    let mut lines = Vec::new();
    for line in stanza.lines() {
        match line.strip_prefix("Suites:") {
            None => lines.push(line.to_owned()),
            Some(suites) => {
                let suites: Vec<_> = suites.split_whitespace().filter_map(|word| renamed(word, old, new)).collect();
                if suites.is_empty() {
                    return None;
                }
                lines.push(format!("Suites: {}", suites.join(" ")));
            }
        }
    }
    Some(lines.join("\n"))
}

/// A line of the older form; `None` if there is no such thing in `new`.
fn line_of(line: &str, old: &str, new: Suite) -> Option<String> {
    let named = |word: &str| word == old || word.starts_with(&format!("{old}-"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(place) = words.iter().position(|word| named(word)) else {
        return Some(line.to_owned());
    };
    let name = renamed(words[place], old, new)?;
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    words[place] = name;
    Some(words.join(" "))
}

/// The first release that a file of package sources names, in the one-line or in the newer form.
fn suite(file: &Path, text: &str) -> Option<String> {
    if newer_form(file) {
        return text
            .lines()
            .find_map(|line| line.strip_prefix("Suites:"))
            .and_then(|suites| suites.split_whitespace().next())
            .map(str::to_owned);
    }
    let line = text.lines().find(|line| line.starts_with("deb "))?;
    let mut words = line.split_whitespace().skip(1).peekable();
    if words.peek().is_some_and(|word| word.starts_with('[')) {
        words.find(|word| word.ends_with(']'));
    }
    words.nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_both_forms() {
        let newer = "Types: deb\nURIs: http://packages.invalid/debian\nSuites: bookworm bookworm-updates\n";
        assert_eq!(suite(Path::new("debian.sources"), newer).as_deref(), Some("bookworm"));
        let older = "# a comment\ndeb [arch=amd64 signed-by=/k] http://packages.invalid/debian trixie main\n";
        assert_eq!(suite(Path::new("sources.list"), older).as_deref(), Some("trixie"));
        assert_eq!(suite(Path::new("sources.list"), "# nothing\n"), None);
    }
    #[test]
    fn another_release_comes_from_the_same_places() {
        let sources =
            |file: &str, text: &str| Sources { file: file.into(), text: text.to_owned(), suite: "bookworm".to_owned() };
        let newer = sources(
            "debian.sources",
            "Types: deb\nURIs: http://packages.invalid/debian\nSuites: bookworm bookworm-updates bookworm-backports\n\n\
             Types: deb\nURIs: http://packages.invalid/security\nSuites: bookworm-security\n",
        );
        assert_eq!(
            newer.clone().of(Suite::Trixie).text,
            "Types: deb\nURIs: http://packages.invalid/debian\nSuites: trixie trixie-updates\n\n\
             Types: deb\nURIs: http://packages.invalid/security\nSuites: trixie-security\n",
        );
        assert_eq!(
            newer.clone().of(Suite::Sid).text,
            "Types: deb\nURIs: http://packages.invalid/debian\nSuites: sid\n"
        );
        assert_eq!(newer.clone().of(Suite::Bookworm).text, newer.text);

        let older = sources(
            "sources.list",
            "# bookworm\ndeb [arch=amd64] http://packages.invalid/debian bookworm main\n\
             deb http://packages.invalid/security bookworm-security main\n",
        );
        assert_eq!(older.of(Suite::Sid).text, "# sid\ndeb [arch=amd64] http://packages.invalid/debian sid main\n");
    }
}
