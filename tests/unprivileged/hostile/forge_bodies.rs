//! What a forge answers: the real client speaks with the simulated GitHub, whose answers are damaged on the way. An
//! input is the dice of one such conversation.

use std::{cell::RefCell, convert::Infallible, rc::Rc, time::Duration};

use forge::{
    Forge, SetKey, SetRequest, Sets,
    github::{Github, Login, Rest, ScaleSets, Session},
    wire::{self, Answer, NoAnswer, Request},
};
use github_sim::{
    Reply,
    world::{AccountKind, AccountSpec, Config, JobSpec, RepoSpec, World},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use settings::token_file::Token;
use tokio::{sync::watch, time::timeout};

use crate::{fuzz, mutation::mutated};

const NOW: Duration = Duration::from_secs(1_793_577_600);
const TOKEN: &str = "simulated-token";

/// GitHub behind a bad line.
#[derive(Clone)]
struct BadLine {
    github: Rc<RefCell<World>>,
    rng: Rc<RefCell<StdRng>>,
    /// One answer in so many is damaged.
    rarely: u32,
    /// The last sound body, to splice with.
    last: Rc<RefCell<Vec<u8>>>,
}

impl wire::Wire for BadLine {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        let host = request.url.host_str().unwrap_or_default().parse().unwrap();
        let mut request = request.into_http()?;
        request.headers_mut().insert("host", host);
        let reply = self.github.borrow_mut().handle(NOW, &request);
        let (Reply::Answer(response) | Reply::Slow(_, response)) = reply else { return Err(NoAnswer("reset".into())) };
        let mut answer: Answer = response.into();
        let mut rng = self.rng.borrow_mut();
        if rng.random_ratio(1, self.rarely) {
            answer.body = mutated(&answer.body, &self.last.borrow(), &mut rng);
        } else {
            self.last.borrow_mut().clone_from(&answer.body);
        }
        Ok(answer)
    }

    fn now(&self) -> Duration {
        NOW
    }

    fn random(&self) -> u64 {
        self.rng.borrow_mut().random()
    }
}

/// One conversation; how many of its calls were understood.
async fn conversation(dice: u64) -> usize {
    let mut github = World::new(Config { tokens: vec![TOKEN.into()], ..Config::default() });
    github.set_account(AccountSpec { login: "solo".into(), kind: AccountKind::User, enterprise: None }).unwrap();
    for repo in ["acme/api", "corp/web", "solo/site"] {
        github.add_repo(&RepoSpec { name: repo.into(), private: true }).unwrap();
        github.queue_job(NOW, repo, JobSpec::new("build", &["self-hosted"], &["true"])).unwrap();
    }
    github.advance(NOW);
    let mut rng = StdRng::seed_from_u64(dice);
    let wire = BadLine {
        github: Rc::new(RefCell::new(github)),
        rarely: rng.random_range(1..6),
        rng: Rc::new(RefCell::new(rng)),
        last: Rc::default(),
    };
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let targets = "[[target]]\nrepo = \"acme/api\"\n[[target]]\norg = \"corp\"\n[[target]]\nuser = \"solo\"\n";
    std::fs::write(
        file.path(),
        format!("token_file = \"/nowhere\"\n[github]\napi_url = \"http://github.invalid\"\n{targets}"),
    )
    .unwrap();
    let settings = settings::load(Some(file.path()), |_| None).unwrap();
    let session = |login: &Login| {
        let rest = Rest::new(wire.clone(), &login.credential.api_url);
        Ok::<_, Infallible>(Session::with_token(rest, Token::new(TOKEN)))
    };
    let Ok(github) = Github::open(&settings, session);
    let github = Rc::new(github);
    let mut understood = 0;
    for target in ["acme/api", "corp", "solo"] {
        understood += usize::from(github.discover(target).await.is_ok());
        understood += usize::from(github.runner_group(target).await.is_ok());
    }
    for repo in ["acme/api", "corp/web", "solo/site"] {
        for job in github.look(repo).await.unwrap_or_default() {
            understood += 1;
            understood += usize::from(github.job(repo, job.id).await.is_ok());
            understood += usize::from(github.job_of_run(repo, job.run_id, "r").await.is_ok());
        }
        let name = format!("sim.small.{dice}");
        if let Ok(minted) = github.mint(repo, &name, &["self-hosted".into()], None).await {
            understood += 1;
            understood += usize::from(github.find_runner(repo, &name).await.is_ok_and(|found| found.is_some()));
            understood += usize::from(github.list_runners(repo).await.is_ok());
            understood += usize::from(github.delete_runner(repo, minted.runner_id).await.is_ok());
        }
    }
    let sets = ScaleSets::new(github, wire, "sim");
    let key = SetKey { class: "small".into(), scope: "corp".into() };
    let (_promise, mut capacity) = watch::channel(3);
    let labels = vec!["self-hosted".to_owned()];
    if sets.open(&key, &SetRequest { name: "small".into(), labels, runner_group: None }).await.is_ok() {
        for _ in 0..3 {
            let heard = timeout(Duration::from_secs(120), sets.listen(&key, &mut capacity)).await;
            understood += usize::from(matches!(heard, Ok(Ok(_))));
        }
        understood += usize::from(sets.mint(&key, "sim.small.set").await.is_ok());
        let _ = timeout(Duration::from_secs(120), sets.release(&key)).await;
    }
    understood
}

#[test]
fn what_a_forge_answers() {
    fuzz("forge", |bytes| {
        let dice = bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let talk =
            async { timeout(Duration::from_secs(24 * 3600), conversation(dice)).await.expect("it goes on for ever") };
        tokio::task::LocalSet::new().block_on(&runtime, talk) > 0
    });
}
