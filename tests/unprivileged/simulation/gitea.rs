//! A small Gitea and a small Forgejo beside the simulated GitHub: their API as far as the controller's client asks, and
//! their runners' protocol as far as the life of a runner for one job goes. As with the real Gitea, a cancelled job's
//! registration is gone and nobody reports it to the runner; and the job of a runner that is gone hangs until somebody
//! ends it. What is Forgejo's alone is in `forgejo.rs`.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use ::gitea::walk;
use contract::{
    ActFlavour, ActRunner, ContainerName,
    event::{GuestExit, What},
};
use forge::wire::{self, Answer, NoAnswer, Request};
use http::{HeaderMap, StatusCode};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use settings::token_file::Token;
use tokio::time::sleep;

use crate::{
    HOST_NAME, Simulation, forgejo,
    host::{End, Host, HostFault},
    ports::{SimClock, in_world},
    simulate,
    story::{MINUTE, SECOND, Story, beside_gitea},
    truth::Fate,
};

/// What a host with a Gitea and a Forgejo has more in its configuration.
pub const SETTINGS: &str = r#"
    [credential.own]
    kind = "gitea"
    url = "http://gitea.invalid"
    token_file = "/nowhere/own"
    [template.act]
    kind = "gitea"
    [class.act]
    labels = ["nix:host"]
    template = "act"
    memory = "2G"
    [[target]]
    org = "acme"
    credential = "own"
    [credential.berg]
    kind = "forgejo"
    url = "http://forgejo.invalid"
    token_file = "/nowhere/berg"
    [template.bound]
    kind = "forgejo"
    [class.bound]
    labels = ["nix:host"]
    template = "bound"
    memory = "2G"
    [[target]]
    org = "acme"
    credential = "berg"
"#;

/// As GitHub's of another name: all forges may have it.
pub const REPO: &str = "acme/api";
/// Silence after which the forge fails a job by itself.
const ZOMBIE: Duration = Duration::from_secs(900);
/// Numbers of jobs begin here, so that none is one of GitHub's as well; a Forgejo's at twice that.
const FIRST_JOB: u64 = 1_000_000;
pub const BOTH: [ActFlavour; 2] = [ActFlavour::Gitea, ActFlavour::Forgejo];

pub type Gitea = Rc<RefCell<SimGitea>>;

/// A job.
#[derive(Debug, Clone)]
pub struct GiteaJob {
    pub status: &'static str,
    pub conclusion: Option<&'static str>,
    pub runner: u64,
    /// How often a runner took it.
    pub attempt: u32,
    /// How often it was asked for.
    pub asked: u32,
    pub is_fork: bool,
    runner_name: String,
    pub log: Vec<String>,
    pub heard_at: Duration,
}

#[derive(Debug)]
pub struct GiteaRunner {
    pub name: String,
    disabled: bool,
    pub job: Option<u64>,
}

/// The forge.
#[derive(Debug)]
pub struct SimGitea {
    pub flavour: ActFlavour,
    pub jobs: BTreeMap<u64, GiteaJob>,
    pub runners: BTreeMap<u64, GiteaRunner>,
    registered: u64,
    /// How the job of each runner ended here, by the runner's name.
    pub ended: BTreeMap<String, &'static str>,
}

impl SimGitea {
    pub fn new(flavour: ActFlavour) -> Self {
        Self { flavour, jobs: BTreeMap::new(), runners: BTreeMap::new(), registered: 0, ended: BTreeMap::new() }
    }

    /// Both, in the order of [`BOTH`].
    pub fn both() -> [Gitea; 2] {
        BOTH.map(|flavour| Rc::new(RefCell::new(Self::new(flavour))))
    }

    pub fn queue(&mut self) -> u64 {
        let first = if self.flavour == ActFlavour::Gitea { FIRST_JOB } else { 2 * FIRST_JOB };
        let id = first + self.jobs.len() as u64;
        let queued = GiteaJob {
            status: "queued",
            conclusion: None,
            runner: 0,
            attempt: 0,
            asked: 1,
            is_fork: false,
            runner_name: String::new(),
            log: Vec::new(),
            heard_at: Duration::ZERO,
        };
        self.jobs.insert(id, queued);
        id
    }

