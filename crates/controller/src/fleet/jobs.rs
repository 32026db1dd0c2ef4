//! Which container has which job, as guests, looks and scale sets say.

use std::collections::{BTreeMap, BTreeSet};

use contract::{
    ContainerName,
    event::{self, What},
    runner_version::is_version,
};
use forge::{Job, JobStatus};
use futures_util::future::abortable;
use tracing::warn;

use super::{Event, Fleet, Outcome};
use crate::{
    phase::Phase,
    plan::Pickup,
    ports::{Feed, Guests, World},
    time::Now,
};

impl<W: World> Fleet<'_, W> {
    pub(super) fn follow(&mut self, name: &ContainerName) {
        let feed = self.world.guests().follow(name);
        self.listen(name.clone(), feed);
    }

    fn listen(&mut self, name: ContainerName, mut feed: <W::Guests as Guests>::Feed) {
        let Some(container) = self.containers.get_mut(&name) else { return };
        let (next, handle) = abortable(async move {
            let event = feed.next().await;
            (feed, event)
        });
        container.feed = Some(handle);
        self.effects.start(async move {
            match next.await {
                Ok((feed, event)) => Outcome::Guest { name, feed, event },
                Err(_) => Outcome::FeedClosed,
            }
        });
    }

    pub(super) fn guest_said(
        &mut self,
        name: ContainerName,
        feed: <W::Guests as Guests>::Feed,
        event: Option<event::Event>,
        now: Now,
    ) {
        let Some(container) = self.containers.get_mut(&name) else { return };
        if container.has_ended() {
            return;
        }
        let Some(event) = event else {
            warn!(container = %name, "the guest broke the protocol; it is not listened to any more");
            return;
        };
        let fresh = container.record.timeline.listening_ms.is_none();
        let took = container.guest_said(&event.what, event.at_ms, now.mono);
        let (class, scope) = (container.record.class.clone(), container.record.scope.clone());
        if took {
            container.came_up = true;
            self.idle_watch.gave_job(container);
            self.pickups.push_back(Pickup {
                container: name.clone(),
                class: class.clone(),
                scope: scope.clone(),
                of: container.bound_to(),
                at: now.mono,
            });
            self.events.push(Event::TookJob { scope: scope.clone() });
            self.events.push(Event::GaveJob { scope });
            self.events.push(Event::CameUp { class: class.clone() });
        }
        // Only before a job could have said it.
        if let What::RunnerVersion { version } = event.what
            && fresh
            && is_version(&version)
        {
            self.events.push(Event::RunnerVersion { class, version });
        }
        self.remember(&name);
        self.listen(name, feed);
    }

    /// A look showed the jobs of a repository, and so which of our runners has which: the forge's word, also where a
    /// guest said nothing.
    pub fn match_runners(&mut self, repository: &str, scope: &str, jobs: &[Job], now: Now) {
        let taken: Vec<&Job> = jobs.iter().filter(|job| job.status >= JobStatus::InProgress).collect();
        let by_name: BTreeMap<&str, &Job> =
            taken.iter().filter_map(|job| Some((job.runner_name.as_deref()?, *job))).collect();
        let by_id: BTreeMap<u64, &Job> = taken.iter().filter_map(|job| Some((job.runner_id?, *job))).collect();
        let by_handle: BTreeMap<&str, &Job> =
            taken.iter().filter_map(|job| Some((job.handle.as_deref()?, *job))).collect();
        // One job has one runner, which is the one that said so.
        let bound = self.containers.values().filter(|container| container.had_job());
        let mut given: BTreeSet<String> = bound.filter_map(|container| container.record.handle.clone()).collect();
        let mut explained: BTreeSet<ContainerName> = BTreeSet::new();
        let mut changed = Vec::new();
        for container in self.containers.values_mut().filter(|container| container.record.scope == scope) {
            let record = &container.record;
            let has_it = |handle: &str| container.had_job() || !given.contains(handle);
            // A name that somebody else gave a runner too says less than the forge's own number.
            let job = record
                .runner_id
                .and_then(|id| by_id.get(&id))
                .or_else(|| by_handle.get(record.handle.as_deref().filter(|handle| has_it(handle))?))
                .or_else(|| by_name.get(record.runner_name.as_str()).filter(|job| job.runner_id.is_none()));
            let Some(job) = job else {
                container.job_watch.is_missing |= record.took.is_some() && record.repository() == Some(repository);
                continue;
            };
            given.extend(record.handle.clone());
            (container.job_watch.shown_at, container.job_watch.is_missing) = (now.mono, false);
            explained.insert(container.record.name.clone());
            if container.record.took == Some(job.id) {
                continue;
            }
            let unheard = !container.had_job();
            container.record.took = Some(job.id);
            container.record.repository = Some(repository.to_owned());
            container.record.job_name = job.name.clone();
            if unheard {
                container.advance(Phase::Running, now.mono);
                self.idle_watch.gave_job(container);
                self.events.push(Event::GaveJob { scope: scope.to_owned() });
            }
            changed.push(container.record.name.clone());
        }
        // This listing does not show their jobs as queued any more.
        self.pickups.retain(|pickup| !explained.contains(&pickup.container));
        for name in changed {
            self.remember(&name);
        }
    }

    /// A scale set says that this runner has this job.
    pub fn job_started(&mut self, runner: &str, repository: String, job: String, now: Now) {
        let found = self.containers.values_mut().find(|container| container.record.runner_name == runner);
        let Some(container) = found.filter(|container| !container.has_ended()) else { return };
        container.believed_busy = true;
        container.record.repository = Some(repository);
        container.record.job_name = job;
        container.advance(Phase::Running, now.mono);
        self.idle_watch.gave_job(container);
        self.events.push(Event::GaveJob { scope: container.record.scope.clone() });
        let name = container.record.name.clone();
        self.remember(&name);
    }
}
