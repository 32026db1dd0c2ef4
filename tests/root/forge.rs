//! The forge fails: it is down, refuses, loses answers. It is said, nothing leaks, and jobs are served in the end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use controller::{cause::Cause, phase::Phase, status::WaitingFor};
use github_sim::{
    control::ControlCommand,
    rest::Call,
    world::{Conclusion, Fault, RunnerFault, RunnerWhat, What},
};
use stage::{SERVICE, Stage, StageConfig, TOKEN, TOKEN_FILE};

const MINUTE: Duration = Duration::from_secs(60);

fn status(code: u16, message: &str) -> What {
    What::Status { code, message: message.into(), headers: Vec::new() }
}

/// Waits until `/health` answers so, and gives its body.
fn wait_for_health(stage: &Stage, code: u16) -> String {
    let deadline = Instant::now() + MINUTE;
    loop {
        // Right after the start nobody listens yet.
        let health = stage.health();
        match health {
            Ok((found, body)) if found == code && !body.contains("starting") => return body,
            _ => assert!(Instant::now() < deadline, "{health:?}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn assert_runs(stage: &Stage, name: &str) {
    let (_, job) = stage.queue_small(name, "echo served").unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{name}: {done:#?}");
}

#[test]
fn a_forge_that_is_down_or_refuses_the_token_is_told_by_health_until_it_is_well_again() {
    let Some(stage) = Stage::boot(&StageConfig { start: false, ..StageConfig::default() }).unwrap() else { return };
    stage.hub.inject(Fault::any(1000, What::Refused)).unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    let body = wait_for_health(&stage, 503);
    assert!(body.contains("octo-org/hello: no successful poll yet"), "{body}");
    stage.hub.clear_faults().unwrap();
    assert!(wait_for_health(&stage, 200).contains("\"ok\""));
    assert_runs(&stage, "after the outage");

    let _: bool = stage.hub.call(&ControlCommand::RevokeToken { token: TOKEN.into() }).unwrap();
    stage.systemctl(&["restart", SERVICE]).unwrap();
    let body = wait_for_health(&stage, 503);
    assert!(body.contains("octo-org/hello") && body.contains("401"), "{body}");
    let said = stage.lab.journal(SERVICE).unwrap();
    assert!(said.contains("401") && !said.contains(TOKEN) && !body.contains(TOKEN), "{said}");
    let renewed = "renewed-sesame";
    stage.hub.call::<()>(&ControlCommand::AddToken { token: renewed.into(), lives_s: None }).unwrap();
    let main_pid = || stage.property(SERVICE, "MainPID").unwrap();
    let before = main_pid();
    let write = format!("umask 077; printf %s {renewed} >{TOKEN_FILE}.new; mv {TOKEN_FILE}.new {TOKEN_FILE}");
    stage.lab.shell(&write).unwrap();
    stage.systemctl(&["reload", SERVICE]).unwrap();
    wait_for_health(&stage, 200);
    assert_runs(&stage, "after the refusal");
    assert_eq!(main_pid(), before, "it was not restarted");
    let said = stage.lab.journal(SERVICE).unwrap();
    assert!(said.contains("a renewed secret is used") && !said.contains(renewed), "{said}");
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_forge_that_stands_still_for_a_while_disturbs_no_running_job() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage.queue_small("long", "echo begun; sleep 4; echo done").unwrap();
    stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
    stage.hub.inject(Fault::any(1000, status(502, "Server Error"))).unwrap();
    let refused = |status: &controller::status::Status| status.targets[0].failures >= 2;
    let told = stage.wait_for("looks fail", MINUTE, refused).unwrap();
    assert!(told.targets[0].last_error.as_deref().unwrap().contains("502"), "{told:#?}");
    assert_eq!(stage.wait_phase(job, Phase::Running, MINUTE).unwrap().job_id, Some(job.0));
    stage.hub.wait_completed(job, MINUTE).unwrap();
    stage.hub.clear_faults().unwrap();
    assert_eq!(stage.wait_finished(job, MINUTE).unwrap().cause, Cause::Succeeded);
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_registration_that_is_refused_or_whose_answer_is_lost_is_tried_again_and_none_leaks() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    for (name, what) in [
        ("taken", status(409, "Already exists - A runner exists with the same name")),
        ("unprocessable", status(422, "Validation Failed")),
        ("broken", status(500, "Server Error")),
        ("lost", What::LostAnswer),
        ("cut off", What::BadJson),
        ("too fast", What::RateLimitSecondary { retry_after: Some(2) }),
    ] {
        println!("{name}");
        stage.hub.inject(Fault::once(Call::Mint, what)).unwrap();
        assert_runs(&stage, name);
        stage.wait_until_clean(MINUTE).unwrap();
        let status = stage.wait_for("healthy", MINUTE, |status| status.problems.is_empty()).unwrap();
        let causes: Vec<Cause> = status.finished.iter().rev().take(2).map(|ended| ended.cause).collect();
        assert_eq!(causes, [Cause::Succeeded, Cause::RegistrationRefused], "{name}");
    }
}

#[test]
fn a_container_that_is_kept_from_the_forge_did_not_fail_to_boot_but_had_no_network_and_says_where() {
    let mut config = StageConfig {
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n[class.small.network]\ninternet = false\n"
            .into(),
        ..StageConfig::default()
    };
    config.top = config.top.replace("boot_timeout = \"20s\"", "boot_timeout = \"1m\"");
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let (_, job) = stage.queue_small("cut off", "true").unwrap();
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    let told = format!("{ended:#?}");
    assert_eq!(ended.cause, Cause::NoNetwork, "{told}");
    let reason = ended.reason.unwrap_or_default();
    for words in ["the forge cannot be reached: ", "takes no connection at ", "network.allow of the class"] {
        assert!(reason.contains(words), "{words}: {told}");
    }
    // Its entry is written a moment after its end is told.
    let deadline = Instant::now() + MINUTE;
    loop {
        let history = stage.lab.shell("gha-runner-controller history --cause no-network").unwrap();
        if history.contains("no network") && history.contains("takes no connection") {
            break;
        }
        assert!(Instant::now() < deadline, "{history}");
        std::thread::sleep(Duration::from_millis(200));
    }
    stage.hub.cancel_job(job).unwrap();
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_registration_is_removed_in_the_end_and_a_busy_runner_is_never_taken_from_its_job() {
    let mut config = StageConfig::default();
    config.top = config.top.replace("idle_grace = \"3s\"", "idle_grace = \"1s\"");
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    // An idle runner, of which the forge says that it is busy.
    stage.hub.inject_runner(RunnerFault::once(RunnerWhat::StealJob)).unwrap();
    stage.hub.inject(Fault::once(Call::DeleteRunner, status(422, "Runner is currently running a job"))).unwrap();
    let (_, stolen) = stage.queue_small("stolen", "echo elsewhere").unwrap();
    let believed = stage.wait_phase(stolen, Phase::Running, MINUTE).unwrap();
    assert!(stage.lab.journal(SERVICE).unwrap().contains("the forge says it has a job"));
    let (_, job) = stage.queue_small("for the busy one", "echo served").unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.runner_name.as_ref(), Some(&believed.runner_name), "{done:#?}");
    stage.wait_until_clean(MINUTE).unwrap();

    stage.hub.inject_runner(RunnerFault::once(RunnerWhat::StealJob)).unwrap();
    stage.hub.inject(Fault::once(Call::DeleteRunner, status(500, "Server Error"))).unwrap();
    let (_, stolen) = stage.queue_small("stolen again", "echo elsewhere").unwrap();
    assert_eq!(stage.wait_finished(stolen, MINUTE).unwrap().cause, Cause::TakenByAnotherRunner);
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_runner_that_never_listens_is_told_and_the_class_pauses() {
    let mut config = StageConfig::default();
    config.top = config.top.replace("boot_timeout = \"20s\"", "boot_timeout = \"4s\"");
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    stage.hub.inject_runner(RunnerFault::once(RunnerWhat::NeverListening)).unwrap();
    let (_, job) = stage.queue_small("never listens", "echo served").unwrap();
    // From here the class pauses for some seconds; how the job ended may be told later than that.
    stage.wait_for("one failed boot", MINUTE, |status| status.classes[0].boot_failures == 1).unwrap();
    assert_eq!(stage.health().unwrap().0, 503);
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_eq!(ended.cause.to_string(), "boot failed", "{ended:#?}");
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    stage.wait_for("healthy again", MINUTE, |status| status.problems.is_empty()).unwrap();
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_class_whose_runner_is_refused_as_too_old_is_told_and_not_booted_in_a_loop() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    stage.hub.inject_runner(RunnerFault::once(RunnerWhat::VersionTooOld)).unwrap();
    let (_, job) = stage.queue_small("too old", "echo served").unwrap();
    let ended = stage.wait_finished(job, MINUTE).unwrap();
    assert_eq!(ended.cause.to_string(), "runner refused", "{ended:#?}");
    stage.wait_for("the class is outdated", MINUTE, |status| status.classes[0].outdated).unwrap();
    assert_eq!(stage.health().unwrap().0, 503);
    // Longer than the pause after a failed boot.
    std::thread::sleep(Duration::from_secs(8));
    let status = stage.status().unwrap();
    assert!(status.active_containers.is_empty() && status.finished.len() == 1, "{status:#?}");
    assert_eq!(status.queue[0].waiting, WaitingFor::RunnerVersion, "{status:#?}");

    // A new runner is in the template; a restart tries it.
    stage.systemctl(&["restart", SERVICE]).unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    stage.wait_for("healthy again", MINUTE, |status| status.problems.is_empty()).unwrap();
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_runner_that_gives_up_says_why_in_the_journal_and_its_job_is_served_by_the_next() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    for (what, last) in [
        (RunnerWhat::SessionForbidden, "Failed to create session. Error: Forbidden"),
        (RunnerWhat::ClockSkew, "Stopped retrying OAuth token request exception after 1800 seconds."),
        (RunnerWhat::SessionInvalid, "An error occurred: Get next message failed with non-retryable error."),
    ] {
        println!("{what:?}");
        stage.hub.inject_runner(RunnerFault::once(what)).unwrap();
        assert_runs(&stage, "served by the next");
        stage.wait_until_clean(MINUTE).unwrap();
        let status = stage.wait_for("healthy", MINUTE, |status| status.problems.is_empty()).unwrap();
        let causes: Vec<Cause> = status.finished.iter().rev().take(2).map(|ended| ended.cause).collect();
        assert_eq!(causes, [Cause::Succeeded, Cause::RunnerFailed], "{what:?}");
        let said = stage.lab.journal(SERVICE).unwrap();
        assert!(said.contains(last), "{what:?}: {said}");
    }
}

#[test]
fn a_job_that_ends_before_it_begins_is_no_idle_container() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    for what in [RunnerWhat::CancelledAtOnce, RunnerWhat::RenewalFails] {
        stage.hub.inject_runner(RunnerFault::once(what)).unwrap();
        let (_, job) = stage.queue_small("ends at once", "echo never").unwrap();
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        // Nobody says how: the runner reports nothing to the forge either, which waits for the lease to run out.
        assert_eq!((ended.cause, ended.exit_status.as_deref()), (Cause::Unknown, Some("19")), "{ended:#?}");
        let said = stage.lab.journal(SERVICE).unwrap();
        assert!(said.contains("ended without a word on how it went"), "{what:?}: {said}");
        stage.hub.call::<()>(&ControlCommand::FinishJob { job, conclusion: Conclusion::Cancelled }).unwrap();
    }
    assert_eq!(stage.health().unwrap().0, 200);
    stage.wait_until_clean(3 * MINUTE).unwrap();
}
