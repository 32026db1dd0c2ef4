//! The real client, over the simulated GitHub with everything judged, and over answers made from GitHub's schemas.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    rc::Rc,
    time::Duration,
};

use forge::{
    Forge,
    github::{App, Github, Login, Rest, Session},
    wire::{Answer, NoAnswer, Request, Wire},
};
use github_sim::{
    Config, World,
    world::{AccountKind, AccountSpec, RepoSpec},
};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use settings::{CredentialKind, Settings, check::check, token_file::Token};
use tokio::time::{Instant, sleep};

use crate::{
    description::Published,
    generate::{self, Taste},
    judge::{Exchange, Judge},
};

/// Monday 2026-11-02, 00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_793_577_600);
pub const TOKEN: &str = "simulated-token";
/// Made for tests; no App has it.
const KEY: &str = include_str!("../../../crates/forge/src/github/tests/app-key.pem");

/// The simulated GitHub; whatever is exchanged with it is judged.
#[derive(Clone)]
pub struct Served {
    pub world: Rc<RefCell<World>>,
    pub judge: Rc<RefCell<Judge>>,
    start: Instant,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Served")
    }
}

impl Served {
    /// The organisation `acme` of the enterprise `octo` has `api`, `web` (private) and `docs`; `octocat` is a person.
    pub fn new(judge: Judge) -> Self {
        let mut world = World::new(Config { tokens: vec![TOKEN.to_owned()], ..Config::default() });
        for (name, private) in [("acme/api", false), ("acme/web", true), ("acme/docs", false), ("octocat/hello", false)]
        {
            world.add_repo(&RepoSpec { name: name.to_owned(), private }).unwrap();
        }
        let account = |login: &str, kind, enterprise: Option<&str>| AccountSpec {
            login: login.to_owned(),
            kind,
            enterprise: enterprise.map(str::to_owned),
        };
        world.set_account(account("octocat", AccountKind::User, None)).unwrap();
        world.set_account(account("acme", AccountKind::Organization, Some("octo"))).unwrap();
        Self { world: Rc::new(RefCell::new(world)), judge: Rc::new(RefCell::new(judge)), start: Instant::now() }
    }

    /// Asks by hand what the client does not ask.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = Request {
            method: method.parse().unwrap(),
            url: format!("https://api.github.com{path}").parse().unwrap(),
            headers: HeaderMap::from_iter([
                (http::header::AUTHORIZATION, format!("Bearer {TOKEN}").parse().unwrap()),
                (http::header::USER_AGENT, "test".parse().unwrap()),
            ]),
            body: body.map(|body| body.to_string().into_bytes()),
            timeout: Duration::from_secs(30),
        };
        let answer = self.send(request).await.unwrap();
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

impl Wire for Served {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        sleep(Duration::from_millis(20)).await;
        let (path, query) = (request.url.path().to_owned(), request.url.query().unwrap_or_default().to_owned());
        let (method, body) = (request.method.clone(), request.body.clone().unwrap_or_default());
        let reply = self.world.borrow_mut().handle(self.now(), &request.into_http()?);
        let answer: Answer = reply.answer().ok_or_else(|| NoAnswer("connection reset".into()))?.into();
        self.judge.borrow_mut().call(&Exchange {
            method: method.as_str(),
            path: &path,
            query: &query,
            body: &body,
            status: answer.status.as_u16(),
            answer: &answer.body,
        });
        Ok(answer)
    }

    fn now(&self) -> Duration {
        EPOCH + self.start.elapsed()
    }

    fn random(&self) -> u64 {
        0
    }
}

/// Answers made from GitHub's schemas.
#[derive(Clone)]
pub struct Made {
    published: Rc<Published>,
    pub taste: Rc<Cell<Taste>>,
    /// How often each operation was answered.
    pub asked: Rc<RefCell<BTreeMap<String, usize>>>,
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Made")
    }
}

impl Made {
    pub fn new(published: Published) -> Self {
        let taste = Taste { all: false, nulls: false, items: 0, last: false };
        Self { published: Rc::new(published), taste: Rc::new(Cell::new(taste)), asked: Rc::default() }
    }
}

