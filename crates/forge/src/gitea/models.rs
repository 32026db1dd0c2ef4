//! What is read of the JSON of Gitea and Forgejo, leniently: what may be missing is optional.

use contract::ActFlavour;
use serde::{Deserialize, Deserializer};

use crate::{Job, JobStatus, Repository, Runner, timestamp::Timestamp};

/// Nothing listed is `null` in some answers.
fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A listing of jobs: Gitea's, or Forgejo's bare one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum JobsPage {
    Page {
        #[serde(deserialize_with = "or_null")]
        jobs: Vec<JobModel>,
    },
    Bare(Option<Vec<JobModel>>),
}

impl JobsPage {
    pub fn jobs(self) -> Vec<JobModel> {
        match self {
            Self::Page { jobs } => jobs,
            Self::Bare(jobs) => jobs.unwrap_or_default(),
        }
    }
}

/// A job.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobModel {
    pub id: u64,
    /// Gitea: `…/repos/OWNER/REPOSITORY/actions/jobs/ID`.
    #[serde(default)]
    pub url: String,
    /// Forgejo: its repository by number.
    #[serde(default)]
    pub repo_id: Option<u64>,
    #[serde(default)]
    pub run_id: Option<u64>,
    #[serde(default, alias = "attempt")]
    pub run_attempt: u32,
    #[serde(default)]
    pub handle: Option<String>,
    #[serde(default)]
    pub name: String,
    #[serde(default, deserialize_with = "or_null", alias = "runs_on")]
    pub labels: Vec<String>,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub conclusion: Option<String>,
    #[serde(default)]
    pub runner_id: Option<u64>,
    #[serde(default)]
    pub runner_name: Option<String>,
    #[serde(default)]
    pub created_at: Timestamp,
}

impl JobModel {
    /// `owner/repository`, where its address has it.
    pub fn repository(&self) -> Option<String> {
        let (_, path) = self.url.split_once("/api/v1/repos/")?;
        let mut parts = path.split('/');
        Some(format!("{}/{}", parts.next()?, parts.next()?))
    }

    /// As a job of `repository`, as the controller calls it, with what is known of its run.
    pub fn of(self, flavour: ActFlavour, repository: &str, origin: &Origin) -> Job {
        let (status, ended) = status(flavour, &self.status);
        Job {
            id: self.id,
            run_id: self.run_id.unwrap_or_default(),
            repository: repository.to_owned(),
            event: origin.event.clone(),
            from_fork: origin.from_fork,
            public: origin.public,
            name: self.name,
            status,
            conclusion: self.conclusion.filter(|word| !word.is_empty()).or(ended),
            labels: self.labels,
            runner_name: self.runner_name.filter(|name| !name.is_empty()),
            runner_id: self.runner_id.filter(|id| *id > 0),
            attempt: self.run_attempt,
            handle: self.handle.filter(|handle| !handle.is_empty()),
            // What is not set is the beginning of time.
            created_at: self.created_at.0.filter(|at| !at.is_zero()),
        }
    }
}

/// A job's status, and how it ended where the status says so: Gitea's API has GitHub's words, for which `waiting` is held
/// back; Forgejo has its own, for which it is queued.
fn status(flavour: ActFlavour, word: &str) -> (JobStatus, Option<String>) {
    match (flavour, word) {
        (ActFlavour::Gitea, "queued") | (ActFlavour::Forgejo, "waiting") => (JobStatus::Queued, None),
        (ActFlavour::Gitea, "in_progress") | (ActFlavour::Forgejo, "running") => (JobStatus::InProgress, None),
        (ActFlavour::Gitea, "completed") => (JobStatus::Completed, None),
        (ActFlavour::Forgejo, "success" | "failure" | "cancelled" | "skipped") => {
            (JobStatus::Completed, Some(word.to_owned()))
        }
        _ => (JobStatus::NotReady, None),
    }
}

/// What is known of the run of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub event: Option<String>,
    pub from_fork: Option<bool>,
    pub public: Option<bool>,
}

/// A run.
#[derive(Debug, Deserialize)]
pub(super) struct RunModel {
    /// Gitea: `FILE@REF`.
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub event: Option<String>,
    /// Forgejo: what triggered it, where `event` is the repository's.
    #[serde(default)]
    pub trigger_event: Option<String>,
    #[serde(default)]
    pub is_fork_pull_request: Option<bool>,
    #[serde(default)]
    pub repository: Option<RepositoryModel>,
}

