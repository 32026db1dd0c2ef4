//! What a connected runner does: connect, get a job, run it, go away. Simulations call these methods; runners reach
//! them over HTTP (`served.rs`).

use super::jobs::{Due, TakenBy};
use super::runners::Link;
use super::{
    Conclusion, Container, JobId, JobStatus, Phase, Picking, RunId, Runner, RunnerId, RunnerWhat, Step, World, ids,
};
use crate::jit::JitConfig;
use rand::Rng as _;
use std::{collections::BTreeMap, time::Duration};
use thiserror::Error;

/// A runner's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerSession {
    /// Names the session in all further calls.
    pub id: String,
    /// The runner.
    pub runner: RunnerId,
}

/// Why the server does not want a runner.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The registration is not there (any more).
    #[error("invalid_client")]
    NoRegistration,
    /// It was there when the session began, and is deleted.
    #[error("the runner record is deleted")]
    NotFound,
    /// Somebody else is connected with this registration.
    #[error("a session for this runner already exists")]
    SessionConflict,
    /// It may not have a session.
    #[error("Error: Forbidden")]
    Forbidden,
    /// Its clock is off.
    #[error("The assertion is not valid at this time. Current server time is 2026-11-01T10:00:00.0000000Z.")]
    ClockSkew,
    /// Too old, which it is told when it asks for a message.
    #[error("Error: Forbidden Runner version v{0} is deprecated and cannot receive messages.")]
    VersionTooOld(String),
    /// There is no such session (any more), which it is told when it asks for a message.
    #[error("the session is not valid")]
    SessionInvalid,
    /// Its service is over.
    #[error("the hosted runner is deprovisioned")]
    Deprovisioned,
    /// An injected fault: it must not go on, and not end either.
    #[error("never gets as far as listening")]
    NeverListening,
    /// An injected fault: the server is broken.
    #[error("the server is broken")]
    Broken,
    /// The job is not (any more) for this runner.
    #[error("the job is gone")]
    JobGone,
    /// The configuration is damaged.
    #[error("{0}")]
    BadConfig(String),
}

/// How a runner says its job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(ascii_case_insensitive)]
#[allow(missing_docs, reason = "the names are the runner's own")]
pub enum RunnerResult {
    Succeeded,
    SucceededWithIssues,
    Failed,
    Canceled,
    Skipped,
    Abandoned,
}

impl RunnerResult {
    pub(crate) fn conclusion(self) -> Conclusion {
        match self {
            Self::Succeeded | Self::SucceededWithIssues => Conclusion::Success,
            Self::Failed | Self::Abandoned => Conclusion::Failure,
            Self::Canceled => Conclusion::Cancelled,
            Self::Skipped => Conclusion::Skipped,
        }
    }
}

/// What a runner learns when it gives a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// All is well.
    GoOn,
    /// The job is cancelled: stop it and report.
    Cancel,
    /// An injected fault: die now, without a word.
    Die,
}

/// A job handed to a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the `github` context value of that name")]
pub struct JobOrder {
    pub job_id: JobId,
    pub run_id: RunId,
    pub run_attempt: u32,
    pub run_number: u64,
    pub repository: String,
    pub workflow: String,
    pub event: String,
    /// What the event brought along, as far as anybody asks.
    pub payload: serde_json::Value,
    pub branch: String,
    pub sha: String,
    pub name: String,
    pub steps: Vec<Step>,
    pub container: Option<Container>,
    pub services: BTreeMap<String, Container>,
    pub server_url: String,
}

impl World {
    /// A runner starts with this blob, as a real one would at some current version.
    ///
    /// # Errors
    /// If the server does not want it.
    pub fn runner_connect(&mut self, now: Duration, blob: &str) -> Result<RunnerSession, Refusal> {
        let config = JitConfig::decode(blob).map_err(|error| Refusal::BadConfig(error.to_string()))?;
        self.advance(now);
        let runner = self.admit_runner(&config.credentials.data.client_id)?;
        self.open_session(now, runner, crate::runner_service::CURRENT_VERSION, false)
    }

