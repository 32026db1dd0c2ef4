//! Telling how things are.

use std::time::Duration;

use super::Daemon;
use crate::{
    controller::{
        edges::World,
        status::{ActiveContainer, ClassStatus, QueuedJob, RateLimitStatus, Settling, Status, TargetStatus},
    },
    forge::Forge,
};

impl<W: World> Daemon<'_, W> {
    pub(super) fn publish(&self) {
        let status = self.current();
        self.status.send_replace(status);
    }

    fn current(&self) -> Status {
        let wall_ms = self.wall_ms();
        let (ended, live): (Vec<_>, Vec<_>) = self.containers.values().partition(|c| c.has_ended());
        let active_containers = live
            .iter()
            .map(|container| {
                let record = &container.record;
                ActiveContainer {
                    name: record.name.to_string(),
                    job_id: record.took.or(record.job_id),
                    job_name: record.job_name.clone(),
                    running_seconds: 0,
                    phase: container.phase,
                    class: record.class.clone(),
                    repo: record.target.clone(),
                    subnet: record.subnet.to_string(),
                    runner_name: record.runner_name.clone(),
                    runner_id: record.runner_id,
                    timeline: record.timeline.clone(),
                }
            })
            .collect();
        let targets = self
            .targets
            .iter()
            .map(|(repo, target)| TargetStatus {
                repo: repo.clone(),
                queued: target.queued.len(),
                last_poll_ms: target.looked_ms,
                last_poll_age_seconds: None,
                failures: target.look_failures,
                last_error: target.last_error.clone(),
                rate_limit: self.world.forge().rate_limit(repo).map(|limit| RateLimitStatus {
                    limit: limit.limit,
                    remaining: limit.remaining,
                    reset: limit.reset,
                }),
            })
            .collect();
        let classes = self
            .settings
            .classes
            .values()
            .map(|class| ClassStatus {
                name: class.name.clone(),
                labels: class.labels.clone(),
                active: live.iter().filter(|c| c.record.class == class.name).count(),
                max_concurrent: class.max_concurrent,
                privileged: class.privileged,
                boot_failures: self.class_failures.get(&class.name).copied().unwrap_or_default(),
            })
            .collect();
        let queue = self
            .targets
            .iter()
            .flat_map(|(repo, target)| target.queued.iter().map(move |job| (repo, target, job)))
            .filter_map(|(repo, target, job)| {
                let seen = target.seen.get(&job.id)?;
                let waiting = self.plan.waiting.get(&(repo.clone(), job.id))?;
                Some(QueuedJob {
                    repo: repo.clone(),
                    job_id: job.id,
                    name: seen.name.clone(),
                    labels: job.labels.clone(),
                    waiting: (*waiting).into(),
                    visible_ms: seen.visible_ms,
                    waiting_seconds: 0,
                })
            })
            .collect();
        let settling = ended
            .iter()
            .map(|container| Settling {
                name: container.record.name.to_string(),
                runner_name: container.record.runner_name.clone(),
                tries: container.settle_tries,
            })
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            updated_ms: wall_ms,
            rounds: self.rounds,
            intake: self.stopping_since.is_none(),
            active_containers,
            max_concurrent: self.settings.max_concurrent,
            poll_interval_seconds: self.settings.poll_interval.as_secs(),
            job_timeout_seconds: self.settings.job_timeout.as_secs(),
            targets,
            classes,
            queue,
            settling,
            finished: self.finished.iter().cloned().collect(),
            problems: self.problems(),
        }
    }

    /// What an operator should know: each with the thing's name and what was last said about it.
    fn problems(&self) -> Vec<String> {
        let now = self.now();
        let late = (self.settings.poll_interval * 3).max(Duration::from_secs(60));
        let mut problems = Vec::new();
        for (name, target) in &self.targets {
            let age = now.saturating_sub(target.looked_at.unwrap_or_default());
            let error = target.last_error.as_deref().unwrap_or("no answer yet");
            if target.looked_at.is_none() && target.look_failures > 0 {
                problems.push(format!("{name}: no successful poll yet: {error}"));
            } else if age > late && target.looked_at.is_some() {
                problems.push(format!("{name}: last successful poll {} s ago: {error}", age.as_secs()));
            } else if target.mint_failures > 0 {
                problems.push(format!("{name}: runners cannot be registered: {error}"));
            }
        }
        for (class, failures) in &self.class_failures {
            problems.push(format!("class {class}: {failures} boots in a row failed; see the journal of its units"));
        }
        if let Some(error) = &self.systemd_error {
            problems.push(format!("systemd: {error}"));
        }
        problems
    }
}
