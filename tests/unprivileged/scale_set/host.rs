//! A host with one scale set of the simulated GitHub: what a controller does with the client, as plainly as possible,
//! on tokio's paused clock.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use contract::Grant;
use forge::{
    ErrorKind, ForgeError,
    github::{
        Rest, Session,
        scale_set::{
            ScaleSet, Scope, SetSpec, Tidings,
            assignments::{Assignments, RunnerCount},
        },
    },
    wire::{Answer, NoAnswer, Request, Wire},
};
use github_sim::{
    Config, Reply,
    world::{Conclusion, JobId, JobSpec, RepoSpec, RunnerResult, RunnerSession, ScaleSetRules},
};
use settings::token_file::Token;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
const EPOCH: Duration = Duration::from_secs(1_793_577_600);

/// GitHub and its clock, shared by all hosts of a test.
#[derive(Clone)]
pub struct Hub {
    pub world: Rc<RefCell<github_sim::World>>,
    start: Instant,
    dice: Rc<RefCell<u64>>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hub")
    }
}

impl Hub {
    pub fn new(rules: ScaleSetRules, seed: u64) -> Self {
        let config = Config { seed, tokens: vec!["t0k".into()], scale_sets: rules, ..Config::default() };
        let mut world = github_sim::World::new(config);
        for (name, private) in [("o/r", false), ("o/secret", true)] {
            world.add_repo(&RepoSpec { name: name.into(), private }).unwrap();
        }
        Self { world: Rc::new(RefCell::new(world)), start: Instant::now(), dice: Rc::new(RefCell::new(seed)) }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn clock(&self) -> Duration {
        EPOCH + self.start.elapsed()
    }

    pub fn queue(&self, count: usize) -> Vec<JobId> {
        self.queue_in("o/r", count)
    }

    pub fn queue_in(&self, repo: &str, count: usize) -> Vec<JobId> {
        let mut world = self.world.borrow_mut();
        let job = |n| JobSpec::new(&format!("job {n}"), &["nix"], &["true"]);
        (0..count).map(|n| world.queue_job(self.clock(), repo, job(n)).unwrap().1).collect()
    }

    pub fn succeeded(&self, jobs: &[JobId]) -> usize {
        let world = self.world.borrow();
        let won = |job: &&JobId| world.job_view(**job).unwrap().conclusion == Some(Conclusion::Success);
        jobs.iter().filter(won).count()
    }

    async fn settled(&self, mut reply: Reply, timeout: Duration) -> Result<Answer, NoAnswer> {
        let begun = Instant::now();
        let reset = || Err(NoAnswer("connection reset".into()));
        loop {
            if begun.elapsed() > timeout {
                return Err(NoAnswer("too slow".into()));
            }
            match reply {
                Reply::Held(held) => {
                    sleep(Duration::from_millis(100)).await;
                    reply = self.world.borrow_mut().look_again(self.clock(), &held);
                }
                Reply::Slow(wait, response) => {
                    sleep(wait).await;
                    reply = Reply::Answer(response);
                }
                Reply::Answer(response) => {
                    sleep(Duration::from_millis(20)).await;
                    return Ok(response.into());
                }
                Reply::Reset => return reset(),
                Reply::Hang => {
                    sleep(timeout).await;
                    return Err(NoAnswer("too slow".into()));
                }
            }
        }
    }
}

impl Wire for Hub {
    async fn send(&self, request: Request) -> Result<Answer, NoAnswer> {
        sleep(Duration::from_millis(20)).await;
        let timeout = request.timeout;
        let reply = self.world.borrow_mut().handle(self.clock(), &request.into_http()?);
        self.settled(reply, timeout).await
    }

    fn now(&self) -> Duration {
        self.clock()
    }

    fn random(&self) -> u64 {
        let mut dice = self.dice.borrow_mut();
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *dice >> 33
    }
}

/// A host: the client, what it has on disk, its runners.
pub struct Host {
    pub hub: Hub,
    pub set: ScaleSet<Session<Hub>, Hub>,
    /// What survives a restart.
    pub disk: String,
    pub runners: Vec<(Instant, RunnerSession)>,
    pub capacity: watch::Sender<u32>,
    receiver: watch::Receiver<u32>,
    pub minted: u64,
    /// Names that may or may not be registered.
    unsettled: Vec<String>,
}

pub fn spec(url: &str) -> SetSpec {
    SetSpec {
        config_url: url.into(),
        api_url: "http://github.invalid/api/v3".into(),
        scope: Scope::of(url).unwrap(),
        set_name: "ours".into(),
        runner_group: None,
        labels: vec!["nix".into()],
        owner_name: "host-1".into(),
    }
}

impl Host {
    pub fn new(hub: &Hub) -> Self {
        Self::with(hub, spec("http://github.invalid/o/r"))
    }

    pub fn with(hub: &Hub, spec: SetSpec) -> Self {
        let (capacity, receiver) = watch::channel(5);
        let disk = serde_json::to_string(&Assignments::default()).unwrap();
        let session = Session::with_token(Rest::new(hub.clone(), &spec.api_url), Token::new("t0k"));
        let set = ScaleSet::new(spec, session, hub.clone());
        Self { hub: hub.clone(), set, disk, runners: Vec::new(), capacity, receiver, minted: 0, unsettled: Vec::new() }
    }

