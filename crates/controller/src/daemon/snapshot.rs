//! What planning is told.

use std::{collections::BTreeSet, time::Duration};

use super::Daemon;
use crate::{
    container::Container,
    edges::World,
    plan::{ContainerView, JobView, ScopeView, Snapshot, TargetView},
};

impl<W: World> Daemon<'_, W> {
    pub(super) fn snapshot(&self, now: Duration) -> Snapshot {
        let taken = |c: &&Container| !c.has_ended();
        let live: Vec<&Container> = self.containers.values().filter(taken).collect();
        // An orphan holds a place and a subnet too, though we do not know which.
        let subnets = (self.settings.network.pool.len() as usize).saturating_sub(live.len() + self.orphans.len());
        let jobs = self.queued_jobs(now);
        Snapshot {
            now,
            intake: self.stopping_since.is_none(),
            capacity: self.settings.max_concurrent.saturating_sub(self.orphans.len()),
            free_subnets: subnets,
            idle_grace: self.settings.idle_grace,
            classes: self.classes.clone(),
            targets: self
                .targets
                .values()
                .map(|target| TargetView {
                    name: target.settings.name.clone(),
                    priority: target.settings.priority,
                    weight: target.settings.weight,
                    max: target.settings.max_concurrent,
                })
                .collect(),
            scopes: self.scopes_that_matter(&live, &jobs),
            jobs,
            sets: self.set_views(now),
            containers: live
                .into_iter()
                .map(|container| ContainerView {
                    name: container.record.name.clone(),
                    class: container.record.class.clone(),
                    scope: container.record.scope.clone(),
                    set: container.record.set,
                    use_: container.use_(),
                })
                .collect(),
            pickups: self.pickups.iter().cloned().collect(),
        }
    }

    /// Those with a job, a container, or containers to keep ready: a thousand quiet repositories decide nothing.
    fn scopes_that_matter(&self, live: &[&Container], jobs: &[JobView]) -> Vec<ScopeView> {
        let ready = self.classes.iter().any(|class| class.min_idle > 0);
        let names: BTreeSet<&str> = jobs
            .iter()
            .map(|job| job.scope.as_str())
            .chain(live.iter().map(|container| container.record.scope.as_str()))
            .chain(self.sets.keys().map(|key| key.scope.as_str()))
            .chain(self.scopes.keys().filter(|_| ready).map(String::as_str))
            .collect();
        let view = |name: &str| {
            let place = self.scopes.get(name)?;
            let target = self.targets.get(&place.target)?;
            let looked_at =
                self.repositories.values().filter(|repository| repository.scope == name).filter_map(|r| r.looked_at);
            Some(ScopeView {
                name: name.to_owned(),
                target: place.target.clone(),
                held_until: place.held_until,
                looked_at: looked_at.max(),
                classes: target.settings.classes.iter().cloned().collect(),
            })
        };
        names.into_iter().filter_map(view).collect()
    }
}
