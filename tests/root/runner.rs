//! Whatever the forge's runner does, the operator is told what it was.
//!
//! The first half is also for GitHub's own runner: `GHA_LAB_RUNNER=DIR` names where a release is unpacked. The second
//! half needs a stand-in, which has less patience (docs/github.md#runner-program).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use controller::{
    cause::Cause,
    phase::Phase,
    status::{Finished, Status},
};
use github_sim::{
    control::ControlCommand,
    world::{Conclusion, JobId, JobSpec, RunId, RunSpec, RunnerFault, RunnerWhat},
};
use lab::{Place, Recipe, Suite};
use serde_json::Value;
use stage::{REPO, SERVICE, Stage, StageConfig, unit};

const MINUTE: Duration = Duration::from_secs(60);
const SMALL: [&str; 2] = ["self-hosted", "linux"];
/// How long GitHub's runner takes to give a step up that ignores it (docs/github.md#stopping-a-runner).
const GIVES_UP: Duration = Duration::from_secs(12);

/// A stage with the given release of GitHub's runner, or with the stand-in.
fn stage() -> Option<Stage> {
    let runner = env::var_os("GHA_LAB_RUNNER").map(PathBuf::from);
    let tree = match runner {
        Some(_) => Recipe::documented("minimal", Suite::Bookworm).unwrap(),
        None => Recipe::JOB,
    };
    let stage = Stage::boot(&StageConfig { runner, tree, ..StageConfig::default() }).unwrap()?;
    if let Some(version) = stage.status().unwrap().classes[0].runner_version.clone() {
        println!("the runner is {version}");
    }
    Some(stage)
}

/// Queues a job of these steps.
fn queue(stage: &Stage, name: &str, steps: &[&str]) -> (RunId, JobId) {
    stage.hub.queue_job(REPO, JobSpec::new(name, &SMALL, steps)).unwrap()
}

/// Waits until this step of a job runs, and a moment more: its shell has to be there.
fn wait_for_step(stage: &Stage, job: JobId, step: usize) {
    stage.hub.wait_for_job(job, 2 * MINUTE, |job| job.steps[step].started_at.is_some()).unwrap();
    std::thread::sleep(Duration::from_millis(500));
}

fn command(stage: &Stage, arguments: &[&str]) -> String {
    let command: Vec<&str> = ["/usr/local/bin/gha-runner-controller"].iter().chain(arguments).copied().collect();
    stage.lab.exec(Place::Host, &command).unwrap().check().unwrap().text()
}

/// What `logs` shows of a container, without who wrote it and when.
fn logs(stage: &Stage, container: &str) -> Vec<String> {
    let text = command(stage, &["logs", "--json", container]);
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned();
    text.lines().map(line).collect()
}

