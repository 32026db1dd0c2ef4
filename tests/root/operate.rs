//! Every command of an operator, typed as an operator types it: what it prints, what it exits with, what comes of it.
//!
//! `SNAPSHOTS=write` writes the expected outputs anew, below `tests/operate`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "operate/typed.rs"]
mod typed;

use std::{
    io::{Read, Write},
    process::Stdio,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use controller::{cause::Cause, phase::Phase, status::WaitingFor};
use lab::Place;
use stage::{REPO, SERVICE, Stage, StageConfig, TOKEN, unit};

use self::typed::{document, documents, root, run, snapshot};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_operator_sees_what_runs_and_waits_and_can_end_it() {
    let classes = "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\nmax_concurrent = 1\n";
    let config = StageConfig { classes: classes.into(), ..StageConfig::default() };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let (_, long) = stage.queue_small("long", "echo it runs; exec sleep 300").unwrap();
    let running = stage.wait_phase(long, Phase::Running, PATIENCE).unwrap();
    stage.queue_small("next", "true").unwrap();
    stage.queue("elsewhere", &["self-hosted", "windows"], "true").unwrap();
    stage.wait_for("both are seen", PATIENCE, |status| status.queue.len() == 2).unwrap();

    let status = root(&stage, &["status"]);
    assert_eq!(status.code, 0, "{}{}", status.text, status.errors);
    snapshot("status", &status.text);
    document(&stage, &["status"], "status", 0);
    snapshot("jobs", &root(&stage, &["jobs"]).text);
    let jobs = document(&stage, &["jobs", "--repo", REPO], "jobs", 0);
    assert_eq!(jobs["queued"][0]["reason"], "class small has 1 of 1 containers; it is next", "{jobs}");
    snapshot("containers", &root(&stage, &["containers"]).text);
    document(&stage, &["containers"], "containers", 0);

    // Somebody may look, and no more.
    let nobody = ["runuser", "-u", "nobody", "--"];
    assert_eq!(run(&stage, &nobody, &["jobs"]).code, 0);
    let denied = run(&stage, &nobody, &["stop", &running.name]);
    assert_eq!(denied.code, 1, "{}", denied.text);
    assert!(denied.errors.contains("Permission denied") && denied.errors.contains("group"), "{}", denied.errors);
    let over_http = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'POST /api/v1/drain HTTP/1.0\\r\\nhost: localhost\\r\\n\
                     content-type: application/json\\r\\ncontent-length: 2\\r\\n\\r\\n{}' >&3; head -1 <&3";
    let answer = stage.lab.exec(Place::Host, &["bash", "-c", over_http]).unwrap();
    assert!(answer.text().contains("403"), "{}", answer.text());

    let logs = root(&stage, &["logs", &running.name]);
    assert_eq!(logs.code, 0, "{}", logs.errors);
    assert!(logs.text.contains("requested for octo-org/hello") && logs.text.contains("→ running"), "{}", logs.text);

    // A member of the group may end it.
    let member = ["runuser", "-u", "nobody", "-G", "gha-runner-operators", "--"];
    let stopped = run(&stage, &member, &["stop", &running.name]);
    assert_eq!(stopped.code, 0, "{}", stopped.errors);
    snapshot("stop", &stopped.text);
    let ended = stage.wait_finished(long, PATIENCE).unwrap();
    assert_eq!(ended.cause, Cause::StoppedByOperator);
    let journal = stage.lab.journal(SERVICE).unwrap();
    assert!(journal.contains("is stopping") && journal.contains("operator:"), "{journal}");

    stage.wait_for("the next one ran", PATIENCE, |status| status.finished.len() == 2).unwrap();
    let entries = document(&stage, &["history", "--repo", REPO], "history", 0);
    assert_eq!(entries["entries"].as_array().unwrap().len(), 2, "{entries}");
    assert!(entries["entries"][0]["timeline"]["job_started_ms"].is_u64(), "{entries}");
    snapshot("history", &root(&stage, &["history"]).text);
    let killed = document(&stage, &["history", "--cause", "stopped-by-operator"], "history", 0);
    assert_eq!(killed["entries"][0]["name"], running.name.as_str(), "{killed}");
    assert_eq!(document(&stage, &["history", "--summary"], "history-summary", 0)["jobs"], 2);
    let sums = root(&stage, &["history", "--summary"]).text;
    snapshot("history-summary", &sums);
    assert!(sums.contains("2 containers ended in the last 1day, 2 with a job"), "{sums}");
    let gone = root(&stage, &["logs", &long.to_string()]);
    assert!(gone.code == 0 && gone.text.contains("ended: stopped by operator"), "{}{}", gone.text, gone.errors);
    let (lines, _) = documents(&stage, &["logs", &long.to_string()], "logs");
    let console = format!("gha-runner-{}", running.name);
    assert!(lines.iter().any(|line| line["by"] == console.as_str()), "{lines:#?}");
    assert!(lines.iter().any(|line| line["message"].as_str().unwrap().contains("stopped by operator")), "{lines:#?}");
    // Of what the controller says, a phase may go by unseen.
    let by_controller = gone.text.lines().filter(|line| line.contains(" gha-runner-controller "));
    let told = by_controller.filter(|line| !line.contains(" → ") && !line.contains("runner ended with"));
    let told: String = told.map(|line| line.to_owned() + "\n").collect();
    snapshot("logs", &told);
    let unknown = root(&stage, &["logs", "424242"]);
    assert!(unknown.code == 1 && unknown.errors.contains("Remedy"), "{}", unknown.errors);
}

#[test]
fn what_is_drained_stays_drained_until_it_is_resumed() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    snapshot("drain", &root(&stage, &["drain"]).text);
    document(&stage, &["drain"], "drain", 0);
    let (_, job) = stage.queue_small("waits", "true").unwrap();
    stage.systemctl(&["restart", SERVICE]).unwrap();
    let waits = |status: &controller::status::Status| {
        status.queue.first().is_some_and(|job| job.waiting == WaitingFor::Drained)
    };
    stage.wait_for("it waits for the operator", PATIENCE, waits).unwrap();
    snapshot("jobs-drained", &root(&stage, &["jobs"]).text);
    document(&stage, &["resume"], "resume", 0);
    assert_eq!(stage.wait_finished(job, PATIENCE).unwrap().cause, Cause::Succeeded);
    let unknown = root(&stage, &["drain", "huge"]);
    assert_eq!(unknown.code, 1);
    snapshot("drain-unknown", &unknown.errors);
    let done = document(&stage, &["provision", "--repo", REPO, "--class", "small"], "provision", 0);
    let name = done["container"].as_str().unwrap().to_owned();
    let idle = |status: &controller::status::Status| {
        status.active_containers.iter().any(|container| container.name == name && container.phase == Phase::Idle)
    };
    stage.wait_for("it is there", PATIENCE, idle).unwrap();
    snapshot("provision", &root(&stage, &["provision", "--repo", REPO]).text);
    document(&stage, &["stop", &name], "stop", 0);
    snapshot("resume", &root(&stage, &["resume", "small"]).text);
    stage.wait_until_clean(PATIENCE).unwrap();
}

