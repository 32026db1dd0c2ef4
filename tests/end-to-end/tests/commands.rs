//! What an operator types, on a host as the README installs it.
#![allow(clippy::unwrap_used, missing_docs)]

use end_to_end::{REPO, Stage, StageConfig, TOKEN};
use github_sim::world::{JobSpec, RunSpec};
use lab::Place;
use serde_json::Value;

const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";

/// What a command prints, as JSON, and its exit status.
fn json(stage: &Stage, arguments: &[&str]) -> (Value, i32) {
    let command: Vec<&str> = [PROGRAM].into_iter().chain(arguments.iter().copied()).chain(["--json"]).collect();
    let output = stage.lab.exec(Place::Host, &command).unwrap();
    let text = output.text();
    (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", output.errors())), {
        output.status.code().unwrap()
    })
}

fn stopped() -> StageConfig {
    StageConfig { start: false, ..StageConfig::default() }
}

#[test]
fn check_says_that_all_is_well_and_names_what_is_not() {
    let Some(stage) = Stage::boot(&stopped()).unwrap() else { return };
    let (report, code) = json(&stage, &["check"]);
    let said = report.to_string();
    assert_eq!(code, 0, "{said}");
    for fine in ["runs and jobs can be read", "runners can be registered", "credentials can be read"] {
        assert!(said.contains(fine), "{fine}: {said}");
    }
    assert!(!said.contains("\"severity\":\"error\""), "{said}");

    stage.hub.revoke_token(TOKEN).unwrap();
    let (report, code) = json(&stage, &["check"]);
    let said = report.to_string();
    assert_eq!((code, report["outcome"].as_str()), (1, Some("error")), "{said}");
    assert!(said.contains("401"), "{said}");
    assert!(!said.contains(TOKEN), "the token is told");
}

#[test]
fn plan_tells_what_would_be_booted_and_why_not_the_rest_and_boots_nothing() {
    let Some(stage) = Stage::boot(&stopped()).unwrap() else { return };
    let jobs = vec![
        JobSpec::new("fits", &["self-hosted", "linux"], &["true"]),
        JobSpec::new("fits nowhere", &["self-hosted", "windows"], &["true"]),
    ];
    stage.hub.queue_run(REPO, RunSpec::push(jobs)).unwrap();
    let (plan, code) = json(&stage, &["plan"]);
    assert_eq!(code, 0, "{plan}");
    assert_eq!(plan["boots"].as_array().unwrap().len(), 1, "{plan}");
    assert_eq!(plan["boots"][0]["class"], "small", "{plan}");
    let waits: Vec<(&str, &str)> = plan["queue"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["name"].as_str().unwrap(), job["waiting"].as_str().unwrap()))
        .collect();
    assert!(waits.contains(&("fits", "runner")) && waits.contains(&("fits nowhere", "no-matching-class")), "{plan}");
    assert!(stage.hub.runners().unwrap().is_empty(), "a runner was registered");
    assert!(stage.left_over().unwrap().is_empty(), "{}", stage.left_over().unwrap());
}

#[test]
fn cleanup_removes_this_hosts_ghosts_and_nobody_elses() {
    let Some(stage) = Stage::boot(&stopped()).unwrap() else { return };
    let ghost = "lab.small.j0000001.00beef";
    for name in [ghost, "lab.other", "lab2.small.j0000001.00beef"] {
        let url = format!("http://{}/repos/{REPO}/actions/runners/generate-jitconfig", Place::Forge.address());
        let body = format!(r#"{{"name":"{name}","runner_group_id":1,"labels":["x"]}}"#);
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let command = ["curl", "--fail", "--silent", "--max-time", "10", "--header", &bearer, "--data", &body, &url];
        stage.lab.exec(Place::Forge, &command).unwrap().check().unwrap();
    }
    let names = || -> Vec<String> { stage.hub.runners().unwrap().into_iter().map(|runner| runner.name).collect() };
    let (shown, code) = json(&stage, &["cleanup", "runners", "--dry-run"]);
    assert_eq!((code, shown["ghosts"][0]["runner_name"].as_str()), (0, Some(ghost)), "{shown}");
    assert_eq!(names().len(), 3, "--dry-run removed something");
    let (done, code) = json(&stage, &["cleanup", "runners"]);
    assert_eq!((code, done["ghosts"][0]["outcome"].as_str()), (0, Some("removed")), "{done}");
    let mut left = names();
    left.sort();
    assert_eq!(left, ["lab.other", "lab2.small.j0000001.00beef"]);
}
