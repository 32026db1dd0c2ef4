//! What a runner that speaks GitHub's protocol says and asks, beyond what one inside a simulation does.

use super::jobs::Job;
use super::sessions::{Refusal, RunnerResult, RunnerSession, SHUTDOWN};
use super::{Conclusion, JobId, JobOrder, JobStatus, Phase, RunnerId, RunnerWhat, World, ids};
use std::time::Duration;

/// A message for a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// There is a job to acquire, by this id.
    Job(String),
    /// Its job, of this id, is cancelled.
    Cancel(String),
    /// It is to read its configuration anew.
    RefreshConfig,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepUpdate {
    /// Id.
    pub(crate) id: String,
    /// Display name.
    pub(crate) name: String,
    /// How it ended, if it did.
    pub(crate) conclusion: Option<Conclusion>,
    /// Whether it began.
    pub(crate) began: bool,
}

/// How a job ended, in the words of its runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) result: RunnerResult,
    pub(crate) steps: Vec<StepUpdate>,
    /// What is said of failures.
    pub(crate) annotations: Vec<String>,
}

/// A runner that was sent the cancellation of its job has taken it in after so long, on however busy a machine.
const HEARD_AFTER: Duration = Duration::from_millis(500);

impl World {
    /// What runners and scale sets call a job.
    pub(crate) fn job_uuid(&mut self, id: JobId) -> String {
        let fresh = ids::uuid(&mut self.rng);
        self.jobs.get_mut(&id).map(|job| job.uuid.get_or_insert(fresh).clone()).unwrap_or_default()
    }