    /// The runner of a client id, which may have a token.
    pub(crate) fn admit_runner(&mut self, client_id: &str) -> Result<RunnerId, Refusal> {
        let runner = self
            .runners
            .values()
            .find(|runner| runner.client_id == client_id && !runner.is_stranger)
            .filter(|runner| !matches!(runner.phase, Phase::Lingering { .. }))
            .ok_or(Refusal::NoRegistration)?;
        let (id, name) = (runner.id, runner.name.clone());
        if self.faults.take_runner(&name, RunnerWhat::RegistrationGone) {
            self.remove_runner(id);
            return Err(Refusal::NoRegistration);
        }
        match self.faults.take_runner(&name, RunnerWhat::ClockSkew) {
            true => Err(Refusal::ClockSkew),
            false => Ok(id),
        }
    }

    /// `watched` runners have to give signs of life.
    pub(crate) fn open_session(
        &mut self,
        now: Duration,
        id: RunnerId,
        version: &str,
        watched: bool,
    ) -> Result<RunnerSession, Refusal> {
        self.advance(now);
        let runner = self.runners.get(&id).ok_or(Refusal::NoRegistration)?;
        let name = runner.name.clone();
        let taken = match runner.phase {
            Phase::Lingering { .. } => return Err(Refusal::NoRegistration),
            Phase::Idle(_) | Phase::Busy { .. } => self.is_online(runner),
            Phase::Minted | Phase::Offline { .. } => false,
        };
        if self.faults.take_runner(&name, RunnerWhat::NeverListening) {
            return Err(Refusal::NeverListening);
        }
        if self.faults.take_runner(&name, RunnerWhat::SessionForbidden) {
            return Err(Refusal::Forbidden);
        }
        if self.faults.take_runner(&name, RunnerWhat::SessionBroken) {
            return Err(Refusal::Broken);
        }
        if self.faults.take_runner(&name, RunnerWhat::SessionConflict) || taken {
            return Err(Refusal::SessionConflict);
        }
        let doomed = self.faults.take_runner(&name, RunnerWhat::VanishMidJob);
        let deaf = self.faults.take_runner(&name, RunnerWhat::GivenNothing);
        let session = ids::uuid(&mut self.rng);
        let link = Link { session: session.clone(), lost_at: None, seen_at: watched.then_some(now) };
        let runner = self.runners.get_mut(&id).ok_or(Refusal::NoRegistration)?;
        if matches!(runner.phase, Phase::Busy { .. }) {
            // Its job was started by a process that is gone; a new one cannot carry it on.
            return Err(Refusal::SessionConflict);
        }
        runner.version = Some(version.to_owned());
        runner.connected_at.get_or_insert(now);
        (runner.doomed, runner.deaf, runner.cut_off) = (doomed, deaf, false);
        runner.phase = Phase::Idle(link);
        Ok(RunnerSession { id: session, runner: id })
    }

    /// The runner of a session that is alive; notes the sign of life.
    pub(super) fn alive(&mut self, now: Duration, session: &RunnerSession) -> Result<&mut Runner, Refusal> {
        let runner = self.runners.get_mut(&session.runner).ok_or(Refusal::NotFound)?;
        if runner.cut_off {
            return Err(Refusal::Broken);
        }
        let link = runner
            .link_mut()
            .filter(|link| link.session == session.id && link.lost_at.is_none())
            .ok_or(Refusal::NotFound)?;
        if let Some(seen) = &mut link.seen_at {
            *seen = now;
        }
        Ok(runner)
    }

    /// A listening runner looks for a job, takes it and starts it, all in one.
    ///
    /// # Errors
    /// If the session is over.
    pub fn runner_poll(&mut self, now: Duration, session: &RunnerSession) -> Result<Option<JobId>, Refusal> {
        let Some(job) = self.runner_offer(now, session)? else {
            return Ok(None);
        };
        self.runner_acquire(now, session, job)?;
        self.runner_started(now, session)?;
        Ok(Some(job))
    }

