//! What an operator types, on a host as the README installs it.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "operate/typed.rs"]
mod typed;

use github_sim::world::{JobSpec, RunSpec};
use lab::Place;
use stage::{REPO, Stage, StageConfig, TOKEN};

use self::typed::{document, root, snapshot};

fn stopped() -> StageConfig {
    StageConfig { start: false, ..StageConfig::default() }
}

#[test]
fn check_says_that_all_is_well_and_names_what_is_not() {
    let Some(stage) = Stage::boot(&stopped()).unwrap() else { return };
    let said = document(&stage, &["check"], "check", 0).to_string();
    snapshot("check", &root(&stage, &["check"]).text);
    for fine in ["runs and jobs can be read", "runners can be registered", "credentials can be read"] {
        assert!(said.contains(fine), "{fine}: {said}");
    }
    assert!(!said.contains("\"severity\":\"error\""), "{said}");

    stage.hub.revoke_token(TOKEN).unwrap();
    let report = document(&stage, &["check"], "check", 1);
    let said = report.to_string();
    assert_eq!(report["outcome"], "error", "{said}");
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
    snapshot("plan", &root(&stage, &["plan"]).text);
    let plan = document(&stage, &["plan"], "plan", 0);
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
    snapshot("cleanup-runners-dry-run", &root(&stage, &["cleanup", "runners", "--dry-run"]).text);
    let shown = document(&stage, &["cleanup", "runners", "--dry-run"], "cleanup-runners", 0);
    assert_eq!(shown["ghosts"][0]["runner_name"], ghost, "{shown}");
    assert_eq!(names().len(), 3, "--dry-run removed something");
    let done = document(&stage, &["cleanup", "runners"], "cleanup-runners", 0);
    assert_eq!(done["ghosts"][0]["outcome"], "removed", "{done}");
    snapshot("cleanup-runners", &root(&stage, &["cleanup", "runners"]).text);
    let mut left = names();
    left.sort();
    assert_eq!(left, ["lab.other", "lab2.small.j0000001.00beef"]);
}

#[test]
fn units_tells_what_it_writes_and_refuses_what_is_wrong_with_every_key() {
    let Some(stage) = Stage::boot(&stopped()).unwrap() else { return };
    let config = "/etc/gha-runner-controller/config.toml";
    let units = |config: &str| root(&stage, &["units", "--config", config, "--output", "/tmp/units"]);
    let written = units(config);
    assert_eq!(written.code, 0, "{}", written.errors);
    snapshot("units", &written.text);
    let again = units(config);
    assert!(again.code == 0 && again.text.is_empty(), "nothing changed: {}", again.text);
    stage.lab.write_host("/tmp/bad.toml", b"max_concurent = 3\n[class.a]\nlabels = []\n", 0o644).unwrap();
    for refused in [units("/tmp/bad.toml"), root(&stage, &["plan", "--config", "/tmp/bad.toml"])] {
        assert_eq!(refused.code, 2, "{}", refused.text);
        snapshot("refused", &refused.errors);
    }
    let report = document(&stage, &["check", "--config", "/tmp/bad.toml"], "check", 2);
    assert_eq!(report["outcome"], "error", "{report}");
}