    /// What a listener that asks for a message is told, if there is something.
    ///
    /// # Errors
    /// If the session is over, or the server serves this runner no more.
    pub(crate) fn runner_message(&mut self, now: Duration, session: &RunnerSession) -> Result<Option<Told>, Refusal> {
        self.advance(now);
        let phase = self.runners.get(&session.runner).map(|runner| &runner.phase);
        if matches!(phase, Some(Phase::Lingering { .. })) {
            // It asks on while it says good-bye.
            return Ok(None);
        }
        let runner = self.alive(now, session)?;
        let (name, version) = (runner.name.clone(), runner.version.clone().unwrap_or_default());
        let Some(id) = runner.job() else {
            if self.faults.take_runner(&name, RunnerWhat::Deprovisioned) {
                return Err(Refusal::Deprovisioned);
            }
            if self.faults.take_runner(&name, RunnerWhat::RefreshConfig) {
                return Ok(Some(Told::RefreshConfig));
            }
            let Some(job) = self.runner_offer(now, session)? else { return Ok(None) };
            // It is told once of each offer.
            let offer = self.jobs.get(&job).and_then(|job| job.offer).map(|(_, until)| (job, until));
            let runner = self.alive(now, session)?;
            if runner.told == offer {
                return Ok(None);
            }
            runner.told = offer;
            return Ok(Some(Told::Job(self.job_uuid(job))));
        };
        let uuid = self.job_uuid(id);
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(None) };
        let has_begun = job.steps.iter().any(|step| step.started_at.is_some());
        if job.cancel_requested && job.cancel_told.is_none() {
            job.cancel_told = Some(now);
            return Ok(Some(Told::Cancel(uuid)));
        }
        if has_begun && self.faults.take_runner(&name, RunnerWhat::TooOldInJob) {
            return Err(Refusal::VersionTooOld(version));
        }
        Ok(None)
    }

    /// A listener heard that there is a job for it.
    ///
    /// # Errors
    /// If the session is over or the job is gone.
    pub(crate) fn runner_acknowledges(&mut self, now: Duration, session: &RunnerSession) -> Result<(), Refusal> {
        let name = self.alive(now, session)?.name.clone();
        match self.faults.take_runner(&name, RunnerWhat::AcknowledgeRefused) {
            true => Err(Refusal::JobGone),
            false => Ok(()),
        }
    }

    /// A listener takes the job of this id.
    ///
    /// # Errors
    /// If the session is over or the job is not for this runner.
    pub(crate) fn runner_takes(&mut self, now: Duration, runner: RunnerId, uuid: &str) -> Result<JobOrder, Refusal> {
        let session = self.session_of(runner)?;
        let job = self.jobs.values().find(|job| job.uuid.as_deref() == Some(uuid)).ok_or(Refusal::JobGone)?.id;
        let order = self.runner_acquire(now, &session, job)?;
        let step_ids = order.steps.iter().map(|_| ids::uuid(&mut self.rng)).collect();
        if let Some(job) = self.jobs.get_mut(&job) {
            job.step_ids = step_ids;
        }
        Ok(order)
    }

    /// What runners call the steps of a job.
    pub(crate) fn step_ids(&self, id: JobId) -> Vec<String> {
        self.jobs.get(&id).map(|job| job.step_ids.clone()).unwrap_or_default()
    }

    /// The session a runner has.
    pub(crate) fn session_of(&self, runner: RunnerId) -> Result<RunnerSession, Refusal> {
        let link = self.runners.get(&runner).and_then(|runner| runner.link()).ok_or(Refusal::NotFound)?;
        Ok(RunnerSession { id: link.session.clone(), runner })
    }

    /// The job, if it is still this runner's.
    fn held_job(&mut self, now: Duration, runner: RunnerId, id: JobId) -> Result<&mut Job, Refusal> {
        self.advance(now);
        if let Some(seen) = self.runners.get_mut(&runner).and_then(|runner| runner.link_mut()?.seen_at.as_mut()) {
            *seen = now;
        }
        let is_held = |job: &&mut Job| {
            job.status == JobStatus::InProgress && job.taken_by.as_ref().is_some_and(|by| by.id == runner)
        };
        self.jobs.get_mut(&id).filter(is_held).ok_or(Refusal::JobGone)
    }

    /// A runner renews its job. Gives until when it is good; none while the runner has to hear first that the job is
    /// cancelled.
    ///
    /// # Errors
    /// If the job is not this runner's any more.
    pub(crate) fn runner_renews(
        &mut self,
        now: Duration,
        runner: RunnerId,
        id: JobId,
    ) -> Result<Option<Duration>, Refusal> {
        let job = self.held_job(now, runner, id)?;
        let name = job.taken_by.as_ref().map(|by| by.name.clone()).unwrap_or_default();
        let (is_renewed, has_begun) = (job.renewed, job.started_at.is_some());
        let has_to_hear = job.cancel_requested && job.cancel_told.is_none_or(|at| now < at + HEARD_AFTER);
        if !is_renewed {
            if has_to_hear {
                return Ok(None);
            }
            if self.faults.take_runner(&name, RunnerWhat::RenewalFails) {
                return Err(Refusal::JobGone);
            }
        } else if has_begun {
            if self.faults.take_runner(&name, RunnerWhat::RenewalBroken) {
                return Err(Refusal::Broken);
            }
            if self.faults.take_runner(&name, RunnerWhat::JobForgotten) {
                let note = "The job was lost.".to_owned();
                self.finish_job(id, now, Conclusion::Failure, Some(note));
                return Err(Refusal::JobGone);
            }
        }
        self.held_job(now, runner, id)?.renewed = true;
        Ok(Some(now + self.config.job_lease))
    }

    /// What became of steps.
    ///
    /// # Errors
    /// If the job is not this runner's any more.
    pub(crate) fn runner_steps(
        &mut self,
        now: Duration,
        runner: RunnerId,
        id: JobId,
        updates: &[StepUpdate],
    ) -> Result<(), Refusal> {
        let job = self.held_job(now, runner, id)?;
        for update in updates {
            job.logs.name(&update.id, &update.name);
            let own = job.step_ids.iter().position(|own| own.eq_ignore_ascii_case(&update.id));
            let Some(step) = own.and_then(|at| job.steps.get_mut(at)) else { continue };
            if update.began {
                job.started_at.get_or_insert(now);
                step.started_at.get_or_insert(now);
            }
            if update.conclusion.is_some() {
                step.completed_at.get_or_insert(now);
                step.conclusion = update.conclusion;
            }
        }
        Ok(())
    }

    /// The log of a step is this, or goes on so. One that comes after the job's end counts as well.
    pub(crate) fn runner_log(&mut self, id: JobId, step: &str, bytes: &[u8], goes_on: bool) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        match goes_on {
            true => job.logs.append(step, bytes),
            false => job.logs.set(step, bytes),
        }
    }

    /// A runner says how its job ended.
    ///
    /// # Errors
    /// If the job is not this runner's any more.
    pub(crate) fn runner_completes(
        &mut self,
        now: Duration,
        runner: RunnerId,
        id: JobId,
        completion: &Completion,
    ) -> Result<(), Refusal> {
        self.runner_steps(now, runner, id, &completion.steps)?;
        let exit_code = completion.annotations.iter().find_map(|text| {
            text.strip_prefix("Process completed with exit code ")?.strip_suffix('.')?.parse::<i32>().ok()
        });
        let note = completion.annotations.iter().find(|text| text.starts_with(SHUTDOWN_WORDS)).map(|_| SHUTDOWN);
        self.complete_job(now, id, completion.result, exit_code, note.map(ToOwned::to_owned));
        Ok(())
    }
}

/// How the word on a shutdown begins in every version.
const SHUTDOWN_WORDS: &str = "The runner has received a shutdown signal";
