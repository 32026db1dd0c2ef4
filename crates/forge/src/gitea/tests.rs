//! The client against a small Gitea in this process, whose answers are those of a real one (version 1.26.0), and against
//! a Forgejo whose answers are those of its sources.
#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, rc::Rc};

use http::{HeaderMap, StatusCode, header};
use settings::{check::check, token_file::Token};

use super::*;
use crate::{
    Reach,
    wire::{Answer, NoAnswer, Request},
};

/// Monday 2026-11-02, 00:00 UTC.
const NOW: Duration = Duration::from_secs(1_793_577_600);

/// What is there, and what was asked.
#[derive(Debug, Default)]
struct Server {
    version: &'static str,
    jobs: Vec<Value>,
    runners: Vec<Value>,
    log: Vec<String>,
    /// Method, path and body of each call.
    asked: Vec<(String, Value)>,
    /// What any call of this beginning is answered with.
    refuse: Option<(&'static str, u16, &'static str)>,
}

#[derive(Debug, Clone, Default)]
struct Stub(Rc<RefCell<Server>>);

impl Wire for Stub {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let mut forge = self.0.borrow_mut();
        let path = &request.url.as_str()["http://git.lan".len()..];
        let asked = format!("{} {path}", request.method);
        let body: Value = request.body.as_ref().map(|body| serde_json::from_slice(body).unwrap()).unwrap_or_default();
        forge.asked.push((asked.clone(), body.clone()));
        let answer = |status: u16, body: Value| {
            let headers = HeaderMap::from_iter([(header::LOCATION, "/acme/new".parse().unwrap())]);
            Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: body.to_string().into_bytes() }
        };
        if let Some((beginning, status, said)) = forge.refuse
            && asked.starts_with(beginning)
        {
            return Ok(answer(status, json!({ "message": said })));
        }
        let api = path.starts_with("/api/v1/").then(|| request.headers[header::AUTHORIZATION].to_str().unwrap());
        assert!(api.is_none_or(|sent| sent == "token sesame"));
        Ok(forge.answer(&asked, &body, answer))
    }

    fn now(&self) -> Duration {
        NOW
    }

    fn random(&self) -> u64 {
        0
    }
}