    /// A listening runner looks for a job. What it is offered is kept for it for a minute.
    ///
    /// # Errors
    /// If the session is over, or the server serves this runner no more.
    pub fn runner_offer(&mut self, now: Duration, session: &RunnerSession) -> Result<Option<JobId>, Refusal> {
        self.advance(now);
        let runner = self.alive(now, session)?;
        if runner.job().is_some() {
            return Ok(None);
        }
        let (id, name) = (runner.id, runner.name.clone());
        let is_deaf = runner.deaf;
        let version = runner.version.clone().unwrap_or_default();
        if self.faults.take_runner(&name, RunnerWhat::CutOff) {
            let runner = self.alive(now, session)?;
            runner.cut_off = true;
            if let Some(link) = runner.link_mut() {
                link.lost_at = Some(now);
            }
            return Err(Refusal::Broken);
        }
        if self.faults.take_runner(&name, RunnerWhat::VersionTooOld) || self.is_too_old(&version) {
            return Err(Refusal::VersionTooOld(version));
        }
        if self.faults.take_runner(&name, RunnerWhat::SessionInvalid) {
            return Err(Refusal::SessionInvalid);
        }
        if self.faults.take_runner(&name, RunnerWhat::RegistrationLost) {
            self.remove_runner(id);
            return Err(Refusal::NotFound);
        }
        if is_deaf || self.faults.take_runner(&name, RunnerWhat::GivenNothing) {
            return Ok(None);
        }
        if let Some(job) = self.waiting_for(id).first() {
            return Ok(Some(*job));
        }
        let mut jobs = self.jobs_for(id);
        if !jobs.is_empty() && self.faults.take_runner(&name, RunnerWhat::StealJob) {
            self.steal(now, jobs.remove(0));
            return Ok(None);
        }
        let job = match self.config.picking {
            Picking::Oldest => jobs.first().copied(),
            Picking::Random if jobs.is_empty() => None,
            Picking::Random => Some(jobs[self.rng.random_range(0..jobs.len())]),
        };
        if let Some(job) = job.and_then(|job| self.jobs.get_mut(&job)) {
            job.offer = Some((id, now + self.config.offer_limit));
            job.offered_at.get_or_insert(now);
        }
        Ok(job)
    }

    /// Jobs already offered to a runner.
    fn waiting_for(&self, runner: RunnerId) -> Vec<JobId> {
        self.open_jobs
            .iter()
            .filter(|id| {
                self.jobs
                    .get(id)
                    .is_some_and(|job| job.status == JobStatus::Queued && job.offer.is_some_and(|(to, _)| to == runner))
            })
            .copied()
            .collect()
    }

    /// Jobs a runner could take, the one that has waited longest first.
    fn jobs_for(&self, runner: RunnerId) -> Vec<JobId> {
        let Some(runner) = self.runners.get(&runner) else {
            return Vec::new();
        };
        let group = self.runner_group(&runner.scope, runner.group_id).map(|group| group.name);
        let mut jobs: Vec<_> = self
            .open_jobs
            .iter()
            .filter_map(|id| self.jobs.get(id))
            .filter(|job| {
                job.status == JobStatus::Queued
                    && job.offer.is_none()
                    && job.not_for.is_none_or(|(not, until)| not != runner.id || until <= self.now)
                    && job.assigned_set() == runner.scale_set
                    && self.serves(&runner.scope, runner.group_id, job.repo)
                    && job.fits(&runner.labels, group.as_deref())
            })
            .map(|job| (job.queued_at, job.id))
            .collect();
        jobs.sort_unstable();
        jobs.into_iter().map(|(_, id)| id).collect()
    }

    /// A runner takes the job it was offered.
    ///
    /// # Errors
    /// If the session is over or the job is not for this runner any more.
    pub fn runner_acquire(&mut self, now: Duration, session: &RunnerSession, job: JobId) -> Result<JobOrder, Refusal> {
        self.advance(now);
        let runner = self.alive(now, session)?;
        let (runner, name) = (runner.id, runner.name.clone());
        let offered = self
            .jobs
            .get(&job)
            .is_some_and(|job| job.status == JobStatus::Queued && job.offer.is_some_and(|(to, _)| to == runner));
        if !offered {
            return Err(Refusal::JobGone);
        }
        let is_lost = self.faults.take_runner(&name, RunnerWhat::AssignmentLost);
        if is_lost || self.faults.take_runner(&name, RunnerWhat::AcquireRefused) {
            let until = now + self.config.offer_limit;
            if let Some(job) = self.jobs.get_mut(&job) {
                job.offer = None;
                job.not_for = Some((runner, until));
            }
            if is_lost {
                self.alive(now, session)?.deaf = true;
            }
            return Err(Refusal::JobGone);
        }
        self.assign(now, runner, job);
        if self.faults.take_runner(&name, RunnerWhat::CancelledAtOnce)
            && let Some(job) = self.jobs.get_mut(&job)
        {
            job.cancel_requested = true;
        }
        self.order(job).ok_or(Refusal::JobGone)
    }

