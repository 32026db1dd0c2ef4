//! The API asked at random, as its own document describes it and as it does not: by somebody else's fuzzer, schemathesis.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{path::Path, process::Command, time::Duration};

use controller::{cause::Cause, phase::Phase};
use stage::{SERVICE, Stage, StageConfig, python};

const PATIENCE: Duration = Duration::from_secs(60);
/// Where the lab's host passes the local socket on to the fuzzer, which speaks HTTP over TCP alone.
const LOCAL: &str = "127.0.0.1:8090";
/// What a thousand requests may add to the controller's resident memory, in KiB: pages of its allocator.
const GROWTH: u64 = 2048;

/// Asks at one of the host's addresses: at the edges of what is documented, or at random, so often for each operation.
/// Gives how many requests that were.
fn fuzz(stage: &Stage, fuzzer: &Path, at: &str, phases: &str, examples: u32) -> u64 {
    let host = stage.lab.host_pid().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["120", "nsenter", &format!("--net=/proc/{host}/ns/net"), "--", "python3", "-m", "schemathesis.cli"]);
    // An event stream does not end.
    command.args(["run", "--checks=all", "--exclude-path=/api/v1/events", "--request-timeout=30", "--warnings=off"]);
    command.args(["--seed=6", "--generation-database=none", "--continue-on-failure", "--no-color"]);
    command.args([format!("--phases={phases}"), format!("--max-examples={examples}")]);
    command.arg(format!("http://{at}/api/v1/openapi.json"));
    let output = command.env("PYTHONPATH", fuzzer).current_dir(directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{at}:\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let count = said.lines().find_map(|line| line.trim().split_once(" generated")?.0.parse().ok());
    count.unwrap_or_else(|| panic!("nothing was asked: {said}"))
}

/// The controller's resident memory, in KiB.
fn resident(stage: &Stage) -> u64 {
    let script = format!("grep VmRSS: /proc/$(systemctl show --property MainPID --value {SERVICE})/status");
    stage.lab.shell(&script).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn whatever_is_asked_is_answered_as_documented_and_costs_no_memory() {
    let fuzzer = match python::package("schemathesis", "4.32.5") {
        Ok(fuzzer) => fuzzer,
        Err(why) => return println!("skipped: {why}"),
    };
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, done) = stage.queue_small("before", "true").unwrap();
    stage.wait_finished(done, PATIENCE).unwrap();
    let (_, long) = stage.queue_small("long", "exec sleep 300").unwrap();
    let running = stage.wait_phase(long, Phase::Running, PATIENCE).unwrap();
    stage.queue("elsewhere", &["self-hosted", "windows"], "true").unwrap();
    stage.wait_for("it is seen", PATIENCE, |status| status.queue.len() == 1).unwrap();
    let proxy = "/usr/lib/systemd/systemd-socket-proxyd /run/gha-runner-control/control.sock";
    stage.lab.shell(&format!("systemd-run --quiet -- systemd-socket-activate --listen={LOCAL} {proxy}")).unwrap();

    // What is made once is made before it is weighed.
    let door = "127.0.0.1:8080";
    let mut asked = fuzz(&stage, &fuzzer, door, "coverage", 1);
    let before = resident(&stage);
    asked += fuzz(&stage, &fuzzer, door, "fuzzing", 40);
    let status = stage.status().unwrap();
    assert!(status.active_containers.iter().any(|one| one.name == running.name && one.phase == Phase::Running));
    assert!(status.intake && status.active_containers.len() == 1, "over HTTP something was changed: {status:#?}");
    asked += fuzz(&stage, &fuzzer, LOCAL, "coverage,fuzzing", 20);
    let after = resident(&stage);
    println!("{asked} requests; the controller's memory {before} KiB, then {after} KiB");

    // It still does what it is there for. What ran may have been stopped: the fuzzer learns names from answers.
    assert!(after < before + GROWTH, "the controller's memory grew from {before} KiB to {after} KiB");
    stage.lab.shell("gha-runner-controller resume; gha-runner-controller resume small").unwrap();
    let (_, next) = stage.queue_small("after", "true").unwrap();
    assert_eq!(stage.wait_finished(next, PATIENCE).unwrap().cause, Cause::Succeeded);
    let journal = stage.lab.journal(SERVICE).unwrap();
    assert!(!journal.contains("panicked"), "{journal}");
    assert_eq!(stage.property(SERVICE, "NRestarts").unwrap(), "0");
}
