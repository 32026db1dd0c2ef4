//! One container as the controller sees it now: its record, and what was heard since.

use std::time::Duration;

use contract::{
    Ending,
    event::{GuestExit, JobResult, Trouble, What},
};
use forge::{Deletion, Finish, Forge, ForgeError, Job, SetKey};
use futures_util::future::AbortHandle;
use tracing::{info, warn};

use super::{job_watch::JobWatch, settling::Settling};
use crate::{
    cause::{Cause, Evidence},
    phase::Phase,
    plan::Use,
    ports::{UnitState, World},
    record::{Record, Stage},
    status::Finished,
    time::{Mono, Wall},
};

/// Longest text of a guest that is kept, in characters.
const TEXT_LIMIT: usize = 300;

/// A container, its registration, or what is left of either.
#[derive(Debug)]
pub struct Container {
    /// What is remembered.
    pub record: Record,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when.
    pub phase_since: Mono,
    /// When its unit was asked for: the boot deadline counts from here.
    pub asked_at: Mono,
    /// Round of the loop in which systemd was last known to have taken a request for its unit; a listing begun
    /// before says nothing about it.
    pub requested_in: u64,
    /// An effect of its own is under way (registering, starting, stopping, retiring, settling).
    pub in_flight: bool,
    /// Do nothing for it before this time (after a failed effect).
    pub not_before: Mono,
    /// The forge refused to delete its registration: it has a job, whatever the guest says.
    pub believed_busy: bool,
    /// Display name of the job its runner took, as the guest says.
    pub said_job: Option<String>,
    /// What the runner said of its job.
    pub result: Option<JobResult>,
    /// The last trouble the guest reported.
    pub trouble: Option<Trouble>,
    /// What the guest said of the last trouble before its runner took a job, shortened and without control characters;
    /// None if there was none, or it is over. After that it may be the job that speaks.
    pub trouble_message: Option<String>,
    /// Since when its runner, which listened, tries to reach the forge again.
    pub cut_off_since: Option<Mono>,
    /// Its class knows that it came up.
    pub came_up: bool,
    /// The most memory it used, in bytes, where the kernel counts it.
    pub memory_peak: Option<u64>,
    /// Processor time it used, in microseconds, where the kernel counts it.
    pub cpu_us: Option<u64>,
    /// systemd's word on how its unit ended.
    pub service_result: Option<String>,
    /// Exit status or signal of its main process.
    pub exit_status: Option<String>,
    /// Something on the host stopped its unit before its job ended.
    pub stopped: bool,
    /// What went wrong, in the words of who reported it.
    pub reason: Option<String>,
    /// Its job was ended at the forge in its place.
    pub finished_for: bool,
    /// What is known of whether its job goes on at the forge.
    pub job_watch: JobWatch,
    /// It failed as the last one did that the history has, and is not written down again.
    pub repeats: bool,
    /// Ends the following of its guest.
    pub feed: Option<AbortHandle>,
    /// How far what is left of it is cleared up.
    pub settling: Settling,
}

impl Container {
    /// A container as its record alone tells.
    pub fn new(record: Record, now: Mono) -> Self {
        // A job that was ended with its container has failed in the forge's word, which is not why.
        let by_operator = Cause::StoppedByOperator;
        let stopped =
            matches!(record.stage, Stage::Stopping { cause } | Stage::Settling { cause } if cause == by_operator);
        Self {
            phase: record.phase(),
            record,
            phase_since: now,
            asked_at: now,
            requested_in: 0,
            in_flight: false,
            not_before: Mono::START,
            believed_busy: false,
            said_job: None,
            result: None,
            trouble: None,
            trouble_message: None,
            cut_off_since: None,
            came_up: false,
            memory_peak: None,
            cpu_us: None,
            service_result: None,
            exit_status: None,
            stopped,
            reason: None,
            finished_for: false,
            job_watch: JobWatch::default(),
            repeats: false,
            feed: None,
            settling: Settling::BEFORE,
        }
    }

