//! `gha-runner-guest admit` as the runner meets it: a process started by the runner's worker before the first step of a job.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Output},
};

const FORK: &str = r#"{"repository":{"id":1,"private":false},"pull_request":{"head":{"repo":{"id":2}}}}"#;
const OWN: &str = r#"{"repository":{"id":1,"private":false},"pull_request":{"head":{"repo":{"id":1}}}}"#;

/// Asks as a hook in a shell does; with `worker`, a process that looks like the runner's worker started that shell and
/// would run a step whatever the hook said.
fn ask(event: &str, payload: &str, worker: bool) -> Output {
    let place = tempfile::tempdir().unwrap();
    let (file, hook) = (place.path().join("event.json"), place.path().join("hook.sh"));
    fs::write(&file, payload).unwrap();
    fs::write(&hook, format!("'{}' admit || exit 1\n", guest().display())).unwrap();
    let mut command = Command::new("bash");
    match worker {
        true => {
            command.args(["-c", "bash -e \"$3\"; echo 'a step that always runs'", "spawnclient", "3", "4"]).arg(hook)
        }
        false => command.arg("-e").arg(hook),
    };
    command.env("GITHUB_EVENT_NAME", event).env("GITHUB_EVENT_PATH", file).output().unwrap()
}

/// The guest's program as `make build` makes it.
fn guest() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_gha-runner-controller")).with_file_name("gha-runner-guest");
    assert!(program.is_file(), "{}: make build", program.display());
    program
}

#[test]
fn the_guest_needs_no_library_of_the_template_it_runs_in() {
    // Of each program header (elf(5)) the type: PT_INTERP names the loader of a program that is not static.
    let program = fs::read(guest()).unwrap();
    let number = |at: usize, bytes: usize| {
        program[at..at + bytes].iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte))
    };
    let (first, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(program.starts_with(b"\x7fELF") && count > 0);
    assert!((0..count).all(|header| number(first + header * size, 4) != 3), "it is not static");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_job_that_may_run_runs() {
    for (event, payload) in [("push", "{}"), ("pull_request", OWN), ("pull_request_target", FORK)] {
        let output = ask(event, payload, true);
        assert!(output.status.success(), "{event}: {output:?}");
        assert_eq!(said(&output), "a step that always runs\n", "{event}");
    }
}

#[test]
fn a_job_of_a_fork_fails_with_a_reason_and_a_remedy() {
    let output = ask("pull_request", FORK, false);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("comes from a fork"), "{output:?}");
    assert!(said(&output).contains("forks = \"allow\""), "{output:?}");
}

#[test]
fn no_step_of_a_refused_job_runs_not_even_one_that_always_runs() {
    let output = ask("pull_request", FORK, true);
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    assert!(!said(&output).contains("a step"), "{output:?}");
    // Where the runner finds it when its worker has ended.
    assert!(String::from_utf8_lossy(&output.stderr).contains("comes from a fork"), "{output:?}");
}
