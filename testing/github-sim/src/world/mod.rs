//! The state of the simulated GitHub and everything that can happen to it.
//!
//! Nothing in here reads a clock or touches a socket: time comes in with every call and chance comes from a seeded
//! generator, so the same calls give the same answers.

mod accounts;
mod faults;
mod groups;
mod hooks;
mod ids;
mod installations;
mod jobs;
mod limits;
mod logs;
mod passing;
mod repos;
mod runner_tokens;
mod runners;
mod runs;
mod scale_sets;
mod served;
mod sessions;
mod tokens;
mod traffic;
mod versions;

pub use accounts::{AccountKind, AccountSpec};
pub use faults::{Fault, On, RunnerFault, RunnerWhat, What};
pub use groups::{RunnerGroup, RunnerGroupSpec, Visibility};
pub use hooks::{DeliveryView, HookDelivery, HookFault, HookSpec, HookWhat};
pub use ids::{JobId, RepoId, RunId, RunnerId, ScaleSetId};
pub use installations::InstallationSpec;
pub use jobs::{Conclusion, Container, Gate, JobSpec, JobStatus, JobView, Step, StepView};
pub use limits::LimitRules;
pub use repos::{RepoSettings, RepoSpec};
pub use runners::{RunnerState, RunnerView, Scope};
pub use runs::{Queued, RunSpec, RunStatusRule, RunView};
pub use scale_sets::{Assignment, ScaleSetRules, ScaleSetStatistics, ScaleSetView};
pub use sessions::{Beat, JobOrder, Refusal, RunnerResult, RunnerSession, SHUTDOWN};
pub use tokens::{Access, Grant, Permissions, TokenSpec};
pub use traffic::{Count, LogEntry, Tally, TrafficReport};

pub(crate) use installations::{InstallationError, TOKEN_LIFE};
pub(crate) use jobs::Job;
pub(crate) use limits::{Charge, Resource};
pub(crate) use repos::{Found, Repo};
pub(crate) use runner_tokens::RunnerKey;
pub(crate) use runners::{DEFAULT_GROUP, MintError, MintRequest, Phase, Runner};
pub(crate) use runs::{ControlError, Run};
pub(crate) use scale_sets::{
    Delivery, EventKind, JobEvent, Opened, QueueError, ScaleSet, ScaleSetError, ScaleSetRequest, SessionError,
};
pub(crate) use served::{Completion, StepUpdate, Told};
pub(crate) use tokens::Bearer;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use faults::Faults;
use limits::Limits;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use thiserror::Error;
use tokens::Tokens;
use traffic::Traffic;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// How the simulated GitHub behaves. The defaults are what was measured or documented for the real one.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Where clients and runners reach the simulator; gets a trailing slash if it has none.
    pub base_url: String,
    /// Accepted tokens; more can be added later.
    pub tokens: Vec<String>,
    /// Requests an hour and token; `None` is a server without limits (no headers, `/rate_limit` is 404).
    pub rate_limit: Option<u64>,
    /// How the limits are enforced.
    pub limits: LimitRules,
    /// A runner older than this is refused.
    pub minimum_runner_version: Option<(u32, u32, u32)>,
    /// How long the record of a runner stays after its job: from, to.
    pub linger: (Duration, Duration),
    /// When a registration that nobody is connected to is forgotten.
    pub registration_ttl: Duration,
    /// How long a job may stay queued.
    pub queue_limit: Duration,
    /// How long a job offered to a runner waits for it.
    pub offer_limit: Duration,
    /// How long a runner's question for a message is held while there is none.
    pub message_hold: Duration,
    /// How long a runner keeps its job after it renewed it. It renews it in a tenth of that.
    pub job_lease: Duration,
    /// When a job ends that was acquired and never started.
    pub start_limit: Duration,
    /// When a job ends whose runner went silent.
    pub lost_runner_limit: Duration,
    /// How long a job goes on after its runner was told to stop: from, to.
    pub graceful_stop: (Duration, Duration),
    /// Without a sign of life for so long a runner that talks HTTP shows as offline.
    pub offline_after: Duration,
    /// How long a job runs on the foreign runner that stole it.
    pub stranger_runs: Duration,
    /// Which of several waiting jobs a runner gets.
    pub picking: Picking,
    /// What a run shows while its jobs differ.
    pub run_status: RunStatusRule,
    /// How the scale-set half behaves.
    pub scale_sets: ScaleSetRules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            base_url: "http://github.invalid/".to_owned(),
            tokens: Vec::new(),
            rate_limit: Some(5_000),
            limits: LimitRules::default(),
            minimum_runner_version: None,
            linger: (5 * SECOND, 40 * SECOND),
            registration_ttl: DAY,
            queue_limit: DAY,
            offer_limit: MINUTE,
            message_hold: 50 * SECOND,
            job_lease: 10 * MINUTE,
            start_limit: 15 * MINUTE,
            lost_runner_limit: 9 * MINUTE + 40 * SECOND,
            graceful_stop: (15 * SECOND, 26 * SECOND),
            offline_after: 20 * SECOND,
            stranger_runs: 30 * SECOND,
            picking: Picking::Oldest,
            run_status: RunStatusRule::Furthest,
            scale_sets: ScaleSetRules::default(),
        }
    }
}

