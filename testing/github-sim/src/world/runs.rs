//! Workflow runs: queueing, the status they derive from their jobs, cancelling and running again.

use super::jobs::Job;
use super::{Conclusion, JobId, JobSpec, JobStatus, RepoId, RunId, World, WorldError};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// A run to queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSpec {
    /// Name of the workflow.
    pub workflow: String,
    /// What triggered it.
    pub event: String,
    /// Branch.
    pub branch: String,
    /// Whether the code comes from somebody else's copy of the repository.
    pub from_fork: bool,
    /// Its jobs.
    pub jobs: Vec<JobSpec>,
}

impl Default for RunSpec {
    fn default() -> Self {
        Self {
            workflow: "ci".to_owned(),
            event: "push".to_owned(),
            branch: "main".to_owned(),
            from_fork: false,
            jobs: Vec::new(),
        }
    }
}

impl RunSpec {
    /// A push with these jobs.
    #[must_use]
    pub fn push(jobs: Vec<JobSpec>) -> Self {
        Self { jobs, ..Self::default() }
    }

    /// The payload of the event that triggered it in this repository.
    pub(crate) fn payload(&self, repo: RepoId, private: bool) -> Value {
        let mut payload = json!({ "repository": { "id": repo, "private": private, "fork": false } });
        if self.event.starts_with("pull_request") {
            let head = self.head_repo_id(repo);
            let head =
                json!({ "ref": self.branch, "repo": { "id": head, "private": private, "fork": self.from_fork } });
            payload["pull_request"] = json!({ "number": 1, "head": head });
        }
        payload
    }

    /// Id of the repository its commit lies in.
    pub(crate) fn head_repo_id(&self, repo: RepoId) -> u64 {
        if self.from_fork { repo.0 + 500_000_000 } else { repo.0 }
    }

    /// A pull request from somebody else's copy of the repository.
    #[must_use]
    pub fn pull_request_from_fork(jobs: Vec<JobSpec>) -> Self {
        Self { jobs, event: "pull_request".to_owned(), from_fork: true, ..Self::default() }
    }
}

/// What a run shows while its jobs differ; GitHub promises neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatusRule {
    /// `in_progress` as soon as one job began.
    Furthest,
    /// `queued` as long as one job waits.
    LeastFar,
}

/// What was queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The run.
    pub run_id: RunId,
    /// Its jobs, in the order of the request.
    pub job_ids: Vec<JobId>,
}

/// What is known of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// Id.
    pub id: RunId,
    /// `owner/name`.
    pub repo: String,
    /// How far it is.
    pub status: JobStatus,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Which attempt this is.
    pub attempt: u32,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) repo: RepoId,
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) spec: RunSpec,
    pub(crate) head_sha: String,
    pub(crate) status: JobStatus,
    pub(crate) conclusion: Option<Conclusion>,
    pub(crate) created_at: Duration,
    pub(crate) started_at: Duration,
    pub(crate) updated_at: Duration,
    /// Jobs of all attempts.
    pub(crate) jobs: Vec<JobId>,
}

/// Why cancelling or running again was refused, with GitHub's status and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlError {
    pub(crate) status: u16,
    pub(crate) message: &'static str,
}

impl World {
    /// Queues a run with its jobs.
    ///
    /// # Errors
    /// If there is no such repository.
    pub fn queue_run(&mut self, now: Duration, repo: &str, spec: RunSpec) -> Result<Queued, WorldError> {
        self.advance(now);
        let repo_id = self.repo_id(repo)?;
        let run_id = self.ids.run(&mut self.rng);
        let head_sha = format!(
            "{:016x}{:016x}{:08x}",
            self.rng.random::<u64>(),
            self.rng.random::<u64>(),
            self.rng.random::<u32>()
        );
        let number = self
            .repos
            .get_mut(&repo_id)
            .map(|repo| {
                repo.runs.push(run_id);
                if spec.event == "push" {
                    repo.settings.pushed_at = Some(now);
                }
                repo.runs.len()
            })
            .unwrap_or_default();
        let jobs = spec.jobs.clone();
        self.runs.insert(
            run_id,
            Run {
                id: run_id,
                repo: repo_id,
                number: number as u64,
                attempt: 1,
                spec,
                head_sha,
                status: JobStatus::Queued,
                conclusion: None,
                created_at: now,
                started_at: now,
                updated_at: now,
                jobs: Vec::new(),
            },
        );
        let job_ids = jobs.into_iter().map(|job| self.create_job(now, run_id, repo_id, 1, job)).collect();
        self.settle_run(run_id, now);
        Ok(Queued { run_id, job_ids })
    }

