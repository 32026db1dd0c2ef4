//! The controller dies, is restarted or is away: jobs go on, each runs once, and nothing is left.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use controller::{cause::Cause, phase::Phase};
use github_sim::{
    rest::Call,
    world::{Conclusion, Fault, JobId, JobStatus, RunnerFault, RunnerWhat, What},
};
use stage::{SERVICE, Stage, StageConfig, unit};

const MINUTE: Duration = Duration::from_secs(60);
/// Where a drop-in of the class's unit goes.
const DROP_IN: &str = "/run/systemd/system/gha-runner-small@.service.d";

fn kill(stage: &Stage) {
    stage.systemctl(&["kill", "--signal=KILL", "--kill-whom=main", SERVICE]).unwrap();
}

/// How often the host's journal has this line of a job.
fn times_in_journal(stage: &Stage, line: &str) -> usize {
    stage
        .lab
        .shell("journalctl --namespace='*' --no-pager --output=cat")
        .unwrap()
        .lines()
        .filter(|found| found.contains(line))
        .count()
}

/// The leader of the container: nspawn itself.
fn leader(stage: &Stage, container: &str) -> String {
    stage.property(&unit("small", container), "MainPID").unwrap()
}

/// When the controller dies in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// The registration is asked for, and its answer is on the way.
    Registering,
    /// The unit's `ExecStartPre=` runs.
    Preparing,
    /// The container's init runs, the runner is not there yet.
    Booting,
    /// The runner listens.
    Idle,
    /// The job runs.
    Running,
    /// The job ended, the container ends.
    Finishing,
    /// The container is gone, its registration may not be.
    Settling,
}

