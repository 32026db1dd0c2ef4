//! The program as its packages install it: completions, manual pages, schemas, exit statuses. Needs no controller.
#![allow(clippy::unwrap_used)]

mod import;
mod reference;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gha-runner-controller");
/// The names it is installed under.
const NAMES: [&str; 4] = ["gha-runner-controller", "runner-status", "cleanup-github-runners", "cleanup-all-containers"];

/// What `generate` writes.
static MADE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let made = tempfile::tempdir().unwrap();
    let output = Command::new(PROGRAM).arg("generate").arg("--output").arg(made.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    made
});

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped: no {program}");
    }
    there
}

/// What bash offers for the last of these words.
fn offered(words: &[&str]) -> BTreeSet<String> {
    let file = MADE.path().join(format!("completions/{}.bash", words[0]));
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        spec=$(complete -p "$1") || exit 1
        [[ $spec =~ -F\ ([^ ]+) ]] && "${BASH_REMATCH[1]}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash").args(["-c", script, "bash"]).arg(file).args(words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {}", text(&output));
    text(&output).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options_under_every_name() {
    if !is_there("bash") {
        return;
    }
    for (words, wanted) in [
        (&["gha-runner-controller", "cont"][..], &["containers"][..]),
        (&["gha-runner-controller", "cleanup", ""], &["runners", "containers"]),
        (&["gha-runner-controller", "history", "--ca"], &["--cause"]),
        (&["gha-runner-controller", "history", "--cause", "out"], &["out-of-memory"]),
        (&["runner-status", "--w"], &["--watch"]),
        (&["cleanup-github-runners", "--dry"], &["--dry-run"]),
        (&["cleanup-all-containers", "--dry"], &["--dry-run"]),
    ] {
        let offered = offered(words);
        for word in wanted {
            assert!(offered.contains(*word), "{words:?}: {offered:?}");
        }
    }
}

#[test]
fn there_are_completions_for_three_shells_and_a_manual_page_for_every_command_and_name() {
    for name in NAMES {
        for file in [format!("{name}.bash"), format!("_{name}"), format!("{name}.fish")] {
            assert!(MADE.path().join("completions").join(&file).is_file(), "{file}");
        }
        let page = fs::read_to_string(MADE.path().join(format!("man1/{name}.1"))).unwrap();
        let plain = page.replace("\\-", "-");
        assert!(plain.contains(&format!("{name} - ")) && plain.contains(&format!("\\fB{name}\\fR")), "{page}");
    }
    for command in ["run", "status", "jobs", "containers", "logs", "shell", "drain", "history", "cleanup-runners"] {
        assert!(MADE.path().join(format!("man1/gha-runner-controller-{command}.1")).is_file(), "{command}");
    }
}

#[test]
fn manual_pages_are_set_without_a_warning() {
    if !is_there("groff") {
        return;
    }
    for page in fs::read_dir(MADE.path().join("man1")).unwrap() {
        let page = page.unwrap().path();
        let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(&page).output().unwrap();
        assert!(output.status.success() && text(&output).is_empty(), "{}: {}", page.display(), text(&output));
    }
}

/// Names of the commands that this help lists.
fn commands(path: &[&str]) -> Vec<String> {
    let help = text(&Command::new(PROGRAM).args(path).arg("--help").output().unwrap());
    let Some((_, rest)) = help.split_once("Commands:\n") else { return Vec::new() };
    let listed = rest.lines().take_while(|line| line.starts_with("  "));
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

#[test]
fn every_command_with_json_has_a_sound_schema_of_what_it_prints() {
    let mut with_json = BTreeSet::new();
    for command in commands(&[]) {
        let inner = commands(&[&command]);
        let paths: Vec<Vec<&str>> = match inner.is_empty() {
            true => vec![vec![&command]],
            false => inner.iter().map(|inner| vec![command.as_str(), inner]).collect(),
        };
        for path in paths {
            let help = text(&Command::new(PROGRAM).args(&path).arg("--help").output().unwrap());
            if help.contains("--json") {
                with_json.insert(path.join("-") + ".json");
            }
        }
    }
    assert!(with_json.len() > 10, "{with_json:?}");
    with_json.extend(["history-summary.json", "configuration.json"].map(str::to_owned));
    let schemas = MADE.path().join("schemas");
    let made: BTreeSet<String> =
        fs::read_dir(&schemas).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(made, with_json);
    for name in made {
        let schema: Value = serde_json::from_str(&fs::read_to_string(schemas.join(&name)).unwrap()).unwrap();
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        let validator = jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!validator.is_valid(&serde_json::json!({"version": 3})), "{name} takes anything");
    }
}

#[test]
fn what_is_refused_and_what_is_not_answered_have_exit_statuses_of_their_own() {
    let bad = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    fs::write(&bad, "max_concurent = 3\n").unwrap();
    let bad = bad.path().to_str().unwrap();
    let nowhere = ["--socket", "/nonexistent/socket", "--port", "1"];
    let asking = |command: &[&'static str]| [command, &nowhere].concat();
    for (arguments, code) in [
        (vec!["--version"], 0),
        (vec!["jobs", "--help"], 0),
        (vec![], 2),
        (vec!["nonsense"], 2),
        (vec!["history", "--cause", "bad-luck"], 2),
        (vec!["stop", "../etc"], 2),
        (vec!["check", "--static", "--config", bad], 2),
        (vec!["plan", "--config", bad], 2),
        (vec!["cleanup", "runners", "--config", bad], 2),
        (vec!["run", "--config", bad], 2),
        (asking(&["status"]), 1),
        (asking(&["jobs", "--json"]), 1),
        (asking(&["containers"]), 1),
        (asking(&["history"]), 1),
        (asking(&["logs", "4711"]), 1),
        (asking(&["drain"]), 1),
        (asking(&["stop", "j0004711"]), 1),
    ] {
        let output = Command::new(PROGRAM).args(&arguments).env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        // What `check` finds is what it was asked for.
        let said = if arguments.contains(&"check") { &output.stdout } else { &output.stderr };
        assert!(code == 0 || !said.is_empty(), "{arguments:?}: nothing is said");
    }
}

fn examples() -> Vec<PathBuf> {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "toml")).collect()
}