    /// Moves on, if that is a way forward; says so in the journal. False if nothing changed.
    pub fn advance(&mut self, to: Phase, now: Mono) -> bool {
        // Going back is no news: a signal came late, or the guest told its story again.
        let Ok(phase) = self.phase.to(to) else { return false };
        info!(
            container = %self.record.name,
            class = self.record.class,
            scope = self.record.scope,
            "{}: {} → {phase}",
            self.record.name,
            self.phase
        );
        self.phase = phase;
        self.phase_since = now;
        true
    }

    /// The unit is gone, or was never asked for.
    pub fn has_ended(&self) -> bool {
        matches!(self.record.stage, Stage::Settling { .. })
    }

    /// The only job that its runner takes, by repository and id, where it is bound to one.
    pub fn bound_to(&self) -> Option<(String, u64)> {
        self.record.handle.as_ref()?;
        Some((self.record.repository()?.to_owned(), self.record.job_id?))
    }

    /// The scale set of its class and scope.
    pub fn set_key(&self) -> SetKey {
        SetKey { class: self.record.class.clone(), scope: self.record.scope.clone() }
    }

    /// Its runner took a job.
    pub fn had_job(&self) -> bool {
        self.record.timeline.job_started_ms.is_some() || self.record.took.is_some() || self.believed_busy
    }

    /// Why the controller stopped it, or why it ended.
    pub fn cause(&self) -> Option<Cause> {
        match self.record.stage {
            Stage::Stopping { cause } | Stage::Settling { cause } => Some(cause),
            Stage::Minting | Stage::Started => None,
        }
    }

    /// What planning may count on.
    pub fn use_(&self) -> Use {
        let started = matches!(self.record.stage, Stage::Minting | Stage::Started);
        match self.phase {
            _ if self.had_job() => Use::Busy,
            // It failed to boot, which pauses its class once it has ended: no other before that.
            _ if matches!(self.record.stage, Stage::Stopping { cause } if cause.is_boot_failure()) => Use::Coming,
            _ if !started => Use::Ending,
            Phase::Idle => Use::Idle(self.phase_since),
            // Nobody stopped it: it, or its runner, may be failing, which only its end tells.
            Phase::Finishing if !self.stopped => Use::Coming,
            Phase::Requested | Phase::Preparing | Phase::Booting | Phase::Registering => Use::Coming,
            Phase::Running => Use::Busy,
            Phase::Finishing | Phase::Gone | Phase::Failed => Use::Ending,
        }
    }

    /// An ending of its name is its own, not an earlier container's. If the record is from the future, the clock was set
    /// back since, and what has begun wrote the last ending.
    pub fn owns(&self, ending: &Ending, now: Wall) -> bool {
        let timeline = &self.record.timeline;
        let made = timeline.recorded_ms.unwrap_or_default();
        ending.ended_at_ms >= made || made > now.as_millis() && timeline.active_ms.is_some()
    }

    /// Takes in what *teardown* wrote down.
    pub fn ended_with(&mut self, ending: &Ending) {
        self.record.timeline.teardown_us = Some(ending.teardown_us);
        self.memory_peak = ending.memory_peak;
        self.cpu_us = ending.cpu_us;
        self.service_result = Some(ending.service_result.clone());
        self.exit_status.clone_from(&ending.exit_status);
        let job_goes_on = self.had_job() && self.record.timeline.job_ended_ms.is_none();
        let exit = ending.exit_status.as_deref().and_then(|status| GuestExit::from_code(status.parse().ok()?));
        // Perhaps nobody here saw it stop. The status alone a job can forge. What was stopped because its job was over at
        // the forge was not stopped under its job.
        let was_over = self.cause() == Some(Cause::JobCancelled);
        self.stopped |= !was_over && ending.asked_to_stop && exit == Some(GuestExit::Stopped);
        self.stopped |= !was_over && ending.was_killed() && job_goes_on;
        // A guest's status goes with what it said. Without a word on the result, nobody here may have listened.
        let has_failed = self.result.is_some_and(|result| !result.is_success());
        let is_guests = match exit {
            None | Some(GuestExit::Stopped) => false,
            Some(GuestExit::Succeeded) => !has_failed,
            Some(_) => true,
        };
        if self.had_job() && ending.is_from_inside() && !is_guests && !self.stopped && !was_over {
            let status = ending.exit_status.as_deref().unwrap_or("none");
            self.reason =
                Some(format!("something inside ended the container under its job, with exit status {status}"));
        }
    }

