//! A queued job becomes one container, runs, and leaves nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use controller::{cause::Cause, phase::Phase, status::WaitingFor};
use github_sim::{
    control::ControlCommand,
    rest::Call,
    world::{Conclusion, Fault, Gate, JobId, JobSpec, JobStatus, RunnerFault, RunnerWhat, What},
};
use stage::{REPO, SERVICE, Stage, StageConfig, unit};

const MINUTE: Duration = Duration::from_secs(60);
const SMALL: [&str; 2] = ["self-hosted", "linux"];

#[test]
fn a_queued_job_runs_once_in_a_fresh_container_and_leaves_nothing() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage
        .queue(
            "hello",
            &["self-hosted", "Linux"],
            "echo hello from $(hostname); id -un; test ! -e ~/trace; touch ~/trace",
        )
        .unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_eq!((ended.cause, ended.conclusion.as_deref()), (Cause::Succeeded, Some("success")));
    assert!(done.output.contains(&format!("hello from {}", ended.name)), "{}", done.output);
    // Run again: a new container, which knows nothing of the first.
    let again: Vec<JobId> = stage.hub.call(&ControlCommand::Rerun { run: done.run_id, only_failed: false }).unwrap();
    let again = stage.hub.wait_completed(again[0], MINUTE).unwrap();
    assert_eq!((again.conclusion, again.attempt), (Some(Conclusion::Success), 2), "{again:#?}");
    assert_ne!(again.runner_name, done.runner_name);
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn each_job_gets_a_container_of_its_class_and_only_queued_jobs_with_our_labels_get_one() {
    let config = StageConfig {
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n\
                  [class.big]\nlabels = [\"self-hosted\", \"linux\", \"big\"]\n"
            .to_owned(),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let (_, fails) = stage.queue_small("fails", "echo its last words; exit 42").unwrap();
    let (_, foreign) = stage.queue("foreign", &["self-hosted", "windows"], "echo never").unwrap();
    let gated = [Gate::Waiting, Gate::Pending].map(|gate| {
        let job = JobSpec { gate: Some(gate), ..JobSpec::new("gated", &SMALL, &["echo let through"]) };
        stage.hub.queue_job(REPO, job).unwrap().1
    });

    let failed = stage.hub.wait_completed(fails, MINUTE).unwrap();
    assert_eq!((failed.conclusion, failed.exit_code), (Some(Conclusion::Failure), Some(42)), "{failed:#?}");
    let ended = stage.wait_finished(fails, MINUTE).unwrap();
    assert_eq!((ended.cause, ended.class.as_str()), (Cause::JobFailed, "small"));
    assert_eq!(ended.cause.to_string(), "job failed");
    // Only now: its runner has the small one's labels as well and would be as welcome to the forge.
    let (_, big) = stage.queue("big", &["linux", "BIG"], "echo in big").unwrap();
    let ended_big = stage.wait_finished(big, MINUTE).unwrap();
    assert_eq!((ended_big.cause, ended_big.class.as_str()), (Cause::Succeeded, "big"));

    // What it printed is kept on the host, under the unit that is gone.
    let gone = unit("small", &ended.name);
    assert_eq!(stage.property(&gone, "ActiveState").unwrap(), "inactive");
    let journal = stage.lab.journal(&gone).unwrap();
    assert!(journal.contains("its last words"), "{journal}");

    let status = stage.wait_for("polled", MINUTE, |status| status.active_containers.is_empty()).unwrap();
    let why = status.queue.iter().find(|job| job.job_id == foreign.0).map(|job| job.waiting);
    assert_eq!(why, Some(WaitingFor::NoMatchingClass));
    for job in gated {
        assert!(!status.finished.iter().any(|ended| ended.job_id == Some(job.0)), "{status:#?}");
        assert!(stage.hub.job(job).unwrap().runner_name.is_none());
        stage.hub.release_job(job).unwrap();
        assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
    }
    stage.wait_until_clean(MINUTE).unwrap();
    assert_eq!(stage.hub.job(foreign).unwrap().status, JobStatus::Queued);
    assert_eq!(stage.status().unwrap().finished.len(), 4, "a container more than jobs for us");
}

#[test]
fn a_job_that_is_cancelled_or_stolen_costs_one_container_and_says_so() {
    let config = StageConfig {
        top: "poll_interval = \"1s\"\nidle_grace = \"1s\"\nboot_timeout = \"20s\"\nregistration_linger = \"2s\"\n"
            .into(),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };

    // While it runs.
    let (run, job) = stage.queue_small("long", "echo begun; exec sleep 100").unwrap();
    stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
    stage.hub.cancel_run(run).unwrap();
    assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Cancelled));
    assert_eq!(stage.wait_finished(job, MINUTE).unwrap().cause, Cause::JobCancelled);

    // While its container is on the way.
    stage.hub.inject(Fault::once(Call::Mint, What::Slow { ms: 1000 })).unwrap();
    let (_, job) = stage.queue_small("early", "echo never").unwrap();
    stage.wait_phase(job, Phase::Requested, MINUTE).unwrap();
    stage.hub.cancel_job(job).unwrap();
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_eq!(ended.cause.to_string(), "cancelled before pickup", "{ended:#?}");

    // Taken by somebody else's runner.
    stage.hub.inject_runner(RunnerFault::once(RunnerWhat::StealJob)).unwrap();
    let (_, job) = stage.queue_small("stolen", "echo elsewhere").unwrap();
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_eq!(ended.cause.to_string(), "taken by another runner", "{ended:#?}");
    stage.wait_until_clean(MINUTE).unwrap();
    assert_eq!(stage.status().unwrap().finished.len(), 3);
}

#[test]
fn more_jobs_than_places_all_run_and_the_places_are_never_exceeded() {
    let mut config = StageConfig::default();
    config.top.push_str("max_concurrent = 3\n");
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    stage.hub.call::<()>(&ControlCommand::SetPicking { picking: github_sim::world::Picking::Random }).unwrap();
    let jobs: Vec<JobId> =
        (0..12).map(|number| stage.queue_small(&format!("job {number}"), "sleep 0.3; echo done").unwrap().1).collect();
    let deadline = Instant::now() + MINUTE;
    let mut most = 0;
    loop {
        let machines = stage.lab.leftovers().unwrap().of(lab::Kind::Machine).count();
        most = most.max(machines);
        assert!(machines <= 3, "{machines} containers at once");
        let open = stage.hub.jobs().unwrap().iter().filter(|job| job.status != JobStatus::Completed).count();
        if open == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{open} jobs are open:\n{}", stage.lab.journal(SERVICE).unwrap());
    }
    assert_eq!(most, 3, "the places were not used");
    for job in jobs {
        let job = stage.hub.job(job).unwrap();
        assert_eq!(job.conclusion, Some(Conclusion::Success), "{job:#?}");
        assert_eq!(job.output.matches("done").count(), 1);
    }
    stage.wait_until_clean(MINUTE).unwrap();
}
