//! Has the runner ask this program before the first step of its job (`ACTIONS_RUNNER_HOOK_JOB_STARTED`,
//! docs/github.md#job-hook).
//!
//! The runner runs the hook before anything the job brings along: before its service containers, before the `pre` steps
//! of its actions, and without the variables its workflow sets (actions/runner, `JobExtension`, `JobHookProvider`).
//! Gitea's runner does since its release 3.0, by its configuration, and with the workflow's variables.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

/// The variable that names the hook to the runner.
pub const VARIABLE: &str = "ACTIONS_RUNNER_HOOK_JOB_STARTED";
/// Where the hook lies: root's, so that the job user can read and run it, and no more.
pub const DIRECTORY: &str = "/run/gha-runner-guest";
/// The runner tells the kind of a script by the end of its name.
const FILE: &str = "job-started.sh";
/// One that is started as a program has no end in its name.
const PROGRAM_FILE: &str = "job-started";
/// Longest path after `#!` that every kernel takes, with what follows it.
const LONGEST_INTERPRETER: usize = 110;
/// Beside it, where `gha-runner-guest admit` says why it refused: empty from the start. The job user must be able to write it, so a
/// job that was let in can pretend that it was not; all it gains is another word for its failure.
const REFUSAL: &str = "refusal";
/// Longest word read of it, in bytes.
const REFUSAL_LIMIT: u64 = 1024;
/// What the runner adds to its environment, in its root directory; wins over what it was started with.
const ENVIRONMENT_FILE: &str = ".env";

/// Writes the hook into `directory`, which must not exist, and returns its path. `program` is this program. A hook that
/// the template has of its own, in the runner's `.env` file, runs after it.
pub fn install(directory: &Path, program: &Path, root: &Path) -> anyhow::Result<PathBuf> {
    let theirs = take_out(&root.join(ENVIRONMENT_FILE)).context("the runner's .env file")?;
    let program = program.to_str().context("this program's path is not text")?;
    let mut script = format!("#!/bin/sh\n{} admit || exit 1\n", quoted(program));
    if let Some(theirs) = theirs {
        script.push_str(&format!("exec \"${{BASH:-sh}}\" -e {}\n", quoted(&theirs)));
    }
    put(directory, FILE, &script)
}

/// The same for a runner that starts its hook as a program: it needs no shell, which would obey the workflow's variables.
pub fn install_program(directory: &Path, program: &Path) -> anyhow::Result<PathBuf> {
    let program = program.to_str().context("this program's path is not text")?;
    ensure!(
        program.len() < LONGEST_INTERPRETER && !program.contains(char::is_whitespace),
        "the path {program} of the guest cannot be the first line of a hook: it is too long or has spaces"
    );
    put(directory, PROGRAM_FILE, &format!("#!{program} admit\n"))
}

