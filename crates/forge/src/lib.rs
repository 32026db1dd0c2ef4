//! Where jobs come from: what the controller needs of a forge, and no more.

mod answer;
mod forges;
pub mod gitea;
pub mod github;
mod held;
mod https;
mod reach;
mod scope;
pub mod selection;
mod sets;
mod standing;
mod tally;
mod timestamp;
mod way;
pub mod wire;

use std::{fmt, ops::Add, time::Duration};

use contract::Grant;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    forges::Forges,
    held::Held,
    https::Https,
    reach::{Finding, Reach},
    scope::Scope,
    sets::{SetKey, SetRequest, Sets},
    standing::Standing,
};

/// A forge that queues jobs and registers runners. One value serves every target it has a credential for.
///
/// Futures are not `Send`: the controller runs on one thread.
#[allow(async_fn_in_trait)]
pub trait Forge {
    /// The repositories of `target` (a configured one: a repository, an organisation, an account) as the forge lists
    /// them now, unfiltered. Not for an enterprise, whose repositories cannot be listed.
    async fn discover(&self, target: &str) -> Result<Vec<Repository>, ForgeError>;
    /// The jobs of `repository` (`owner/repository`) that are queued or running now, and those that the forge holds back,
    /// which may be known a little later.
    async fn look(&self, repository: &str) -> Result<Vec<Job>, ForgeError>;
    /// Registers a one-job runner with `scope` (see [`Scope`]) and returns its grant. Never repeated by the
    /// implementation: after an error the registration may or may not exist, and the caller settles it by name.
    /// `handle`: where the forge binds runners to jobs, the job that it is for ([`Job::handle`]).
    async fn mint(
        &self,
        scope: &str,
        runner_name: &str,
        labels: &[String],
        handle: Option<&str>,
    ) -> Result<Minted, ForgeError>;
    /// Looks a runner up by its exact name.
    async fn find_runner(&self, scope: &str, runner_name: &str) -> Result<Option<Runner>, ForgeError>;
    /// All runners registered with `scope`, anybody's.
    async fn list_runners(&self, scope: &str) -> Result<Vec<Runner>, ForgeError>;
    /// There is such a registration.
    async fn is_registered(&self, scope: &str, runner_id: u64) -> Result<bool, ForgeError> {
        Ok(self.list_runners(scope).await?.iter().any(|runner| runner.id == runner_id))
    }
    /// Removes a registration, never that of a runner that has a job.
    async fn delete_runner(&self, scope: &str, runner_id: u64) -> Result<Deletion, ForgeError>;
    /// One job, or `None` if the forge no longer knows it.
    async fn job(&self, repository: &str, job_id: u64) -> Result<Option<Job>, ForgeError>;
    /// The job of a run (of any of its attempts) that this runner had, or `None` if there is none such.
    async fn job_of_run(&self, repository: &str, run_id: u64, runner_name: &str) -> Result<Option<Job>, ForgeError>;
    /// Ends the job of a runner that is gone, where the forge leaves that to who holds the runner's grant; `why` is the
    /// last line of the job's log. `task` = the job in the forge's number for runners. False if there was nothing to end.
    async fn finish(
        &self,
        _scope: &str,
        _grant: &Grant,
        _task: u64,
        _end: Finish,
        _why: &str,
    ) -> Result<bool, ForgeError> {
        Ok(false)
    }
    /// Runs a job again that is over, as are all others of its run.
    async fn rerun(&self, _repository: &str, _job_id: u64) -> Result<(), ForgeError> {
        Err(ForgeError::new(ErrorKind::Refused, "this forge has no way to run a job again"))
    }
    /// How the forge that serves `name` (a target, a scope or a repository) is to be treated.
    fn traits_of(&self, _name: &str) -> ForgeTraits {
        ForgeTraits::default()
    }
    /// The group that runners registered with `scope` join; `None` = there are no groups there, or the default one is
    /// not told.
    async fn runner_group(&self, _scope: &str) -> Result<Option<RunnerGroup>, ForgeError> {
        Ok(None)
    }
    /// Until when the forge serves runners of `version`, asked where `name` (a target, a scope or a repository) is.
    /// `None` = it does not know that version, or does not tell.
    async fn runner_deprecation(&self, _name: &str, _version: &str) -> Result<Option<RunnerDeprecation>, ForgeError> {
        Ok(None)
    }
    /// The rate limit, as last heard, of the credential that serves `name` (a target, a scope or a repository).
    fn rate_limit(&self, name: &str) -> Option<RateLimit>;
    /// What may be used of the credential that serves `name`.
    fn allowance(&self, name: &str) -> Option<Allowance>;
    /// What was asked with the credential of this name, of all its targets together.
    fn traffic(&self, credential: &str) -> Traffic;
    /// How the credential of this name stands.
    fn standing(&self, _credential: &str) -> Standing {
        Standing::default()
    }
}

