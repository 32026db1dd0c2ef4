//! What the controller tells about itself: `GET /status`, `runner-status --json`, and the reasons behind `/health`.
//!
//! Field names are stable; fields are added, not renamed. Times ending in `_ms` are milliseconds since the Unix epoch;
//! fields ending in `_seconds` are computed when the document is asked for ([`Status::at`]).

use std::sync::Arc;

use contract::Pruning;
use forge::Calls;
use serde::{Deserialize, Serialize};
use settings::TargetKind;
use utoipa::ToSchema;

use super::{cause::Cause, incident::Ongoing, phase::Phase, plan::Waiting, record::Timeline, strain::Strain};

/// Repositories told about at most.
pub const REPOSITORIES_SHOWN: usize = 200;

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Status {
    /// The controller's version.
    pub version: String,
    /// Host part of runner names.
    pub host: String,
    /// When this document was last brought up to date by the controller.
    pub updated_ms: u64,
    /// Rounds of the loop so far; stands still when the controller hangs.
    pub rounds: u64,
    /// False while stopping, or while the host is drained.
    pub intake: bool,
    /// The operator drained the host.
    pub drained: bool,
    /// Containers from the request to the end.
    pub active_containers: Vec<ActiveContainer>,
    /// Most containers at once.
    pub max_concurrent: usize,
    /// Time between looks.
    pub poll_interval_seconds: u64,
    /// Longest life of a container whose class says nothing.
    pub job_timeout_seconds: u64,
    /// Where jobs come from.
    pub targets: Vec<TargetStatus>,
    /// What opens forges.
    pub credentials: Vec<CredentialStatus>,
    /// Repositories where something is going on, or goes wrong; at most [`REPOSITORIES_SHOWN`].
    pub repositories: Vec<RepositoryStatus>,
    /// Places runners are registered with where something is going on, or goes wrong.
    pub scopes: Vec<ScopeStatus>,
    /// How the jobs of each class are found in each scope that could have a scale set.
    pub sets: Vec<SetStatus>,
    /// Kinds of runners.
    pub classes: Vec<ClassStatus>,
    /// What fails: classes, places that runners are registered with, credentials.
    pub breakers: Vec<BreakerStatus>,
    /// Queued jobs and why they wait.
    pub queue: Vec<QueuedJob>,
    /// Ended containers whose registration is not yet known to be gone.
    pub settling: Vec<Settling>,
    /// The last ended containers, oldest first.
    pub finished: Vec<Arc<Finished>>,
    /// Webhook deliveries since the start, where they are listened for.
    pub webhook: Option<Counts>,
    /// What the host is short of, so that it takes fewer containers, or none.
    pub strains: Vec<Strain>,
    /// Bytes that were freed since the host started, because a disk was short.
    pub pruned_bytes: u64,
    /// What was removed for that, the last times, oldest first.
    pub prunings: Vec<Pruned>,
    /// What is wrong; empty = healthy.
    pub problems: Vec<String>,
    /// The same by kind, each since when; one is over a minute after its problem.
    pub incidents: Vec<Ongoing>,
}

/// Image stores and caches that were removed because a disk was short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// When.
    pub at_ms: u64,
    /// Bytes of the disk that they took.
    pub freed_bytes: u64,
    /// Their files, below the directory of what outlives containers.
    pub removed: Vec<String>,
}

impl From<&Pruning> for Pruned {
    fn from(Pruning { at_ms, freed_bytes, removed }: &Pruning) -> Self {
        Self { at_ms: *at_ms, freed_bytes: *freed_bytes, removed: removed.clone() }
    }
}