impl Server {
    fn answer(&mut self, asked: &str, body: &Value, answer: impl Fn(u16, Value) -> Answer) -> Answer {
        let (method, path) = asked.split_once(' ').unwrap();
        let path = path.replace("/api/v1", "");
        let parts: Vec<&str> = path.split(['/', '?']).filter(|part| !part.is_empty()).collect();
        let gone = || {
            answer(
                500,
                json!({"code": "unknown", "message": "rpc error: code = Unauthenticated desc = unregistered runner"}),
            )
        };
        match (method, parts.as_slice()) {
            ("GET", ["version"]) => answer(200, json!({"version": self.version})),
            ("GET", ["repos", owner, name]) => answer(
                200,
                json!({"full_name": format!("{owner}/{name}"),
                "private": false, "archived": *name == "old", "has_actions": *name != "quiet"}),
            ),
            ("GET", ["repositories", _]) => answer(200, json!({"full_name": "acme/app", "private": false})),
            ("GET", ["orgs", "acme", "repos", ..]) => answer(
                200,
                json!([
                {"full_name": "acme/app", "private": false, "archived": false, "has_actions": true,
                 "updated_at": "2026-11-01T00:00:00Z"},
                {"full_name": "acme/quiet", "private": true, "has_actions": false}]),
            ),
            ("GET", [.., "actions", "runs", run, "jobs", _]) => {
                let of_it = |job: &&Value| job["run_id"].as_u64() == run.parse().ok();
                answer(200, json!({"jobs": self.jobs.iter().filter(of_it).collect::<Vec<_>>()}))
            }
            ("GET", [.., "actions", "runs", "7"]) => answer(
                200,
                json!({"id": 7, "event": "push",
                "path": "ci.yml@refs/heads/main", "repository": {"full_name": "acme/app", "private": false}}),
            ),
            ("GET", [.., "actions", "runs", "8"]) => answer(
                200,
                json!({"id": 8, "event": "pull_request_sync",
                "path": "ci.yml@refs/pull/3/head", "repository": {"full_name": "acme/app", "private": false}}),
            ),
            ("GET", [.., "pulls", "3"]) => answer(200, json!({"head": {"repo_id": 99}, "base": {"repo_id": 1}})),
            ("GET", [.., "actions", "jobs", id]) if id.parse::<u64>().is_ok() => {
                match self.jobs.iter().find(|job| job["id"].as_u64() == id.parse().ok()) {
                    Some(job) => answer(200, job.clone()),
                    None => answer(404, json!({"message": "not found"})),
                }
            }
            ("GET", [.., "actions", "runners", "jobs"]) if self.jobs.is_empty() => answer(200, Value::Null),
            ("GET", [.., "actions", "runners", "jobs"]) => answer(200, Value::Array(self.jobs.clone())),
            ("GET", [.., "actions", "jobs", query]) => {
                // It never gives more than fifty.
                let number: usize = query.rsplit_once("page=").unwrap().1.parse().unwrap();
                let page: Vec<&Value> = self.jobs.iter().skip((number - 1) * 50).take(50).collect();
                answer(200, json!({"jobs": page, "total_count": self.jobs.len()}))
            }
            ("POST", [.., "actions", "runners", "registration-token"]) => answer(200, json!({"token": "REG"})),
            ("POST", [.., "actions", "runners"]) => {
                self.runners.push(json!({"id": 30, "name": body["name"], "status": "offline"}));
                answer(201, json!({"id": 30, "uuid": "u-30", "token": "t-30"}))
            }
            ("POST", [.., "Register"]) => {
                assert_eq!((&body["token"], &body["ephemeral"]), (&json!("REG"), &json!(true)));
                self.runners.push(json!({"id": 5, "name": body["name"], "status": "offline", "busy": false}));
                answer(200, json!({"runner": {"id": "5", "uuid": "u-5", "token": "t-5", "ephemeral": true}}))
            }
            ("GET", [.., "actions", "runners", query]) if query.starts_with("limit") => {
                answer(200, json!({"runners": self.runners, "total_count": self.runners.len()}))
            }
            ("GET" | "PATCH" | "DELETE", [.., "actions", "runners", id]) => {
                let Some(at) = self.runners.iter().position(|runner| runner["id"].as_u64() == id.parse().ok()) else {
                    return answer(404, json!({"message": "Runner not found"}));
                };
                match method {
                    "DELETE" => {
                        self.runners.remove(at);
                        answer(204, Value::Null)
                    }
                    _ => answer(200, self.runners[at].clone()),
                }
            }
            ("POST", [.., "UpdateLog"]) if !self.runners.is_empty() => {
                let rows = body["rows"].as_array().unwrap();
                self.log.extend(rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()));
                answer(200, json!({"ackIndex": self.log.len().to_string()}))
            }
            ("POST", [.., "UpdateTask"]) if !self.runners.is_empty() => {
                self.runners.clear();
                answer(200, json!({"state": {"id": "1", "result": body["state"]["result"]}}))
            }
            ("POST", [.., "UpdateLog" | "UpdateTask"]) => gone(),
            _ => panic!("{asked}"),
        }
    }
}

fn open(kind: &str, target: &str) -> (Gitea<Stub>, Stub) {
    let text = format!(
        "[credential.own]\nkind = \"{kind}\"\nurl = \"http://git.lan/\"\ntoken_file = \"/t\"\n[[target]]\n{target}\n\
         [template.default]\nkind = \"{kind}\"\n"
    );
    let settings = check(toml::from_str(&text).unwrap()).unwrap();
    let stub = Stub::default();
    stub.0.borrow_mut().version = if kind == "gitea" { "1.26.0" } else { "15.0.1+gitea-1.22.0" };
    (Gitea::open(&settings, "own", stub.clone(), Token::new("sesame")).unwrap(), stub)
}