/// How a forge is to be treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgeTraits {
    /// A runner learns from it that its job was cancelled, or is over otherwise.
    pub tells_of_cancel: bool,
    /// One listing answers the looks at all repositories of a target: they are best looked at together.
    pub lists_together: bool,
    /// How much older than the question the answer of a look may be.
    pub look_age: Duration,
}

impl Default for ForgeTraits {
    fn default() -> Self {
        Self { tells_of_cancel: true, lists_together: false, look_age: Duration::ZERO }
    }
}

/// How a job is ended in place of its runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// A repository as a forge lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `owner/repository`.
    pub name: String,
    /// Everybody can read it, and so open a pull request from a fork. None = the forge did not say.
    pub public: Option<bool>,
    /// Read-only, or switched off by the forge: runs nothing.
    pub archived: bool,
    /// Last push, since the Unix epoch.
    pub pushed_at: Option<Duration>,
}

/// A job as the forge shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The forge's id. A re-run has a new one, or is another attempt.
    pub id: u64,
    /// Which attempt of its run, from 1; 0 if not told.
    pub attempt: u32,
    /// The run it belongs to.
    pub run_id: u64,
    /// `owner/repository` it belongs to.
    pub repository: String,
    /// What triggered its run, in the forge's word (`push`, `pull_request`). None = not known.
    pub event: Option<String>,
    /// Its run was triggered from a fork. None = not known.
    pub from_fork: Option<bool>,
    /// Its repository is public. None = not known.
    pub public: Option<bool>,
    /// Display name: text chosen by the workflow's author.
    pub name: String,
    /// Where it is in its life.
    pub status: JobStatus,
    /// How it ended, in the forge's word, once completed.
    pub conclusion: Option<String>,
    /// `runs-on` as written. Empty = unresolved or group-only: never matched (docs/github.md#labels-and-runner-groups).
    pub labels: Vec<String>,
    /// The runner that has it, by name.
    pub runner_name: Option<String>,
    /// The same by the forge's id, where the forge tells.
    pub runner_id: Option<u64>,
    /// What a runner can be bound to it by, where the forge binds runners to jobs.
    pub handle: Option<String>,
    /// When it was created, since the Unix epoch.
    pub created_at: Option<Duration>,
}

/// Where a job is in its life (docs/github.md#job-status). Only [`JobStatus::Queued`] may provision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobStatus {
    /// Not runnable yet: requested, waiting for approval, pending on a concurrency group, or a word we do not know.
    NotReady,
    /// Waits for a runner.
    Queued,
    /// A runner has it.
    InProgress,
    /// Over.
    Completed,
}

/// A fresh registration.
#[derive(Debug)]
pub struct Minted {
    /// The forge's id of the runner, to delete it by.
    pub runner_id: u64,
    /// What the guest needs.
    pub grant: Grant,
}

/// A registered runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// The forge's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Connected.
    pub online: bool,
    /// Has a job.
    pub busy: bool,
}