impl Config {
    /// Makes the endings that take GitHub minutes so many times faster, for tests with a real clock.
    pub fn hurry(&mut self, factor: u32) {
        let factor = factor.max(1);
        for slow in [
            &mut self.linger.0,
            &mut self.linger.1,
            &mut self.graceful_stop.0,
            &mut self.graceful_stop.1,
            &mut self.offer_limit,
            &mut self.job_lease,
            &mut self.start_limit,
            &mut self.lost_runner_limit,
            &mut self.stranger_runs,
        ] {
            *slow /= factor;
        }
        // A runner asks for messages without a pause, so a silence shorter than this means nothing.
        self.offline_after = (self.offline_after / factor).max(2 * SECOND);
        self.message_hold = (self.message_hold / factor).max(SECOND);
        // A listener paces its polls by the second, and its session has to survive that.
        self.scale_sets.poll_hold = (self.scale_sets.poll_hold / factor).max(SECOND);
        self.scale_sets.session_ttl = (self.scale_sets.session_ttl / factor).max(10 * SECOND);
    }
}

/// Which of several waiting jobs a runner gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Picking {
    /// The one that has waited longest.
    Oldest,
    /// Any, so that runners get jobs they were not started for.
    Random,
}

/// Why a request through the back door could not be met.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WorldError {
    /// There is no such repository.
    #[error("there is no repository {0:?}")]
    NoRepo(String),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// There is no such job.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// It is there but not in the state for it.
    #[error("{0}")]
    Refused(String),
}