    /// Queues a run with one job.
    ///
    /// # Errors
    /// If there is no such repository.
    pub fn queue_job(&mut self, now: Duration, repo: &str, job: JobSpec) -> Result<(RunId, JobId), WorldError> {
        let queued = self.queue_run(now, repo, RunSpec::push(vec![job]))?;
        let job = queued.job_ids.first().ok_or_else(|| WorldError::Refused("the run has no job".to_owned()))?;
        Ok((queued.run_id, *job))
    }

    fn create_job(&mut self, now: Duration, run: RunId, repo: RepoId, attempt: u32, spec: JobSpec) -> JobId {
        let id = self.ids.job(&mut self.rng);
        let mut job = Job::new(id, run, repo, attempt, spec, now);
        if job.spec.delay_ms == 0 {
            job.appear(now);
        }
        self.jobs.insert(id, job);
        self.open_jobs.insert(id);
        if let Some(run) = self.runs.get_mut(&run) {
            run.jobs.push(id);
        }
        self.tell_appeared(id);
        id
    }

    /// One more job in a run that is there, as a matrix that grows.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn add_job(&mut self, now: Duration, run: RunId, job: JobSpec) -> Result<JobId, WorldError> {
        self.advance(now);
        let (repo, attempt) = self.runs.get(&run).map(|run| (run.repo, run.attempt)).ok_or(WorldError::NoRun(run))?;
        let id = self.create_job(now, run, repo, attempt, job);
        self.settle_run(run, now);
        Ok(id)
    }

    pub(crate) fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// What is known of a run.
    ///
    /// # Errors
    /// If there is no such run.
    pub fn run_view(&self, id: RunId) -> Result<RunView, WorldError> {
        let run = self.runs.get(&id).ok_or(WorldError::NoRun(id))?;
        Ok(RunView {
            id,
            repo: self.repo_name(run.repo),
            status: run.status,
            conclusion: run.conclusion,
            attempt: run.attempt,
        })
    }

    /// Derives a run's status from the jobs of its latest attempt.
    pub(super) fn settle_run(&mut self, id: RunId, at: Duration) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let latest = || run.jobs.iter().filter_map(|job| self.jobs.get(job)).filter(|job| job.attempt == run.attempt);
        let any = |status: JobStatus| latest().any(|job| job.status == status);
        let rule = self.config.run_status;
        let begun = any(JobStatus::InProgress) || any(JobStatus::Completed);
        let over = latest().count() > 0 && latest().all(|job| job.status == JobStatus::Completed);
        let status = if over {
            JobStatus::Completed
        } else if rule == RunStatusRule::LeastFar && any(JobStatus::Queued) {
            JobStatus::Queued
        } else if begun {
            JobStatus::InProgress
        } else if any(JobStatus::Queued) || any(JobStatus::Unborn) || latest().count() == 0 {
            JobStatus::Queued
        } else if any(JobStatus::Waiting) {
            JobStatus::Waiting
        } else if any(JobStatus::Pending) {
            JobStatus::Pending
        } else {
            JobStatus::Requested
        };
        // Failure outranks cancellation, which outranks success, which outranks all jobs being skipped.
        let conclusion = over.then(|| {
            let ended =
                |wanted: &[Conclusion]| latest().any(|job| job.conclusion.is_some_and(|end| wanted.contains(&end)));
            if ended(&[Conclusion::Failure, Conclusion::TimedOut]) {
                Conclusion::Failure
            } else if ended(&[Conclusion::Cancelled]) {
                Conclusion::Cancelled
            } else if ended(&[Conclusion::Success, Conclusion::Neutral]) {
                Conclusion::Success
            } else {
                Conclusion::Skipped
            }
        });
        let repo = run.repo;
        if let Some(run) = self.runs.get_mut(&id) {
            run.status = status;
            run.conclusion = conclusion;
            run.updated_at = at;
        }
        if let Some(repo) = self.repos.get_mut(&repo) {
            repo.revision += 1;
            if over {
                repo.open_runs.remove(&id);
            } else {
                repo.open_runs.insert(id);
            }
        }
    }

    fn jobs_of_latest_attempt(&self, run: &Run) -> Vec<JobId> {
        let is_latest = |id: &&JobId| self.jobs.get(id).is_some_and(|job| job.attempt == run.attempt);
        run.jobs.iter().filter(is_latest).copied().collect()
    }

    /// Cancels a run. With force, jobs whose runner does not answer end at once too.
    ///
    /// # Errors
    /// If there is no such run or it is over.
    pub fn cancel_run(&mut self, now: Duration, id: RunId, force: bool) -> Result<(), WorldError> {
        self.try_cancel(now, id, force).map_err(|error| refused(id, error))
    }

    pub(crate) fn try_cancel(&mut self, now: Duration, id: RunId, force: bool) -> Result<(), ControlError> {
        let run = self.runs.get(&id).ok_or(NO_SUCH_RUN)?;
        if run.status == JobStatus::Completed {
            return Err(ControlError { status: 409, message: "Cannot cancel a workflow run that is completed." });
        }
        for job in self.jobs_of_latest_attempt(run) {
            let has_runner = self.jobs.get(&job).is_some_and(|job| job.status == JobStatus::InProgress);
            if force && has_runner {
                let note = "The run was force-canceled.".to_owned();
                self.finish_job(job, now, Conclusion::Cancelled, Some(note));
            } else {
                // A job that is over stays as it ended.
                let _ = self.cancel_job(now, job);
            }
        }
        Ok(())
    }

    /// Runs all jobs again, or only those that did not succeed. New jobs get new ids.
    ///
    /// # Errors
    /// If there is no such run, it still runs, or nothing failed.
    pub fn rerun(&mut self, now: Duration, id: RunId, only_failed: bool) -> Result<Vec<JobId>, WorldError> {
        self.try_rerun(now, id, only_failed).map_err(|error| refused(id, error))
    }

    pub(crate) fn try_rerun(
        &mut self,
        now: Duration,
        id: RunId,
        only_failed: bool,
    ) -> Result<Vec<JobId>, ControlError> {
        let run = self.runs.get(&id).ok_or(NO_SUCH_RUN)?;
        let again: Vec<JobId> = self
            .jobs_of_latest_attempt(run)
            .into_iter()
            .filter(|job| {
                let ended = self.jobs.get(job).and_then(|job| job.conclusion);
                !only_failed || ended.is_some_and(|end| end != Conclusion::Success)
            })
            .collect();
        self.run_again(now, id, &again)
    }

    pub(crate) fn try_rerun_job(&mut self, now: Duration, id: JobId) -> Result<Vec<JobId>, ControlError> {
        let run = self.jobs.get(&id).map(|job| job.run).ok_or(NO_SUCH_RUN)?;
        self.run_again(now, run, &[id])
    }

    fn run_again(&mut self, now: Duration, id: RunId, jobs: &[JobId]) -> Result<Vec<JobId>, ControlError> {
        let run = self.runs.get_mut(&id).ok_or(NO_SUCH_RUN)?;
        if run.status != JobStatus::Completed {
            return Err(ControlError { status: 403, message: "This workflow is already running" });
        }
        if jobs.is_empty() {
            return Err(ControlError { status: 403, message: "This workflow run cannot be retried" });
        }
        run.attempt += 1;
        run.started_at = now;
        let (repo, attempt) = (run.repo, run.attempt);
        let specs: Vec<JobSpec> = jobs
            .iter()
            .filter_map(|job| self.jobs.get(job))
            // What held or delayed the first attempt was about that attempt.
            .map(|job| JobSpec { delay_ms: 0, gate: None, ..job.spec.clone() })
            .collect();
        let created = specs.into_iter().map(|spec| self.create_job(now, id, repo, attempt, spec)).collect();
        self.settle_run(id, now);
        Ok(created)
    }
}

const NO_SUCH_RUN: ControlError = ControlError { status: 404, message: "Not Found" };

fn refused(id: RunId, error: ControlError) -> WorldError {
    match error.status {
        404 => WorldError::NoRun(id),
        _ => WorldError::Refused(error.message.to_owned()),
    }
}
