//! Jobs that the host cost, since it was restarted under them, are run again at the forge, within a budget.

use std::time::Duration;

use contract::ContainerName;
use forge::{ErrorKind, Forge, ForgeError, Job, JobStatus};
use tracing::info;

use super::{Fleet, Outcome};
use crate::{cause::Cause, ports::World, sets::Sets, time::Now};

/// The forge takes minutes to see that a runner is gone, and runs nothing again before all jobs of the run are over: so
/// long is waited for that, …
const WITHIN: Duration = Duration::from_secs(2 * 3600);
/// … with so long between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What the budget of an hour counts.
const HOUR: Duration = Duration::from_secs(3600);

impl<'w, W: World> Fleet<'w, W> {
    /// Whether the forge has yet to end, or to run again, the job of a container that ended for this cause. Else it is
    /// known what becomes of it.
    pub(super) fn is_seen_to(&mut self, name: &ContainerName, job: &Job, cause: Cause, now: Now) -> bool {
        let budget = self.settings.retry;
        self.reruns.retain(|at| now.mono - *at < HOUR);
        let spent = self.reruns.len() >= budget.per_hour as usize;
        let Some(container) = self.containers.get_mut(name) else { return false };
        if container.record.rerun {
            // By a controller that did not live to hear the answer, if no reason is known.
            container.reason.get_or_insert_with(|| "the forge was asked to run its job again".to_owned());
            return false;
        }
        if budget.per_job == 0 || cause != Cause::HostRebooted {
            return false;
        }
        let ended_ms = container.record.timeline.ended_ms.unwrap_or_default();
        let is_patient = now.wall.as_millis().saturating_sub(ended_ms) < WITHIN.as_millis() as u64;
        let why_not = match job.status {
            JobStatus::Completed if matches!(job.conclusion.as_deref(), Some("failure" | "cancelled")) => None,
            JobStatus::Completed => return false,
            _ if is_patient => {
                container.not_before = now.mono + LOOK_EVERY;
                return true;
            }
            _ => Some("the forge did not end it".to_owned()),
        };
        let why_not = why_not
            .or((job.attempt > budget.per_job)
                .then(|| format!("this was attempt {}, and retry.per_job is {}", job.attempt, budget.per_job)))
            .or(spent.then(|| format!("{} were within the hour (retry.per_hour)", budget.per_hour)));
        if let Some(why_not) = why_not {
            container.reason = Some(format!("its job is not run again: {why_not}"));
            return false;
        }
        self.reruns.push_back(now.mono);
        // Known before it is done: a controller that dies in between asks no second time.
        container.record.rerun = true;
        container.in_flight = true;
        self.remember(name);
        let (world, name, job) = (self.world, name.clone(), job.clone());
        self.effects.start(async move {
            let result = world.forge().rerun(&job.repository, job.id).await;
            Outcome::Rerun { name, job, result }
        });
        true
    }

    /// The forge runs the job again, or does not.
    pub(super) fn rerun_asked(
        &mut self,
        name: &ContainerName,
        job: Job,
        result: Result<(), ForgeError>,
        sets: &Sets<'w, W>,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.in_flight = false;
        let reason = match result {
            Ok(()) => format!(
                "its job is run again: re-run {} of {} at most",
                job.attempt.max(1),
                self.settings.retry.per_job
            ),
            // Another job of the run goes on, or the credential has to rest.
            Err(error) if error.message.contains("already running") || is_limit(error.kind) => {
                container.record.rerun = false;
                container.not_before = now.mono + LOOK_EVERY;
                self.reruns.pop_back();
                return self.remember(name);
            }
            Err(error) => format!("its job is not run again: {error}"),
        };
        info!(container = %name, job = job.id, "{name}: {reason}");
        container.reason = Some(reason);
        self.concluded(name, false, Ok(Some(job)), sets, now);
    }
}

fn is_limit(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::RateLimited(_) | ErrorKind::Paced(_))
}