impl RunModel {
    /// The pull request whose commit it is of.
    pub fn pull_request(&self) -> Option<u64> {
        let (_, rest) = self.path.rsplit_once("@refs/pull/")?;
        rest.split('/').next()?.parse().ok()
    }
}

/// A pull request, as far as where its commits lie.
#[derive(Debug, Deserialize)]
pub(super) struct PullRequest {
    pub head: PullRequestSide,
    pub base: PullRequestSide,
}

/// One side of it.
#[derive(Debug, Deserialize)]
pub(super) struct PullRequestSide {
    #[serde(default)]
    pub repo_id: Option<i64>,
}

impl PullRequest {
    /// A fork that was deleted has no number any more.
    pub fn is_from_fork(&self) -> bool {
        self.head.repo_id.is_none() || self.head.repo_id != self.base.repo_id
    }
}

/// A listing of repositories: bare, or the answer of a search.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RepositoriesPage {
    Found {
        #[serde(deserialize_with = "or_null")]
        data: Vec<RepositoryModel>,
    },
    Bare(Option<Vec<RepositoryModel>>),
}

impl RepositoriesPage {
    pub fn repositories(self) -> Vec<RepositoryModel> {
        match self {
            Self::Found { data } => data,
            Self::Bare(repositories) => repositories.unwrap_or_default(),
        }
    }
}

/// A repository.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RepositoryModel {
    #[serde(default)]
    pub full_name: String,
    #[serde(default)]
    pub private: Option<bool>,
    #[serde(default)]
    pub archived: bool,
    #[serde(default)]
    pub has_actions: Option<bool>,
    #[serde(default)]
    pub updated_at: Timestamp,
}

impl RepositoryModel {
    /// Everybody can read it, or (`internal`) everybody with an account, who may fork it as well.
    pub fn public(&self) -> Option<bool> {
        self.private.map(|private| !private)
    }

    /// Why it runs nothing, if so.
    pub fn closed(&self) -> Option<&'static str> {
        match self {
            Self { archived: true, .. } => Some("is archived. Remedy: do not serve it"),
            Self { has_actions: Some(false), .. } => {
                Some("has no Actions. Remedy: enable Actions in the repository's settings, or do not serve it")
            }
            _ => None,
        }
    }

    /// As a repository that the controller calls `name`.
    pub fn named(self, name: String) -> Repository {
        Repository {
            name,
            public: self.public(),
            archived: self.closed().is_some(),
            // Nothing is told of pushes alone.
            pushed_at: self.updated_at.0.filter(|at| !at.is_zero()),
        }
    }
}

/// A listing of runners: Gitea's, or Forgejo's bare one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RunnersPage {
    Page {
        #[serde(deserialize_with = "or_null")]
        runners: Vec<RunnerModel>,
    },
    Bare(Option<Vec<RunnerModel>>),
}

impl RunnersPage {
    pub fn runners(self) -> Vec<RunnerModel> {
        match self {
            Self::Page { runners } => runners,
            Self::Bare(runners) => runners.unwrap_or_default(),
        }
    }
}

/// A runner. Neither `busy` nor `active` says that it has no job: both mean that it reported something just now.
#[derive(Debug, Deserialize)]
pub(super) struct RunnerModel {
    pub id: u64,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub busy: bool,
}

impl RunnerModel {
    pub fn is_active(&self) -> bool {
        self.busy || self.status == "active"
    }
}

impl From<RunnerModel> for Runner {
    fn from(runner: RunnerModel) -> Self {
        Self {
            online: matches!(runner.status.as_str(), "online" | "idle" | "active"),
            busy: runner.is_active(),
            id: runner.id,
            name: runner.name,
        }
    }
}

/// `POST …/runners/registration-token`
#[derive(Deserialize)]
pub(super) struct RegistrationToken {
    pub token: String,
}

/// The answer of `Register`.
#[derive(Deserialize)]
pub(super) struct Registered {
    pub runner: RegisteredRunner,
}

/// A fresh registration, by either way.
#[derive(Deserialize)]
pub(super) struct RegisteredRunner {
    #[serde(deserialize_with = "number")]
    pub id: u64,
    pub uuid: String,
    pub token: String,
}

/// The protocol has its numbers as text, the API as numbers.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Number(u64),
    }
    match Number::deserialize(from)? {
        Number::Number(number) => Ok(number),
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// The answer of `UpdateLog`.
#[derive(Debug, Deserialize)]
pub(super) struct LogTaken {
    #[serde(default, rename = "ackIndex", deserialize_with = "number")]
    pub ack_index: u64,
}

/// `GET /version`
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub version: String,
}
