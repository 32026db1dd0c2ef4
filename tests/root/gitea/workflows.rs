//! What a repository asks of a forge: a push, a matrix, jobs that need others, attempts; in organisations, and beside a
//! repository of the same name at GitHub.

use std::collections::BTreeMap;

use controller::{cause::Cause, phase::Phase, status::Status};
use github_sim::world::Conclusion;
use lab::Place;
use stage::Stage;

use crate::{MINUTE, REPO, config, finished, nothing_left, stage, workflow};

const PUSHED: &str = r#"
on: push
jobs:
  build:
    strategy:
      matrix:
        on: [a, b, c]
    runs-on: nix
    steps:
      - run: echo built
  test:
    needs: build
    runs-on: [nix]
    steps:
      - run: echo tested
  broken:
    needs: test
    runs-on: nix
    steps:
      - run: exit 7
  never:
    needs: broken
    runs-on: nix
    steps:
      - run: echo never
"#;

/// Files, arguments and environments on the host and in its containers that have this text, but for the controller's own.
fn seen(stage: &Stage, secret: &str) -> String {
    const LOOK: &str = "cat > /run/needle; cd /proc; for pid in $(pgrep --parent $(pgrep -d , systemd-nspawn)); do \
                        grep -rlsF -D skip -f /run/needle $(for at in run etc home root tmp var opt usr/local; do \
                        echo /proc/$pid/root/$at; done) || true; done; \
                        grep -lsF -f /run/needle [0-9]*/environ [0-9]*/cmdline || true; rm /run/needle";
    stage.lab.exec_with_input(Place::Host, &["sh", "-euc", LOOK], secret.as_bytes()).unwrap().check().unwrap().text()
}

#[test]
fn a_push_a_matrix_and_its_needs_run_and_run_again_in_organisations_beside_github() {
    let targets = ["org = \"acme\"", "org = \"beta\"", &format!("repo = \"{}\"", stage::REPO)];
    let prepare = |gitea: &gitea::Gitea| {
        for repo in [REPO, "acme/lib", "beta/tool", stage::REPO] {
            let (owner, name) = repo.split_once('/').unwrap();
            gitea.create_repo(owner, name)?;
        }
        Ok(vec![("own", gitea.token.clone())])
    };
    let Some((stage, gitea)) = stage(config(&targets), prepare) else { return };
    gitea.push(&stage.lab, REPO, ".gitea/workflows/ci.yml", PUSHED).unwrap();
    let run = gitea.newest_run(REPO, 0, MINUTE).unwrap();
    let (_, at_github) = stage.queue_small("of the same name", "echo at-github").unwrap();
    let mut elsewhere = Vec::new();
    for repo in ["acme/lib", "beta/tool", stage::REPO] {
        gitea.write(repo, ".gitea/workflows/hand.yml", &workflow("nix", &["echo $GITHUB_REPOSITORY"])).unwrap();
        elsewhere.push((repo, gitea.dispatch(repo, "hand.yml").unwrap()));
    }
    let jobs = gitea
        .wait_jobs(REPO, run, 2 * MINUTE, |jobs| jobs.len() == 6 && jobs.iter().all(|job| job.status == "completed"))
        .unwrap();
    let ends: BTreeMap<&str, &str> =
        jobs.iter().map(|job| (job.name.as_str(), job.conclusion.as_deref().unwrap())).collect();
    let expected = [
        ("broken", "failure"),
        ("build (a)", "success"),
        ("build (b)", "success"),
        ("build (c)", "success"),
        ("never", "skipped"),
        ("test", "success"),
    ];
    assert_eq!(ends, BTreeMap::from(expected));
    for job in jobs.iter().filter(|job| job.name != "never") {
        let ended = finished(&stage, job.id);
        assert_eq!((ended.repo.as_str(), ended.conclusion.as_ref()), ("own:acme/app", job.conclusion.as_ref()));
        assert_eq!(job.runner_name.as_ref(), Some(&ended.runner_name));
    }
    for (repo, run) in elsewhere {
        let done = gitea.wait_completed(repo, run, MINUTE).unwrap();
        assert_eq!(done.conclusion.as_deref(), Some("success"), "{repo}: {done:#?}");
        assert_eq!(finished(&stage, done.id).repo, format!("own:{repo}"));
        assert!(gitea.log(repo, done.id).unwrap().contains(repo));
    }
    assert_eq!(stage.hub.wait_completed(at_github, MINUTE).unwrap().conclusion, Some(Conclusion::Success));

    // The same job again, under its number.
    let broken = jobs.iter().find(|job| job.name == "broken").unwrap();
    gitea.rerun_failed(REPO, run).unwrap();
    let again = |jobs: &[gitea::Job]| {
        jobs.iter().any(|job| job.id == broken.id && job.run_attempt == 2 && job.status == "completed")
    };
    let jobs = gitea.wait_jobs(REPO, run, MINUTE, again).unwrap();
    let again = jobs.iter().find(|job| job.id == broken.id).unwrap();
    assert_eq!(again.conclusion.as_deref(), Some("failure"));
    let is_second = |status: &Status| {
        status.finished.iter().filter(|ended| ended.repo == "own:acme/app" && ended.job_id == Some(broken.id)).count()
            == 2
    };
    let status = stage.wait_for("a container for each attempt", MINUTE, is_second).unwrap();
    assert!(
        status
            .finished
            .iter()
            .any(|ended| Some(&ended.runner_name) == again.runner_name.as_ref() && ended.cause == Cause::JobFailed)
    );

    // What the controller knows is nowhere near a job; what its runner is, it has.
    gitea.write(REPO, ".gitea/workflows/long.yml", &workflow("nix", &["exec sleep 100"])).unwrap();
    let run = gitea.newest_run(REPO, run, MINUTE).unwrap_or(run);
    gitea.cancel(REPO, run).unwrap();
    let run = gitea.dispatch(REPO, "long.yml").unwrap();
    let long = gitea.wait_job(REPO, run, MINUTE, |job| !job.steps.is_empty()).unwrap();
    let running = |status: &Status| {
        status.active_containers.iter().any(|it| it.job_id == Some(long.id) && it.phase == Phase::Running)
    };
    stage.wait_for("it runs", MINUTE, running).unwrap();
    let registration = "/repos/acme/app/actions/runners/registration-token";
    let told = gitea.api("POST", &registration.replace("/repos/acme/app", "/orgs/acme"), &serde_json::Value::Null);
    let told = told.unwrap()["token"].as_str().unwrap().to_owned();
    for secret in [&gitea.token, &told] {
        assert_eq!(seen(&stage, secret), "");
    }
    assert!(seen(&stage, long.runner_name.as_ref().unwrap()).contains("/run/gha-runner-act/.runner"), "it can be seen");
    gitea.cancel(REPO, run).unwrap();
    assert_eq!(finished(&stage, long.id).cause, Cause::JobCancelled);
    nothing_left(&stage, &gitea);
}