#[test]
fn check_finds_nothing_against_an_example_and_units_renders_it() {
    assert!(examples().len() >= 4);
    let made = tempfile::tempdir().unwrap();
    for example in examples() {
        let run = |arguments: &[&str]| {
            let mut program = Command::new(PROGRAM);
            let output = program.args(arguments).arg("--static").arg("--config").arg(&example).env_clear().output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}: {}", example.display(), text(&output));
            output.stdout
        };
        let report: Value = serde_json::from_slice(&run(&["check", "--json"])).unwrap();
        assert_eq!(report["outcome"], "fine", "{}: {report:#}", example.display());
        run(&["units", "--output", made.path().to_str().unwrap()]);
    }
}

#[test]
fn units_renders_what_the_environment_alone_says() {
    let made = tempfile::tempdir().unwrap();
    let units = |variables: &[(&str, &str)]| {
        let mut program = Command::new(PROGRAM);
        program.args(["units", "--static", "--output", made.path().to_str().unwrap()]);
        program.env_clear().envs(variables.iter().copied()).output().unwrap()
    };
    let output = units(&[("GITHUB_REPO", "octo-org/hello"), ("GITHUB_TOKEN_FILE", "/t"), ("MAX_CONCURRENT", "3")]);
    assert!(output.status.success(), "{}", text(&output));
    let settings = fs::read_to_string(made.path().join("gha-runner-controller/settings.json")).unwrap();
    assert!(settings.contains("octo-org/hello") && settings.contains("\"max_concurrent\": 3"), "{settings}");
    let output = units(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("set GITHUB_REPO"), "{}", text(&output));
}

#[test]
fn every_example_is_named_where_keys_are_explained() {
    let documented = include_str!("../../../docs/configuration.md");
    for example in examples() {
        let name = example.file_name().unwrap().to_str().unwrap();
        assert!(documented.contains(&format!("(../examples/{name})")), "{name} is not in docs/configuration.md");
    }
}
