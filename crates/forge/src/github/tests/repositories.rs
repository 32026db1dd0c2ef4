//! Discovery, and repositories that cannot be served.

use std::collections::BTreeSet;

use github_sim::world::{Access, Fault, Gate, Grant, JobSpec, RepoSettings, TokenSpec, What};

use super::*;
use crate::{ErrorKind, Forge, JobStatus};

const ALL: &str = "token_file = \"/t\"\n[[target]]\norg = \"acme\"\n[[target]]\nuser = \"octocat\"\n\
                   [[target]]\nrepo = \"acme/web\"\n";

fn names(found: Vec<crate::Repository>) -> Vec<String> {
    let mut names: Vec<String> = found.into_iter().map(|repository| repository.name).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn organisations_accounts_and_single_repositories_are_discovered() {
    let hub = Hub::new(Config::default());
    let pushed_at = Some(EPOCH - minutes(60));
    let archived = RepoSettings { archived: true, pushed_at, ..RepoSettings::default() };
    hub.world.borrow_mut().set_repo("acme/docs", archived).unwrap();
    let github = hub.github(ALL);
    let found = github.discover("acme").await.unwrap();
    let docs = found.iter().find(|repository| repository.name == "acme/docs").unwrap();
    assert_eq!((docs.archived, docs.pushed_at, docs.public), (true, pushed_at, Some(true)));
    assert_eq!(names(found), ["acme/api", "acme/docs", "acme/web"]);
    assert_eq!(names(github.discover("octocat").await.unwrap()), ["octocat/hello"]);
    let web = github.discover("acme/web").await.unwrap();
    assert_eq!((web[0].name.as_str(), web[0].public), ("acme/web", Some(false)));
}

#[tokio::test(start_paused = true)]
async fn a_large_organisation_is_discovered_whole_and_costs_nothing_when_it_did_not_change() {
    let hub = Hub::new(Config::default());
    hub.world.borrow_mut().add_repos("acme", "many", 250, true).unwrap();
    let github = hub.github(ALL);
    assert_eq!(github.discover("acme").await.unwrap().len(), 253);
    assert_eq!(github.discover("acme").await.unwrap().len(), 253);
    let tally = hub.world.borrow().traffic().of(SimCall::ListOrgRepos);
    assert_eq!((tally.requests, tally.not_modified), (6, 3));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_repository_is_named_by_its_new_name_and_the_others_go_on() {
    let hub = Hub::new(Config::default());
    hub.world.borrow_mut().rename_repo("acme/web", "acme/shop").unwrap();
    let github = hub.github(ALL);
    for error in [
        github.look("acme/web").await.unwrap_err(),
        github.mint("acme/web", "r-1", &["x".to_owned()], None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::Quarantined, "{error}");
        assert!(error.message.contains("now acme/shop"), "{error}");
    }
    github.look("acme/api").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_elsewhere_is_not_followed() {
    let hub = Hub::new(Config::default());
    let github = hub.github(ALL);
    for to in ["https://evil.invalid/repositories/1/actions/runs", "/user/repos", "nonsense"] {
        let before = hub.world.borrow().traffic().total.requests;
        let elsewhere = What::Redirect { status: 301, to: to.to_owned() };
        hub.world.borrow_mut().inject(Fault::once(SimCall::ListRuns, elsewhere));
        let error = github.look("acme/api").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Quarantined, "{error}");
        let log = hub.world.borrow().traffic().log;
        let after: Vec<&str> = log[before as usize..].iter().map(|entry| entry.path.as_str()).collect();
        // At most the repository itself, at the API, by the number in the address.
        assert!(after[1..].iter().all(|path| path.starts_with("/repositories/")), "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_served_is_said_with_its_reason() {
    let hub = Hub::new(Config::default());
    let without = RepoSettings { actions_enabled: false, ..RepoSettings::default() };
    hub.world.borrow_mut().set_repo("acme/api", without).unwrap();
    let archived = RepoSettings { archived: true, ..RepoSettings::default() };
    hub.world.borrow_mut().set_repo("acme/docs", archived).unwrap();
    hub.world.borrow_mut().delete_repo("acme/web").unwrap();
    let github = hub.github(ALL);
    let error = github.look("acme/api").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Quarantined, "{error}");
    assert!(error.message.contains("enable Actions"), "{error}");
    let error = github.mint("acme/docs", "r-1", &["x".to_owned()], None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Quarantined, "{error}");
    let error = github.look("acme/web").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
    github.look("octocat/hello").await.unwrap();
}

fn queue(hub: &Hub, repository: &str, count: usize) {
    for number in 0..count {
        let job = JobSpec::new(&format!("job {number}"), &["x"], &["true"]);
        let now = hub.now();
        hub.world.borrow_mut().queue_job(now, repository, job).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_job_is_seen_once_when_pages_shift_while_they_are_read() {
    let hub = Hub::new(Config::default());
    queue(&hub, "acme/api", 120);
    hub.world.borrow_mut().inject(Fault::once(SimCall::ListRuns, What::PageShift));
    let jobs = hub.github(ALL).look("acme/api").await.unwrap();
    let ids: BTreeSet<u64> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), jobs.len());
    assert!(jobs.len() >= 120, "{}", jobs.len());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_deleted_after_it_was_listed_has_no_jobs_and_the_others_have_theirs() {
    let hub = Hub::new(Config::default());
    queue(&hub, "acme/api", 3);
    let gone = What::Status { code: 404, message: "Not Found".to_owned(), headers: Vec::new() };
    hub.world.borrow_mut().inject(Fault::times(2, SimCall::ListJobs, gone));
    let github = hub.github(ALL);
    assert_eq!(github.look("acme/api").await.unwrap().len(), 1);
    assert_eq!(github.look("acme/api").await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_an_approval_is_known_for_few_calls_until_it_is_let_go() {
    let hub = Hub::new(Config::default());
    let github = hub.github(ALL);
    let gated = JobSpec { gate: Some(Gate::Waiting), ..JobSpec::new("deploy", &["x"], &["true"]) };
    let queued = hub.world.borrow_mut().queue_job(EPOCH, "acme/web", gated);
    let (_, id) = queued.unwrap();
    let seen = async || {
        let jobs = github.look("acme/web").await.unwrap();
        jobs.iter().find(|job| job.id == id.0).map(|job| job.status)
    };
    let mut first = None;
    for look in 1..=40 {
        match seen().await {
            Some(status) => assert_eq!((status, *first.get_or_insert(look)), (JobStatus::NotReady, 12)),
            None => assert_eq!(first, None, "forgotten at look {look}"),
        }
    }
    // Two each look, a sweep, and two each twelfth.
    let tally = hub.world.borrow().traffic().of(SimCall::ListRuns);
    assert_eq!(tally.requests, 40 * 2 + 1 + 3 * 2);
    // Asked for the first time, and the sweep; the rest is unchanged.
    assert_eq!(tally.requests - tally.not_modified, 2 + 1 + 2);
    hub.world.borrow_mut().release_job(EPOCH, id).unwrap();
    assert_eq!(seen().await, Some(JobStatus::Queued));
    assert_eq!(seen().await, Some(JobStatus::Queued));
}

#[tokio::test(start_paused = true)]
async fn a_look_at_hundreds_of_runs_takes_its_time_and_hits_no_limit() {
    let hub = Hub::new(Config::default());
    queue(&hub, "acme/api", 400);
    let settings = "[credential.x]\ntoken_file = \"/t\"\nshare = 1.0\n[[target]]\nrepo = \"acme/api\"\n";
    assert_eq!(hub.github(settings).look("acme/api").await.unwrap().len(), 400);
    assert_eq!(hub.world.borrow().traffic().total.errors, 0);
}

#[tokio::test(start_paused = true)]
async fn every_missing_permission_is_named() {
    let hub = Hub::new(Config::default());
    let grant = Grant::FineGrained {
        owner: None,
        permissions: [("metadata", Access::Read)].map(|(name, access)| (name.to_owned(), access)).into(),
        repositories: None,
    };
    let token = TokenSpec { token: TOKEN.to_owned(), login: "acme-bot".to_owned(), grant, ..TokenSpec::default() };
    let now = hub.now();
    hub.world.borrow_mut().set_token(now, token);
    let settings = "token_file = \"/t\"\n[[target]]\norg = \"acme\"\n[[target]]\nrepo = \"octocat/hello\"\n";
    let github = hub.github(settings);
    let problems = |findings: Vec<crate::Finding>| -> String {
        let said =
            findings.into_iter().filter_map(|finding| Some(format!("{:?}: {}", finding.reach, finding.problem?)));
        said.collect::<Vec<_>>().join("\n")
    };
    let said = problems(github.probe("acme").await);
    assert!(said.contains("organisation permission Self-hosted runners: read"), "{said}");
    let said = problems(github.probe("octocat/hello").await);
    assert!(said.contains("Register") && said.contains("Administration: read and write"), "{said}");
}