    /// The same job again, under the same number.
    pub fn rerun(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.status == "completed") else { return };
        (job.status, job.conclusion, job.runner) = ("queued", None, 0);
        job.runner_name.clear();
        job.asked += 1;
    }

    pub fn cancel(&mut self, id: u64) {
        if self.jobs.get(&id).is_some_and(|job| job.status != "completed") {
            self.end(id, "cancelled");
        }
    }

    /// Registrations that are this host's.
    pub fn registrations(&self) -> usize {
        self.runners.values().filter(|runner| runner.name.starts_with(HOST_NAME)).count()
    }

    /// The registration of a runner for one job goes with the job.
    fn end(&mut self, id: u64, conclusion: &'static str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        (job.status, job.conclusion) = ("completed", Some(conclusion));
        for runner in self.runners.values().filter(|runner| runner.job == Some(id)) {
            self.ended.insert(runner.name.clone(), conclusion);
        }
        self.runners.retain(|_, runner| runner.job != Some(id));
    }

    fn advance(&mut self, now: Duration) {
        let dead = |job: &GiteaJob| job.status == "in_progress" && now - job.heard_at > ZOMBIE;
        let dead: Vec<u64> = self.jobs.iter().filter(|(_, job)| dead(job)).map(|(id, _)| *id).collect();
        for id in dead {
            self.end(id, "failure");
        }
    }

    /// A task for a runner, of the job it is bound to if it is; Err if it is registered no more.
    pub fn fetch(&mut self, now: Duration, runner: u64, handle: Option<&str>) -> Result<Option<u64>, ()> {
        self.advance(now);
        let known = self.runners.get_mut(&runner).ok_or(())?;
        let fits = |id: &u64, job: &GiteaJob| handle.is_none_or(|handle| handle == forgejo::handle(*id, job));
        let queued = self.jobs.iter_mut().find(|(id, job)| job.status == "queued" && fits(id, job));
        let Some((id, job)) = queued.filter(|_| !known.disabled && known.job.is_none()) else { return Ok(None) };
        known.job = Some(*id);
        (job.status, job.runner, job.heard_at) = ("in_progress", runner, now);
        job.runner_name.clone_from(&known.name);
        job.attempt += 1;
        Ok(Some(task(*id, job.attempt)))
    }

    /// The runner reports; false if it is registered no more.
    fn report(&mut self, now: Duration, runner: u64, result: Option<&'static str>) -> bool {
        self.advance(now);
        let Some(id) = self.runners.get(&runner).and_then(|runner| runner.job) else { return false };
        match (result, self.jobs.get_mut(&id)) {
            (Some(result), _) => self.end(id, result),
            (None, Some(job)) => job.heard_at = now,
            (None, None) => {}
        }
        true
    }

    fn shown(id: u64, job: &GiteaJob) -> Value {
        json!({"id": id, "url": format!("http://gitea.invalid/api/v1/repos/{REPO}/actions/jobs/{id}"), "run_id": id,
            "name": "build", "labels": ["nix"], "run_attempt": job.attempt, "status": job.status,
            "conclusion": job.conclusion, "runner_id": job.runner, "runner_name": job.runner_name, "created_at": "2026-11-02T00:00:00Z"})
    }

    pub fn register(&mut self, body: &Value) -> u64 {
        self.registered += 1;
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        self.runners.insert(self.registered, GiteaRunner { name, disabled: false, job: None });
        self.registered
    }

    fn handle(&mut self, now: Duration, request: &Request) -> (u16, Value) {
        self.advance(now);
        let body: Value = request.body.as_ref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        let path = request.url.path().replace("/api/v1", "");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        let task_of = |value: &Value| value.as_str().map(number).unwrap_or_default() / 100;
        let uuid = request.headers.get("x-runner-uuid").and_then(|uuid| uuid.to_str().ok());
        let runner = uuid.map(number).unwrap_or_default();
        let mine = |forge: &Self, job: u64| {
            forge.jobs.get(&job).is_some_and(|job| job.status == "in_progress" && job.runner == runner)
        };
        let gone = match self.flavour {
            ActFlavour::Gitea => (500, json!({"code": "unknown", "message": "unregistered runner"})),
            ActFlavour::Forgejo => (401, json!({"code": "unauthenticated", "message": "unregistered runner"})),
        };
        if self.flavour == ActFlavour::Forgejo
            && let Some(answer) = self.as_forgejo(now, request.method.as_str(), &parts, &body)
        {
            return answer;
        }
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["orgs", _, "repos"]) => (200, json!([{"full_name": REPO, "private": true, "has_actions": true}])),
            ("GET", ["version"]) => (200, json!({"version": "1.26.0"})),
            // All are of one run as far as this goes.
            ("GET", [.., "runs", _, "jobs"]) => {
                (200, json!({"jobs": self.jobs.iter().map(|(id, job)| Self::shown(*id, job)).collect::<Vec<_>>()}))
            }
            ("GET", [.., "runs", _]) => {
                (200, json!({"event": "push", "path": "ci.yml@refs/heads/main", "repository": {"private": true}}))
            }
            ("GET", [.., "actions", "jobs"]) => {
                let open = self.jobs.iter().filter(|(_, job)| job.status != "completed");
                (200, json!({"jobs": open.map(|(id, job)| Self::shown(*id, job)).collect::<Vec<_>>()}))
            }
            ("GET", [.., "jobs", id]) => match self.jobs.get(&number(id)) {
                Some(job) => (200, Self::shown(number(id), job)),
                None => (404, Value::Null),
            },
            ("POST", [.., "registration-token"]) => (200, json!({"token": "REG"})),
            ("POST", [.., "Register"]) => {
                let id = self.register(&body).to_string();
                (200, json!({"runner": {"id": id, "uuid": id, "token": "t"}}))
            }
            ("GET", [.., "runners"]) => {
                let shown =
                    |(id, runner): (&u64, &GiteaRunner)| json!({"id": id, "name": runner.name, "status": "offline"});
                (200, json!({"runners": self.runners.iter().map(shown).collect::<Vec<_>>()}))
            }
            (method, [.., "runners", id]) => {
                let Some(runner) = self.runners.get_mut(&number(id)) else { return (404, Value::Null) };
                let shown = json!({"id": number(id), "name": runner.name});
                match method {
                    "PATCH" => runner.disabled = true,
                    "DELETE" => {
                        // A Forgejo does not tell whether one that is silent has a job.
                        let heard = runner.job.and_then(|job| self.jobs.get(&job)).map(|job| job.heard_at);
                        let goes_on = heard
                            .is_some_and(|heard| self.flavour == ActFlavour::Gitea || now - heard < forgejo::ACTIVE);
                        assert!(!goes_on, "{} is deleted while it has a job: {:?}", runner.name, runner.job);
                        self.runners.remove(&number(id));
                    }
                    _ => {}
                }
                (200, shown)
            }
            ("POST", [.., "UpdateLog"]) if mine(self, task_of(&body["taskId"])) => {
                let job = self.jobs.get_mut(&task_of(&body["taskId"])).expect("a job");
                let rows = body["rows"].as_array().cloned().unwrap_or_default();
                job.log.extend(rows.iter().filter_map(|row| row["content"].as_str().map(str::to_owned)));
                (200, json!({"ackIndex": job.log.len().to_string()}))
            }
            ("POST", [.., "UpdateTask"]) if mine(self, task_of(&body["state"]["id"])) => {
                let is_cancelled = body["state"]["result"] == "RESULT_CANCELLED";
                self.end(task_of(&body["state"]["id"]), if is_cancelled { "cancelled" } else { "failure" });
                (200, json!({}))
            }
            ("POST", [.., "UpdateLog" | "UpdateTask"]) => gone,
            other => panic!("{other:?}"),
        }
    }
}