/// A container from the request to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActiveContainer {
    /// Unit instance and machine name.
    pub name: String,
    /// The job it runs, or was booted for.
    pub job_id: Option<u64>,
    /// That job's display name.
    pub job_name: String,
    /// Seconds since its unit was started (or, before that, since it was requested).
    pub running_seconds: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its class.
    pub class: String,
    /// `owner/repository` of its job, as far as known, else where its runner is registered.
    pub repo: String,
    /// Where its runner is registered.
    #[serde(default)]
    pub scope: String,
    /// The configured target it serves.
    #[serde(default)]
    pub target: String,
    /// Its runner is a scale set's.
    #[serde(default)]
    pub set: bool,
    /// Its subnet.
    pub subnet: String,
    /// The runner's name at the forge.
    pub runner_name: String,
    /// The runner's id at the forge.
    pub runner_id: Option<u64>,
    /// Memory it uses, in bytes, as of the moment the document is asked for; absent where the kernel does not count it.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Processor time it has used until then, in microseconds; absent where the kernel does not count it.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// When what happened.
    pub timeline: Timeline,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetStatus {
    /// Its name: `owner/repository`, an organisation, an account, `enterprises/name`.
    pub repo: String,
    /// What it is.
    #[serde(default)]
    pub kind: TargetKindStatus,
    /// Its credential.
    #[serde(default)]
    pub credential: String,
    /// Repositories of it that are served.
    #[serde(default)]
    pub repositories: usize,
    /// Repositories of it that cannot be served.
    #[serde(default)]
    pub quarantined: usize,
    /// When its repositories were last listed.
    #[serde(default)]
    pub discovered_ms: Option<u64>,
    /// Its priority.
    #[serde(default)]
    pub priority: i32,
    /// Its share against others of the same priority.
    #[serde(default)]
    pub weight: u32,
    /// Most containers for it at once.
    #[serde(default)]
    pub max_concurrent: usize,
    /// Containers for it now.
    #[serde(default)]
    pub active: usize,
    /// Jobs queued there at the last look.
    pub queued: usize,
    /// End of the last look that succeeded, at any of its repositories.
    pub last_poll_ms: Option<u64>,
    /// Seconds since then.
    pub last_poll_age_seconds: Option<u64>,
    /// Looks (of a repository) or listings (of an organisation or account) failed in a row.
    pub failures: u32,
    /// What the forge last refused, until it succeeds.
    pub last_error: Option<String>,
    /// The credential's rate limit as last heard.
    pub rate_limit: Option<RateLimitStatus>,
    /// How the jobs of each class that serves it are found, and why so.
    #[serde(default)]
    pub intake: Vec<ClassIntake>,
}

/// How the jobs of a class are found in a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassIntake {
    /// The class.
    pub class: String,
    /// How, now.
    pub intake: IntakeStatus,
    /// Why so, for people.
    pub reason: String,
}

impl ClassIntake {
    /// The reason where nothing was to be chosen.
    pub const AS_CONFIGURED: &str = "the class has intake = \"polling\"";
}

/// A credential's rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RateLimitStatus {
    /// Calls in the window.
    pub limit: u64,
    /// Calls left.
    pub remaining: u64,
    /// End of the window, seconds since the Unix epoch.
    pub reset: u64,
}

/// What a target is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKindStatus {
    /// One repository.
    #[default]
    Repository,
    /// An organisation's repositories.
    Organisation,
    /// A personal account's repositories.
    User,
    /// An enterprise.
    Enterprise,
    /// The whole of a forge.
    Instance,
}

impl From<TargetKind> for TargetKindStatus {
    fn from(kind: TargetKind) -> Self {
        match kind {
            TargetKind::Repository => Self::Repository,
            TargetKind::Organisation => Self::Organisation,
            TargetKind::User => Self::User,
            TargetKind::Enterprise => Self::Enterprise,
            TargetKind::Instance => Self::Instance,
        }
    }
}

/// A credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CredentialStatus {
    /// Its name.
    pub name: String,
    /// Part of its rate limit that the controller uses at most.
    pub share: f64,
    /// Its rate limit as last heard; of an App's installations, that of the one with the fewest calls left.
    pub rate_limit: Option<RateLimitStatus>,
    /// Nothing is asked with it before this time.
    pub paused_until_ms: Option<u64>,
    /// Who asked for that pause.
    #[serde(default)]
    pub paused_by: Option<PausedBy>,
    /// Repositories looked at with it.
    pub repositories: usize,
    /// Calls that count against the limit, for each look, as observed.
    pub calls_per_look: f64,
    /// Calls since the controller started, besides those that renew an App's tokens.
    #[serde(default)]
    pub calls: Calls,
    /// The forge's clock less this host's, to about half a second; absent until an answer tells.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// The forge takes it no more from then on; absent where it never ends, or the forge does not tell.
    #[serde(default)]
    pub ends_ms: Option<u64>,
    /// Days until then, negative when it is past.
    #[serde(default)]
    pub ends_in_days: Option<i64>,
    /// The forge's words, where it refused the credential the last time.
    #[serde(default)]
    pub refused: Option<String>,
    /// What it lacks, for calls that were refused for it and have not succeeded since.
    #[serde(default)]
    pub lacks: Vec<String>,
}

/// Who asked for a pause of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PausedBy {
    /// The forge: its limit is reached.
    Forge,
    /// The controller itself, to stay within its share of that limit.
    Share,
    /// The controller itself: the forge refuses the credential.
    Breaker,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryStatus {
    /// `owner/repository`.
    pub repo: String,
    /// The configured target it belongs to.
    pub target: String,
    /// Jobs queued there at the last look.
    pub queued: usize,
    /// End of the last look that succeeded.
    pub last_poll_ms: Option<u64>,
    /// Time between looks, now.
    pub poll_interval_seconds: u64,
    /// Looks failed in a row.
    pub failures: u32,
    /// What the forge last refused, until it succeeds.
    pub last_error: Option<String>,
    /// Why it cannot be served; it is tried again now and then.
    pub quarantine: Option<String>,
}

