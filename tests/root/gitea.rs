//! A real Gitea and a runner: the stand-in, or the real one whose path `GHA_LAB_GITEA_RUNNER` has.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use contract::ActRunner;
use controller::{
    cause::Cause,
    status::{Finished, Status},
};
use gitea::{GITEA_RUNNER, Gitea};
use guest::{act::console, dialect::Said};
use lab::{Lab, LabConfig, Place, Running};
use stage::{SERVICE, Stage, StageConfig};

const MINUTE: Duration = Duration::from_secs(60);
const REPO: &str = "acme/app";
const TOKEN_FILE: &str = "/etc/gha-runner-controller/gitea";
/// How soon a job whose container was stopped has ended at the forge.
const ENDED_BY: Duration = Duration::from_secs(20);

fn runner_program() -> PathBuf {
    std::env::var_os(GITEA_RUNNER).map_or_else(|| stage::program("fakeactrunner").unwrap(), PathBuf::from)
}

/// A workflow that is started by hand, of one job with these steps.
fn workflow(label: &str, steps: &[&str]) -> String {
    let steps: String = steps.iter().map(|step| format!("      - run: {step}\n")).collect();
    format!("on: workflow_dispatch\njobs:\n  one:\n    runs-on: {label}\n    steps:\n{steps}")
}

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
    let pid = i32::try_from(runner.pid().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(gitea.wait_completed(REPO, run, MINUTE).unwrap().conclusion.as_deref(), Some("success"));
    assert!(runner.wait(MINUTE).unwrap().unwrap().success());
}

/// A stage whose forge is a Gitea beside the simulated GitHub; each has a class of its own.
fn stage() -> Option<(Stage, Gitea)> {
    let forge = format!("http://{}:{}", Place::Forge.address(), gitea::PORT);
    let config = StageConfig {
        targets: format!(
            "[[target]]\nrepo = \"{}\"\nclasses = [\"small\"]\n[[target]]\nrepo = \"{REPO}\"\ncredential = \"own\"\n\
             [credential.own]\nkind = \"gitea\"\nurl = \"{forge}\"\ntoken_file = \"{TOKEN_FILE}\"\n",
            stage::REPO
        ),
        files: vec![(TOKEN_FILE.to_owned(), b"none-yet".to_vec(), 0o400)],
        act_runner: Some(runner_program()),
        classes: "[template.act]\npath = \"$template\"\nkind = \"gitea\"\n\
                  [class.small]\nlabels = [\"self-hosted\", \"linux\"]\n\
                  [class.act]\ntemplate = \"act\"\nlabels = [\"nix:host\"]\n"
            .to_owned(),
        start: false,
        ..StageConfig::default()
    };
    let stage = Stage::boot(&config).unwrap()?;
    let gitea = Gitea::start(&stage.lab).unwrap()?;
    gitea.create_repo("acme", "app").unwrap();
    stage.lab.write_host(TOKEN_FILE, gitea.token.as_bytes(), 0o400).unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    Some((stage, gitea))
}

/// The newest container of Gitea's class that has ended, once there are so many.
fn ended(stage: &Stage, count: usize) -> Finished {
    let of = |status: &Status| -> Vec<_> {
        status.finished.iter().filter(|ended| ended.class == "act").map(|ended| (**ended).clone()).collect()
    };
    let status = stage.wait_for("the end of a container", MINUTE, |status| of(status).len() >= count).unwrap();
    assert_eq!(of(&status).len(), count, "{status:#?}");
    of(&status).pop().unwrap()
}

#[test]
fn jobs_of_a_gitea_are_run_cancelled_and_ended_beside_those_of_a_github() {
    let Some((stage, gitea)) = stage() else { return };
    let wait = |run| gitea.wait_completed(REPO, run, MINUTE).unwrap();
    let (_, at_github) = stage.queue_small("beside", "echo both").unwrap();
    gitea.write(REPO, ".gitea/workflows/good.yml", &workflow("nix", &["echo hello", "id -un"])).unwrap();
    gitea.write(REPO, ".gitea/workflows/bad.yml", &workflow("nix", &["exit 3"])).unwrap();
    gitea.write(REPO, ".gitea/workflows/long.yml", &workflow("nix", &["echo begun", "exec sleep 100"])).unwrap();
    for (count, file, conclusion, cause) in
        [(1, "good.yml", "success", Cause::Succeeded), (2, "bad.yml", "failure", Cause::JobFailed)]
    {
        let run = gitea.dispatch(REPO, file).unwrap();
        let done = wait(run);
        assert_eq!(done.conclusion.as_deref(), Some(conclusion), "{done:#?}");
        let ended = ended(&stage, count);
        assert_eq!((ended.cause, ended.conclusion.as_deref()), (cause, Some(conclusion)), "{ended:#?}");
        assert_eq!((ended.repo.as_str(), ended.job_id), ("own:acme/app", Some(done.id)));
        assert_eq!(done.runner_name.as_deref(), Some(ended.runner_name.as_str()));
        let log = gitea.log(REPO, done.id).unwrap();
        assert_eq!(log.contains("hello") && log.contains("runner"), conclusion == "success", "{log}");
    }
    stage.hub.wait_completed(at_github, MINUTE).unwrap();

    // Its runner notices nothing.
    let run = gitea.dispatch(REPO, "long.yml").unwrap();
    gitea.wait_job(REPO, run, MINUTE, |job| !job.steps.is_empty()).unwrap();
    gitea.cancel(REPO, run).unwrap();
    assert_eq!(wait(run).conclusion.as_deref(), Some("cancelled"));
    let cancelled = ended(&stage, 3);
    assert_eq!(
        (cancelled.cause, cancelled.conclusion.as_deref()),
        (Cause::JobCancelled, Some("cancelled")),
        "{cancelled:#?}"
    );

    // Nobody waits for the forge to give it up.
    let run = gitea.dispatch(REPO, "long.yml").unwrap();
    gitea.wait_job(REPO, run, MINUTE, |job| !job.steps.is_empty()).unwrap();
    let runs = |status: &Status| status.active_containers.iter().find(|of| of.class == "act").cloned();
    let name = runs(&stage.wait_for("its container", MINUTE, |status| runs(status).is_some()).unwrap()).unwrap().name;
    let began = Instant::now();
    stage.lab.exec(Place::Host, &["gha-runner-controller", "stop", &name]).unwrap().check().unwrap();
    let done = wait(run);
    println!("ended at the forge after {:?}", began.elapsed());
    assert!(began.elapsed() < ENDED_BY, "{:?}", began.elapsed());
    assert_eq!(done.conclusion.as_deref(), Some("cancelled"));
    assert_eq!(ended(&stage, 4).cause, Cause::StoppedByOperator);
    let log = gitea.log(REPO, done.id).unwrap();
    assert!(log.lines().last().unwrap().contains("somebody stopped it"), "{log}");

    // One that nobody took any more.
    let run = gitea.dispatch(REPO, "long.yml").unwrap();
    gitea.cancel(REPO, run).unwrap();
    assert_eq!(wait(run).conclusion.as_deref(), Some("cancelled"));
    stage.wait_until_clean(MINUTE).unwrap();
    assert_eq!(gitea.runners(&format!("/repos/{REPO}")).unwrap(), Vec::<String>::new());
}
