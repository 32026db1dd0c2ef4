//! Jobs: what was asked for, how far they are, and who ran them.

use super::logs::Logs;
use super::scale_sets::Claim;
use super::{JobId, RepoId, RunId, RunnerId, ScaleSetId, World, WorldError};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use strum::{IntoStaticStr, VariantArray};

/// A job to put into a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Display name.
    pub name: String,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// `runs-on: {group: …}`, with labels or without. REST shows it once a runner has the job.
    #[serde(default)]
    pub group: Option<String>,
    /// What it does.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// `container`: what its steps run in, if not on the runner itself.
    #[serde(default)]
    pub container: Option<Container>,
    /// `services`, by their names.
    #[serde(default)]
    pub services: BTreeMap<String, Container>,
    /// Appears so much later, as a job does that waits for another one.
    #[serde(default)]
    pub delay_ms: u64,
    /// What holds it back once it is there.
    #[serde(default)]
    pub gate: Option<Gate>,
}

impl JobSpec {
    /// A job with these labels and one step per script.
    #[must_use]
    pub fn new(name: &str, labels: &[&str], scripts: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            steps: scripts.iter().map(|&script| Step::run(script)).collect(),
            ..Self::default()
        }
    }
}

/// One shell step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Display name.
    pub name: String,
    /// Script.
    pub run: String,
}

impl Step {
    /// A step named after the first line of its script.
    #[must_use]
    pub fn run(script: &str) -> Self {
        let first = script.lines().next().unwrap_or_default();
        Self { name: format!("Run {first}"), run: script.to_owned() }
    }
}

/// A container of a job, in the words of a workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are GitHub's own")]
pub struct Container {
    pub image: String,
    /// Further arguments of `docker create`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub options: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// What keeps a job from being queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// An environment with protection rules.
    Waiting,
    /// A concurrency group.
    Pending,
    /// Created and not looked at yet.
    Requested,
}

/// How far a job is. `Unborn` ones are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobStatus {
    /// Waits for another job; nobody sees it.
    Unborn,
    /// Created and not looked at yet.
    Requested,
    /// Held by a concurrency group.
    Pending,
    /// Held by an environment.
    Waiting,
    /// Wants a runner.
    Queued,
    /// A runner has it.
    InProgress,
    /// Over.
    Completed,
}

impl JobStatus {
    /// As GitHub writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a job or a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[allow(missing_docs, reason = "the names are GitHub's own")]
pub enum Conclusion {
    Success,
    Neutral,
    Skipped,
    Cancelled,
    TimedOut,
    Failure,
    ActionRequired,
}

impl Conclusion {
    /// As GitHub writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A step as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Display name.
    pub name: String,
    /// When it began.
    pub started_at: Option<Duration>,
    /// When it ended.
    pub completed_at: Option<Duration>,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Exit code of its shell.
    pub exit_code: Option<i32>,
}

/// Everything the simulator knows of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Id.
    pub id: JobId,
    /// Run it belongs to.
    pub run_id: RunId,
    /// Attempt of the run.
    pub attempt: u32,
    /// `owner/name`.
    pub repo: String,
    /// Display name.
    pub name: String,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// How far it is.
    pub status: JobStatus,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Who has or had it.
    pub runner_id: Option<RunnerId>,
    /// Name of that runner.
    pub runner_name: Option<String>,
    /// When it was created.
    pub created_at: Duration,
    /// When it began to want a runner.
    pub queued_at: Option<Duration>,
    /// When it was first offered to a runner.
    pub offered_at: Option<Duration>,
    /// When a runner took it.
    pub acquired_at: Option<Duration>,
    /// When its first step began.
    pub started_at: Option<Duration>,
    /// When it ended.
    pub completed_at: Option<Duration>,
    /// Its steps.
    pub steps: Vec<StepView>,
    /// What it printed.
    pub output: String,
    /// The scale set that has it.
    #[serde(default)]
    pub scale_set: Option<ScaleSetId>,
    /// Exit code of the step that failed, else 0 once it ended on a runner.
    pub exit_code: Option<i32>,
    /// Why it ended, where GitHub would say more than the conclusion.
    pub note: Option<String>,
}

/// The runner a job shows.
#[derive(Debug, Clone)]
pub(crate) struct TakenBy {
    pub(crate) id: RunnerId,
    pub(crate) name: String,
    pub(crate) group_id: u64,
}

