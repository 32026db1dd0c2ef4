//! Where this machine gets Debian's packages from: the trees are built from the same place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const VARIABLE: &str = "GHA_LAB_APT_SOURCES";
const CANDIDATES: &[&str] = &["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];

/// Debian's package sources as configured on this machine.
#[derive(Debug)]
pub struct Sources {
    /// The file that names them; no other package source of the machine is used.
    pub file: PathBuf,
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
        Ok(Self { file, suite })
    }
}

/// The first release that a file of package sources names, in the one-line or in the newer form.
fn suite(file: &Path, text: &str) -> Option<String> {
    if file.extension().is_some_and(|extension| extension == "sources") {
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
}
