//! State directories as earlier versions left them, one for each form that a file has had, and one of a later version:
//! the new program takes over the former, and refuses the latter in words.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use contract::ContainerName;
use controller::{
    cause::Cause,
    history::{Filter, Store},
    ledger::Ledger,
    ports::Records,
    record::{Record, Stage},
};
use sandbox::inbox;

/// Before scopes, before a history; before the hand-over named a scope; now.
const FORMS: [&str; 3] = ["first", "shared", "current"];
const SETTINGS: &str = "token_file = \"/nowhere\"\n[network]\npool = \"10.9.0.0/27\"\nprefix = 30\n[class.small]\n\
    labels = [\"self-hosted\"]\n[[target]]\nrepo = \"acme/api\"\n";

fn recorded(form: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unprivileged/upgrade").join(form)
}

/// A copy that may be changed, with the modes that the program gives its files.
fn copied(form: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), &target).unwrap();
                fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&recorded(form), dir.path());
    dir
}

fn ledger(state: &Path) -> Ledger {
    let handover = state.join("handover");
    Ledger::at(state, &handover, &state.join("endings"), "boot-1".into()).unwrap()
}

fn hand_over(state: &Path) -> Result<inbox::Accepted, inbox::Refused> {
    let settings = state.join("written.toml");
    fs::write(&settings, SETTINGS).unwrap();
    let settings = settings::load(Some(&settings), |_| None).unwrap();
    inbox::read(&state.join("handover"), &"j0000002".parse::<ContainerName>().unwrap(), "small", &settings)
}

#[test]
fn every_form_of_the_state_directory_is_taken_over_whole() {
    for form in FORMS {
        let dir = copied(form);
        let ledger = ledger(dir.path());
        let stages: Vec<Stage> = ledger
            .load()
            .unwrap()
            .iter()
            .map(|Record { scope, class, stage, .. }| {
                assert_eq!((scope.as_str(), class.as_str()), ("acme/api", "small"), "{form}");
                *stage
            })
            .collect();
        let (stopping, settling) = (Cause::IdleTooLong, Cause::JobFailed);
        let expected =
            [Stage::Minting, Stage::Started, Stage::Stopping { cause: stopping }, Stage::Settling { cause: settling }];
        assert_eq!(stages, expected, "{form}");
        let handed: Vec<_> = ledger.handed_over().unwrap().into_iter().map(|record| record.scope).collect();
        assert_eq!(handed, ["acme/api"], "{form}");
        assert_eq!(hand_over(dir.path()).unwrap().record.runner_name, "sim-small-j0000002-00beef", "{form}");
        // Before there was a history, it begins now.
        let entries = Store::open(dir.path()).unwrap().find(&Filter::default()).unwrap();
        assert_eq!(entries.len(), usize::from(form != "first"), "{form}");
        assert!(entries.iter().all(|entry| (entry.cause, entry.job_id) == (Cause::Succeeded, Some(9))), "{form}");
        assert_eq!(ledger.load_drains().unwrap().holds("big"), form != "first", "{form}");
        // What is written from now on is of the present form.
        for record in ledger.load().unwrap() {
            ledger.put(&record).unwrap();
        }
        let text = fs::read_to_string(dir.path().join("containers/j0000002.json")).unwrap();
        assert_eq!(
            keys(&text),
            keys(&fs::read_to_string(recorded("current").join("containers/j0000002.json")).unwrap())
        );
    }
}

/// A form that changes needs a directory of its own here, beside this one.
fn keys(text: &str) -> Vec<String> {
    let document: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    let timeline = document["timeline"].as_object().unwrap().keys().map(|key| format!("timeline.{key}"));
    document.keys().cloned().chain(timeline).collect()
}

#[test]
fn a_later_versions_files_are_kept_and_refused_in_words() {
    let dir = copied("later");
    let ledger = ledger(dir.path());
    assert!(ledger.load().unwrap().is_empty(), "a record that nobody here understands is nobody's");
    let aside = dir.path().join("containers/j0000001.unreadable");
    assert_eq!(fs::read(aside).unwrap(), fs::read(recorded("later").join("containers/j0000001.json")).unwrap());
    let refused = hand_over(dir.path()).unwrap_err().to_string();
    assert!(refused.ends_with("container.json: has version 2; this program knows version 1"), "{refused}");
    let before = fs::read(dir.path().join("history.sqlite")).unwrap();
    let refused = Store::open(dir.path()).unwrap_err().0;
    assert!(refused.contains("the database is of a later version (2) of this program"), "{refused}");
    assert_eq!(fs::read(dir.path().join("history.sqlite")).unwrap(), before, "it was written to");
    let settings = dir.path().join("settings.json");
    let refused = Command::new(env!("CARGO_BIN_EXE_gha-runner-controller"))
        .args(["check", "--config"])
        .arg(settings)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("version 2") && said.contains("gha-runner-controller units"), "{said}");
}
