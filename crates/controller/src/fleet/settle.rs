//! After the end: finding out how the job ended, telling the history, and making sure that no registration is left.

use std::{sync::Arc, time::Duration};

use contract::ContainerName;
use forge::{Deletion, ErrorKind, Forge, ForgeError, Job, JobStatus};
use tracing::{info, warn};

use super::{Event, Fleet, Outcome, settling::Settling};
use crate::{
    cause::{Cause, Word, certain},
    ports::{History, PortError, Records, World},
    record::Stage,
    sets::Sets,
    time::{Backoff, Now},
};

/// Ended containers kept for the status.
const FINISHED_KEPT: usize = 200;
/// Pause after an answer that the runner is busy.
const BUSY_PAUSE: Duration = Duration::from_secs(45);
/// Pauses after failed calls.
pub(super) const RETRY: Backoff = Backoff::seconds(5, 600);
/// A scale set tells how a job ended about when its container is gone: so long that is waited for, …
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// … and after so long it is looked for again.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// After so many tries the forge is not asked any more how a job ended.
const ASKED: u32 = 5;
/// After so many tries a registration is given up to the forge, which removes it after a day.
const TRIES: u32 = 200;
/// The same where the repository has another name now, or is closed: under its old name nothing can be removed. If the
/// registration still exists, the search for unclaimed ones finds it under the new name.
const TRIES_WHERE_MOVED: u32 = 5;
/// After so many tries an entry is left out of the history: a minute or more.
const KEEP_TRIES: u32 = 5;

impl<'w, W: World> Fleet<'w, W> {
    /// The next step of what is cleared up after the end.
    pub(super) fn settle(&mut self, name: &ContainerName, sets: &Sets<'w, W>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let lingers_until = container.phase_since + self.settings.registration_linger;
        let had_job = container.had_job();
        match &mut container.settling {
            Settling::Asking { .. } => self.ask_how_it_ended(name, sets, now),
            Settling::Deregistering { tries: 0, .. } if had_job && now.mono < lingers_until => {
                // The registration of a runner that had its job goes by itself, but not at once (docs/github.md#deleting-a-registration).
                container.not_before = lingers_until;
            }
            Settling::Deregistering { tries, .. } => {
                *tries += 1;
                container.in_flight = true;
                let effect = container.deregister(self.world);
                let name = name.clone();
                self.effects.start(async move { Outcome::Deregistered { name, result: effect.await } });
            }
            // Being written; its outcome goes on from here.
            Settling::Keeping(_) => container.not_before = now.mono + RETRY.first,
            Settling::Settled => self.forget(name, now),
        }
    }

    fn ask_how_it_ended(&mut self, name: &ContainerName, sets: &Sets<'w, W>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let record = &container.record;
        // Only of a job that no look has shown the messages say the most.
        let told = if record.set && record.took.is_none() {
            sets.told_of(&container.set_key(), &record.runner_name)
        } else {
            Default::default()
        };
        if told.is_awaited && container.had_job() && now.mono - container.phase_since < TOLD_WITHIN {
            container.not_before = now.mono + TOLD_EVERY;
            return;
        }
        let job = record.took.or(record.job_id).zip(record.repository().map(str::to_owned));
        let (runner, runner_id) = (record.runner_name.clone(), record.runner_id);
        // A runner bound to its job gets no other.
        let crosses = record.task.is_some() && record.handle.is_none();
        let grant = record.task.zip(record.task.and_then(|_| self.world.records().granted(name)));
        let (scope, end, why) = (record.scope.clone(), container.finish_as(), container.why_it_ended());
        container.in_flight = true;
        let (world, name) = (self.world, name.clone());
        self.effects.start(async move {
            let ask = async || match (&job, &told.run) {
                // A set's messages name the run and the runner, not the job as REST knows it.
                (_, Some((repository, run))) => match world.forge().job_of_run(repository, *run, &runner).await {
                    // A set's jobs may be of repositories that the credential cannot read: they told how it ended.
                    Err(error) if !error.kind.is_passing() => Ok(None),
                    result => result,
                },
                (Some((job, repository)), None) => {
                    let found = world.forge().job(repository, *job).await?;
                    let Some(run) = found.as_ref().filter(|job| crosses && job.runner_id != runner_id) else {
                        return Ok(found);
                    };
                    // Its runner took another job than the one it was booted for, and no line of it says which.
                    Ok(world.forge().job_of_run(repository, run.run_id, &runner).await?.or(found))
                }
                (None, None) => Ok(None),
            };
            let (mut result, mut finished) = (ask().await, false);
            let is_over = |job: &Job| {
                job.status == JobStatus::Completed && (job.runner_id.is_none() || job.runner_id == runner_id)
            };
            if let Some((task, grant)) = grant
                && !matches!(&result, Ok(Some(job)) if is_over(job))
            {
                match world.forge().finish(&scope, &grant, task, end, &why).await {
                    Ok(ended) => (finished, result) = (ended, ask().await),
                    Err(error) => result = Err(error),
                }
            }
            Outcome::Concluded { name, finished, result }
        });
    }