    /// The same host after a crash: its runners live on, the session is nobody's.
    pub fn crashed(self) -> Self {
        let fresh = Self::new(&self.hub);
        let Self { disk, runners, minted, unsettled, .. } = self;
        Self { disk, runners, minted, unsettled, ..fresh }
    }

    pub fn assignments(&self) -> Assignments {
        serde_json::from_str(&self.disk).unwrap()
    }

    pub fn wanted(&self) -> RunnerCount {
        self.assignments().wanted(0, *self.capacity.borrow(), self.hub.clock())
    }

    /// One poll: what it says goes to disk, then off the queue.
    pub async fn hear(&mut self) -> Result<Tidings, ForgeError> {
        let tidings = self.set.listen(&mut self.receiver).await?;
        let mut assignments = self.assignments();
        let now = self.hub.clock();
        assignments.belong_to(tidings.set_id);
        if let Some(id) = tidings.message_id {
            assignments.apply(id, &tidings.messages, now);
        }
        if tidings.fresh {
            assignments.reconcile(tidings.statistics, now);
        }
        self.disk = serde_json::to_string(&assignments).unwrap();
        if let Some(id) = tidings.message_id {
            self.set.acknowledge(id).await;
        }
        Ok(tidings)
    }

    /// As many runners as are wanted.
    pub async fn launch(&mut self) {
        let missing = (self.wanted().launch_up_to as usize).saturating_sub(self.runners.len());
        for _ in 0..missing {
            self.minted += 1;
            let name = format!("host-1-{}", self.minted);
            match self.set.mint(&name).await {
                Ok(minted) => {
                    let Grant::GithubJit { encoded_jit_config } = minted.grant else { unreachable!("GitHub's") };
                    let now = self.hub.clock();
                    let session = self.hub.world.borrow_mut().runner_connect(now, &encoded_jit_config).unwrap();
                    self.runners.push((Instant::now(), session));
                }
                // It may be registered after all.
                Err(_) => self.unsettled.push(name),
            }
        }
        for name in std::mem::take(&mut self.unsettled) {
            let settled = match self.set.find_runner(&name).await {
                Ok(Some(agent)) => self.set.delete_runner(agent.id).await.is_ok(),
                found => found.is_ok(),
            };
            if !settled {
                self.unsettled.push(name);
            }
        }
    }

    /// Runners take jobs and end them; idle ones nobody needs go.
    pub async fn work(&mut self) {
        let now = self.hub.clock();
        let mut keep = Vec::new();
        let mut idle = Vec::new();
        for (since, session) in self.runners.drain(..) {
            let mut world = self.hub.world.borrow_mut();
            match world.runner_poll(now, &session) {
                Ok(Some(_)) => keep.push((since, session)),
                // Nothing new: it is idle, or its job is done now.
                Ok(None) => match world.runner_complete(now, &session, RunnerResult::Succeeded) {
                    Ok(()) => {}
                    Err(_) => idle.push((since, session)),
                },
                Err(_) => {}
            }
        }
        let room = (self.wanted().keep as usize).saturating_sub(keep.len());
        for (index, (since, session)) in idle.into_iter().enumerate() {
            if index < room || since.elapsed() < MINUTE {
                keep.push((since, session));
            } else if self.set.delete_runner(session.runner.0).await.is_ok() {
                self.hub.world.borrow_mut().runner_vanish(now, &session);
            } else {
                keep.push((since, session));
            }
        }
        self.runners = keep;
    }

    /// A controller's round, whatever comes of the poll.
    pub async fn round(&mut self) -> Result<Tidings, ForgeError> {
        let heard = self.hear().await;
        self.launch().await;
        self.work().await;
        heard
    }

    /// Rounds until all these jobs have succeeded.
    pub async fn finish(&mut self, jobs: &[JobId], within: Duration) {
        let begun = Instant::now();
        while self.hub.succeeded(jobs) < jobs.len() {
            assert!(begun.elapsed() < within, "{} of {} jobs done", self.hub.succeeded(jobs), jobs.len());
            if let Err(error) = self.round().await {
                assert!(
                    !matches!(error.kind, ErrorKind::Refused | ErrorKind::NotFound),
                    "nothing here is the operator's fault: {error}"
                );
            }
        }
    }

    /// Polls until so many jobs are ours.
    pub async fn hear_of(&mut self, count: usize) {
        let begun = Instant::now();
        while self.assignments().open().count() < count {
            self.hear().await.unwrap();
            assert!(begun.elapsed() < 5 * MINUTE, "{:?}", self.assignments());
        }
    }

    /// Rounds until no job is ours and no runner is left.
    pub async fn quiet(&mut self) {
        let begun = Instant::now();
        while !self.runners.is_empty() || !self.unsettled.is_empty() || self.assignments().open().count() > 0 {
            let _ = self.round().await;
            assert!(begun.elapsed() < 30 * MINUTE, "{:?}", self.assignments());
        }
    }
}