/// A group of runners: which repositories they serve (docs/github.md#labels-and-runner-groups).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerGroup {
    /// Its name.
    pub name: String,
    /// Public repositories may use it. None = not told.
    pub admits_public: Option<bool>,
}

/// What a deletion came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// Removed now.
    Deleted,
    /// Was not there.
    AlreadyGone,
    /// Has a job; the forge keeps it, and is believed.
    Busy,
}

/// Until when a forge serves runners of a version, since the Unix epoch. `None` = no end is set yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunnerDeprecation {
    /// From then on no new runner of it is registered.
    pub registration: Option<Duration>,
    /// From then on its runners get no jobs.
    pub runtime: Option<Duration>,
}

/// A credential's primary rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Calls allowed in the window.
    pub limit: u64,
    /// Calls left.
    pub remaining: u64,
    /// End of the window, seconds since the Unix epoch.
    pub reset: u64,
}

/// What the controller may use of a credential.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Calls a minute that count against the primary limit, over time. None = the forge names no limit.
    pub calls_per_minute: Option<f64>,
    /// No call is made before, since the Unix epoch.
    pub paused_until: Option<Duration>,
    /// The primary limit as last heard.
    pub limit: Option<RateLimit>,
}

/// What was asked with a credential.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// Calls since the start.
    pub calls: Calls,
    /// The forge's clock less this host's, in seconds, to about half a second; of several forges' or logins', the one
    /// furthest off. None = no answer told yet.
    pub clock_offset: Option<f64>,
}

/// Calls by what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Calls {
    /// Answered as hoped for.
    pub succeeded: u64,
    /// Answered that nothing changed: free of the primary limit.
    pub unchanged: u64,
    /// Refused for another reason than a limit (4xx).
    pub refused: u64,
    /// Refused for a limit.
    pub limited: u64,
    /// Answered that the forge failed (5xx).
    pub failed: u64,
    /// No answer came.
    pub unanswered: u64,
    /// Not made, to keep within a limit.
    pub withheld: u64,
}

impl Calls {
    /// Each count, with a word for it.
    pub fn by_outcome(self) -> [(&'static str, u64); 7] {
        let Self { succeeded, unchanged, refused, limited, failed, unanswered, withheld } = self;
        [
            ("succeeded", succeeded),
            ("unchanged", unchanged),
            ("refused", refused),
            ("limited", limited),
            ("failed", failed),
            ("unanswered", unanswered),
            ("withheld", withheld),
        ]
    }
}

impl Add for Calls {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            succeeded: self.succeeded + more.succeeded,
            unchanged: self.unchanged + more.unchanged,
            refused: self.refused + more.refused,
            limited: self.limited + more.limited,
            failed: self.failed + more.failed,
            unanswered: self.unanswered + more.unanswered,
            withheld: self.withheld + more.withheld,
        }
    }
}

/// Why a call failed, as far as the controller decides on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeError {
    /// What to do about it.
    pub kind: ErrorKind,
    /// For people: which call, which status, what the forge said. Holds no secret.
    pub message: String,
}

/// What a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No answer, or one that asks to try again: back off and repeat.
    Unavailable,
    /// Wait until this time (since the Unix epoch) before any further call with this credential.
    RateLimited(Duration),
    /// Not sent: until this time (since the Unix epoch) the credential has used up what the controller allows itself.
    Paced(Duration),
    /// The credential is refused.
    Unauthorized,
    /// The credential is good, and not for this.
    Forbidden,
    /// The target, or what was asked of it, is not there or not ours to see.
    NotFound,
    /// The repository cannot be served as it is: renamed, archived, or its Actions are disabled.
    Quarantined,
    /// The runner name is taken: use another.
    Conflict,
    /// The forge refuses the request as such.
    Refused,
}

impl ErrorKind {
    /// The same may be answered later.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Unavailable | Self::RateLimited(_) | Self::Paced(_))
    }
}

impl ForgeError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for ForgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ForgeError {}
