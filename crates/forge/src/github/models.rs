//! What we read of GitHub's JSON, leniently: everything that has been seen null or missing is optional
//! (docs/github.md#listing-jobs, docs/github.md#octocrab).

use std::time::Duration;

use serde::Deserialize;

use crate::timestamp::Timestamp;
use crate::{Job, JobStatus, Repository, Runner, RunnerDeprecation};

/// `GET …/actions/runs`
#[derive(Debug, Deserialize)]
pub(super) struct RunsPage {
    #[serde(default)]
    pub workflow_runs: Vec<Run>,
}

/// A run, as far as its id and what may be trusted of it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Run {
    pub id: u64,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub created_at: Timestamp,
    #[serde(default)]
    pub run_started_at: Timestamp,
    #[serde(default)]
    pub event: Option<String>,
    #[serde(default)]
    pub repository: Option<RunRepository>,
    #[serde(default)]
    pub head_repository: Option<RunRepository>,
}

/// The repository of a run, or the one its commit lies in.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RunRepository {
    pub id: u64,
    #[serde(default)]
    pub private: Option<bool>,
}

impl Run {
    /// When it, or its last attempt, began. None = not told.
    pub fn began(&self) -> Option<Duration> {
        self.run_started_at.0.max(self.created_at.0)
    }

    /// It is over.
    pub fn is_over(&self) -> bool {
        self.status.as_deref() == Some("completed")
    }

    /// Its commit lies in another repository. None = one of the two is not told (a fork that was deleted is null).
    pub fn is_from_fork(&self) -> Option<bool> {
        Some(self.repository.as_ref()?.id != self.head_repository.as_ref()?.id)
    }

    /// Its repository is public. None = not told.
    pub fn public(&self) -> Option<bool> {
        self.repository.as_ref()?.private.map(|private| !private)
    }
}

/// A repository.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RepositoryModel {
    pub id: u64,
    pub full_name: String,
    #[serde(default)]
    pub private: Option<bool>,
    #[serde(default)]
    pub visibility: Option<String>,
    #[serde(default)]
    pub archived: Option<bool>,
    #[serde(default)]
    pub disabled: Option<bool>,
    #[serde(default)]
    pub pushed_at: Timestamp,
}

impl From<RepositoryModel> for Repository {
    fn from(repository: RepositoryModel) -> Self {
        Self {
            // An internal repository is private as well: outsiders cannot fork it.
            public: repository
                .private
                .map(|private| !private)
                .or(repository.visibility.as_deref().map(|visibility| visibility == "public")),
            archived: repository.archived == Some(true) || repository.disabled == Some(true),
            pushed_at: repository.pushed_at.0,
            name: repository.full_name,
        }
    }
}

/// A listing of repositories: bare, or of an installation.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RepositoriesPage {
    Bare(Vec<RepositoryModel>),
    Installation { repositories: Vec<RepositoryModel> },
}

impl RepositoriesPage {
    pub fn repositories(self) -> Vec<RepositoryModel> {
        match self {
            Self::Bare(repositories) | Self::Installation { repositories } => repositories,
        }
    }
}

/// `GET …/actions/runner-groups`
#[derive(Debug, Deserialize)]
pub(super) struct GroupsPage {
    #[serde(default)]
    pub runner_groups: Vec<GroupModel>,
}

/// A runner group.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct GroupModel {
    pub id: u64,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub default: Option<bool>,
    #[serde(default)]
    pub allows_public_repositories: Option<bool>,
}

/// `GET …/runs/{id}/jobs`
#[derive(Debug, Deserialize)]
pub(super) struct JobsPage {
    #[serde(default)]
    pub jobs: Vec<JobModel>,
}

/// A job.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobModel {
    pub id: u64,
    #[serde(default)]
    pub run_id: Option<u64>,
    #[serde(default)]
    pub run_attempt: u32,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub conclusion: Option<String>,
    #[serde(default)]
    pub labels: Option<Vec<String>>,
    #[serde(default)]
    pub runner_name: Option<String>,
    #[serde(default)]
    pub created_at: Timestamp,
}

impl JobModel {
    /// As a job of this repository; `run` is the run it belongs to, where that is at hand.
    pub fn of(self, repository: &str, run: Option<&Run>) -> Job {
        let job = self;
        Job {
            id: job.id,
            attempt: job.run_attempt,
            run_id: job.run_id.or(run.map(|run| run.id)).unwrap_or_default(),
            repository: repository.to_owned(),
            event: run.and_then(|run| run.event.clone()),
            from_fork: run.and_then(Run::is_from_fork),
            public: run.and_then(Run::public),
            name: job.name.unwrap_or_default(),
            status: match job.status.as_deref() {
                Some("queued") => JobStatus::Queued,
                Some("in_progress") => JobStatus::InProgress,
                Some("completed") => JobStatus::Completed,
                _ => JobStatus::NotReady,
            },
            conclusion: job.conclusion,
            labels: job.labels.unwrap_or_default(),
            // Cancelled before pickup shows "" (docs/github.md#jobs-of-a-run).
            runner_name: job.runner_name.filter(|name| !name.is_empty()),
            // Names are unique to an attempt, and what other sources tell a runner by.
            runner_id: None,
            handle: None,
            created_at: job.created_at.0,
        }
    }
}

/// `GET …/actions/runners`
#[derive(Debug, Deserialize)]
pub(super) struct RunnersPage {
    #[serde(default)]
    pub runners: Vec<RunnerModel>,
}

/// A runner.
#[derive(Debug, Deserialize)]
pub(super) struct RunnerModel {
    pub id: u64,
    pub name: String,
    #[serde(default)]
    pub status: Option<String>,
    #[serde(default)]
    pub busy: Option<bool>,
}

impl From<RunnerModel> for Runner {
    fn from(runner: RunnerModel) -> Self {
        Self {
            id: runner.id,
            name: runner.name,
            online: runner.status.as_deref() == Some("online"),
            busy: runner.busy.unwrap_or(false),
        }
    }
}

/// `POST …/generate-jitconfig`
#[derive(Deserialize)]
pub(super) struct Jit {
    pub runner: JitRunner,
    pub encoded_jit_config: String,
}

/// The runner in it.
#[derive(Deserialize)]
pub(super) struct JitRunner {
    pub id: u64,
}

/// `GET …/actions/runners/deprecations/{version}` (REST API, "Get runner version end-of-life schedule").
#[derive(Debug, Deserialize)]
pub(super) struct DeprecationModel {
    #[serde(default)]
    registration_deprecates_at: Timestamp,
    #[serde(default)]
    runtime_deprecates_at: Timestamp,
}

impl From<DeprecationModel> for RunnerDeprecation {
    fn from(model: DeprecationModel) -> Self {
        Self { registration: model.registration_deprecates_at.0, runtime: model.runtime_deprecates_at.0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deprecation_date_with_an_offset_is_a_date() {
        let model: DeprecationModel = serde_json::from_value(json!({
            "registration_deprecates_at": "2026-11-29T10:00:00+02:00",
            "runtime_deprecates_at": null,
        }))
        .unwrap();
        let end = Some(Duration::from_secs(1_795_939_200));
        assert_eq!(RunnerDeprecation::from(model), RunnerDeprecation { registration: end, runtime: None });
    }
}
