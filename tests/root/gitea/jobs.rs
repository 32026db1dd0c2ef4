//! The ends of jobs that a person or the job itself brings about, beside a GitHub.

use std::time::Instant;

use controller::{
    cause::Cause,
    status::{Finished, Status},
};
use lab::Place;
use stage::Stage;

use crate::{ACME, ENDED_BY, MINUTE, REPO, config, nothing_left, one_token, stage, workflow};

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
    let Some((stage, gitea)) = stage(config(&[ACME]), one_token) else { return };
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
    nothing_left(&stage, &gitea);
}