    /// What is known of its end, and what the controller decided before.
    pub fn evidence<'a>(&self, decided: Option<Cause>, ending: Option<&'a Ending>) -> Evidence<'a> {
        Evidence {
            decided,
            ending,
            had_job: self.had_job(),
            conclusion: None,
            stopped: self.stopped,
            unheard: self.is_unheard(),
            result: self.result,
            job_ended: self.record.timeline.job_ended_ms.is_some(),
            trouble: self.trouble,
        }
    }

    /// The forge shows this job on its runner.
    pub fn is_on(&self, job: &Job) -> bool {
        let record = &self.record;
        match (job.runner_id, record.runner_id) {
            (Some(of), Some(own)) => of == own,
            // Where runners are bound to jobs, the job of one is known beforehand.
            (None, _) if record.handle.is_some() && self.had_job() => record.job_id == Some(job.id),
            _ => job.runner_name.as_deref() == Some(&record.runner_name),
        }
    }

    /// Removes its registration by id, or by name when the answer with the id was lost.
    pub fn deregister<'w, W: World>(
        &self,
        world: &'w W,
    ) -> impl Future<Output = Result<Deletion, ForgeError>> + use<'w, W> {
        let record = &self.record;
        let (scope, runner, id) = (record.scope.clone(), record.runner_name.clone(), record.runner_id);
        async move {
            let id = match id {
                Some(id) => id,
                None => match world.forge().find_runner(&scope, &runner).await? {
                    Some(found) => found.id,
                    None => return Ok(Deletion::AlreadyGone),
                },
            };
            world.forge().delete_runner(&scope, id).await
        }
    }

    /// How its job is ended at the forge, if it has not ended there.
    pub fn finish_as(&self) -> Finish {
        match self.cause() {
            Some(Cause::StoppedByOperator | Cause::JobCancelled) => Finish::Cancelled,
            _ => Finish::Failed,
        }
    }

    /// Why its job ended with it, for who reads the job's log.
    pub fn why_it_ended(&self) -> String {
        let cause = match self.cause() {
            Some(Cause::StoppedByOperator) => "somebody stopped it".to_owned(),
            cause => cause.unwrap_or(Cause::Unknown).to_string(),
        };
        let reason = self.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("the container ended before its job: {cause}{reason}")
    }

    /// All that is known of it, with the job its runner had. `elsewhere` = the forge says that the job it was booted for
    /// went to another runner.
    pub fn finished(&self, job: Option<&Job>, elsewhere: bool, wall_ms: u64) -> Finished {
        let record = &self.record;
        let mut timeline = record.timeline.clone();
        if let Some(created) = job.and_then(|job| job.created_at) {
            // The record's is that of the job it was booted for, which may have been another.
            timeline.queued_ms = u64::try_from(created.as_millis()).ok();
        }
        let (job_id, job_name) = match (job, &self.said_job) {
            (Some(job), _) => (Some(job.id), job.name.clone()),
            // It took a job that is not the one it was booted for, and that was over before a look saw it running.
            (None, said) if record.took.is_none() && (said.is_some() || elsewhere && self.had_job()) => {
                (None, said.clone().unwrap_or_default())
            }
            (None, _) => (record.took.or(record.job_id), record.job_name.clone()),
        };
        Finished {
            name: record.name.to_string(),
            class: record.class.clone(),
            repo: record.repository().unwrap_or(&record.scope).to_owned(),
            scope: record.scope.clone(),
            job_id,
            job_name,
            conclusion: job.and_then(|job| job.conclusion.clone()),
            cause: self.cause().unwrap_or(Cause::Unknown),
            reason: self.reason.clone(),
            runner_name: record.runner_name.clone(),
            subnet: record.subnet.to_string(),
            service_result: self.service_result.clone(),
            exit_status: self.exit_status.clone(),
            memory_peak: self.memory_peak,
            cpu_us: self.cpu_us,
            timeline,
            concluded_ms: wall_ms,
        }
    }

    /// How long it has been idle.
    pub fn idle_for(&self, now: Mono) -> Duration {
        if self.phase == Phase::Idle { now - self.phase_since } else { Duration::ZERO }
    }

    /// Its unit was active, and its guest was never heard.
    pub fn is_unheard(&self) -> bool {
        self.record.timeline.active_ms.is_some() && self.record.timeline.booted_ms.is_none()
    }

    /// Takes in a unit's state. The end of a unit is not handled here.
    pub fn unit_is(&mut self, state: UnitState, wall_ms: u64, now: Mono) -> bool {
        let phase = match state {
            UnitState::Activating => Phase::Preparing,
            UnitState::Active => {
                self.record.timeline.active_ms.get_or_insert(wall_ms);
                Phase::Booting
            }
            UnitState::Stopping => {
                // After a container that failed to boot, or whose runner ended, systemd clears up in this state as well.
                self.stopped |= matches!(self.phase, Phase::Idle | Phase::Running);
                Phase::Finishing
            }
            UnitState::Deactivating => Phase::Finishing,
            UnitState::Inactive | UnitState::Failed => return false,
        };
        self.advance(phase, now)
    }

    /// Takes in a guest's event; true if it took a job just now.
    pub fn guest_said(&mut self, what: &What, at_ms: u64, now: Mono) -> bool {
        let timeline = &mut self.record.timeline;
        match what {
            What::Booted => {
                timeline.booted_ms.get_or_insert(at_ms);
                self.advance(Phase::Booting, now);
            }
            What::NetworkReady => {
                timeline.network_ms.get_or_insert(at_ms);
            }
            What::RunnerStarted => {
                timeline.runner_started_ms.get_or_insert(at_ms);
                self.advance(Phase::Registering, now);
            }
            // Of the class more than of the container.
            What::RunnerVersion { .. } => {}
            What::Listening => {
                timeline.listening_ms.get_or_insert(at_ms);
                if self.trouble.is_some_and(Trouble::ends_with_listening) {
                    self.trouble_message = None;
                }
                self.cut_off_since = None;
                self.advance(Phase::Idle, now);
            }
            What::JobStarted { job, task } => {
                self.record.task = self.record.task.or(*task);
                let first = timeline.job_started_ms.is_none();
                timeline.job_started_ms.get_or_insert(at_ms);
                if first {
                    info!(container = %self.record.name, scope = self.record.scope, job, "{}: runner took job {job:?}", self.record.name);
                }
                self.said_job = Some(job.clone()).filter(|job| !job.is_empty());
                self.advance(Phase::Running, now);
                return first;
            }
            What::JobEnded { result } => {
                timeline.job_ended_ms.get_or_insert(at_ms);
                self.result = Some(*result);
                self.advance(Phase::Finishing, now);
            }
            What::Trouble { kind, message } => {
                let message: String = message.chars().filter(|c| !c.is_control()).take(TEXT_LIMIT).collect();
                warn!(container = %self.record.name, kind = ?kind, message, "{}: {message}", self.record.name);
                self.trouble = Some(*kind);
                if *kind == Trouble::ConnectError && self.phase == Phase::Idle {
                    self.cut_off_since.get_or_insert(now);
                }
                if !self.had_job() {
                    self.trouble_message = Some(message);
                }
            }
            What::RunnerExited { status } => {
                info!(container = %self.record.name, status, "{}: runner ended with {status}", self.record.name);
                self.advance(Phase::Finishing, now);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::Timeline;

    const NOW: Mono = Mono::after_start(Duration::from_secs(100));

    fn container() -> Container {
        let record = Record {
            name: "j0000001".parse().unwrap(),
            class: "default".into(),
            scope: "o/r".into(),
            set: false,
            subnet: "10.0.0.0/24".parse().unwrap(),
            job_id: Some(1),
            repository: None,
            job_name: "build".into(),
            took: None,
            handle: None,
            task: None,
            rerun: false,
            runner_name: "host.default.j0000001.00beef".into(),
            runner_id: Some(1),
            stage: Stage::Started,
            boot_id: "boot".into(),
            timeline: Timeline::default(),
        };
        Container::new(record, NOW)
    }

    /// What is kept of the guest's words after this story.
    fn kept(story: &[What]) -> Option<String> {
        let mut container = container();
        for what in story {
            container.guest_said(what, 5, NOW);
        }
        container.trouble_message
    }

    fn trouble(kind: Trouble, message: &str) -> What {
        What::Trouble { kind, message: message.into() }
    }

    fn took() -> What {
        What::JobStarted { job: "build".into(), task: None }
    }

    #[test]
    fn the_last_trouble_before_a_job_is_kept_in_its_own_words() {
        let lost = trouble(Trouble::ConnectError, "2026-11-21 07:54:01Z: Runner connect error: x");
        let refused = trouble(Trouble::VersionRefused, "too old");
        let failed = trouble(Trouble::RunnerFailed, "Failed to create session. Error: Forbidden");
        assert_eq!(kept(&[lost.clone(), failed]).as_deref(), Some("Failed to create session. Error: Forbidden"));
        assert_eq!(kept(&[What::Listening, refused.clone()]).as_deref(), Some("too old"));
        // Two streams, so either may be read first.
        assert_eq!(kept(&[refused, What::Listening]).as_deref(), Some("too old"));
        assert_eq!(kept(&[lost, What::Listening]), None, "what a runner got over explains no end of it");
    }

    #[test]
    fn after_a_job_was_taken_nothing_said_inside_speaks_for_the_container() {
        let forged = trouble(Trouble::RunnerFailed, "An error occurred: the operator is a fool");
        assert_eq!(kept(&[What::Listening, took(), forged.clone()]), None);
        let mut container = container();
        // The forge knows of its job, whatever the guest says.
        container.record.took = Some(7);
        container.guest_said(&forged, 5, NOW);
        assert_eq!(container.trouble_message, None);
    }

    #[test]
    fn what_is_kept_is_short_and_plain() {
        let hostile = format!("\u{1b}[2J\n{}", "ä".repeat(5000));
        let kept = kept(&[trouble(Trouble::SetupFailed, &hostile)]).unwrap();
        assert_eq!(kept.chars().count(), TEXT_LIMIT);
        assert!(kept.starts_with("[2Jä") && !kept.contains(char::is_control), "{kept:?}");
    }

    #[test]
    fn one_that_ends_by_itself_without_a_job_stands_for_the_next_until_it_is_known_why() {
        let ended = |story: &[What], stopped| {
            let mut container = container();
            for what in story {
                container.guest_said(what, 5, NOW);
            }
            container.unit_is(if stopped { UnitState::Stopping } else { UnitState::Deactivating }, 5, NOW);
            assert_eq!(container.phase, Phase::Finishing);
            container.use_()
        };
        let listened = [What::RunnerStarted, What::Listening];
        assert_eq!(ended(&listened[..1], false), Use::Coming);
        assert_eq!(ended(&listened, false), Use::Coming);
        assert_eq!(ended(&listened, true), Use::Ending, "somebody stopped it");
        assert_eq!(ended(&[What::Listening, took(), What::RunnerExited { status: 0 }], false), Use::Busy);
    }
}
