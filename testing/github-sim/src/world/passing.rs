//! What time alone does: jobs appear and give up waiting, silent runners lose their jobs, records are forgotten.

use super::{Conclusion, JobId, JobStatus, Phase, RunnerId, World};
use std::time::Duration;

impl World {
    /// Lets time pass. Everything is stamped with the moment it was due, not with the moment it was noticed.
    pub fn advance(&mut self, now: Duration) {
        // Time does not run backwards here, whatever the caller's clock does.
        if now < self.now {
            return;
        }
        self.now = now;
        let open: Vec<JobId> = self.open_jobs.iter().copied().collect();
        for id in open {
            self.pass_job(id);
            self.pass_assignment(id);
        }
        self.pass_sessions();
        let runners: Vec<RunnerId> = self.runners.keys().copied().collect();
        for id in runners {
            self.pass_runner(id);
        }
    }

    /// How far time is.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    fn pass_job(&mut self, id: JobId) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.status == JobStatus::Unborn && now >= job.appears_at {
            let at = job.appears_at;
            job.appear(at);
            let run = job.run;
            self.settle_run(run, at);
            self.tell_appeared(id);
        }
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.offer.is_some_and(|(_, until)| now >= until) {
            job.offer = None;
        }
        if let Some((at, conclusion, note)) = self.ending_of(id) {
            self.finish_job(id, at, conclusion, Some(note));
        }
    }

    /// The first thing that ends a job without anybody doing anything, if its time has come.
    fn ending_of(&self, id: JobId) -> Option<(Duration, Conclusion, String)> {
        let (now, config) = (self.now, &self.config);
        let job = self.jobs.get(&id)?;
        let queue = job.queued_at.filter(|_| job.status == JobStatus::Queued).map(|at| {
            let note = "The job was not picked up in time.".to_owned();
            (at + config.queue_limit, Conclusion::Cancelled, note)
        });
        let due = job.due.as_ref().map(|due| (due.at, due.conclusion, due.note.clone()));
        let start =
            job.acquired_at.filter(|_| job.status == JobStatus::InProgress && job.started_at.is_none()).map(|at| {
                let note = "The job was acquired and never started.".to_owned();
                (at + config.start_limit, Conclusion::Cancelled, note)
            });
        let lost = job
            .taken_by
            .as_ref()
            .filter(|_| job.started_at.is_some() && job.due.is_none())
            .and_then(|by| self.runners.get(&by.id))
            .and_then(|runner| runner.link())
            .and_then(|link| link.silent_since(now, config.offline_after))
            .map(|at| {
                let note = "The self-hosted runner lost communication with the server.".to_owned();
                let conclusion = match job.cancel_requested {
                    true => Conclusion::Cancelled,
                    false => Conclusion::Failure,
                };
                (at + config.lost_runner_limit, conclusion, note)
            });
        [queue, due, start, lost].into_iter().flatten().filter(|(at, ..)| now >= *at).min_by_key(|(at, ..)| *at)
    }

    fn pass_runner(&mut self, id: RunnerId) {
        let (now, config) = (self.now, &self.config);
        let Some(runner) = self.runners.get(&id) else {
            return;
        };
        let gone_at = match &runner.phase {
            Phase::Minted => Some(runner.minted_at + config.registration_ttl),
            Phase::Offline { since } => Some(*since + config.registration_ttl),
            Phase::Lingering { until } => Some(*until),
            Phase::Idle(link) => {
                link.silent_since(now, config.offline_after).map(|since| since + config.registration_ttl)
            }
            Phase::Busy { .. } => None,
        };
        if gone_at.is_some_and(|at| now >= at) {
            self.remove_runner(id);
        }
    }
}
