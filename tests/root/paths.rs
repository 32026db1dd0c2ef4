//! The ways a job comes to this host: an organisation polled by a GitHub App, a scale set, a webhook's hint, and `auto`,
//! which chooses.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use controller::{
    cause::Cause,
    phase::Phase,
    status::{IntakeStatus, Status, TargetKindStatus},
};
use github_sim::{
    rest::Call,
    world::{
        Conclusion, Fault, HookFault, HookSpec, HookWhat, JobId, JobSpec, JobStatus, JobView, ScaleSetView, Scope, What,
    },
};
use lab::Place;
use stage::{REPO, SERVICE, Stage, StageConfig, TOKEN};

const MINUTE: Duration = Duration::from_secs(60);
const LABELS: [&str; 2] = ["self-hosted", "linux"];
const APP_KEY: &str = include_str!("../../crates/forge/src/github/tests/app-key.pem");
const APP_KEY_FILE: &str = "/etc/gha-runner-controller/app.pem";
/// What the log of the simulator calls the App's installation in the organisation.
const INSTALLATION: &str = "installation of acme";
const APP: &str = "[credential.app]\napp_id = 7\nprivate_key_file = \"/etc/gha-runner-controller/app.pem\"\n";

/// An organisation by a GitHub App, and beside it a repository of somebody else's by a token.
fn organisation_and_repository(class: &str) -> Option<Stage> {
    let config = StageConfig {
        targets: format!(
            "{APP}[[target]]\norg = \"acme\"\ncredential = \"app\"\ninclude = [\"service-*\"]\n\
             [[target]]\nrepo = \"{REPO}\"\n"
        ),
        files: vec![(APP_KEY_FILE.into(), APP_KEY.into(), 0o400)],
        classes: format!("[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n{class}"),
        start: false,
        ..StageConfig::default()
    };
    let stage = Stage::boot(&config).unwrap()?;
    stage.hub.add_repos("acme", "service", 5, true).unwrap();
    stage.hub.add_repo("acme/website").unwrap();
    Some(stage)
}

fn queue_in(stage: &Stage, repo: &str, name: &str) -> JobId {
    stage.hub.queue_job(repo, JobSpec::new(name, &LABELS, &["echo served"])).unwrap().1
}

fn assert_served(stage: &Stage, job: JobId) -> JobView {
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    done
}

fn set_of(stage: &Stage) -> ScaleSetView {
    stage.hub.scale_sets().unwrap().into_iter().next().unwrap()
}

fn assert_says_nothing_secret(stage: &Stage, secrets: &[&str]) {
    let said = stage.lab.shell("journalctl --namespace='*' --no-pager --output=cat").unwrap();
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} is in the journal");
    }
}

#[test]
fn an_organisations_job_is_found_and_run_by_an_app_while_a_token_serves_somebody_elses_repository() {
    let Some(stage) = organisation_and_repository("") else { return };
    stage.systemctl(&["start", SERVICE]).unwrap();
    let found = |status: &Status| status.targets.iter().any(|target| target.repositories == 5);
    let status = stage.wait_for("the organisation's repositories are found", MINUTE, found).unwrap();
    let organisation = status.targets.iter().find(|target| target.repo == "acme").unwrap();
    assert_eq!((organisation.kind, organisation.credential.as_str()), (TargetKindStatus::Organisation, "app"));
    assert_eq!(status.credentials.len(), 2, "{:#?}", status.credentials);

    let (theirs, ours) = (queue_in(&stage, "acme/service-003", "theirs"), queue_in(&stage, REPO, "ours"));
    for (job, repo, scope) in [(theirs, "acme/service-003", "acme"), (ours, REPO, REPO)] {
        assert_served(&stage, job);
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        assert_eq!((ended.repo.as_str(), ended.scope.as_str(), ended.cause), (repo, scope, Cause::Succeeded));
    }
    // Refused once, a token of the installation is asked for anew.
    assert!(stage.hub.revoke_installation_tokens().unwrap() > 0);
    let after = queue_in(&stage, "acme/service-005", "after the tokens were revoked");
    assert_served(&stage, after);
    stage.wait_until_clean(MINUTE).unwrap();

    let traffic = stage.hub.traffic().unwrap();
    assert_eq!(traffic.of(Call::InstallationToken).requests, 2, "one token, and one more when it was refused");
    for entry in &traffic.log {
        let expected: &[&str] = match entry.path.contains("acme") {
            true => &[INSTALLATION, "app"],
            false if entry.path.contains(REPO) => &[TOKEN],
            false => continue,
        };
        // Whose token a revoked one was, nobody knows.
        let revoked = entry.status == 401;
        assert!(revoked || expected.contains(&entry.credential.as_str()), "{entry:?}");
        assert!(!entry.path.contains("website"), "left out, and yet asked for: {entry:?}");
    }
    let registered = |place: &str| {
        traffic.log.iter().any(|entry| entry.call == Call::Mint && entry.path.contains(place) && entry.status == 201)
    };
    assert!(registered("/orgs/acme/actions/runners/") && registered("/repos/octo-org/hello/actions/runners/"));
    assert_says_nothing_secret(&stage, &[TOKEN, "ghs_", APP_KEY.lines().nth(1).unwrap()]);
}