fn job(id: u64, repository: &str, run: u64, status: &str, runner: u64) -> Value {
    json!({"id": id, "url": format!("http://git.lan/api/v1/repos/{repository}/actions/jobs/{id}"), "run_id": run,
        "name": "one", "labels": ["nix"], "run_attempt": 0, "status": status, "runner_id": runner,
        "runner_name": "x", "created_at": "2026-11-01T23:59:00Z", "started_at": "1970-01-01T00:00:00Z"})
}

const REPO: &str = "repo = \"acme/app\"";
const ORG: &str = "org = \"acme\"";

impl Stub {
    fn asked(&self, part: &str) -> usize {
        self.0.borrow().asked.iter().filter(|(asked, _)| asked.contains(part)).count()
    }

    fn jobs(&self, jobs: Vec<Value>) {
        self.0.borrow_mut().jobs = jobs;
    }
}

#[tokio::test]
async fn queued_jobs_are_told_with_what_the_fork_gate_has_to_know() {
    let (forge, stub) = open("gitea", REPO);
    stub.jobs(vec![
        job(1, "acme/app", 7, "queued", 0),
        job(2, "acme/app", 8, "queued", 0),
        job(3, "acme/app", 9, "waiting", 0),
        job(4, "acme/app", 7, "in_progress", 5),
    ]);
    let jobs = forge.look("own:acme/app").await.unwrap();
    let told: Vec<_> = jobs.iter().map(|job| (job.id, job.status, job.from_fork, job.runner_id)).collect();
    assert_eq!(
        told,
        [
            (1, JobStatus::Queued, Some(false), None),
            (2, JobStatus::Queued, Some(true), None),
            (3, JobStatus::NotReady, None, None),
            (4, JobStatus::InProgress, None, Some(5)),
        ]
    );
    assert_eq!((jobs[0].repository.as_str(), jobs[0].public), ("own:acme/app", Some(true)));
    assert_eq!((jobs[0].event.as_deref(), jobs[0].created_at), (Some("push"), Some(NOW - Duration::from_secs(60))));
    forge.look("own:acme/app").await.unwrap();
    assert_eq!(stub.asked("/actions/runs/"), 2, "a run is asked about once");
}