/// The same end is told by the status, the history and the log.
fn assert_told(stage: &Stage, ended: &Finished, cause: Cause, conclusion: Option<&str>) {
    assert_eq!((ended.cause, ended.conclusion.as_deref()), (cause, conclusion), "{ended:#?}");
    let deadline = Instant::now() + MINUTE;
    let entry = loop {
        // It is on disk a moment after it is in the status.
        let history = command(stage, &["history", "--json", "--container", &ended.name]);
        let history: Value = serde_json::from_str(&history).unwrap();
        // A container of the same job has the same name; each registration has one of its own.
        let entries = history["entries"].as_array().cloned().unwrap_or_default();
        if let Some(entry) = entries.into_iter().find(|entry| entry["runner_name"] == ended.runner_name.as_str()) {
            break entry;
        }
        assert!(Instant::now() < deadline, "no entry of {}", ended.name);
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!((&entry["cause"], entry["conclusion"].as_str()), (&Value::from(cause.word()), conclusion), "{entry}");
    let told = format!("{}: ended: ", ended.name);
    // So it is in a busy host's journal.
    while !logs(stage, &ended.name).iter().any(|line| line.starts_with(&told)) {
        assert!(Instant::now() < deadline, "{:#?}", logs(stage, &ended.name));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn each_line_of_a_job_is_shown_once_whether_it_succeeds_or_fails() {
    let Some(stage) = stage() else { return };
    let steps = ["echo once && echo twice", "echo once && echo twice"];
    let (_, job) = queue(&stage, "succeeds", &steps);
    let ended = stage.wait_finished(job, 2 * MINUTE).unwrap();
    assert_told(&stage, &ended, Cause::Succeeded, Some("success"));
    let shown = logs(&stage, &ended.name);
    let count = |end: &str| shown.iter().filter(|line| line.ends_with(end)).count();
    // Once for each step that says it.
    for line in ["Z once", "Z twice", "##[group]Run echo once && echo twice", "shell: /usr/bin/bash -e {0}"] {
        assert_eq!(count(line), 2, "{line}: {shown:#?}");
    }
    assert_eq!(count("##[endgroup]"), shown.iter().filter(|line| line.contains("##[group]")).count(), "{shown:#?}");
    assert_eq!(stage.hub.job(job).unwrap().output, "once\ntwice\nonce\ntwice\n");

    let (_, job) = queue(&stage, "fails", &["exit 3", "echo never"]);
    let ended = stage.wait_finished(job, 2 * MINUTE).unwrap();
    assert_told(&stage, &ended, Cause::JobFailed, Some("failure"));
    let shown = logs(&stage, &ended.name);
    let errors = shown.iter().filter(|line| line.ends_with("##[error]Process completed with exit code 3.")).count();
    assert_eq!(errors, 1, "{shown:#?}");
    stage.wait_until_clean(2 * MINUTE).unwrap();
}

#[test]
fn a_forks_job_fails_by_the_gate_before_its_first_step() {
    let Some(stage) = stage() else { return };
    // The forge gives the older job to whichever runner comes first.
    let theirs = JobSpec::new("theirs", &SMALL, &["echo their code ran"]);
    let pull_request = RunSpec { event: "pull_request".to_owned(), from_fork: true, ..RunSpec::push(vec![theirs]) };
    let theirs = stage.hub.queue_run(REPO, pull_request).unwrap().job_ids[0];
    let (_, ours) = queue(&stage, "ours", &["echo our code ran"]);
    let refused = stage.hub.wait_completed(theirs, 2 * MINUTE).unwrap();
    assert_eq!(refused.conclusion, Some(Conclusion::Failure));
    assert!(refused.output.contains("refuses this job: it comes from a fork"), "{}", refused.output);
    assert!(!refused.output.contains("their code ran"), "{}", refused.output);
    let told = |status: &Status| status.finished.iter().any(|ended| ended.cause == Cause::ForkRefused);
    stage.wait_for("a container that ended as refused", MINUTE, told).unwrap();
    assert_eq!(stage.hub.wait_completed(ours, 2 * MINUTE).unwrap().conclusion, Some(Conclusion::Success));
    stage.wait_until_clean(2 * MINUTE).unwrap();
}

#[test]
fn a_job_that_is_cancelled_at_the_forge_is_told_as_cancelled() {
    let Some(stage) = stage() else { return };
    let (run, job) = queue(&stage, "cancelled", &["echo begun", "exec sleep 100"]);
    wait_for_step(&stage, job, 1);
    stage.hub.cancel_run(run).unwrap();
    assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Cancelled));
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_told(&stage, &ended, Cause::JobCancelled, Some("cancelled"));
    stage.wait_until_clean(2 * MINUTE).unwrap();
}

#[test]
fn a_container_that_is_stopped_in_its_job_has_time_to_report_and_is_told_as_stopped_by_the_operator() {
    let Some(stage) = stage() else { return };
    // By the command, and by systemd while the controller is away: only the container itself knows then.
    for by_command in [true, false] {
        // A shell that waits for its command notices nothing.
        let (_, job) = queue(&stage, "stopped", &["echo begun", "sleep 100; true"]);
        wait_for_step(&stage, job, 1);
        let container = stage.wait_phase(job, Phase::Running, MINUTE).unwrap();
        let began = Instant::now();
        if by_command {
            command(&stage, &["stop", &container.name]);
        } else {
            stage.systemctl(&["stop", SERVICE]).unwrap();
            stage.systemctl(&["stop", &unit("small", &container.name)]).unwrap();
            stage.systemctl(&["start", SERVICE]).unwrap();
        }
        let done = stage.hub.wait_completed(job, MINUTE).unwrap();
        assert!(began.elapsed() >= GIVES_UP, "the runner was not given its time: {:?}", began.elapsed());
        assert_eq!(done.conclusion, Some(Conclusion::Failure));
        assert!(done.note.unwrap_or_default().contains("shutdown signal"), "it reported");
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_told(&stage, &ended, Cause::StoppedByOperator, Some("failure"));
        assert_eq!(ended.exit_status.as_deref(), Some("21"), "{ended:#?}");
    }
    stage.wait_until_clean(2 * MINUTE).unwrap();
}

/// What a runner does that takes its job, and how that is told.
struct InJob {
    what: Option<RunnerWhat>,
    script: &'static str,
    cause: Cause,
    exit: &'static str,
    conclusion: Option<&'static str>,
    /// The last words on its console, as they end.
    said: &'static str,
}

#[test]
fn what_a_runner_does_in_its_job_is_told_as_what_it_was() {
    // Its lease is two seconds, so that it is renewed often.
    let config = StageConfig { simulator: vec!["--hurry".into(), "300".into()], ..StageConfig::default() };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    for InJob { what, script, cause, exit, conclusion, said } in [
        InJob {
            what: Some(RunnerWhat::TooOldInJob),
            script: "exec sleep 100",
            cause: Cause::RunnerRefused,
            exit: "13",
            conclusion: Some("cancelled"),
            said: " is deprecated and cannot receive messages.",
        },
        InJob {
            what: Some(RunnerWhat::JobForgotten),
            script: "exec sleep 100",
            cause: Cause::LostAtTheForge,
            exit: "20",
            conclusion: Some("failure"),
            said: " completed with result: Abandoned",
        },
        InJob {
            what: Some(RunnerWhat::RenewalBroken),
            script: "sleep 1",
            cause: Cause::Succeeded,
            exit: "0",
            conclusion: Some("success"),
            said: " completed with result: Succeeded",
        },
        InJob {
            what: Some(RunnerWhat::RefreshConfig),
            script: "true",
            cause: Cause::Succeeded,
            exit: "0",
            conclusion: Some("success"),
            said: " completed with result: Succeeded",
        },
        InJob {
            what: Some(RunnerWhat::AcquireRefused),
            script: "true",
            cause: Cause::Succeeded,
            exit: "0",
            conclusion: Some("success"),
            said: " completed with result: Succeeded",
        },
        InJob {
            what: Some(RunnerWhat::SessionBroken),
            script: "true",
            cause: Cause::Succeeded,
            exit: "0",
            conclusion: Some("success"),
            said: ": Runner reconnected.",
        },
        InJob {
            what: None,
            script: "sleep 0.3; kill -9 $(pgrep -f Runner.Worker); exec sleep 100",
            cause: Cause::JobFailed,
            exit: "10",
            conclusion: Some("failure"),
            said: " completed with result: Failed",
        },
        InJob {
            what: None,
            script: "sleep 0.3; kill -9 $(pgrep -f Runner.Listener); exec sleep 100",
            // The forge waits for its lease to end.
            cause: Cause::RunnerFailed,
            exit: "16",
            conclusion: None,
            said: ": Running job: a job",
        },
    ] {
        println!("{what:?}: {script}");
        what.into_iter().for_each(|what| stage.hub.inject_runner(RunnerFault::once(what)).unwrap());
        let (_, job) = queue(&stage, "a job", &[script]);
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_told(&stage, &ended, cause, conclusion);
        assert_eq!(ended.exit_status.as_deref(), Some(exit), "{ended:#?}");
        let logs = logs(&stage, &ended.name);
        assert!(logs.iter().any(|line| line.ends_with(said)), "{said:?}: {logs:#?}");
        let faults: Value = stage.hub.call(&ControlCommand::PendingFaults).unwrap();
        assert_eq!(faults["runner"], Value::Array(Vec::new()), "{what:?} did not happen");
        // None of it speaks against the class.
        let status = stage.status().unwrap();
        assert!(status.problems.is_empty() && !status.classes[0].outdated, "{what:?}: {status:#?}");
    }
    stage.wait_until_clean(2 * MINUTE).unwrap();
}

#[test]
fn a_runner_that_ends_without_a_job_is_told_as_what_it_was_and_the_next_one_serves_the_job() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    for (what, cause, exit, reason) in [
        (RunnerWhat::SessionForbidden, Cause::RunnerFailed, "16", Some("Failed to create session. Error: Forbidden")),
        (
            RunnerWhat::SessionInvalid,
            Cause::RunnerFailed,
            "16",
            Some("An error occurred: Get next message failed with non-retryable error."),
        ),
        (RunnerWhat::SessionConflict, Cause::RunnerFailed, "15", Some("Failed to create session. Error: Conflict")),
        (RunnerWhat::RegistrationGone, Cause::IdleTooLong, "14", None),
        (RunnerWhat::RegistrationLost, Cause::IdleTooLong, "14", None),
        (RunnerWhat::Deprovisioned, Cause::IdleTooLong, "12", None),
        (RunnerWhat::AcknowledgeRefused, Cause::IdleTooLong, "12", None),
    ] {
        println!("{what:?}");
        stage.hub.inject_runner(RunnerFault::once(what)).unwrap();
        let (_, job) = queue(&stage, "served by the next", &["true"]);
        let done = stage.hub.wait_completed(job, 2 * MINUTE).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{what:?}: {done:#?}");
        stage.wait_until_clean(MINUTE).unwrap();
        let status = stage.wait_for("healthy", MINUTE, |status| status.problems.is_empty()).unwrap();
        let [.., ended, served] = status.finished.as_slice() else { panic!("{status:#?}") };
        assert_eq!(served.cause, Cause::Succeeded, "{what:?}");
        assert_told(&stage, ended, cause, None);
        assert_eq!((ended.exit_status.as_deref(), ended.reason.as_deref()), (Some(exit), reason), "{what:?}");
    }
}

/// A stage whose runner is this script; beside it is the stand-in, by the name of `stand-in`.
fn with_runner(script: &str) -> Option<Stage> {
    let release = tempfile::tempdir().unwrap();
    let bin = release.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("Runner.Listener");
    fs::write(&program, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(stage::program("fakerunner").unwrap(), bin.join("stand-in")).unwrap();
    Stage::boot(&StageConfig { runner: Some(release.path().to_owned()), ..StageConfig::default() }).unwrap()
}

#[test]
fn a_runner_that_gives_up_in_words_nobody_knows_is_told_by_its_last_line() {
    let Some(stage) = with_runner(
        "echo '√ Connected to GitHub'; sleep 0.3; echo 'Unhandled exception. The disk is on fire.' >&2; exit 1",
    ) else {
        return;
    };
    let (_, job) = queue(&stage, "never", &["true"]);
    let failed = |status: &Status| !status.finished.is_empty();
    let status = stage.wait_for("the end of a container", MINUTE, failed).unwrap();
    let ended = &status.finished[0];
    assert_told(&stage, ended, Cause::RunnerFailed, None);
    assert_eq!(ended.reason.as_deref(), Some("Unhandled exception. The disk is on fire."), "{ended:#?}");
    stage.hub.cancel_job(job).unwrap();
}

#[test]
fn a_runner_whose_error_may_pass_is_started_again_in_its_container_three_times() {
    // As GitHub's own script does it; the third time it runs its job.
    let again = "n=$(cat ~/n 2>/dev/null || echo 0); echo $((n + 1)) > ~/n";
    let Some(stage) =
        with_runner(&format!("{again}; [ $n -lt 2 ] && exit 2; exec /opt/actions-runner/bin/stand-in \"$@\""))
    else {
        return;
    };
    let (_, job) = queue(&stage, "patient", &["true"]);
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_told(&stage, &ended, Cause::Succeeded, Some("success"));
    let logs_of_it = logs(&stage, &ended.name);
    let again = logs_of_it.iter().filter(|line| line.contains("starting it again")).count();
    assert_eq!(again, 2, "{logs_of_it:#?}");
    stage.wait_until_clean(MINUTE).unwrap();
}