#[test]
fn containers_can_be_cleaned_up_without_a_controller() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage.queue_small("long", "exec sleep 300").unwrap();
    let running = stage.wait_phase(job, Phase::Running, PATIENCE).unwrap();
    let shell = root(&stage, &["shell", &running.name, "--", "/bin/echo", "hello from inside"]);
    assert!(shell.code == 0 && shell.text.contains("hello from inside"), "{}{}", shell.text, shell.errors);
    stage.systemctl(&["stop", SERVICE]).unwrap();
    let none = root(&stage, &["jobs"]);
    assert!(none.code == 1 && none.errors.contains("Remedy"), "{}", none.errors);
    snapshot("cleanup-nothing", &root(&stage, &["cleanup", "containers"]).text);
    document(&stage, &["cleanup", "containers", "--all", "--dry-run"], "cleanup-containers", 0);
    snapshot("cleanup-dry-run", &root(&stage, &["cleanup", "containers", "--all", "--dry-run"]).text);
    let state = || stage.property(&unit("small", &running.name), "ActiveState").unwrap();
    assert_eq!(state(), "active");
    let cleaned = root(&stage, &["cleanup", "containers", "--all"]);
    assert_eq!(cleaned.code, 0, "{}", cleaned.errors);
    snapshot("cleanup-all", &cleaned.text);
    assert_eq!(state(), "inactive");
    stage.systemctl(&["start", SERVICE]).unwrap();
    stage.wait_until_clean(PATIENCE).unwrap();
}