    pub(super) fn assign(&mut self, now: Duration, runner: RunnerId, job: JobId) {
        let Some(runner) = self.runners.get_mut(&runner) else {
            return;
        };
        let Some(link) = runner.link().cloned() else {
            return;
        };
        runner.phase = Phase::Busy { link, job };
        let taken_by = TakenBy { id: runner.id, name: runner.name.clone(), group_id: runner.group_id };
        if let Some(job) = self.jobs.get_mut(&job) {
            job.status = JobStatus::InProgress;
            job.offer = None;
            job.acquired_at = Some(now);
            job.taken_by = Some(taken_by);
            let (id, run) = (job.id, job.run);
            self.tell_started(id);
            self.settle_run(run, now);
            self.tell_hooks(id, "in_progress");
        }
    }

    fn order(&self, id: JobId) -> Option<JobOrder> {
        let job = self.jobs.get(&id)?;
        let run = self.runs.get(&job.run)?;
        let private = self.repos.get(&job.repo)?.private;
        Some(JobOrder {
            job_id: id,
            run_id: job.run,
            run_attempt: job.attempt,
            run_number: run.number,
            repository: self.repo_name(job.repo),
            workflow: run.spec.workflow.clone(),
            event: run.spec.event.clone(),
            payload: run.spec.payload(job.repo, private),
            branch: run.spec.branch.clone(),
            sha: run.head_sha.clone(),
            name: job.spec.name.clone(),
            steps: job.spec.steps.clone(),
            container: job.spec.container.clone(),
            services: job.spec.services.clone(),
            server_url: self.config.base_url.trim_end_matches('/').to_owned(),
        })
    }

    /// The job of a session.
    fn own_job(&mut self, now: Duration, session: &RunnerSession) -> Result<&mut super::Job, Refusal> {
        let job = self.alive(now, session)?.job().ok_or(Refusal::JobGone)?;
        self.jobs.get_mut(&job).ok_or(Refusal::JobGone)
    }

    /// The first step of the job begins.
    ///
    /// # Errors
    /// If the session is over or has no job.
    pub fn runner_started(&mut self, now: Duration, session: &RunnerSession) -> Result<(), Refusal> {
        self.own_job(now, session)?.started_at.get_or_insert(now);
        Ok(())
    }

    /// A step begins, or ends with an exit code.
    ///
    /// # Errors
    /// If the session is over or has no job.
    pub fn runner_step(
        &mut self,
        now: Duration,
        session: &RunnerSession,
        index: usize,
        exit_code: Option<i32>,
    ) -> Result<(), Refusal> {
        let job = self.own_job(now, session)?;
        job.started_at.get_or_insert(now);
        let Some(step) = job.steps.get_mut(index) else {
            return Err(Refusal::JobGone);
        };
        step.started_at.get_or_insert(now);
        if let Some(code) = exit_code {
            step.completed_at = Some(now);
            step.exit_code = Some(code);
            step.conclusion = Some(match code {
                0 => Conclusion::Success,
                _ => Conclusion::Failure,
            });
        }
        Ok(())
    }

    /// The job printed something.
    ///
    /// # Errors
    /// If the session is over or has no job.
    pub fn runner_output(&mut self, now: Duration, session: &RunnerSession, text: &str) -> Result<(), Refusal> {
        self.own_job(now, session)?.logs.append("", text.as_bytes());
        Ok(())
    }