/// An ending that is already certain.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) at: Duration,
    pub(super) conclusion: Conclusion,
    pub(super) note: String,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) run: RunId,
    pub(crate) repo: RepoId,
    pub(crate) attempt: u32,
    pub(crate) spec: JobSpec,
    pub(crate) status: JobStatus,
    pub(crate) conclusion: Option<Conclusion>,
    pub(crate) created_at: Duration,
    /// When an unborn job appears.
    pub(super) appears_at: Duration,
    pub(crate) queued_at: Option<Duration>,
    pub(super) offered_at: Option<Duration>,
    pub(crate) acquired_at: Option<Duration>,
    pub(crate) started_at: Option<Duration>,
    pub(crate) completed_at: Option<Duration>,
    pub(crate) steps: Vec<StepView>,
    pub(crate) taken_by: Option<TakenBy>,
    /// To whom it is held out, and until when.
    pub(super) offer: Option<(RunnerId, Duration)>,
    pub(super) cancel_requested: bool,
    /// Its runner was told so.
    pub(super) cancel_told: Option<Duration>,
    /// Its runner renewed it at least once.
    pub(super) renewed: bool,
    /// A runner that could not have it, and until when it is not offered to that one.
    pub(super) not_for: Option<(RunnerId, Duration)>,
    pub(super) due: Option<Due>,
    pub(super) logs: Logs,
    /// What runners call its steps, once one took it.
    pub(super) step_ids: Vec<String>,
    pub(super) exit_code: Option<i32>,
    pub(super) note: Option<String>,
    /// Which scale set it is held out to or has it.
    pub(crate) claim: Option<Claim>,
    /// How often it was assigned to a scale set.
    pub(super) assignments: u32,
    /// The scale set that lost it without a word.
    pub(super) dropped_by: Option<ScaleSetId>,
    /// What scale sets and runners call it.
    pub(super) uuid: Option<String>,
}

impl Job {
    pub(super) fn new(id: JobId, run: RunId, repo: RepoId, attempt: u32, spec: JobSpec, now: Duration) -> Self {
        let steps = spec
            .steps
            .iter()
            .map(|step| StepView {
                name: step.name.clone(),
                started_at: None,
                completed_at: None,
                conclusion: None,
                exit_code: None,
            })
            .collect();
        Self {
            id,
            run,
            repo,
            attempt,
            status: JobStatus::Unborn,
            conclusion: None,
            created_at: now,
            appears_at: now + Duration::from_millis(spec.delay_ms),
            queued_at: None,
            offered_at: None,
            acquired_at: None,
            started_at: None,
            completed_at: None,
            steps,
            taken_by: None,
            offer: None,
            cancel_requested: false,
            cancel_told: None,
            renewed: false,
            not_for: None,
            due: None,
            logs: Logs::default(),
            step_ids: Vec::new(),
            exit_code: None,
            note: None,
            claim: None,
            assignments: 0,
            dropped_by: None,
            uuid: None,
            spec,
        }
    }

    pub(crate) fn is_listed(&self) -> bool {
        self.status != JobStatus::Unborn
    }

    pub(super) fn appear(&mut self, at: Duration) {
        self.created_at = at;
        self.status = match self.spec.gate {
            Some(Gate::Waiting) => JobStatus::Waiting,
            Some(Gate::Pending) => JobStatus::Pending,
            Some(Gate::Requested) => JobStatus::Requested,
            None => {
                self.queued_at = Some(at);
                JobStatus::Queued
            }
        };
    }

    /// GitHub compares labels without regard to case. A job without labels is any runner's of its group; without a group
    /// (an expression that did not resolve) nobody's.
    pub(super) fn fits(&self, offered: &[String], group: Option<&str>) -> bool {
        let in_group = match &self.spec.group {
            Some(wanted) => group.is_some_and(|group| group.eq_ignore_ascii_case(wanted)),
            None => !self.spec.labels.is_empty(),
        };
        in_group && self.spec.labels.iter().all(|wanted| offered.iter().any(|label| label.eq_ignore_ascii_case(wanted)))
    }
}

impl World {
    pub(crate) fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// A job that waits for an approval or its turn is queued now.
    ///
    /// # Errors
    /// If there is no such job or nothing holds it.
    pub fn release_job(&mut self, now: Duration, id: JobId) -> Result<(), WorldError> {
        self.advance(now);
        let job = self.jobs.get_mut(&id).ok_or(WorldError::NoJob(id))?;
        if !matches!(job.status, JobStatus::Requested | JobStatus::Pending | JobStatus::Waiting) {
            return Err(WorldError::Refused(format!("job {id} is {}, nothing holds it", job.status.as_str())));
        }
        job.status = JobStatus::Queued;
        job.queued_at = Some(now);
        let run = job.run;
        self.settle_run(run, now);
        self.tell_hooks(id, "queued");
        Ok(())
    }

    /// A queued job is held back again, as by a protection rule.
    ///
    /// # Errors
    /// If there is no such job or it is not queued.
    pub fn hold_job(&mut self, now: Duration, id: JobId, gate: Gate) -> Result<(), WorldError> {
        self.advance(now);
        let job = self.jobs.get_mut(&id).ok_or(WorldError::NoJob(id))?;
        if job.status != JobStatus::Queued {
            return Err(WorldError::Refused(format!("job {id} is {}, not queued", job.status.as_str())));
        }
        job.status = match gate {
            Gate::Waiting => JobStatus::Waiting,
            Gate::Pending => JobStatus::Pending,
            Gate::Requested => JobStatus::Requested,
        };
        job.queued_at = None;
        let run = job.run;
        self.take_from_set(id);
        self.settle_run(run, now);
        self.tell_appeared(id);
        Ok(())
    }