/// The simulated GitHub.
#[derive(Debug)]
pub struct World {
    config: Config,
    rng: StdRng,
    now: Duration,
    ids: ids::Counters,
    repos: BTreeMap<RepoId, Repo>,
    /// Former names, so that renamed repositories redirect.
    former_names: BTreeMap<String, RepoId>,
    runs: BTreeMap<RunId, Run>,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that are not completed: what time and runners can act on.
    open_jobs: BTreeSet<JobId>,
    runners: BTreeMap<RunnerId, Runner>,
    runner_tokens: runner_tokens::RunnerTokens,
    scale_sets: scale_sets::ScaleSets,
    /// By what they belong to.
    groups: BTreeMap<String, Vec<RunnerGroup>>,
    /// By login in small letters.
    accounts: BTreeMap<String, AccountSpec>,
    /// In the order accounts were first heard of.
    installations: Vec<InstallationSpec>,
    hooks: hooks::Hooks,
    tokens: Tokens,
    limits: Limits,
    faults: Faults,
    traffic: Traffic,
    given: crate::rest::Given,
    versions: versions::Versions,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        if !config.base_url.ends_with('/') {
            config.base_url.push('/');
        }
        Self {
            rng: StdRng::seed_from_u64(config.seed),
            now: Duration::ZERO,
            ids: ids::Counters::default(),
            repos: BTreeMap::new(),
            former_names: BTreeMap::new(),
            runs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            open_jobs: BTreeSet::new(),
            runners: BTreeMap::new(),
            runner_tokens: runner_tokens::RunnerTokens::default(),
            scale_sets: scale_sets::ScaleSets::default(),
            groups: BTreeMap::new(),
            accounts: BTreeMap::new(),
            installations: Vec::new(),
            hooks: hooks::Hooks::default(),
            tokens: Tokens::new(&config.tokens),
            limits: Limits::new(config.rate_limit),
            faults: Faults::default(),
            traffic: Traffic::default(),
            given: crate::rest::Given::default(),
            versions: versions::Versions::default(),
            config,
        }
    }

    /// How this world behaves.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Chooses which of several waiting jobs a runner gets from now on.
    pub fn set_picking(&mut self, picking: Picking) {
        self.config.picking = picking;
    }

    /// Chooses what a run shows while its jobs differ.
    pub fn set_run_status_rule(&mut self, rule: RunStatusRule) {
        self.config.run_status = rule;
        let open: Vec<RunId> = self.open_jobs.iter().filter_map(|id| self.jobs.get(id)).map(|job| job.run).collect();
        for run in open {
            self.settle_run(run, self.now);
        }
    }

    /// Changes how the scale-set half behaves from now on.
    pub fn set_scale_set_rules(&mut self, rules: ScaleSetRules) {
        self.config.scale_sets = rules;
    }

    /// Answers one request as GitHub would: REST at the root and under `/api/v3`, the Actions service under
    /// `/actions-service/`, runners as `runner_service` says.
    pub fn handle(&mut self, now: Duration, request: &http::Request<Vec<u8>>) -> crate::rest::Reply {
        self.advance(now);
        if crate::runner_service::is_for_us(request.uri().path()) {
            return crate::runner_service::serve(self, now, request);
        }
        if crate::scale_set::is_for_us(request.uri().path()) {
            return crate::scale_set::serve(self, now, request);
        }
        crate::rest::serve(self, now, request)
    }

    /// Looks again whether there is something to say to a listener whose poll is held. Gives [`Reply::Held`] as long
    /// as there is not and the hold is not over.
    ///
    /// [`Reply::Held`]: crate::Reply::Held
    pub fn look_again(&mut self, now: Duration, held: &crate::scale_set::Held) -> crate::rest::Reply {
        self.advance(now);
        crate::scale_set::look_again(self, now, held)
    }

    /// A duration in the range, by chance.
    fn between(&mut self, (from, to): (Duration, Duration)) -> Duration {
        if to <= from {
            return from;
        }
        let span = u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX);
        from + Duration::from_millis(self.rng.random_range(0..=span))
    }

    pub(crate) fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn given(&self) -> &crate::rest::Given {
        &self.given
    }

    pub(crate) fn given_mut(&mut self) -> &mut crate::rest::Given {
        &mut self.given
    }

    pub(crate) fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// A token or the like that nobody can guess and the same seed gives again.
    pub(crate) fn new_secret(&mut self, prefix: &str, len: usize) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let mut secret = prefix.to_owned();
        for _ in 0..len {
            secret.push(char::from(ALPHABET[self.rng.random_range(0..ALPHABET.len())]));
        }
        secret
    }

    /// Looks like a JWT with these claims and tells its end in `exp`; nobody can check the signature.
    fn new_jwt(&mut self, now: Duration, ttl: Duration, mut claims: serde_json::Value) -> (String, Duration) {
        let until = Duration::from_secs((now + ttl).as_secs());
        claims["iat"] = now.as_secs().into();
        claims["exp"] = until.as_secs().into();
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(serde_json::json!({ "typ": "JWT", "alg": "RS256" }));
        (format!("{header}.{}.{}", part(claims), self.new_secret("", 43)), until)
    }

    pub(crate) fn new_uuid(&mut self) -> String {
        ids::uuid(&mut self.rng)
    }

    pub(crate) fn tokens_mut(&mut self) -> &mut Tokens {
        &mut self.tokens
    }

    pub(crate) fn traffic_mut(&mut self) -> &mut Traffic {
        &mut self.traffic
    }
}
