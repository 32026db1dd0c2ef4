//! A story in which the client, and a hand where it does not, ask the simulated GitHub everything it can answer, in
//! every state that shows in an answer.

use forge::{Deletion, Forge};
use github_sim::{
    Call,
    world::{
        Fault, Gate, HookSpec, InstallationSpec, JobSpec, RepoSettings, RunSpec, RunnerGroupSpec, RunnerResult, Scope,
        Visibility, What,
    },
};
use serde_json::{Value, json};

use crate::client::{BY_APP, BY_TOKEN, Served, github};

/// Plays it all.
pub async fn play(served: &Served) {
    prepare(served);
    discovery(served).await;
    let (run, job) = runs(served).await;
    runners(served).await;
    by_hand(served, run, job).await;
    refusals(served).await;
    deliveries(served);
}

fn prepare(served: &Served) {
    let now = forge::wire::Wire::now(served);
    let mut world = served.world.borrow_mut();
    for scope in [Scope::Org("acme".to_owned()), Scope::Org("octocat".to_owned())] {
        let spec = HookSpec { scope, url: "http://192.0.2.1/hook".to_owned(), secret: "hush".to_owned() };
        world.set_hook(now, spec).unwrap();
    }
    let group = RunnerGroupSpec {
        name: "Ephemeral".to_owned(),
        visibility: Visibility::Selected(["acme/web".to_owned()].into()),
        allows_public_repositories: true,
    };
    world.set_runner_group(&Scope::Org("acme".to_owned()), group).unwrap();
    let settings = RepoSettings { pushed_at: Some(now), topics: vec!["ci".to_owned()], ..RepoSettings::default() };
    world.set_repo("acme/docs", settings).unwrap();
    world.set_runner_deprecation("2.300.0", Some(now));
    world.set_runner_deprecation("2.336.0", None);
}

async fn discovery(served: &Served) {
    for settings in [BY_TOKEN, BY_APP] {
        let github = github(served, settings);
        for target in ["acme", "octocat"] {
            github.discover(target).await.unwrap();
            github.probe(target).await;
        }
    }
    let github = github(served, BY_TOKEN);
    github.discover("acme/web").await.unwrap();
    for target in ["acme/web", "enterprises/octo"] {
        github.probe(target).await;
    }
}

/// Queues jobs of every kind, has some of them run, and looks at them all the while. A run and a job that ended.
async fn runs(served: &Served) -> (u64, u64) {
    let github = github(served, BY_TOKEN);
    let now = || forge::wire::Wire::now(served);
    let job = |name: &str| JobSpec::new(name, &["x"], &["true", "false"]);
    {
        let mut world = served.world.borrow_mut();
        // Some fields are null in every fifth, seventh, … run.
        for number in 0..20 {
            world.queue_job(now(), "acme/web", job(&format!("job {number}"))).unwrap();
        }
        let fork = RunSpec { ..RunSpec::pull_request_from_fork(vec![job("from a fork")]) };
        world.queue_run(now(), "acme/api", fork).unwrap();
        for gate in [Gate::Waiting, Gate::Pending, Gate::Requested] {
            world.queue_job(now(), "acme/web", JobSpec { gate: Some(gate), ..job("held") }).unwrap();
        }
        world.queue_job(now(), "octocat/hello", job("of a person")).unwrap();
    }
    let cancelled = served.world.borrow_mut().queue_job(now(), "acme/web", job("cancelled")).unwrap();
    served.world.borrow_mut().cancel_job(now(), cancelled.1).unwrap();
    let mut ended = (cancelled.0.0, cancelled.1.0);
    for result in [RunnerResult::Succeeded, RunnerResult::Failed, RunnerResult::Canceled] {
        let name = format!("runner-{result:?}").to_lowercase();
        let minted = github.mint("acme/web", &name, &["x".to_owned()], None).await.unwrap();
        let contract::Grant::GithubJit { encoded_jit_config } = minted.grant else { unreachable!("GitHub's") };
        let session = served.world.borrow_mut().runner_connect(now(), &encoded_jit_config).unwrap();
        let taken = served.world.borrow_mut().runner_poll(now(), &session).unwrap().expect("a job");
        served.world.borrow_mut().runner_started(now(), &session).unwrap();
        served.world.borrow_mut().runner_step(now(), &session, 0, None).unwrap();
        look(&github).await;
        assert_eq!(github.delete_runner("acme/web", minted.runner_id).await.unwrap(), Deletion::Busy);
        github.find_runner("acme/web", &name).await.unwrap().expect("the runner");
        served.world.borrow_mut().runner_step(now(), &session, 0, Some(0)).unwrap();
        served.world.borrow_mut().runner_complete(now(), &session, result).unwrap();
        let job = github.job("acme/web", taken.0).await.unwrap().expect("the job");
        github.job_of_run("acme/web", job.run_id, &name).await.unwrap().expect("its job");
        ended = (job.run_id, job.id);
    }
    look(&github).await;
    ended
}

async fn look(github: &impl Forge) {
    for repository in ["acme/web", "acme/api", "octocat/hello"] {
        // So many until every kind of listing was asked for.
        for _ in 0..30 {
            github.look(repository).await.unwrap();
        }
    }
}