    /// Cancels one job: at once where no runner has it, else by telling the runner.
    ///
    /// # Errors
    /// If there is no such job or it is over.
    pub fn cancel_job(&mut self, now: Duration, id: JobId) -> Result<(), WorldError> {
        self.advance(now);
        let job = self.jobs.get_mut(&id).ok_or(WorldError::NoJob(id))?;
        match job.status {
            JobStatus::Completed => {
                return Err(WorldError::Refused(format!("job {id} is completed")));
            }
            JobStatus::InProgress => job.cancel_requested = true,
            _ => self.finish_job(id, now, Conclusion::Cancelled, Some("The run was canceled.".to_owned())),
        }
        Ok(())
    }

    /// Ends a job as if whoever had it said so, for jobs that are somebody else's.
    ///
    /// # Errors
    /// If there is no such job or it is over.
    pub fn end_job(&mut self, now: Duration, id: JobId, conclusion: Conclusion) -> Result<(), WorldError> {
        self.advance(now);
        if !self.open_jobs.contains(&id) {
            return Err(match self.jobs.contains_key(&id) {
                true => WorldError::Refused(format!("job {id} is completed")),
                false => WorldError::NoJob(id),
            });
        }
        self.finish_job(id, now, conclusion, None);
        Ok(())
    }

    /// Everything known of a job.
    ///
    /// # Errors
    /// If there is no such job.
    pub fn job_view(&self, id: JobId) -> Result<JobView, WorldError> {
        let job = self.jobs.get(&id).ok_or(WorldError::NoJob(id))?;
        Ok(self.view_of(job))
    }

    /// Everything known of all jobs, oldest first.
    #[must_use]
    pub fn job_views(&self) -> Vec<JobView> {
        self.jobs.values().map(|job| self.view_of(job)).collect()
    }

    fn view_of(&self, job: &Job) -> JobView {
        JobView {
            id: job.id,
            run_id: job.run,
            attempt: job.attempt,
            repo: self.repo_name(job.repo),
            name: job.spec.name.clone(),
            labels: job.spec.labels.clone(),
            status: job.status,
            conclusion: job.conclusion,
            runner_id: job.taken_by.as_ref().map(|by| by.id),
            runner_name: job.taken_by.as_ref().map(|by| by.name.clone()),
            created_at: job.created_at,
            queued_at: job.queued_at,
            offered_at: job.offered_at,
            acquired_at: job.acquired_at,
            started_at: job.started_at,
            completed_at: job.completed_at,
            steps: job.steps.clone(),
            output: job.logs.output(),
            scale_set: job.assigned_set(),
            exit_code: job.exit_code,
            note: job.note.clone(),
        }
    }

    /// Ends a job and lets go of its runner, whose record lingers for a while.
    pub(super) fn finish_job(&mut self, id: JobId, at: Duration, conclusion: Conclusion, note: Option<String>) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.status == JobStatus::Completed {
            return;
        }
        job.status = JobStatus::Completed;
        job.conclusion = Some(conclusion);
        job.completed_at = Some(at);
        job.offer = None;
        job.due = None;
        if note.is_some() {
            job.note = note;
        }
        for step in &mut job.steps {
            if step.completed_at.is_none() {
                step.completed_at = Some(at);
                step.conclusion = Some(match step.started_at {
                    Some(_) => conclusion,
                    None => Conclusion::Skipped,
                });
            }
        }
        let (run, runner) = (job.run, job.taken_by.as_ref().map(|by| by.id));
        self.open_jobs.remove(&id);
        self.tell_completed(id);
        if let Some(runner) = runner {
            self.retire_runner(runner, at);
        }
        self.settle_run(run, at);
        self.tell_hooks(id, "completed");
    }

    /// A job is there, or is held back: what webhooks say of it. Nothing is said of pending ones.
    pub(super) fn tell_appeared(&mut self, id: JobId) {
        match self.jobs.get(&id).map(|job| job.status) {
            Some(JobStatus::Queued) => self.tell_hooks(id, "queued"),
            Some(JobStatus::Waiting) => self.tell_hooks(id, "waiting"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_words_agree() {
        let agree = |word: &str, written: Result<serde_json::Value, _>| assert_eq!(written.ok(), Some(word.into()));
        JobStatus::VARIANTS.iter().for_each(|status| agree(status.as_str(), serde_json::to_value(status)));
        Conclusion::VARIANTS.iter().for_each(|end| agree(end.as_str(), serde_json::to_value(end)));
    }
}
