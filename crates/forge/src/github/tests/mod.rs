//! The client against the simulated GitHub, in this process and in simulated time.
#![allow(clippy::unwrap_used)]

mod access;
mod repositories;
mod runners;

use std::{cell::RefCell, convert::Infallible, rc::Rc, time::Duration};

use github_sim::{
    Call as SimCall, Reply,
    world::{AccountKind, AccountSpec, Config, RepoSpec, World},
};
use settings::{CredentialKind, Settings, check::check, token_file::Token};
use tokio::time::{Instant, sleep};

use super::{App, Github, Rest, Session, transport::Call};
use crate::wire::{Answer, NoAnswer, Request, Wire};

/// Monday 2026-11-02, 00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_793_577_600);
const TOKEN: &str = "simulated-token";
/// Made for these tests; no App has it.
const KEY: &str = include_str!("app-key.pem");

/// The simulated GitHub and the time there.
#[derive(Clone)]
struct Hub {
    world: Rc<RefCell<World>>,
    start: Instant,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    /// `acme` has repositories `api`, `web` (private) and `docs`; `octocat` is a person with `hello`.
    fn new(config: Config) -> Self {
        let mut world = World::new(Config { tokens: vec![TOKEN.to_owned()], ..config });
        for (name, private) in [("acme/api", false), ("acme/web", true), ("acme/docs", false), ("octocat/hello", false)]
        {
            world.add_repo(&RepoSpec { name: name.to_owned(), private }).unwrap();
        }
        let octocat = AccountSpec { login: "octocat".to_owned(), kind: AccountKind::User, enterprise: None };
        world.set_account(octocat).unwrap();
        Self { world: Rc::new(RefCell::new(world)), start: Instant::now() }
    }

    fn now(&self) -> Duration {
        EPOCH + self.start.elapsed()
    }

    fn rest(&self) -> Rest<Self> {
        Rest::new(self.clone(), "https://api.github.com")
    }

    /// How often this was asked.
    fn asked(&self, call: SimCall) -> u64 {
        self.world.borrow().traffic().of(call).requests
    }

    /// The real client for `settings`, with the real App's key where a credential is an App.
    fn github(&self, settings: &str) -> Github<Session<Hub>> {
        let settings: Settings = check(toml::from_str(settings).unwrap()).unwrap();
        let session = |login: &super::Login| {
            Ok::<_, Infallible>(match (&login.credential.kind, &login.installation) {
                (CredentialKind::App { id, .. }, Some(installation)) => {
                    Session::with_app(self.rest(), App::new(*id, &Token::new(KEY)).unwrap(), installation.clone())
                }
                _ => Session::with_token(self.rest(), Token::new(TOKEN)),
            })
        };
        let Ok(github) = Github::open(&settings, session);
        github
    }
}

impl Wire for Hub {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        sleep(Duration::from_millis(20)).await;
        let request = request.into_http()?;
        let reply = self.world.borrow_mut().handle(self.now(), &request);
        match reply {
            Reply::Answer(response) | Reply::Slow(_, response) => Ok(response.into()),
            _ => Err(NoAnswer("connection reset".into())),
        }
    }

    fn now(&self) -> Duration {
        Hub::now(self)
    }

    fn random(&self) -> u64 {
        0
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}