#[tokio::test(start_paused = true)]
async fn one_listing_answers_all_repositories_of_an_organisation() {
    let (forge, stub) = open("gitea", ORG);
    stub.jobs(
        (1..=60).map(|id| job(id, if id == 60 { "acme/lib" } else { "acme/app" }, 7, "in_progress", id)).collect(),
    );
    let (app, lib, none) =
        tokio::join!(forge.look("own:acme/app"), forge.look("own:Acme/LIB"), forge.look("own:acme/x"));
    assert_eq!((app.unwrap().len(), lib.unwrap().len(), none.unwrap().len()), (59, 1, 0));
    assert_eq!(stub.asked("/orgs/acme/actions/jobs"), 2, "of two pages");
    let traits = forge.traits_of("own:acme/app");
    assert!(traits.lists_together && !traits.tells_of_cancel);
    assert_eq!(traits.look_age, listings::SHARED, "what it shows may be that old");
    tokio::time::advance(Duration::from_secs(1)).await;
    forge.look("own:acme/app").await.unwrap();
    assert_eq!(stub.asked("/orgs/acme/actions/jobs"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_look_at_a_repository_that_is_served_alone_is_as_new_as_its_question() {
    let (forge, stub) = open("gitea", REPO);
    forge.look("own:acme/app").await.unwrap();
    forge.look("own:acme/app").await.unwrap();
    assert_eq!((stub.asked("/actions/jobs"), forge.traits_of("own:acme/app").look_age), (2, Duration::ZERO));
}

#[tokio::test]
async fn a_runner_is_registered_for_one_job_and_the_registration_token_goes_no_further() {
    for (target, scope, path) in [
        (REPO, "own:acme/app", "/repos/acme/app"),
        (ORG, "own:acme", "/orgs/acme"),
        ("user = \"ann\"", "own:ann", "/user"),
        ("instance = true", "own:*", "/admin"),
    ] {
        let (forge, stub) = open("gitea", target);
        let labels = ["nix:host".to_owned(), "box:docker://debian:12".to_owned()];
        let minted = forge.mint(scope, "h.default.j1.00", &labels, None).await.unwrap();
        let Grant::ActRunner(runner) = &minted.grant else { panic!("{minted:?}") };
        assert_eq!((minted.runner_id, runner.uuid.as_str(), runner.token.as_str()), (5, "u-5", "t-5"));
        assert_eq!((runner.url.as_str(), &runner.labels[..]), ("http://git.lan", &labels[..]));
        assert_eq!(stub.asked(&format!("POST /api/v1{path}/actions/runners/registration-token")), 1, "{scope}");
        let registered =
            stub.0.borrow().asked.iter().find(|(asked, _)| asked.ends_with("/Register")).unwrap().1.clone();
        assert_eq!(registered["labels"], json!(["nix", "box"]), "the forge knows names alone");
        assert_eq!(forge.find_runner(scope, "h.default.j1.00").await.unwrap().unwrap().id, 5);
        assert!(!serde_json::to_string(&minted.grant).unwrap().contains("REG"));
    }
}

#[tokio::test]
async fn a_runner_that_has_a_job_is_never_deleted() {
    let (forge, stub) = open("gitea", ORG);
    forge.mint("own:acme", "r", &[], None).await.unwrap();
    stub.jobs(vec![job(1, "acme/app", 7, "in_progress", 5)]);
    assert_eq!(forge.delete_runner("own:acme", 5).await.unwrap(), Deletion::Busy);
    assert_eq!((stub.asked("PATCH "), stub.asked("DELETE ")), (1, 0));
    stub.jobs(vec![job(1, "acme/app", 7, "in_progress", 6)]);
    assert_eq!(forge.delete_runner("own:acme", 5).await.unwrap(), Deletion::Deleted);
    assert_eq!(forge.delete_runner("own:acme", 5).await.unwrap(), Deletion::AlreadyGone);
}

#[tokio::test]
async fn a_job_whose_runner_is_gone_ends_with_the_reason_as_its_last_line_and_only_once() {
    let (forge, stub) = open("gitea", REPO);
    let minted = forge.mint("own:acme/app", "r", &[], None).await.unwrap();
    stub.0.borrow_mut().log = vec!["hello".into()];
    let end = async || forge.finish("own:acme/app", &minted.grant, 1, Finish::Failed, "out of memory").await.unwrap();
    assert!(end().await);
    assert_eq!(stub.0.borrow().log.last().unwrap(), "gha-runner-controller: out of memory");
    let asked = stub.0.borrow().asked.last().unwrap().clone();
    assert!(asked.0.ends_with("/UpdateTask") && asked.1["state"]["result"] == "RESULT_FAILURE", "{asked:?}");
    assert!(!forge.is_registered("own:acme/app", 5).await.unwrap(), "it goes with the job");
    assert!(!end().await, "what is over is left as it is");
}

#[tokio::test]
async fn the_job_that_a_runner_took_in_place_of_its_own_is_found_in_that_run_or_a_recent_one() {
    let (forge, stub) = open("gitea", ORG);
    let named = |id, run, name: &str| {
        let mut job = job(id, "acme/app", run, "in_progress", id);
        job["runner_name"] = json!(name);
        job
    };
    stub.jobs(vec![named(1, 7, "other"), named(2, 7, "ours"), named(3, 8, "crossed")]);
    forge.look("own:acme/app").await.unwrap();
    for (runner, found) in [("ours", Some(2)), ("crossed", Some(3)), ("nobody", None)] {
        let job = forge.job_of_run("own:acme/app", 7, runner).await.unwrap();
        assert_eq!(job.map(|job| (job.id, job.repository)), found.map(|id| (id, "own:acme/app".to_owned())));
    }
}

#[tokio::test]
async fn what_a_forge_refuses_is_told_with_its_remedy() {
    for (refuse, kind, words) in [
        (
            (
                "GET",
                403,
                "token does not have at least one of required scope(s), required=[read:repository], token scope=read:user",
            ),
            ErrorKind::Forbidden,
            "give the token the scope read:repository",
        ),
        (("GET", 301, ""), ErrorKind::Quarantined, "moved to /acme/new"),
        (("GET", 404, "The target couldn't be found."), ErrorKind::NotFound, "the token may not see it"),
        (("GET", 503, ""), ErrorKind::Unavailable, "503"),
    ] {
        let (forge, stub) = open("gitea", REPO);
        stub.0.borrow_mut().refuse = Some(refuse);
        let error = forge.look("own:acme/app").await.unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.contains(words), "{error}");
    }
    let (forge, _) = open("gitea", "repo = \"acme/quiet\"");
    let error = forge.look("own:acme/quiet").await.unwrap_err();
    assert!(error.kind == ErrorKind::Quarantined && error.message.contains("enable Actions"), "{error}");
}

#[tokio::test]
async fn a_version_that_lacks_something_is_refused_in_words() {
    for (kind, version, words) in [
        ("gitea", "1.26.0", None),
        ("gitea", "1.27.0+dev-3-gabc", None),
        ("gitea", "1.25.4", Some("Gitea 1.25.4 is older than 1.26")),
        ("forgejo", "15.0.1+gitea-1.22.0", None),
        ("forgejo", "11.0.3+gitea-1.22.0", Some("is older than 15.0")),
        ("gitea", "15.0.1+gitea-1.22.0", Some("kind = \"forgejo\"")),
        ("forgejo", "1.26.0", Some("kind = \"gitea\"")),
    ] {
        let (forge, stub) = open(kind, ORG);
        stub.0.borrow_mut().version = version;
        let findings = forge.probe("own:acme").await;
        let told = findings.iter().find(|finding| finding.reach == Reach::Version).unwrap();
        let said = told.problem.as_ref().map(ToString::to_string);
        assert_eq!(said.is_some(), words.is_some(), "{version}: {said:?}");
        assert!(said.unwrap_or_default().contains(words.unwrap_or_default()), "{version}");
    }
}

#[tokio::test]
async fn forgejo_binds_a_runner_to_its_job_and_has_words_of_its_own() {
    let (forge, stub) = open("forgejo", ORG);
    assert!(forge.look("own:acme/app").await.unwrap().is_empty(), "it lists nothing as null");
    let listed = |id: u64, status: &str| {
        json!({"id": id, "run_id": 7, "attempt": 1, "handle": format!("h-{id}"), "repo_id": 1, "owner_id": 1,
            "name": "one", "needs": null, "runs_on": ["nix"], "task_id": 0, "status": status})
    };
    stub.jobs(vec![listed(1, "waiting"), listed(2, "running")]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let jobs = forge.look("own:acme/app").await.unwrap();
    let told: Vec<_> = jobs.iter().map(|job| (job.id, job.status, job.handle.as_deref(), job.attempt)).collect();
    assert_eq!(told, [(1, JobStatus::Queued, Some("h-1"), 1), (2, JobStatus::InProgress, Some("h-2"), 1)]);
    assert_eq!(jobs[0].labels, ["nix"]);
    let minted = forge.mint("own:acme", "r", &["nix:host".into()], Some("h-1")).await.unwrap();
    let Grant::ActRunner(runner) = &minted.grant else { panic!("{minted:?}") };
    assert_eq!((runner.id, runner.handle.as_deref(), runner.flavour), (30, Some("h-1"), ActFlavour::Forgejo));
    assert_eq!(stub.asked("Register"), 0);
    stub.0.borrow_mut().runners[0]["status"] = json!("active");
    assert_eq!(forge.delete_runner("own:acme", 30).await.unwrap(), Deletion::Busy);
    stub.0.borrow_mut().runners[0]["status"] = json!("idle");
    assert_eq!(forge.delete_runner("own:acme", 30).await.unwrap(), Deletion::Deleted);
}
