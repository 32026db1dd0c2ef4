//! Looking at targets for queued jobs.

use std::{collections::BTreeMap, time::Duration};

use tracing::{debug, info, warn};

use super::{Daemon, Outcome, SeenJob, backoff};
use crate::{
    controller::{
        edges::{Clock, World},
        plan::{JobView, Pickup},
    },
    forge::{ErrorKind, Forge, ForgeError, Job, JobStatus},
};

/// Longest pause after failed looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Least time between two looks that were hastened by hints.
const HINT_PAUSE: Duration = Duration::from_secs(1);

impl<'w, W: World> Daemon<'w, W> {
    pub(super) fn look_where_due(&mut self, now: Duration) {
        let due: Vec<String> = self
            .targets
            .iter()
            .filter(|(_, target)| !target.looking && target.next_look <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if let Some(target) = self.targets.get_mut(&name) {
                target.looking = true;
                target.next_look = now + self.settings.poll_interval;
            }
            let world = self.world;
            self.start(async move {
                let result = world.forge().look(&name).await;
                Outcome::Looked { target: name, began: now, result }
            });
        }
    }

    /// Hastens the next look at a repository, at most once in [`HINT_PAUSE`]. A pause after failures stays as it is.
    pub(super) fn look_again(&mut self, repository: &str) {
        let now = self.now();
        let found = self.targets.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(repository));
        let Some((_, target)) = found.filter(|(_, target)| target.look_failures == 0) else { return };
        let at = match target.hinted_at {
            // One is on its way, and sees whatever this hint is about.
            Some(pending) if pending > now => pending,
            Some(last) => now.max(last + HINT_PAUSE),
            None => now,
        };
        target.hinted_at = Some(at);
        target.next_look = target.next_look.min(at);
    }

    pub(super) fn looked(&mut self, name: &str, began: Duration, result: Result<Vec<Job>, ForgeError>) {
        let now = self.now();
        let wall_ms = self.wall_ms();
        let wall = self.world.clock().wall();
        let Some(target) = self.targets.get_mut(name) else { return };
        target.looking = false;
        let jobs = match result {
            Ok(jobs) => jobs,
            Err(error) => {
                target.look_failures += 1;
                let pause = match error.kind {
                    ErrorKind::RateLimited(until) => until.saturating_sub(wall).max(Duration::from_secs(1)),
                    _ => backoff(self.settings.poll_interval, target.look_failures, LONGEST_PAUSE),
                };
                target.next_look = now + pause;
                warn!(target = name, failures = target.look_failures, pause_s = pause.as_secs(), %error, "{name}: look failed: {error}");
                target.last_error = Some(error.message);
                return;
            }
        };
        if target.look_failures > 0 {
            info!(target = name, "look succeeded again");
        }
        target.look_failures = 0;
        target.last_error = None;
        target.looked_at = Some(began);
        target.looked_ms = Some(wall_ms);

        let mut seen = BTreeMap::new();
        target.queued.clear();
        for job in jobs.iter().filter(|job| job.status == JobStatus::Queued) {
            let known = target.seen.remove(&job.id).unwrap_or_else(|| {
                info!(target = name, job = job.id, name = job.name, labels = ?job.labels, "{name}: job {} is queued", job.id);
                SeenJob {
                    name: job.name.clone(),
                    queued_ms: job.created_at.and_then(|at| u64::try_from(at.as_millis()).ok()),
                    visible_ms: wall_ms,
                    first_seen: now,
                }
            });
            target.queued.push(JobView { id: job.id, labels: job.labels.clone(), first_seen: known.first_seen });
            seen.insert(job.id, known);
        }
        debug!(target = name, queued = target.queued.len(), took_ms = (now - began).as_millis(), "looked");
        target.seen = seen;
        self.match_runners(name, &jobs, now);
    }

    /// Which of our runners has which job: the forge's word, also where a guest said nothing.
    fn match_runners(&mut self, target: &str, jobs: &[Job], now: Duration) {
        let runners: BTreeMap<&str, &Job> = jobs
            .iter()
            .filter(|job| job.status >= JobStatus::InProgress)
            .filter_map(|job| Some((job.runner_name.as_deref()?, job)))
            .collect();
        let mut changed = Vec::new();
        for container in self.containers.values_mut().filter(|container| container.record.target == target) {
            let Some(job) = runners.get(container.record.runner_name.as_str()) else { continue };
            if container.record.took == Some(job.id) {
                continue;
            }
            let unheard = !container.had_job();
            container.record.took = Some(job.id);
            container.record.job_name = job.name.clone();
            if unheard {
                container.advance(crate::controller::phase::Phase::Running, now);
                self.pickups.push_back(Pickup {
                    class: container.record.class.clone(),
                    target: target.to_owned(),
                    at: now,
                });
            }
            changed.push(container.record.name.clone());
        }
        for name in changed {
            self.remember(&name);
        }
    }
}