fn task(job: u64, attempt: u32) -> u64 {
    job * 100 + u64::from(attempt)
}

/// The wire to it: takes time, and loses a call or an answer now and then.
#[derive(Clone)]
pub struct GiteaWire {
    pub gitea: Gitea,
    pub clock: SimClock,
    pub rng: Rc<RefCell<StdRng>>,
    pub loses: bool,
}

impl wire::Wire for GiteaWire {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let (wait, luck) = {
            let mut rng = self.rng.borrow_mut();
            (rng.random_range(5..100), rng.random_range(0..200))
        };
        sleep(Duration::from_millis(wait)).await;
        let lost = || Err(NoAnswer("connection reset".into()));
        if self.loses && luck == 0 {
            return lost();
        }
        let (status, body) = in_world(|| self.gitea.borrow_mut().handle(self.clock.now(), &request));
        if self.loses && luck == 1 {
            return lost();
        }
        let status = StatusCode::from_u16(status).expect("a status");
        Ok(Answer { status, headers: HeaderMap::new(), body: body.to_string().into_bytes() })
    }

    fn now(&self) -> Duration {
        wire_clock(&self.clock)
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().random()
    }
}

fn wire_clock(clock: &SimClock) -> Duration {
    controller::ports::Clock::wall(clock).since_epoch()
}