/// What comes out of a terminal, as it comes.
struct Screen {
    bytes: Receiver<Vec<u8>>,
    text: String,
}

impl Screen {
    fn wait_for(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text.contains(wanted) {
            let left = deadline.saturating_duration_since(Instant::now());
            let more = self.bytes.recv_timeout(left).unwrap_or_else(|_| panic!("no {wanted:?} in {:?}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
        // What comes next is looked for behind it.
        let end = self.text.find(wanted).unwrap() + wanted.len();
        self.text.drain(..end);
    }
}

#[test]
fn a_person_types_in_a_containers_shell_and_its_exit_status_is_handed_through() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage.queue_small("long", "exec sleep 300").unwrap();
    let running = stage.wait_phase(job, Phase::Running, PATIENCE).unwrap();
    // A terminal of its own on the host, of 40 lines.
    let shell = format!("stty rows 40 cols 100; exec gha-runner-controller shell {}", running.name);
    let command = ["script", "--quiet", "--return", "--command", &shell, "/dev/null"];
    let mut command = stage.lab.command_in(Place::Host, &command).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, bytes) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = Screen { bytes, text: String::new() };
    screen.wait_for("#");
    keys.write_all(b"echo in $((6 * 7)) of $(cat /etc/hostname); stty size\n").unwrap();
    screen.wait_for("in 42 of ");
    screen.wait_for("40 100");
    keys.write_all(b"sleep 600; echo was interrupted\n").unwrap();
    screen.wait_for("was interrupted");
    thread::sleep(Duration::from_millis(300));
    keys.write_all(b"\x03").unwrap();
    screen.wait_for("^C");
    keys.write_all(b"exit 7\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7), "{}", screen.text);

    for (command, code) in [("exit 0", 0), ("exit 200", 200), ("kill -TERM $$", 143), ("HOME=3; exit ${HOME}", 3)] {
        assert_eq!(root(&stage, &["shell", &running.name, "--", "sh", "-c", command]).code, code, "{command}");
    }
    let none = root(&stage, &["shell", "j9999999"]);
    assert_eq!(none.code, 1);
    assert!(none.errors.contains("Remedy"), "{}", none.errors);
    assert_eq!(stage.status().unwrap().active_containers.len(), 1, "the job goes on");
}

#[test]
fn what_is_wrong_is_told_by_the_exit_status_as_well() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    stage
        .wait_for("it looked", PATIENCE, |status| status.targets.iter().all(|target| target.last_poll_ms.is_some()))
        .unwrap();
    assert_eq!(root(&stage, &["status"]).code, 0);
    stage.hub.revoke_token(TOKEN).unwrap();
    stage.wait_for("it is told", Duration::from_secs(120), |status| !status.problems.is_empty()).unwrap();
    let status = root(&stage, &["status"]);
    assert_eq!(status.code, 3, "{}", status.text);
    assert!(status.text.contains("degraded") && status.text.contains("Bad credentials"), "{}", status.text);
    document(&stage, &["status"], "status", 3);
    assert_eq!(root(&stage, &["status", "--jason"]).code, 2);
    stage.systemctl(&["stop", SERVICE]).unwrap();
    assert_eq!(root(&stage, &["status"]).code, 1);
}