    /// A sign of life during the job. The first is given before anything is done for it.
    ///
    /// # Errors
    /// If the session is over or has no job.
    pub fn runner_beat(&mut self, now: Duration, session: &RunnerSession) -> Result<Beat, Refusal> {
        self.advance(now);
        let runner = self.alive(now, session)?;
        let (doomed, name) = (runner.doomed, runner.name.clone());
        let version = runner.version.clone().unwrap_or_default();
        let job = self.own_job(now, session)?;
        let (is_cancelled, is_started) = (job.cancel_requested, job.started_at.is_some());
        if !is_started && self.faults.take_runner(&name, RunnerWhat::RenewalFails) {
            return Err(Refusal::JobGone);
        }
        if is_started && self.faults.take_runner(&name, RunnerWhat::TooOldInJob) {
            return Err(Refusal::VersionTooOld(version));
        }
        Ok(match (is_cancelled, doomed && is_started) {
            (_, true) => Beat::Die,
            (true, _) => Beat::Cancel,
            (false, false) => Beat::GoOn,
        })
    }

    /// The job ended.
    ///
    /// # Errors
    /// If the session is over or has no job.
    pub fn runner_complete(
        &mut self,
        now: Duration,
        session: &RunnerSession,
        result: RunnerResult,
    ) -> Result<(), Refusal> {
        self.runner_complete_with(now, session, result, None, None)
    }

    /// The job ended, with the exit code of its failed step and a reason.
    ///
    /// # Errors
    /// If the session is over or has no job.
    pub fn runner_complete_with(
        &mut self,
        now: Duration,
        session: &RunnerSession,
        result: RunnerResult,
        exit_code: Option<i32>,
        note: Option<String>,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let id = self.own_job(now, session)?.id;
        self.complete_job(now, id, result, exit_code, note);
        Ok(())
    }

    /// A job that its runner had ended so.
    pub(super) fn complete_job(
        &mut self,
        now: Duration,
        id: JobId,
        result: RunnerResult,
        exit_code: Option<i32>,
        note: Option<String>,
    ) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.exit_code = exit_code.or(match result {
                RunnerResult::Succeeded | RunnerResult::SucceededWithIssues => Some(0),
                _ => None,
            });
        }
        self.finish_job(id, now, result.conclusion(), note);
    }

    /// The runner is told to stop and does so in an orderly way. An idle one just leaves; a job fails some seconds
    /// later.
    ///
    /// # Errors
    /// If the session is over.
    pub fn runner_stop(&mut self, now: Duration, session: &RunnerSession) -> Result<(), Refusal> {
        self.advance(now);
        let runner = self.alive(now, session)?;
        let id = runner.id;
        let Some(job) = runner.job() else {
            runner.phase = Phase::Offline { since: now };
            self.withdraw_offers(id);
            return Ok(());
        };
        let at = now + self.between(self.config.graceful_stop);
        // One that never began is waited for, unless somebody cancelled it.
        let ends = |job: &&mut super::Job| job.started_at.is_some() || job.cancel_requested;
        if let Some(job) = self.jobs.get_mut(&job).filter(ends) {
            job.due = Some(Due {
                at,
                conclusion: match job.cancel_requested {
                    true => Conclusion::Cancelled,
                    false => Conclusion::Failure,
                },
                note: SHUTDOWN.to_owned(),
            });
        }
        if let Some(link) = self.runners.get_mut(&id).and_then(Runner::link_mut) {
            link.lost_at = Some(now);
        }
        Ok(())
    }

    /// The runner is killed: nobody says anything any more.
    pub fn runner_vanish(&mut self, now: Duration, session: &RunnerSession) {
        self.advance(now);
        let Ok(runner) = self.alive(now, session) else {
            return;
        };
        let id = runner.id;
        if runner.job().is_some() {
            if let Some(link) = runner.link_mut() {
                link.lost_at = Some(now);
            }
        } else {
            runner.phase = Phase::Offline { since: now };
            self.withdraw_offers(id);
        }
    }

    pub(super) fn withdraw_offers(&mut self, runner: RunnerId) {
        for job in self.waiting_for(runner) {
            if let Some(job) = self.jobs.get_mut(&job) {
                job.offer = None;
            }
        }
    }
}

/// What a job says whose runner was stopped under it.
pub const SHUTDOWN: &str = "The runner has received a shutdown signal. This can happen when the runner service is \
                            stopped, or a manually started runner is canceled.";
