//! Every document that is cited is in the repository, with the heading that is cited.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// The repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Names of documents that were never in the repository.
const ELSEWHERE: [&str; 6] = ["PROTOCOLS", "RUNNER-PROTOCOL", "NSPAWN", "CASES", "FORGES", "ANCHORS"];

/// Every text file that git knows or would take, by its path from the root.
fn files() -> BTreeMap<PathBuf, String> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(listing).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let texts = names.split_terminator('\0').filter(|name| !file!().ends_with(name));
    let texts = texts.filter_map(|name| Some((name.into(), fs::read_to_string(Path::new(ROOT).join(name)).ok()?)));
    texts.collect()
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The anchors of a document, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut outside = true;
    let headings = text.lines().filter_map(|line| {
        outside ^= line.starts_with("```");
        line.strip_prefix('#').filter(|_| outside)?.trim_start_matches('#').strip_prefix(' ')
    });
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The words of a line that could be paths, with their anchors.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || "_-./#".contains(c)))
}

/// The targets of the links of a line of Markdown.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).filter(|target| !target.contains("://"))
}

/// The file that a path leads to from the folder `from`.
fn joined(from: &Path, path: &str) -> PathBuf {
    let mut joined = from.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => drop(joined.pop()),
            Component::Normal(name) => joined.push(name),
            _ => {}
        }
    }
    joined
}

/// What is wrong with what the file at `path` cites, one line each.
fn problems(files: &BTreeMap<PathBuf, String>, path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let has_anchor = |file: &Path, anchor: &str| {
        anchor.is_empty() || files.get(file).is_some_and(|text| anchors(text).iter().any(|known| known == anchor))
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    for (number, line) in text.lines().enumerate() {
        let mut report = |what: &str| found.push(format!("{}:{}: {what}", path.display(), number + 1));
        for word in words(line).filter(|word| !word.contains("//")) {
            let (name, anchor) = word.split_once('#').unwrap_or((word, ""));
            let name = name.trim_start_matches(['.', '/']);
            if ELSEWHERE.contains(&name.trim_end_matches(['.', '-'])) {
                report(&format!("{name} is not in the repository"));
            }
            if name.len() > 3 && is_document(Path::new(name.trim_end_matches('.'))) {
                let name = name.trim_end_matches('.');
                let fits =
                    |file: &&PathBuf| file.ends_with(name) && has_anchor(file, anchor.trim_end_matches(['.', '-']));
                if !files.keys().any(|file| fits(&file)) {
                    report(&format!("{word} is not there"));
                }
            }
        }
        for target in links(line).filter(|_| is_document(path)) {
            let (name, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if name.is_empty() { path.to_owned() } else { joined(parent, name) };
            let is_there = files.contains_key(&file) || Path::new(ROOT).join(&file).exists();
            if !is_there || !has_anchor(&file, anchor) {
                report(&format!("the link to {target} leads nowhere"));
            }
        }
    }
    found
}

#[test]
fn whatever_is_cited_is_there() {
    let files = files();
    let found: Vec<String> = files.iter().flat_map(|(path, text)| problems(&files, path, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_cited_and_not_there_is_found() {
    let mut files = BTreeMap::from([("docs/a.md".into(), "# One `two`, three\n```\n# four\n```\n".to_owned())]);
    let mut count = |name: &str, text: &str| {
        files.insert(name.into(), text.to_owned());
        problems(&files, Path::new(name), text).len()
    };
    assert_eq!(count("x.rs", "// docs/a.md#one-two-three, docs/a.md. ../docs/a.md https://example.org/b.md"), 0);
    assert_eq!(count("x.rs", "// docs/a.md#four, b.md, docs/b.md#one, (PROTOCOLS A.1), NSPAWN 1"), 5);
    assert_eq!(count("docs/b.md", "[x](a.md#one-two-three) [y](../x.rs) [z](#here)\n# Here"), 0);
    assert_eq!(count("docs/b.md", "[x](a.rs) [y](#there)"), 2);
}

#[test]
fn each_promise_names_tests_that_exist() {
    let files = files();
    for (number, section) in files[Path::new("docs/promises.md")].split("\n## ").enumerate().skip(1) {
        let (mut source, mut named) = (None, 0);
        for entry in section.split("\n- ").skip(1) {
            let before = named;
            for token in entry.lines().skip(1).filter_map(|line| line.strip_prefix("  `")?.strip_suffix('`')) {
                if token.contains('/') {
                    source = Some(files.get(Path::new(token)).unwrap_or_else(|| panic!("{token} is not there")));
                } else {
                    named += 1;
                    assert!(source.is_some_and(|text| text.contains(&format!("fn {token}("))), "no test {token}");
                }
            }
            assert!(named > before, "a promise without a test: {entry}");
        }
        assert!(named > 0, "section {number} promises nothing");
    }
}