/// A runner from its start to its end, as `gitea-runner daemon` and `forgejo-runner one-job --wait` go.
pub async fn run(host: &Host, name: &ContainerName, runner: &ActRunner) -> End {
    let runner_name = host.borrow().units[name].record.runner_name.clone();
    let (gitea, clock) = (host.borrow().forge(runner.flavour), host.borrow().clock.clone());
    let tell = |what| host.borrow_mut().tell(name, what);
    tell(What::Listening);
    let task = loop {
        match gitea.borrow_mut().fetch(clock.now(), runner.id, runner.handle.as_deref()) {
            Ok(Some(task)) => break task,
            Ok(None) => {}
            // It says so in its log, for ever.
            Err(()) => break 0,
        }
        sleep(2 * SECOND).await;
    };
    if task == 0 {
        std::future::pending::<()>().await;
    }
    tell(What::JobStarted { job: String::new(), task: Some(task) });
    let fate = |fate| host.borrow_mut().truth.is(&runner_name, fate);
    host.borrow_mut().truth.took(&runner_name, task / 100);
    host.borrow_mut().truth.runs(task);
    if host.borrow_mut().fault(HostFault::OutOfMemory) {
        sleep(2 * SECOND).await;
        return End::exited("oom-kill", "0");
    }
    let (mut left, fails) = {
        let mut state = host.borrow_mut();
        (state.rng.random_range(30..300), state.rng.random_bool(0.2))
    };
    while left > 0 {
        sleep(Duration::from_secs(left.min(5))).await;
        left = left.saturating_sub(5);
        gitea.borrow_mut().report(clock.now(), runner.id, None);
    }
    let result = if fails { "failure" } else { "success" };
    fate(if fails { Fate::Failed } else { Fate::Succeeded });
    if !gitea.borrow_mut().report(clock.now(), runner.id, Some(result)) {
        // It tries to report for a while.
        sleep(MINUTE).await;
    }
    tell(What::RunnerExited { status: 0 });
    End::exit(GuestExit::NoResult)
}

impl Story {
    fn forge(&self, flavour: ActFlavour) -> Gitea {
        self.simulation.host.borrow().forge(flavour)
    }

    async fn until(&self, flavour: ActFlavour, what: &str, is_so: impl Fn(&SimGitea) -> bool) {
        for _ in 0..600 {
            if is_so(&self.forge(flavour).borrow()) {
                return;
            }
            sleep(SECOND).await;
        }
        panic!("not within ten minutes: {what}; {:?}", self.forge(flavour).borrow());
    }

    fn last_end(&self, flavour: ActFlavour) -> String {
        let status = self.status.borrow();
        let last = status.finished.last().expect("a container ended");
        assert_eq!(last.repo, named(flavour));
        format!("{} {}", last.cause, last.conclusion.as_deref().unwrap_or("none"))
    }
}

/// The repository as the controller calls it.
fn named(flavour: ActFlavour) -> &'static str {
    match flavour {
        ActFlavour::Gitea => "own:acme/api",
        ActFlavour::Forgejo => "berg:acme/api",
    }
}

/// The same at a Gitea and at a Forgejo.
fn at_each(story: impl AsyncFn(&Story, ActFlavour)) {
    for flavour in BOTH {
        beside_gitea(async |told| story(told, flavour).await);
    }
}

/// What others do at a stand-in.
struct Others(Gitea, SimClock);

impl walk::Others for Others {
    fn queue(&self) -> u64 {
        self.0.borrow_mut().queue()
    }

    fn take(&self, runner: &ActRunner) -> u64 {
        let taken = self.0.borrow_mut().fetch(self.1.now(), runner.id, runner.handle.as_deref());
        taken.expect("registered").expect("a task")
    }

    fn cancel(&self, job: u64) {
        self.0.borrow_mut().cancel(job);
    }

    fn log(&self, job: u64) -> String {
        self.0.borrow().jobs[&job].log.join("\n")
    }
}

#[test]
fn the_stand_ins_answer_every_call_as_the_real_server_does() {
    for (flavour, credential) in BOTH.into_iter().zip(["own", "berg"]) {
        simulate(async {
            let simulation = Simulation::with_gitea(1);
            let (gitea, clock) = (simulation.host.borrow().forge(flavour), simulation.clock.clone());
            let rng = Rc::new(RefCell::new(StdRng::seed_from_u64(1)));
            let wire = GiteaWire { gitea: gitea.clone(), clock: clock.clone(), rng, loses: false };
            let client = forge::gitea::Gitea::open(&simulation.settings, credential, wire, Token::new("t")).unwrap();
            walk::walk(&client, &Others(gitea, clock), &format!("{credential}:acme"), named(flavour)).await;
        });
    }
}

