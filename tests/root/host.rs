//! The host fails under a job: killed, stopped, full, too slow, without power. Nothing is left, and it goes on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use controller::{
    cause::Cause,
    incident::Incident,
    phase::Phase,
    status::{Status, WaitingFor},
};
use gha_runner_controller::units::SETTINGS_PATH;
use github_sim::world::{Conclusion, JobId};
use sandbox::prepare::Step;
use stage::{SERVICE, Stage, StageConfig, unit};

const MINUTE: Duration = Duration::from_secs(60);
/// Little room for what containers write.
const SMALL_DISK: &str = "mount -t tmpfs -o size=24m,mode=0700 small-disk /var/lib/gha-runner-sandbox";
const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
const DROP_IN: &str = "/run/systemd/system/gha-runner-small@.service.d";
/// A forge that notices a lost runner at once, and a controller that gives it the time to.
const LOSSES: &str =
    "poll_interval = \"1s\"\nidle_grace = \"3s\"\nboot_timeout = \"20s\"\nregistration_linger = \"6s\"\n";

fn losing() -> StageConfig {
    StageConfig { top: LOSSES.into(), simulator: vec!["--hurry".into(), "300".into()], ..StageConfig::default() }
}

/// A job that runs, and its container.
fn running(stage: &Stage, name: &str) -> (JobId, String) {
    let (_, job) = stage.queue_small(name, "echo begun; exec sleep 100").unwrap();
    stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
    (job, stage.wait_phase(job, Phase::Running, MINUTE).unwrap().name)
}

fn assert_next_job_runs(stage: &Stage) {
    let (_, job) = stage.queue_small("next", "echo fine").unwrap();
    assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_container_that_is_killed_or_stopped_under_its_job_ends_that_job_and_nothing_else() {
    let Some(stage) = Stage::boot(&losing()).unwrap() else { return };
    let (killed, name) = running(&stage, "killed");
    stage.systemctl(&["kill", "--signal=KILL", "--kill-whom=main", &unit("small", &name)]).unwrap();
    let (stopped, name) = running(&stage, "stopped");
    stage.systemctl(&["stop", &unit("small", &name)]).unwrap();
    for job in [killed, stopped] {
        assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Failure));
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_eq!(ended.cause.to_string(), "stopped by operator", "{ended:#?}");
    }
    assert_next_job_runs(&stage);
}

#[test]
fn a_job_that_ends_its_own_container_was_stopped_by_nobody() {
    let Some(stage) = Stage::boot(&losing()).unwrap() else { return };
    for status in ["0", "9"] {
        let script = format!("echo begun; sleep 1; sudo systemctl --force --force exit {status}; sleep 100");
        let (_, job) = stage.queue_small(status, &script).unwrap();
        assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Failure));
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_eq!(ended.cause, Cause::JobFailed, "{ended:#?}");
        let reason = ended.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("something inside ended the container"), "{ended:#?}");
    }
    assert_next_job_runs(&stage);
}

#[test]
fn whatever_step_of_a_boot_fails_it_is_told_the_class_pauses_and_nothing_is_left() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    for step in Step::ALL {
        println!("{}", step.name());
        let drop_in = format!(
            "[Service]\nExecStartPre=\nExecStartPre={PROGRAM} sandbox prepare --settings {SETTINGS_PATH} --class small \
             --fail-after {} %i\n",
            step.name()
        );
        stage.lab.write_host(&format!("{DROP_IN}/fail.conf"), drop_in.as_bytes(), 0o644).unwrap();
        // A new controller: the pause is its own, and grows with each failure.
        stage.systemctl(&["daemon-reload"]).unwrap();
        stage.systemctl(&["restart", SERVICE]).unwrap();
        let (_, job) = stage.queue_small(step.name(), "echo ran in the end").unwrap();
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_eq!(ended.cause.to_string(), "boot failed", "{}: {ended:#?}", step.name());
        let status = stage.status().unwrap();
        assert!(status.classes[0].boot_failures >= 1, "{status:#?}");
        let told = status.problems.iter().any(|problem| problem.contains("class small"));
        assert!(told, "{:?}", status.problems);
        stage.wait_until_clean(MINUTE).unwrap();
        let journal = stage.lab.journal(&unit("small", &ended.name)).unwrap();
        assert!(journal.contains(step.name()), "{}: {journal}", step.name());
        if *step != Step::Address {
            stage.hub.cancel_job(job).unwrap();
            continue;
        }
        stage.lab.shell(&format!("rm -r {DROP_IN}; systemctl daemon-reload")).unwrap();
        let done = stage.hub.wait_completed(job, MINUTE).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
        stage.wait_for("healthy again", MINUTE, |status| status.problems.is_empty()).unwrap();
        stage.wait_until_clean(MINUTE).unwrap();
    }
}