/// Makes the directory and in it the hook and an empty refusal.
fn put(directory: &Path, file: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(file);
    let write = || -> io::Result<()> {
        DirBuilder::new().mode(0o755).create(directory)?;
        OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path)?.write_all(text.as_bytes())?;
        // Whatever the umask: the hook runs as the job user.
        File::create_new(directory.join(REFUSAL))?.set_permissions(Permissions::from_mode(0o666))
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Notes why the job is refused. Best effort: the refusal stands without it.
pub fn note_refusal(directory: &Path, message: &str) {
    if let Ok(mut file) = OpenOptions::new().append(true).open(directory.join(REFUSAL)) {
        let _ = writeln!(file, "{message}");
    }
}

/// Why the job was refused, if it was.
pub fn refusal(directory: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(directory.join(REFUSAL)).ok()?.take(REFUSAL_LIMIT).read_to_end(&mut text).ok()?;
    let line: String = String::from_utf8_lossy(&text).lines().next()?.chars().filter(|c| !c.is_control()).collect();
    Some(line)
}

/// Takes the template's own hook out of its `.env` file, where it would win over ours; the last of several counts.
fn take_out(file: &Path) -> io::Result<Option<String>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let hook = |line: &str| line.split_once('=').filter(|(key, _)| *key == VARIABLE).map(|(_, hook)| hook.to_owned());
    let Some(theirs) = text.lines().filter_map(hook).next_back() else { return Ok(None) };
    let rest: String = text.lines().filter(|line| hook(line).is_none()).map(|line| format!("{line}\n")).collect();
    fs::write(file, rest)?;
    Ok(Some(theirs).filter(|theirs| !theirs.is_empty()))
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    /// Somewhere to install to, with a program that says how it was called and ends with `status`.
    fn place(status: i32) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("it's a program");
        let text = format!("#!/bin/sh\necho \"asked: $*\"\nexit {status}\n");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (place, program)
    }

    /// As the runner does it.
    fn run(hook: &Path) -> (bool, String) {
        let output = Command::new("bash").arg("-e").arg(hook).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn the_hook_asks_this_program_and_fails_when_it_refuses() {
        for (status, admitted) in [(0, true), (1, false), (77, false)] {
            let (place, program) = place(status);
            let hook = install(&place.path().join("hooks"), &program, place.path()).unwrap();
            assert!(hook.extension().is_some_and(|extension| extension == "sh"));
            assert_eq!(run(&hook), (admitted, "asked: admit\n".to_owned()));
            let mode = fs::metadata(&hook).unwrap().permissions().mode();
            assert_eq!(mode & 0o022, 0, "others may not write it: {mode:o}");
        }
    }

    #[test]
    fn a_hook_of_the_template_runs_after_an_admission_and_not_after_a_refusal() {
        for (status, said) in [(0, "asked: admit\ntheirs\n"), (1, "asked: admit\n")] {
            let (place, program) = place(status);
            let theirs = place.path().join("their hook.sh");
            fs::write(&theirs, "echo theirs\n").unwrap();
            let environment = place.path().join(".env");
            let lines = format!("A=1\n{VARIABLE}=/nowhere.sh\nB={VARIABLE}=2\n{VARIABLE}={}\n", theirs.display());
            fs::write(&environment, lines).unwrap();
            let hook = install(&place.path().join("hooks"), &program, place.path()).unwrap();
            assert_eq!(run(&hook).1, said);
            let left = fs::read_to_string(environment).unwrap();
            assert_eq!(left, format!("A=1\nB={VARIABLE}=2\n"), "nothing may win over our hook");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_reason_and_an_admission_is_not() {
        let (place, program) = place(0);
        let hooks = place.path().join("hooks");
        assert_eq!(refusal(&hooks), None, "no hook, no refusal");
        install(&hooks, &program, place.path()).unwrap();
        assert_eq!(refusal(&hooks), None);
        let mode = fs::metadata(hooks.join(REFUSAL)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666, "the job user writes it");
        note_refusal(&hooks, "it comes\u{7} from a fork");
        note_refusal(&hooks, &"x".repeat(5000));
        assert_eq!(refusal(&hooks).as_deref(), Some("it comes from a fork"));
    }

    #[test]
    fn a_hook_that_is_a_program_asks_without_a_shell() {
        let (place, program) = place(0);
        assert!(install_program(&place.path().join("hooks"), &program).is_err(), "a space in its path");
        let plain = place.path().join("program");
        fs::rename(program, &plain).unwrap();
        let hook = install_program(&place.path().join("hooks"), &plain).unwrap();
        let output = Command::new(&hook).env("BASH_ENV", "/nowhere").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("asked: admit {}\n", hook.display()));
    }

    #[test]
    fn a_place_somebody_was_at_before_is_refused() {
        let (place, program) = place(0);
        let hooks = place.path().join("hooks");
        fs::create_dir(&hooks).unwrap();
        assert!(install(&hooks, &program, place.path()).is_err());
    }
}
