//! The walls of the house: which crate may depend on which, what the root half and the guest may never hold, and that no
//! circle of imports joins files of different folders.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// What each crate may depend on of ours (docs/architecture.md#crates).
const ALLOWED: [(&str, &[&str]); 8] = [
    ("contract", &[]),
    ("kernel", &[]),
    ("settings", &["contract"]),
    ("forge", &["contract", "settings"]),
    ("sandbox", &["contract", "kernel", "settings"]),
    ("gha-runner-guest", &["contract", "kernel"]),
    ("controller", &["contract", "forge", "settings"]),
    ("api", &["contract", "controller", "forge", "kernel", "settings"]),
];
/// What strangers' input could reach as root, or what makes the guest large.
const NEVER_ROOT: [&str; 9] = ["api", "axum", "controller", "forge", "hyper", "octocrab", "rmcp", "rusqlite", "rustls"];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_crate_depends_on_what_its_zone_may() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--locked", "--no-deps", "--format-version=1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for (name, allowed) in ALLOWED {
        let package = packages.iter().find(|package| package["name"] == name).unwrap();
        let ours = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string());
        for dependency in ours.map(|dependency| dependency["name"].as_str().unwrap()) {
            assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_root_half_and_the_guest_hold_no_server_no_database_and_no_forge() {
    for package in ["sandbox", "gha-runner-guest"] {
        let tree = cargo(&["tree", "--locked", "--package", package, "--edges=normal", "--prefix=none"]);
        let held: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(held.contains("serde"), "{tree}");
        for never in NEVER_ROOT {
            assert!(!held.contains(never), "{package} holds {never}");
        }
    }
}

#[test]
fn no_circle_of_imports_joins_files_of_different_folders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources: Vec<PathBuf> =
        fs::read_dir(root.join("crates")).unwrap().map(|found| found.unwrap().path().join("src")).collect();
    sources.push(root.join("src"));
    assert!(sources.len() > 8, "{sources:?}");
    for source in sources {
        let modules = modules(&source);
        let imports: BTreeMap<&Module, BTreeSet<&Module>> =
            modules.iter().map(|(module, file)| (module, imports(module, file, &modules))).collect();
        for module in modules.keys() {
            let forth = reached(module, &imports);
            let circle: Vec<&Module> =
                forth.iter().filter(|other| reached(other, &imports).contains(module)).copied().collect();
            let folders: BTreeSet<&[String]> = circle.iter().map(|member| folder(member, &source)).collect();
            assert!(folders.len() < 2, "{}: a circle of {circle:?}", source.display());
        }
    }
}

/// A module by its path below the crate's root.
type Module = Vec<String>;

/// Every module and its file, but for tests and the crate's front, which only names the others.
fn modules(source: &Path) -> BTreeMap<Module, PathBuf> {
    let (mut found, mut directories) = (BTreeMap::new(), vec![source.to_owned()]);
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let module = path.strip_prefix(source).unwrap().with_extension("");
            let mut module: Module =
                module.iter().map(|part| part.to_str().unwrap().to_owned()).filter(|part| part != "mod").collect();
            match module.last_mut().map(|last| &**last) {
                Some("tests" | "lib" | "main") | None => {}
                Some(_) if path.is_dir() => directories.push(path),
                Some(_) if path.extension().is_some_and(|end| end == "rs") => drop(found.insert(module, path)),
                Some(_) => {}
            }
        }
    }
    found
}

/// The folder a module belongs to: its own, if files lie below it.
fn folder<'a>(module: &'a Module, source: &Path) -> &'a [String] {
    let own = module.iter().fold(source.to_owned(), |path, part| path.join(part));
    if own.is_dir() { module } else { &module[..module.len() - 1] }
}

fn imports<'a>(module: &Module, file: &Path, modules: &'a BTreeMap<Module, PathBuf>) -> BTreeSet<&'a Module> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("\n#[cfg(test)]").next().unwrap();
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let mut found = BTreeSet::new();
    let mut paths: Vec<String> = Vec::new();
    for statement in code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()) {
        leaves("", statement, &mut paths);
    }
    for start in ["crate::", "super::"] {
        let inline = code.match_indices(start).map(|(at, _)| {
            code[at..].split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).next().unwrap().to_owned()
        });
        paths.extend(inline);
    }
    for path in paths {
        let mut parts = path.split("::").peekable();
        let mut whole: Module = match parts.peek() {
            Some(&"crate") => Vec::new(),
            Some(&("super" | "self")) => module.clone(),
            Some(first) if modules.contains_key(&[&module[..], &[(*first).to_owned()]].concat()) => module.clone(),
            _ => continue,
        };
        for part in parts {
            match part {
                "crate" | "self" | "" => {}
                "super" => drop(whole.pop()),
                _ => whole.push(part.to_owned()),
            }
        }
        let target = (1..=whole.len()).rev().find_map(|length| modules.get_key_value(&whole[..length]));
        found.extend(target.map(|(target, _)| target).filter(|target| *target != module));
    }
    found
}

/// The single paths of `a::{b, c::{d, e}}`.
fn leaves(before: &str, tree: &str, found: &mut Vec<String>) {
    let (mut depth, mut begin) = (0, 0);
    let mut branches = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&tree[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&tree[begin..]);
    for branch in branches.into_iter().map(str::trim).filter(|branch| !branch.is_empty()) {
        match branch.split_once('{') {
            Some((stem, inner)) => leaves(&format!("{before}{stem}"), inner.trim_end().trim_end_matches('}'), found),
            None => found.push(format!("{before}{}", branch.split(' ').next().unwrap_or_default())),
        }
    }
}

fn reached<'a>(from: &'a Module, imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>) -> BTreeSet<&'a Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for import in &imports[module] {
            if seen.insert(*import) {
                next.push(import);
            }
        }
    }
    seen
}