/// A scale set, or what is done in its stead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SetStatus {
    /// Its class.
    pub class: String,
    /// Its scope.
    pub scope: String,
    /// How jobs are found now.
    pub intake: IntakeStatus,
    /// Why not by the scale set, if so; else what the forge last refused, until it is heard again.
    pub reason: Option<String>,
    /// Seconds since the forge was last heard.
    pub heard_age_seconds: Option<u64>,
    /// The most jobs of it that the forge may assign at once, as told to it.
    pub capacity: u32,
    /// Jobs assigned to it and not over, as the forge counts them.
    pub assigned: u32,
    /// Of these, those that run.
    pub running: u32,
    /// Assigned jobs that wait and are not to be run: from forks, or not known.
    pub refused: usize,
}

/// How jobs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IntakeStatus {
    /// By the scale set.
    ScaleSet,
    /// By polling.
    Polling,
    /// Not at all: only a scale set is allowed, and it cannot be had.
    None,
}

/// A place runners are registered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScopeStatus {
    /// Its name.
    pub name: String,
    /// The configured target it belongs to.
    pub target: String,
    /// Containers whose runner is registered there.
    pub active: usize,
    /// Registrations failed in a row.
    pub failures: u32,
    /// Why the last failed, until one succeeds.
    pub last_error: Option<String>,
    /// Nothing is registered before this time.
    #[serde(default)]
    pub held_until_ms: Option<u64>,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClassStatus {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Upper and lower case are different letters in them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub labels_have_case: bool,
    /// Containers of it now.
    pub active: usize,
    /// Most at once.
    pub max_concurrent: usize,
    /// Boots failed in a row; boots pause while it is not 0.
    pub boot_failures: u32,
    /// Version of its runner program, where it is known.
    #[serde(default)]
    pub runner_version: Option<String>,
    /// Days until the forge serves that version no more, negative when it is past; absent when no end is announced.
    #[serde(default)]
    pub runner_deprecated_in_days: Option<i64>,
    /// The forge refuses its runner: nothing of it is started.
    #[serde(default)]
    pub outdated: bool,
    /// Whether its containers have no user namespace.
    #[serde(default)]
    pub privileged: bool,
    /// Nothing of it is booted before this time: boots failed.
    #[serde(default)]
    pub held_until_ms: Option<u64>,
    /// The operator drained it.
    #[serde(default)]
    pub drained: bool,
    /// Processors a container of it may use; absent where only the host's limit counts.
    #[serde(default)]
    pub cpus: Option<f64>,
    /// Memory a container of it may use, in bytes; absent where only the host's limit counts.
    #[serde(default)]
    pub memory: Option<u64>,
    /// A job of it may take so long, in seconds.
    #[serde(default)]
    pub timeout_seconds: u64,
}

/// The circuit breaker of something that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakerStatus {
    /// What it is.
    pub kind: BreakerKind,
    /// Its name; of a target, the place that runners are registered with.
    pub name: String,
    /// How it stands.
    pub state: BreakerState,
    /// Failures in a row.
    pub failures: u32,
    /// How it last failed.
    pub cause: String,
    /// When it is tried next; absent while that may be at any time.
    #[serde(default)]
    pub next_try_ms: Option<u64>,
}

/// What has a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum BreakerKind {
    /// Boots of a class.
    Class,
    /// Registrations of runners for a target.
    Target,
    /// Calls with a credential.
    Credential,
}

/// How a circuit breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// After a pause all is tried again.
    Closed,
    /// It failed again and again: nothing is tried for long.
    Open,
    /// That time is over: one is tried.
    HalfOpen,
}

/// A queued job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueuedJob {
    /// `owner/repository`.
    pub repo: String,
    /// The forge's id.
    pub job_id: u64,
    /// Its display name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// The class that serves it.
    #[serde(default)]
    pub class: Option<String>,
    /// Why it waits.
    pub waiting: WaitingFor,
    /// The same for people, with names, numbers and times.
    #[serde(default)]
    pub reason: String,
    /// Jobs that wait for the same and come first, where it waits for a place.
    #[serde(default)]
    pub ahead: usize,
    /// Why it is not to be run, if so.
    #[serde(default)]
    pub refusal: Option<String>,
    /// When it was first seen.
    pub visible_ms: u64,
    /// Seconds since then.
    pub waiting_seconds: u64,
}