async fn runners(served: &Served) {
    let github = github(served, BY_TOKEN);
    for scope in ["acme", "acme/api", "enterprises/octo"] {
        let minted = github.mint(scope, "waits", &["x".to_owned(), "y".to_owned()], None).await.unwrap();
        github.mint(scope, "waits", &["x".to_owned()], None).await.unwrap_err();
        github.list_runners(scope).await.unwrap();
        github.find_runner(scope, "waits").await.unwrap().expect("the runner");
        github.runner_group(scope).await.unwrap();
        for version in ["2.300.0", "2.336.0", "1.0.0"] {
            github.runner_deprecation(scope, version).await.unwrap();
        }
        assert_eq!(github.delete_runner(scope, minted.runner_id).await.unwrap(), Deletion::Deleted);
        assert_eq!(github.delete_runner(scope, minted.runner_id).await.unwrap(), Deletion::AlreadyGone);
    }
}

async fn by_hand(served: &Served, run: u64, job: u64) {
    let actions = "/repos/acme/web/actions";
    for path in [
        "/rate_limit".to_owned(),
        "/user".to_owned(),
        "/user/repos?visibility=private".to_owned(),
        "/orgs/acme".to_owned(),
        "/users/octocat".to_owned(),
        "/users/octocat/repos".to_owned(),
        "/repos/acme/web".to_owned(),
        format!("{actions}/permissions"),
        format!("{actions}/runs?event=push&branch=main&per_page=2&page=2"),
        format!("{actions}/runs/{run}"),
        format!("{actions}/runs/{run}/attempts/1/jobs"),
        format!("{actions}/runners/downloads"),
    ] {
        assert_eq!(served.ask("GET", &path, None).await.0, 200, "{path}");
    }
    for (path, status) in [
        (format!("{actions}/runs/{run}/rerun-failed-jobs"), 201),
        (format!("{actions}/runs/{run}/cancel"), 202),
        (format!("{actions}/runs/{run}/rerun"), 201),
        (format!("{actions}/runs/{run}/force-cancel"), 202),
        (format!("{actions}/jobs/{job}/rerun"), 201),
        (format!("{actions}/runs/{run}/cancel"), 202),
        (format!("{actions}/runs/{run}/cancel"), 409),
        (format!("{actions}/runners/remove-token"), 201),
    ] {
        let (got, body) = served.ask("POST", &path, None).await;
        assert_eq!(got, status, "{path}: {body}");
    }
    for scope in ["/repos/acme/web", "/orgs/acme", "/enterprises/octo"] {
        let body = json!({ "name": "labelled", "runner_group_id": 1, "labels": ["x"] });
        let (_, minted) = served.ask("POST", &format!("{scope}/actions/runners/generate-jitconfig"), Some(body)).await;
        let runner = format!("{scope}/actions/runners/{}", minted["runner"]["id"]);
        let labels = json!({ "labels": ["y", "z"] });
        for (method, below, body) in [
            ("GET", "", Value::Null),
            ("GET", "/labels", Value::Null),
            ("POST", "/labels", labels.clone()),
            ("PUT", "/labels", labels),
            ("DELETE", "/labels/y", Value::Null),
            ("DELETE", "/labels", Value::Null),
        ] {
            let body = Some(body).filter(|body| !body.is_null());
            let (status, said) = served.ask(method, &format!("{runner}{below}"), body).await;
            assert_eq!(status, 200, "{method} {runner}{below}: {said}");
        }
    }
    let (_, groups) = served.ask("GET", "/orgs/acme/actions/runner-groups", None).await;
    let selected = groups["runner_groups"].as_array().unwrap().iter().find(|group| group["visibility"] == "selected");
    let path = format!("/orgs/acme/actions/runner-groups/{}/repositories", selected.unwrap()["id"]);
    assert_eq!(served.ask("GET", &path, None).await.0, 200);
}

/// Refusals of every kind that a client meets.
async fn refusals(served: &Served) {
    let github = github(served, BY_TOKEN);
    let inject = |call, what| served.world.borrow_mut().inject(Fault::once(call, what));
    inject(Call::ListRuns, What::RateLimitSecondary { retry_after: Some(1) });
    github.look("acme/api").await.unwrap_err();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    inject(Call::ListRuns, What::Unauthorized);
    github.look("acme/api").await.unwrap_err();
    github.look("acme/nowhere").await.unwrap_err();
    served
        .world
        .borrow_mut()
        .set_repo("acme/docs", RepoSettings { archived: true, ..RepoSettings::default() })
        .unwrap();
    let minted = json!({ "name": "archived", "runner_group_id": 1, "labels": ["x"] });
    let (status, _) = served.ask("POST", "/repos/acme/docs/actions/runners/generate-jitconfig", Some(minted)).await;
    assert_eq!(status, 403);
    served.world.borrow_mut().rename_repo("acme/api", "acme/core").unwrap();
    github.look("acme/api").await.unwrap_err();
    served
        .world
        .borrow_mut()
        .set_installation(InstallationSpec { suspended: true, ..InstallationSpec::of("acme") })
        .unwrap();
    crate::client::github(served, BY_APP).discover("acme").await.unwrap_err();
}

fn deliveries(served: &Served) {
    let due = served.world.borrow_mut().take_deliveries(forge::wire::Wire::now(served));
    let mut judge = served.judge.borrow_mut();
    for delivery in due {
        let event = delivery.headers.iter().find(|(name, _)| name == "x-github-event").unwrap().1.clone();
        judge.delivery(&event, &delivery.headers, &serde_json::from_slice(&delivery.body).unwrap());
    }
}
