//! Every command of an operator, typed as an operator types it: what it prints, what it exits with, what comes of it.
//!
//! `SNAPSHOTS=write` writes the expected outputs anew, below `tests/operate`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{path::Path, time::Duration};

use end_to_end::{REPO, SERVICE, Stage, StageConfig, unit};
use gha_runner_controller::{
    api::v1,
    controller::{cause::Cause, phase::Phase, status::WaitingFor},
};
use lab::Place;
use serde_json::{Value, json};

const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command printed, and its exit status.
struct Said {
    text: String,
    errors: String,
    code: i32,
}

fn run(stage: &Stage, before: &[&str], arguments: &[&str]) -> Said {
    let command: Vec<&str> = before.iter().chain([&PROGRAM]).chain(arguments).copied().collect();
    let output = stage.lab.exec(Place::Host, &command).unwrap();
    Said { text: output.text(), errors: output.errors(), code: output.status.code().unwrap() }
}

fn root(stage: &Stage, arguments: &[&str]) -> Said {
    run(stage, &[], arguments)
}

/// What differs from run to run is masked: names, ids, times, sizes. Columns are not aligned.
fn masked(text: &str) -> String {
    let mask = |word: &str| {
        let bare = word.trim_end_matches([',', ';', ':', ')']);
        let rest = &word[bare.len()..];
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let unit = |units: &[&str]| {
            units.iter().any(|unit| bare.strip_suffix(unit).is_some_and(|number| digits(&number.replace('.', ""))))
        };
        let name = bare.parse::<gha_runner_controller::handover::ContainerName>().is_ok();
        let shown = match bare {
            _ if name => "CONTAINER",
            _ if bare.starts_with("20") && bare.ends_with('Z') => "TIME",
            _ if bare.contains("/24") || bare.contains("/30") => "SUBNET",
            _ if unit(&["ms", "s", "m", "h"]) => "SPAN",
            _ if unit(&["K", "M", "G"]) => "SIZE",
            _ if digits(bare) && bare.len() > 2 => "ID",
            _ if bare == env!("CARGO_PKG_VERSION") => "VERSION",
            _ => bare,
        };
        format!("{shown}{rest}")
    };
    let line =
        |line: &str| line.split_whitespace().map(mask).collect::<Vec<_>>().join(" ").replace("SPAN SPAN", "SPAN");
    let polled = |line: String| match line.split_once("polled ") {
        Some((before, after)) => format!("{before}polled N{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => line,
    };
    text.lines().map(|text| polled(line(text)) + "\n").collect()
}

/// Compares with what is expected.
fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/operate/{name}.txt"));
    let shown = masked(text);
    if std::env::var_os("SNAPSHOTS").is_some_and(|what| what == "write") {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "{name} printed\n{shown}\nand not, as in {}\n{expected}\n(whole: {text})",
        path.display()
    );
}

/// What a command prints with `--json` is what the OpenAPI document says of this schema.
fn document(stage: &Stage, arguments: &[&str], schema: &str) -> Value {
    let said = root(stage, &[arguments, &["--json"]].concat());
    assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.text, said.errors);
    let document: Value = serde_json::from_str(&said.text).unwrap();
    let components = serde_json::to_value(v1::document()).unwrap()["components"].clone();
    let schema = json!({"$ref": format!("#/components/schemas/{schema}"), "components": components});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{arguments:?}: {wrong:?}: {document}");
    document
}

