//! Retiring idle containers, finding out how a job ended, and making sure that no registration is left.

use std::{sync::Arc, time::Duration};

use contract::ContainerName;
use forge::{Deletion, Forge, ForgeError, Job, SetKey};
use tracing::{info, warn};

use super::{Daemon, FINISHED_KEPT, Outcome, backoff};
use crate::{
    cause::{Cause, Evidence, cause},
    edges::{EdgeError, History, Records, World},
    phase::Phase,
    record::Stage,
    status::Finished,
};

/// Pause after an answer that the runner is busy.
const BUSY_PAUSE: Duration = Duration::from_secs(45);
/// Pauses after failed calls, first and longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// A scale set tells how a job ended about when its container is gone; so long, and so often, is waited for that.
const TOLD: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(250));
/// After so many tries a registration is given up to the forge, which removes it after a day.
const TRIES: u32 = 200;
/// After so many tries an entry is left out of the history: a minute or more.
const KEEP_TRIES: u32 = 5;

impl<'w, W: World> Daemon<'w, W> {
    /// The safe order: delete the registration; only if the forge agrees, stop the container (PROTOCOLS B.3).
    pub(super) fn retire(&mut self, name: &ContainerName) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.in_flight || now < container.not_before {
            return;
        }
        container.in_flight = true;
        let effect = deregister(self.world, container);
        let name = name.clone();
        self.start(async move { Outcome::Retired { name, result: effect.await } });
    }

    pub(super) fn retired(&mut self, name: &ContainerName, result: Result<Deletion, ForgeError>) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        if container.has_ended() {
            return;
        }
        match result {
            Ok(Deletion::Deleted | Deletion::AlreadyGone) if container.had_job() => {}
            Ok(Deletion::Deleted | Deletion::AlreadyGone) => {
                container.deregistered = true;
                self.stop(name, Cause::IdleTooLong);
            }
            Ok(Deletion::Busy) => {
                info!(container = %name, "not retired: the forge says it has a job");
                container.believed_busy = true;
                container.advance(Phase::Running, now);
            }
            Err(error) => {
                warn!(container = %name, %error, "registration not deleted");
                container.not_before = now + RETRY.0;
            }
        }
    }

    /// After the end: first how the job ended, then the registration.
    pub(super) fn settle(&mut self, name: &ContainerName) {
        let now = self.now();
        let (untold, run) = (self.is_untold(name), self.told_run(name));
        let Some(container) = self.containers.get_mut(name) else { return };
        if untold && now.saturating_sub(container.phase_since) < TOLD.0 {
            container.not_before = now + TOLD.1;
            return;
        }
        let job = container.record.took.or(container.record.job_id);
        let lingers_until = container.phase_since + self.settings.registration_linger;
        if !container.concluded {
            container.in_flight = true;
            let (world, name) = (self.world, name.clone());
            let job = job.zip(container.record.repository().map(str::to_owned));
            let runner = container.record.runner_name.clone();
            self.start(async move {
                let result = match (job, run) {
                    // A set's messages name the run and the runner, not the job as REST knows it.
                    (_, Some((repository, run))) => match world.forge().job_of_run(&repository, run, &runner).await {
                        // A set's jobs may be of repositories that the credential cannot read: they told how it ended.
                        Err(error) if !error.kind.is_passing() => Ok(None),
                        result => result,
                    },
                    (Some((job, repository)), None) => world.forge().job(&repository, job).await,
                    (None, None) => Ok(None),
                };
                Outcome::Concluded { name, result }
            });
        } else if container.deregistered && container.unkept.is_some() {
            // Being written; its outcome goes on from here.
            container.not_before = now + RETRY.0;
        } else if container.deregistered {
            self.forget(name);
        } else if container.settle_tries == 0 && container.had_job() && now < lingers_until {
            container.not_before = lingers_until;
        } else {
            container.in_flight = true;
            container.settle_tries += 1;
            let effect = deregister(self.world, container);
            let name = name.clone();
            self.start(async move { Outcome::Deregistered { name, result: effect.await } });
        }
    }

    /// The forge's word on the job makes the cause certain; without it the cause stays what it was.
    pub(super) fn concluded(&mut self, name: &ContainerName, result: Result<Option<Job>, ForgeError>) {
        let now = self.now();
        let wall_ms = self.wall_ms();
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        let job = match result {
            Ok(job) => job,
            Err(error) => {
                container.settle_tries += 1;
                if container.settle_tries < 5 {
                    container.not_before = now + backoff(RETRY.0, container.settle_tries, RETRY.1);
                    return;
                }
                warn!(container = %name, %error, "the forge did not say how the job ended");
                None
            }
        };
        container.settle_tries = 0;
        container.concluded = true;
        let Stage::Settling { cause: before } = container.record.stage else { return };
        let key = SetKey { class: container.record.class.clone(), scope: container.record.scope.clone() };
        let runner = container.record.runner_name.clone();
        let told = self.set_conclusion(&key, &runner);
        let Some(container) = self.containers.get_mut(name) else { return };
        let ours = job.as_ref().is_some_and(|job| job.runner_name.as_deref() == Some(&container.record.runner_name));
        let certain = match &job {
            Some(job) if ours && !matches!(before, Cause::TimedOut | Cause::OutOfMemory | Cause::BootFailed) => {
                container.record.took = Some(job.id);
                container.record.repository = Some(job.repository.clone());
                cause(&Evidence {
                    decided: None,
                    conclusion: job.conclusion.as_deref(),
                    had_job: true,
                    stopped: container.stopped,
                    unheard: false,
                    result: container.result,
                    trouble: container.trouble,
                    ending: None,
                })
            }
            // It never had a job: what became of the one it was booted for?
            Some(job) if before == Cause::IdleTooLong && !container.had_job() => match job.runner_name {
                Some(_) => Cause::TakenByAnotherRunner,
                None if job.conclusion.as_deref() == Some("cancelled") => Cause::CancelledBeforePickup,
                None => before,
            },
            // Its scale set told how its job ended, and no look had shown the job.
            None if told.is_some() && !matches!(before, Cause::TimedOut | Cause::OutOfMemory | Cause::BootFailed) => {
                cause(&Evidence {
                    decided: None,
                    conclusion: told,
                    had_job: true,
                    stopped: container.stopped,
                    unheard: false,
                    result: container.result,
                    trouble: container.trouble,
                    ending: None,
                })
            }
            _ => before,
        };
        let certain = match certain {
            Cause::Unknown => before,
            // The forge calls a job failed whose host went away under it.
            Cause::JobFailed if before == Cause::HostRebooted && container.record.timeline.job_ended_ms.is_none() => {
                before
            }
            // Nor does the forge know why the container would not run it.
            Cause::JobFailed if before == Cause::ForkRefused => before,
            certain => certain,
        };
        container.record.stage = Stage::Settling { cause: certain };
        if certain != before {
            info!(container = %name, cause = %certain, "the forge made the cause certain");
        }
        let elsewhere = job.as_ref().is_some_and(|job| !ours && job.runner_name.is_some());
        let mut finished = Finished::new(container, job.as_ref().filter(|_| ours), elsewhere, wall_ms);
        finished.conclusion = finished.conclusion.or_else(|| told.map(str::to_owned));
        let finished = Arc::new(finished);
        container.unkept = Some(finished.clone());
        // It ended while nobody listened and looked like a failed boot, and yet its runner had a job.
        let came_up = (before.is_boot_failure() && !certain.is_boot_failure()).then(|| container.record.class.clone());
        self.finished.push_back(finished);
        if self.finished.len() > FINISHED_KEPT {
            self.finished.pop_front();
        }
        if let Some(class) = came_up {
            self.release_class(&class);
        }
        self.remember(name);
        self.keep(name, Duration::ZERO);
    }

    /// Writes the entry of the history, after `pause`.
    fn keep(&mut self, name: &ContainerName, pause: Duration) {
        let Some(ended) = self.containers.get(name).and_then(|container| container.unkept.clone()) else { return };
        let (world, name) = (self.world, name.clone());
        self.start(async move {
            tokio::time::sleep(pause).await;
            Outcome::Kept { name, result: world.history().keep(ended).await }
        });
    }

    /// The record goes after the entry is on disk. A history that stays out of order keeps no record for ever.
    pub(super) fn kept(&mut self, name: &ContainerName, result: Result<(), EdgeError>) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(name) else { return };
        let Err(error) = result else {
            self.history_error = None;
            container.unkept = None;
            if container.deregistered {
                container.not_before = now;
            }
            return;
        };
        container.keep_tries += 1;
        warn!(container = %name, %error, tries = container.keep_tries, "not written to the history");
        self.history_error = Some(error.0);
        if container.keep_tries >= KEEP_TRIES {
            warn!(container = %name, "left out of the history");
            container.unkept = None;
        } else {
            let pause = backoff(RETRY.0, container.keep_tries, RETRY.1);
            self.keep(name, pause);
        }
    }

    pub(super) fn deregistered(&mut self, name: &ContainerName, result: Result<Deletion, ForgeError>) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        let pause = match result {
            Ok(Deletion::Deleted | Deletion::AlreadyGone) => {
                container.deregistered = true;
                Duration::ZERO
            }
            Ok(Deletion::Busy) => BUSY_PAUSE,
            Err(error) => {
                warn!(container = %name, runner = container.record.runner_name, %error, "registration not removed yet");
                backoff(RETRY.0, container.settle_tries, RETRY.1)
            }
        };
        container.not_before = now + pause;
        if container.settle_tries >= TRIES && !container.deregistered {
            warn!(container = %name, runner = container.record.runner_name, "registration given up");
            container.deregistered = true;
        }
    }

    /// Nothing is left anywhere: the record goes last.
    fn forget(&mut self, name: &ContainerName) {
        let now = self.now();
        let Some(container) = self.containers.get_mut(name) else { return };
        match self.world.records().remove(name) {
            Ok(()) => {
                self.containers.remove(name);
            }
            Err(error) => {
                warn!(container = %name, %error, "record not removed");
                container.not_before = now + RETRY.1;
            }
        }
    }
}

/// Removes a registration by id, or by name when the answer with the id was lost.
fn deregister<'w, W: World>(
    world: &'w W,
    container: &crate::container::Container,
) -> impl Future<Output = Result<Deletion, ForgeError>> + 'w {
    let record = &container.record;
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
