//! `import`, against files as other tools have them: what is printed, that `check` accepts it, that the NixOS module
//! says the same. `SNAPSHOTS=write` writes what is printed anew, here and in docs/migrating.md.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use super::{PROGRAM, is_there, text};

const FILES: &str = "tests/unprivileged/command_line/import";
const DOCUMENT: &str = "docs/migrating.md";
/// What stands in every secret of the files.
const SECRET: &str = "swordfish";

fn import(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("import").args(arguments).env_clear().output().unwrap()
}

/// The other tools' files.
fn theirs() -> Vec<PathBuf> {
    let files = fs::read_dir(FILES).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| !file.extension().is_some_and(|end| end == "toml" || end == "nix")).collect();
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    files
}

fn writes() -> bool {
    env::var_os("SNAPSHOTS").is_some_and(|value| value == "write")
}

/// Holds what is printed against the file that has it.
fn compare(printed: &str, file: &Path) {
    if writes() {
        fs::write(file, printed).unwrap();
    }
    let known = fs::read_to_string(file).unwrap_or_default();
    assert!(printed == known, "{} is not what is printed (SNAPSHOTS=write writes it anew):\n{printed}", file.display());
}

#[test]
fn a_file_of_each_tool_becomes_a_configuration_that_check_accepts_and_no_secret_is_printed() {
    for file in theirs() {
        for (nix, end) in [(false, "toml"), (true, "nix")] {
            let name = file.to_str().unwrap();
            let arguments = [name, "--nix"];
            let output = import(if nix { &arguments } else { &arguments[..1] });
            assert!(output.status.success(), "{name}: {}", text(&output));
            assert!(!text(&output).contains(SECRET), "{name}: a secret is printed: {}", text(&output));
            compare(&String::from_utf8(output.stdout).unwrap(), &file.with_extension(end));
        }
        let ours = file.with_extension("toml");
        let check = ["check", "--static", "--config", ours.to_str().unwrap()];
        let output = Command::new(PROGRAM).args(check).env_clear().output().unwrap();
        assert!(output.status.success(), "{}: {}", ours.display(), text(&output));
    }
}

#[test]
fn the_nixos_module_says_what_the_configuration_file_says() {
    if !is_there("nix-instantiate") {
        return;
    }
    for file in theirs() {
        let module = fs::canonicalize(file.with_extension("nix")).unwrap();
        let expression = format!("(import {}).services.gha-runner-controller.settings", module.display());
        let output = Command::new("nix-instantiate")
            .args(["--eval", "--strict", "--json", "--expr", &expression])
            .envs([("NIX_REMOTE", "dummy://"), ("NIX_CONFIG", "build-users-group =")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", module.display(), text(&output));
        let module: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ours: Value = toml::from_str(&fs::read_to_string(file.with_extension("toml")).unwrap()).unwrap();
        assert_eq!(numbers(module), numbers(ours), "{}", file.display());
    }
}

/// JSON of Nix writes 2.0 as 2.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(table) => table.into_iter().map(|(name, value)| (name, numbers(value))).collect(),
        value => value,
    }
}

#[test]
fn docs_show_these_files() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let mut fresh = String::new();
    let mut rest = document.as_str();
    let mut shown = 0;
    while let Some((before, after)) = rest.split_once("<!-- file: ") {
        let (name, after) = after.split_once(" -->\n```").unwrap();
        let (language, after) = after.split_once('\n').unwrap();
        let (_, after) = after.split_once("```\n").unwrap();
        let file = fs::read_to_string(Path::new(FILES).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        fresh.push_str(&format!("{before}<!-- file: {name} -->\n```{language}\n{file}```\n"));
        rest = after;
        shown += 1;
    }
    fresh.push_str(rest);
    assert!(shown >= 12, "{shown} files are shown");
    if writes() {
        fs::write(DOCUMENT, fresh).unwrap();
    } else {
        assert!(fresh == document, "{DOCUMENT} shows other files: SNAPSHOTS=write make command-line");
    }
}