#[test]
fn an_operator_sees_what_runs_and_waits_and_can_end_it() {
    let classes = "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\nmax_concurrent = 1\n";
    let config = StageConfig { classes: classes.into(), ..StageConfig::default() };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let (_, long) = stage.queue_small("long", "echo it runs; sleep 300").unwrap();
    let running = stage.wait_phase(long, Phase::Running, PATIENCE).unwrap();
    stage.queue_small("next", "true").unwrap();
    stage.queue("elsewhere", &["self-hosted", "windows"], "true").unwrap();
    stage.wait_for("both are seen", PATIENCE, |status| status.queue.len() == 2).unwrap();

    let status = root(&stage, &["status"]);
    assert_eq!(status.code, 0, "{}{}", status.text, status.errors);
    snapshot("status", &status.text);
    document(&stage, &["status"], "Status");
    snapshot("jobs", &root(&stage, &["jobs"]).text);
    let jobs = document(&stage, &["jobs", "--repo", REPO], "Jobs");
    assert_eq!(jobs["queued"][0]["reason"], "class small has 1 of 1 containers; it is next", "{jobs}");
    snapshot("containers", &root(&stage, &["containers"]).text);
    document(&stage, &["containers"], "Containers");

    // Somebody may look, and no more.
    let nobody = ["runuser", "-u", "nobody", "--"];
    assert_eq!(run(&stage, &nobody, &["jobs"]).code, 0);
    let denied = run(&stage, &nobody, &["stop", &running.name]);
    assert_eq!(denied.code, 1, "{}", denied.text);
    assert!(denied.errors.contains("Permission denied") && denied.errors.contains("group"), "{}", denied.errors);
    let over_http = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'POST /api/v1/drain HTTP/1.0\\r\\nhost: x\\r\\n\
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
    let entries = document(&stage, &["history", "--repo", REPO], "Entries");
    assert_eq!(entries["entries"].as_array().unwrap().len(), 2, "{entries}");
    assert!(entries["entries"][0]["timeline"]["job_started_ms"].is_u64(), "{entries}");
    snapshot("history", &root(&stage, &["history"]).text);
    let killed = document(&stage, &["history", "--cause", "stopped-by-operator"], "Entries");
    assert_eq!(killed["entries"][0]["name"], running.name.as_str(), "{killed}");
    assert_eq!(document(&stage, &["history", "--summary"], "Summary")["jobs"], 2);
    let sums = root(&stage, &["history", "--summary"]).text;
    assert!(sums.contains("2 containers ended in the last 1day, 2 with a job"), "{sums}");
    let gone = root(&stage, &["logs", &long.to_string()]);
    assert!(gone.code == 0 && gone.text.contains("ended: stopped by operator"), "{}{}", gone.text, gone.errors);
    let unknown = root(&stage, &["logs", "424242"]);
    assert!(unknown.code == 1 && unknown.errors.contains("Remedy"), "{}", unknown.errors);
}

#[test]
fn what_is_drained_stays_drained_until_it_is_resumed() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    snapshot("drain", &root(&stage, &["drain"]).text);
    let (_, job) = stage.queue_small("waits", "true").unwrap();
    stage.systemctl(&["restart", SERVICE]).unwrap();
    let waits = |status: &gha_runner_controller::controller::status::Status| {
        status.queue.first().is_some_and(|job| job.waiting == WaitingFor::Drained)
    };
    stage.wait_for("it waits for the operator", PATIENCE, waits).unwrap();
    snapshot("jobs-drained", &root(&stage, &["jobs"]).text);
    document(&stage, &["resume"], "Done");
    assert_eq!(stage.wait_finished(job, PATIENCE).unwrap().cause, Cause::Succeeded);
    let unknown = root(&stage, &["drain", "huge"]);
    assert_eq!(unknown.code, 1);
    snapshot("drain-unknown", &unknown.errors);
    let done = document(&stage, &["provision", "--repo", REPO, "--class", "small"], "Done");
    let name = done["container"].as_str().unwrap().to_owned();
    let idle = |status: &gha_runner_controller::controller::status::Status| {
        status.active_containers.iter().any(|container| container.name == name && container.phase == Phase::Idle)
    };
    stage.wait_for("it is there", PATIENCE, idle).unwrap();
    stage.wait_until_clean(PATIENCE).unwrap();
}

#[test]
fn containers_can_be_cleaned_up_without_a_controller() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage.queue_small("long", "sleep 300").unwrap();
    let running = stage.wait_phase(job, Phase::Running, PATIENCE).unwrap();
    let shell = root(&stage, &["shell", &running.name, "--", "/bin/echo", "hello from inside"]);
    assert!(shell.code == 0 && shell.text.contains("hello from inside"), "{}{}", shell.text, shell.errors);
    stage.systemctl(&["stop", SERVICE]).unwrap();
    let none = root(&stage, &["jobs"]);
    assert!(none.code == 1 && none.errors.contains("Remedy"), "{}", none.errors);
    snapshot("cleanup-nothing", &root(&stage, &["cleanup", "containers"]).text);
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

#[test]
fn completions_and_manual_pages_are_made_from_the_command_line_itself() {
    let Some(stage) = Stage::boot(&StageConfig { start: false, ..StageConfig::default() }).unwrap() else { return };
    let made = root(&stage, &["generate", "--output", "/tmp/made"]);
    assert_eq!(made.code, 0, "{}", made.errors);
    let files = stage.lab.exec(Place::Host, &["find", "/tmp/made", "-type", "f"]).unwrap().text();
    for file in
        ["completions/gha-runner-controller.bash", "man1/gha-runner-controller.1", "man1/gha-runner-controller-jobs.1"]
    {
        assert!(files.contains(file), "{file}: {files}");
    }
}