#[test]
fn a_full_disk_fails_the_job_that_filled_it_and_not_the_next() {
    let mut config = StageConfig { start: false, ..StageConfig::default() };
    config.top.push_str("max_concurrent = 1\nadmission.min_free_disk = 0\n");
    let Some(mut stage) = Stage::boot(&config).unwrap() else { return };
    stage.lab.shell(SMALL_DISK).unwrap();
    stage.before = stage.lab.leftovers().unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    let script = "cd; dd if=/dev/zero of=fill bs=1M count=100 && exit 0; df -h . ; exit 28";
    let (_, job) = stage.queue_small("greedy", script).unwrap();
    let (_, next) = stage.queue_small("modest", "cd; dd if=/dev/zero of=some bs=1M count=4").unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Failure), "{done:#?}");
    assert!(done.output.contains("No space left on device"), "{}", done.output);
    assert_eq!(stage.wait_finished(job, MINUTE).unwrap().cause, Cause::JobFailed);
    let next = stage.hub.wait_completed(next, MINUTE).unwrap();
    assert_eq!(next.conclusion, Some(Conclusion::Success), "{next:#?}");
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_job_waits_where_the_disk_is_nearly_full_and_runs_once_there_is_room() {
    let Some(stage) = Stage::boot(&StageConfig { start: false, ..StageConfig::default() }).unwrap() else { return };
    stage.lab.shell(SMALL_DISK).unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    let (_, job) = stage.queue_small("waits", "true").unwrap();
    let waits = |status: &Status| status.queue.first().is_some_and(|queued| queued.waiting == WaitingFor::Host);
    let status = stage.wait_for("a job that waits for the disk", MINUTE, waits).unwrap();
    let reason = &status.queue[0].reason;
    assert!(reason.contains("/var/lib/gha-runner-sandbox has 24 MiB free of 1024 MiB at least"), "{reason}");
    assert_eq!(stage.health().unwrap().0, 503);
    stage.lab.shell("umount /var/lib/gha-runner-sandbox").unwrap();
    assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
    stage.wait_for("well again", MINUTE, |status| status.problems.is_empty() && status.strains.is_empty()).unwrap();
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn what_no_container_uses_goes_where_the_disk_is_short_the_oldest_first_and_the_journal_has_it() {
    let mut config = StageConfig { start: false, ..StageConfig::default() };
    config.top.push_str("admission.min_free_disk = \"8M\"\n");
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    // Free: 4 MiB of 24. What is to be free: a quarter more than 8.
    stage
        .lab
        .shell(
            "mount -t tmpfs -o size=24m,mode=0700 small-disk /var/lib/gha-runner-stores
             mkdir /var/lib/gha-runner-stores/small; cd /var/lib/gha-runner-stores/small
             head -c 2M /dev/zero >recent; head -c 5M /dev/zero >new
             head -c 7M /dev/zero >old; touch -d '9 days ago' old
             head -c 6M /dev/zero >middle; touch -d '5 days ago' middle",
        )
        .unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    let (_, job) = stage.queue_small("waits", "true").unwrap();
    assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
    let pruned = |status: &Status| !status.prunings.is_empty() && status.strains.is_empty();
    let status = stage.wait_for("room that was made", MINUTE, pruned).unwrap();
    assert_eq!(status.prunings[0].removed, ["small/old"], "{status:#?}");
    assert!(status.pruned_bytes >= 7 << 20, "{}", status.pruned_bytes);
    assert_eq!(stage.lab.shell("ls /var/lib/gha-runner-stores/small").unwrap().trim(), "middle\nnew\nrecent");
    let id = Incident::HostFull.message_id();
    let journal = stage.lab.shell(&format!("journalctl --sync; journalctl --output=cat MESSAGE_ID={id}")).unwrap();
    for words in ["incident begins: the host is short of disk", "made room: 7 MiB", "small/old"] {
        assert!(journal.contains(words), "{words}: {journal}");
    }
    stage.lab.shell("umount /var/lib/gha-runner-stores").unwrap();
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_job_that_takes_too_long_is_ended_also_when_the_controller_is_dead() {
    let config = StageConfig {
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\ntimeout = \"10s\"\n".into(),
        ..losing()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let (job, name) = running(&stage, "endless");
    stage.systemctl(&["kill", "--signal=KILL", SERVICE]).unwrap();
    stage.systemctl(&["stop", SERVICE]).unwrap();
    let unit = unit("small", &name);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while stage.property(&unit, "ActiveState").unwrap() != "inactive" {
        assert!(std::time::Instant::now() < deadline, "{}", stage.lab.journal(&unit).unwrap());
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = stage.left_over().unwrap().without(|_, what| what.contains("gha-runner-controller/containers/"));
    assert!(left.is_empty(), "{left}");
    stage.systemctl(&["start", SERVICE]).unwrap();
    assert_eq!(stage.wait_finished(job, MINUTE).unwrap().cause.to_string(), "timed out");
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_host_that_loses_power_or_reboots_under_a_job_says_so_and_serves_the_next() {
    let Some(mut stage) = Stage::boot(&losing()).unwrap() else { return };
    for plug in [true, false] {
        let (job, _) = running(&stage, "cut off");
        if plug {
            stage.lab.pull_the_plug().unwrap();
            stage.lab.start_host().unwrap();
        } else {
            stage.lab.reboot_host().unwrap();
        }
        stage.systemctl(&["start", SERVICE]).unwrap();
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        let expected: &[Cause] =
            if plug { &[Cause::HostRebooted] } else { &[Cause::HostRebooted, Cause::StoppedByOperator] };
        assert!(expected.contains(&ended.cause), "{ended:#?}");
        let done = stage.hub.wait_completed(job, MINUTE).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Failure), "{done:#?}");
        assert_next_job_runs(&stage);
    }
}
