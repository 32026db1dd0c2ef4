//! One container as the controller sees it now: its record, and what was heard since.

use std::{sync::Arc, time::Duration};

use futures_util::future::AbortHandle;
use tracing::{info, warn};

use super::{
    cause::Cause,
    edges::UnitState,
    phase::Phase,
    plan::Use,
    record::{Record, Stage},
    status::Finished,
};
use crate::{
    guest::event::{JobResult, Trouble, What},
    handover::Ending,
};

/// A container, its registration, or what is left of either.
#[derive(Debug)]
pub struct Container {
    /// What is remembered.
    pub record: Record,
    /// Where it is in its life.
    pub phase: Phase,
    /// Since when, monotonic.
    pub phase_since: Duration,
    /// When its unit was asked for, monotonic: the boot deadline counts from here.
    pub asked_at: Duration,
    /// Round of the loop in which systemd was last known to have taken a request for its unit; a listing begun
    /// before says nothing about it.
    pub requested_in: u64,
    /// An effect of its own is under way (registering, starting, stopping, retiring, settling).
    pub in_flight: bool,
    /// Do nothing for it before this time (after a failed effect).
    pub not_before: Duration,
    /// The forge refused to delete its registration: it has a job, whatever the guest says.
    pub believed_busy: bool,
    /// Display name of the job its runner took, as the guest says.
    pub said_job: Option<String>,
    /// What the runner said of its job.
    pub result: Option<JobResult>,
    /// The last trouble the guest reported.
    pub trouble: Option<Trouble>,
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
    /// Ends the following of its guest.
    pub feed: Option<AbortHandle>,
    /// Tries to remove the registration so far.
    pub settle_tries: u32,
    /// The registration is known to be gone.
    pub deregistered: bool,
    /// The forge was asked how the job ended.
    pub concluded: bool,
    /// What the history does not hold yet.
    pub unkept: Option<Arc<Finished>>,
    /// Tries to write that so far.
    pub keep_tries: u32,
}

impl Container {
    /// A container as its record alone tells.
    pub fn new(record: Record, now: Duration) -> Self {
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
            not_before: Duration::ZERO,
            believed_busy: false,
            said_job: None,
            result: None,
            trouble: None,
            memory_peak: None,
            cpu_us: None,
            service_result: None,
            exit_status: None,
            stopped,
            reason: None,
            feed: None,
            settle_tries: 0,
            deregistered: false,
            concluded: false,
            unkept: None,
            keep_tries: 0,
        }
    }

    /// Moves on, if that is a way forward; says so in the journal. False if nothing changed.
    pub fn advance(&mut self, to: Phase, now: Duration) -> bool {
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
            // It may be failing to boot, which only its end tells.
            Phase::Finishing if self.record.timeline.listening_ms.is_none() => Use::Coming,
            Phase::Requested | Phase::Preparing | Phase::Booting | Phase::Registering => Use::Coming,
            Phase::Running => Use::Busy,
            Phase::Finishing | Phase::Gone | Phase::Failed => Use::Ending,
        }
    }

    /// Takes in what *teardown* wrote down.
    pub fn ended_with(&mut self, ending: &Ending) {
        self.record.timeline.teardown_us = Some(ending.teardown_us);
        self.memory_peak = ending.memory_peak;
        self.cpu_us = ending.cpu_us;
        self.service_result = Some(ending.service_result.clone());
        self.exit_status.clone_from(&ending.exit_status);
    }

    /// Its unit was active, and its guest was never heard.
    pub fn is_unheard(&self) -> bool {
        self.record.timeline.active_ms.is_some() && self.record.timeline.booted_ms.is_none()
    }

    /// Takes in a unit's state. The end of a unit is not handled here.
    pub fn unit_is(&mut self, state: UnitState, wall_ms: u64, now: Duration) -> bool {
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
    pub fn guest_said(&mut self, what: &What, at_ms: u64, now: Duration) -> bool {
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
                self.advance(Phase::Idle, now);
            }
            What::JobStarted { job } => {
                let first = timeline.job_started_ms.is_none();
                timeline.job_started_ms.get_or_insert(at_ms);
                if first {
                    info!(container = %self.record.name, scope = self.record.scope, job, "{}: runner took job {job:?}", self.record.name);
                }
                self.said_job = Some(job.clone());
                self.advance(Phase::Running, now);
                return first;
            }
            What::JobEnded { result } => {
                timeline.job_ended_ms.get_or_insert(at_ms);
                self.result = Some(*result);
                self.advance(Phase::Finishing, now);
            }
            What::Trouble { kind, message } => {
                warn!(container = %self.record.name, kind = ?kind, message, "{}: {message}", self.record.name);
                self.trouble = Some(*kind);
            }
            What::RunnerExited { status } => {
                info!(container = %self.record.name, status, "{}: runner ended with {status}", self.record.name);
                self.advance(Phase::Finishing, now);
            }
        }
        false
    }
}