#[test]
fn a_controller_killed_at_any_time_takes_over_what_it_left_and_every_job_runs_once() {
    use When::{Booting, Finishing, Idle, Preparing, Registering, Running, Settling};
    let config = StageConfig {
        top: "poll_interval = \"1s\"\nidle_grace = \"10s\"\nboot_timeout = \"20s\"\nregistration_linger = \"2s\"\n"
            .into(),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    for when in [Registering, Preparing, Booting, Idle, Running, Finishing, Settling] {
        println!("{when:?}");
        let marker = format!("ran when {when:?}");
        // Where it should live through it, longer than the controller is away.
        let seconds = match when {
            Booting | Running => 4.0,
            // Long enough for a look at the forge to find out which job the runner took.
            Idle => 2.5,
            _ => 0.5,
        };
        let script = format!("echo begun; sleep {seconds}; printf 'ran when %s\\n' {when:?}");
        let mut caught = catch(&stage, when, &script);
        let leader_before = caught.name.as_deref().map(|name| leader(&stage, name));
        kill(&stage);
        stage.wait_for("the controller is back", MINUTE, |_| true).unwrap();
        if let (Some(name), Some(pid)) = (&caught.name, leader_before)
            && matches!(when, Booting | Idle | Running)
        {
            assert_eq!(leader(&stage, name), pid, "{when:?}: the container did not survive");
            let status = stage.status().unwrap();
            assert!(status.active_containers.iter().any(|c| c.name == *name), "{when:?}: not adopted: {status:#?}");
        }
        if when == Idle {
            // The one it was booted for was stolen; the adopted runner takes the next.
            caught.job = stage.queue_small("next", &script).unwrap().1;
        }
        let done = stage.hub.wait_completed(caught.job, MINUTE).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{when:?}: {done:#?}");
        stage.wait_until_clean(MINUTE).unwrap();
        assert_eq!(times_in_journal(&stage, &marker), 1, "{when:?}");
        if matches!(when, Booting | Idle | Running) {
            let runner = done.runner_name.unwrap();
            let name = caught.name.unwrap();
            assert!(runner.contains(&name), "{when:?}: {runner} ran it, not the adopted {name}");
            assert_eq!(stage.wait_finished(caught.job, MINUTE).unwrap().cause, Cause::Succeeded);
        }
        stage.lab.shell(&format!("rm -rf {DROP_IN}; systemctl daemon-reload")).unwrap();
    }
    let journal = stage.lab.journal(SERVICE).unwrap();
    assert!(!journal.contains("no record explains"), "{journal}");
}

struct Caught {
    job: JobId,
    /// Of the container, once there is one.
    name: Option<String>,
}

/// Queues a job and returns when its container is where `when` says.
fn catch(stage: &Stage, when: When, script: &str) -> Caught {
    let hold = |line: &str| {
        let text = format!("[Service]\n{line}\n");
        stage.lab.write_host(&format!("{DROP_IN}/hold.conf"), text.as_bytes(), 0o644).unwrap();
        stage.systemctl(&["daemon-reload"]).unwrap();
    };
    match when {
        When::Registering => stage.hub.inject(Fault::once(Call::Mint, What::Slow { ms: 1500 })).unwrap(),
        When::Preparing => hold("ExecStartPre=/bin/sleep 1"),
        When::Idle => stage.hub.inject_runner(RunnerFault::once(RunnerWhat::StealJob)).unwrap(),
        _ => {}
    }
    let (_, job) = stage.queue_small("caught", script).unwrap();
    let container = |phase| Some(stage.wait_phase(job, phase, MINUTE).unwrap().name);
    let name = match when {
        When::Registering => {
            container(Phase::Requested);
            None
        }
        When::Preparing => container(Phase::Preparing),
        When::Booting => {
            let up = |status: &controller::status::Status| {
                status.active_containers.iter().any(|c| {
                    c.job_id == Some(job.0) && matches!(c.phase, Phase::Booting | Phase::Registering | Phase::Idle)
                })
            };
            let status = stage.wait_for("the container boots", MINUTE, up).unwrap();
            println!("caught {}", status.active_containers[0].phase);
            Some(status.active_containers[0].name.clone())
        }
        When::Idle => container(Phase::Idle),
        When::Running => {
            stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
            container(Phase::Running)
        }
        When::Finishing => {
            stage.hub.wait_completed(job, MINUTE).unwrap();
            None
        }
        When::Settling => {
            stage.wait_for("it settles", MINUTE, |status| !status.settling.is_empty()).unwrap();
            None
        }
    };
    Caught { job, name }
}

#[test]
fn a_polite_restart_and_a_lost_state_directory_do_not_disturb_a_running_job() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    for loses_state in [false, true] {
        let (_, job) = stage.queue_small("long", "echo begun; sleep 3; echo lived through it").unwrap();
        stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
        let name = stage.wait_phase(job, Phase::Running, MINUTE).unwrap().name;
        let pid = leader(&stage, &name);
        if loses_state {
            stage
                .lab
                .shell(&format!(
                    "systemctl stop {SERVICE}; rm -rf /var/lib/gha-runner-controller; systemctl start {SERVICE}"
                ))
                .unwrap();
        } else {
            stage.systemctl(&["restart", SERVICE]).unwrap();
        }
        assert_eq!(leader(&stage, &name), pid);
        let adopted = stage.wait_phase(job, Phase::Running, MINUTE).unwrap();
        assert_eq!((adopted.name, adopted.class.as_str()), (name, "small"));
        let done = stage.hub.wait_completed(job, MINUTE).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
        assert!(done.output.contains("lived through it"));
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_eq!((ended.cause, ended.conclusion.as_deref()), (Cause::Succeeded, Some("success")));
        stage.wait_until_clean(MINUTE).unwrap();
    }
    let journal = stage.lab.journal(SERVICE).unwrap();
    assert!(journal.contains("adopted from what was handed over"), "{journal}");
}

#[test]
fn jobs_that_end_while_the_controller_is_away_are_told_rightly_when_it_is_back() {
    // A class for each, so that neither runner may take the other's job.
    let config = StageConfig {
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n[class.other]\nlabels = [\"other\"]\n".into(),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let jobs =
        [("linux", "true", Cause::Succeeded), ("other", "false", Cause::JobFailed)].map(|(label, last, cause)| {
            let (_, job) = stage.queue(last, &[label], &format!("echo begun; sleep 2; {last}")).unwrap();
            (job, cause)
        });
    for (job, _) in jobs {
        stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
    }
    stage.systemctl(&["stop", SERVICE]).unwrap();
    for (job, _) in jobs {
        stage.hub.wait_completed(job, MINUTE).unwrap();
    }
    // Nobody is home, and yet the host is clean, and nobody takes new jobs.
    let (_, later) = stage.queue_small("later", "echo later").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let left = stage.left_over().unwrap().without(|kind, what| {
        kind == lab::Kind::Path && what.starts_with("/run/gha-runner-controller/containers/")
            || what.starts_with("/var/lib/gha-runner-controller/containers/")
    });
    assert!(left.is_empty(), "{left}");
    assert_eq!(stage.hub.job(later).unwrap().status, JobStatus::Queued);
    stage.systemctl(&["start", SERVICE]).unwrap();
    for (job, cause) in jobs {
        assert_eq!(stage.wait_finished(job, MINUTE).unwrap().cause, cause);
    }
    assert_eq!(stage.hub.wait_completed(later, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
    stage.wait_until_clean(MINUTE).unwrap();
}