impl Wire for Made {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let (method, path) = (request.method.as_str(), request.url.path());
        let operation = self.published.operation(method, path).unwrap_or_else(|| panic!("{method} {path}"));
        *self.asked.borrow_mut().entry(operation.id().to_owned()).or_default() += 1;
        let status = operation.good();
        let body = match operation.answer(status) {
            Some(Some(schema)) => {
                generate::make(operation.document, schema, self.taste.get(), 0).to_string().into_bytes()
            }
            _ => Vec::new(),
        };
        Ok(Answer { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body })
    }

    fn now(&self) -> Duration {
        EPOCH
    }

    fn random(&self) -> u64 {
        0
    }
}

/// The real client over `wire`, with the real App's key where a credential is an App.
pub fn github<W: Wire + Clone>(wire: &W, settings: &str) -> Github<Session<W>> {
    let settings: Settings = check(toml::from_str(settings).unwrap()).unwrap();
    let session = |login: &Login| {
        let rest = Rest::new(wire.clone(), "https://api.github.com");
        Ok::<_, Infallible>(match (&login.credential.kind, &login.installation) {
            (CredentialKind::App { id, .. }, Some(installation)) => {
                Session::with_app(rest, App::new(*id, &Token::new(KEY)).unwrap(), installation.clone())
            }
            _ => Session::with_token(rest, Token::new(TOKEN)),
        })
    };
    let Ok(github) = Github::open(&settings, session);
    github
}

pub const BY_TOKEN: &str = "token_file = \"/t\"\n[class.default]\nintake = \"auto\"\n[[target]]\norg = \"acme\"\n\
                            [[target]]\nuser = \"octocat\"\n[[target]]\nrepo = \"acme/web\"\n\
                            [[target]]\nenterprise = \"octo\"\n";
pub const BY_APP: &str = "[credential.app]\napp_id = 7\nprivate_key_file = \"/k\"\n[[target]]\norg = \"acme\"\n\
                          [[target]]\nuser = \"octocat\"\n";

/// What is asked of both kinds of answers.
pub const OPERATIONS: [(&str, &str); 13] = [
    ("GET", "/repos/acme/web"),
    ("GET", "/orgs/acme/repos"),
    ("GET", "/installation/repositories"),
    ("GET", "/repos/acme/web/actions/runs"),
    ("GET", "/repos/acme/web/actions/runs/7/jobs"),
    ("GET", "/repos/acme/web/actions/jobs/7"),
    ("GET", "/repos/acme/web/actions/runners"),
    ("POST", "/orgs/acme/actions/runners/generate-jitconfig"),
    ("POST", "/enterprises/octo/actions/runners/registration-token"),
    ("GET", "/orgs/acme/actions/runner-groups"),
    ("GET", "/orgs/acme/actions/runners/deprecations/2.336.0"),
    ("GET", "/orgs/acme/installation"),
    ("POST", "/app/installations/7/access_tokens"),
];

/// Everything that the client can ask, with answers made from schemas: none is an error, and what is in them arrives.
pub async fn ask_everything(made: &Made) {
    let taste = made.taste.get();
    for settings in [BY_TOKEN, BY_APP] {
        let github = github(made, settings);
        for target in ["acme", "octocat"] {
            github.discover(target).await.unwrap_or_else(|error| panic!("{taste:?}: {error}"));
        }
        for repository in ["acme/web", "octocat/hello"] {
            let jobs = github.look(repository).await.unwrap_or_else(|error| panic!("{taste:?}: {error}"));
            assert_eq!(jobs.is_empty(), taste.items == 0, "{taste:?}: {jobs:?}");
            let job = github.job(repository, 7).await.unwrap().expect("a job");
            assert_eq!(job.id, 7, "{taste:?}");
            assert_eq!(job.created_at, Some(Duration::from_secs(1_795_939_200)), "{taste:?}");
            github.job_of_run(repository, 7, "text").await.unwrap();
        }
        let scopes: &[&str] = if settings == BY_TOKEN { &["acme", "acme/web", "enterprises/octo"] } else { &["acme"] };
        for scope in scopes {
            let runners = github.list_runners(scope).await.unwrap();
            // In some scopes an answer may do without the list.
            assert!(!taste.all || runners.is_empty() == (taste.items == 0), "{taste:?}");
            github.find_runner(scope, "text").await.unwrap();
            github.runner_group(scope).await.unwrap();
            github.runner_deprecation(scope, "2.336.0").await.unwrap_or_else(|error| panic!("{taste:?}: {error}"));
            let minted = github.mint(scope, "r-1", &["x".to_owned()], None).await;
            assert_eq!(minted.unwrap_or_else(|error| panic!("{taste:?}: {error}")).runner_id, 7);
            github.delete_runner(scope, 7).await.unwrap();
        }
    }
}