    /// The forge's word on the job makes the cause certain; without it the cause stays what it was.
    pub(super) fn concluded(
        &mut self,
        name: &ContainerName,
        finished: bool,
        result: Result<Option<Job>, ForgeError>,
        sets: &Sets<'w, W>,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        container.finished_for |= finished;
        let Stage::Settling { cause: before } = container.record.stage else { return };
        let Settling::Asking { tries, .. } = &mut container.settling else { return };
        let job = match result {
            Ok(job) => job,
            Err(error) => {
                *tries += 1;
                if *tries < ASKED {
                    container.not_before = now.mono + RETRY.after(*tries);
                    return;
                }
                warn!(container = %name, %error, "the forge did not say how the job ended");
                None
            }
        };
        let told = sets.told_of(&container.set_key(), &container.record.runner_name).conclusion;
        let ours = job.as_ref().filter(|job| container.is_on(job));
        let word = match (&job, ours) {
            (_, Some(job)) => Word::Had(job.conclusion.as_deref()),
            (Some(job), None) if job.runner_name.is_some() || job.runner_id.is_some() => Word::Taken,
            (Some(job), None) if job.conclusion.as_deref() == Some("cancelled") => Word::Cancelled,
            (Some(_), None) => Word::Nothing,
            // Its scale set told how its job ended, and no look had shown the job.
            (None, _) => told.map_or(Word::Nothing, |told| Word::Had(Some(told))),
        };
        let certain = match container.finished_for {
            // The forge's word is our own.
            true => before,
            false => certain(before, word, &container.evidence(None, None)),
        };
        if let Some(job) = ours
            && self.is_seen_to(name, job, certain, now)
        {
            return;
        }
        let Some(container) = self.containers.get_mut(name) else { return };
        if let Some(job) = ours.filter(|_| !before.outranks_the_forge()) {
            container.record.took = Some(job.id);
            container.record.repository = Some(job.repository.clone());
        }
        container.record.stage = Stage::Settling { cause: certain };
        if certain != before {
            info!(container = %name, cause = %certain, "the forge made the cause certain");
        }
        let elsewhere = matches!(word, Word::Taken);
        let mut finished = container.finished(ours, elsewhere, now.wall.as_millis());
        finished.conclusion = finished.conclusion.or_else(|| told.map(str::to_owned));
        let finished = Arc::new(finished);
        container.settling.concluded(finished.clone());
        if container.repeats {
            container.settling.kept();
            self.remember(name);
            return;
        }
        let class = container.record.class.clone();
        match certain {
            Cause::RunnerRefused if container.had_job() => self.events.push(Event::RunnerRefusedInJob { class }),
            Cause::Succeeded | Cause::JobFailed => self.events.push(Event::JobServed { class }),
            _ => {}
        }
        // It ended while nobody listened and looked like a failed boot, and yet its runner had a job.
        if before.is_boot_failure() && !certain.is_boot_failure() {
            self.events.push(Event::Recovered { class: container.record.class.clone() });
        }
        self.finished.push_back(finished);
        if self.finished.len() > FINISHED_KEPT {
            self.finished.pop_front();
        }
        let task = container.record.task;
        self.remember(name);
        if task.is_some() {
            self.take_back(name);
        }
        self.keep(name, Duration::ZERO);
    }

    /// Writes the entry of the history, after `pause`.
    fn keep(&mut self, name: &ContainerName, pause: Duration) {
        let Some(entry) = self.containers.get_mut(name).and_then(|container| container.settling.entry()) else {
            return;
        };
        let (world, name, ended) = (self.world, name.clone(), entry.ended.clone());
        self.effects.start(async move {
            tokio::time::sleep(pause).await;
            Outcome::Kept { name, result: world.history().keep(ended).await }
        });
    }

    /// The record goes after the entry is on disk. A history that stays out of order keeps no record for ever.
    pub(super) fn kept(&mut self, name: &ContainerName, result: Result<(), PortError>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let Err(error) = result else {
            self.history_error = None;
            container.settling.kept();
            if matches!(container.settling, Settling::Settled) {
                container.not_before = now.mono;
            }
            return;
        };
        let Some(entry) = container.settling.entry() else { return };
        entry.failures += 1;
        warn!(container = %name, %error, tries = entry.failures, "not written to the history");
        self.history_error = Some(error.0);
        if entry.failures >= KEEP_TRIES {
            warn!(container = %name, "left out of the history");
            container.settling.kept();
        } else {
            let pause = RETRY.after(entry.failures);
            self.keep(name, pause);
        }
    }

    pub(super) fn deregistered(&mut self, name: &ContainerName, result: Result<Deletion, ForgeError>, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        let tries = container.settling.tries();
        let moved = matches!(&result, Err(ForgeError { kind: ErrorKind::Quarantined, .. }));
        let most = if moved { TRIES_WHERE_MOVED } else { TRIES };
        let pause = match result {
            Ok(Deletion::Deleted | Deletion::AlreadyGone) => {
                container.settling.deregistered();
                Duration::ZERO
            }
            Ok(Deletion::Busy) => BUSY_PAUSE,
            Err(error) => {
                warn!(container = %name, runner = container.record.runner_name, %error, "registration not removed yet");
                RETRY.after(tries)
            }
        };
        container.not_before = now.mono + pause;
        if tries >= most && matches!(container.settling, Settling::Deregistering { .. }) {
            warn!(container = %name, runner = container.record.runner_name, "registration given up");
            container.settling.deregistered();
            let scope = container.record.scope.clone();
            self.search_beside(&scope, now.mono);
        }
    }

    /// Nothing is left anywhere: the record goes last.
    fn forget(&mut self, name: &ContainerName, now: Now) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let records = self.world.records();
        // A controller that was killed right after the end has left what it had handed over.
        match records.take_back(name).and_then(|()| records.remove(name)) {
            Ok(()) => {
                self.containers.remove(name);
            }
            Err(error) => {
                warn!(container = %name, %error, "hand-over or record not removed");
                container.not_before = now.mono + RETRY.most;
            }
        }
    }
}