#[test]
fn a_job_of_another_forge_is_run_beside_githubs_and_leaves_nothing() {
    at_each(async |story, flavour| {
        let (hub, own) = (story.queue("acme/api"), story.forge(flavour).borrow_mut().queue());
        story.until(flavour, "it ends", |forge| forge.jobs[&own].status == "completed").await;
        let conclusion = story.forge(flavour).borrow().jobs[&own].conclusion.unwrap();
        sleep(2 * MINUTE).await;
        assert_eq!(story.forge(flavour).borrow().registrations(), 0);
        assert!(story.is_taken(hub), "that of GitHub's repository of the same name as well");
        let cause = if conclusion == "success" { "succeeded" } else { "job failed" };
        assert!(
            story
                .status
                .borrow()
                .finished
                .iter()
                .any(|end| { end.repo == named(flavour) && end.job_id == Some(own) && end.cause.to_string() == cause }),
            "{:?}",
            story.status.borrow().finished
        );
        assert_eq!(story.problems(), "");
    });
}

#[test]
fn a_job_that_is_cancelled_while_it_runs_stops_its_container_within_half_a_minute() {
    at_each(async |story, flavour| {
        let id = story.forge(flavour).borrow_mut().queue();
        story.until(flavour, "it runs", |forge| forge.jobs[&id].status == "in_progress").await;
        sleep(12 * SECOND).await;
        story.forge(flavour).borrow_mut().cancel(id);
        sleep(30 * SECOND).await;
        assert!(story.simulation.host.borrow().units.is_empty(), "the runner would go on for minutes");
        sleep(MINUTE).await;
        assert_eq!(story.last_end(flavour), "job cancelled cancelled");
    });
}

#[test]
fn a_job_whose_container_dies_is_ended_at_the_forge_at_once_with_the_reason_in_its_log() {
    at_each(async |story, flavour| {
        story.simulation.host.borrow_mut().faults.push(HostFault::OutOfMemory);
        let id = story.forge(flavour).borrow_mut().queue();
        story.until(flavour, "it runs", |forge| forge.jobs[&id].status == "in_progress").await;
        sleep(10 * SECOND).await;
        {
            let forge = story.forge(flavour);
            let forge = forge.borrow();
            let job = &forge.jobs[&id];
            assert_eq!((job.status, job.conclusion), ("completed", Some("failure")));
            assert!(job.log.last().is_some_and(|line| line.contains("out of memory")), "{:?}", job.log);
            assert_eq!(forge.registrations(), 0);
        }
        sleep(MINUTE).await;
        assert_eq!(story.last_end(flavour), "out of memory failure");
        assert!(story.simulation.host.borrow().handed.is_empty(), "the grant is taken back");
    });
}

#[test]
fn a_job_that_runs_again_under_its_number_is_another_one() {
    at_each(async |story, flavour| {
        let id = story.forge(flavour).borrow_mut().queue();
        let ended =
            |forge: &SimGitea, attempt| forge.jobs[&id].attempt == attempt && forge.jobs[&id].status == "completed";
        for attempt in 1..=3 {
            story.until(flavour, "it ends", |forge| ended(forge, attempt)).await;
            story.forge(flavour).borrow_mut().rerun(id);
        }
        story.until(flavour, "it ends again", |forge| ended(forge, 4)).await;
        sleep(5 * MINUTE).await;
        assert_eq!(story.started(), 4, "a container for each attempt");
        assert_eq!(story.forge(flavour).borrow().registrations(), 0);
    });
}

#[test]
fn a_cancelled_job_that_waits_costs_one_container_at_most_and_its_registration_goes() {
    at_each(async |story, flavour| {
        let id = story.forge(flavour).borrow_mut().queue();
        while story.started() == 0 {
            sleep(Duration::from_millis(50)).await;
        }
        story.forge(flavour).borrow_mut().cancel(id);
        sleep(10 * MINUTE).await;
        assert_eq!((story.started(), story.forge(flavour).borrow().registrations()), (1, 0));
        assert!(story.simulation.host.borrow().units.is_empty());
    });
}