/// Why a queued job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WaitingFor {
    /// No class has all its labels.
    NoMatchingClass,
    /// A container is coming or idle.
    Runner,
    /// No free place.
    Capacity,
    /// No free place, and its target has its share of the host.
    Share,
    /// Its target has as many containers as it may.
    TargetLimit,
    /// Its class or scope backs off after failures.
    BackOff,
    /// The forge refuses the runner of its class as outdated.
    RunnerVersion,
    /// Nobody: it was triggered from a fork, or may have been.
    Refused,
    /// The operator of the forge: its runner group keeps it from every runner here, or seems to.
    RunnerGroup,
    /// Its repository cannot be served now.
    Quarantine,
    /// The forge to assign it to the scale set that serves it.
    Assignment,
    /// The controller to be there again: it is stopping.
    Intake,
    /// The operator: its class or the host is drained.
    Drained,
    /// The host: it is short of disk, or under pressure.
    Host,
    /// The forge to let it go: an approval, or its concurrency group.
    Approval,
}

impl From<Waiting> for WaitingFor {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::NoClass => Self::NoMatchingClass,
            Waiting::Served => Self::Runner,
            Waiting::Capacity => Self::Capacity,
            Waiting::Share => Self::Share,
            Waiting::TargetLimit => Self::TargetLimit,
            Waiting::Held => Self::BackOff,
            Waiting::Outdated => Self::RunnerVersion,
            Waiting::Refused => Self::Refused,
            Waiting::Excluded => Self::RunnerGroup,
            Waiting::Quarantined => Self::Quarantine,
            Waiting::NotAdmitted => Self::Assignment,
            Waiting::Drained => Self::Drained,
            Waiting::Strained => Self::Host,
        }
    }
}

/// An ended container whose registration is not yet known to be gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Settling {
    /// The container.
    pub name: String,
    /// The registration.
    pub runner_name: String,
    /// Calls made to remove it.
    pub tries: u32,
}

/// An ended container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finished {
    /// The container.
    pub name: String,
    /// Its class.
    pub class: String,
    /// `owner/repository` of its job, as far as known, else where its runner was registered.
    pub repo: String,
    /// Where its runner was registered.
    #[serde(default)]
    pub scope: String,
    /// The job its runner took, else the one it was booted for; absent if it took one that nobody saw the id of.
    pub job_id: Option<u64>,
    /// That job's display name.
    pub job_name: String,
    /// How the job ended in the forge's word, if this runner had it.
    pub conclusion: Option<String>,
    /// Why the container ended.
    pub cause: Cause,
    /// What went wrong, in the words of who reported it; absent where the cause says it all.
    #[serde(default)]
    pub reason: Option<String>,
    /// The runner's name at the forge.
    pub runner_name: String,
    /// Its subnet.
    pub subnet: String,
    /// systemd's word on how its unit ended: `success`, `exit-code`, `timeout`, `oom-kill`, …
    #[serde(default)]
    pub service_result: Option<String>,
    /// Exit status, or signal, of its unit.
    #[serde(default)]
    pub exit_status: Option<String>,
    /// The most memory it used, in bytes; absent where the kernel does not count it.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// Processor time it used, in microseconds; absent where the kernel does not count it.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// When what happened.
    pub timeline: Timeline,
    /// When its end was known for certain.
    pub concluded_ms: u64,
}

impl Status {
    /// The document with every `_seconds` field as of `now_ms`.
    pub fn at(mut self, now_ms: u64) -> Self {
        let since = |then: u64| now_ms.saturating_sub(then) / 1000;
        for container in &mut self.active_containers {
            let timeline = &container.timeline;
            container.running_seconds = timeline.unit_started_ms.or(timeline.recorded_ms).map_or(0, since);
        }
        for target in &mut self.targets {
            target.last_poll_age_seconds = target.last_poll_ms.map(since);
        }
        for job in &mut self.queue {
            job.waiting_seconds = since(job.visible_ms);
        }
        self
    }

    /// One line for `systemctl status`.
    pub fn line(&self) -> String {
        let count = |wanted: fn(Phase) -> bool| self.active_containers.iter().filter(|c| wanted(c.phase)).count();
        let running = count(|phase| phase == Phase::Running);
        let idle = count(|phase| phase == Phase::Idle);
        let other = self.active_containers.len() - running - idle;
        let mut line = format!("{running} running, {idle} idle, {other} on the way; {} queued", self.queue.len());
        if !self.intake {
            line.push_str("; taking no new jobs");
        }
        if let Some(problem) = self.problems.first() {
            line = format!("{line}; {problem}");
        }
        line
    }
}

/// Deliveries of webhooks by what came of them, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Counts {
    /// Became a hint.
    pub accepted: u64,
    /// Came before, or said what was already past.
    pub duplicate: u64,
    /// Signed, and of no use: another event, or a job that does not wait for a runner.
    pub ignored: u64,
    /// Not signed with the secret, too large, too slow, or not understood.
    pub refused: u64,
    /// News that nobody had room for; the next poll finds it.
    pub dropped: u64,
}