#[test]
fn auto_takes_a_scale_set_where_it_can_have_one_and_says_what_it_chose_and_why_not() {
    let Some(stage) = organisation_and_repository("intake = \"auto\"\n") else { return };
    // A credential that may register runners one by one and no set.
    let refused = What::Status { code: 403, message: "Resource not accessible".into(), headers: Vec::new() };
    stage.hub.inject(Fault::times(1000, Call::RegistrationToken, refused).in_repo(REPO)).unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();
    let chosen = |status: &Status| {
        let of = |scope: &str| status.sets.iter().find(|set| set.scope == scope);
        of("acme").is_some_and(|set| set.intake == IntakeStatus::ScaleSet && set.heard_age_seconds.is_some())
            && of(REPO).is_some_and(|set| set.intake == IntakeStatus::Polling && set.reason.is_some())
    };
    let status = stage.wait_for("auto has chosen", MINUTE, chosen).unwrap();
    let reason = status.sets.iter().find(|set| set.scope == REPO).unwrap().reason.clone().unwrap();
    assert!(reason.contains("403") && reason.contains("Resource not accessible"), "{reason}");
    assert_eq!(status.problems, Vec::<String>::new(), "polling instead is no problem");
    let said = stage.lab.journal(SERVICE).unwrap();
    assert!(said.contains("chosen, open"), "{said}");
    assert!(said.contains("polling instead") && said.contains("Resource not accessible"), "{said}");
    let shown = stage.lab.shell("/usr/local/bin/gha-runner-controller status").unwrap();
    assert!(shown.contains("acme: jobs are found by scale set"), "{shown}");
    assert!(shown.contains(&format!("{REPO}: jobs are found by polling: ")), "{shown}");

    let (by_set, by_polling) = (queue_in(&stage, "acme/service-002", "by set"), queue_in(&stage, REPO, "by polling"));
    assert_served(&stage, by_set);
    assert_served(&stage, by_polling);
    assert!(stage.hub.job(by_set).unwrap().scale_set.is_some());
    assert!(stage.hub.job(by_polling).unwrap().scale_set.is_none());
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn a_scale_sets_job_runs_and_its_session_is_given_back_when_the_controller_stops() {
    let Some(stage) = scale_set_stage() else { return };
    let (_, job) = stage.queue_small("assigned", "echo served").unwrap();
    assert_served(&stage, job);
    let status = stage.wait_for("its end", MINUTE, |status| !status.finished.is_empty()).unwrap();
    let ended = &status.finished[0];
    assert_eq!((ended.cause, ended.conclusion.as_deref()), (Cause::Succeeded, Some("success")), "{ended:#?}");
    assert_eq!((ended.repo.as_str(), ended.job_name.as_str()), (REPO, "assigned"));
    let known = (ended.timeline.queued_ms, ended.timeline.visible_ms, ended.timeline.recorded_ms);
    assert!(known.0.is_some() && known.0 <= known.1 && known.1 <= known.2, "{:#?}", ended.timeline);
    stage.wait_until_clean(MINUTE).unwrap();
    assert!(set_of(&stage).undeleted_messages.is_empty(), "what was handled is taken off the queue");

    // Twice: a successor that had to wait for the session would show.
    for name in ["first", "second"] {
        stage.systemctl(&["stop", SERVICE]).unwrap();
        assert_eq!(set_of(&stage).listener, None);
        let (_, job) = stage.queue_small(name, "echo served").unwrap();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(stage.hub.job(job).unwrap().status, JobStatus::Queued);
        let begun = Instant::now();
        stage.systemctl(&["start", SERVICE]).unwrap();
        assert_served(&stage, job);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        stage.wait_until_clean(MINUTE).unwrap();
    }
    let conflicts = stage.hub.traffic().unwrap();
    let refused = |entry: &&github_sim::world::LogEntry| entry.call == Call::OpenMessageSession && entry.status == 409;
    assert_eq!(conflicts.log.iter().filter(refused).count(), 0);
}

/// One class whose jobs come by a scale set and in no other way.
fn scale_set_stage() -> Option<Stage> {
    let config = StageConfig {
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\nintake = \"scale-set\"\n".into(),
        ..StageConfig::default()
    };
    let stage = Stage::boot(&config).unwrap()?;
    let heard = |status: &Status| status.sets.iter().any(|set| set.heard_age_seconds.is_some());
    stage.wait_for("the set is listened to", MINUTE, heard).unwrap();
    Some(stage)
}

#[test]
fn a_controller_killed_with_a_scale_sets_message_in_hand_waits_for_its_session_and_runs_the_job_once() {
    let Some(stage) = scale_set_stage() else { return };
    for (when, phase) in
        [("acknowledging", Phase::Requested), ("registering", Phase::Requested), ("running", Phase::Running)]
    {
        println!("{when}");
        stage.hub.reset_traffic().unwrap();
        if when == "acknowledging" {
            // The message stays in the queue, and comes again.
            stage.hub.inject(Fault::once(Call::DeleteMessage, What::Hang)).unwrap();
        }
        if phase == Phase::Requested {
            stage.hub.inject(Fault::once(Call::MintScaleSetRunner, What::Slow { ms: 1500 })).unwrap();
        }
        let script = format!("echo begun; sleep 1; printf 'ran when %s\\n' {when}");
        let (_, job) = stage.queue_small(when, &script).unwrap();
        let there = |status: &Status| status.active_containers.iter().any(|container| container.phase == phase);
        stage.wait_for("a container of it", MINUTE, there).unwrap();
        stage.systemctl(&["kill", "--signal=KILL", "--kill-whom=main", SERVICE]).unwrap();
        let done = stage.hub.wait_completed(job, 2 * MINUTE).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{when}: {done:#?}");
        let heard = |status: &Status| status.sets.iter().any(|set| set.heard_age_seconds.is_some());
        stage.wait_for("the set is listened to again", MINUTE, heard).unwrap();
        stage.wait_until_clean(MINUTE).unwrap();
        let traffic = stage.hub.traffic().unwrap();
        let refused = traffic.log.iter().filter(|e| e.call == Call::OpenMessageSession && e.status == 409).count();
        assert!(refused > 0, "{when}: the session of the dead controller was in the way, or this proves nothing");
        let journal = stage.lab.shell("journalctl --namespace='*' --no-pager --output=cat").unwrap();
        let marker = format!("ran when {when}");
        assert_eq!(journal.lines().filter(|line| line.contains(&marker)).count(), 1, "{when}");
        let set = set_of(&stage);
        assert_eq!((set.undeleted_messages.len(), set.statistics.total_assigned_jobs), (0, 0), "{when}: {set:#?}");
    }
}

#[test]
fn a_signed_delivery_hastens_the_look_at_a_quiet_repository_and_nobody_elses_does() {
    const SECRET: &str = "what-forge-and-host-share";
    let mut config = StageConfig {
        targets: format!(
            "[webhook]\naddress = \"0.0.0.0\"\nsecret_file = \"/etc/gha-runner-controller/hook\"\n\
             [[target]]\nrepo = \"{REPO}\"\n"
        ),
        files: vec![("/etc/gha-runner-controller/hook".into(), SECRET.into(), 0o400)],
        ..StageConfig::default()
    };
    config.top = config.top.replace("poll_interval = \"1s\"", "poll_interval = \"10m\"");
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let looked = |status: &Status| status.targets.iter().all(|target| target.last_poll_ms.is_some());
    stage.wait_for("the first look", MINUTE, looked).unwrap();
    let url = format!("http://{}:8081/webhook", Place::Host.address());
    let hook = HookSpec { scope: Scope::Org("octo-org".into()), url: url.clone(), secret: SECRET.into() };
    stage.hub.set_hook(hook).unwrap();

    stage.hub.inject_hook(HookFault::once(HookWhat::BadSignature).of("queued")).unwrap();
    let (_, unheard) = stage.queue_small("unheard", "echo served").unwrap();
    let refused = |status: &Status| status.webhook.is_some_and(|counts| counts.refused == 1);
    stage.wait_for("the delivery of a stranger is refused", MINUTE, refused).unwrap();
    let unsigned =
        format!("curl --silent --show-error --output /dev/null --write-out '%{{http_code}}' {url} --data '{{}}'");
    let answer = stage.lab.exec(Place::Internet, &["sh", "-c", &unsigned]).unwrap().check().unwrap().text();
    assert_eq!(answer, "401");
    std::thread::sleep(Duration::from_secs(3));
    let status = stage.status().unwrap();
    assert!(status.queue.is_empty() && status.active_containers.is_empty(), "{status:#?}");

    let (_, heard) = stage.queue_small("heard", "echo served").unwrap();
    // One look sees both, ten minutes before it was due.
    for job in [heard, unheard] {
        let done = stage.hub.wait_completed(job, Duration::from_secs(20)).unwrap();
        assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    }
    let counts = stage.status().unwrap().webhook.unwrap();
    assert!(counts.accepted >= 1 && counts.refused == 2, "{counts:?}");
    assert_says_nothing_secret(&stage, &[SECRET, TOKEN]);
    stage.wait_until_clean(MINUTE).unwrap();
}