#[test]
fn a_file_that_is_not_understood_is_refused_with_its_line_and_nothing_that_stands_there() {
    let long = "a".repeat(70_000);
    let aliases = (0..30).fold("a0: &a0 [swordfish]\n".to_owned(), |text, n| {
        let alias = format!("*a{n}, ").repeat(9);
        format!("{text}a{}: &a{} [{alias}]\n", n + 1, n + 1)
    });
    let deep = format!("runner: {}1{}\n", "[".repeat(5000), "]".repeat(5000));
    for (name, content, said) in [
        ("a.yml", "github:\n  org: [swordfish\n", "line 2 column 8: unclosed bracket"),
        ("a.yml", "github: swordfish\n\tx: 1\n", "line 1"),
        ("a.yml", "- swordfish\n", "not a table"),
        ("a.yml", "secret: swordfish\n", "none of the tools known"),
        ("a.env", "GITHUB_REPO=a/b\nswordfish\n", "line 2"),
        ("a.env", "GITHUB_REPO=a/b\nGITHUB_TOKEN='swordfish\n", "line 2"),
        ("a.env", "GITHUB_PAT=swordfish\n", "REPO_OWNER"),
        ("a.env", "GITHUB_REPO=a/b\nPOLL_INTERVAL=swordfish\n", "POLL_INTERVAL"),
        ("a.yml", "github: {org: o}\nrunners: [cpu-huge-1]\n", "runners[0]"),
        ("a.yml", "github: {org: o}\nrunners: {a: b}\n", "runners"),
        ("a.yml", "runner: {capacity: swordfish}\n", "runner.capacity"),
        ("a.yml", &long, "64 KiB"),
        ("a.yml", &aliases, "budget"),
        ("a.yml", &deep, "limit exceeded"),
        ("a.yml", "", "not a table"),
        // What comes of it is refused.
        ("a.env", "GITHUB_REPO=a b\n", "target"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        fs::write(&file, content).unwrap();
        let output = import(&[file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{content:.80}: {:.2000}", text(&output));
        let said_all = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said_all.contains(said) && !text(&output).contains(SECRET), "{content:.80}: {said_all:.2000}");
    }
    let output = import(&["/nonexistent/file"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn what_a_file_says_does_not_break_out_of_a_comment_or_a_text() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let image = r#"docker://x\nmax_concurrent = 77\r\n}"#;
    let hostile =
        format!("runner:\n  capacity: 1\n  labels: [\"a${{b}}\\\\:{image}\"]\n  \"x\\nmax_concurrent = 78\": 1\n");
    fs::write(&file, hostile).unwrap();
    let file = file.to_str().unwrap();
    let output = import(&[file]);
    let ours: toml::Table = toml::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(ours["max_concurrent"].as_integer(), Some(1));
    let label = "a${b}\\:docker://x\nmax_concurrent = 77\r\n}";
    assert_eq!(ours["class"]["default"]["labels"][0].as_str(), Some(label), "{ours}");
    if !is_there("nix-instantiate") {
        return;
    }
    let module = directory.path().join("module.nix");
    fs::write(&module, import(&[file, "--nix"]).stdout).unwrap();
    let expression = format!(
        "let s = (import {}).services.gha-runner-controller.settings; in [ s.max_concurrent s.class.default.labels ]",
        module.display()
    );
    let output = Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "--expr", &expression])
        .envs([("NIX_REMOTE", "dummy://"), ("NIX_CONFIG", "build-users-group =")])
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(said, serde_json::json!([1, [label]]));
}

#[test]
fn the_tool_can_be_named() {
    let file = format!("{FILES}/act-runner.yaml");
    let output = import(&[&file, "--from", "forgejo-runner"]);
    assert!(text(&output).contains("\nkind = \"forgejo\""), "{}", text(&output));
    let output = import(&[&file, "--from", "poller"]);
    assert!(output.status.code() == Some(2) && text(&output).contains("GITHUB_REPO"), "{}", text(&output));
}
