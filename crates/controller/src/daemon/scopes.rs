//! Places runners are registered with.

use std::{collections::BTreeSet, time::Duration};

use super::{Daemon, groups::Membership};
use crate::{edges::World, plan::JobView};

/// A place as the controller knows it.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The configured target it belongs to.
    pub target: String,
    /// It is a repository that the forge listed, not one that the operator named.
    pub discovered: bool,
    /// Registrations failed in a row.
    pub mint_failures: u32,
    /// Nothing is booted for it before.
    pub held_until: Option<Duration>,
    /// Why the last registration failed, until one succeeds.
    pub last_error: Option<String>,
    /// When a runner was last registered with it.
    pub minted_at: Option<Duration>,
    /// The group that its runners join.
    pub membership: Membership,
    /// When registrations nobody claims are looked for next; `None` = soon after the start.
    pub next_sweep: Option<Duration>,
    /// Names that the last sweep found unclaimed.
    pub unclaimed: BTreeSet<String>,
}

impl<W: World> Daemon<'_, W> {
    pub(super) fn add_scope(&mut self, name: &str, target: &str, discovered: bool) {
        let place = self.scopes.entry(name.to_owned()).or_default();
        place.target = target.to_owned();
        place.discovered = discovered;
        self.add_sets(name);
    }

    /// Where nobody needs a runner any more, why the last could not be registered is no problem any more.
    pub(super) fn forgive_unneeded_scopes(&mut self, now: Duration) {
        let failing = |place: &Place| place.mint_failures > 0 && place.held_until.is_none_or(|until| until <= now);
        if !self.scopes.values().any(failing) {
            return;
        }
        let served = |job: &&JobView| {
            !self.plan.waiting.get(&(job.repository.clone(), job.id)).is_some_and(|why| why.is_no_demand())
        };
        let jobs = self.repositories.values().flat_map(|repository| &repository.queued).filter(served);
        let live = self.containers.values().filter(|container| !container.has_ended());
        let sets = self.sets.iter().filter(|(_, set)| set.assignments.open().next().is_some());
        let ready = self.classes.iter().any(|class| class.min_idle > 0);
        let needed: BTreeSet<String> = jobs
            .map(|job| job.scope.clone())
            .chain(live.map(|container| container.record.scope.clone()))
            .chain(sets.map(|(key, _)| key.scope.clone()))
            .chain(self.scopes.keys().filter(|_| ready).cloned())
            .collect();
        for (_, place) in self.scopes.iter_mut().filter(|(name, place)| failing(place) && !needed.contains(*name)) {
            place.mint_failures = 0;
            place.last_error = None;
        }
    }

    /// Forgets places of which no repository is served any more and no container is left.
    pub(super) fn forget_unused_scopes(&mut self) {
        let used: BTreeSet<&str> = self
            .repositories
            .values()
            .map(|repository| repository.scope.as_str())
            .chain(self.containers.values().map(|container| container.record.scope.as_str()))
            .collect();
        self.scopes.retain(|name, place| !place.discovered || used.contains(name.as_str()));
        self.forget_sets();
    }
}
