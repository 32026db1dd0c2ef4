//! The stand-in runner against a real server, without a controller.

use std::{
    fs,
    time::{Duration, Instant},
};

use contract::ActRunner;
use gitea::Gitea;
use guest::{act::console, dialect::Said};
use lab::{Lab, LabConfig, Place, Running};

use crate::{MINUTE, REPO, runner_program, workflow};

/// Starts a runner in the forge's own place, as no controller does.
fn start_runner(lab: &Lab, name: &str, runner: &ActRunner) -> Running {
    let home = lab.shared().join(name);
    fs::create_dir(&home).unwrap();
    let registration = serde_json::json!({
        "id": runner.id, "uuid": runner.uuid, "name": runner.name, "token": runner.token, "address": runner.url,
        "labels": runner.labels, "ephemeral": true,
    });
    fs::write(home.join(".runner"), registration.to_string()).unwrap();
    let config = serde_json::json!({
        "runner": { "file": home.join(".runner"), "shutdown_timeout": "0s" }, "cache": { "enabled": false },
    });
    fs::write(home.join("config.yaml"), config.to_string()).unwrap();
    let (home, program) = (home.display(), runner_program());
    let line = format!("HOME={home} exec {} daemon -c {home}/config.yaml 2>{home}/log", program.display());
    lab.spawn_in(Place::Forge, &["sh", "-c", &line]).unwrap()
}

#[test]
fn the_stand_in_runs_one_job_of_a_real_server_and_says_what_the_real_runner_says() {
    if let Some(reason) = lab::missing_requirement() {
        println!("skipped: {reason}");
        return;
    }
    let lab = Lab::boot(LabConfig::default()).unwrap();
    let Some(gitea) = Gitea::start(&lab).unwrap() else { return };
    gitea.create_repo("acme", "app").unwrap();
    gitea
        .write(REPO, ".gitea/workflows/good.yml", &workflow("nix", &["echo hello", "echo $GITHUB_REPOSITORY"]))
        .unwrap();
    gitea.write(REPO, ".gitea/workflows/bad.yml", &workflow("nix", &["exit 3", "echo never"])).unwrap();
    for (file, conclusion) in [("good.yml", "success"), ("bad.yml", "failure")] {
        let run = gitea.dispatch(REPO, file).unwrap();
        let queued = gitea.wait_job(REPO, run, MINUTE, |job| job.status == "queued").unwrap();
        let registered = gitea.register(REPO, file, &["nix:host"]).unwrap();
        let mut runner = start_runner(&lab, file, &registered);
        let done = gitea.wait_completed(REPO, run, MINUTE).unwrap();
        assert_eq!((done.id, done.conclusion.as_deref()), (queued.id, Some(conclusion)));
        assert_eq!(done.runner_name.as_deref(), Some(file));
        assert!(runner.wait(MINUTE).unwrap().unwrap().success(), "whatever its job's result");
        assert_eq!(gitea.runners(&format!("/repos/{REPO}")).unwrap(), Vec::<String>::new(), "it was for one job");
        let said = fs::read_to_string(lab.shared().join(file).join("log")).unwrap();
        let said: Vec<_> = said.lines().flat_map(console::parse).collect();
        assert!(
            matches!(&said[..], [Said::Version(_), Said::Listening, Said::JobStarted { task: Some(_), .. }]),
            "{said:?}"
        );
        let log = gitea.log(REPO, done.id).unwrap();
        assert_eq!(log.contains("hello") && log.contains(REPO), conclusion == "success", "{log}");
        assert!(!log.contains("never"), "{log}");
    }

    // A job that is cancelled while it runs is nothing that its runner would notice.
    gitea.write(REPO, ".gitea/workflows/long.yml", &workflow("nix", &["sleep 100"])).unwrap();
    let run = gitea.dispatch(REPO, "long.yml").unwrap();
    let registered = gitea.register(REPO, "busy", &["nix:host"]).unwrap();
    let mut runner = start_runner(&lab, "busy", &registered);
    gitea.wait_job(REPO, run, MINUTE, |job| job.status == "in_progress").unwrap();
    gitea.cancel(REPO, run).unwrap();
    assert_eq!(gitea.wait_completed(REPO, run, MINUTE).unwrap().conclusion.as_deref(), Some("cancelled"));
    assert_eq!(gitea.runners(&format!("/repos/{REPO}")).unwrap(), Vec::<String>::new());
    assert!(runner.wait(Duration::from_secs(2)).unwrap().is_none(), "it goes on");

    // One that is stopped in its job calls it a success.
    let run = gitea.dispatch(REPO, "long.yml").unwrap();
    let registered = gitea.register(REPO, "stopped", &["nix:host"]).unwrap();
    let mut runner = start_runner(&lab, "stopped", &registered);
    gitea.wait_job(REPO, run, MINUTE, |job| job.status == "in_progress" && !job.steps.is_empty()).unwrap();
    // The server has given it the job; that has to arrive, too.
    let (log, deadline) = (lab.shared().join("stopped").join("log"), Instant::now() + MINUTE);
    while !fs::read_to_string(&log).unwrap_or_default().contains(" repo is ") {
        assert!(Instant::now() < deadline, "it has no job");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = i32::try_from(runner.pid().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(gitea.wait_completed(REPO, run, MINUTE).unwrap().conclusion.as_deref(), Some("success"));
    assert!(runner.wait(MINUTE).unwrap().unwrap().success());
}
